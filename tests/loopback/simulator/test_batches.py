"""The Batch API: create, get, list, cancel and delete; states by the clock, limits, and faults of a batch."""

import asyncio
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gemini_batch.simulator.models import load_models
from tests.loopback.simulator.batch_caller import KEY, BatchCaller, batching, line, lines
from tests.loopback.simulator.client import FLASH, PRO, image, until, with_images

pytestmark = pytest.mark.loopback

HOUR_S = 3600.0
OTHER = {"x-goog-api-key": "other"}


# --- create -------------------------------------------------------------------------------------


async def test_the_operation() -> None:
    """A batch is an Operation: counts are texts and absent if zero, `done` is absent while it runs."""
    async with batching(batch_turnaround_s=HOUR_S) as caller:
        file = await caller.upload(lines("A robot", "A fox [[fault:500]]"))
        made = (await caller.create(file, name="two")).json
        caller.simulator.clock.advance(HOUR_S)
        ended = (await caller.get(made["name"])).json
    assert (
        made["metadata"].items()
        >= {
            "model": f"models/{PRO}",
            "displayName": "two",
            "inputConfig": {"fileName": file},
            "batchStats": {"requestCount": "2", "pendingRequestCount": "2"},
            "state": "BATCH_STATE_PENDING",
            "name": made["name"],
        }.items()
    )
    assert made.keys() == {"name", "metadata"}
    output = {"responsesFile": f"files/batch-{made['name'].removeprefix('batches/')}"}
    assert len(made["name"].removeprefix("batches/")) == 36
    assert ended["metadata"]["output"] == output
    assert ended["response"].items() >= output.items()
    assert ended["done"] is True
    assert ended["metadata"]["batchStats"] == {
        "requestCount": "2",
        "successfulRequestCount": "1",
        "failedRequestCount": "1",
    }
    times = [datetime.fromisoformat(ended["metadata"][name]) for name in ("createTime", "endTime")]
    assert times[1] - times[0] == timedelta(hours=1)


@pytest.mark.parametrize("style", ["camel", "snake"])
async def test_both_spellings(style: str) -> None:
    """Create takes camelCase and snake_case, in the body and in the lines."""
    camel = style == "camel"
    config = (
        {"generationConfig": {"imageConfig": {"aspectRatio": "16:9"}}}
        if camel
        else {"generation_config": {"image_config": {"aspect_ratio": "16:9"}}}
    )
    async with batching() as caller:
        file = await caller.upload(line("a", "A robot", **config))
        batch = (
            {"displayName": "x", "inputConfig": {"fileName": file}, "priority": "5"}
            if camel
            else {"display_name": "x", "input_config": {"file_name": file}}
        )
        path = f"/v1/models/{PRO}:batchGenerateContent"
        got = await caller.send("POST", path, content={"batch": batch})
        assert got.status == 200, got.body
        (result,) = await caller.results(got.json["name"])
    assert "response" in result


async def test_creating_twice_makes_two() -> None:
    """Nothing makes a second create the same batch."""
    async with batching() as caller:
        file = await caller.upload(lines("A robot"))
        names = [(await caller.create(file)).json["name"] for _ in range(2)]
        assert await caller.listed() == names[::-1]
    assert len({*names}) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"batch": {"inputConfig": {"fileName": "files/x"}}}, "display_name"),
        ({"batch": {"displayName": "x", "inputConfig": {"file": "files/x"}}}, 'Unknown name "file"'),
        ({"batch": {"displayName": "x"}}, "no requests"),
        ({"batch": {"displayName": "x", "inputConfig": {"requests": {"requests": ["x"]}}}}, "input_config"),
        ([], "start list"),
    ],
)  # fmt: skip
async def test_a_bad_request(content: Any, words: str) -> None:
    """A request without a name, without requests, or with an unknown field is a 400."""
    async with batching() as caller:
        path = f"/v1beta/models/{PRO}:batchGenerateContent"
        got = await caller.send("POST", path, content=content)
    assert (got.status, words in got.message) == (400, True)


