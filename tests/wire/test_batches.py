"""The Batch API over scripted connections: one create, all pages, and no proof by one miss."""

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from gemini_batch.records import ApiError, Failure, FailureKind
from gemini_batch.records.remote_batch import (
    BatchState,
    Created,
    Refused,
    RemoteBatch,
    Unknown,
)
from tests.wire.peers import KEY, MODEL, REFUSED, Peer, patient, whole
from tests.wire.rest_peers import Answer, Got, answering, batches, close, error, ok, reset

NAME = "batches/abc"
OPERATION = {"name": NAME, "metadata": {"state": "BATCH_STATE_PENDING", "displayName": "mine"}}
BATCH = RemoteBatch(NAME, BatchState.PENDING, display_name="mine")
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


async def create(answer: Answer, **settings: Any) -> tuple[Any, list[Any]]:
    """Create a batch; return the outcome and the requests that arrived."""
    async with answering([answer]) as api, batches(api.base_url, **settings) as opened:
        outcome = await opened.create(MODEL, "mine", "files/in")
    return outcome, api.got


async def test_a_create_names_model_file_and_display_name() -> None:
    """The batch is of the model in the URL; its requests are in the file."""
    outcome, got = await create(ok(OPERATION))
    assert outcome == Created(BATCH)
    assert (got[0].method, got[0].target) == (
        "POST",
        f"/v1beta/models/{MODEL}:batchGenerateContent",
    )
    assert got[0].headers["x-goog-api-key"] == KEY
    assert orjson.loads(got[0].body) == {
        "batch": {"displayName": "mine", "inputConfig": {"fileName": "files/in"}}
    }


NOT_CREATED = {
    "a line with an unknown field": error(400, "INVALID_ARGUMENT", "Error on line 1: no such field"),
    "the wrong key": error(403, "PERMISSION_DENIED"),
    "no such model": error(404, "NOT_FOUND"),
    "no room": error(429, "RESOURCE_EXHAUSTED"),
    "an error in a 200": ok({"error": {"code": 400, "message": "x", "status": "INVALID_ARGUMENT"}}),
    "a page of a proxy": whole(b"<html>no</html>", status="403 Forbidden"),
    "another address": whole(b"", "Location: /login", status="302 Found"),
    "not implemented": error(501, "UNIMPLEMENTED"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_CREATED)
async def test_a_definite_no_is_refused(name: str) -> None:
    """A server that did not process the request made no batch; it is asked once."""
    outcome, got = await create(NOT_CREATED[name])
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, ApiError)
    assert len(got) == 1


async def hang(peer: Peer, _: Got) -> None:
    """Read the request, and never answer."""
    await peer.hang()


MAYBE_CREATED: dict[str, Answer] = {
    "503 after the fact": error(503, "UNAVAILABLE"),
    "500": error(500, "INTERNAL"),
    "504 of a gateway": whole(b"<html>timeout</html>", status="504 Gateway Timeout"),
    "524": whole(b"", status="524 A Timeout Occurred"),
    "408": whole(b"", status="408 Request Timeout"),
    "409": error(409, "ABORTED"),
    "499": error(499, "CANCELLED"),
    "an error of 503 in a 200": ok({"error": {"code": 503, "message": "x"}}),
    "reset after the request": reset,
    "closed after the request": close,
    "cut within the answer": whole(orjson.dumps(OPERATION)[:10], "Connection: close", length=90),
    "no name": ok({"metadata": {"state": "BATCH_STATE_PENDING"}}),
    "an empty answer": whole(b""),
    "a web page": whole(b"<html>Sign in</html>"),
    "an array": ok([OPERATION]),
    "another kind of name": ok({"name": "operations/7"}),
    **{name: REFUSED[name][0][0] for name in ("not HTTP", "two lengths", "an impossible status")},
}


@pytest.mark.parametrize("name", MAYBE_CREATED)
async def test_anything_else_is_unknown_and_sent_once(name: str) -> None:
    """A batch may exist, and would be paid for: nothing here sends the create again."""
    outcome, got = await create(MAYBE_CREATED[name])
    assert isinstance(outcome, Unknown), outcome
    assert len(got) == 1


