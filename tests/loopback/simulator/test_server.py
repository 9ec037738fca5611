import asyncio
import re
import socket
from datetime import UTC, datetime

import aiohttp
import pytest
from aiohttp import web

from gemini_batch.errors import ConfigError
from gemini_batch.simulator import Simulator, SimulatorConfig, delivery
from gemini_batch.simulator.models import load_models
from tests.loopback.simulator.client import FLASH, PRO, Caller, Got, SetTime, calling, text, until

pytestmark = pytest.mark.loopback


async def _audit(caller: Caller, accept: str = "application/json") -> tuple[str, str]:
    async with caller.session.get(
        f"{caller.simulator.base_url}/audit", headers={"Accept": accept}
    ) as response:
        return response.content_type, await response.text()


async def test_base_url() -> None:
    """A simulator listens on loopback, on a free port."""
    async with Simulator() as simulator:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d{4,5}", simulator.base_url)


@pytest.mark.parametrize(
    ("host", "shown"), [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "127.0.0.1"), ("::", "[::1]")]
)
def test_base_url_can_be_sent_to(host: str, shown: str) -> None:
    """A simulator on every address names one that a client can send to."""
    assert Simulator(SimulatorConfig(host=host)).base_url == f"http://{shown}:0"


async def test_two_at_once() -> None:
    """Several simulators run side by side and know nothing of each other."""
    async with calling() as one, calling() as other:
        await one.ask("x")
        assert (len(one.simulator.audit.entries), len(other.simulator.audit.entries)) == (1, 0)


async def test_busy_port() -> None:
    """A port that is taken is one clear sentence."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError) as caught:
            await Simulator(SimulatorConfig(port=port)).start()
    assert str(caught.value) == (
        f"127.0.0.1, port {port}: in use by another program; choose another port, or 0 for a free one"
    )


async def test_stop_while_handlers_hang() -> None:
    """Stopping ends hanging answers too, at once."""
    async with aiohttp.ClientSession() as session:
        simulator = Simulator(SimulatorConfig(tier="unlimited", latency_s=0, pixels=32))
        await simulator.start()
        url = f"{simulator.base_url}/v1beta/models/{PRO}:generateContent"

        async def hang(fault: str) -> None:
            request = text(f"x [[fault:{fault}]]")
            with pytest.raises(aiohttp.ClientError):
                async with session.post(
                    url, json=request, headers={"x-goog-api-key": "any"}
                ) as response:
                    await response.read()

        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            for fault in ("hang", "stall", "trickle=60"):
                group.create_task(hang(fault))
            await until(
                lambda: sum(e.http_status is not None for e in simulator.audit.entries) == 3
            )
            began_s = loop.time()
            await simulator.stop()
        assert loop.time() - began_s < 2


async def test_stop_twice() -> None:
    """Stopping again, or before a start, does nothing."""
    simulator = Simulator()
    await simulator.stop()
    await simulator.start()
    await simulator.stop()
    await simulator.stop()


async def test_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are answered side by side: the first of a hundred waits for the last, and the audit saw them together."""
    all_here, whole = asyncio.Barrier(100), delivery.whole

    async def together(answer: delivery.OutgoingAnswer) -> web.StreamResponse:
        await all_here.wait()
        return await whole(answer)

    monkeypatch.setattr(delivery, "whole", together)
    async with calling() as caller:
        async with asyncio.timeout(300), asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(caller.ask(f"job {number} [[fault:late=0.01]]"))
        assert caller.simulator.report()["models"][0]["most_in_flight"] == 100


async def test_audit_as_json() -> None:
    """The audit counts by project and model, and lists what arrived in its order; no key is in it."""
    async with calling(tier="free") as caller:
        await caller.ask("A robot [[fault:503]]")
        await caller.ask("A  cat\nin the sun")
        await caller.post({}, model=FLASH)
        kind, body = await _audit(caller)
        report = caller.simulator.report()
    assert kind == "application/json"
    assert [entry["number"] for entry in report["entries"]] == [1, 2, 3]
    assert [entry["http_status"] for entry in report["entries"]] == [503, 200, 400]
    assert [entry["prompt"] for entry in report["entries"]] == [
        "A robot [[fault:503]]",
        "A cat in the sun",
        "",
    ]
    assert report["entries"][0]["faults"] == "503"
    assert report["entries"][1]["bytes_out"] > 1000
    assert all(entry["latency_s"] >= 0 for entry in report["entries"])
    first = report["models"][0]
    assert (first["model"], first["requests"], first["images"]) == (PRO, 2, 1)
    assert first["by_status"] == {"503": 1, "200": 1}
    assert first["worst_minute"]["requests"] == 2
    assert first["worst_minute"]["limit"] == 15
    assert first["used"]["requests_per_min"] == {"used": 2, "limit": 15}
    assert report["faults"] == {"503": 1}
    assert "any" not in re.findall(r'"project": "([^"]*)"', body)