async def test_another_model_or_file() -> None:
    """An unknown model is a 404, a file that is not there a 403, a wrong key a 400."""
    async with batching(key="any") as caller:
        file = await caller.upload(lines("A robot"))
        model = await caller.create(file, model="gemini-9")
        missing = await caller.create("files/nothere")
        wrong = await caller.create(file, headers=OTHER)
        unknown = [await caller.get("batches/x", headers) for headers in (KEY, OTHER, {})]
    assert (model.status, "not supported for batchGenerateContent" in model.message) == (404, True)
    assert (missing.status, wrong.status) == (403, 400)
    assert [got.status for got in unknown] == [404, 400, 403]


async def test_the_parser_is_strict() -> None:
    """Unknown fields and broken JSON are named by line, and no batch is made."""
    text = line("a", "x", thinking_config={}) + line("b", "x") + b'{"key": "c", "request": {\n'
    text += b'{"key": 5, "request": {"contents": []}}\n{"key": "e"}\n\n[]\n'
    async with batching() as caller:
        got = await caller.create(await caller.upload(text))
        assert await caller.listed() == []
        broken = await caller.create(await caller.upload(b'{"key": "\\ud800"}'))
        empty = await caller.create(await caller.upload(b"\n\n"))
    errors = got.message.splitlines()
    assert got.status == 400
    assert errors[0].startswith("Error on line 1: invalid JSON, near column ")
    assert errors[0].endswith("no such field: 'thinking_config'")
    assert [error[:16] for error in errors[1:]] == [f"Error on line {n}:" for n in (3, 4, 5, 6)]
    assert (broken.status, empty.status) == (400, 400)


async def test_what_the_model_refuses_is_an_error_of_its_line() -> None:
    """A request that can be read and that the model refuses fails alone."""
    text = line("a", "x", generationConfig={"imageConfig": {"imageSize": "9K"}}) + line("b", "x")
    async with batching() as caller:
        made = await caller.create(await caller.upload(text))
        first, second = await caller.results(made.json["name"])
    assert (first["key"], first["error"]["code"]) == ("a", 3)
    assert "response" in second


async def test_limits_of_open_batches() -> None:
    """So many batches, and so many tokens of a model, may be open; a batch counts until it ends."""
    limits: dict[str, Any] = {"max_batches": 2, "batch_tokens": 3000, "batch_turnaround_s": 60.0}
    edit = json.dumps({"key": "a", "request": with_images("x", image(), image())}).encode()
    async with batching(**limits) as caller:
        one, big = await caller.upload(lines("A robot")), await caller.upload(edit + b"\n" + edit)
        assert [(await caller.create(big)).status for _ in range(2)] == [200, 429]
        refused = await caller.create(big)
        assert (await caller.create(one)).status == 200
        assert (await caller.create(one, model=FLASH)).status == 429
        caller.simulator.clock.advance(60)
        assert [(await caller.create(big)).status, (await caller.create(one)).status] == [200, 200]
    assert refused.json["error"]["status"] == "RESOURCE_EXHAUSTED"
    assert [item["@type"].rpartition(".")[2] for item in refused.json["error"]["details"]] == [
        "Help"
    ]


async def test_documented_limits() -> None:
    """Each model has its limit of tokens by default; the tier `unlimited` has none."""
    enough = line("a", "more" + "x" * 4 * load_models()[FLASH].batch_tokens)
    for tier, status in (("free", 429), ("unlimited", 200)):
        async with batching(tier=tier, batch_turnaround_s=60.0) as caller:
            assert (await caller.create(await caller.upload(enough), model=FLASH)).status == status


async def test_inlined_requests_are_small() -> None:
    """Inlined requests of more than 20 MB are refused."""
    async with batching() as caller:
        path = f"/v1beta/models/{PRO}:batchGenerateContent"
        got = await caller.send("POST", path, data=b'"' + b"x" * 21_000_000 + b'"')
    assert (got.status, "payload size exceeds" in got.message) == (400, True)


def _open_files() -> int:
    return len([*Path("/dev/fd").iterdir()])


async def test_many_files_fit_into_a_process() -> None:
    """Small files and results hold no file open: a process may have only so many."""
    async with batching() as caller:
        before = _open_files()
        for _ in range(20):
            await caller.download(await caller.run("A robot"))
        assert _open_files() < before + 20


