"""One resumable upload: its bytes so far."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from gemini_batch.simulator.batch.spool import Spool

_BLOCK_BYTES = 1024 * 1024


@dataclass(slots=True)
class Upload:
    """An upload that has been started.

    Attributes:
        project: Fingerprint of the key that started it.
        file_id: Name of the file to be.
        display_name: As requested.
        mime_type: As requested.
        declared_bytes: Size that `start` named, or None.
        data: The bytes that have arrived.
        sha256: Hash of them.
        turn: Number of the newest request for it; older requests must no longer write.
        status: `active`, `final` or `cancelled`.
    """

    project: str
    file_id: str
    display_name: str
    mime_type: str
    declared_bytes: int | None
    data: Spool = field(default_factory=Spool)
    sha256: Any = field(default_factory=hashlib.sha256)
    turn: int = 0
    status: str = "active"

    def append(self, piece: bytes) -> None:
        """Add bytes that have arrived."""
        self.data.append(piece)
        self.sha256.update(piece)

    def forget(self, size_bytes: int) -> None:
        """Forget the last bytes, as a server does that had not stored them yet."""
        self.data.truncate(self.data.size_bytes - size_bytes)
        self.sha256 = hashlib.sha256()
        for offset in range(0, self.data.size_bytes, _BLOCK_BYTES):
            self.sha256.update(self.data.read(offset, _BLOCK_BYTES))

    @property
    def headers(self) -> dict[str, str]:
        """The headers of its answers."""
        return {
            "X-Goog-Upload-Status": self.status,
            "X-Goog-Upload-Size-Received": str(self.data.size_bytes),
        }
