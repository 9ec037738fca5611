"""Reuse of answers from other output folders, found by their requests, copied and verified.

Identical requests of a manifest are variants, and each of them gets another answer. When these are
used up, the call is sent.
"""

import os
from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any

from gemini_batch.config.endpoints import service
from gemini_batch.errors import ConfigError, StorageError
from gemini_batch.hashmap import HashMap64, fingerprint
from gemini_batch.output import StagedAnswer
from gemini_batch.output.files import open_to_read
from gemini_batch.output.paths import RESULTS
from gemini_batch.output.rows import RowReader, newest_rows, placed_rows
from gemini_batch.output.shards import has_results
from gemini_batch.records import IncomingImage, Reply, ReusedFrom, Status

_BLOCK_BYTES = 1 << 20
_ANSWERS = (Status.SUCCEEDED, Status.PRUNED)


@dataclass(frozen=True, slots=True)
class ReusedAnswer:
    """An answer whose image was copied, without its cost and its drafts."""

    reply: Reply
    source: ReusedFrom


@dataclass(frozen=True, slots=True)
class NotReusable:
    """An answer that can't be reused after all, with the reason."""

    message: str


class Reuse:
    """The answers of other folders, at about a hundred bytes each.

    Only answers with an image count, and only those of the same service: an image of the
    simulator never replaces a real one, but one of Vertex AI and one of the Gemini API are alike.
    An answer that an earlier run copied into the output folder is not taken again.

    Args:
        folders: As the user named them, in the order of preference.
        out: The output folder. The answers that were pruned there come before all others.

    Attributes:
        reserved: The number of calls that take their answer from each folder.

    Raises:
        ConfigError: A folder has no results, they are damaged, or it is the run's own.
        StorageError: The results of the output folder are damaged.
        OSError: They can't be read.
    """

    def __init__(self, folders: Sequence[Path], endpoint: str, out: Path) -> None:
        self._folders = (*folders, out)
        self._readers = [RowReader(folder) for folder in self._folders]
        self._endpoint = endpoint
        # One entry per answer, at its number; 0 is not an answer.
        self._homes = array("H", (0,))  # the index of its folder
        self._places = array("Q", (0,))  # of its row
        self._requests = array("Q", (0,))
        self._hashes = array("Q", (0,))
        self._taken = bytearray(1)  # or superseded
        self._others = array("Q", (0,))  # the number of another answer to the same request
        self._of_request = HashMap64()  # request → number of an answer
        self._of_call = HashMap64()  # (request, id) → number of its answer
        self._in_use = HashMap64()  # hashes of answers that the output folder has or will have
        self._choices = HashMap64()  # call → number of the answer that it takes
        self.reserved = Counter[str]({str(folder): 0 for folder in folders})
        for row in newest_rows(out, brief=True):
            if _is_usable(row, endpoint):
                self._in_use.put(_hash(row), 1)
        for home in reversed(range(len(folders))):
            self._check(folders[home], out)
            self._read(home, folders[home], _ANSWERS)
        self._read(len(folders), out, (Status.PRUNED,))

    def _check(self, folder: Path, out: Path) -> None:
        if not has_results(folder):
            raise ConfigError(
                f"--reuse-from: {folder}: has no {RESULTS}; "
                "name the output folder of a run, such as jobs.out"
            )
        if folder.resolve() == out.resolve():
            raise ConfigError(
                f"--reuse-from: {folder}: is the output folder itself, whose answers count anyway"
            )

    def _read(self, home: int, folder: Path, statuses: Collection[Status]) -> None:
        newest = HashMap64()
        try:
            for place, row in placed_rows(folder, brief=True):
                if row["status"] == Status.LATE:
                    continue
                call = fingerprint(row["id"])
                if superseded := newest.get(call):
                    self._taken[superseded] = True
                is_usable = row["status"] in statuses and _is_usable(row, self._endpoint)
                newest.put(call, self._add(home, place, row) if is_usable else 0)
        except OSError as error:
            raise ConfigError(f"--reuse-from: {folder}: can't be read: {error.strerror}") from error
        except StorageError as error:
            raise ConfigError(f"--reuse-from: {error}") from error

    def _add(self, home: int, place: int, row: dict[str, Any]) -> int:
        number, request = len(self._homes), fingerprint(row["request_sha256"])
        self._homes.append(home)
        self._places.append(place)
        self._requests.append(request)
        self._hashes.append(_hash(row))
        self._taken.append(False)
        self._others.append(self._of_request.get(request) or 0)
        self._of_request.put(request, number)
        self._of_call.put(fingerprint((row["request_sha256"], row["id"])), number)
        return number

    def reserve(self, call_id: str, request_sha256: str, other_sha256: str | None = None) -> bool:
        """Reserve an answer for a call, of the same id if there is one; False if none is left.

        With `other_sha256` it is an answer to the same request by another id of its model.
        """
        for number in self._free(call_id, other_sha256 or request_sha256):
            self._taken[number] = True
            home = self._folders[self._homes[number]]
            row = self._readers[self._homes[number]].at(self._places[number], brief=True)
            if row is None or not self._is_answer(number, row) or not _has_image(home, row):
                continue
            if self._in_use.claim(self._hashes[number], 1) is not None:
                continue
            self._choices.put(fingerprint((call_id, request_sha256)), number)
            self.reserved[str(home)] += 1
            return True
        return False

    def _free(self, call_id: str, request_sha256: str) -> Iterator[int]:
        same = self._of_call.get(fingerprint((request_sha256, call_id)))
        if same and not self._taken[same]:
            yield same
        request = fingerprint(request_sha256)
        while number := self._of_request.get(request):
            self._of_request.put(request, self._others[number])
            if not self._taken[number]:
                yield number

    def _is_answer(self, number: int, row: dict[str, Any]) -> bool:
        """Return whether a row is still that of an answer which was read before."""
        return fingerprint(row["request_sha256"]) == self._requests[number]

    def has(self, call_id: str, request_sha256: str) -> bool:
        """Return whether an answer is reserved for this call."""
        return bool(self._choices.get(fingerprint((call_id, request_sha256))))

    def give_back(self, call_id: str, request_sha256: str) -> None:
        """Take no answer for this call."""
        number = self._choices.get(fingerprint((call_id, request_sha256)))
        if number:
            self.reserved[str(self._folders[self._homes[number]])] -= 1
            self.release(call_id, request_sha256)

    def release(self, call_id: str, request_sha256: str) -> None:
        """Forget the reserved answer, once it was copied or is gone."""
        self._choices.put(fingerprint((call_id, request_sha256)), 0)

    def copy(
        self,
        call_id: str,
        request_sha256: str,
        staged: StagedAnswer,
        inputs: Mapping[str, str] | None = None,
    ) -> ReusedAnswer | NotReusable:
        """Copy the reserved image and verify it. Blocks.

        The copy of an image that is not the row's is removed. `inputs` are the pictures of other
        calls that it must be made of: path → SHA-256.

        Raises:
            OSError: The copy can't be written.
        """
        number = self._choices.get(fingerprint((call_id, request_sha256))) or 0
        home = self._folders[self._homes[number]]
        row = self._readers[self._homes[number]].at(self._places[number]) if number else None
        if row is None or not self._is_answer(number, row) or not _is_usable(row, self._endpoint):
            return NotReusable(f"the row of its answer is gone from {home}")
        if inputs and (path := _other_input(row, inputs)) is not None:
            return NotReusable(f"{home}: it was made with another picture than that of {path}")
        file = home / row["images"][0]["path"]
        # A copy: with a hard link, a later edit of one file would change the other.
        copy = staged.open_image(0)
        try:
            for block in _blocks(file):
                copy.write(block)
            copy.close()
        except _UnreadableError as error:
            staged.discard()
            return NotReusable(f"{file}: can't be read: {error}")
        image = staged.arrived()[0]
        if image.sha256 != row["images"][0]["sha256"]:
            staged.discard()
            return NotReusable(f"{file}: is no longer the image of its row")
        return ReusedAnswer(_reply(row, image), ReusedFrom(str(home), row["id"]))


