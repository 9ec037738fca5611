from pathlib import Path

import orjson
import pytest

from gemini_batch.output.marks import Mark, Marks, mark_of


def test_the_newest_mark_of_a_picture_counts(tmp_path: Path) -> None:
    """A mark is durable when it is set, and stays with the picture: another one of the call has none."""
    marks = Marks(tmp_path)
    marks.set(Mark("robot", "a", "pick", 4))
    marks.set(Mark("robot", "a", "discard"))
    marks.set(Mark("cat", "b", rating=5))
    for found in (marks, Marks(tmp_path)):
        assert found.of("robot", "a") == Mark("robot", "a", "discard", None)
        assert found.of("cat", "b") == Mark("cat", "b", None, 5)
        assert found.of("robot", "new") == Mark("robot", "new")


@pytest.mark.parametrize(
    "line",
    [
        b'{"id": "robot", "sha',
        b"[]",
        b"7",
        b'{"id": "robot"}',
        b'{"id": "robot", "sha256": 7}',
        b'{"id": "robot", "sha256": "a", "choice": "perhaps"}',
        b'{"id": "robot", "sha256": "a", "choice": ["pick"]}',
        b'{"id": "robot", "sha256": "a", "rating": 6}',
        b'{"id": "robot", "sha256": "a", "rating": true}',
    ],
)
def test_what_is_no_mark_is_left_out(tmp_path: Path, line: bytes) -> None:
    """A torn or an edited line changes nothing, and does not swallow the next mark."""
    (tmp_path / "marks.jsonl").write_bytes(
        b'{"id": "cat", "sha256": "b", "choice": "pick"}\n' + line
    )
    marks = Marks(tmp_path)
    assert (marks.of("cat", "b").choice, marks.of("robot", "a").choice) == ("pick", None)
    marks.set(Mark("dog", "c", "pick"))
    again = Marks(tmp_path)
    assert (again.of("cat", "b").choice, again.of("dog", "c").choice) == ("pick", "pick")


def test_json_without_opinion_takes_a_mark_back() -> None:
    """A mark that says nothing is a mark: it is how a pick is undone."""
    assert mark_of(orjson.loads('{"id": "a", "sha256": "b", "choice": null}')) == Mark("a", "b")


def test_no_mark_is_written_through_a_link(tmp_path: Path) -> None:
    """A link in the place of the file is an error, and the file that it leads to stays as it was."""
    target = tmp_path / "target"
    target.write_bytes(b"mine")
    marks = Marks(tmp_path)
    (tmp_path / "marks.jsonl").symlink_to(target)
    with pytest.raises(OSError, match="is a symbolic link"):
        marks.set(Mark("a", "b", "pick"))
    assert target.read_bytes() == b"mine"
