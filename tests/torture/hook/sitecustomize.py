"""Runs inside each process that the torture starts, before its own code: notes each answer that is consumed, or that is written down.

`TORTURE_CONSUMED` names the file for answers whose last byte the extractor took, `TORTURE_KEPT` the one for answers that are kept on the disk:
a kill before just the write that keeps one loses it, and nobody can help that. One unbuffered `write` a note, so that a kill loses none. The
product knows nothing of it.
"""

import os
import re
from typing import Any

_RESPONSE_ID = re.compile(rb'"responseId": ?"([^"]+)"')


def _noting(path: str) -> Any:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)

    def note(envelope: bytes) -> None:
        found = _RESPONSE_ID.search(envelope)
        os.write(descriptor, (found[1] if found else b"?") + b"\n")

    return note


if path := os.environ.get("TORTURE_CONSUMED"):
    from gemini_batch.client.image_extractor import ImageExtractor

    _note_consumed, _finish = _noting(path), ImageExtractor.finish

    def _finished(extractor: ImageExtractor) -> bytes:
        envelope = _finish(extractor)
        _note_consumed(envelope)
        return envelope

    ImageExtractor.finish = _finished  # type: ignore[method-assign, assignment] # what this file is for

if path := os.environ.get("TORTURE_KEPT"):
    from gemini_batch.output.staging import StagedAnswer

    _note_kept, _keep = _noting(path), StagedAnswer.journal

    def _kept(parts: StagedAnswer, envelope: bytes, /, *, is_whole: bool = True) -> None:
        _keep(parts, envelope, is_whole=is_whole)
        if is_whole:  # else the answer goes on, and comes again
            _note_kept(envelope)

    StagedAnswer.journal = _kept  # type: ignore[method-assign] # what this file is for