async def test_an_answer_that_does_not_come_is_unknown() -> None:
    """A timeout after the request left says nothing on the batch."""
    outcome, got = await create(hang, timeouts=patient(whole_s=0.05))
    assert isinstance(outcome, Unknown)
    assert isinstance(outcome.error, Failure)
    assert (outcome.error.kind, outcome.error.may_be_billed) == (FailureKind.TIMEOUT, True)
    assert len(got) == 1


async def test_a_request_that_never_left_is_refused() -> None:
    """Without a connection there is no batch."""
    async with batches("http://127.0.0.1:1") as opened:
        outcome = await opened.create(MODEL, "mine", "files/in")
    assert isinstance(outcome, Refused)
    assert isinstance(outcome.error, Failure)
    assert (outcome.error.kind, outcome.error.may_be_billed) == (FailureKind.UNREACHABLE, False)


async def test_a_batch_is_asked_for_by_its_name() -> None:
    """The answer is the batch; a 404 is the error that it is, and no more."""
    answers = [ok(OPERATION), error(404, "NOT_FOUND"), ok({})]
    async with answering(answers) as api, batches(api.base_url) as opened:
        assert await opened.get(NAME) == BATCH
        miss = await opened.get(NAME)
        empty = await opened.get(NAME)
    assert isinstance(miss, ApiError)
    assert (miss.http_status, miss.status) == (404, "NOT_FOUND")
    assert isinstance(empty, Failure)
    assert [each.target for each in api.got] == [f"/v1beta/{NAME}"] * 3


def page(*names: str, token: str | None = None, first_hour: int = 12) -> bytes:
    """Return a page of batches, each an hour older than the one before."""
    operations = [
        {"name": name, "metadata": {"createTime": f"2026-11-22T{first_hour - number:02}:00:00Z"}}
        for number, name in enumerate(names)
    ]
    return ok(
        ({"operations": operations} if names else {}) | ({"nextPageToken": token} if token else {})
    )


async def listing(*pages: Answer, since: datetime | None = None) -> tuple[Any, list[str]]:
    """Return the list of a server, and what was asked for."""
    async with answering(pages) as api, batches(api.base_url) as opened:
        found = await opened.listing(since)
    return found, [each.target for each in api.got]


async def test_all_pages_are_read() -> None:
    """An empty page is not the last one as long as it names another."""
    found, asked = await listing(
        page("batches/1", token="a+b/c="), page(token="t"), page("batches/2")
    )
    assert [batch.name for batch in found.batches] == ["batches/1", "batches/2"]
    assert (found.is_complete, found.error) == (True, None)
    assert asked == [
        "/v1beta/batches?pageSize=100",
        "/v1beta/batches?pageSize=100&pageToken=a%2Bb%2Fc%3D",
        "/v1beta/batches?pageSize=100&pageToken=t",
    ]


async def test_the_list_of_no_batches_is_complete() -> None:
    """A project without batches is answered with an empty object."""
    assert (await listing(ok({})))[0].is_complete
    found, _ = await listing(ok({"batches": [{"name": NAME, "state": "JOB_STATE_RUNNING"}]}))
    assert found.batches == (RemoteBatch(NAME, BatchState.RUNNING),)


async def test_the_list_is_read_back_to_a_time() -> None:
    """The page whose batches are all older is the last that is read."""
    pages = [
        page("batches/1", "batches/2", token="a"),
        page("batches/3", "batches/4", token="b", first_hour=10),
        page("batches/5", token="c", first_hour=8),
        page("batches/6"),
    ]
    found, asked = await listing(*pages, since=NOON.replace(hour=10))
    assert (len(asked), found.is_complete) == (3, True)
    assert [batch.name for batch in found.batches][-1] == "batches/5"


