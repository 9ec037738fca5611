"""Finished calls that are made again: for a reason of `--retry`, or as `--redo` names them."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from gemini_batch.config import Settings
from gemini_batch.hashmap import HashMap64, fingerprint
from gemini_batch.output.marks import Marks
from gemini_batch.output.rows import newest_rows, placed_marked_rows
from gemini_batch.plan.part import Part
from gemini_batch.records import Status

DISCARDED = "discarded"
"""The entry of `--redo` for the calls whose newest picture the user has discarded."""

STALE = "stale"
"""The entry of `--redo` for the calls whose inputs are pictures that were made again since."""


class Again:
    """Finished calls that a run makes again, and pays for again.

    A picture that was made again has no mark: `discarded` takes each call once.

    Attributes:
        has_stale: Stale calls are among them; `add_stale` names each.
    """

    def __init__(self, out: Path, config: Settings) -> None:
        """Find them among the newest rows of an output folder.

        Raises:
            OSError: Rows or marks can't be read.
            StorageError: Rows are damaged.
        """
        names = [entry for entry in config.redo if entry not in {DISCARDED, STALE}]
        self._named = Part(names, None, flag="--redo") if names else None
        self.has_stale = STALE in config.redo
        self._stale: set[int] = set()
        self._discarded: set[int] = set()
        self._retried: set[int] = set()
        if DISCARDED in config.redo:
            marks = Marks(out)
            self._discarded = {
                fingerprint(row["id"])
                for place, is_newest, row in placed_marked_rows(out, brief=True)
                if is_newest and marks.of_row(place, row).choice == "discard"
            }
        if config.retry_missing or config.retry_reasons:
            stored = _stored_images(out, config) if config.retry_missing else HashMap64()
            self._retried = {
                fingerprint(row["id"])
                for row in newest_rows(out, brief=True)
                if _is_retried(row, config.retry_reasons)
                or (config.retry_missing and _misses_an_image(row, out, stored))
            }

    @property
    def is_any(self) -> bool:
        """True if finished calls may be made again."""
        return bool(self._named or self._discarded or self._retried or self.has_stale)

    @property
    def has_discarded(self) -> bool:
        """True if newest pictures are discarded that are made again."""
        return bool(self._discarded)

    def has(self, call_id: str) -> bool:
        """Return whether a finished call is made again."""
        return self.redoes(call_id) or fingerprint(call_id) in self._retried

    def redoes(self, call_id: str) -> bool:
        """Return whether the user wants another picture than the one that is there."""
        if self._named is not None and self._named.names(call_id):
            return True
        call = fingerprint(call_id)
        return call in self._discarded or call in self._stale

    def add_stale(self, call_id: str) -> None:
        """Let a call be made again, because it is stale."""
        self._stale.add(fingerprint(call_id))

    def check(self, source: str) -> None:
        """Check that each entry of `--redo` names a call; raises as `Part.check`."""
        if self._named is not None:
            self._named.check(source)


def _is_retried(row: Mapping[str, Any], reasons: Collection[str]) -> bool:
    return row["status"] == Status.BLOCKED and _reason(row).upper() in reasons


def _stored_images(out: Path, config: Settings) -> HashMap64:
    """Return hashes of the paths of images in the bucket of a run; none without one."""
    found = HashMap64()
    if config.bucket is not None:
        from gemini_batch.output.bucket.generations import begun, image_names
        from gemini_batch.store.opening import open_store

        store = open_store(config.bucket)
        for name in image_names(store, begun(store, out)):
            found.put(fingerprint(name), 1)
    return found


def _misses_an_image(row: Mapping[str, Any], out: Path, stored: HashMap64) -> bool:
    """Return whether an image is neither in the folder nor in the bucket."""
    return any(
        stored.get(fingerprint(image["path"])) is None and not (out / image["path"]).exists()
        for image in row["images"]
    )


def _reason(row: Mapping[str, Any]) -> str:
    """Return why a row has no image, as the summary counts it; "" if an edited row has no text."""
    reasons = (row.get("block_reason"), row.get("finish_reason"))
    return next((each for each in reasons if isinstance(each, str) and each), "")