async def test_worst_minute() -> None:
    """The worst minute is the most requests in any sixty seconds, not in the clock's minutes."""
    time = SetTime()
    async with calling(clock=time()) as caller:
        for at_s, count in ((0, 3), (50, 4), (59, 2), (61, 2), (200, 5)):
            time.passed_s = at_s
            for number in range(count):
                await caller.ask(f"{at_s} {number}")
        worst = caller.simulator.report()["models"][0]["worst_minute"]
        assert (
            caller.simulator.audit.worst_minute()
            == caller.simulator.audit.worst_minute(PRO)
            == worst["requests"]
            == 9
        )
        assert caller.simulator.audit.worst_minute(FLASH) == 0
    assert worst["began_s"] == 0


async def test_a_bug_of_the_simulator_is_a_500(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug of the simulator is a 500 that says so and what it was; its traceback is for those who set up logging."""

    def fail(*_: object) -> None:
        raise LookupError("nothing here")

    async with calling() as caller:
        monkeypatch.setattr(caller.simulator.audit, "record_arrival", fail)
        got = await caller.ask("x")
    assert (got.status, got.json["error"]["status"]) == (500, "INTERNAL")
    assert got.message == "simulator: internal error, please report it: LookupError: nothing here"
    assert [record.name for record in caplog.records] == ["gemini_batch.simulator"]


@pytest.mark.parametrize("enforce", ["sliding", "fixed", "bucket"])
async def test_a_minute_of_almost_nothing(enforce: str) -> None:
    """A minute that is shorter than any clock's step is one that ends at once: everything is answered."""
    async with calling(tier="free", requests_per_min=5, minute_s=1e-300, enforce=enforce) as caller:
        statuses = [(await caller.ask("x")).status for _ in range(3)]
        assert caller.simulator.audit.worst_minute() == 1
    assert statuses == [200, 200, 200]


async def test_audit_for_a_browser() -> None:
    """A browser gets a page; what came from outside is escaped in it."""
    async with calling(tier="free") as caller:
        await caller.ask("<script>alert(1)</script> [[fault:404]]")
        await caller.ask("x", model="<b>")
        kind, body = await _audit(caller, "text/html,application/xhtml+xml,*/*;q=0.8")
    assert kind == "text/html"
    assert "<script>" not in body
    assert "<b>" not in body
    assert "&lt;script&gt;" in body
    assert "1 of 15" in body


async def test_audit_page_of_every_ending() -> None:
    """The page shows exceeded limits, a disconnected client, a request in flight, and no requests."""
    async with calling(
        tier="free", requests_per_min=1, tokens_per_min=500, usd_per_10min=10
    ) as caller:
        entries = caller.simulator.audit.entries
        kind, empty = await _audit(caller, "text/html")
        await caller.ask("first")
        await caller.ask("x" * 500 + " [[fault:503]]")
        leaving = asyncio.create_task(
            caller.ask("never [[fault:hang]]", headers={"x-goog-api-key": "other"})
        )
        await until(lambda: len(entries) == 3 and entries[2].prompt != "")
        leaving.cancel()
        waiting = asyncio.create_task(
            caller.ask("slow [[fault:late=30]]", headers={"x-goog-api-key": "third"})
        )
        await until(lambda: len(entries) == 4 and entries[2].abandoned)
        _, body = await _audit(caller, "text/html")
        waiting.cancel()
    assert (kind, "No requests yet" in empty, "No requests yet" in body) == (
        "text/html",
        True,
        False,
    )
    assert "limit over'><span>busiest minute" in body
    assert "2 of 1<" in body
    assert "$0.134 of $10<" in body
    assert "disconnected &times; 1" in body
    assert "disconnected</span>" in body
    assert "<span class=chip>…</span>" in body
    assert "4 requests until" in body


async def _get(caller: Caller, path: str, key: str = "any") -> Got:
    headers = {"x-goog-api-key": key} if key else {}
    async with caller.session.get(caller.simulator.base_url + path, headers=headers) as response:
        return Got(response.status, await response.read(), response.headers)


async def test_list_of_models() -> None:
    """The models can be listed, as a client does to check its key: a wrong one is refused, and so is none."""
    async with calling(key="the-one") as caller:
        good, wrong, none = [
            await _get(caller, "/v1beta/models", key) for key in ("the-one", "other", "")
        ]
    assert f"models/{PRO}" in [model["name"] for model in good.json["models"]]
    assert "nextPageToken" not in good.json
    assert (wrong.status, wrong.details("ErrorInfo")["reason"]) == (400, "API_KEY_INVALID")
    assert (none.status, none.json["error"]["status"]) == (403, "PERMISSION_DENIED")


async def test_pages_of_models() -> None:
    """`pageSize` is the most models of a page, and `nextPageToken` leads to the next one until there is none."""
    names, token = [], ""
    async with calling() as caller:
        for _ in range(10):
            page = (await _get(caller, f"/v1beta/models?pageSize=4&pageToken={token}")).json
            names.append([model["name"].removeprefix("models/") for model in page["models"]])
            token = page.get("nextPageToken", "")
            if not token:
                break
        large = (await _get(caller, "/v1beta/models?pageSize=5000")).json
    known = list(load_models())
    assert names == [known[:4], known[4:]]
    assert len(large["models"]) == len(known)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("pageSize=x", "Invalid value at 'page_size' (TYPE_INT32), \"x\""),
        ("pageSize=-1", "* ListModelsRequest.page_size: must not be negative\n"),
        ("pageToken=x", "* ListModelsRequest.page_token: is none of this method's\n"),
    ],
)
async def test_page_that_is_none(query: str, words: str) -> None:
    """A page's size or token that is none is a 400."""
    async with calling() as caller:
        got = await _get(caller, f"/v1beta/models?{query}")
    assert (got.status, got.message) == (400, words)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (f"/v1beta/models/{PRO}:streamGenerateContent?alt=sse", "streamGenerateContent"),
        ("/v1alpha/auth_tokens", "auth_tokens"),
        ("/v1beta/cachedContents/x", "cachedContents"),
        ("/upload/v1beta/fileSearchStores/x:uploadToFileSearchStore", "fileSearchStores"),
        (
            "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent",
            "BidiGenerateContent",
        ),
    ],
)
async def test_what_is_not_simulated(path: str, name: str) -> None:
    """A part of the API that is not simulated is a 501 in Google's form, whatever the HTTP method; the key is looked at first."""
    async with calling(key="the-one") as caller:
        got, keyless = await _get(caller, path, "the-one"), await _get(caller, path, "")
        async with caller.session.post(
            f"{caller.simulator.base_url}{path}", headers={"x-goog-api-key": "the-one"}
        ) as post:
            assert post.status == 501
    assert (got.status, got.json["error"]["status"], keyless.status) == (501, "UNIMPLEMENTED", 403)
    assert got.message.startswith(
        f"simulator: {name} is not simulated; available: generateContent, "
    )


