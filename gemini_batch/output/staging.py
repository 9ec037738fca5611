"""Staged files: the images of an attempt while they arrive, and the journal of complete answers."""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count, takewhile
from pathlib import Path
from zlib import crc32

import orjson

from gemini_batch.output.files import open_to_read, read_at_most
from gemini_batch.output.paths import ANSWER_SUFFIX, ASIDE_SUFFIX, TRIED_AGAIN_SUFFIX, TRIED_SUFFIX
from gemini_batch.output.tree import OpenFolder, is_in
from gemini_batch.output.unreadable import keep
from gemini_batch.records import IncomingImage, media_types

_ANSWER_SUFFIXES = (ANSWER_SUFFIX, TRIED_SUFFIX, TRIED_AGAIN_SUFFIX)
# An answer without its images has at most 8 MiB; more is damage.
_MAX_ANSWER_BYTES = 64 << 20
# Base64 encodes three bytes at a time.
_BLOCK_BYTES = 3 << 18


class StagedFile:
    """A file that grows while an image arrives. Size and SHA-256 are computed on the way.

    Opening and writing raise OSError if the disk fails.
    """

    def __init__(self, folder: OpenFolder, name: str) -> None:
        self.file = f"{folder.path}/{name}"
        self._folder, self._name = folder, name
        self._descriptor = folder.create(name, 0o666)
        self._sha256 = hashlib.sha256()
        self._head = b""
        self._size_bytes = 0

    def write(self, data: bytes, /) -> None:
        """Append decoded bytes."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._sha256.update(data)
        self._size_bytes += len(data)
        if len(self._head) < media_types.HEAD_BYTES:
            self._head += bytes(data[: media_types.HEAD_BYTES - len(self._head)])

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def is_closed(self) -> bool:
        """Return whether the image is complete."""
        return self._descriptor < 0

    def blocks(self, start: int = 0, size_bytes: int | None = None, /) -> Iterator[bytes]:
        """Yield what was written, or a piece of it."""
        left = self._size_bytes - start if size_bytes is None else size_bytes
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._name, flags, dir_fd=self._folder.descriptor)
        with open(descriptor, "rb") as file:  # noqa: PTH123  # a descriptor
            file.seek(start)
            while left > 0 and (block := file.read(min(left, _BLOCK_BYTES))):
                left -= len(block)
                yield block

    def image(self) -> IncomingImage:
        """Return what arrived."""
        return IncomingImage(self.file, self._size_bytes, self._sha256.hexdigest(), self._head)


class AnswerJournal:
    """Saves a complete answer until it has its row, so that a kill in between loses nothing.

    There is one such answer at a time, so one file is overwritten: a new file for each would cost
    a tiny answer more than its image. An answer that waits for images to be fetched, or whose row
    can't be written, keeps the file, and the next one gets another.
    """

    def __init__(self, folder: OpenFolder) -> None:
        self._folder = folder
        self._name = ""
        self._descriptor = -1  # of the file, if there is one
        self._owner: object = None  # the attempt whose answer has no row yet

    def open(self) -> None:
        """Create the file unless it is open, so that saving is one write; may raise OSError."""
        if not self._name:
            number = next(each for each in count(1) if not self._has(each))
            name = f"{number}{ANSWER_SUFFIX}"
            self._descriptor, self._name = self._folder.create(name, 0o600), name

    def _has(self, number: int) -> bool:
        """Return whether an answer has this number, also one that was tried."""
        return any(is_in(f"{number}{each}", self._folder.descriptor) for each in _ANSWER_SUFFIXES)

    def save(self, owner: object, answer: bytes) -> None:
        """Save an answer over an earlier one that has its row. Best effort: the row counts."""
        with suppress(OSError):
            if self._owner is not None:
                self.close()
            self.open()
            self._owner = owner
            # The length and the checksum expose a torn write, and the end of an earlier answer.
            os.pwrite(self._descriptor, b"%d %d\n%b" % (len(answer), crc32(answer), answer), 0)

    def clear(self, owner: object) -> None:
        """Invalidate the saved answer if it is the owner's: it has its row, or is not needed."""
        if self._owner is owner:
            self._owner = None
            with suppress(OSError):
                os.pwrite(self._descriptor, b"-", 0)

    def detach(self, owner: object) -> str:
        """Leave the file to the owner of the saved answer; return its name, "" if not saved."""
        if self._owner is not owner:
            return ""
        name = self._name
        self.close()
        return name

    def close(self) -> None:
        """Close the file, and remove it unless it holds an answer; idempotent."""
        if not self._name:
            return
        os.close(self._descriptor)
        if self._owner is None:
            with suppress(OSError):
                os.unlink(self._name, dir_fd=self._folder.descriptor)
        self._name, self._owner = "", None


