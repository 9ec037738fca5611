"""Result files of batches: lines, downloads and ranges, and their faults."""

import asyncio
import base64
import io
import json
from pathlib import Path

import aiohttp
import pytest
from PIL import Image

from gemini_batch.simulator.batch_faults import BATCH_FAULTS
from tests.loopback.simulator.batch_caller import KEY, batching, keys, line, lines
from tests.loopback.simulator.client import FLASH, PRO, Got, image, text, with_images

pytestmark = pytest.mark.loopback


def _picture(result: dict) -> Image.Image:  # type: ignore[type-arg]
    parts = result["response"]["candidates"][0]["content"]["parts"]
    (data,) = (part["inlineData"]["data"] for part in parts if "inlineData" in part)
    return Image.open(io.BytesIO(base64.b64decode(data)))


async def test_a_line_is_an_ordinary_answer() -> None:
    """A line has the answer that generateContent gives to the same request, and its key behind it."""
    request = with_images("A robot", image("blue", (160, 90)))
    asked = json.dumps({"key": "a", "request": request}).encode() + b"\n"
    async with batching(vary=False) as caller:
        made = await caller.create(await caller.upload(asked), model=FLASH)
        (result,) = await caller.results(made.json["name"])
    async with batching(vary=False) as caller:
        path = f"/v1beta/models/{FLASH}:generateContent"
        direct = (await caller.send("POST", path, content=request)).json
    assert list(result) == ["response", "key"]
    assert result["response"] == direct
    assert _picture(result).size == (32, 18)


async def test_members_come_in_any_order() -> None:
    """The order of the members of `response` differs from line to line."""
    async with batching() as caller:
        results = await caller.results(await caller.run(*[f"A robot {n}" for n in range(20)]))
    assert len({tuple(result["response"]) for result in results}) > 3
    assert keys(results) == [str(n) for n in range(20)]


async def test_repeated_requests_differ() -> None:
    """Variants get pictures of their own, whether they are asked for in one batch or by the other route."""
    async with batching(vary=True) as caller:
        path = f"/v1beta/models/{PRO}:generateContent"
        direct = await caller.send("POST", path, content=text("A robot"))
        results = await caller.results(await caller.run("A robot", "A robot"))
        (paid,) = caller.simulator.report()["paid"]
    seen = {_picture(result).tobytes() for result in [*results, {"response": direct.json}]}
    assert (len(seen), paid["batch"], paid["interactive"]) == (3, 2, 1)
    assert paid["usd"] == pytest.approx(0.134 * 2)


async def test_refusals_and_errors() -> None:
    """A blocked prompt is a `response`, an error is an `error` of gRPC's code; only images are paid."""
    prompts = (
        "safety",
        "block-other",
        "400",
        "404",
        "403",
        "429-minute",
        "500",
        "503",
        "504",
        "502",
    )
    async with batching() as caller:
        name = await caller.run("x", *(f"x [[fault:{fault}]]" for fault in prompts))
        results = await caller.results(name)
        (batch,) = caller.simulator.report()["batches"]
    assert ["response" in result for result in results] == [True] * 3 + [False] * 8
    assert [result["error"]["code"] for result in results[3:]] == [3, 5, 7, 8, 13, 14, 4, 14]
    assert {tuple(result["error"]) for result in results[3:]} == {("code", "message")}
    assert (batch["lines"], batch["errors"], batch["paid"]) == (11, 8, 1)


async def test_faults_of_json() -> None:
    """Escaped, indented and broken answers stay on their line."""
    async with batching() as caller:
        name = await caller.run(
            *(f"x [[fault:{fault}]]" for fault in ("escaped", "pretty", "not-json", "array"))
        )
        first, second, third, fourth = (await caller.download(name)).body.splitlines()
    assert (json.loads(first)["key"], json.loads(second)["key"], third[:6]) == ("0", "1", b"<html>")
    assert isinstance(json.loads(fourth)["response"], list)


async def test_an_unknown_fault_is_named() -> None:
    """A marker with a typing error is a 400 of create, as it is of generateContent."""
    async with batching() as caller:
        file = await caller.upload(lines("x [[fault:lost-ky]]"))
        got = await caller.create(file)
        assert await caller.listed() == []
    assert (got.status, "lost-key" in got.message) == (400, True)


async def test_interactive_calls_skip_the_faults_of_batches() -> None:
    """A fault of batches in a prompt, or by rate, does nothing to generateContent."""
    async with batching(rates={"no-range": 1.0, "create-503": 0.9}) as caller:
        path = f"/v1beta/models/{PRO}:generateContent"
        content = text("x [[fault:lost-key]] [[fault:500 x1]]")
        statuses = [(await caller.send("POST", path, content=content)).status for _ in range(2)]
    assert statuses == [500, 200]


