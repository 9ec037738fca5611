"""Opens a manifest: JSONL as it is, a table as JSONL in a temporary file."""

import os
import stat
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

from gemini_batch.config.keys import open_at_once
from gemini_batch.errors import storage_errors
from gemini_batch.manifest import file_kind
from gemini_batch.manifest.reader import Manifest

if TYPE_CHECKING:  # most manifests are not tables
    from gemini_batch.manifest.tables import Table

SPOOL_ADVICE = "make space for temporary files, or set TMPDIR"


def open_manifest(path: Path, name: str | None = None) -> Manifest:
    """Open a manifest, whose `name`, else its path, is in messages.

    A table is copied, as it is now; a line of the copy has the number of its row's first line, so
    that rows and messages have the number that an editor shows.

    Raises:
        ManifestError: It is missing, unreadable, or not a regular file.
        StorageError: There is no space for the copy.
    """
    file = _table(path) if path.suffix.lower() in file_kind.TABLES else None
    if file is None:
        return Manifest(path, name)
    import tempfile

    with (
        file,
        storage_errors(f"{name or path}: can't be copied; {SPOOL_ADVICE}"),
        tempfile.NamedTemporaryFile(prefix="gemini_batch-", suffix=".jsonl") as spool,
    ):
        manifest = Manifest(Path(spool.name), name or str(path))
        try:
            _copy(file, path.suffix.lower(), spool, manifest)
            spool.flush()
        except BaseException:
            manifest.close()
            raise
        return manifest  # and the copy has no name


def opened_text(path: Path) -> tuple[BinaryIO, bytes] | None:
    """Return a regular file and its first bytes; None if it can't be read."""
    try:
        file = open(path, "rb", opener=open_at_once)  # noqa: SIM115
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file, file.read(file_kind.HEAD_BYTES)
    file.close()
    return None


def _table(path: Path) -> BinaryIO | None:
    """Return the file of a table; None if it can't be read, or is something else."""
    if (opened := opened_text(path)) is None:
        return None
    from gemini_batch.manifest.tables import text_of

    file, head = opened
    if text_of(head).lstrip().startswith(("{", "[")) or file_kind.binary(head):
        file.close()
        return None
    file.seek(0)
    return file


def _copy(file: BinaryIO, suffix: str, spool: IO[bytes], manifest: Manifest) -> None:
    """Write a line for each row of a table, and report what is wrong with it."""
    from gemini_batch.manifest.table_jobs import NAMES
    from gemini_batch.manifest.tables import Table

    with Table(file, suffix=suffix, names=NAMES) as table:
        _copy_rows(table, spool, manifest)


def _copy_rows(table: "Table", spool: IO[bytes], manifest: Manifest) -> None:
    from gemini_batch.manifest.table_jobs import EXAMPLE, TableJobs

    jobs, at, rows = TableJobs(table), 1, 0
    if table.problem:
        manifest.problem(table.line, "", table.problem)
    for field, message in jobs.problems:
        manifest.problem(table.line, field, message)
    is_bad = bool(table.problem or jobs.problems)
    for row in table.rows():
        rows += 1
        if row.problem:
            manifest.problem(row.line, "", row.problem)
            continue
        line, problems = jobs.line(row.cells)
        for field, message in problems:
            manifest.problem(row.line, field, message)
        if not problems and not is_bad:
            spool.write(b"\n" * (row.line - at) + line + b"\n")
            at = row.line + 1
    if not rows and not is_bad:
        example = f"name the fields in the first row, such as {EXAMPLE}, and write one job per row"
        manifest.problem(0, "", f"has no jobs; {example}")
