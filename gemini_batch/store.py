"""The output folder: incoming parts, finished images, what they supersede, and the lock.

::

    OUT/images/…            the image of each call, named by its id
    OUT/drafts/…            interim images that came with an answer, paid for as well
    OUT/superseded/…        images whose job was edited and run again
    OUT/.gemini_batch/      lock · incoming/ · in-flight log: nothing that a person needs
"""

import fcntl
import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gemini_batch.errors import FolderBusyError, StorageError
from gemini_batch.policy import media
from gemini_batch.records import ImageFile, IncomingImage

PRIVATE = ".gemini_batch"
HEAD_BYTES = 64


class Part:
    """A file that grows while an image arrives; its size and sha256 are known as the bytes pass."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        self._sha256 = hashlib.sha256()
        self._head = b""
        self._size_bytes = 0

    def write(self, data: bytes, /) -> None:
        """Append decoded bytes.

        Raises:
            OSError: The disk would not take them.
        """
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._sha256.update(data)
        self._size_bytes += len(data)
        if len(self._head) < HEAD_BYTES:
            self._head += bytes(data[: HEAD_BYTES - len(self._head)])

    def close(self) -> None:
        """Close the file; more than once does no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def image(self) -> IncomingImage:
        """Return what arrived."""
        return IncomingImage(self.file, self._size_bytes, self._sha256.hexdigest(), self._head)


class IncomingParts:
    """The images of one attempt, while they arrive."""

    def __init__(self, folder: Path, name: str) -> None:
        self._stem = str(folder / name)
        self._parts: list[Part] = []

    def open_image(self, index: int, /) -> Part:
        """Open the part of the `index`-th image to arrive."""
        part = Part(f"{self._stem}.{index}")
        self._parts.append(part)
        return part

    def arrived(self) -> tuple[IncomingImage, ...]:
        """Return the images, in the order they arrived."""
        for part in self._parts:
            part.close()
        return tuple(part.image() for part in self._parts)

    def discard(self) -> None:
        """Remove every part that was not committed."""
        for part in self._parts:
            part.close()
            with suppress(FileNotFoundError):
                os.unlink(part.file)


def part_name(call_id: str, attempt: int) -> str:
    """Return the name that the parts of an attempt begin with; the same again for the same attempt, so that recovery finds them."""
    return f"{hashlib.sha256(call_id.encode()).hexdigest()[:32]}-{attempt}"


