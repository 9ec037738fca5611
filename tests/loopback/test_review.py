"""The review's server: what it serves, what it takes, and whom it refuses."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import pytest_asyncio

from gemini_batch.cli import main
from gemini_batch.gallery.review.server import ReviewServer
from gemini_batch.output import OutputFolder
from gemini_batch.output.marks import Mark, Marks
from tests.builders import sha256
from tests.unit.gallery.folder import picture, row, write_rows

TEAL, RED = picture("teal"), picture("red")
HOSTILE = '</script><script>window.sentinel = 1</script>"\u2028'


def with_picture(out: Path, call_id: str, data: bytes, **fields: Any) -> dict[str, Any]:
    """Write a picture; return its row."""
    path = out / f"images/{call_id}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    image = {
        "path": f"images/{call_id}.png",
        "sha256": sha256(data),
        "size_bytes": len(data),
        "width": 40,
        "height": 20,
        "mime_type": "image/png",
    }
    return row(call_id, images=[image], **fields)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder with one picture."""
    folder = tmp_path / "jobs.out"
    write_rows(folder, with_picture(folder, "robot", TEAL, prompt=HOSTILE))
    return folder


@pytest_asyncio.fixture
async def server(out: Path) -> AsyncIterator[ReviewServer]:
    """A review of that folder."""
    reviewed = ReviewServer(out)
    async with reviewed.running():
        yield reviewed


@pytest_asyncio.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that takes paths as they are."""
    async with aiohttp.ClientSession() as session:
        yield session


def origin(server: ReviewServer) -> dict[str, str]:
    """Return the headers of a request that the page sends."""
    return {"Origin": server.url.rsplit("/", 2)[0]}


async def post(
    client: aiohttp.ClientSession, server: ReviewServer, name: str, body: object, **headers: str
) -> tuple[int, str]:
    """Send JSON as the page does; return the status and the text of the answer."""
    async with client.post(
        server.url + name, json=body, headers=origin(server) | headers
    ) as answer:
        return answer.status, await answer.text()


PICK = {"id": "robot", "sha256": sha256(TEAL), "choice": "pick", "rating": 4}


async def test_it_serves_the_page_and_its_pictures(
    client: aiohttp.ClientSession, server: ReviewServer
) -> None:
    """The page has its calls as data, may ask only its own server, and is stored nowhere."""
    async with client.get(server.url) as page:
        text = await page.text()
        assert (page.status, page.headers["Cache-Control"]) == (200, "no-store")
        assert page.headers["Referrer-Policy"] == "no-referrer"
    assert "connect-src 'self'" in text
    assert HOSTILE not in text
    async with client.get(server.url + "images/robot.png") as answer:
        assert (await answer.read(), answer.content_type) == (TEAL, "image/png")
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "private, no-cache"
    thumbnail = f".gemini_batch/thumbnails/{sha256(TEAL)}-384.webp"
    async with client.get(server.url + thumbnail) as answer:
        assert (answer.status, answer.content_type) == (200, "image/webp")
        assert "immutable" in answer.headers["Cache-Control"]


async def test_a_mark_is_durable_when_it_is_answered(
    client: aiohttp.ClientSession, server: ReviewServer, out: Path
) -> None:
    """It is in the file, on the next page, and what an export of the picked ones goes by."""
    await (await client.get(server.url)).read()
    assert await post(client, server, "marks", PICK) == (200, "{}")
    assert Marks(out).of("robot", sha256(TEAL)) == Mark("robot", sha256(TEAL), "pick", 4)
    async with client.get(server.url) as page:
        assert '"choice":"pick"' in await page.text()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (PICK | {"sha256": sha256(RED)}, 404),
        (PICK | {"id": "other"}, 404),
        (PICK | {"choice": "maybe"}, 400),
        (PICK | {"rating": 9}, 400),
        ([], 400),
    ],
)
async def test_a_mark_of_no_picture_is_refused(
    client: aiohttp.ClientSession, server: ReviewServer, out: Path, body: object, status: int
) -> None:
    """Nothing is written for what the folder does not have, or for what is no mark."""
    await (await client.get(server.url)).read()
    assert (await post(client, server, "marks", body))[0] == status
    assert not (out / "marks.jsonl").exists()


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {}),
        ("/wrong/", {}),
        ("/wrong/images/robot.png", {}),
        ("{token}", {"Host": "evil.example"}),
        ("{token}", {"Host": "evil.example:{port}"}),
        ("{token}images/robot.png", {"Host": "127.0.0.1"}),
    ],
)
async def test_who_does_not_know_the_address_is_refused(
    client: aiohttp.ClientSession, server: ReviewServer, path: str, headers: dict[str, str]
) -> None:
    """Without the token, or by another name than this machine's, there is nothing to see."""
    base, token = server.url.rsplit("/", 2)[0], "/" + server.url.rsplit("/", 2)[1] + "/"
    port = base.rsplit(":", 1)[1]
    sent = {name: value.format(port=port) for name, value in headers.items()}
    async with client.get(base + path.format(token=token), headers=sent) as answer:
        assert answer.status == 403
        assert server.url.rsplit("/", 2)[1] not in await answer.text()


@pytest.mark.parametrize("wrong", ["https://evil.example", "null", "http://127.0.0.1", ""])
async def test_another_site_marks_nothing(
    client: aiohttp.ClientSession, server: ReviewServer, out: Path, wrong: str
) -> None:
    """A page of another origin is refused, also if it knew the address."""
    await (await client.get(server.url)).read()
    assert (await post(client, server, "marks", PICK, Origin=wrong))[0] == 403
    async with client.post(server.url + "marks", json=PICK) as answer:
        assert answer.status == 403
    form = {"Content-Type": "text/plain", **origin(server)}
    async with client.post(server.url + "marks", data=orjson.dumps(PICK), headers=form) as answer:
        assert answer.status == 415
    assert not (out / "marks.jsonl").exists()


