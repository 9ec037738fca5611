"""Aliases of a call: the same request by another id of its model, such as its successor's."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from gemini_batch.plan.canonical import other_forms
from gemini_batch.records import Request, ids

if TYPE_CHECKING:  # it needs pydantic
    from gemini_batch.records.job import Job


def aliases(
    job: "Job", request: Request, variant: int, is_known: Callable[[str], bool]
) -> Iterator[tuple[str, Request]]:
    """Yield (call id, request) of each of its `other_forms`, where the id is known.

    The call's id is another one where it is derived from a line that names the model, or from a raw
    request with a service tier.
    """
    names_model = job.model is not None or "model" in (job.request or {})
    tiers = request.raw.service_tiers if request.raw else {}
    if not (names_model or tiers or is_known(ids.call_id(job.id or "", variant))):
        return
    for form in other_forms(request):
        with_tier = form.raw is not None and form.raw.service_tiers != tiers
        job_id = _renamed_id(job, request.model, form.model, with_tier=with_tier)
        if is_known(call_id := ids.call_id(job_id, variant)):
            yield call_id, form


def _renamed_id(job: "Job", model: str, other: str, *, with_tier: bool) -> str:
    """Return the id of a job that names another model; its own if it was given."""
    job_id, body, renamed = job.id or "", job.request or {}, dict[str, Any]()
    if job.model is not None:
        renamed = {"model": job.model.replace(model, other)}
    elif isinstance(named := body.get("model"), str):
        renamed = {"request": {**body, "model": named.replace(model, other)}}
    base = ids.derived(job)
    if not job_id.startswith(base):
        return job_id
    return ids.derived(job.model_copy(update=renamed), with_tier=with_tier) + job_id[len(base) :]
