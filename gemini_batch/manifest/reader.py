"""Streams a manifest once; from then on it reads any single line again."""

import os
import stat
from array import array
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Self

import orjson

from gemini_batch.errors import ManifestError, Problem
from gemini_batch.hashmap import HashMap64, fingerprint
from gemini_batch.manifest import file_kind, problems
from gemini_batch.manifest.job_line import checked_job_of, job_of
from gemini_batch.manifest.plain import PlainJob, PlainLines
from gemini_batch.records import ids
from gemini_batch.records.job import Job
from gemini_batch.wording import shown

MAX_LINE_BYTES = 128 * 1024 * 1024
SHOWN_PROBLEMS = 50

_BOM = b"\xef\xbb\xbf"
_BLOCK_BYTES = 1 << 20


class Manifest:
    """A manifest on disk: `scan` it once, then `read` any job by its index.

    The file stays open: if it is replaced, as most editors do, the old content is still read; if it
    is changed in place, `read` notices that line by line. A job takes 24 bytes of memory, and 24 to
    32 more while `scan` runs.

    Raises:
        ManifestError: It is missing, unreadable, or not a regular file.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.name = name or str(path)
        self._file = self._opened(path)
        # One entry per good line: its offset, a hash of its text, its number, and, for a job
        # without id, its rank among equal ones.
        self._offsets = array("Q")
        self._hashes = array("Q")
        self._lines = array("I")
        self._ranks = array("I")
        self._end = 0
        self._problems: list[Problem] = []
        self._problem_count = 0
        self._taken = HashMap64()  # folded id of a call → index of its job
        self._repeated = HashMap64()  # derived id → number of jobs with it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        self._file.close()

    def line(self, index: int) -> int:
        """Return the number of a job's line, from 1."""
        return self._lines[index]

    def scan(self) -> Iterator[tuple[int, Job | PlainJob]]:
        """Check every line; yield (index, job) for each good one, with its final id.

        Iterate once, and to the end.

        Raises:
            ManifestError: At the end, if there was any problem, `problem` included, or no job.
        """
        read, claim = PlainLines().read, self._taken.claim
        offsets, hashes = self._offsets.append, self._hashes.append
        lines, ranks = self._lines.append, self._ranks.append
        for number, offset, text in self._texts():
            index, plain = len(self._offsets), read(text)
            if plain and claim(fingerprint(ids.folded(plain.id)), index) is not None:
                plain = self._repeat(plain, index)
            job = plain or self._parsed(number, text)
            if job is None:
                continue
            offsets(offset)
            hashes(fingerprint(text))
            lines(number)
            ranks(plain.rank if plain else 0)
            if isinstance(job, Job):
                self._set_id(index, job, text)
            yield index, job
        if not self._offsets and not self._problem_count:
            example = '{"prompt": "A cute robot mascot"}'
            self.problem(0, "", f"has no jobs; write one per line, such as {example}")
        self._taken = self._repeated = HashMap64()
        if self._problem_count:
            raise ManifestError(self.name, self._problems, self._problem_count)

    def problem(self, line: int, field: str, message: str) -> None:
        """Add a problem of the job just yielded; `scan` raises it with its own."""
        self._problem_count += 1
        if len(self._problems) < SHOWN_PROBLEMS:
            self._problems.append(Problem(line, field, message))

    def _opened(self, path: Path) -> BinaryIO:
        try:
            file = open(path, "rb", _BLOCK_BYTES, opener=_open_unblocked)  # noqa: SIM115
        except FileNotFoundError:
            raise self._refused("there is no such file") from None
        except IsADirectoryError:
            raise self._refused("is a folder; name a JSONL file in it") from None
        except OSError as error:
            raise self._refused(f"can't be read: {error.strerror}") from None
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file
        file.close()
        raise self._refused(
            "is not a regular file; it is read more than once, so save it as a file first"
        )

    def _refused(self, message: str) -> ManifestError:
        return ManifestError(self.name, [Problem(0, "", message)])

    def _texts(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield (number, offset, stripped text) of each line that is not blank."""
        file = self._file
        head = file.read(file_kind.HEAD_BYTES)
        if other := file_kind.refusal(head, self.name):
            raise self._refused(other)
        self._end = file.seek(len(_BOM) if head.startswith(_BOM) else 0)
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            offset = self._end
            self._end += len(line)
            if len(line) > MAX_LINE_BYTES:
                limit = f"{MAX_LINE_BYTES // 1024**2} MB per line"
                advice = "name images by path instead of inline data"
                self.problem(number, "", f"longer than allowed: {limit}; {advice}")
                while line and not line.endswith(b"\n"):
                    line = file.readline(_BLOCK_BYTES)
                    self._end += len(line)
            elif text := line.strip():
                yield number, offset, text

    def _parsed(self, number: int, text: bytes) -> Job | None:
        try:
            return checked_job_of(text)
        except ValueError as error:
            for field, message in problems.explain(text, error):
                self.problem(number, field, message)
            return None

    def _set_id(self, index: int, job: Job, text: bytes) -> None:
        """Set the job's final id, and claim the ids of its calls."""
        if job.id is None:
            base = ids.derived(job)
            self._ranks[index] = rank = self._claim_derived(base, index)
            _replace_id(job, ids.repeated(base, rank))
        else:
            _replace_id(job, ids.normal(job.id))
            if (fault := ids.fault(job.id)) is not None:
                self.problem(self._lines[index], _id_field(text), fault)
            self._claim_call(index, job, 1, text)
        for variant in range(2, job.variants + 1):
            if not self._claim_call(index, job, variant, text):
                break

    def _repeat(self, plain: PlainJob, index: int) -> PlainJob | None:
        """Return a plain job with the next free id if its own is derived; else None."""
        if not plain.rank:
            return None
        rank = self._claim_derived(plain.id, index)
        return replace(plain, id=ids.repeated(plain.id, rank), rank=rank)

    def _claim_derived(self, base: str, index: int) -> int:
        """Claim an id for a job that has none; return its rank, from 1, among equal jobs."""
        count = 1
        while self._claim(ids.repeated(base, count), index) is not None:
            count = max(count, self._repeated.get(fingerprint(base)) or 1) + 1
        if count > 1:
            self._repeated.put(fingerprint(base), count)
        return count

    def _claim_call(self, index: int, job: Job, variant: int, text: bytes) -> bool:
        """Claim the id of one call, or add the problem that an earlier line has it."""
        call_id = ids.call_id(job.id or "", variant)
        earlier = self._claim(call_id, index)
        if earlier is None or (holder := self._holder(earlier, call_id)) is None:
            return True
        field, found = _id_field(text), f"got {shown(call_id)}"
        if variant > 1:
            field, found = "variants", f"variant {variant} would be {shown(call_id)}"
        number, other = holder
        of = f"variant {number} of " if number > 1 else ""
        spelling = f" as {shown(other)}" if other != call_id else ""
        has = f"which {of}line {self._lines[earlier]} has{spelling}"
        self.problem(self._lines[index], field, f"{found}, {has}; every id must be unique")
        return False

    def _claim(self, call_id: str, index: int) -> int | None:
        """Claim an id for a job; return the index of the job that already has it, if any."""
        return self._taken.claim(fingerprint(ids.folded(call_id)), index)

    def _holder(self, index: int, call_id: str) -> tuple[int, str] | None:
        """Return (variant, id) of a job's call with this id; None if just the hashes are equal."""
        if (job := self.read(index)) is None:
            return None
        own = ((number, ids.call_id(job.id or "", number)) for number in range(1, job.variants + 1))
        same = ids.folded(call_id)
        return next(((number, other) for number, other in own if ids.folded(other) == same), None)

    def read(self, index: int) -> Job | None:
        """Return a job again; None if its line was edited since the scan."""
        start = self._offsets[index]
        end = self._offsets[index + 1] if index + 1 < len(self._offsets) else self._end
        try:
            block = os.pread(self._file.fileno(), min(end - start, MAX_LINE_BYTES + 1), start)
        except OSError:
            return None
        text = block.partition(b"\n")[0].strip()
        if fingerprint(text) != self._hashes[index]:
            return None
        job = job_of(text)
        if job.id is None:
            _replace_id(job, ids.repeated(ids.derived(job), self._ranks[index]))
        else:
            _replace_id(job, ids.normal(job.id))
        return job


def _open_unblocked(path: str, flags: int) -> int:
    """Open a file; a named pipe without a writer does not block."""
    return os.open(path, flags | os.O_NONBLOCK)


def _replace_id(job: Job, final: str) -> None:
    """Set the id of a frozen, unshared job; a copy would take as long as validation."""
    job.__dict__["id"] = final


def _id_field(text: bytes) -> str:
    return "id" if orjson.loads(text).get("key") is None else "key"
