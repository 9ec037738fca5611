"""The files of a run: what arrives, and the folder that keeps it."""

from typing import TYPE_CHECKING

from gemini_batch.lazy import on_first_use

if TYPE_CHECKING:
    from gemini_batch.output.folder import OutputFolder
    from gemini_batch.output.staging import StagedAnswer

__getattr__ = on_first_use(
    __name__,
    {
        "OutputFolder": "folder",
        "StagedAnswer": "staging",
    },
)
