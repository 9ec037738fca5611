"""`plan`: check the manifest and show what a run would do; sends nothing."""

from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from typing import Any

from gemini_batch.catalog import batch_limits, models, prices
from gemini_batch.cli.given import given_manifest
from gemini_batch.cli.options import output_folder, print_result, settings
from gemini_batch.cli.viewing import viewed
from gemini_batch.config import Settings
from gemini_batch.engine.batch import shares
from gemini_batch.engine.batch.shares import Share
from gemini_batch.errors import ExitCode
from gemini_batch.plan import CallState, build
from gemini_batch.plan.built import BuiltPlan
from gemini_batch.progress.formatting import (
    BATCH_TARGET_S,
    BATCH_TIME,
    STALE,
    about,
    budget,
    count,
    edited,
    held_for,
    least_time,
    list_price,
    tier_label,
)
from gemini_batch.records.service_tier import lane_name, model_and_tier
from gemini_batch.wording import usd


def main(options: Namespace) -> int:
    """Print the plan of a manifest; return the exit code."""
    config = settings(options, needs_key=False)
    with (
        viewed(str(config.bucket or "") or output_folder(options), may_be_new=True) as view,
        given_manifest(options) as given,
        build.build_plan(given.path, view.out, config, name=given.name, base=given.base) as planned,
    ):
        plan, total, time = planned.plan, planned.plan.total, planned.duration
        found = {
            "manifest": given.name,
            "out": view.shown,
            "tier": config.tier,
            "calls": plan.own,
            "done": plan.count(CallState.DONE),
            "to_send": plan.to_send,
            "later": plan.count(CallState.LATER),
            "held": dict(planned.held()),
            "stale": planned.stale,
            "depth": planned.depth,
            "chain_s": planned.chain_s,
            "reused": plan.count(CallState.REUSED),
            "reused_from": dict(planned.history.reuse.reserved) if planned.history.reuse else {},
            "edited": plan.count(CallState.EDITED),
            "input_tokens": total.input_tokens,
            "output_tokens": total.output_tokens,
            "cost_usd": total.cost_usd,
            "route": config.route,
            "routes": _routes(planned, config),
            "max_cost_usd": config.max_cost_usd,
            "submitted_at_first": planned.submitted_at_first,
            "sending_s": round(time.sending_s, 1),
            "days": time.days,
            "bound_by": time.bound_by,
            "made_smaller": asdict(plan.unusual.downscaled),
            "unknown_fields": [
                {"field": field, **asdict(unknown)}
                for field, unknown in plan.unusual.unknown_fields.items()
            ],
            "models": [
                {
                    "model": model,
                    "service_tier": tier,
                    "image_size": size,
                    **_calendar(model),
                    "calls": tally.calls,
                    "cost_usd": tally.cost_usd,
                }
                for (lane, size), tally in sorted(plan.totals.items())
                for model, tier in (model_and_tier(lane),)
                if tally.calls
            ],
        }
        warnings = [f"  model   {text}" for text in planned.notices()]
        warnings += [f"  warning {text}" for text in planned.warnings()]
    lines = chain(_lines(found, is_simulated=options.simulate), warnings)
    print_result(found, lines, as_json=options.json)
    return ExitCode.DONE


def _calendar(model: str) -> dict[str, Any]:
    """Return the state of a model by Google's calendar, and its successor; null if unknown."""
    known = models.find(model)
    return {
        "state": known.state if known else None,
        "successor": known.successor if known else None,
    }


def _routes(planned: BuiltPlan, config: Settings) -> dict[str, Any]:
    """Return price and time of sending the calls as single requests, and in batches."""
    plan, time = planned.plan, planned.duration
    batches: list[dict[str, Any]] = []
    totals = [(*model_and_tier(lane), size, each) for (lane, size), each in plan.totals.items()]
    for model in dict.fromkeys(model for model, *_ in totals):
        sizes = [(size, each) for of, _, size, each in totals if of == model]
        if prices.factor(model, "batch", build.price_table(config)) is None:
            batches.append({"model": model, "batches": None})
            continue
        share = Share(
            sum(each.calls for _, each in sizes),
            0,
            sum(each.calls * shares.line_bytes(size) for size, each in sizes),
            sum(each.input_tokens for _, each in sizes),
        )
        tokens = batch_limits.enqueued_tokens(model, config.tier)
        number = shares.fewest(share, shares.most(config.batch_lines, tokens))
        entry = {"model": model, "batches": number, "input_tokens": share.input_tokens}
        batches.append(entry | {"enqueued_tokens": tokens})
    has_price = all(each["batches"] is not None for each in batches)
    return {
        "interactive": {
            "cost_usd": plan.cost_usd(is_batched=False),
            "sending_s": None if config.route == "batch" else round(time.sending_s, 1),
            "days": None if config.route == "batch" else time.days,
        },
        "batch": {
            "cost_usd": plan.cost_usd(is_batched=True) if has_price else None,
            "within_s": BATCH_TARGET_S,
            "models": batches,
        },
    }


