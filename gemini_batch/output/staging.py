"""What arrives: the images of an attempt while they do, and the answer that is kept until its row is written."""

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from zlib import crc32

import orjson

from gemini_batch.output.paths import ANSWER_SUFFIX
from gemini_batch.records import IncomingImage, media_types

_OPEN = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


class StagedFile:
    """A file that grows while an image arrives; its size and sha256 are known as the bytes pass."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._descriptor = os.open(file, _OPEN, 0o666)
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
        if len(self._head) < media_types.HEAD_BYTES:
            self._head += bytes(data[: media_types.HEAD_BYTES - len(self._head)])

    def close(self) -> None:
        """Close the file; more than once does no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def image(self) -> IncomingImage:
        """Return what arrived."""
        return IncomingImage(self.file, self._size_bytes, self._sha256.hexdigest(), self._head)


class AnswerJournal:
    """Keeps the answer that is whole and has no row yet: from there to its row it is a third of a millisecond, and a kill that falls into it
    loses nothing.

    There is one such answer at a time, so one file is written over and over: a file for each would cost a tiny answer more than its
    image does. An answer whose row the disk would not take keeps the file, and the next one gets another.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: Path | None = None
        self._descriptor = -1
        self._holder: object = None  # whose answer has no row yet

    def open(self) -> None:
        """Make the file, if it is not there: later it takes no more than one write.

        Raises:
            OSError: The disk would not.
        """
        if self._descriptor < 0:
            path = next(
                path
                for number in count(1)
                if not (path := self._folder / f"{number}{ANSWER_SUFFIX}").exists()
            )
            self._descriptor, self._file = os.open(path, _OPEN, 0o666), path

    def write(self, holder: object, answer: bytes) -> None:
        """Write down an answer, over an earlier one that has its row. Best effort: the row counts."""
        with suppress(OSError):
            if self._holder is not None:
                self.close()
            self.open()
            self._holder = holder
            # What is cut off, or has the end of an earlier one, does not agree with this.
            os.pwrite(self._descriptor, b"%d %d\n%b" % (len(answer), crc32(answer), answer), 0)

    def clear(self, holder: object) -> None:
        """Let go of the answer, if it is this one's: it has its row, or is none, and is not to be taken for that of a later attempt."""
        if self._holder is holder:
            self._holder = None
            with suppress(OSError):
                os.pwrite(self._descriptor, b"-", 0)

    def close(self) -> None:
        """Close the file, and remove it unless it holds an answer; more than once does no harm."""
        if self._descriptor < 0:
            return
        os.close(self._descriptor)
        self._descriptor = -1
        if self._file is not None and self._holder is None:
            with suppress(OSError):
                self._file.unlink()
        self._holder = None


class StagedAnswer:
    """The images of one attempt, while they arrive.

    With a journal, the rest of the answer is kept beside them the moment that it is whole, and the first image has its file before anything
    is sent: a disk that would not take it is found out in time.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        sent_at: datetime | None = None,
        journal: AnswerJournal | None = None,
    ) -> None:
        self._name = name
        self._stem = f"{folder}/{name}"
        self._sent_at = sent_at
        self._journal = journal
        self._files: list[StagedFile] = []
        self._ahead: StagedFile | None = None
        if journal is not None:
            journal.open()
            self._ahead = StagedFile(f"{self._stem}.0")

    def open_image(self, index: int, /) -> StagedFile:
        """Open the part of the `index`-th image to arrive, from 0."""
        part, self._ahead = self._ahead or StagedFile(f"{self._stem}.{index}"), None
        self._files.append(part)
        return part

    def journal(self, envelope: bytes) -> None:
        """Keep what came beside the images, for a run that is killed before its row is written."""
        if self._journal is not None:
            images = [
                (image.size_bytes, image.sha256) for image in (part.image() for part in self._files)
            ]
            self._journal.write(
                self, orjson.dumps([self._name, self._sent_at, images]) + b"\n" + envelope
            )

    def arrived(self) -> tuple[IncomingImage, ...]:
        """Return the images, in the order they arrived."""
        for part in self._files:
            part.close()
        return tuple(part.image() for part in self._files)

    def discard(self) -> None:
        """Remove every part that has not got its name; what was kept is needed no more."""
        for part in (*self._files, *([self._ahead] if self._ahead else [])):
            part.close()
            # Cheaper than an exception, which every image that got its name would cost.
            if os.access(part.file, os.F_OK):
                Path(part.file).unlink()
        if self._journal is not None:
            self._journal.clear(self)


@dataclass(frozen=True, slots=True)
class JournaledAnswer:
    """A whole answer without a row: the run that received it was killed in between, or its disk was full.

    Attributes:
        file: Where it is kept.
        name: What the files of its images begin with.
        attempt: Of the call, from 1.
        sent_at: UTC.
        finished_at: When it was whole, UTC.
        envelope: What came beside the images.
        images: In the order of arrival; their bytes are those that arrived.
    """

    file: Path
    name: str
    attempt: int
    sent_at: datetime
    finished_at: datetime
    envelope: bytes
    images: tuple[IncomingImage, ...]


def staged_name(call_id: str, attempt: int) -> str:
    """Return the name that the parts of an attempt begin with; the same again for the same attempt, so that recovery finds them."""
    return f"{hashlib.sha256(call_id.encode()).hexdigest()[:32]}-{attempt}"


def journaled_name(file: Path) -> str:
    """Return what the images of a kept answer are named after; "" when it is not whole."""
    answer = _kept(file)
    return answer[0] if answer else ""


def read_journaled(file: Path) -> JournaledAnswer | None:
    """Return the answer that is kept in a file, if it is whole and each of its images is what arrived."""
    answer = _kept(file)
    if answer is None:
        return None
    name, sent_at, expected, envelope = answer
    try:
        arrived = tuple(
            _arrived(file.with_name(f"{name}.{index}")) for index in range(len(expected))
        )
        if expected != [[image.size_bytes, image.sha256] for image in arrived]:
            return None
        finished_at = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    except OSError:
        return None
    attempt = int(name.rpartition("-")[2])
    return JournaledAnswer(
        file, name, attempt, datetime.fromisoformat(sent_at), finished_at, envelope, arrived
    )


def _kept(file: Path) -> tuple[str, str, list[list[int | str]], bytes] | None:
    """Return (name, sent_at, size and sha256 of each image, envelope); None when not all of it is there: a kill or a power cut leaves anything."""
    try:
        sizes, rest = file.read_bytes().split(b"\n", 1)
        length, checksum = map(int, sizes.split())
        if crc32(answer := rest[:length]) != checksum or len(answer) != length:
            return None
        about, envelope = answer.split(b"\n", 1)
        name, sent_at, images = orjson.loads(about)
    except (OSError, ValueError):
        return None
    return name, sent_at, images, envelope


def _arrived(path: Path) -> IncomingImage:
    with path.open("rb") as file:
        head = file.read(media_types.HEAD_BYTES)
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return IncomingImage(str(path), file.tell(), sha256, head)
