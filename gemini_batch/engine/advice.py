"""Advice for a model that was refused or held: a key, its successor, known models, a later run."""

from dataclasses import replace

from gemini_batch.catalog import models
from gemini_batch.engine.retry_table import KEYS, TABLE, Table
from gemini_batch.engine.vertex_rules import VERTEX_TABLE
from gemini_batch.records import Stop, StopReason
from gemini_batch.records.service_tier import model_and_tier
from gemini_batch.wording import suggest, with_advice


def advised(stop: Stop, table: Table = TABLE) -> Stop:
    """Return the stop with advice in its message, where its reason and its model call for one.

    `table` is that of the API.
    """
    on_vertex = table is VERTEX_TABLE
    model, _ = model_and_tier(stop.model)
    match stop.reason:
        case StopReason.BUDGET if stop.model:  # which batches hold
            advice = "later runs, or --wait, submit what is left"
        case StopReason.NO_ACCESS if on_vertex:
            advice = f"the role Vertex AI User (roles/aiplatform.user) allows {model}"
        case StopReason.NO_ACCESS:
            advice = f"a key that may use {model} comes from {KEYS}"
        case StopReason.MODEL if named := models.successor(model):
            advice = f"its announced successor: --model {named}"
        case StopReason.MODEL if on_vertex and models.find(model):
            advice = "some models are served at the location global alone: --vertex PROJECT"
        case StopReason.MODEL:
            advice = suggest(model, [each for each in models.known() if each != model])
        case _:
            return stop
    return replace(stop, message=with_advice(stop.message, advice))
