"""The output folder: staged files, published images, superseded images, and the lock.

`output.paths` shows its layout.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from itertools import chain, count, takewhile
from pathlib import Path

from gemini_batch.errors import StorageError
from gemini_batch.output import paths
from gemini_batch.output.dimensions import pixels
from gemini_batch.output.files import fsync_all, write_atomically
from gemini_batch.output.lock import locked_folder, unwritable
from gemini_batch.output.staging import (
    AnswerJournal,
    JournaledAnswer,
    StagedAnswer,
    read_journaled,
    staged_name,
)
from gemini_batch.records import ImageFile, IncomingImage, media_types

_FOLDERS = (f"{paths.PRIVATE}/{paths.INCOMING}", paths.IMAGES, paths.DRAFTS, paths.SUPERSEDED)
# Extensions that an earlier image of a call may have.
_EXTENSIONS = (*media_types.EXTENSIONS.values(), media_types.UNKNOWN_EXTENSION)
_MAX_CHECKED_FOLDERS = 10_000


class OutputFolder:
    """The files of one output folder. Paths in arguments and results are relative to it.

    Methods that read or change files raise OSError if the disk refuses, and StorageError if a
    symbolic link leads out of the folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        # Joining with pathlib would cost a tiny answer as much as sending it.
        self._prefix = f"{out}/"
        self.private = out / paths.PRIVATE
        self.inputs = self.private / paths.INPUTS
        self._incoming = self.private / paths.INCOMING
        self._journal = AnswerJournal(self._incoming)
        self._durable = self.private / paths.DURABLE
        self._had_no_images = False  # when it was locked: nothing can be superseded
        self._checked_folders: set[str] = set()
        self._moved: set[str] = set()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder and hold it for this process; remove it at the end if it is unused.

        Raises:
            FolderBusyError: Another run holds it.
            StorageError: It can't be written, or a symbolic link leads out of it.
        """
        try:
            # Before anything is sent, so that every answer can be published.
            for folder in _FOLDERS:
                self._check_inside(folder)
            self._had_no_images = not self._exists(paths.IMAGES) and not self._exists(paths.DRAFTS)
        except OSError as error:
            raise unwritable(self.out, error) from error
        with locked_folder(self.out), closing(self._journal):
            yield

    def durable_bytes(self) -> int | None:
        """Return the noted durable size of `results.jsonl`; 0 if damaged, None without a note."""
        try:
            return int(self._durable.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            return 0

    def note_durable(self, end_bytes: int) -> None:
        """Note that `results.jsonl` is durable up to `end_bytes`. Call it afterwards.

        Only the file's creation is made durable. After a power cut it may hold an earlier size,
        and recovery checks more rows.
        """
        is_new = not self._durable.exists()
        descriptor = os.open(self._durable, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            os.pwrite(descriptor, b"%020d" % end_bytes, 0)
            if is_new:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            fsync_all([self.private])

    def set_aside(self, name: str, data: bytes) -> Path:
        """Write data durably into a new file `name.1`, `name.2` …, and return its path."""
        names = (self.private / f"{name}.{number}" for number in count(1))
        path = next(path for path in names if not path.exists())
        write_atomically(path, data, durable=True)
        fsync_all([self.private])
        return path

    def clear_inputs(self) -> None:
        """Remove the downscaled input images, once no call is left that would send them."""
        if self.inputs.exists():
            shutil.rmtree(self.inputs)

    def stage(self, call_id: str, attempt: int, sent_at: datetime | None = None) -> StagedAnswer:
        """Return the staged files of an attempt; with `sent_at`, its answer is journaled."""
        return StagedAnswer(self._incoming, staged_name(call_id, attempt), self._journal, sent_at)

    def staged_files(self, call_id: str, attempt: int) -> list[Path]:
        """Return the files of an attempt that were not published."""
        return sorted(self._incoming.glob(f"{staged_name(call_id, attempt)}.*"))

    def has_staged_files(self) -> bool:
        """Return whether a killed run left staged files."""
        return self._incoming.exists() and any(self._incoming.iterdir())

    def remove_staged_files(self, keep: Iterable[JournaledAnswer] = ()) -> int:
        """Remove the staged files of a killed run; return the number of images among them.

        The files of the answers in `keep` stay.
        """
        kept = {stem for answer in keep for stem in (answer.name, answer.file.stem)}
        images = 0
        for path in list(self._incoming.iterdir()):
            if path.stem not in kept:
                images += path.suffix != paths.ANSWER_SUFFIX and path.stat().st_size > 0
                path.unlink()
        return images

    def journaled_answer(self, call_id: str) -> JournaledAnswer | None:
        """Return the newest complete answer of a call without a row, or None."""
        of_call = staged_name(call_id, 0).removesuffix("0")
        files = self._incoming.glob(f"*{paths.ANSWER_SUFFIX}")
        answers = filter(None, (read_journaled(file, of_call) for file in files))
        return max(answers, key=lambda answer: answer.finished_at, default=None)

    def remove_journaled(self, answer: JournaledAnswer) -> None:
        """Remove the files of a journaled answer that has its row now."""
        for path in (*self._incoming.glob(f"{answer.name}.*"), answer.file):
            path.unlink()

    def describe(self, image: IncomingImage, stem: str) -> ImageFile:
        """Return the row's entry for an image that will be published at `stem` plus extension."""
        mime_type = media_types.sniff(image.head) or image.mime_type or "application/octet-stream"
        width, height = media_types.png_pixels(image.head) or pixels(image.file)
        path = stem + media_types.extension(mime_type)
        return ImageFile(path, mime_type, image.size_bytes, width, height, image.sha256)

    def publish(self, staged: str, path: str) -> None:
        """Give a staged file its final name. An earlier file there moves to `superseded/`."""
        if self._exists(path):
            self._supersede(path)
        self._move(staged.removeprefix(self._prefix), path)

    def retire(self, call_id: str) -> None:
        """Move the image and the drafts of an earlier row of this call to `superseded/`."""
        if self._had_no_images:
            return  # no call is answered twice in one run
        found = self._existing(f"{paths.IMAGES}/{call_id}")
        if self._exists(paths.DRAFTS):
            drafts = (self._existing(f"{paths.DRAFTS}/{call_id}.{number}") for number in count(1))
            found += chain.from_iterable(takewhile(bool, drafts))
        for path in found:
            self._supersede(path)

    def _existing(self, stem: str) -> list[str]:
        return [path for extension in _EXTENSIONS if self._exists(path := stem + extension)]

    def _exists(self, path: str) -> bool:
        return os.path.lexists(self._prefix + path)

    def _supersede(self, path: str) -> None:
        wanted = Path(paths.SUPERSEDED, path.removeprefix(f"{paths.IMAGES}/"))
        others = (wanted.with_name(f"{wanted.stem}.{number}{wanted.suffix}") for number in count(2))
        free = next(name for name in chain([wanted], others) if not self._exists(str(name)))
        self._move(path, str(free))

    def _move(self, source: str, path: str) -> None:
        for name in (source, path):
            self._check_inside(name.rpartition("/")[0])
        file, target = self._prefix + source, self._prefix + path
        try:
            os.rename(file, target)  # noqa: PTH104  # a `Path` takes as long as the renaming
        except FileNotFoundError:
            if not self._exists(source):  # perhaps the output folder is gone: do not recreate it
                raise
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            os.rename(file, target)  # noqa: PTH104  # as above
        self.mark_moved(source)
        self.mark_moved(path)

    def _check_inside(self, folder: str) -> None:
        """Check that a folder is below the output folder, before it is used."""
        if folder in self._checked_folders:
            return
        if not _resolved(self.out / folder).is_relative_to(_resolved(self.out)):
            raise StorageError(
                f"{self.out / folder}: a symbolic link leads out of {self.out}; "
                "remove it, or choose another folder with --out"
            )
        if len(self._checked_folders) >= _MAX_CHECKED_FOLDERS:
            self._checked_folders.clear()
        self._checked_folders.add(folder)

    def mark_moved(self, path: str) -> None:
        """Note that a file got or lost this name."""
        self._moved.add(path.rpartition("/")[0] or ".")

    def moved(self) -> list[str]:
        """Return the folders changed since the last call, and their parents, inner ones first."""
        folders, self._moved = self._moved, set()
        parents = {str(parent) for folder in folders for parent in Path(folder).parents}
        return sorted(folders | parents, reverse=True)

    def sync(self, names: Iterable[str]) -> None:
        """Make the content of files, or the names in folders, durable."""
        fsync_all(self._prefix + name for name in names)


def _resolved(folder: Path) -> Path:
    """Return the real path of a folder that may not exist yet.

    Raises:
        OSError: Its symbolic links form a loop. (`Path.resolve` raises by Python version.)
    """
    with suppress(FileNotFoundError):
        folder.stat()
    return Path(os.path.realpath(folder))
