"""The output folder: incoming parts, finished images, what they supersede, and the lock.

::

    OUT/images/…            the image of each call, named by its id
    OUT/drafts/…            interim images that came with an answer, paid for as well
    OUT/superseded/…        images whose job was edited and run again
    OUT/.gemini_batch/      lock · incoming/ · durable · in-flight log · inputs/ · thumbnails/: nothing that a person needs
"""

import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import chain, count
from pathlib import Path

from gemini_batch.errors import StorageError
from gemini_batch.output.dimensions import pixels
from gemini_batch.output.files import fsync_all
from gemini_batch.output.lock import hold
from gemini_batch.output.paths import (
    ANSWER_SUFFIX,
    DRAFTS,
    DURABLE,
    IMAGES,
    INCOMING,
    INPUTS,
    LOCK,
    PRIVATE,
    SUPERSEDED,
)
from gemini_batch.output.staging import (
    AnswerJournal,
    JournaledAnswer,
    StagedAnswer,
    journaled_name,
    read_journaled,
    staged_name,
)
from gemini_batch.records import ImageFile, IncomingImage, media_types

# What is known by its bytes and so may be the name of an earlier image.
_EXTENSIONS = (*media_types.EXTENSIONS.values(), media_types.UNKNOWN_EXTENSION)
_MAX_KNOWN_FOLDERS = 10_000