async def test_quotas_of_requests_do_not_count() -> None:
    """The lines of a batch use no requests per minute or day."""
    async with batching(tier="free", requests_per_min=1) as caller:
        name = await caller.run(*["A robot"] * 5)
        assert [*map(len, await caller.results(name))] == [2] * 5


# --- get, list, cancel, delete ------------------------------------------------------------------


async def test_states_follow_the_clock() -> None:
    """A batch is pending, runs, and ends after the turnaround; `POST /clock` moves it."""
    async with batching(batch_turnaround_s=HOUR_S) as caller:
        name = await caller.run(*["A robot"] * 4)
        seen = [await caller.state(name)]
        for advance_s in (HOUR_S / 2, HOUR_S / 2):
            moved = await caller.send("POST", "/clock", content={"advance_s": advance_s})
            assert moved.status == 200
            metadata = (await caller.get(name)).json["metadata"]
            seen.append(metadata["state"])
            if "RUNNING" in seen[-1]:
                stats = metadata["batchStats"]
                assert (await caller.download(name)).status == 404
    assert seen == ["BATCH_STATE_PENDING", "BATCH_STATE_RUNNING", "BATCH_STATE_SUCCEEDED"]
    assert (stats["successfulRequestCount"], stats["pendingRequestCount"]) == ("2", "2")


async def test_a_batch_expires() -> None:
    """A batch that has not ended after 48 h is EXPIRED, without results."""
    async with batching(batch_turnaround_s=1e9) as caller:
        name = await caller.run("A robot")
        caller.simulator.clock.advance(timedelta(hours=47).total_seconds())
        assert await caller.state(name) == "BATCH_STATE_RUNNING"
        caller.simulator.clock.advance(HOUR_S)
        got = (await caller.get(name)).json
        assert (await caller.download(name)).status == 404
    assert (got["metadata"]["state"], got["done"], got["error"]["code"]) == (
        "BATCH_STATE_EXPIRED",
        True,
        4,
    )
    assert "response" not in got


async def test_results_are_kept_for_six_weeks() -> None:
    """Results outlive their input file, and are gone after six weeks."""
    async with batching() as caller:
        name = await caller.run("A robot")
        caller.simulator.clock.advance(timedelta(weeks=6, hours=-1).total_seconds())
        assert len(await caller.results(name)) == 1
        caller.simulator.clock.advance(HOUR_S)
        assert (await caller.download(name)).status == 404


async def test_a_batch_belongs_to_its_key() -> None:
    """Another key does not see a batch, nor its results, nor may it cancel it."""
    async with batching() as caller:
        name = await caller.run("A robot")
        assert (await caller.get(name, OTHER)).status == 404
        assert (await caller.send("GET", "/v1beta/batches", headers=OTHER)).json == {}
        for method, path in (("POST", f"{name}:cancel"), ("DELETE", name)):
            assert (await caller.send(method, f"/v1beta/{path}", headers=OTHER)).status == 404
        path = f"/v1beta/files/batch-{name.removeprefix('batches/')}:download"
        assert (await caller.send("GET", path, headers=OTHER)).status == 404
        assert (await caller.send("GET", path)).status == 200


async def test_pages_of_batches() -> None:
    """The list has the newest batch first, in pages."""
    async with batching() as caller:
        file = await caller.upload(lines("A robot"))
        names = [(await caller.create(file)).json["name"] for _ in range(5)]
        found: list[str] = []
        token = ""
        while True:
            path = f"/v1beta/batches?pageSize=2&pageToken={token}"
            page = (await caller.send("GET", path)).json
            found += [item["name"] for item in page["operations"]]
            token = page.get("nextPageToken", "")
            if not token:
                break
    assert found == names[::-1]


async def test_cancel_and_delete() -> None:
    """Cancel ends a batch without results; delete removes it from the list, and it goes on."""
    async with batching(batch_turnaround_s=HOUR_S) as caller:
        cancelled, deleted = await caller.run("A robot"), await caller.run("A fox")
        got = await caller.send("POST", f"/v1beta/{cancelled}:cancel")
        gone = await caller.send("DELETE", f"/v1beta/{deleted}")
        assert (got.status, got.json, gone.status, gone.json) == (200, {}, 200, {})
        assert await caller.listed() == [cancelled]
        assert (await caller.get(deleted)).status == 404
        operation = (await caller.get(cancelled)).json
        caller.simulator.clock.advance(HOUR_S)
        report = {batch["name"]: batch for batch in caller.simulator.report()["batches"]}
    assert (operation["metadata"]["state"], operation["error"]["code"]) == (
        "BATCH_STATE_CANCELLED",
        1,
    )
    assert (report[cancelled]["paid"], report[deleted]["paid"]) == (0, 1)


