"""Aliases of a call: the same request by another id of its model, such as its successor's."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from gemini_batch.catalog import models
from gemini_batch.records import Request, ids
from gemini_batch.records.job import Job


def aliases(
    job: Job, request: Request, variant: int, is_known: Callable[[str], bool]
) -> Iterator[tuple[str, Request]]:
    """Yield (call id, request) of a call for each other id of its model, where the id is known.

    The call's id is another one where it is derived from a line that names the model.
    """
    names_model = job.model is not None or "model" in (job.request or {})
    if not names_model and not is_known(ids.call_id(job.id or "", variant)):
        return
    others = models.same(request.model) - {request.model}
    for model in sorted(others):
        job_id = _renamed_id(job, request.model, model)
        if is_known(call_id := ids.call_id(job_id, variant)):
            yield call_id, replace(request, model=model)


def _renamed_id(job: Job, model: str, other: str) -> str:
    """Return the id of a job that names another model; its own if it was given."""
    job_id, body = job.id or "", job.request or {}
    if job.model is not None:
        renamed: dict[str, Any] = {"model": job.model.replace(model, other)}
    elif isinstance(named := body.get("model"), str):
        renamed = {"request": {**body, "model": named.replace(model, other)}}
    else:
        return job_id
    base = ids.derived(job)
    if not job_id.startswith(base):
        return job_id
    return ids.derived(job.model_copy(update=renamed)) + job_id[len(base) :]