# --- lines --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("lost-key", ["0", "2"]),
        ("duplicate-key", ["0", "1", "1", "2"]),
        ("unknown-key", ["0", "unknown-2", "2"]),
        ("no-key", ["0", None, "2"]),
        ("swapped-keys", ["0", "2", "1"]),
    ],
)
async def test_keys(fault: str, expected: list[str | None]) -> None:
    """A result may be missing, be there twice, or have no key, a foreign one, or that of another."""
    async with batching() as caller:
        name = await caller.run("a", f"b [[fault:{fault}]]", "c")
        results = await caller.results(name)
        stats = (await caller.get(name)).json["metadata"]["batchStats"]
    assert (keys(results), stats["successfulRequestCount"]) == (expected, "3")


async def test_a_request_without_key() -> None:
    """A request without a key gets a result without one."""
    async with batching() as caller:
        made = await caller.create(await caller.upload(line(None, "x")))
        assert keys(await caller.results(made.json["name"])) == [None]


async def test_a_torn_line() -> None:
    """A line may end in the middle; the next one is whole."""
    async with batching() as caller:
        got = await caller.download(await caller.run("a [[fault:torn-line]]", "b"))
    first, second = got.body.splitlines()
    with pytest.raises(ValueError, match="Unterminated"):
        json.loads(first)
    assert json.loads(second)["key"] == "1"


async def test_an_error_by_another_name() -> None:
    """An error may be named `status`."""
    async with batching() as caller:
        (result,) = await caller.results(await caller.run("a [[fault:line-status]] [[fault:500]]"))
    assert (result["status"]["code"], "error" in result) == (13, False)


async def test_a_smaller_picture() -> None:
    """A batch may draw a smaller picture than was asked for."""
    async with batching(pixels=64) as caller:
        results = await caller.results(await caller.run("a [[fault:smaller]]", "b"))
    assert [_picture(result).size for result in results] == [(32, 32), (64, 64)]


async def test_a_picture_of_another_shape() -> None:
    """A batch may ignore the aspect ratio."""
    wide = {"generationConfig": {"imageConfig": {"aspectRatio": "16:9"}}}
    asked = line("a", "x [[fault:square]]", **wide) + line("b", "x", **wide)
    async with batching(pixels=64) as caller:
        made = await caller.create(await caller.upload(asked))
        results = await caller.results(made.json["name"])
    assert [_picture(result).size for result in results] == [(64, 64), (64, 36)]


async def test_another_order() -> None:
    """The results may be in another order, the same one in each download."""
    async with batching() as caller:
        name = await caller.run(*map(str, range(30)), name="mine [[fault:shuffled]]")
        first, second = await caller.results(name), await caller.results(name)
    assert first == second
    assert keys(first) != sorted(keys(first), key=str)
    assert {*keys(first)} == {str(number) for number in range(30)}


# --- downloads ----------------------------------------------------------------------------------


async def test_downloads_are_alike() -> None:
    """Each download has the same bytes, by both paths; the length is known once all lines are made."""
    async with batching() as caller:
        name = await caller.run(*map(str, range(10)))
        first = await caller.download(name)
        path = f"/v1/files/batch-{name.removeprefix('batches/')}:download?alt=media"
        second = await caller.send("GET", path)
    assert first.body == second.body
    assert second.headers["Content-Length"] == str(len(first.body))


async def test_a_client_that_goes_takes_no_line_with_it() -> None:
    """Clients that close the connection while lines are made, and others at the same time, lose no line for the next one."""
    async with batching() as caller:
        name = await caller.run(*map(str, range(60)))
        path = f"{caller.simulator.base_url}/v1beta/files/batch-{name[8:]}:download?alt=media"
        for _ in range(6):
            response = await caller.session.get(path, headers=KEY)
            await response.content.readany()
            response.close()
        first, second = await asyncio.gather(caller.download(name), caller.download(name))
    assert first.body == second.body
    assert keys([json.loads(text) for text in first.body.splitlines()]) == [
        str(n) for n in range(60)
    ]


async def test_ranges() -> None:
    """A range is a 206 that says what it has; one behind the end is a 416."""
    async with batching() as caller:
        name = await caller.run(*map(str, range(10)))
        middle = await caller.download(name, "bytes=100-199")
        whole = await caller.download(name)
        rest = await caller.download(name, "bytes=200-")
        behind = await caller.download(name, f"bytes={len(whole.body)}-")
    total = len(whole.body)
    assert [got.status for got in (middle, whole, rest, behind)] == [206, 200, 206, 416]
    assert whole.body[100:] == middle.body + rest.body
    assert middle.headers["Content-Range"] == f"bytes 100-199/{total}"
    assert rest.headers["Content-Range"] == f"bytes 200-{total - 1}/{total}"
    assert behind.headers["Content-Range"] == f"bytes */{total}"


