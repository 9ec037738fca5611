"""Rows whose file others replaced during a run: noticed in time, and kept for the next run."""

from gemini_batch.errors import StorageError, storage_errors
from gemini_batch.output.folder import OutputFolder
from gemini_batch.output.paths import RESCUED_RESULTS
from gemini_batch.output.results_file import ResultsFile


class RowsWatch:
    """Checks that rows go where the next run reads them."""

    def __init__(self, rows: ResultsFile, folder: OutputFolder) -> None:
        self._rows = rows
        self._folder = folder
        self._problem = ""

    def check(self) -> None:
        """Check the name of the file of rows; if it leads elsewhere, keep this run's rows.

        Raises:
            StorageError: Another file has the name, or none, or others wrote to it, now or
                earlier. An answer that arrives from now on stays in the journal, and the next run
                writes its row.
        """
        if not self._problem:
            with storage_errors(f"{self._rows.path}: can't be checked"):
                found = self._rows.changed()
            if not found:
                return
            self._problem = f"{self._rows.path}: {found} during the run; {self._rescue()}"
        raise StorageError(self._problem)

    def _rescue(self) -> str:
        """Keep the rows of this run for the next one; return what becomes of them."""
        back = "put the file back if it was moved, then run again"
        if self._rows.end_bytes == self._rows.start_bytes:
            return back
        try:
            kept = self._folder.set_aside(RESCUED_RESULTS, self._rows.own_rows())
        except (OSError, StorageError) as error:
            return f"the rows of this run can't be kept ({error}); {back}"
        return f"the rows of this run are in {kept}, and the next run adds what is missing; {back}"
