"""The promises of every store of images; an implementation is a subclass with a fixture `store`."""

import threading
from pathlib import Path

import pytest

from gemini_batch.store.base import ConflictError, ImageStore, NoObjectError

NOTES = {"row": "abc+/=", "sha256": "0" * 64}
NAMES = ("images/a.png", "images/a b [x]#?%.png", "images/deep/er/名.png")


class StoreContract:
    """Promises of `ImageStore`."""

    def test_a_new_object_is_read_as_it_was_written(self, store: ImageStore) -> None:
        """Content, notes and version, for every name that an id can give."""
        for name in NAMES:
            version = store.create(name, name.encode(), NOTES)
            found = store.get(name)
            assert (found.data, found.version) == (name.encode(), version)
            assert NOTES.items() <= found.notes.items()
            assert b"".join(store.read(name)) == name.encode()

    def test_an_object_is_created_once(self, store: ImageStore) -> None:
        """The second one is refused, and changes nothing."""
        store.create("a", b"first")
        with pytest.raises(ConflictError):
            store.create("a", b"second")
        assert store.get("a").data == b"first"

    def test_one_of_many_creates_an_object(self, store: ImageStore) -> None:
        """Of creators at the same time one succeeds, and its content is what is there."""
        done: list[int] = []

        def create(number: int) -> None:
            try:
                store.create("race", str(number).encode())
            except ConflictError:
                return
            done.append(number)

        threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [store.get("race").data] == [str(number).encode() for number in done]

    def test_only_the_expected_version_is_replaced(self, store: ImageStore) -> None:
        """A stale version, and an object that is gone, are conflicts."""
        old = store.create("a", b"1")
        new = store.replace("a", b"2", old, {"sha256": "1"})
        with pytest.raises(ConflictError):
            store.replace("a", b"3", old)
        assert store.get("a").data == b"2"
        assert store.get("a").notes["sha256"] == "1"
        store.replace("a", b"4", new)
        store.remove("a")
        with pytest.raises(ConflictError):
            store.replace("a", b"5", new)

    def test_a_head_has_notes_and_no_data(self, store: ImageStore) -> None:
        """Its version is that of the object; an empty object has a head too."""
        version = store.create("a", b"x" * 100_000, NOTES)
        assert store.head("a").version == version
        assert store.head("a").size_bytes == 100_000
        assert NOTES.items() <= store.head("a").notes.items()
        store.create("empty", b"", NOTES)
        assert NOTES.items() <= store.head("empty").notes.items()

    def test_what_is_not_there_is_no_error_of_the_store(self, store: ImageStore) -> None:
        """It is told apart from a store that fails; removing it again is none either."""
        for read in (store.get, store.head, lambda name: list(store.read(name))):
            with pytest.raises(NoObjectError):
                read("nothing")
        with pytest.raises(NoObjectError):
            store.copy("nothing", "other")
        store.remove("nothing")

    def test_a_listing_has_all_of_a_folder_in_order(self, store: ImageStore) -> None:
        """More than one page of a server, with sizes; a name that only begins alike is not in it."""
        for number in (3, 1, 2):
            store.create(f"rows/{number:03}/a.jsonl", b"x" * number)
        store.create("rows-of-others", b"")
        store.create("rowsets/1", b"")
        found = [*store.list("rows")]
        assert [(each.name, each.size_bytes) for each in found] == [
            ("rows/001/a.jsonl", 1),
            ("rows/002/a.jsonl", 2),
            ("rows/003/a.jsonl", 3),
        ]
        assert [*store.list("nowhere")] == []
        assert len([*store.list("")]) == 5

    def test_a_copy_has_the_notes(self, store: ImageStore) -> None:
        """It replaces what had its name."""
        store.create("a", b"1", NOTES)
        store.create("b", b"2")
        store.copy("a", "b")
        assert store.get("b").data == b"1"
        assert NOTES.items() <= store.get("b").notes.items()

    def test_put_replaces_and_takes_files(self, store: ImageStore, tmp_path: Path) -> None:
        """A file of several parts arrives whole."""
        store.put("summary.json", b"1")
        store.put("summary.json", b"2")
        assert store.get("summary.json").data == b"2"
        big = tmp_path / "big"
        big.write_bytes(bytes(range(256)) * 50_000)
        store.put("big", big)
        assert b"".join(store.read("big")) == big.read_bytes()
