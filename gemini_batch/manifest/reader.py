"""Streams a manifest once; from then on it reads any single line again."""

import hashlib
import os
import stat
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

import orjson

from gemini_batch.errors import ManifestError, Problem
from gemini_batch.hashmap import HashMap64, fingerprint, fingerprints
from gemini_batch.manifest import file_kind
from gemini_batch.manifest.chains import Chains
from gemini_batch.manifest.lines import MAX_LINE_BYTES, Lines, LongLine, read_lines
from gemini_batch.manifest.plain import PlainJobs, PlainLines
from gemini_batch.manifest.references import References
from gemini_batch.records import ids
from gemini_batch.wording import shown

if TYPE_CHECKING:  # it needs pydantic
    from gemini_batch.records.job import Job

SHOWN_PROBLEMS = 10

# Of a million lines: a map of the right size from the start saves a fifth of a second.
_USUAL_LINE_BYTES, _MOST_EXPECTED = 170, 1_000_000
_AT_ONCE = 256
_BOM = b"\xef\xbb\xbf"


class PlainIndex:
    """The places of plain lines of a manifest: offset, size in bytes, number and rank of each."""

    def __init__(self) -> None:
        self.offsets, self.sizes = array("Q"), array("I")
        self.lines, self.ranks = array("I"), array("I")

    @property
    def arrays(self) -> tuple["array[int]", ...]:
        """Its columns."""
        return self.offsets, self.sizes, self.lines, self.ranks