async def test_the_audit_counts_each_method() -> None:
    """The audit has the number of requests by method of the API; its page has the batches."""
    async with batching() as caller:
        name = await caller.run("A <robot>", name="<mine>")
        await caller.results(name)
        await caller.listed()
        await caller.send("POST", f"/v1beta/{name}:cancel")
        await caller.send("DELETE", f"/v1beta/{name}")
        file = await caller.upload(b"x")
        for method, path in (("GET", file), ("DELETE", file), ("GET", "files"), ("GET", name)):
            await caller.send(method, f"/v1beta/{path}")
        report = (await caller.send("GET", "/audit")).json
        page = (await caller.send("GET", "/audit", headers={"Accept": "text/html"})).body.decode()
    assert report["operations"] == {
        "files.upload": 4,
        "files.download": 1,
        "files.get": 1,
        "files.list": 1,
        "files.delete": 1,
        "batches.create": 1,
        "batches.list": 1,
        "batches.get": 1,
        "batches.cancel": 1,
        "batches.delete": 1,
    }
    assert (report["batches"][0]["display_name"], report["paid"][0]["batch"]) == ("<mine>", 1)
    assert ("&lt;mine&gt;" in page, "<mine>" in page, "SUCCEEDED" in page) == (True, False, True)


async def test_cancelling_what_has_ended() -> None:
    """A batch that has ended stays as it is."""
    async with batching() as caller:
        name = await caller.run("A robot")
        assert (await caller.send("POST", f"/v1beta/{name}:cancel")).json == {}
        assert await caller.state(name) == "BATCH_STATE_SUCCEEDED"


# --- faults of create ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status"),
    [("create-400", 400), ("create-429", 429), ("create-429-zero", 429), ("create-503", 503)],
)
async def test_no_batch_is_made(fault: str, status: int) -> None:
    """These errors make no batch, and by a marker in a line the next try may make one."""
    async with batching() as caller:
        file = await caller.upload(lines("A fox", f"A robot [[fault:{fault} x1]]"))
        got = await caller.create(file)
        assert (got.status, await caller.listed()) == (status, [])
        assert (await caller.create(file)).status == 200
    assert ("limit: 0" in got.message) == (fault == "create-429-zero")
    assert ("Error on line 1" in got.message) == (fault == "create-400")


@pytest.mark.parametrize(
    "fault", ["create-503-after", "create-reset-after", "create-hang-after=0.1"]
)
async def test_a_batch_is_made_and_not_named(fault: str) -> None:
    """A batch is made and the answer is an error; the list has it, by its display name and its file."""
    async with batching() as caller:
        file = await caller.upload(lines(f"A robot [[fault:{fault} x1]]"))
        try:
            assert (await caller.create(file, name="mine")).status == 503
        except aiohttp.ClientError:
            assert "503" not in fault
        (made,) = (await caller.send("GET", "/v1beta/batches")).json["operations"]
        assert (await caller.create(file, name="mine")).status == 200
        (paid,) = caller.simulator.report()["paid"]
    assert made["metadata"]["displayName"] == "mine"
    assert made["metadata"]["inputConfig"]["fileName"] == file
    assert (paid["batch"], paid["interactive"]) == (2, 0)


async def test_a_client_that_goes_while_its_batch_is_made() -> None:
    """A batch is made although its client has closed the connection before the answer."""
    async with batching() as caller:
        file = await caller.upload(lines(*["A robot"] * 200))
        creation = asyncio.create_task(caller.create(file))
        await until(lambda: bool(caller.simulator._batches._batches._creations))  # type: ignore[union-attr]
        creation.cancel()
        store = caller.simulator._batches.store  # type: ignore[union-attr]
        await until(lambda: bool(store.batches))
        assert await caller.listed() == [f"batches/{batch}" for batch in store.batches]