@pytest.mark.parametrize(
    "path",
    [
        "results.jsonl",
        "images/../results.jsonl",
        "images/%2e%2e/results.jsonl",
        "images/..%2fresults.jsonl",
        "../secret.txt",
        "%2e%2e/secret.txt",
        "images/%2e%2e/%2e%2e/secret.txt",
        "images/link.png",
        "images/linked/secret.txt",
        "images/pipe.png",
        "images/%00.png",
        "images/",
        ".gemini_batch/lock",
        "/etc/passwd",
        "images//etc/passwd",
    ],
)
async def test_nothing_else_can_be_reached(
    client: aiohttp.ClientSession, server: ReviewServer, out: Path, path: str
) -> None:
    """Only pictures of the folder are served; no path, link or pipe leads elsewhere."""
    import os

    from yarl import URL

    (out.parent / "secret.txt").write_text("secret")
    (out / "images/link.png").symlink_to(out.parent / "secret.txt")
    (out / "images/linked").symlink_to(out.parent)
    os.mkfifo(out / "images/pipe.png")
    async with client.get(URL(server.url + path, encoded=True)) as answer:
        assert answer.status in {400, 403, 404, 500}, await answer.text()
        assert b"secret" not in (await answer.read()).replace(b"secret.txt", b"")


async def test_new_pictures_come_while_a_run_is_in_progress(
    client: aiohttp.ClientSession, server: ReviewServer, out: Path
) -> None:
    """Rows since the last look are returned once, a torn one later; the lock tells of the run."""
    await (await client.get(server.url)).read()
    after = (out / "results.jsonl").stat().st_size

    async def changes(since: int | None) -> tuple[int | None, list[str], dict[str, Any] | None]:
        async with client.get(f"{server.url}changes?after={since}") as answer:
            found = orjson.loads(await answer.read())
        return found["after"], [call["id"] for call in found["calls"]], found["run"]

    assert await changes(after) == (after, [], None)
    write_rows(out, with_picture(out, "cat", RED))
    with (out / "results.jsonl").open("ab") as file:
        file.write(b'{"torn')
    (out / "summary.json").write_bytes(b'{"left": 9, "calls": 11, "started_at": "2026-11-30"}')
    with OutputFolder(out).locked():
        later, found, run = await changes(after)
    assert (found, run and (run["left"], run["calls"])) == (["cat"], (9, 11))
    assert await changes(later) == (later, [], None)
    assert (await post(client, server, "marks", PICK | {"id": "cat", "sha256": sha256(RED)}))[
        0
    ] == 200
    (out / "results.jsonl").write_bytes(b"")
    assert await changes(later) == (None, [], None)


async def test_a_note_becomes_a_job_that_edits_the_picture(
    client: aiohttp.ClientSession,
    server: ReviewServer,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The picture is copied, so that a later run of its call changes nothing, and the manifest can be run."""
    await (await client.get(server.url)).read()
    for note in ("Make it red", "Add a hat"):
        body = {"id": "robot", "sha256": sha256(TEAL), "note": note}
        status, _ = await post(client, server, "notes", body)
        assert status == 200
    assert (await post(client, server, "notes", body | {"note": "  "}))[0] == 400
    assert (await post(client, server, "notes", body | {"sha256": "0"}))[0] == 404
    assert (out / f"followups/{sha256(TEAL)}.png").read_bytes() == TEAL
    jobs = [orjson.loads(line) for line in (out / "followups.jsonl").read_bytes().splitlines()]
    assert [(job["id"], job["prompt"]) for job in jobs] == [
        ("robot-edit-1", "Make it red"),
        ("robot-edit-2", "Add a hat"),
    ]
    monkeypatch.setenv("GEMINI_BATCH_STATE_DIR", str(out.parent / "state"))
    command = ["plan", str(out / "followups.jsonl"), "--json"]
    assert await asyncio.to_thread(main, command) == 0
    assert orjson.loads(capsys.readouterr().out)["to_send"] == 2


async def test_a_note_is_of_the_picture_that_was_seen(
    client: aiohttp.ClientSession, server: ReviewServer, out: Path
) -> None:
    """Once the call was made again, the new picture is not taken for the one of the note."""
    await (await client.get(server.url)).read()
    (out / "images/robot.png").write_bytes(RED)
    body = {"id": "robot", "sha256": sha256(TEAL), "note": "Make it red"}
    assert (await post(client, server, "notes", body))[0] == 404
    assert not (out / "followups.jsonl").exists()


async def test_no_picture_is_written_through_a_link(
    client: aiohttp.ClientSession, server: ReviewServer, out: Path
) -> None:
    """A link in the place of the folder of edits is an error, and what it leads to stays empty."""
    await (await client.get(server.url)).read()
    (out.parent / "elsewhere").mkdir()
    (out / "followups").symlink_to(out.parent / "elsewhere")
    body = {"id": "robot", "sha256": sha256(TEAL), "note": "Make it red"}
    assert (await post(client, server, "notes", body))[0] == 500
    assert [*(out.parent / "elsewhere").iterdir()] == []


async def test_a_port_in_use_is_named(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message says which, and the exit code that nothing was served."""
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    command = ["review", str(out), "--port", str(port), "--no-browser"]
    assert await asyncio.to_thread(main, command) == 3
    assert f"--port: {port}" in capsys.readouterr().err
    taken.close()
    await taken.wait_closed()
