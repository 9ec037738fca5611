"""Parsing of a line of a batch's results. Pure; no input makes it raise."""

from typing import Any

from gemini_batch.client.api_error import parse_status
from gemini_batch.client.cut_answer import cut_reply
from gemini_batch.client.cut_json import completed
from gemini_batch.client.no_answer import not_an_answer
from gemini_batch.client.response import MAX_OBJECTS, has_all, parse_value
from gemini_batch.client.untrusted_json import as_dict, as_name, load, load_joined
from gemini_batch.records import Answer, Failure, FailureKind, IncomingImage, Outcome, Reply


def parse_line(body: bytes, images: tuple[IncomingImage, ...]) -> tuple[str | None, Outcome]:
    """Return the key of a line of a batch's results, None without one, and what it means.

    A line has the `response` of an interactive call, or an `error` or `status`, a google.rpc.Status
    with the code of gRPC. It was a 200 at the time, so its `ApiError` has the HTTP status of the
    code.
    """
    answer = Answer(200, body, images)
    if body.count(b"{") > MAX_OBJECTS:
        message = f"a line of the results has more than {MAX_OBJECTS:,} objects"
        return None, Failure(FailureKind.TOO_LARGE, message, may_be_billed=True)
    line = load(body)
    if line is None and (reply := cut_reply(answer, _outcome, "response")) is not None:
        return _key(load(completed(body).body)), reply
    key, outcome = _parsed(answer, line)
    # An object may have a field twice, the later one empty.
    if not has_all(outcome, answer) and isinstance(joined := load_joined(body), dict):
        return _parsed(answer, joined)
    return key, outcome


def _parsed(answer: Answer, line: Any) -> tuple[str | None, Outcome]:
    if not isinstance(line, dict):
        message = "a line of the results is not a JSON object"
        return None, Failure(FailureKind.MALFORMED, message, may_be_billed=True)
    return _key(line), _of_line(answer, line)


def _key(line: dict[str, Any]) -> str | None:
    return as_name(line.get("key")) or as_name(as_dict(line.get("metadata")).get("key"))


def _outcome(answer: Answer, line: Any) -> Outcome:
    return _parsed(answer, line)[1]


def _of_line(answer: Answer, line: dict[str, Any]) -> Outcome:
    response = line.get("response")
    outcome = None if response is None else parse_value(answer, response)
    has_image = isinstance(outcome, Reply) and (outcome.image is not None or outcome.remote)
    if outcome is not None and has_image:
        return outcome
    status = line.get("status")
    if outcome is not None and not isinstance(status, dict):
        status = None  # a word such as OK
    return parse_status(line.get("error")) or parse_status(status) or outcome or not_an_answer(line)