async def test_a_model_without_batches() -> None:
    """`no-batch` takes the method from `models.get`, and create is a 404; other models keep it."""
    async with batching(rates={"no-batch": 1.0}) as caller:
        model = (await caller.send("GET", f"/v1beta/models/{PRO}")).json
        file = await caller.upload(lines("A robot"))
        got = await caller.create(file)
    assert model["supportedGenerationMethods"] == ["generateContent", "countTokens"]
    assert (got.status, "not supported for batchGenerateContent" in got.message) == (404, True)


# --- faults of a batch's course -----------------------------------------------------------------


async def _course(caller: BatchCaller, fault: str, *prompts: str) -> dict[str, Any]:
    """Return a batch of two lines, or of these, that has this fault."""
    name = await caller.run(*(prompts or ("A robot", "A fox")), name=f"mine [[fault:{fault}]]")
    return dict((await caller.get(name)).json)


@pytest.mark.parametrize("state", ["failed", "expired"])
async def test_an_end_without_results(state: str) -> None:
    """A batch fails or expires at its end; it names no file, and nothing is paid."""
    async with batching() as caller:
        got = await _course(caller, state)
        assert (await caller.download(got["name"])).status == 404
        report = caller.simulator.report()
    assert got["metadata"]["state"] == f"BATCH_STATE_{state.upper()}"
    assert ("error" in got, "output" in got["metadata"], report["paid"]) == (True, False, [])


@pytest.mark.parametrize("state", ["failed", "expired", "cancelled"])
async def test_an_end_with_some_results(state: str) -> None:
    """A batch that did not succeed may name a file with some of its results; they are paid."""
    async with batching(batch_turnaround_s=HOUR_S) as caller:
        got = await _course(caller, f"{state}-partial")
        if state == "cancelled":
            await caller.send("POST", f"/v1beta/{got['name']}:cancel")
        caller.simulator.clock.advance(HOUR_S)
        got = (await caller.get(got["name"])).json
        results = await caller.results(got["name"])
        (paid,) = caller.simulator.report()["paid"]
    assert got["metadata"]["state"] == f"BATCH_STATE_{state.upper()}"
    assert got["metadata"]["output"]["responsesFile"].startswith("files/batch-")
    assert ([result["key"] for result in results], paid["prompt"]) == (["0"], "A robot")
    assert got["metadata"]["batchStats"] == {"requestCount": "2", "successfulRequestCount": "1"}


async def test_a_list_that_lags() -> None:
    """A new batch is not in the list for a while; get has it."""
    async with batching() as caller:
        got = await _course(caller, "list-lag=90")
        assert await caller.listed() == []
        caller.simulator.clock.advance(90)
        assert await caller.listed() == [got["name"]]


async def test_a_batch_that_is_stuck() -> None:
    """A batch may be pending until it expires."""
    async with batching() as caller:
        got = await _course(caller, "stuck")
        caller.simulator.clock.advance(timedelta(hours=47).total_seconds())
        assert await caller.state(got["name"]) == "BATCH_STATE_PENDING"
        caller.simulator.clock.advance(HOUR_S)
        assert await caller.state(got["name"]) == "BATCH_STATE_EXPIRED"


@pytest.mark.parametrize(
    ("fault", "states"),
    [
        ("cancel-late=60", ["RUNNING", "CANCELLED", "CANCELLED"]),
        ("cancel-ignored", ["RUNNING", "RUNNING", "SUCCEEDED"]),
    ],
)
async def test_cancelling_takes_time(fault: str, states: list[str]) -> None:
    """A cancelled batch may run on for a while, or to its end."""
    async with batching(batch_turnaround_s=HOUR_S) as caller:
        got = await _course(caller, fault)
        caller.simulator.clock.advance(HOUR_S / 2)
        await caller.send("POST", f"/v1beta/{got['name']}:cancel")
        seen = []
        for advance_s in (0, 60, HOUR_S):
            caller.simulator.clock.advance(advance_s)
            seen.append(await caller.state(got["name"]))
    assert seen == [f"BATCH_STATE_{state}" for state in states]


async def test_deleting_may_cancel() -> None:
    """By the guide, a batch that is deleted stops."""
    async with batching(batch_turnaround_s=HOUR_S) as caller:
        got = await _course(caller, "delete-cancels")
        await caller.send("DELETE", f"/v1beta/{got['name']}")
        (batch,) = caller.simulator.report()["batches"]
    assert (batch["state"], batch["is_deleted"], batch["paid"]) == ("CANCELLED", True, 0)


