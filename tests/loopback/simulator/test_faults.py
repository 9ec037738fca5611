import asyncio
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from gemini_batch.simulator import files
from gemini_batch.simulator.answers import BLOCK_REASONS, FINISH_REASONS
from gemini_batch.simulator.faults import FAULTS
from tests.loopback.simulator.client import FLASH_25, PRO, Got, calling, text, until

pytestmark = pytest.mark.loopback

# HTTP status, Google's status, words of the message.
ERRORS = {
    "400": (400, "INVALID_ARGUMENT", "Unknown name"),
    "400-image": (400, "INVALID_ARGUMENT", "Unable to process input image"),
    "400-key": (400, "INVALID_ARGUMENT", "API key not valid"),
    "400-key-expired": (400, "INVALID_ARGUMENT", "API key expired"),
    "400-fetch": (400, "INVALID_ARGUMENT", "Cannot fetch content from the provided URL."),
    "400-location": (400, "FAILED_PRECONDITION", "User location is not supported for the API use."),
    "400-billing": (400, "FAILED_PRECONDITION", "enable billing"),
    "400-size": (400, "INVALID_ARGUMENT", "payload size exceeds"),
    "401": (401, "UNAUTHENTICATED", "invalid authentication credentials"),
    "401-expired": (401, "UNAUTHENTICATED", "invalid authentication credentials"),
    "402": (402, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted"),
    "403": (403, "PERMISSION_DENIED", "does not have permission"),
    "403-leaked": (403, "PERMISSION_DENIED", "reported as leaked"),
    "403-blocked": (403, "PERMISSION_DENIED", "are blocked"),
    "403-disabled": (403, "PERMISSION_DENIED", "Vertex AI API has not been used in project"),
    "403-role": (403, "PERMISSION_DENIED", "Permission 'aiplatform.endpoints.predict' denied"),
    "403-file": (403, "PERMISSION_DENIED", "File abc-123"),
    "404": (404, "NOT_FOUND", "is not found for API version"),
    "408": (408, "DEADLINE_EXCEEDED", "timed out"),
    "429-minute": (429, "RESOURCE_EXHAUSTED", "Please retry in"),
    "429-day": (429, "RESOURCE_EXHAUSTED", "Please retry in 22.3s"),
    "429-tokens": (429, "RESOURCE_EXHAUSTED", "input_token_count"),
    "429-images": (429, "RESOURCE_EXHAUSTED", "generate_images"),
    "429-usd": (429, "RESOURCE_EXHAUSTED", "generate_content_spend"),
    "429-both": (429, "RESOURCE_EXHAUSTED", "Please retry in"),
    "429-zero": (429, "RESOURCE_EXHAUSTED", "limit: 0"),
    "429-bare": (429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
    "429-shared": (429, "RESOURCE_EXHAUSTED", "Resource exhausted, please try again later."),
    "429-retry-after": (429, "RESOURCE_EXHAUSTED", "Please retry in 500ms"),
    "499": (499, "CANCELLED", "cancelled"),
    "500": (500, "INTERNAL", "internal error"),
    "503": (503, "UNAVAILABLE", "The model is overloaded."),
    "504": (504, "DEADLINE_EXCEEDED", "Deadline expired"),
}


@pytest.mark.parametrize("fault", ERRORS)
async def test_error(fault: str) -> None:
    """Each error comes with its status and its real body."""
    status, name, words = ERRORS[fault]
    async with calling() as caller:
        got = await caller.ask(f"x [[fault:{fault}]]")
    assert (got.status, got.json["error"]["code"], got.json["error"]["status"]) == (
        status,
        status,
        name,
    )
    assert words in got.message
    assert got.headers["Content-Type"] == "application/json; charset=UTF-8"


@pytest.mark.parametrize(
    ("fault", "status", "content_type", "words"),
    [
        ("403-html", 403, "text/html", "Forbidden"),
        ("413", 413, "text/html", "too large"),
        ("429-day-text", 429, "text/plain", "daily limit"),
        ("500-text", 500, "text/plain", "Internal Server Error"),
        ("502", 502, "text/html", "temporary error"),
        ("502-empty", 502, "text/plain", ""),
        ("503-html", 503, "text/html", "Service Unavailable"),
    ],
)
async def test_error_of_a_front_end(fault: str, status: int, content_type: str, words: str) -> None:
    """A front end answers with HTML or text, or with nothing."""
    async with calling() as caller:
        got = await caller.ask(f"x [[fault:{fault}]]")
    assert (got.status, got.headers["Content-Type"].partition(";")[0]) == (status, content_type)
    assert words in got.body.decode()


@pytest.mark.parametrize(
    ("fault", "quota_ids"),
    [
        ("429-minute", ["GenerateRequestsPerMinutePerProjectPerModel-FreeTier"]),
        ("429-day", ["GenerateRequestsPerDayPerProjectPerModel-FreeTier"]),
        ("429-tokens", ["GenerateContentInputTokensPerModelPerMinute-FreeTier"]),
        ("429-both", ["GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "GenerateRequestsPerDayPerProjectPerModel-FreeTier"]),
        ("429-zero", ["GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "GenerateRequestsPerDayPerProjectPerModel-FreeTier"]),
    ],
)  # fmt: skip
async def test_quota_details(fault: str, quota_ids: list[str]) -> None:
    """A 429 names the quotas in its details, and sends no Retry-After."""
    async with calling(tier="free") as caller:
        got = await caller.ask(f"x [[fault:{fault}]]")
    violations = got.details("QuotaFailure")["violations"]
    assert [violation["quotaId"] for violation in violations] == quota_ids
    assert all(
        violation["quotaDimensions"] == {"location": "global", "model": PRO}
        for violation in violations
    )
    assert got.details("RetryInfo")["retryDelay"].endswith("s")
    assert got.details("Help")["links"]
    assert "Retry-After" not in got.headers
    if fault == "429-zero":
        assert {violation["quotaValue"] for violation in violations} == {"0"}


async def test_quota_details_of_a_paid_tier() -> None:
    """A paid project meets the other quotaIds and metrics."""
    async with calling(tier="pay-as-you-go") as caller:
        got = await caller.ask("x [[fault:429-minute]]")
    violation = got.details("QuotaFailure")["violations"][0]
    assert violation["quotaId"] == "GenerateRequestsPerMinutePerProjectPerModel"
    assert (
        violation["quotaMetric"] == "generativelanguage.googleapis.com/generate_requests_per_model"
    )
    assert violation["quotaValue"] == "60"


async def test_429_without_details() -> None:
    """The bare 429 has no details at all."""
    async with calling() as caller:
        got = await caller.ask("x [[fault:429-bare]]")
    assert "details" not in got.json["error"]


async def test_429_with_retry_after() -> None:
    """One 429 has the header that the API does not send, larger than what its body says."""
    async with calling() as caller:
        got = await caller.ask("x [[fault:429-retry-after]]")
    assert (got.headers["Retry-After"], got.details("RetryInfo")["retryDelay"]) == ("2", "0s")


# --- answers without a picture ----------------------------------------------------------------------------------------


def _candidate(got: Got) -> dict[str, object]:
    return dict(got.json["candidates"][0])


NO_PICTURE: dict[str, Callable[[Got], bool]] = {
    "safety": lambda got: (
        _candidate(got)["finishReason"] == "SAFETY" and "safetyRatings" in _candidate(got)
    ),
    "image-safety": lambda got: "filtered out" in str(_candidate(got)["finishMessage"]),
    "prohibited": lambda got: _candidate(got)["finishReason"] == "PROHIBITED_CONTENT",
    "recitation": lambda got: _candidate(got)["finishReason"] == "RECITATION",
    "no-image": lambda got: _candidate(got)["finishReason"] == "NO_IMAGE",
    "max-tokens": lambda got: (
        _candidate(got)["finishReason"] == "MAX_TOKENS" and "text" in got.parts[0]
    ),
    "unknown-reason": lambda got: _candidate(got)["finishReason"] not in FINISH_REASONS,
    "prompt-blocked": lambda got: (
        got.json["promptFeedback"]["blockReason"] == "PROHIBITED_CONTENT"
        and "candidates" not in got.json
    ),
    "unknown-block": lambda got: got.json["promptFeedback"]["blockReason"] not in BLOCK_REASONS,
    "text-only": lambda got: (
        _candidate(got)["finishReason"] == "STOP" and list(got.parts[0]) == ["text"]
    ),
    "no-parts": lambda got: got.parts == [],
    "content-absent": lambda got: "content" not in _candidate(got),
    "content-empty": lambda got: _candidate(got)["content"] == {},
    "parts-null": lambda got: got.json["candidates"][0]["content"]["parts"] is None,
    "candidates-absent": lambda got: "candidates" not in got.json and "usageMetadata" in got.json,
    "candidates-empty": lambda got: got.json["candidates"] == [],
}


@pytest.mark.parametrize("fault", NO_PICTURE)
async def test_no_picture(fault: str) -> None:
    """Each 200 without a picture has the form that the API was seen to send, and usage all the same."""
    async with calling() as caller:
        got = await caller.ask(f"x [[fault:{fault}]]")
        report = caller.simulator.report()
    assert got.status == 200
    assert NO_PICTURE[fault](got)
    assert got.json["usageMetadata"]["totalTokenCount"] >= 1
    assert report["models"][0]["images"] == 0


@pytest.mark.parametrize("reason", FINISH_REASONS)
async def test_every_finish_reason(reason: str) -> None:
    """Every documented finishReason can be asked for."""
    async with calling() as caller:
        got = await caller.ask(f"x [[fault:finish-{reason.lower().replace('_', '-')}]]")
    assert _candidate(got)["finishReason"] == reason


@pytest.mark.parametrize("reason", BLOCK_REASONS)
async def test_every_block_reason(reason: str) -> None:
    """Every documented blockReason can be asked for."""
    async with calling() as caller:
        got = await caller.ask(f"x [[fault:block-{reason.lower().replace('_', '-')}]]")
    assert got.json["promptFeedback"]["blockReason"] == reason


# --- answers that name their picture ------------------------------------------------------------------------------------

# The statuses of one GET after the other, and whether the second one brings a picture.
BY_URI = {
    "file-uri": ([200, 200], True),
    "file-uri-slow": ([200, 200], True),
    "file-uri-redirect": ([302, 302], False),
    "file-uri-cut": ([200, 200], True),
    "file-uri-404-once": ([404, 200], True),
    "file-uri-404": ([404, 404], False),
    "file-uri-page": ([200, 200], False),
}


@pytest.mark.parametrize("fault", BY_URI)
async def test_a_picture_by_its_uri(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer has a fileUri of this server instead of the picture, which counts as one; a GET gets what the fault says."""
    monkeypatch.setattr(files, "_SLOW_S", 0.05)
    statuses, is_picture = BY_URI[fault]
    async with calling() as caller:
        got = await caller.ask(f"x [[fault:{fault}]]")
        (data,) = (part["fileData"] for part in got.parts if "fileData" in part)
        assert not any("inlineData" in part for part in got.parts)
        assert data["mimeType"] == "image/jpeg"
        assert data["fileUri"].startswith(f"{caller.simulator.base_url}/files/")
        assert caller.simulator.report()["models"][0]["images"] == 1
        found = []
        async with aiohttp.ClientSession() as session:
            for _ in statuses:
                async with session.get(data["fileUri"], allow_redirects=False) as response:
                    found.append(response.status)
                    try:
                        body = await response.read()
                    except aiohttp.ClientPayloadError:
                        assert (fault, len(found)) == ("file-uri-cut", 1)
    assert found == statuses
    assert body.startswith(b"\xff\xd8\xff") == is_picture


# --- answers with more than a picture ---------------------------------------------------------------------------------


async def test_drafts_as_thoughts() -> None:
    """Drafts come first, as thoughts, and are paid for."""
    async with calling() as caller:
        got = await caller.ask("x [[fault:drafts]]")
    assert [part.get("thought", False) for part in got.parts if "inlineData" in part] == [
        True,
        True,
        False,
    ]
    assert got.json["usageMetadata"]["candidatesTokensDetails"][0]["tokenCount"] == 3 * 1120


async def test_drafts_as_plain_parts() -> None:
    """Drafts may come as plain parts: the last picture is the result."""
    async with calling() as caller:
        got = await caller.ask("x [[fault:drafts-plain]]")
    assert len(got.pictures()) == 3
    assert not any("thought" in part for part in got.parts)


async def test_thought_only() -> None:
    """A draft alone is no result."""
    async with calling() as caller:
        got = await caller.ask("x [[fault:thought-only]]")
    assert [part["thought"] for part in got.parts] == [True]


async def test_text_after() -> None:
    """Words may come after the picture."""
    async with calling() as caller:
        got = await caller.ask("x [[fault:text-after]]")
    assert "inlineData" in got.parts[-2]
    assert "text" in got.parts[-1]


async def test_wrong_mime() -> None:
    """The MIME type may not be that of the bytes."""
    async with calling() as caller:
        got = await caller.ask("x [[fault:wrong-mime]]")
    assert (got.parts[-1]["inlineData"]["mimeType"], got.pictures()[0].format) == (
        "image/png",
        "JPEG",
    )


async def test_not_an_image() -> None:
    """The data may be no picture at all."""
    async with calling() as caller:
        got = await caller.ask("x [[fault:not-an-image]]")
    with pytest.raises(OSError, match="cannot identify image"):
        got.pictures()


async def test_empty_data() -> None:
    """The data may be empty."""
    async with calling() as caller:
        got = await caller.ask("x [[fault:data-empty]]")
    assert got.parts[-1]["inlineData"]["data"] == ""


@pytest.mark.parametrize("fault", ["bad-base64", "bad-padding"])
async def test_bad_base64(fault: str) -> None:
    """The data may not be base64."""
    async with calling() as caller:
        got = await caller.ask(f"x [[fault:{fault}]]")
    with pytest.raises(
        ValueError, match=r"Only base64 data|Incorrect padding|cannot be 1 more|Invalid base64"
    ):
        got.pictures()


async def test_usage_absent() -> None:
    """Usage may be missing."""
    async with calling() as caller:
        got = await caller.ask("x [[fault:usage-absent]]")
    assert "usageMetadata" not in got.json
    assert len(got.pictures()) == 1


@pytest.mark.parametrize(
    ("fault", "named"), [("tier-standard", "standard"), ("tier-absent", None), ("usage-zero", "flex"), ("searches", "flex")]
)  # fmt: skip
async def test_the_tier_that_an_answer_names(fault: str, named: str | None) -> None:
    """Header and usage agree on the tier: standard instead of flex, none at all, or flex with other faults."""
    async with calling() as caller:
        got = await caller.post(text(f"x [[fault:{fault}]]") | {"serviceTier": "flex"})
    assert got.headers.get("x-gemini-service-tier") == named
    assert got.json["usageMetadata"].get("serviceTier") == named
    assert len(got.pictures()) == 1


async def test_usage_zero() -> None:
    """A usage may count nothing."""
    async with calling() as caller:
        got = await caller.ask("x [[fault:usage-zero]]")
    counts = {
        name: count for name, count in got.json["usageMetadata"].items() if name != "serviceTier"
    }
    assert counts
    assert set(counts.values()) == {0}


async def test_many_searches() -> None:
    """The model may search more often than is expected of a call."""
    async with calling() as caller:
        got = await caller.ask("x [[fault:searches]]")
    assert len(got.json["candidates"][0]["groundingMetadata"]["webSearchQueries"]) == 12


async def test_decoys() -> None:
    """Look-alikes of a picture stand in a text and in other fields; one is real."""
    async with calling() as caller:
        got = await caller.ask("x [[fault:decoys]]")
    assert got.body.count(b"inlineData") > 2
    assert len(got.pictures()) == 1


async def test_reordered() -> None:
    """Keys may come in the other order: the data before its MIME type, the usage before the candidates."""
    async with calling() as caller:
        got = await caller.ask("x [[fault:reordered]]")
    assert got.body.index(b'"usageMetadata"') < got.body.index(b'"candidates"')
    assert got.body.index(b'"data"') < got.body.index(b'"mimeType"')
    assert len(got.pictures()) == 1


async def test_future() -> None:
    """Fields that nobody knows yet may come anywhere."""
    async with calling() as caller:
        got = await caller.ask("x [[fault:future]]")
    assert next(iter(got.json)) == "newInNextVersion"
    assert len(got.pictures()) == 1


async def test_array() -> None:
    """The answer may come in a list."""
    async with calling() as caller:
        got = await caller.ask("x [[fault:array]]")
    assert isinstance(got.json, list)


# --- bytes ------------------------------------------------------------------------------------------------------------


async def test_pretty_compact_and_escaped() -> None:
    r"""The same answer comes indented, without a space, and with `\/`, `\u003d` and escaped keys."""
    async with calling(vary=False) as caller:
        pretty = await caller.ask("x [[fault:pretty]]", model=FLASH_25)
        compact = await caller.ask("x [[fault:compact]]", model=FLASH_25)
        escaped = await caller.ask("x [[fault:escaped]]", model=FLASH_25)
    assert b'\n  "candidates": [' in pretty.body
    assert b": " not in compact.body.replace(b"for: ", b"")
    assert rb"\/" in escaped.body
    assert b"inlineData" not in escaped.body
    assert {len(got.pictures()) for got in (pretty, compact, escaped)} == {1}


async def test_not_json() -> None:
    """A 200 may be a proxy's HTML."""
    async with calling() as caller:
        got = await caller.ask("x [[fault:not-json]]")
    assert (got.status, got.body[:6]) == (200, b"<html>")


async def test_empty_body() -> None:
    """A 200 may have no body."""
    async with calling() as caller:
        got = await caller.ask("x [[fault:empty-body]]")
    assert (got.status, got.body) == (200, b"")


async def test_gzip() -> None:
    """The fault compresses, asked for or not; the option only for clients that accept it."""
    key = {"x-goog-api-key": "any"}
    async with calling(gzip=True) as caller:
        forced = await caller.ask("x [[fault:gzip]]")
        asked = await caller.post(text("y"), headers=key | {"Accept-Encoding": "gzip"})
        not_asked = await caller.post(text("z"), headers=key | {"Accept-Encoding": "identity"})
    assert [got.headers.get("Content-Encoding") for got in (forced, asked, not_asked)] == [
        "gzip",
        "gzip",
        None,
    ]
    assert "candidates" in json.loads(gzip.decompress(forced.body))


async def test_chunked() -> None:
    """The body may come in chunks, without a length."""
    async with calling() as caller:
        got = await caller.ask("x [[fault:chunked]]")
    assert (got.headers["Transfer-Encoding"], got.headers.get("Content-Length")) == (
        "chunked",
        None,
    )
    assert len(got.pictures()) == 1


async def test_trickle_and_late() -> None:
    """A slow answer takes as long as its marker says."""
    async with calling() as caller:
        clock = asyncio.get_running_loop()
        for fault in ("trickle", "late"):
            began_s = clock.time()
            got = await caller.ask(f"x [[fault:{fault}=0.1]]")
            assert 0.09 <= clock.time() - began_s < 2
            assert len(got.pictures()) == 1


async def test_two_faults_together() -> None:
    """Faults of different stages work together."""
    async with calling() as caller:
        got = await caller.ask("x [[fault:drafts+escaped+chunked]]")
    assert got.headers["Transfer-Encoding"] == "chunked"
    assert b"inlineData" not in got.body
    assert len(got.pictures()) == 3


# --- connections ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["reset", "truncated", "truncated-chunks", "stall=0.05"])
async def test_broken_in_mid_body(fault: str) -> None:
    """Half of a body arrives, then the connection breaks."""
    async with calling() as caller:
        post = caller.session.post(
            caller.url(), json=text(f"x [[fault:{fault}]]"), headers={"x-goog-api-key": "any"}
        )
        async with post as response:
            assert response.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        again = await caller.ask("x")
    assert again.status == 200


@pytest.mark.parametrize("fault", ["reset-at-once", "disconnect", "hang=0.05"])
async def test_no_answer(fault: str) -> None:
    """The connection ends without an answer."""
    async with calling() as caller:
        with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
            await caller.ask(f"x [[fault:{fault}]]")


async def test_reset_is_a_reset() -> None:
    """A reset reaches the client as RST, not as an end."""
    async with calling() as caller:
        with pytest.raises(aiohttp.ClientOSError) as caught:
            await caller.ask("x [[fault:reset-at-once]]")
    assert isinstance(caught.value, ConnectionResetError | OSError)
    assert caught.value.strerror == "Connection reset by peer"


async def test_cut() -> None:
    """Half of the JSON may come with a length that fits it."""
    async with calling() as caller:
        got = await caller.ask("x [[fault:cut]]")
    with pytest.raises(ValueError, match="Unterminated string"):
        _ = got.json


async def test_no_end() -> None:
    """The picture is whole, and nothing is behind it."""
    async with calling() as caller:
        got = await caller.ask("x [[fault:no-end]]")
    assert got.body.count(b'"data":"') == 1
    assert got.body.endswith(b'"')
    assert json.loads(got.body + b"}}]}}]}")


async def test_hang_ends_when_the_client_gives_up() -> None:
    """A hanging answer is over when its client goes away, and the audit says so."""
    async with calling(hang_s=60) as caller:
        entries = caller.simulator.audit.entries
        asking = asyncio.ensure_future(caller.ask("x [[fault:hang]]"))
        await until(lambda: bool(entries) and entries[0].faults == "hang")
        asking.cancel()
        await until(lambda: entries[0].latency_s is not None)
        entry = entries[0]
    assert (entry.abandoned, entry.faults) == (True, "hang")


async def test_endless() -> None:
    """A body without end goes on until the client has had enough."""
    async with calling() as caller:
        post = caller.session.post(
            caller.url(), json=text("x [[fault:endless]]"), headers={"x-goog-api-key": "any"}
        )
        size = 0
        async with post as response:
            async for piece in response.content.iter_any():
                size += len(piece)
                if size > 3_000_000:
                    break
    assert size > 3_000_000


async def test_close() -> None:
    """A whole answer may be the last of its connection, without a word; the client notices by itself or at its next try."""
    async with calling() as caller:
        got = await caller.ask("x [[fault:close]]")
    assert len(got.pictures()) == 1
    assert got.headers.get("Connection") != "close"


async def test_redirect() -> None:
    """A redirect points to another host, and the audit tells who follows it."""
    async with calling() as caller:
        got = await caller.ask("x [[fault:redirect]]")
        assert (got.status, got.headers["Location"].startswith("http://localhost:")) == (307, True)
        assert caller.simulator.audit.followed_redirects == 0
        at = got.headers["Location"].replace("localhost", "127.0.0.1")
        async with caller.session.get(at) as response:
            assert response.status == 200
        assert caller.simulator.audit.followed_redirects == 1


OTHERS = ("gemini-3-pro-image", "nano-banana-pro-preview", FLASH_25)


async def test_a_model_that_is_gone_and_the_others_that_are_not() -> None:
    """With `404-gone` the default model is not found, and any other answers as before."""
    async with calling(rates={"404-gone": 1.0}) as caller:
        gone = await caller.ask("x")
        others = [(await caller.ask("x", model=name)).status for name in OTHERS]
    assert (gone.status, gone.json["error"]["status"]) == (404, "NOT_FOUND")
    assert gone.message.startswith(f"models/{PRO} is not found for API version v1beta")
    assert set(others) == {200}


def test_every_fault_is_named_by_a_test() -> None:
    """The table has no fault that no test of this file names."""
    source = Path(__file__).read_text(encoding="utf-8")
    families = ("finish-", "block-")
    unnamed = [
        name
        for name in FAULTS
        if not name.startswith(families) and f'"{name}' not in source and f":{name}" not in source
    ]
    assert unnamed == []