async def test_a_list_in_another_order_is_read_to_its_end() -> None:
    """Only a list that shows the newest first can be left early; so can none without times."""
    older_first = [
        page("batches/1", token="a", first_hour=3),
        page("batches/2", token="b"),
        page("batches/3"),
    ]
    assert len((await listing(*older_first, since=NOON.replace(hour=1)))[1]) == 3
    timeless = [ok({"operations": [{"name": NAME}], "nextPageToken": "a"}), page("batches/2")]
    assert len((await listing(*timeless, since=NOON))[1]) == 2
    rising = [
        page("batches/1", token="a", first_hour=3),
        page("batches/2", token="b", first_hour=5),
        page("batches/3"),
    ]
    assert len((await listing(*rising, since=NOON.replace(hour=8)))[1]) == 1
    assert len((await listing(*rising, since=NOON.replace(hour=2)))[1]) == 3


@pytest.mark.parametrize(
    "last",
    [
        error(429, "RESOURCE_EXHAUSTED"),
        error(503, "UNAVAILABLE"),
        close,
        ok({"operations": [{"done": True}]}),
        ok({"operations": ["x"]}),
        whole(b"<html>"),
        whole(b"x" * 700_000),
    ],
    ids=["429", "503", "closed", "no name", "no object", "a page", "too long"],
)
async def test_a_list_that_breaks_off_is_not_complete(last: Answer) -> None:
    """What is not in a list that ended early may exist all the same."""
    found, _ = await listing(page("batches/1", token="a"), last)
    assert [batch.name for batch in found.batches] == ["batches/1"]
    assert not found.is_complete
    assert found.error is not None


async def test_a_list_without_end_is_left() -> None:
    """Pages that name each other are no complete list."""
    found, asked = await listing(
        page("batches/1", token="a"), page("batches/2", token="b"), page("batches/1", token="a")
    )
    assert (len(asked), found.is_complete) == (3, False)
    assert "does not end" in found.error.message


async def test_cancel_and_delete() -> None:
    """Both are accepted with an empty object; to delete what is not there is no error."""
    refusal = error(400, "FAILED_PRECONDITION")
    answers = [
        ok({}),
        refusal,
        ok({}),
        error(404, "NOT_FOUND"),
        whole(b"", status="204 No Content"),
        refusal,
    ]
    async with answering(answers) as api, batches(api.base_url) as opened:
        assert await opened.cancel(NAME) is None
        assert isinstance(await opened.cancel(NAME), ApiError)
        for _ in range(3):
            assert await opened.delete(NAME) is None
        assert isinstance(await opened.delete(NAME), ApiError)
    assert {(each.method, each.target) for each in api.got} == {
        ("POST", f"/v1beta/{NAME}:cancel"),
        ("DELETE", f"/v1beta/{NAME}"),
    }


async def test_a_model_says_whether_it_can_be_batched() -> None:
    """The method is in `models.get`; a server that names no methods can't do it."""
    answers = [
        ok(
            {
                "name": f"models/{MODEL}",
                "supportedGenerationMethods": ["generateContent", "batchGenerateContent"],
            }
        ),
        ok({"name": f"models/{MODEL}", "supportedGenerationMethods": ["generateContent"]}),
        ok({"name": f"models/{MODEL}"}),
        error(404, "NOT_FOUND"),
    ]
    async with answering(answers) as api, batches(api.base_url) as opened:
        assert [await opened.supports(MODEL) for _ in range(3)] == [True, False, False]
        assert isinstance(await opened.supports(MODEL), ApiError)
    assert {each.target for each in api.got} == {f"/v1beta/models/{MODEL}"}


@pytest.mark.parametrize("auth", ["header", "query"])
async def test_the_key_is_sent_as_asked_and_repeated_nowhere(auth: str) -> None:
    """An error that repeats the key, or names it in an address, is shown without it."""
    refusal = error(403, "PERMISSION_DENIED", f"the key {KEY} is not valid")
    away = whole(b"", f"Location: https://{KEY.lower()[:20]}.test/?key={KEY}", status="307 X")
    async with answering([refusal, away, reset]) as api, batches(api.base_url, auth=auth) as opened:
        outcomes = [await opened.get(NAME) for _ in range(3)]
    assert KEY not in repr(outcomes)
    assert "[key]" in repr(outcomes)
    in_header = [each.headers.get("x-goog-api-key") == KEY for each in api.got]
    in_query = ["?key=" in each.target for each in api.got]
    assert (all(in_header), any(in_query)) == (auth == "header", auth == "query")