class StagedAnswer:
    """The images of one attempt while they arrive.

    With `sent_at`, the first image has its file before the request is sent, so that a failing disk
    is found in time, and the rest of the answer is journaled as soon as it is complete.
    """

    def __init__(
        self, folder: OpenFolder, name: str, journal: AnswerJournal, sent_at: datetime | None
    ) -> None:
        self._folder = folder
        self._name = name
        self._journal = journal
        self._sent_at = sent_at
        self._files: list[StagedFile] = []
        self._ahead: StagedFile | None = None
        self._aside: StagedFile | None = None
        self._body: Iterable[bytes] = ()
        self._kept: list[str] = []  # journaled answers with files of their own
        if sent_at is not None:
            journal.open()
            self._ahead = StagedFile(folder, f"{name}.0")

    def open_image(self, index: int, /) -> StagedFile:
        """Open the file of the image that arrives as number `index`, from 0."""
        name = f"{self._name}.{index}"
        file, self._ahead = self._ahead or StagedFile(self._folder, name), None
        self._files.append(file)
        return file

    def open_aside(self) -> StagedFile:
        """Open the file of what is not an image and too large for memory."""
        self._aside = StagedFile(self._folder, f"{self._name}{ASIDE_SUFFIX}")
        return self._aside

    def keepable(self, body: Iterable[bytes], /) -> None:
        """Take the body of the answer, for `keep`."""
        self._body = body

    def keep(self, out: Path) -> str:
        """Keep the body as it came; return a sentence that says where. It may take a second."""
        return keep(out, self._name, self._body)

    def journal(self, envelope: bytes, /, *, is_whole: bool = True) -> None:
        """Save the rest of the answer, for a kill before its row is written.

        One that is not whole is kept until `discard`: others may arrive before its end.
        """
        if self._sent_at is not None:
            files = self._files if is_whole else takewhile(StagedFile.is_closed, self._files)
            arrived = (file.image() for file in files)
            images = [(image.size_bytes, image.sha256) for image in arrived]
            header = orjson.dumps([self._name, self._sent_at, images])
            self._journal.save(self, header + b"\n" + envelope)
            if not is_whole:
                self.keep_journaled()

    def keep_journaled(self) -> None:
        """Keep the journaled answer until `discard`, also when other answers arrive."""
        if name := self._journal.detach(self):
            self._kept.append(name)

    def arrived(self) -> tuple[IncomingImage, ...]:
        """Return the images in their order of arrival; the last one may not be complete."""
        return tuple(file.image() for file in self._files)

    def abandon(self) -> None:
        """Close the files of an attempt that is given up while its answer arrives.

        They are removed, unless its picture is journaled: the next run finds it.
        """
        if not self._kept:
            self.discard()
        for file in filter(None, (*self._files, self._ahead, self._aside)):
            file.close()

    def discard(self) -> None:
        """Remove the files that were not published, and clear the journal."""
        for file in filter(None, (*self._files, self._ahead, self._aside)):
            file.close()
            # Cheaper than an exception, which every published image would cost.
            name, folder = file.file.rpartition("/")[2], self._folder.descriptor
            if os.access(name, os.F_OK, dir_fd=folder):
                os.unlink(name, dir_fd=folder)
        self._journal.clear(self)
        while self._kept:
            os.unlink(self._kept.pop(), dir_fd=self._folder.descriptor)


@dataclass(frozen=True, slots=True)
class JournaledAnswer:
    """A complete answer without a row: the run was killed in between, or its disk was full.

    Attributes:
        name: The start of the names of its images' files.
        attempt: Of the call, from 1.
        envelope: The answer without the images.
        images: In the order of arrival; their size and SHA-256 were checked.
    """

    file: Path
    name: str
    attempt: int
    sent_at: datetime
    finished_at: datetime
    envelope: bytes
    images: tuple[IncomingImage, ...]


def staged_name(call_id: str, attempt: int) -> str:
    """Return the start of the names of an attempt's files; stable, so that recovery finds them."""
    return f"{hashlib.sha256(call_id.encode()).hexdigest()[:32]}-{attempt}"


def read_journaled(file: Path, prefix: str) -> JournaledAnswer | None:
    """Return the answer if its name has this prefix, it is complete and its images unchanged."""
    try:
        sizes, rest = read_at_most(file, _MAX_ANSWER_BYTES).split(b"\n", 1)
        length, checksum = map(int, sizes.split())
        answer = rest[:length]
        if (len(answer), crc32(answer)) != (length, checksum):
            return None
        header, envelope = answer.split(b"\n", 1)
        name, sent_at, expected = orjson.loads(header)
        if not name.startswith(prefix):
            return None
        images = tuple(
            staged_image(file.with_name(f"{name}.{index}")) for index in range(len(expected))
        )
        if expected != [[image.size_bytes, image.sha256] for image in images]:
            return None
        finished_at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    except (OSError, ValueError):  # a kill or a power cut leaves anything in the file
        return None
    attempt = int(name.rpartition("-")[2])
    return JournaledAnswer(
        file, name, attempt, datetime.fromisoformat(sent_at), finished_at, envelope, images
    )


def staged_image(path: Path) -> IncomingImage:
    """Return what is known of an image file by its bytes; raise OSError if it can't be read."""
    with open_to_read(path) as file:
        head = file.read(media_types.HEAD_BYTES)
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return IncomingImage(str(path), file.tell(), sha256, head)


def copy_journaled(answer: JournaledAnswer, to: Path) -> None:
    """Copy a complete answer to the incoming folder of another run, its images first.

    After a kill it is copied again.

    Raises:
        OSError: The disk refused.
    """
    for image in answer.images:
        shutil.copyfile(image.file, to / Path(image.file).name)
    copy = to / f"moved-{answer.name}{answer.file.suffix}"
    part = copy.with_suffix(".part")
    shutil.copyfile(answer.file, part)
    shutil.copystat(answer.file, part)  # it arrived when it was written
    part.rename(copy)