class OutputFolder:
    """The files of one output folder. Paths that it takes and gives are relative to the folder."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self._prefix = (
            f"{out}/"  # joining paths with pathlib would cost a tiny answer as much as sending it
        )
        self.private = out / PRIVATE
        self.inputs = self.private / INPUTS
        self._incoming = self.private / INCOMING
        self._journal = AnswerJournal(self._incoming)
        self._durable = self.private / DURABLE
        self._was_empty = False  # when it was locked: then there is nothing to retire
        self._known_folders: set[str] = set()
        self._moved: set[str] = set()

    # --- the folder as a whole ----------------------------------------------------------------------------------------

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and hold it for this process; a folder that nothing came into is gone afterwards.

        Raises:
            FolderBusyError: Another run holds it.
            StorageError: It can't be made or written, or a symbolic link leads out of it.
        """
        made: list[Path] = []
        try:
            # Found out before anything is sent: could what comes in be placed?
            for folder in (f"{PRIVATE}/{INCOMING}", IMAGES, DRAFTS, SUPERSEDED):
                self._check_inside(folder)
            made += (folder for folder in (self.out, *self.out.parents) if not folder.exists())
            self._was_empty = not self._is_there(IMAGES) and not self._is_there(DRAFTS)
            lock = hold(self.private / LOCK, self.out)
        except OSError as error:
            _remove_empty(made)
            raise self._unusable(error) from error
        try:
            self._complete(made)
            yield
        finally:
            self._journal.close()
            if made:
                self._leave_no_trace(made)
            os.close(lock)

    def _complete(self, made: list[Path]) -> None:
        try:
            self._incoming.mkdir(exist_ok=True)
            fsync_all(folder.parent for folder in made)
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, error: OSError) -> StorageError:
        return StorageError(
            f"{self.out}: can't be written: {error.strerror}; choose another folder by --out"
        )

    def _leave_no_trace(self, made: list[Path]) -> None:
        """Remove a folder that this run made, if nothing came into it; the lock is still held."""
        lock = self.private / LOCK
        own = {self._incoming, self._durable, lock}
        with suppress(OSError):  # something is in it after all, or it is gone already
            if set(self.out.iterdir()) == {self.private} and own.issuperset(self.private.iterdir()):
                self._incoming.rmdir()
                self._durable.unlink(missing_ok=True)
                lock.unlink()
                _remove_empty([self.private, *made])

    def durable_bytes(self) -> int | None:
        """Return up to where `results.jsonl` is known to be on the disk: 0 when the note is damaged, None when there is none."""
        try:
            return int(self._durable.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            return 0

    def note_durable(self, end_bytes: int) -> None:
        """Note that `results.jsonl` is durable up to `end_bytes`, after it is.

        The file is made durable once; what it says later may be older after a power cut, which makes recovery look at more.

        Raises:
            OSError: The disk would not.
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
        """Write what was cut off somewhere into a new file of its own, durably; return its path.

        Raises:
            OSError: The disk would not.
        """
        path = next(
            path for number in count(1) if not (path := self.private / f"{name}.{number}").exists()
        )
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fsync_all([self.private])
        return path

    # --- parts --------------------------------------------------------------------------------------------------------

    def stage(self, call_id: str, attempt: int, sent_at: datetime | None = None) -> StagedAnswer:
        """Return where the images of an attempt go while they arrive; with `sent_at`, its answer is kept until it has a row.

        Raises:
            OSError: The disk would not take an answer.
        """
        journal = None if sent_at is None else self._journal
        return StagedAnswer(self._incoming, staged_name(call_id, attempt), sent_at, journal)

    def has_journaled_answers(self) -> bool:
        """Return whether a killed run left any answer that is whole."""
        return any(map(journaled_name, self._incoming.glob(f"*{ANSWER_SUFFIX}")))

    def journaled_answer(self, call_id: str) -> JournaledAnswer | None:
        """Return the newest answer of a call that arrived whole and got no row; None without one."""
        of_call = staged_name(call_id, 0).removesuffix("0")
        files = (
            file
            for file in self._incoming.glob(f"*{ANSWER_SUFFIX}")
            if journaled_name(file).startswith(of_call)
        )
        found = [answer for file in files if (answer := read_journaled(file)) is not None]
        return max(found, key=lambda answer: answer.finished_at, default=None)

    def remove_journaled(self, kept: JournaledAnswer) -> None:
        """Remove what is left of a kept answer that has its row."""
        for path in (*self._incoming.glob(f"{kept.name}.*"), kept.file):
            path.unlink()

    def has_staged_files(self) -> bool:
        """Return whether a killed run left parts behind."""
        return self._incoming.exists() and any(self._incoming.iterdir())

    def remove_staged_files(self, kept: Collection[str] = ()) -> int:
        """Remove the parts that a killed run left behind, but not those of kept answers, by name; return how many images there were."""
        images = 0
        for path in list(self._incoming.iterdir()):
            is_answer = path.suffix == ANSWER_SUFFIX
            if (journaled_name(path) if is_answer else path.stem) not in kept:
                images += not is_answer and path.stat().st_size > 0
                path.unlink()
        return images

    def clear_inputs(self) -> None:
        """Remove the smaller copies of input images: no call is left that would send them.

        Raises:
            OSError: The disk would not.
        """
        if self.inputs.exists():
            shutil.rmtree(self.inputs)

    def staged_files(self, call_id: str, attempt: int) -> list[Path]:
        """Return the parts of an attempt that are still incoming."""
        return sorted(path for path in self._incoming.glob(f"{staged_name(call_id, attempt)}.*"))

    # --- images -------------------------------------------------------------------------------------------------------

    def describe(self, image: IncomingImage, stem: str) -> ImageFile:
        """Return what a row says of an image that will be placed at `stem` and the extension that its bytes ask for."""
        mime_type = media_types.sniff(image.head) or image.mime_type or "application/octet-stream"
        width, height = media_types.png_pixels(image.head) or pixels(image.file)
        path = stem + media_types.extension(mime_type)
        return ImageFile(path, mime_type, image.size_bytes, width, height, image.sha256)

    def retire(self, call_id: str) -> None:
        """Move the image and the drafts that an earlier row of this call left in place to `superseded/`.

        Raises:
            OSError: The disk would not.
            StorageError: A symbolic link leads out of the folder.
        """
        if self._was_empty:
            return  # no call is answered twice in one run
        for path in self._images_of(call_id):
            self._supersede(path)

    def _images_of(self, call_id: str) -> Iterator[str]:
        yield from self._existing(f"{IMAGES}/{call_id}")
        if not self._is_there(DRAFTS):
            return
        for number in count(1):
            drafts = self._existing(f"{DRAFTS}/{call_id}.{number}")
            if not drafts:
                return
            yield from drafts

    def _existing(self, stem: str) -> list[str]:
        return [path for extension in _EXTENSIONS if self._is_there(path := stem + extension)]

    def _is_there(self, path: str) -> bool:
        return os.path.lexists(self._prefix + path)

    def publish(self, staged: str, path: str) -> None:
        """Give an incoming part its final place; what stands there already is never overwritten but moves to `superseded/`.

        Raises:
            OSError: The disk would not.
            StorageError: A symbolic link leads out of the folder.
        """
        if self._is_there(path):
            self._supersede(path)
        self._move(staged.removeprefix(self._prefix), path)

    def _supersede(self, path: str) -> None:
        wanted = Path(SUPERSEDED, path.removeprefix(f"{IMAGES}/"))
        others = (wanted.with_name(f"{wanted.stem}.{number}{wanted.suffix}") for number in count(2))
        free = next(name for name in chain([wanted], others) if not self._is_there(str(name)))
        self._move(path, str(free))

    def _move(self, source: str, path: str) -> None:
        for name in (source, path):
            self._check_inside(name.rpartition("/")[0])
        file, target = self._prefix + source, self._prefix + path
        try:
            os.rename(file, target)  # noqa: PTH104  # making a `Path` takes as long as the renaming
        except FileNotFoundError:
            if not self._is_there(
                source
            ):  # the whole folder has gone, perhaps: nothing comes into being where it was
                raise
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            os.rename(file, target)  # noqa: PTH104  # as above
        self.mark_moved(source)
        self.mark_moved(path)

    def _check_inside(self, folder: str) -> None:
        """Make sure, before anything is made or moved, that a folder is below the output folder."""
        if folder in self._known_folders:
            return
        if not _led_to(self.out / folder).is_relative_to(_led_to(self.out)):
            raise StorageError(
                f"{self.out / folder}: a symbolic link leads out of {self.out}; remove it, or choose another --out"
            )
        if len(self._known_folders) >= _MAX_KNOWN_FOLDERS:
            self._known_folders.clear()
        self._known_folders.add(folder)

    # --- durability ---------------------------------------------------------------------------------------------------

    def mark_moved(self, path: str) -> None:
        """Note that a file got or lost this name."""
        self._moved.add(path.rpartition("/")[0] or ".")

    def moved(self) -> list[str]:
        """Return the folders in which files got or lost a name since this was asked last, and the folders above them."""
        folders, self._moved = self._moved, set()
        above = {str(parent) for folder in folders for parent in Path(folder).parents}
        return sorted(folders | above, reverse=True)  # inner folders first

    def sync(self, paths: Iterable[str]) -> None:
        """Make files, or the names in folders, durable.

        Raises:
            OSError: The disk would not.
        """
        fsync_all(self._prefix + path for path in paths)


def _led_to(folder: Path) -> Path:
    """Return where a folder is, or would be, in the end.

    Raises:
        OSError: Nowhere: its links lead in a circle. `Path.resolve` has an error of its own for that, or none, by Python's version.
    """
    with suppress(FileNotFoundError):
        folder.stat()
    return Path(os.path.realpath(folder))


def _remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders, inner ones first, as long as they are empty."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()
