"""The Files API: resumable uploads, their limits and faults; get, list and delete."""

import base64
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta

import aiohttp
import pytest

from tests.loopback.simulator.batch_caller import CHUNK_BYTES, KEY, BatchCaller, batching
from tests.loopback.simulator.client import SetTime

pytestmark = pytest.mark.loopback

DATA = bytes(range(256)) * 1000  # 256,000 bytes


async def test_one_request() -> None:
    """A whole file may come in one request, to an address that needs no key; its record says what it is."""
    async with batching() as caller:
        start = await caller.start(len(DATA))
        assert start.headers["X-Goog-Upload-Status"] == "active"
        assert start.headers["X-Goog-Upload-Chunk-Granularity"] == str(CHUNK_BYTES)
        url = start.headers["X-Goog-Upload-URL"]
        got = await caller.chunk(url, DATA, 0)
        assert got.headers["X-Goog-Upload-Status"] == "final"
        file = got.json["file"]
        again = await caller.send("GET", f"/v1beta/{file['name']}")
    assert again.json == file
    assert (file["displayName"], file["mimeType"], file["sizeBytes"]) == (
        "lines",
        "text/plain",
        "256000",
    )
    assert (file["state"], file["source"]) == ("ACTIVE", "UPLOADED")
    digest = hashlib.sha256(DATA).hexdigest()
    assert base64.b64decode(file["sha256Hash"]).decode() == digest
    assert "any" not in url


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_chunks(method: str) -> None:
    """Chunks are multiples of the granularity, but the last; a query says how far it is."""
    data = b"x" * (CHUNK_BYTES + 100)
    async with batching() as caller:
        url = await caller.upload_url(len(data))
        got = await caller.chunk(url, data[:CHUNK_BYTES], 0, "upload", method)
        assert got.headers["X-Goog-Upload-Status"] == "active"
        assert await caller.query(url) == ("active", CHUNK_BYTES)
        wrong = await caller.chunk(url, b"abc", 5, "upload", method)
        assert (wrong.status, await caller.query(url)) == (400, ("active", CHUNK_BYTES))
        got = await caller.chunk(url, data[CHUNK_BYTES:], CHUNK_BYTES, method=method)
        assert got.json["file"]["sizeBytes"] == str(len(data))
        assert await caller.query(url) == ("final", len(data))
        late = await caller.chunk(url, b"more", len(data))
    assert (late.status, late.message) == (400, "Upload has already been terminated.")


async def test_a_chunk_of_a_wrong_size_is_refused() -> None:
    """A chunk that is not the last must be a multiple of the granularity, and the file as long as announced."""
    async with batching() as caller:
        url = await caller.upload_url()
        assert (await caller.chunk(url, b"abc", 0, "upload")).status == 400
        url = await caller.upload_url(5)
        assert (await caller.chunk(url, b"abc", 0)).status == 400
        assert await caller.query(url) == ("active", 3)
        assert (await caller.chunk(url, b"de", 3)).json["file"]["sizeBytes"] == "5"


async def test_cancel() -> None:
    """A cancelled upload takes no more bytes."""
    async with batching() as caller:
        url = await caller.upload_url()
        assert (await caller.query(url, "cancel"))[0] == "cancelled"
        assert (await caller.chunk(url, b"abc", 0)).status == 400


async def test_only_resumable_uploads() -> None:
    """A key is needed to start, and another protocol or address is refused."""
    async with batching() as caller:
        assert (await caller.start(None, **{"x-goog-api-key": ""})).status == 403
        assert (await caller.start(None, **{"X-Goog-Upload-Protocol": "raw"})).status == 400
        got = await caller.chunk(
            caller.simulator.base_url + "/upload/v1beta/files?upload_id=x", b"", 0
        )
        assert got.status == 404


