"""The folders of images: published, drafts, superseded. No link in them is followed."""

import os
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import chain, count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gemini_batch.output import paths
from gemini_batch.output.dimensions import pixels
from gemini_batch.output.files import fsync_all, sync
from gemini_batch.output.staging import staged_image
from gemini_batch.output.tree import OpenFolder, Tree, is_in
from gemini_batch.records import IncomingImage, media_types

if TYPE_CHECKING:
    from gemini_batch.records import ImageFile

INCOMING = f"{paths.PRIVATE}/{paths.INCOMING}"


class Late(NamedTuple):
    """Images that get their names once the earlier ones of their call are durable elsewhere.

    Attributes:
        parts: Names of staged files, and where they are published.
    """

    call_id: str
    parts: list[tuple[str, str]]


class ImageFolders:
    """Gives staged files their final names, and moves earlier images out of their way.

    Paths in arguments and results are relative to the output folder. Methods raise OSError if the
    disk refuses, and StorageError if a symbolic link, or a file, is in the place of a folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self._tree = Tree(out)
        self._incoming = OpenFolder(self._tree, INCOMING)
        self._had_no_images = False  # when it was locked: nothing can be superseded
        self._moved: set[str] = set()
        self._late: list[Late] = []

    @property
    def incoming(self) -> Path:
        """The folder of staged files."""
        return self._incoming.path

    def describe(self, image: IncomingImage, stem: str) -> "ImageFile":
        """Return the row's entry for an image that will be published at `stem` plus extension."""
        from gemini_batch.records import ImageFile

        mime_type = media_types.sniff(image.head) or image.mime_type or "application/octet-stream"
        width, height = pixels(image.head, image.file)
        path = stem + media_types.extension(mime_type)
        return ImageFile(path, mime_type, image.size_bytes, width, height, image.sha256)

    def images_of(self, call_id: str) -> "tuple[ImageFile, list[ImageFile]] | None":
        """Return the image and the drafts of a call that are there; None without a whole image.

        Blocks: the files are read.
        """
        found = [
            self._described(path, stem)
            for stem in (f"{paths.IMAGES}/{call_id}", *self._drafts(call_id))
            for path in self._existing(stem)[:1]
        ]
        image, *drafts = found or [None]
        if image is None or not image.path.startswith(f"{paths.IMAGES}/"):
            return None
        return image, [each for each in drafts if each is not None]

    def _drafts(self, call_id: str) -> Iterator[str]:
        stems = (f"{paths.DRAFTS}/{call_id}.{number}" for number in count(1))
        return takewhile(self._existing, stems)

    def _described(self, path: str, stem: str) -> "ImageFile | None":
        """Return the entry of a published image; None if it is cut off, or no image."""
        try:
            image = staged_image(self.out / path)
        except (OSError, ValueError):
            return None
        if media_types.sniff(image.head) is None:
            return None
        described = self.describe(image, stem)
        return replace(described, path=path)

    def place(self, call_id: str, parts: Iterable[tuple[str, str]]) -> None:
        """Publish the images of a call (staged file, path); an earlier answer's come first.

        If the call has earlier images they are retired by `publish_late`, which blocks, and the
        new ones get their names there.
        """
        if not self._earlier(call_id):
            for staged, path in parts:
                self.publish(staged, path)
            return
        late = Late(call_id, [])
        for staged, path in parts:
            name = staged.rpartition("/")[2]
            self._rename_in_incoming(name, name + paths.LATE_SUFFIX)
            late.parts.append((name + paths.LATE_SUFFIX, path))
        self._late.append(late)

    def take_late(self) -> list[Late]:
        """Return what `place` left for `publish_late` since the last call."""
        late, self._late = self._late, []
        return late

    def publish_late(self, late: Iterable[Late]) -> list[str]:
        """Retire earlier images durably, then publish their successors. Blocks.

        Return the folders that changed, to be made durable, inner ones first. A power cut leaves
        the earlier image, in one place or the other, on any file system.
        """
        moved: set[str] = set()
        for call_id, parts in late:
            names = [f"{INCOMING}/{name}" for name, _ in parts]
            self.sync(names)  # bytes before their name
            self.retire(call_id, moved)
            for name, (_, path) in zip(names, parts, strict=True):
                self.publish(name, path, moved)
        return _with_parents(moved)

    def publish(self, staged: str, path: str, moved: set[str] | None = None) -> None:
        """Give a staged file its final name. An earlier file there moves to `superseded/`."""
        folder, _, name = path.rpartition("/")
        inner = self._tree.open(folder, make=True)
        try:
            if is_in(name, inner):
                self._supersede(path, moved)
            staged_name, incoming = staged.rpartition("/")[2], self._incoming.descriptor
            os.rename(staged_name, name, src_dir_fd=incoming, dst_dir_fd=inner)
        finally:
            os.close(inner)
        self.mark_moved(f"{INCOMING}/{staged_name}", moved)
        self.mark_moved(path, moved)

    def retire(self, call_id: str, moved: set[str] | None = None) -> None:
        """Move the image and drafts of an earlier row of this call to `superseded/`. Blocks.

        They are durable there when it returns.
        """
        for path in self._earlier(call_id):
            self._supersede(path, moved)

    def _earlier(self, call_id: str) -> list[str]:
        """Return the image and the drafts that a call has."""
        if self._had_no_images:
            return []  # no call is answered twice in one run
        found = self._existing(f"{paths.IMAGES}/{call_id}")
        return [*found, *chain.from_iterable(map(self._existing, self._drafts(call_id)))]

    def _existing(self, stem: str) -> list[str]:
        folder, _, name = stem.rpartition("/")
        try:
            descriptor = self._tree.open(folder)
        except FileNotFoundError:
            return []
        try:
            return [
                stem + each for each in media_types.ALL_EXTENSIONS if is_in(name + each, descriptor)
            ]
        finally:
            os.close(descriptor)

    def _exists(self, path: str) -> bool:
        return self._tree.exists(path)

    def _supersede(self, path: str, moved: set[str] | None) -> None:
        self._move(path, self.place_aside(path), moved, durable=True)

    def place_aside(self, path: str, taken: Container[str] = ()) -> str:
        """Return a free path in `superseded/` for an image, none of those that are taken."""
        wanted = Path(paths.SUPERSEDED, path.removeprefix(f"{paths.IMAGES}/"))
        others = (wanted.with_name(f"{wanted.stem}.{number}{wanted.suffix}") for number in count(2))
        places = map(str, chain([wanted], others))
        return next(each for each in places if each not in taken and not self._exists(each))

    def move_aside(self, row: Mapping[str, Any]) -> None:
        """Move the images of a pruned row to where it says that they are; idempotent."""
        numbers = range(1, len(row["drafts"]) + 1)
        drafts = (f"{paths.DRAFTS}/{row['id']}.{number}" for number in numbers)
        stems = [f"{paths.IMAGES}/{row['id']}"] * len(row["images"]) + [*drafts]
        for stem, image in zip(stems, (*row["images"], *row["drafts"]), strict=True):
            place = str(image["path"])
            source = stem + Path(place).suffix
            if self._exists(source) and not self._exists(place):
                self._move(source, place, None)

    def _move(
        self, source: str, path: str, moved: set[str] | None, *, durable: bool = False
    ) -> None:
        source_folder, _, name = source.rpartition("/")
        folder, _, new_name = path.rpartition("/")
        outer = self._tree.open(source_folder)
        try:
            inner = self._tree.open(folder, make=True, durable=durable)
            try:
                os.rename(name, new_name, src_dir_fd=outer, dst_dir_fd=inner)
                if durable:
                    sync(inner)
            finally:
                os.close(inner)
        finally:
            os.close(outer)
        self.mark_moved(source, moved)
        self.mark_moved(path, moved)

    def _rename_in_incoming(self, name: str, new_name: str) -> None:
        incoming = self._incoming.descriptor
        os.rename(name, new_name, src_dir_fd=incoming, dst_dir_fd=incoming)

    def _check_folder(self, folder: str) -> None:
        with suppress(FileNotFoundError):
            os.close(self._tree.open(folder))

    def mark_moved(self, path: str, moved: set[str] | None = None) -> None:
        """Note that a file got or lost this name."""
        (self._moved if moved is None else moved).add(path.rpartition("/")[0] or ".")

    def moved(self) -> list[str]:
        """Return the folders changed since the last call, and their parents, inner ones first."""
        folders, self._moved = self._moved, set()
        return _with_parents(folders)

    def sync(self, names: Iterable[str]) -> None:
        """Make the content of files, or the names in folders, durable."""
        fsync_all(names, dir_fd=self._tree.root())


def _with_parents(folders: set[str]) -> list[str]:
    parents = {str(parent) for folder in folders for parent in Path(folder).parents}
    return sorted(folders | parents, reverse=True)
