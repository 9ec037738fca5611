"""Settling: the calls of chains get their states in a plan, once all lines are known."""

from pathlib import Path

from gemini_batch.manifest import Manifest
from gemini_batch.output.pictures import Pictures
from gemini_batch.output.rows import placed_rows
from gemini_batch.plan.canonical import request_sha256
from gemini_batch.plan.chaining import Chaining, Choice
from gemini_batch.plan.history import RunHistory
from gemini_batch.plan.planner import JobError, Planner
from gemini_batch.plan.totals import Plan
from gemini_batch.records import ids


def settled(
    manifest: Manifest, plan: Plan, history: RunHistory, planner: Planner, out: Path
) -> Chaining | None:
    """Return the children of a manifest, whose states in the plan are set; None without any.

    Raises:
        StorageError: The rows of earlier runs are damaged.
        OSError: They can't be read.
    """
    if not len(manifest.chains):
        return None
    chains, part, again, reuse = manifest.chains, history.part, history.again, history.reuse
    pictures = Pictures(chains.slot, len(chains.jobs))
    pictures.read(placed_rows(out))
    chaining = Chaining(
        chains,
        plan,
        pictures,
        lambda call: (
            history.waiting.awaits(call, history.endpoint)
            or history.others.awaits(call, history.endpoint)
        ),
    )

    def call_id_of(index: int, variant: int) -> str:
        job = manifest.read(index)
        return ids.call_id(job.id or "", variant) if job else ""

    def is_redone(index: int, variant: int) -> bool:
        if again is None or not again.has_stale:
            return False
        call_id = call_id_of(index, variant)
        if part is not None and not (part.names(call_id) and part.takes_one()):
            return False
        again.add_stale(call_id)
        return True

    def drop_reused(index: int, variant: int) -> None:
        if reuse is not None and (job := manifest.read(index)) is not None:
            request = planner.request(job, manifest.line(index))
            reuse.give_back(ids.call_id(job.id or "", variant), request_sha256(request))

    has_limit = part is not None and part.has_limit
    chaining.settle(Choice(is_redone, drop_reused), has_limit=has_limit)
    if has_limit and chaining.freed:
        _take_others(manifest, plan, history, chaining)
    chaining.start()
    return chaining


def _take_others(manifest: Manifest, plan: Plan, history: RunHistory, chaining: Chaining) -> None:
    """Take other calls into the part of the run, for those that were taken and can't be sent."""
    part = history.part
    if part is None:
        return
    part.give_back(chaining.freed)
    for index, variant in plan.later():
        if part.is_full:
            return
        if chaining.may_take(index) and (job := manifest.read(index)) is not None:
            try:
                plan.take_later(job, manifest.line(index), index, variant, history.state_again)
            except JobError:  # edited meanwhile; the run says so when it comes there
                return
