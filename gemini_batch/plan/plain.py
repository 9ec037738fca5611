"""The requests of plain lines: what depends on their shape, size and model is computed once."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace

from gemini_batch.manifest.plain import Form, Kind
from gemini_batch.plan import canonical
from gemini_batch.plan.aliases import aliases
from gemini_batch.plan.planner import Planner
from gemini_batch.records import Request, Text


class PlainRequest:
    """The request of the plain lines of one kind, whose prompt and seed may be any.

    Attributes:
        lane: Of its model and service tier.
        group: Its lane and size.

    Raises:
        JobError: As `Planner.request`, with this line.
    """

    __slots__ = ("_form", "_job", "_request", "_tokens", "group", "lane")

    def __init__(self, planner: Planner, kind: Kind, line: int) -> None:
        self._job = kind.job
        self._request = planner.request(kind.job, line)
        self._form = Form(canonical.canonical(self._request), kind.job)
        self._tokens: dict[int, int] = {}  # bytes of the prompt → tokens
        self.lane = self._request.lane
        self.group = self.lane, canonical.image_size(self._request)

    def sha256(self, prompt: str, seed: int | None) -> str:
        """Return what `request_sha256` returns for the request with this prompt and seed."""
        return hashlib.sha256(self._form.filled(prompt, seed)).hexdigest()

    def aliases(
        self, job_id: str, prompt: str, seed: int | None, is_known: Callable[[str], bool]
    ) -> Iterator[tuple[str, Request]]:
        """Yield what `aliases` yields for the job with this id, prompt and seed."""
        if self._job.model is None and not is_known(job_id):
            return  # nearly all new lines
        job = self._job.model_copy(update={"id": job_id, "prompt": prompt, "seed": seed})
        request = replace(self._request, parts=(Text(prompt),), seed=seed)
        yield from aliases(job, request, 1, is_known)

    def input_tokens(self, size_bytes: int) -> int:
        """Return what `input_tokens` returns for the request with a prompt of this size."""
        tokens = self._tokens.get(size_bytes)
        if tokens is None:
            request = replace(self._request, parts=(Text("x" * size_bytes),))
            tokens = self._tokens[size_bytes] = canonical.input_tokens(request)
        return tokens