async def _twice(fault: str, range_: str | None = None) -> tuple[bytes, Got]:
    """Return the whole file, and a download of it with a fault."""
    async with batching(hang_s=0.05) as caller:
        name = await caller.run(*[f"x{n} [[fault:{fault}]]" for n in range(2)])
        batch = next(iter(caller.simulator._batches.store.batches.values()))  # type: ignore[union-attr]
        markers, batch.markers = batch.markers, ()
        whole = (await caller.download(name)).body
        batch.markers = markers
        return whole, await caller.download(name, range_)


async def test_a_range_that_is_ignored() -> None:
    """A range may be ignored: 200, and all of it."""
    whole, got = await _twice("no-range", "bytes=200-")
    assert (got.status, got.body, "Content-Range" in got.headers) == (200, whole, False)


async def test_another_range() -> None:
    """A 206 may have another range, and say so."""
    whole, got = await _twice("bad-range", "bytes=200-")
    assert (got.status, got.body) == (206, whole[100:])
    assert got.headers["Content-Range"] == f"bytes 100-{len(whole) - 1}/{len(whole)}"


async def test_a_range_that_lies() -> None:
    """A 206 may say the range and have other bytes."""
    whole, got = await _twice("lying-range", "bytes=200-")
    assert (got.status, got.body) == (206, whole[100:-100])
    assert got.headers["Content-Range"] == f"bytes 200-{len(whole) - 1}/{len(whole)}"


async def test_no_length() -> None:
    """A download may come in chunks, without its length."""
    whole, got = await _twice("no-length")
    assert (got.status, got.body, "Content-Length" in got.headers) == (200, whole, False)


async def test_a_clean_end_within_a_line() -> None:
    """A download may end in the middle of a line as if it were whole."""
    whole, got = await _twice("download-short")
    assert whole.startswith(got.body)
    assert (0 < len(got.body) < len(whole), got.body[-1:] != b"\n") == (True, True)
    assert got.headers["Content-Length"] == str(len(got.body))


@pytest.mark.parametrize("fault", ["download-cut", "download-stall"])
async def test_a_download_breaks_off(fault: str) -> None:
    """A download may be cut, at once or after a while."""
    with pytest.raises(aiohttp.ClientError):
        await _twice(fault)


@pytest.mark.parametrize(("fault", "status"), [("download-404", 404), ("download-503", 503)])
async def test_no_download(fault: str, status: int) -> None:
    """A download may fail."""
    assert (await _twice(fault))[1].status == status


async def test_a_redirect() -> None:
    """A download may be redirected to another host: the key must not go there."""
    _, got = await _twice("download-redirect")
    assert (got.status, got.headers["Location"][:17]) == (307, "http://localhost:")


async def test_another_order_each_time() -> None:
    """Each download may have its lines in an order of its own, so that no range fits another."""
    async with batching() as caller:
        name = await caller.run(*map(str, range(30)), name="mine [[fault:corrupt-output]]")
        first, second = await caller.results(name), await caller.results(name)
        part = await caller.download(name, "bytes=1000-")
    assert keys(first) != keys(second)
    assert {*keys(first)} == {*keys(second)}
    assert part.status == 206


async def test_rules(tmp_path: Path) -> None:
    """A rule of a file works at the place of its fault: here the second download, and one line."""
    rules = tmp_path / "faults.toml"
    rules.write_text(
        '[[rules]]\nfault = "download-short+no-length"\nskip = 1\ntimes = 1\n'
        '[[rules]]\nfault = "lost-key"\nmatch = "fox"\n'
    )
    async with batching(faults=rules) as caller:
        name = await caller.run("A robot", "A fox", "A cat")
        got = [(await caller.download(name)).body for _ in range(3)]
        report = caller.simulator.report()
    assert (got[0], len(got[1]) < len(got[0])) == (got[2], True)
    assert keys([json.loads(text) for text in got[0].splitlines()]) == ["0", "2"]
    assert report["faults"] == {"lost-key": 1, "download-short": 1, "no-length": 1}


def test_every_fault_is_tested() -> None:
    """Each fault of the table is in a test of this folder."""
    tested = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    tested = tested.replace(
        'f"{state}-partial"', "failed-partial expired-partial cancelled-partial"
    )
    assert [name for name in BATCH_FAULTS if name not in tested] == []