class Store:
    """The files of one output folder. All paths that it takes and gives are relative to the folder."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.private = out / PRIVATE
        self._incoming = self.private / "incoming"
        self._known_folders: set[str] = set()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and hold it for this process; a folder that nothing came into is gone afterwards.

        Raises:
            FolderBusyError: Another run holds it.
            StorageError: It can't be made or written.
        """
        existed = self.out.exists()
        try:
            self._incoming.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.private / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise StorageError(
                f"{self.out}: can't be written: {error.strerror}; choose another folder by --out"
            ) from error
        try:
            self._hold(descriptor)
            yield
        finally:
            os.close(descriptor)
            if not existed:
                self._leave_no_trace()

    def _hold(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
            raise FolderBusyError(
                f"{self.out}: held by another run ({holder}); wait for it, or give this one a folder of its own by --out"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()}\n".encode(), 0)

    def _leave_no_trace(self) -> None:
        """Remove a folder of this run that holds nothing but the lock."""
        if any(entry.name != PRIVATE for entry in self.out.iterdir()):
            return
        with suppress(OSError):  # something did come in: then it stays
            self._incoming.rmdir()
            (self.private / "lock").unlink()
            self.private.rmdir()
            self.out.rmdir()

    def durable_bytes(self) -> int:
        """Return up to where `results.jsonl` is known to be on the disk; 0 when nothing says so."""
        try:
            return int((self.private / "durable").read_bytes())
        except (FileNotFoundError, ValueError):
            return 0

    def note_durable(self, end_bytes: int) -> None:
        """Note that `results.jsonl` is durable up to `end_bytes`, after it is. A note that is lost only makes recovery look at more."""
        descriptor = os.open(self.private / "durable", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            os.pwrite(descriptor, b"%020d" % end_bytes, 0)
        finally:
            os.close(descriptor)

    def keep_beside(self, name: str, data: bytes) -> Path:
        """Write what was cut off somewhere into a new file of its own, durably; return its path."""
        number = 1
        while (path := self.private / f"{name}.{number}").exists():
            number += 1
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return path

    def incoming(self, call_id: str, attempt: int) -> IncomingParts:
        """Return where the images of an attempt go while they arrive."""
        return IncomingParts(self._incoming, part_name(call_id, attempt))

    def clear_incoming(self) -> int:
        """Remove the parts that a killed run left behind; return how many there were."""
        parts = list(self._incoming.iterdir())
        for part in parts:
            part.unlink()
        return len(parts)

    def parts_of(self, call_id: str, attempt: int) -> list[Path]:
        """Return the parts of an attempt that are still incoming."""
        return sorted(self._incoming.glob(f"{part_name(call_id, attempt)}.*"))

    def describe(self, image: IncomingImage, stem: str) -> ImageFile:
        """Return what a row says of an image that will be placed at `stem` and the extension that its bytes ask for."""
        mime_type = media.sniff(image.head) or image.mime_type or "application/octet-stream"
        width, height = _pixels(image.file)
        path = stem + media.extension(mime_type)
        return ImageFile(path, mime_type, image.size_bytes, width, height, image.sha256)

    def retire(self, call_id: str) -> None:
        """Move the image and the drafts that an earlier row of this call left in place to `superseded/`.

        Raises:
            OSError: The disk would not.
        """
        for path in self._images_of(call_id):
            self._move(self.out / path, self._free_name("superseded/" + path.removeprefix("images/")))

    def _images_of(self, call_id: str) -> Iterator[str]:
        for extension in media.EXTENSIONS:
            if os.path.lexists(self.out / f"images/{call_id}{extension}"):
                yield f"images/{call_id}{extension}"
            number = 1
            while os.path.lexists(self.out / f"drafts/{call_id}.{number}{extension}"):
                yield f"drafts/{call_id}.{number}{extension}"
                number += 1

    def _free_name(self, path: str) -> str:
        stem, extension = os.path.splitext(path)
        number, free = 1, path
        while os.path.lexists(self.out / free):
            number += 1
            free = f"{stem}.{number}{extension}"
        return free

    def place(self, part: str, path: str) -> None:
        """Give an incoming part its final place; what stands there already is never overwritten but moves to `superseded/`.

        Raises:
            OSError: The disk would not.
            StorageError: A symbolic link leads out of the folder.
        """
        target = self.out / path
        if os.path.lexists(target):
            self._move(target, self._free_name("superseded/" + path.removeprefix("images/")))
        self._move(Path(part), path)

    def _move(self, source: Path, path: str) -> None:
        target = self.out / path
        self._ensure_folder(target.parent)
        source.rename(target)

    def _ensure_folder(self, folder: Path) -> None:
        if str(folder) in self._known_folders:
            return
        folder.mkdir(parents=True, exist_ok=True)
        if not folder.resolve().is_relative_to(self.out.resolve()):
            raise StorageError(f"{folder}: a symbolic link leads out of {self.out}; remove it, or choose another --out")
        self._known_folders.add(str(folder))

    def sync(self, paths: list[str]) -> None:
        """Make the files and the folders that name them durable.

        Raises:
            OSError: The disk would not.
        """
        folders = {str((self.out / path).parent) for path in paths}
        for name in [
            *(str(self.out / path) for path in paths),
            *sorted(self._with_parents(folders)),
            str(self._incoming),
        ]:
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _with_parents(self, folders: set[str]) -> set[str]:
        found = {str(self.out)}
        for folder in folders:
            path = Path(folder)
            while path not in (self.out, path.parent):
                found.add(str(path))
                path = path.parent
        return found


def _pixels(file: str) -> tuple[int | None, int | None]:
    """Return width and height from the image's header; None for what Pillow can't read."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                return image.size
    except Exception:  # noqa: BLE001 # the bytes come from outside, and Pillow's parsers raise of every kind; the image is kept as it is
        return None, None