@pytest.mark.parametrize(
    "path",
    [
        "/v1beta/filesystem",
        "/v1beta/models/x:foo",
        "/v1gamma/files",
        "/v1beta/models/x/y",
        "/favicon.ico",
        "/files",
    ],
)
async def test_what_does_not_exist(path: str) -> None:
    """A path that the API does not have is Google's page."""
    async with calling() as caller:
        got = await _get(caller, path)
    assert (got.status, got.headers["Content-Type"]) == (404, "text/html; charset=UTF-8")


async def test_path_is_shown_as_text() -> None:
    """On the page of an unknown path, the path is text, whatever is in it."""
    async with calling() as caller:
        got = await _get(caller, "/%3Cscript%3Ealert(1)%3C/script%3E")
    assert (b"<script>" in got.body, b"&lt;script&gt;alert(1)" in got.body) == (False, True)


@pytest.mark.parametrize(
    ("body", "model", "status", "said"),
    [
        (
            text("four"),
            PRO,
            200,
            {"totalTokens": 1, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 1}]},
        ),
        ({"generateContentRequest": text("four")}, PRO, 200, None),
        ({"generateContentRequest": text("x", foo=1)}, PRO, 400, None),
        ({}, PRO, 400, None),
        (text("x", seed=1), PRO, 400, None),
        (text("x"), "gemini-9", 404, None),
        (text("x" * 3000), PRO, 400, None),
    ],
)
async def test_count_of_tokens(body: object, model: str, status: int, said: object) -> None:
    """`countTokens` counts contents or a whole request, is as strict as the rest, and is no request of the quota."""
    async with calling(tier="free", requests_per_min=0, max_request_bytes=2000) as caller:
        url = f"{caller.simulator.base_url}/v1beta/models/{model}:countTokens"
        async with caller.session.post(
            url, json=body, headers={"x-goog-api-key": "any"}
        ) as response:
            got = await response.json()
        async with caller.session.post(url, json=body) as keyless:
            assert keyless.status == 403
    assert response.status == status
    assert said in (None, got)