class Manifest:
    """A manifest on disk: `scan` it once, then `read` any job by its index.

    The file stays open: if it is replaced, as most editors do, the old content is still read; if it
    is changed in place, `read` notices that line by line. A job takes 24 bytes of memory, and 20 to
    28 more while `scan` runs.

    Raises:
        ManifestError: It is missing, unreadable, or not a regular file.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.name = name or str(path)
        self._file = self._opened(path)
        self.clear()
        self._end = 0
        self._plain_lines = PlainLines()
        self._problems: list[Problem] = []
        self._problem_count = 0
        self._references = References()
        self._has_unread = False  # lines whose ids are unknown
        size_bytes = os.fstat(self._file.fileno()).st_size
        # Folded id of a call → index of its job.
        self._taken = HashMap64(
            min(size_bytes // _USUAL_LINE_BYTES, _MOST_EXPECTED), less_than_2_32=True
        )
        self._repeated = HashMap64()  # derived id → number of jobs with it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._offsets)

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        self._file.close()

    def clear(self) -> None:
        """Forget all jobs."""
        # One entry per good line: its offset, a hash of its text, its number, and, for a job
        # without id, its rank among equal ones.
        self._offsets = array("Q")
        self._hashes = array("Q")
        self._lines = array("I")
        self._ranks = array("I")
        self._sizes = array("I")  # of each line, where not all lines are in the index

    def line(self, index: int) -> int:
        """Return the number of a job's line, from 1."""
        return self._lines[index]

    def lines(self, index: int, number: int) -> Sequence[int]:
        """Return the line numbers of `number` jobs."""
        return self._lines[index : index + number]

    def index_of(self, line: int) -> int:
        """Return the index of the job at a line."""
        return bisect_left(self._lines, line)

    def scan(self) -> Iterator[tuple[int, "Job | PlainJobs"]]:
        """Check every line; yield (index of the first one, job or jobs) of the good ones.

        Each job has its final id. Iterate once, and to the end.

        Raises:
            ManifestError: At the end, if there was any problem, `problem` included, or no job.
        """
        for lines in self._lines_of_file():
            self._end = lines.end
            if isinstance(lines, Lines):
                yield from self._jobs(lines)
            else:
                self._has_unread = True
                self.problem(lines.number, "", lines.problem)
        self._look_up()
        if not self._offsets and not self._problem_count:
            example = '{"prompt": "A cute robot mascot"}'
            self.problem(0, "", f"has no jobs; write one per line, such as {example}")
        self._taken = self._repeated = HashMap64()
        if self._problem_count:
            raise ManifestError(self.name, self._problems, self._problem_count)

    @property
    def chains(self) -> Chains:
        """The jobs that use pictures of others."""
        return self._references.chains

    def _look_up(self) -> None:
        """Look up all references, unless some ids are unknown because their lines are wrong."""
        if len(self.chains) and not self._has_unread:
            for index, field, message in self._references.faults(self.read, self._taken.get):
                self.problem(self._lines[index], field, message)

    def problem(self, line: int, field: str, message: str) -> None:
        """Add a problem of the job just yielded; `scan` raises it with its own."""
        self._problem_count += 1
        if len(self._problems) < SHOWN_PROBLEMS:
            self._problems.append(Problem(line, field, message))

    def sha256(self) -> str:
        """Return the hash of its content; raise OSError if it can't be read."""
        self._file.seek(0)
        found = hashlib.sha256()
        for block in iter(partial(self._file.read, 1 << 20), b""):
            found.update(block)
        self._file.seek(0)
        return found.hexdigest()

    @property
    def has_problems(self) -> bool:
        """True if a problem is known."""
        return self._problem_count > 0

    def places_of(self, indexes: Iterable[int]) -> PlainIndex:
        """Return the places of jobs, for `known`."""
        found = PlainIndex()
        for index in indexes:
            row = self._offsets[index], self._size(index), self._lines[index], self._ranks[index]
            for column, value in zip(found.arrays, row, strict=True):
                column.append(value)
        return found

    def known(self, places: PlainIndex) -> Iterator[tuple[int, PlainJobs]]:
        """Yield jobs as `scan` does, of these lines alone, whose content is the same as then.

        Raises:
            OSError: It can't be read.
            ValueError: A line is not plain.
        """
        self._sizes = places.sizes
        for start in range(0, len(places.lines), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            self._offsets.extend(places.offsets[part])
            texts = [self._text(start + number) for number in range(len(places.lines[part]))]
            (jobs,) = self._plain_lines.read(texts)
            if jobs is None or len(jobs) != len(texts):
                raise ValueError
            ranks = places.ranks[part]
            for number, rank in enumerate(ranks):
                if rank:
                    jobs.ids[number] = ids.repeated(jobs.ids[number], rank)
            self._hashes.extend(fingerprints(texts))
            self._lines.extend(places.lines[part])
            self._ranks.extend(ranks)
            yield start, jobs

    def _size(self, index: int) -> int:
        """Return the size of a job's line, and of what is between it and the next one."""
        if self._sizes:
            return self._sizes[index]
        is_last = index + 1 == len(self._offsets)
        end = self._end if is_last else self._offsets[index + 1]
        return min(end - self._offsets[index], MAX_LINE_BYTES + 1)

    def _text(self, index: int) -> bytes:
        block = os.pread(self._file.fileno(), self._size(index), self._offsets[index])
        return block.partition(b"\n")[0].strip()

    def _opened(self, path: Path) -> BinaryIO:
        try:
            file = open(path, "rb", opener=_open_unblocked)  # noqa: SIM115
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

    def _lines_of_file(self) -> Iterator[Lines | LongLine]:
        head = self._file.read(file_kind.HEAD_BYTES)
        if other := file_kind.refusal(head):
            raise self._refused(other)
        self._file.seek(len(_BOM) if head.startswith(_BOM) else 0)
        return read_lines(self._file)

    def _jobs(self, lines: Lines) -> Iterator[tuple[int, "Job | PlainJobs"]]:
        start = 0
        for plain in self._plain_lines.read(lines.texts):
            end = start + (len(plain) if plain else 1)
            part, start = lines[start:end], end
            yield from self._plain(plain, part) if plain else self._other(part)

    def _plain(self, jobs: PlainJobs, lines: Lines) -> Iterator[tuple[int, "Job | PlainJobs"]]:
        """Yield the jobs of plain lines; one whose id is taken is checked as a `Job`."""
        index = len(self._offsets)
        while (number := self._claim_plain(jobs, index)) < len(jobs):
            if number:
                self._append(lines[:number], jobs.ranks[:number])
                yield index, jobs[:number]
            else:
                number = 1
                yield from self._other(lines[:1])
            jobs, lines = jobs[number:], lines[number:]
            index = len(self._offsets)
        if jobs:
            self._append(lines, jobs.ranks)
            yield index, jobs

    def _claim_plain(self, jobs: PlainJobs, index: int) -> int:
        """Claim the ids of the first jobs; return how many: none if the first is a repeated one."""
        claimed = self._taken.claim_next(jobs.keys, index)
        while claimed < len(jobs) and jobs.ranks[claimed]:
            base = jobs.ids[claimed]
            rank = self._claim_derived(base, index + claimed)
            jobs.ids[claimed], jobs.ranks[claimed] = ids.repeated(base, rank), rank
            claimed += 1
        return claimed

    def _other(self, line: Lines) -> Iterator[tuple[int, "Job | PlainJobs"]]:
        """Yield the job of one line, if it is good."""
        ((number,), (text,)) = line.numbers, line.texts
        if (job := self._parsed(number, text)) is not None:
            index = len(self._offsets)
            self._append(line, (0,))
            self._set_id(index, job, text)
            if job.images or job.parts:
                self._references.add(index, job)
            yield index, job

    def _append(self, lines: Lines, ranks: Sequence[int]) -> None:
        """Append lines to the index."""
        self._offsets.extend(lines.offsets)
        self._hashes.extend(fingerprints(lines.texts))
        self._lines.extend(lines.numbers)
        self._ranks.extend(ranks)

    def _parsed(self, number: int, text: bytes) -> "Job | None":
        from gemini_batch.manifest.job_line import checked_job_of

        try:
            return checked_job_of(text)
        except ValueError as error:
            from gemini_batch.manifest import problems

            self._has_unread = True
            for field, message in problems.explain(text, error):
                self.problem(number, field, message)
            return None

    def _set_id(self, index: int, job: "Job", text: bytes) -> None:
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

    def _claim_derived(self, base: str, index: int) -> int:
        """Claim an id for a job that has none; return its rank, from 1, among equal jobs."""
        count = 1
        while self._claim(ids.repeated(base, count), index) is not None:
            count = max(count, self._repeated.get(fingerprint(base)) or 1) + 1
        if count > 1:
            self._repeated.put(fingerprint(base), count)
        return count

    def _claim_call(self, index: int, job: "Job", variant: int, text: bytes) -> bool:
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

    def read(self, index: int) -> "Job | None":
        """Return a job again; None if its line was edited since the scan."""
        try:
            text = self._text(index)
        except OSError:
            return None
        if fingerprint(text) != self._hashes[index]:
            return None
        if (plain := self._plain_lines.job(text)) is not None:
            job, is_derived = plain
            if is_derived:
                _replace_id(job, ids.repeated(job.id or "", self._ranks[index]))
            return job
        from gemini_batch.manifest.job_line import job_of

        job = job_of(text)
        if job.id is None:
            _replace_id(job, ids.repeated(ids.derived(job), self._ranks[index]))
        else:
            _replace_id(job, ids.normal(job.id))
        return job


def _open_unblocked(path: str, flags: int) -> int:
    """Open a file; a named pipe without a writer does not block."""
    return os.open(path, flags | os.O_NONBLOCK)


def _replace_id(job: "Job", final: str) -> None:
    """Set the id of a frozen, unshared job; a copy would take as long as validation."""
    job.__dict__["id"] = final


def _id_field(text: bytes) -> str:
    return "id" if orjson.loads(text).get("key") is None else "key"