def _other_route(found: dict[str, Any]) -> str | None:
    """Return price and time of the route that was not asked for; None if there is no other."""
    single, batch = found["routes"]["interactive"], found["routes"]["batch"]
    numbers = [each["batches"] for each in batch["models"]]
    if None in numbers or single["cost_usd"] is None:
        return None
    if found["route"] == "batch":
        return f"  single  {usd(single['cost_usd'])}, as fast as the quota (--route interactive)"
    number = "1 batch" if sum(numbers) == 1 else f"{sum(numbers):,} batches"
    if found["depth"] > 1:
        number = f"{found['depth']:,} batches or more, one after the other"
    cost = usd(batch["cost_usd"])
    return f"  batch   {cost}, {number}, {_batch_time(found)} (--route batch)"


def _batch_time(found: dict[str, Any]) -> str:
    return f"each {BATCH_TIME}" if found["depth"] > 1 else BATCH_TIME


def _cost(found: dict[str, Any], *, is_simulated: bool) -> str:
    if found["cost_usd"] is not None:
        return list_price(
            found["cost_usd"], found["tier"], found["route"], is_simulated=is_simulated
        )
    unpriced = dict.fromkeys(each["model"] for each in found["models"] if each["cost_usd"] is None)
    tables = ", ".join(f'[prices."{model}"]' for model in unpriced)
    return f"unknown; set the price in a table {tables} of a --config file"


def _budget(found: dict[str, Any]) -> str:
    at_first = found["submitted_at_first"]
    return budget(found["max_cost_usd"], found["cost_usd"], found["to_send"], at_first)


def _states(found: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each kind of call that is not simply done or to be sent."""
    if found["edited"]:
        yield f"  edited  {edited(found['edited'])}"
    if found["depth"] > 1 and found["to_send"]:
        yield f"  chains  {_chains(found)}"
    if found["held"]:
        yield f"  held    {sum(found['held'].values()):,} {held_for(found['held'])}"
    if found["stale"]:
        yield f"  stale   {found['stale']:,} {STALE}"
    for folder, number in found["reused_from"].items():
        yield f"  reused  {number:,} from {folder}, at no cost"


def _chains(found: dict[str, Any]) -> str:
    """Return how many calls follow each other, and how long that takes."""
    text = f"up to {found['depth']:,} calls one after the other, with the picture of the one before"
    if found["route"] == "batch":
        return f"{text}: a batch each"
    return f"{text}: about {about(found['chain_s'])}" if found["chain_s"] else text


def _lines(found: dict[str, Any], *, is_simulated: bool) -> Iterator[str]:
    calls = f"{count(found['calls'], 'call')}, {found['done']:,} done"
    later = f", {found['later']:,} left for other runs" if found["later"] else ""
    yield f"{found['manifest']}: valid; {calls}, {found['to_send']:,} to send{later}"
    yield from _states(found)
    for entry in found["models"]:
        cost = usd(entry["cost_usd"])
        lane = lane_name(entry["model"], entry["service_tier"])
        yield f"  {entry['calls']:>6,}  {lane}  {entry['image_size']}  {cost}"
    if found["to_send"]:
        time = least_time(found["sending_s"], found["days"], found["bound_by"])
        yield f"  tokens  about {found['input_tokens']:,} in, {found['output_tokens']:,} out"
        yield f"  cost    {_cost(found, is_simulated=is_simulated)}"
        if found["route"] == "batch":
            time = f"in batches, {_batch_time(found)}"
        if found["max_cost_usd"] is not None:
            yield f"  budget  {_budget(found)}"
        yield f"  time    {tier_label(found['tier'])}: {time}"
        if (other := _other_route(found)) is not None:
            yield other
    if (smaller := found["made_smaller"])["images"]:
        before, after = smaller["size_bytes"] / 1e6, smaller["upload_bytes"] / 1e6
        upload = f"about {after:,.1f} MB to send instead of {before:,.1f} MB"
        yield f"  inputs  {count(smaller['images'], 'image')} downscaled: {upload}"
    yield f"  output  {found['out']}"