def _other_input(row: Mapping[str, Any], inputs: Mapping[str, str]) -> str | None:
    """Return the first path whose picture is not the one that a row was made with."""
    given = row.get("inputs")
    made_with = {
        str(each.get("path")): each.get("sha256")
        for each in (given if isinstance(given, list) else ())
        if isinstance(each, dict)
    }
    return next((path for path, sha256 in inputs.items() if made_with.get(path) != sha256), None)


class _UnreadableError(Exception):
    """An error of the other folder, in contrast to one of the output folder."""


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with open_to_read(path) as file:
            while block := file.read(_BLOCK_BYTES):
                yield block
    except OSError as error:
        raise _UnreadableError(error.strerror) from error


def _is_usable(row: dict[str, Any], endpoint: str) -> bool:
    has_answer = row["status"] in _ANSWERS
    return has_answer and service(row["endpoint"]) == service(endpoint) and len(row["images"]) == 1


def _hash(row: dict[str, Any]) -> int:
    """Return a hash of the answer that is the same for all copies of it."""
    response_id = row.get("response_id")
    return fingerprint(
        (response_id if isinstance(response_id, str) else None, row["images"][0]["sha256"])
    )


def _has_image(home: Path, row: dict[str, Any]) -> bool:
    """Return whether the image is there, by its size; `copy` checks the content."""
    image = row["images"][0]
    try:
        status = os.stat(os.path.join(home, image["path"]))  # noqa: PTH116, PTH118 # for many calls
    except (OSError, ValueError):
        return False
    return S_ISREG(status.st_mode) and status.st_size == image["size_bytes"]


def _reply(row: dict[str, Any], image: IncomingImage) -> Reply:
    """Return the reply of the row; its tokens were used, and paid for, elsewhere."""
    same: dict[str, Any] = {
        name: row.get(name)
        for name in ("text", "finish_reason", "finish_message", "model_version", "response_id")
    }
    return Reply(
        image=image,
        drafts=(),
        block_reason=None,
        safety_ratings=row.get("safety_ratings") or [],
        usage=None,
        **same,
    )
