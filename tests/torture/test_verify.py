import re
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from gemini_batch.output.staging import staged_name
from gemini_batch.simulator import Simulator
from tests.builders import tree
from tests.torture.commands import command, run, write_jobs


def rewrite(out: Path, change: Callable[[list[dict[str, object]]], None]) -> None:
    """Change rows as a person with an editor would."""
    lines = [orjson.loads(line) for line in (out / "results.jsonl").read_bytes().splitlines()]
    change(lines)
    (out / "results.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))


def other_bytes(out: Path) -> None:
    """Change one byte in the middle of an image."""
    data = bytearray((out / "images/n1.jpg").read_bytes())
    data[len(data) // 2] ^= 1
    (out / "images/n1.jpg").write_bytes(data)


def longer(out: Path) -> None:
    """Add a byte to an image."""
    with (out / "images/n1.jpg").open("ab") as file:
        file.write(b"\0")


def dearer(lines: list[dict[str, object]]) -> None:
    """Have a row cost a dollar more."""
    cost_usd = lines[1]["cost_usd"]
    assert isinstance(cost_usd, float)
    lines[1]["cost_usd"] = cost_usd + 1.0


def gone(out: Path) -> None:
    """Remove an image."""
    (out / "images/n1.jpg").unlink()


def a_folder(out: Path) -> None:
    """Put a folder where an image was."""
    gone(out)
    (out / "images/n1.jpg").mkdir()


def write(name: str, data: bytes) -> Callable[[Path], None]:
    """Return what writes a file into the folder."""

    def damage(out: Path) -> None:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(data)

    return damage


# What is done to a folder of three calls, and what is said of it.
DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "an image that is gone": (gone, "n1: images/n1.jpg: no such file or directory"),
    "another size": (longer, " bytes, expected "),
    "other bytes of the same size": (
        other_bytes,
        "n1: images/n1.jpg: has sha256 ",
    ),
    "a folder in place of an image": (a_folder, "n1: images/n1.jpg: is a directory"),
    "a file without a row": (
        write("images/else.jpg", b"x"),
        "images/else.jpg: belongs to no row",
    ),
    "a draft without a row": (
        write("drafts/a/b.png", b"x"),
        "drafts/a/b.png: belongs to no row",
    ),
    "a cost that was changed": (
        lambda out: rewrite(out, dearer),
        "summary.json: the last run finished at $",
    ),
    "a row that was removed": (
        lambda out: rewrite(out, lambda lines: lines.clear()),
        "summary.json: the last run finished 3 calls, but 0 rows are of its time",
    ),
    "a summary that is no JSON": (write("summary.json", b"{"), "summary.json: is not JSON"),
    "a summary of something else": (
        write("summary.json", b"[]"),
        "summary.json: is not the summary of a run",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_is_named(tmp_path: Path, server: Simulator, name: str) -> None:
    """Exit 4 and a line that says which file and what is wrong with it; nothing is changed, and what is whole gives 0."""
    damage, words = DAMAGES[name]
    write_jobs(tmp_path, 3)
    out = tmp_path / "jobs.out"
    assert run(tmp_path, server.base_url).code == 0
    whole = command("verify", str(out))
    assert (whole.code, whole.out) == (0, f"{out}: 3 calls, no problems\n")
    damage(out)
    before = tree(out)
    ended = command("verify", str(out))
    assert ended.code == 4, ended
    assert ended.is_clean
    assert words in ended.out
    assert re.search(r"^.*: \d calls?, \d problems?$", ended.out, re.MULTILINE)
    assert ("--retry missing" in ended.out) == ("n1: " in ended.out)
    assert tree(out) == before


def test_what_it_advises_makes_the_folder_whole(tmp_path: Path, server: Simulator) -> None:
    """A damaged image that was deleted, and one that was gone, are made again by --retry missing, and all is well."""
    write_jobs(tmp_path, 3)
    out = tmp_path / "jobs.out"
    assert run(tmp_path, server.base_url).code == 0
    longer(out)
    (out / "images/n2.jpg").unlink()
    advice = "delete the damaged ones, then run with --retry missing"
    assert command("verify", str(out)).out.splitlines()[-2:] == [
        f"{out}: 3 calls, 2 problems",
        f"to generate and pay for images again: {advice}",
    ]
    gone(out)
    assert run(tmp_path, server.base_url, "--retry", "missing").code == 0
    assert command("verify", str(out)).code == 0


def test_what_a_killed_run_left_is_not_to_be_paid_for_again(
    tmp_path: Path, server: Simulator
) -> None:
    """An image that has its row and waits for its name gets it from the next run: nobody is told to pay for it."""
    write_jobs(tmp_path, 3)
    out = tmp_path / "jobs.out"
    assert run(tmp_path, server.base_url).code == 0
    (out / "images/n1.jpg").rename(out / f".gemini_batch/incoming/{staged_name('n1', 1)}.0")
    (out / ".gemini_batch/durable").write_bytes(b"0")  # as after a kill in between
    last = command("verify", str(out)).out.splitlines()[-1]
    advice = "a run was killed: run again first, to recover the images that had arrived, at $0"
    assert last == advice
    assert run(tmp_path, server.base_url).code == 0
    assert command("verify", str(out)).code == 0


def test_what_was_superseded_is_no_orphan(tmp_path: Path, server: Simulator) -> None:
    """An edited job's earlier image is kept elsewhere, and the newest row is the one that counts."""
    write_jobs(tmp_path, 2)
    assert run(tmp_path, server.base_url).code == 0
    (tmp_path / "jobs.jsonl").write_bytes(
        (tmp_path / "jobs.jsonl").read_bytes().replace(b"Number n1", b"Changed n1")
    )
    assert run(tmp_path, server.base_url).code == 0
    assert (tmp_path / "jobs.out/superseded/n1.jpg").exists()
    assert command("verify", str(tmp_path / "jobs.out")).code == 0
