"""Batches and files in the forms in which servers send them."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.client.batch_json import remote_batch, remote_file
from gemini_batch.records import ApiError
from gemini_batch.records.remote_batch import BatchState, BatchStats, RemoteBatch, RemoteFile

NAME = "batches/3a96b1c2-0d4e-4f5a-8b6c-7d8e9f0a1b2c"
FILE = "files/batch-3a96b1c2-0d4e-4f5a-8b6c-7d8e9f0a1b2c"
CREATED = datetime(2026, 8, 20, 10, 0, 0, 123456, UTC)
# A body of 2026-08-20 that a project published, with other names.
OPERATION: dict[str, Any] = {
    "name": NAME,
    "metadata": {
        "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
        "model": "models/gemini-3-pro-image",
        "displayName": "gemini_batch 1",
        "inputConfig": {"fileName": "files/voe5u4gdj968"},
        "output": {"responsesFile": FILE},
        "createTime": "2026-08-20T10:00:00.123456789Z",
        "updateTime": "2026-08-20T10:02:00Z",
        "endTime": "2026-08-20T12:02:00+02:00",
        "batchStats": {"requestCount": "9", "successfulRequestCount": "9"},
        "state": "BATCH_STATE_SUCCEEDED",
        "name": NAME,
    },
    "done": True,
    "response": {"@type": "…GenerateContentBatchOutput", "responsesFile": FILE},
}
WHOLE = RemoteBatch(
    name=NAME,
    state=BatchState.SUCCEEDED,
    model="gemini-3-pro-image",
    display_name="gemini_batch 1",
    input_file="files/voe5u4gdj968",
    output_file=FILE,
    stats=BatchStats(9, 9, 0, 0),
    created_at=CREATED,
    ended_at=datetime(2026, 8, 20, 10, 2, tzinfo=UTC),
)


def snake(value: Any) -> Any:
    """Return JSON with proto names."""
    if isinstance(value, dict):
        return {
            "".join(f"_{c.lower()}" if c.isupper() else c for c in name): snake(item)
            for name, item in value.items()
        }
    return value


def of(state: str | None, **operation: Any) -> RemoteBatch:
    """Return the batch of an operation in a state."""
    found = remote_batch({"name": NAME, "metadata": {"state": state}, **operation})
    assert found is not None
    return found


@pytest.mark.parametrize(
    "body",
    [
        OPERATION,
        snake(OPERATION),
        OPERATION["metadata"],
        {**OPERATION["metadata"], "state": "JOB_STATE_SUCCEEDED", "done": True},
        {**OPERATION, "metadata": OPERATION["metadata"] | {"output": None}},
        {name: value for name, value in OPERATION.items() if name != "response"},
        {"name": "operations/x", "metadata": OPERATION["metadata"]},
        {**OPERATION, "metadata": OPERATION["metadata"] | {"output": {"responsesFile": f"https://x.test/v1beta/{FILE}:download?alt=media"}}, "response": {}},
    ],
    ids=["operation", "proto names", "top level", "JOB_STATE_", "file in the response alone", "file in the metadata alone", "another name outside", "a URL"],
)  # fmt: skip
def test_a_batch_is_the_same_in_every_form(body: dict[str, Any]) -> None:
    """Operation and top level, both prefixes, JSON and proto names, and strings of digits are one batch."""
    assert remote_batch(body) == WHOLE


@pytest.mark.parametrize("prefix", ["BATCH_STATE_", "JOB_STATE_", "", "batch_state_"])
@pytest.mark.parametrize("state", BatchState)
def test_states(state: BatchState, prefix: str) -> None:
    """A state has either prefix, or none; only four mean that the server has ended."""
    found = of(f"{prefix}{state}")
    assert found.state is state
    assert found.state.is_terminal == (
        state.name in {"SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED"}
    )


@pytest.mark.parametrize(
    ("state", "operation", "expected"),
    [
        ("BATCH_STATE_RUNNING", {"done": True, "error": {"code": 13, "message": "x"}}, "FAILED"),
        ("BATCH_STATE_RUNNING", {"error": {"code": 13, "message": "x"}}, "FAILED"),
        ("BATCH_STATE_RUNNING", {"done": True, "error": {"code": 1}}, "CANCELLED"),
        ("BATCH_STATE_CANCELLED", {"done": True, "error": {"code": 1}}, "CANCELLED"),
        ("BATCH_STATE_EXPIRED", {"done": True, "error": {"code": 4}}, "EXPIRED"),
        ("BATCH_STATE_SUCCEEDED", {"done": True, "error": {"code": 1}}, "SUCCEEDED"),
        ("BATCH_STATE_RUNNING", {"done": True, "response": {}}, "SUCCEEDED"),
        (None, {"done": True}, "SUCCEEDED"),
        ("BATCH_STATE_SUCCEEDED", {}, "SUCCEEDED"),
        ("BATCH_STATE_PENDING", {"done": False}, "PENDING"),
        ("BATCH_STATE_RUNNING", {"error": {}}, "RUNNING"),
        ("BATCH_STATE_RUNNING", {"error": {"code": 0}}, "RUNNING"),
        ("JOB_STATE_PARTIALLY_SUCCEEDED", {}, "SUCCEEDED"),
        ("JOB_STATE_QUEUED", {}, "PENDING"),
        ("JOB_STATE_CANCELLING", {}, "RUNNING"),
        ("JOB_STATE_PAUSED", {}, "RUNNING"),
        ("BATCH_STATE_NEW", {}, "UNKNOWN"),
        ("BATCH_STATE_UNSPECIFIED", {}, "UNKNOWN"),
        (None, {}, "UNKNOWN"),
        ("BATCH_STATE_NEW", {"done": True, "error": {"code": 3, "message": "x"}}, "FAILED"),
    ],
)  # fmt: skip
def test_an_operation_that_is_done_has_ended(
    state: str | None, operation: dict[str, Any], expected: str
) -> None:
    """`done` and `error` outweigh a state that still runs; a terminal state outweighs them."""
    assert of(state, **operation).state == expected


def test_the_error_of_a_batch_has_the_status_of_its_code() -> None:
    """A code of gRPC becomes the HTTP status that Google gives it."""
    error = of(None, done=True, error={"code": 8, "message": "no room"}).error
    assert error == ApiError(429, "RESOURCE_EXHAUSTED", None, "no room")
    assert of("BATCH_STATE_FAILED", error={"message": "x"}).error == ApiError(
        500, "UNKNOWN", None, "x"
    )
    metadata = {"state": "BATCH_STATE_FAILED", "error": {"code": 3, "message": "line 1"}}
    found = remote_batch({"name": NAME, "metadata": metadata})
    assert found is not None
    assert found.error == ApiError(400, "INVALID_ARGUMENT", None, "line 1")


def test_what_is_left_out_is_nothing() -> None:
    """A batch needs its name alone; zero counts are left out by the server."""
    assert remote_batch({"name": NAME}) == RemoteBatch(NAME, BatchState.UNKNOWN)
    stats = of(None, metadata={"batchStats": {"failedRequestCount": 3}}).stats
    assert stats == BatchStats(0, 0, 3, 0)
    assert of(None).stats == BatchStats(None, None, None, None)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("response", {"inlinedResponses": {"inlinedResponses": [{}]}}),
        ("metadata", {"output": {"inlinedResponses": {"inlinedResponses": [{}]}}}),
        ("metadata", {"dest": {"inlined_responses": [{}]}}),
    ],
)
def test_results_in_the_operation_are_noted(where: str, value: dict[str, Any]) -> None:
    """A batch of inline requests has no file, and is seen as such."""
    found = of("BATCH_STATE_SUCCEEDED", **{where: value})
    assert (found.has_inline_results, found.output_file) == (True, "")


@pytest.mark.parametrize(
    "name",
    [None, "", 7, "files/a", "batches/", "batches/../files/a", "batches/a/b", "batches/a?key=b",
     "batches/a%2fb", "batches/.", "batches/a b", "batches/" + "a" * 600, "xbatches/a"],
)  # fmt: skip
def test_a_name_can_be_put_into_a_url(name: Any) -> None:
    """A name that would lead elsewhere is none."""
    assert remote_batch({"name": name}) is None
    assert remote_batch({"name": NAME, "response": {"responsesFile": name and f"{name}/.."}}) == (
        RemoteBatch(NAME, BatchState.UNKNOWN)
    )


def test_a_file() -> None:
    """A file has its times and its size, a string of digits."""
    body = {
        "name": "files/abc",
        "displayName": "x",
        "mimeType": "text/plain",
        "sizeBytes": "1800000000",
        "createTime": "2026-08-20T10:00:00.123456Z",
        "expirationTime": "2026-08-22T10:00:00.123456Z",
        "state": "ACTIVE",
    }
    expected = RemoteFile("files/abc", "ACTIVE", 1_800_000_000, "x", CREATED)
    assert remote_file(body) == remote_file(snake(body)) == expected
    assert remote_file({"name": "files/abc"}) == RemoteFile("files/abc")
    assert remote_file({"name": "batches/abc"}) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from([NAME, FILE, "0001-01-01T00:00:00+23:59"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["name", "metadata", "state", "done", "error", "response", "output", "batchStats", "code",
             "inputConfig", "fileName", "responsesFile", "requestCount", "createTime", "sizeBytes"]
        ),
        inner,
        max_size=6,
    ),
    max_leaves=12,
)  # fmt: skip


@given(json_values.filter(lambda value: isinstance(value, dict)))
def test_no_input_raises(value: Any) -> None:
    """Any JSON object is a batch or none, and a file or none."""
    remote_batch(value)
    remote_batch({"name": NAME, "metadata": value, **value})
    remote_file({"name": "files/a", **value})