async def test_limits() -> None:
    """A file and all files of a project have a most size; a file counts until it is deleted or expires."""
    clock = SetTime()
    async with batching(max_file_bytes=100, max_stored_bytes=150, clock=clock()) as caller:
        assert (await caller.start(101)).status == 400
        url = await caller.upload_url()
        assert (await caller.chunk(url, b"x" * 101, 0)).status == 400
        file = await caller.upload(b"x" * 100)
        full = await caller.start(51)
        assert (full.status, full.json["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
        await caller.send("DELETE", f"/v1beta/{file}")
        await caller.upload(b"x" * 100)
        clock.passed_s += timedelta(hours=48).total_seconds()
        await caller.upload(b"x" * 100)


async def test_a_file_expires() -> None:
    """A file is gone after 48 h of the server's time: 403, and a batch of it is refused."""
    async with batching() as caller:
        file = await caller.upload(DATA)
        caller.simulator.clock.advance(timedelta(hours=48).total_seconds() - 60)
        assert (await caller.send("GET", f"/v1beta/{file}")).status == 200
        caller.simulator.clock.advance(60)
        got, refused = await caller.send("GET", f"/v1beta/{file}"), await caller.create(file)
    assert (got.status, got.json["error"]["status"]) == (403, "PERMISSION_DENIED")
    assert (refused.status, refused.message) == (403, got.message)


async def test_files_belong_to_a_key() -> None:
    """Another key does not see a file, neither by name nor in the list."""
    other = {"x-goog-api-key": "other"}
    async with batching() as caller:
        file = await caller.upload(DATA)
        assert (await caller.send("GET", f"/v1beta/{file}", headers=other)).status == 403
        assert (await caller.send("DELETE", f"/v1beta/{file}", headers=other)).status == 403
        assert (await caller.send("GET", "/v1beta/files", headers=other)).json == {}


async def test_a_name_has_at_most_40_characters() -> None:
    """The longer name of a result file is a 400 of get."""
    async with batching() as caller:
        got = await caller.send("GET", "/v1beta/files/batch-" + "x" * 36)
    assert got.status == 400


async def test_an_uploaded_file_is_not_downloaded() -> None:
    """Only generated files can be downloaded."""
    async with batching() as caller:
        file = await caller.upload(DATA)
        got = await caller.send("GET", f"/v1beta/{file}:download?alt=media")
    assert (got.status, got.message) == (400, "Only generated files can be downloaded.")


async def test_pages_of_files() -> None:
    """The list has the newest file first, in pages that stay the same while files are added."""
    async with batching() as caller:
        names = [await caller.upload(b"x") for _ in range(5)]
        page = (await caller.send("GET", "/v1beta/files?pageSize=2")).json
        await caller.upload(b"y")
        path = f"/v1beta/files?pageSize=3&pageToken={page['nextPageToken']}"
        rest = (await caller.send("GET", path)).json
        bad = await caller.send("GET", "/v1beta/files?pageToken=x")
        negative = await caller.send("GET", "/v1beta/files?pageSize=-1")
    assert [file["name"] for file in page["files"] + rest["files"]] == names[::-1]
    assert ("nextPageToken" in rest, bad.status, negative.status) == (False, 400, 400)


# --- faults -------------------------------------------------------------------------------------


async def _resumed(caller: BatchCaller, url: str) -> None:
    """Go on where the server says, to the end."""
    status, received = await caller.query(url)
    assert status == "active"
    got = await caller.chunk(url, DATA[received:], received)
    assert (
        base64.b64decode(got.json["file"]["sha256Hash"]).decode()
        == hashlib.sha256(DATA).hexdigest()
    )


@pytest.mark.parametrize(("fault", "kept"), [("upload-cut", len(DATA) // 2), ("upload-lost", 0)])
async def test_a_chunk_is_cut(fault: str, kept: int) -> None:
    """A cut chunk is a reset; the server has a part of it, and goes on from there."""
    async with batching() as caller:
        url = await caller.upload_url(len(DATA), name=f"lines [[fault:{fault} x1]]")
        with pytest.raises(aiohttp.ClientError):
            await caller.chunk(url, DATA, 0)
        assert await caller.query(url) == ("active", kept)
        await _resumed(caller, url)


async def test_the_end_of_a_long_chunk_is_lost() -> None:
    """The server may have less than what it was sent, though more than before."""
    data = b"x" * CHUNK_BYTES
    async with batching() as caller:
        url = await caller.upload_url(name="lines [[fault:upload-lost x1]]")
        with pytest.raises(aiohttp.ClientError):
            await caller.chunk(url, data, 0, "upload")
        assert await caller.query(url) == ("active", CHUNK_BYTES - 256 * 1024)


async def test_an_answer_without_status() -> None:
    """The bytes are kept, though the answer is a 503 without a status of the upload."""
    async with batching() as caller:
        url = await caller.upload_url(name="lines [[fault:upload-silent x1]]")
        got = await caller.chunk(url, DATA, 0)
        assert (got.status, "X-Goog-Upload-Status" in got.headers) == (503, False)
        assert await caller.query(url) == ("active", len(DATA))
        assert (await caller.chunk(url, b"", len(DATA), "finalize")).json["file"]


async def test_a_chunk_is_refused_for_now() -> None:
    """A 503 of a chunk keeps nothing."""
    async with batching() as caller:
        url = await caller.upload_url(name="lines [[fault:upload-chunk-503 x1]]")
        assert (await caller.chunk(url, DATA, 0)).status == 503
        await _resumed(caller, url)


async def test_an_upload_is_forgotten() -> None:
    """An upload that is gone is a 404, to a query as well."""
    async with batching() as caller:
        url = await caller.upload_url(name="lines [[fault:upload-gone]]")
        assert (await caller.chunk(url, DATA, 0)).status == 404
        assert (
            await caller.send("POST", url, headers={"X-Goog-Upload-Command": "query"})
        ).status == 404


async def test_an_error_with_the_status_200() -> None:
    """A MIME type is refused with 200, and with an error where the file should be."""
    async with batching() as caller:
        url = await caller.upload_url(name="lines [[fault:upload-mime]]")
        got = await caller.chunk(url, DATA, 0)
        files = (await caller.send("GET", "/v1beta/files")).json
    assert (got.status, got.json["error"]["code"], got.message) == (
        200,
        400,
        "Unsupported MIME type: text/plain",
    )
    assert files == {}


async def test_the_last_answer_is_lost() -> None:
    """The file is there, though its answer was a reset: a query says `final`, the list has it."""
    async with batching() as caller:
        url = await caller.upload_url(name="mine [[fault:upload-final-lost]]")
        with pytest.raises(aiohttp.ClientError):
            await caller.chunk(url, DATA, 0)
        assert await caller.query(url) == ("final", len(DATA))
        (file,) = (await caller.send("GET", "/v1beta/files")).json["files"]
    assert file["displayName"].startswith("mine")


async def test_a_file_is_processing() -> None:
    """A file may not be ready at once; a batch of it is a 400 until then."""
    async with batching() as caller:
        file = await caller.upload(DATA, name="lines [[fault:file-processing=10]]")
        assert (await caller.send("GET", f"/v1beta/{file}")).json["state"] == "PROCESSING"
        refused = await caller.create(file)
        caller.simulator.clock.advance(10)
        assert (await caller.send("GET", f"/v1beta/{file}")).json["state"] == "ACTIVE"
    assert (refused.status, refused.json["error"]["status"]) == (400, "FAILED_PRECONDITION")


async def test_an_outage_of_uploads() -> None:
    """An outage is a 503 with an empty message; a project that is full is a 429."""
    async with batching() as caller:
        down = await caller.start(name="lines [[fault:upload-503]]")
        full = await caller.start(name="lines [[fault:upload-full]]")
        unknown = await caller.start(name="lines [[fault:upload-503+upload-505]]")
    assert (down.status, down.message, full.status) == (503, "", 429)
    assert (unknown.status, "upload-505" in unknown.message) == (400, True)


async def test_two_requests_for_one_upload() -> None:
    """A request that a newer one overtook writes nothing more: a client may go on while an old connection hangs."""
    async with batching() as caller:
        url = await caller.upload_url()

        async def slow() -> aiohttp.ClientResponse:
            async def parts() -> AsyncIterator[bytes]:
                yield DATA[:100]
                while (await caller.query(url))[1] < 100:
                    pass
                await caller.chunk(url, DATA[100:], 100)
                yield DATA[100:]

            headers = {"X-Goog-Upload-Command": "upload, finalize", "X-Goog-Upload-Offset": "0"}
            return await caller.session.post(url, data=parts(), headers=headers)

        response = await slow()
        response.close()
        (file,) = (await caller.send("GET", "/v1beta/files", headers=KEY)).json["files"]
    assert (response.status, file["sizeBytes"]) == (400, str(len(DATA)))
