"""Results for Python: the newest rows of an output folder, and their image files."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemini_batch.errors import ConfigError, StorageError
from gemini_batch.output import html
from gemini_batch.output.paths import RESULTS
from gemini_batch.output.row_lines import row_of
from gemini_batch.output.rows import newest_rows
from gemini_batch.output.shards import has_results
from gemini_batch.records import ImageFile, ResultRow

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image


@dataclass(frozen=True, slots=True)
class ResultImage(ImageFile):
    """An image of a result, and where it is.

    Attributes:
        file: Its absolute path.
    """

    _out: Path = field(default=Path(), repr=False, compare=False, kw_only=True)

    @property
    def file(self) -> Path:
        """The absolute path of the image."""
        return self._out / self.path

    def open(self) -> "Image.Image":
        """Open the image with Pillow.

        Raises:
            OSError: It is gone, or Pillow can't read it.
        """
        from PIL import Image

        return Image.open(self.file)


@dataclass(frozen=True, slots=True)
class Result(ResultRow):
    """A row of `results.jsonl` whose images can be opened; its fields are those of `ResultRow`."""

    images: list[ResultImage]  # type: ignore[assignment] # a list of a frozen row stays as it is
    drafts: list[ResultImage]  # type: ignore[assignment]

    def open(self) -> "Image.Image":
        """Open the image of the call with Pillow.

        Raises:
            ValueError: The call has no image; the text says why.
            OSError: It is gone, or Pillow can't read it.
        """
        if not self.images:
            why = self.error.message if self.error else self.block_reason or self.finish_reason
            raise ValueError(f"{self.id} has no image: {self.status.value}: {why}")
        return self.images[0].open()

    def _repr_html_(self) -> str:
        return _html([self])


class Results(list[Result]):
    """Rows of an output folder, one per call; a notebook shows the first with their pictures."""

    def to_dataframe(self) -> "pd.DataFrame":
        """Return a pandas DataFrame with a line per call.

        `file` is the absolute path of the image; usage, metadata and error are columns of their
        own, such as `usage.total_tokens` and `metadata.customer`.

        Raises:
            ImportError: pandas is not installed.
        """
        import pandas as pd

        return pd.DataFrame([_flat(row) for row in self])

    def _repr_html_(self) -> str:
        return _html(self)


def read_results(out: str | Path) -> Results:
    """Return the newest row of each call in an output folder, in the order of finishing.

    Raises:
        ConfigError: The folder has no results.
        StorageError: A line is damaged.
    """
    folder = Path(out)
    if not has_results(folder):
        raise ConfigError(f"{folder}: has no {RESULTS}; name the output folder of a run")
    results = Results()
    for row in newest_rows(folder):
        try:
            results.append(result_of(row_of(row), folder))
        except ValueError as error:
            raise StorageError(f"{folder / RESULTS}: {row['id']}: is not a row: {error}") from error
    return results


def result_of(row: ResultRow, out: Path) -> Result:
    """Return a row with the places of its images."""
    values = {each.name: getattr(row, each.name) for each in fields(row)}
    for name in ("images", "drafts"):
        values[name] = [_placed(image, out.absolute()) for image in values[name]]
    return Result(**values)


def _html(rows: list[Result]) -> str:
    return html.table([(row, row.images[0].file if row.images else None) for row in rows])


def _placed(image: ImageFile, out: Path) -> ResultImage:
    values = {each.name: getattr(image, each.name) for each in fields(ImageFile)}
    return ResultImage(**values, _out=out)


def _flat(row: Result) -> dict[str, Any]:
    image = row.images[0] if row.images else None
    found: dict[str, Any] = {
        "id": row.id,
        "status": row.status.value,
        "file": str(image.file) if image else None,
        "mime_type": image.mime_type if image else None,
        "width": image.width if image else None,
        "height": image.height if image else None,
    }
    plain = ("prompt", "text", "model", "finish_reason", "block_reason", "cost_usd", "attempts")
    found |= {name: getattr(row, name) for name in (*plain, "latency_s", "sent_at", "finished_at")}
    usage = row.usage
    for name in ("prompt_tokens", "candidates_tokens", "thoughts_tokens", "total_tokens"):
        found[f"usage.{name}"] = getattr(usage, name) if usage else None
    found["error"] = row.error.message if row.error else None
    return found | {f"metadata.{name}": value for name, value in (row.metadata or {}).items()}