async def test_clock_over_http() -> None:
    """Another process can move the server's time forward: by seconds, or to a time."""
    time = SetTime(datetime(2026, 11, 22, 20, 0, 0, tzinfo=UTC))
    async with calling(requests_per_min=1, clock=time()) as caller:
        url = f"{caller.simulator.base_url}/clock"
        first = [(await caller.ask("x")).status for _ in range(2)]
        async with caller.session.post(url, json={"advance_s": 120}) as response:
            assert await response.json() == {"now": "2026-11-22T20:02:00+00:00"}
        second = (await caller.ask("x")).status
        async with caller.session.post(url, json={"now": "2026-11-23T00:00:00-08:00"}) as response:
            assert await response.json() == {"now": "2026-11-23T08:00:00+00:00"}
        third = (await caller.ask("x")).status
    assert (first, second, third) == ([200, 429], 200, 200)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("{}", "got neither"),
        ("[]", "got neither"),
        ('{"advance_s": -1}', "can't go back: got -1 seconds; allowed: 0 or more"),
        ('{"advance_s": NaN}', "can't go back: got nan seconds; allowed: 0 or more"),
        ('{"advance_s": Infinity}', "ends at 9999-01-01T00:00:00+00:00: inf seconds is too far"),
        ('{"advance_s": 1e300}', "ends at 9999-01-01T00:00:00+00:00: 1e+300 seconds is too far"),
        (f'{{"advance_s": 1{"0" * 400}}}', "; allowed: seconds, 0 or more"),
        ('{"advance_s": "x"}', "advance_s: got 'x'; allowed: seconds, 0 or more"),
        ('{"advance_s": null}', "advance_s: got 'None'; allowed: seconds, 0 or more"),
        ('{"now": "2020-01-01T00:00:00Z"}', "can't go back: got 2020-01-01T00:00:00+00:00"),
        ('{"now": "2030-01-01"}', "a time needs a time zone"),
        (
            '{"now": "9999-12-31T23:59:59-12:00"}',
            "ends at 9999-01-01T00:00:00+00:00: got 9999-12-31T23:59:59-12:00",
        ),
        ('{"now": 5}', "now: got '5'; allowed: a time with a time zone"),
        ("[" * 4000, 'send {"advance_s": 3600} or {"now": '),
        (" " * 5000, "Request payload size exceeds the limit: 4096 bytes."),
    ],
    ids=lambda given: given[:30],
)
async def test_clock_refuses(wrong: str, words: str) -> None:
    """A time that is none, in the past, or past what a clock can show is refused in a sentence, and changes nothing."""
    time = SetTime()
    async with calling(tier="free", clock=time()) as caller:
        async with caller.session.post(
            f"{caller.simulator.base_url}/clock",
            data=wrong,
            headers={"Content-Type": "application/json"},
        ) as response:
            assert (response.status, words in (await response.json())["error"]) == (400, True)
        assert caller.simulator.clock.utc() == time.began
        assert (await caller.ask("x")).status == 200


async def test_the_last_moment() -> None:
    """At the last time that the clock can be set to, requests are still answered and counted by minute and day."""
    async with calling(
        tier="free", requests_per_day=1, day_zone="Pacific/Kiritimati", clock=SetTime()()
    ) as caller:
        url = f"{caller.simulator.base_url}/clock"
        async with caller.session.post(url, json={"now": "9999-01-01T00:00:00Z"}) as response:
            assert await response.json() == {"now": "9999-01-01T00:00:00+00:00"}
        statuses = [(await caller.ask("x")).status for _ in range(2)]
        assert (await _audit(caller))[0] == "application/json"
    assert statuses == [200, 429]
