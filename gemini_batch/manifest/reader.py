"""Streams a manifest once, and then reads any line of it again."""

import os
import stat
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from gemini_batch.errors import ManifestError, Problem
from gemini_batch.hashmap import HashMap64, fingerprint
from gemini_batch.manifest import problems
from gemini_batch.records import ids
from gemini_batch.records.job import Job
from gemini_batch.wording import shown

MAX_LINE_BYTES = 128 * 1024 * 1024
SHOWN_PROBLEMS = 50

_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_BLOCK_BYTES = 1 << 20
_validate = Job.__pydantic_validator__.validate_python  # `Job.model_validate` costs a fifth more
_EXPLICIT = 0


class Manifest:
    """A manifest on disk: `scan` it once, then `read` any job by its index.

    The file stays open, so one that is replaced (as most editors do) is still read as it was; one that is changed in place
    is noticed line by line. A job takes 24 bytes, and 20 to 28 more while `scan` runs.

    Args:
        path: The file; a relative one is named in messages as it is here.
        name: How messages name it, if not so.

    Raises:
        ManifestError: It is missing, unreadable, or not a regular file.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self._path = path
        self.name = name or str(path)
        self._fd = self._open()
        # One entry a good line: where it starts, a hash of it, its number, and which of several equal jobs without id it is.
        self._offsets = array("Q")
        self._hashes = array("Q")
        self._lines = array("I")
        self._repeats = array("I")
        self._end = 0
        self._problems: list[Problem] = []
        self._problem_count = 0
        self._taken = HashMap64(small=True)  # folded id of a call → index of its job
        self._repeated = HashMap64()  # derived id → how many jobs have it

    def __len__(self) -> int:
        """Return how many jobs were found."""
        return len(self._offsets)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def line(self, index: int) -> int:
        """Return the number of a job's line, from 1."""
        return self._lines[index]

    # --- the first time ---

    def scan(self) -> Iterator[tuple[int, Job]]:
        """Check every line; yield (index, job) for each good one, its id final.

        To be used once, and to its end.

        Raises:
            ManifestError: At the end, if there was any problem, `problem` included, or no job.
        """
        for number, offset, text in self._texts():
            job = self._parsed(number, text)
            if job is None:
                continue
            index = len(self._offsets)
            self._offsets.append(offset)
            self._hashes.append(fingerprint(text))
            self._lines.append(number)
            self._admit(index, job, text)
            yield index, job
        if not self._offsets and not self._problem_count:
            self.problem(
                0, "", 'has no jobs; write one a line, such as {"prompt": "A cute robot mascot"}'
            )
        self._taken = self._repeated = HashMap64()
        if self._problem_count:
            raise ManifestError(self.name, self._problems, self._problem_count)

    def problem(self, line: int, field: str, message: str) -> None:
        """Add a problem that was found with the job just yielded; `scan` raises it with its own."""
        self._problem_count += 1
        if len(self._problems) < SHOWN_PROBLEMS:
            self._problems.append(Problem(line, field, message))

    def _open(self) -> int:
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise self._refused("there is no such file") from None
        except OSError as error:
            raise self._refused(f"can't be read: {error.strerror}") from None
        mode = os.fstat(fd).st_mode
        if stat.S_ISREG(mode):
            return fd
        os.close(fd)
        if stat.S_ISDIR(mode):
            raise self._refused("is a folder; name a JSONL file in it")
        raise self._refused(
            "is not a regular file; it is read more than once, so save it as a file first"
        )

    def _refused(self, message: str) -> ManifestError:
        return ManifestError(self.name, [Problem(0, "", message)])

    def _texts(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield (number, offset, text without blanks around it) of each line that is not blank."""
        head = os.pread(self._fd, len(_BOM), 0)
        with os.fdopen(self._fd, "rb", buffering=_BLOCK_BYTES, closefd=False) as file:
            if head.startswith(_UTF16_BOMS):
                raise self._refused("is UTF-16; save it as UTF-8")
            if head.startswith(_BOM):
                file.seek(len(_BOM))
                self._end = len(_BOM)
            number = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                offset = self._end
                self._end += len(line)
                if len(line) > MAX_LINE_BYTES:
                    self._too_long(number, line)
                    while line and not line.endswith(b"\n"):
                        line = file.readline(_BLOCK_BYTES)
                        self._end += len(line)
                elif text := line.strip():
                    yield number, offset, text

    def _too_long(self, number: int, line: bytes) -> None:
        limit = f"{MAX_LINE_BYTES // 1024**2} MB a line"
        self.problem(
            number, "", f"longer than allowed: {limit}; name images by path in place of inline data"
        )

    def _parsed(self, number: int, text: bytes) -> Job | None:
        try:
            job: Job = _validate(orjson.loads(text))
        except ValueError as error:
            for field, message in problems.explain(text, error):
                self.problem(number, field, message)
            return None
        if problems.may_be_too_deep(text) and problems.is_too_deep([job.metadata, job.request]):
            self.problem(number, "", problems.TOO_DEEP)
        return job

    # --- ids ---

    def _admit(self, index: int, job: Job, text: bytes) -> None:
        """Give the job its final id, and take the ids of its calls."""
        if job.id is None:
            count = self._derive_id(index, job)
        else:
            count = _EXPLICIT
            _set_id(job, ids.normal(job.id))
            if (fault := ids.fault(job.id)) is not None:
                self.problem(self._lines[index], _id_field(text), fault)
            self._take(index, job, 1, text)
        self._repeats.append(count)
        for variant in range(2, job.variants + 1):
            if not self._take(index, job, variant, text):
                break

    def _derive_id(self, index: int, job: Job) -> int:
        """Give the job an id of its own fields that no other has; return how many jobs before it ask for the same, and one."""
        base = ids.derived(job)
        count = 1
        while self._claim(ids.repeated(base, count), index) is not None:
            count = max(count, self._repeated.get(fingerprint(base)) or 1) + 1
        if count > 1:
            self._repeated.put(fingerprint(base), count)
        _set_id(job, ids.repeated(base, count))
        return count

    def _take(self, index: int, job: Job, variant: int, text: bytes) -> bool:
        """Take the id of one call, or say which line has it."""
        call_id = ids.call_id(job.id or "", variant)
        earlier = self._claim(call_id, index)
        if earlier is None or (holder := self._holder(earlier, call_id)) is None:
            return True
        mine = (
            f"got {shown(call_id)}"
            if variant == 1
            else f"variant {variant} would be {shown(call_id)}"
        )
        field = _id_field(text) if variant == 1 else "variants"
        number, other = holder
        of, theirs = (
            "" if number == 1 else f"variant {number} of ",
            "" if other == call_id else f" as {shown(other)}",
        )
        words = (
            f"{mine}, which {of}line {self._lines[earlier]} has{theirs}; every id must be unique"
        )
        self.problem(self._lines[index], field, words)
        return False

    def _claim(self, call_id: str, index: int) -> int | None:
        """Take an id for a job; return the index of the job that has it, if one does."""
        return self._taken.claim(fingerprint(ids.folded(call_id)), index)

    def _holder(self, index: int, call_id: str) -> tuple[int, str] | None:
        """Return (variant, id) of a job's call whose id is the same as this one; None when only their hashes are."""
        if (job := self.read(index)) is None:
            return None
        own = ((number, ids.call_id(job.id or "", number)) for number in range(1, job.variants + 1))
        return next(
            ((number, other) for number, other in own if ids.folded(other) == ids.folded(call_id)),
            None,
        )

    # --- any time later ---

    def read(self, index: int) -> Job | None:
        """Return a job when its turn comes; None when its line is not what was checked: the file was edited since."""
        start = self._offsets[index]
        end = self._offsets[index + 1] if index + 1 < len(self._offsets) else self._end
        try:
            text = (
                os.pread(self._fd, min(end - start, MAX_LINE_BYTES + 1), start)
                .partition(b"\n")[0]
                .strip()
            )
        except OSError:
            return None
        if fingerprint(text) != self._hashes[index]:
            return None
        job: Job = _validate(orjson.loads(text))
        count = self._repeats[index]
        _set_id(
            job,
            ids.normal(job.id or "")
            if count == _EXPLICIT
            else ids.repeated(ids.derived(job), count),
        )
        return job


def _set_id(job: Job, final: str) -> None:
    """Set the id of a job that nobody else has yet; a copy would cost as much as all of the validation."""
    job.__dict__["id"] = final


def _id_field(text: bytes) -> str:
    return "key" if "key" in orjson.loads(text) else "id"
