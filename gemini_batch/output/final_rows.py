"""Rows of calls that are done, by column: to plan the next run, little of them is needed."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from gemini_batch.config.endpoints import service
from gemini_batch.hashmap import MASK, fingerprint, fingerprints
from gemini_batch.output.paths import IMAGES, id_of_image
from gemini_batch.records import Status, ids

FINAL = frozenset({Status.SUCCEEDED, Status.BLOCKED, Status.REJECTED, Status.UNCERTAIN})
"""A call whose newest row has one of these is done, unless `Settings.retry` names the status."""
STATUSES = list(Status)
NUMBER_OF = {status: number for number, status in enumerate(STATUSES)}
STATUS_MASK = (1 << 4) - 1
REQUEST_MASK = MASK & ~((1 << 6) - 1)
_FINAL_NUMBER = {status: NUMBER_OF[status] for status in FINAL}
_AT_ONCE = 256


@dataclass(slots=True)
class FinalRows:
    """Rows that follow each other, each of one request to the API whose call is done.

    Attributes:
        places: See `placed_rows`.
        calls: Fingerprints of the ids.
        requests: See `request_hash`; the last bits are the status.
        images: Fingerprints of the ids of those rows whose own image is named by their id.
    """

    places: Sequence[int] = ()
    calls: Sequence[int] = ()
    requests: Sequence[int] = ()
    images: Sequence[int] = ()


class Noting(Protocol):
    """A summary of earlier rows, which are given to it in their order."""

    def note(self, place: int, row: Mapping[str, Any]) -> None:
        """Note a row of `placed_rows`."""

    def note_final(self, rows: FinalRows) -> None:
        """Note rows of calls that are done."""


EarlierRows: TypeAlias = Iterable[FinalRows | tuple[int, dict[str, Any]]]


def note_all(rows: EarlierRows, notings: Sequence[Noting]) -> None:
    """Give all rows to each of some."""
    for each in rows:
        if isinstance(each, FinalRows):
            for noting in notings:
                noting.note_final(each)
        else:
            for noting in notings:
                noting.note(*each)


def request_hash(request_sha256: str, endpoint: str) -> int:
    """Return the hash of a request and of its service, with room for a few notes at its end."""
    return fingerprint((request_sha256, service(endpoint))) & REQUEST_MASK


def by_column(
    rows: Iterable[tuple[int, dict[str, Any]]], *, has_images: bool = True
) -> Iterator[FinalRows | tuple[int, dict[str, Any]]]:
    """Yield rows of one folder in their order, those of calls that are done many at once.

    Without `has_images`, none of them has images by column.
    """
    places: list[int] = []
    names: list[str] = []
    requests: list[tuple[str, str]] = []
    numbers: list[int] = []
    images: list[str] = []

    def taken() -> Iterator[FinalRows]:
        if not places:
            return
        hashes = [
            each & REQUEST_MASK | number
            for each, number in zip(map(hash, requests), numbers, strict=True)
        ]
        yield FinalRows(places.copy(), fingerprints(names), hashes, fingerprints(images))
        for column in (places, names, requests, numbers, images):
            column.clear()

    for place, row in rows:
        number = _FINAL_NUMBER.get(row["status"])
        if number is None or row.get("route") != "interactive" or row.get("remote_images"):
            yield from taken()
            yield place, row
            continue
        call_id = row["id"]
        places.append(place)
        names.append(call_id)
        requests.append((row["request_sha256"], service(row["endpoint"])))
        numbers.append(number)
        if has_images and any(is_own_image(each["path"], call_id) for each in row["images"]):
            images.append(ids.normal(call_id))
        if len(places) == _AT_ONCE:
            yield from taken()
    yield from taken()


def is_own_image(path: str, call_id: str, prefix: str = f"{IMAGES}/") -> bool:
    """Return whether an image below a folder is named by the id of its call."""
    # Most images are PNG, and what follows takes a microsecond.
    return path == f"{prefix}{call_id}.png" or (
        id_of_image(path.removeprefix(prefix)) == ids.normal(call_id)
    )
