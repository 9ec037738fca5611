"""Files of the Files API: their data on the disk, their records, and the limits of a project."""

import base64
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from gemini_batch.simulator.batch.spool import Spool
from gemini_batch.simulator.clock import SettableClock
from gemini_batch.simulator.config import SimulatorConfig

LIFE = timedelta(hours=48)  # https://ai.google.dev/gemini-api/docs/files, 2026-11
# An observation of googleapis/go-genai#436: `files.get` refuses the longer name of a result file.
MAX_ID_LENGTH = 40
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """An uploaded file.

    Attributes:
        id: Its name without `files/`.
        number: Position in the order of creation.
        project: Fingerprint of the key that uploaded it.
        display_name: As requested.
        mime_type: As requested.
        created_at: Time of its last byte.
        active_at: Until then, it is `PROCESSING`.
        sha256: Hash of its data, in hexadecimal.
        data: Its data.
    """

    id: str
    number: int
    project: str
    display_name: str
    mime_type: str
    created_at: datetime
    active_at: datetime
    sha256: str
    data: Spool

    def as_json(self, now: datetime, base_url: str) -> dict[str, Any]:
        """Return it as the API's `File`; whole numbers of 64 bits are texts."""
        name = {"displayName": self.display_name} if self.display_name else {}
        return {
            "name": f"files/{self.id}",
            **name,
            "mimeType": self.mime_type,
            "sizeBytes": str(self.data.size_bytes),
            "createTime": time_text(self.created_at),
            "updateTime": time_text(self.created_at),
            "expirationTime": time_text(self.created_at + LIFE),
            # The API encodes the hexadecimal text once more.
            "sha256Hash": base64.b64encode(self.sha256.encode()).decode(),
            "uri": f"{base_url}/v1beta/files/{self.id}",
            "state": "ACTIVE" if now >= self.active_at else "PROCESSING",
            "source": "UPLOADED",
        }


class FileStore:
    """The uploaded files of all projects."""

    def __init__(self, config: SimulatorConfig, clock: SettableClock) -> None:
        self._config = config
        self._clock = clock
        self._files: dict[tuple[str, str], StoredFile] = {}
        self._rng = random.Random(f"{config.seed}/files")
        self._number = 0

    def new_id(self, length: int = 12) -> str:
        """Return an id that no file has yet."""
        return "".join(self._rng.choices(_LETTERS, k=length))

    def has_room(self, project: str, size_bytes: int) -> bool:
        """Return whether the files of a project may grow by `size_bytes`."""
        used = sum(file.data.size_bytes for file in self.of(project))
        return used + size_bytes <= self._config.max_stored_bytes

    def add(
        self,
        project: str,
        file_id: str,
        *,
        display_name: str,
        mime_type: str,
        sha256: str,
        data: Spool,
        processing_s: float = 0.0,
    ) -> StoredFile:
        """Keep a file that is complete."""
        self._number += 1
        now = self._clock.utc()
        active_at = now + timedelta(seconds=processing_s)
        file = StoredFile(
            file_id, self._number, project, display_name, mime_type, now, active_at, sha256, data
        )
        self._files[project, file_id] = file
        return file

    def get(self, project: str, file_id: str) -> StoredFile | None:
        """Return a file of the project, or None if there is none or it has expired."""
        file = self._files.get((project, file_id))
        if file is not None and self._clock.utc() >= file.created_at + LIFE:
            del self._files[project, file_id]
            return None
        return file

    def of(self, project: str) -> Iterator[StoredFile]:
        """Yield the files of a project, newest first."""
        for owner, file_id in reversed(list(self._files)):
            if owner == project and (file := self.get(project, file_id)):
                yield file

    def delete(self, file: StoredFile) -> None:
        """Forget a file; a batch that reads it keeps its data."""
        self._files.pop((file.project, file.id), None)


def time_text(at: datetime) -> str:
    """Return a time as the API writes it: `2026-11-30T08:10:00.000123Z`."""
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