async def test_a_batch_vanishes() -> None:
    """A batch may be gone once it has run; it is paid all the same."""
    async with batching(batch_turnaround_s=HOUR_S) as caller:
        got = await _course(caller, "vanished")
        assert await caller.listed() == [got["name"]]
        caller.simulator.clock.advance(HOUR_S)
        statuses = (
            (await caller.get(got["name"])).status,
            (await caller.download(got["name"])).status,
        )
        assert (statuses, await caller.listed()) == ((404, 404), [])
        assert len(caller.simulator.report()["paid"]) == 2


async def test_an_operation_with_an_error() -> None:
    """An operation may be done with an error, and its state say RUNNING."""
    async with batching() as caller:
        got = await _course(caller, "op-error")
    assert (got["done"], "error" in got, got["metadata"]["state"]) == (
        True,
        True,
        "BATCH_STATE_RUNNING",
    )


@pytest.mark.parametrize(("fault", "comes"), [("no-output", False), ("output-late=60", True)])
async def test_success_without_a_file(fault: str, *, comes: bool) -> None:
    """A batch may succeed before it names its file, or never name one."""
    async with batching() as caller:
        got = await _course(caller, fault)
        assert (await caller.download(got["name"])).status == 404
        caller.simulator.clock.advance(60)
        later = (await caller.get(got["name"])).json
    assert got["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"
    assert ("output" in got["metadata"], "output" in later["metadata"]) == (False, comes)


async def test_another_dialect() -> None:
    """States may have the other prefix, the Operation may be missing, and so may the counts."""
    async with batching() as caller:
        got = await _course(caller, "job-states+top-level+no-stats")
        (listed,) = (await caller.send("GET", "/v1beta/batches")).json["operations"]
    assert got == listed
    assert (got["state"], got["name"][:8], "metadata" in got) == (
        "JOB_STATE_SUCCEEDED",
        "batches/",
        False,
    )
    assert ("batchStats" in got, got["output"]["responsesFile"][:12]) == (False, "files/batch-")


# --- faults of get and list ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status"), [("get-404", 404), ("get-429", 429), ("get-503", 503)]
)
async def test_get_fails_for_now(fault: str, status: int) -> None:
    """Get may fail although the batch is there."""
    async with batching() as caller:
        name = await caller.run(f"A robot [[fault:{fault} x2]]")
        assert [(await caller.get(name)).status for _ in range(3)] == [status, status, 200]
        assert await caller.listed() == [name]


async def test_inlined_answers_that_never_come() -> None:
    """Get of a batch with inlined answers may be a 503 each time; one with a file is not."""
    async with batching(rates={"inlined-503": 1.0}) as caller:
        name = await caller.run("A robot")
        request = {"contents": [{"parts": [{"text": "A fox"}]}]}
        content = {"requests": {"requests": [{"request": request, "metadata": {"key": "a"}}]}}
        batch = {"batch": {"displayName": "x", "inputConfig": content}}
        path = f"/v1beta/models/{PRO}:batchGenerateContent"
        inlined = (await caller.send("POST", path, content=batch)).json["name"]
        assert (await caller.get(name)).status == 200
        assert [(await caller.get(inlined)).status for _ in range(2)] == [503, 503]


@pytest.mark.parametrize(("fault", "status"), [("list-429", 429), ("list-503", 503)])
async def test_list_fails(fault: str, status: int) -> None:
    """List may fail."""
    async with batching(rates={fault: 1.0}) as caller:
        assert (await caller.send("GET", "/v1beta/batches")).status == status


async def test_a_list_that_ends_early() -> None:
    """List may end with a page although there are more: that a batch is not there proves nothing."""
    async with batching(rates={"list-cut": 1.0}) as caller:
        file = await caller.upload(lines("A robot"))
        names = [(await caller.create(file)).json["name"] for _ in range(3)]
        page = (await caller.send("GET", "/v1beta/batches?pageSize=2")).json
    assert [item["name"] for item in page["operations"]] == names[:0:-1]
    assert "nextPageToken" not in page
