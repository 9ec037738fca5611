"""What arrives: the images of an attempt while they do, and the answer that is kept until its row is written."""

import hashlib
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson

from gemini_batch.policy import media
from gemini_batch.records import IncomingImage

ANSWER = ".answer"
# Ends a kept answer; what has no such end was cut off.
_WHOLE = b"\nwhole\n"


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
        if len(self._head) < media.HEAD_BYTES:
            self._head += bytes(data[: media.HEAD_BYTES - len(self._head)])

    def close(self) -> None:
        """Close the file; more than once does no harm."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def image(self) -> IncomingImage:
        """Return what arrived."""
        return IncomingImage(self.file, self._size_bytes, self._sha256.hexdigest(), self._head)


class IncomingParts:
    """The images of one attempt, while they arrive.

    With `sent_at`, the rest of the answer is kept beside them the moment that it is whole: from there to its row it is a third of a
    millisecond, and a kill that falls into it loses nothing.
    """

    def __init__(self, folder: Path, name: str, sent_at: datetime | None = None) -> None:
        self._stem = str(folder / name)
        self._parts: list[Part] = []
        self._answer = -1
        if sent_at is not None:
            # Made now, so that later it takes no more than one write.
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
            self._answer = os.open(self._stem + ANSWER, flags, 0o666)
            os.write(self._answer, sent_at.isoformat().encode() + b"\n")

    def open_image(self, index: int, /) -> Part:
        """Open the part of the `index`-th image to arrive."""
        part = Part(f"{self._stem}.{index}")
        self._parts.append(part)
        return part

    def keep(self, skeleton: bytes) -> None:
        """Keep what came beside the images, for a run that is killed before its row is written. Best effort: the row counts."""
        if self._answer >= 0:
            images = [(image.size_bytes, image.sha256) for image in (part.image() for part in self._parts)]
            with suppress(OSError):
                os.write(self._answer, orjson.dumps(images) + b"\n" + skeleton + _WHOLE)
            os.close(self._answer)
            self._answer = -1

    def arrived(self) -> tuple[IncomingImage, ...]:
        """Return the images, in the order they arrived."""
        for part in self._parts:
            part.close()
        return tuple(part.image() for part in self._parts)

    def discard(self) -> None:
        """Remove every part that has not got its name."""
        for part in self._parts:
            part.close()
            if os.path.lexists(part.file):  # cheaper than an exception, which every image that got its name would cost
                Path(part.file).unlink()
        self.close()
        with suppress(FileNotFoundError):
            Path(self._stem + ANSWER).unlink()

    def close(self) -> None:
        """Close what is open and leave all files where they are, for the next run to see; more than once does no harm."""
        for part in self._parts:
            part.close()
        if self._answer >= 0:
            os.close(self._answer)
            self._answer = -1


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """A whole answer without a row: the run that received it was killed in between, or its disk was full.

    Attributes:
        name: What its files begin with.
        attempt: Of the call, from 1.
        sent_at: UTC.
        finished_at: When it was whole, UTC.
        skeleton: What came beside the images.
        images: In the order of arrival; their bytes are those that arrived.
    """

    name: str
    attempt: int
    sent_at: datetime
    finished_at: datetime
    skeleton: bytes
    images: tuple[IncomingImage, ...]


def part_name(call_id: str, attempt: int) -> str:
    """Return the name that the parts of an attempt begin with; the same again for the same attempt, so that recovery finds them."""
    return f"{hashlib.sha256(call_id.encode()).hexdigest()[:32]}-{attempt}"


def attempt_of(path: Path) -> int:
    """Return the attempt that a file's name ends with."""
    number = path.stem.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0


def read_answer(path: Path) -> KeptAnswer | None:
    """Return the answer that is kept in a file, if it is whole and each of its images is what arrived."""
    try:
        sent_at, images, skeleton = path.read_bytes().split(b"\n", 2)
        if not skeleton.endswith(_WHOLE):
            return None
        expected = [(int(size_bytes), str(sha256)) for size_bytes, sha256 in orjson.loads(images)]
        files = [path.with_suffix(f".{index}") for index in range(len(expected))]
        arrived = tuple(_arrived(file) for file in files)
        if expected != [(image.size_bytes, image.sha256) for image in arrived]:
            return None
        return KeptAnswer(
            name=path.stem,
            attempt=attempt_of(path),
            sent_at=datetime.fromisoformat(sent_at.decode()),
            finished_at=datetime.fromtimestamp(path.stat().st_mtime, UTC),
            skeleton=skeleton.removesuffix(_WHOLE),
            images=arrived,
        )
    except (OSError, ValueError, TypeError):
        return None  # a power cut leaves anything


def _arrived(path: Path) -> IncomingImage:
    with path.open("rb") as file:
        head = file.read(media.HEAD_BYTES)
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return IncomingImage(str(path), file.tell(), sha256, head)
