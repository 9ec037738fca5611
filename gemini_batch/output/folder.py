"""The output folder: staged files, published images, superseded images, and the lock.

`output.paths` shows its layout.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import Any

import orjson

from gemini_batch.errors import StorageError
from gemini_batch.output import paths
from gemini_batch.output.files import (
    append_line,
    open_regular,
    read_at_most,
    sync,
    write_atomically,
)
from gemini_batch.output.images import INCOMING, ImageFolders
from gemini_batch.output.lock import FolderLock, locked_folder, unwritable
from gemini_batch.output.runs import read_summary
from gemini_batch.output.staging import (
    AnswerJournal,
    JournaledAnswer,
    StagedAnswer,
    read_journaled,
    staged_name,
)
from gemini_batch.output.tree import is_in
from gemini_batch.records import Status

_FOLDERS = (
    INCOMING,
    f"{paths.PRIVATE}/{paths.INPUTS}",
    paths.IMAGES,
    paths.DRAFTS,
    paths.SUPERSEDED,
)
# A journaled answer is tried twice.
_NEXT_SUFFIX = {
    paths.ANSWER_SUFFIX: paths.TRIED_SUFFIX,
    paths.TRIED_SUFFIX: paths.TRIED_AGAIN_SUFFIX,
}
_NOTE_BYTES = 64
_ANSWERED = (Status.SUCCEEDED, Status.BLOCKED)
# No file of rows is larger; a note that says more is damaged.
_MAX_NOTED_BYTES = 1 << 40


class OutputFolder(ImageFolders):
    """The files of one output folder. Paths in arguments and results are relative to it.

    Methods that read or change files raise OSError if the disk refuses, and StorageError if a
    symbolic link, or a file, is in the place of a folder: nothing is written through a link.
    """

    def __init__(self, out: Path) -> None:
        super().__init__(out)
        self.private = out / paths.PRIVATE
        self.inputs = self.private / paths.INPUTS
        self._lock: FolderLock | None = None
        self._journal = AnswerJournal(self._incoming)
        self._durable = self.private / paths.DURABLE

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder and hold it for this process; remove it at the end if it is unused.

        Raises:
            FolderBusyError: Another run holds it.
            StorageError: It can't be written, or a symbolic link is in it.
        """
        with (
            locked_folder(self._tree) as lock,
            closing(self._incoming),
            closing(self._journal),
        ):
            try:
                # Before anything is sent, so that every answer can be published.
                for folder in _FOLDERS:
                    self._check_folder(folder)
                self._had_no_images = not any(map(self._exists, (paths.IMAGES, paths.DRAFTS)))
            except OSError as error:
                raise unwritable(self.out, error) from error
            self._lock = lock
            try:
                yield
            finally:
                self._lock = None

    def check(self, call_id: str) -> None:
        """Check that the folder is still the locked one, and that an image can get its name.

        Raises:
            StorageError: It was moved or replaced, or a link or a file is where a folder must be.
        """
        if self._lock is not None:
            self._lock.check()
        self._check_folder(f"{paths.IMAGES}/{call_id}".rpartition("/")[0])

    def root(self) -> int:
        """Return the descriptor of the folder, open until the lock is released."""
        return self._tree.root()

    def durable_bytes(self) -> int | None:
        """Return the noted durable size of `results.jsonl`; 0 if damaged, None without a note."""
        try:
            noted = int(read_at_most(self._durable, _NOTE_BYTES))
        except FileNotFoundError:
            return None
        except ValueError:
            return 0
        return noted if 0 <= noted <= _MAX_NOTED_BYTES else 0

    def note_durable(self, end_bytes: int) -> None:
        """Note that `results.jsonl` is durable up to `end_bytes`. Call it afterwards.

        Only the file's creation is made durable. After a power cut it may hold an earlier size,
        and recovery checks more rows.
        """
        with self._open_private() as private:
            is_new = not is_in(paths.DURABLE, private)
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
            descriptor = open_regular(
                paths.DURABLE, flags, 0o600, dir_fd=private, shown=self._durable
            )
            try:
                note = b"%020d" % end_bytes
                if os.fstat(descriptor).st_size > len(note):
                    os.ftruncate(descriptor, 0)  # of a damaged one
                os.pwrite(descriptor, note, 0)
                if is_new:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if is_new:
                sync(private)

    def set_aside(self, name: str, blocks: Iterable[bytes]) -> Path:
        """Write blocks durably into a new file `name.1`, `name.2` …, and return its path."""
        with self._open_private() as private:
            free = next(each for each in _numbered(name) if not is_in(each, private))
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with os.fdopen(os.open(free, flags, 0o600, dir_fd=private), "wb") as file:
                file.writelines(blocks)
                file.flush()
                os.fsync(file.fileno())
            sync(private)
        return self.private / free

    def rescued_rows(self) -> list[Path]:
        """Return the files of rows that earlier runs kept when `results.jsonl` was replaced."""
        return sorted(self.private.glob(f"{paths.RESCUED_RESULTS}.*"))

    def remove_rescued_rows(self) -> None:
        """Remove these files, once their rows are durable in `results.jsonl`."""
        for path in self.rescued_rows():
            path.unlink()

    def write_summary(self, data: bytes) -> None:
        """Write `summary.json` whole or not at all."""
        via = Path(paths.PRIVATE, paths.SUMMARY)
        self._check_folder(paths.PRIVATE)
        write_atomically(Path(paths.SUMMARY), data, durable=True, via=via, dir_fd=self._tree.root())

    def append_run(self, line: Mapping[str, Any]) -> None:
        """Append a line to `runs.jsonl`, durably."""
        data = orjson.dumps(line, option=orjson.OPT_UTC_Z)
        append_line(self._tree.root(), paths.RUNS, data)

    def summarized_answers(self) -> int:
        """Return the calls with an answer that `summary.json` counts; 0 if it can't be read."""
        by_status = read_summary(self.out).get("by_status")
        if not isinstance(by_status, dict):
            return 0
        counts = [by_status.get(status) for status in _ANSWERED]
        return sum(number for number in counts if type(number) is int and number > 0)

    def remove_summary(self) -> None:
        """Remove `summary.json`, whose rows are gone."""
        with suppress(FileNotFoundError):
            os.unlink(paths.SUMMARY, dir_fd=self._tree.root())

    def clear_inputs(self) -> None:
        """Remove the downscaled input images, once no call is left that would send them."""
        if self._lock is not None:
            self._lock.check()
        if self.inputs.exists():
            shutil.rmtree(self.inputs)

    def stage(self, call_id: str, attempt: int, sent_at: datetime | None = None) -> StagedAnswer:
        """Return the staged files of an attempt; with `sent_at`, its answer is journaled."""
        return StagedAnswer(self._incoming, staged_name(call_id, attempt), self._journal, sent_at)

    def staged_files(self, call_id: str, attempt: int) -> list[Path]:
        """Return the files of an attempt that were not published."""
        return sorted(self._incoming.path.glob(f"{staged_name(call_id, attempt)}.*"))

    def has_staged_files(self) -> bool:
        """Return whether a killed run left staged files."""
        return self._incoming.path.exists() and any(self._incoming.path.iterdir())

    def remove_staged_files(self, keep: Iterable[JournaledAnswer] = ()) -> int:
        """Remove the staged files of a killed run; return the number of images among them.

        The files of the answers in `keep` stay.
        """
        kept = {stem for answer in keep for stem in (answer.name, answer.file.stem)}
        images, incoming = 0, self._incoming.descriptor
        for name in os.listdir(incoming):  # noqa: PTH208  # of an open folder
            if (path := Path(name)).stem not in kept:
                is_image = path.suffix not in {*_NEXT_SUFFIX, paths.ASIDE_SUFFIX}
                found = os.stat(name, dir_fd=incoming, follow_symlinks=False)
                images += is_image and found.st_size > 0
                os.unlink(name, dir_fd=incoming)
        return images

    def journaled_answer(self, call_id: str) -> JournaledAnswer | None:
        """Return the newest complete answer of a call without a row, or None."""
        of_call = staged_name(call_id, 0).removesuffix("0")
        files = map(self._incoming.path.glob, (f"*{each}" for each in _NEXT_SUFFIX))
        answers = filter(None, (read_journaled(file, of_call) for file in chain(*files)))
        return max(answers, key=lambda answer: answer.finished_at, default=None)

    @contextmanager
    def trying(self, answer: JournaledAnswer) -> Iterator[JournaledAnswer]:
        """Process a journaled answer in the block, under another name of its file.

        If the block ends the process, the answer is tried once more by the next run; then
        `set_tried_aside` moves it. If the disk refuses, or the block leaves it, it stays as it is.
        """
        tried = answer.file.with_suffix(_NEXT_SUFFIX[answer.file.suffix])
        self._rename_in_incoming(answer.file.name, tried.name)
        try:
            yield replace(answer, file=tried)
        except (OSError, StorageError):
            self._rename_in_incoming(tried.name, answer.file.name)
            raise
        with suppress(FileNotFoundError):
            self._rename_in_incoming(tried.name, answer.file.name)

    def remove_journaled(self, answer: JournaledAnswer) -> None:
        """Remove the files of a journaled answer that has its row now."""
        for path in (*self._incoming.path.glob(f"{answer.name}.*"), answer.file):
            if path.suffix != paths.LATE_SUFFIX:  # published soon
                os.unlink(path.name, dir_fd=self._incoming.descriptor)

    def set_tried_aside(self) -> list[Path]:
        """Move the answers that ended two runs, with their images, out of the way.

        Return the file of each one in `set-aside/`; its images are next to it.
        """
        files = sorted(self._incoming.path.glob(f"*{paths.TRIED_AGAIN_SUFFIX}"))
        return [self.set_answer_aside(file, read_journaled(file, "")) for file in files]

    def set_answer_aside(self, file: Path, answer: JournaledAnswer | None) -> Path:
        """Move a journaled answer and its images into `set-aside/`; return the new path."""
        folder, incoming = f"{paths.PRIVATE}/{paths.SET_ASIDE}", self._incoming.descriptor
        images = [Path(image.file).name for image in answer.images] if answer else []
        target = self._tree.open(folder, make=True, durable=True)
        try:
            free = next(each for each in _numbered("answer") if not is_in(each, target))
            for number, name in enumerate(images):
                new_name = f"{free}.image-{number}"
                os.rename(name, new_name, src_dir_fd=incoming, dst_dir_fd=target)
            os.rename(file.name, free, src_dir_fd=incoming, dst_dir_fd=target)
            sync(target)
        finally:
            os.close(target)
        return self.out / folder / free

    @contextmanager
    def _open_private(self) -> Iterator[int]:
        descriptor = self._tree.open(paths.PRIVATE)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _numbered(name: str) -> Iterator[str]:
    return (f"{name}.{number}" for number in count(1))
