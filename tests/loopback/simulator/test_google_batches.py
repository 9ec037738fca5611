"""Google's own SDK uploads, downloads and runs batches on the simulator."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tests.loopback.simulator.client import PRO
from tests.loopback.simulator.test_google_sdk import _call, _client, errors, types

pytestmark = [
    pytest.mark.slow,
    pytest.mark.loopback,
    pytest.mark.filterwarnings(
        "ignore:Inheritance class AiohttpClientSession:DeprecationWarning",
        "ignore:Sending a large body directly:ResourceWarning",
    ),
    pytest.mark.parametrize(("version", "style"), [("v1beta", "sync"), ("v1", "async")]),
]

CHUNK_BYTES = 8 * 1024 * 1024


def _line(key: str, prompt: str) -> str:
    request = {"contents": [{"parts": [{"text": prompt}]}]}
    return json.dumps({"key": key, "request": request}) + "\n"


async def _upload(style: str, client: Any, data: bytes) -> Any:
    config = {"mime_type": "text/plain", "display_name": "lines"}
    return await _call(
        style, client, lambda sdk: sdk.files.upload(file=io.BytesIO(data), config=config)
    )


async def test_files(style: str, version: str, tmp_path: Path) -> None:
    """A file of several chunks is uploaded, found by name and in the list, and deleted."""
    path = tmp_path / "lines.txt"
    path.write_bytes(b"x" * (2 * CHUNK_BYTES + 5))
    async with _client(version) as client:
        config = {"mime_type": "text/plain", "display_name": "lines"}
        file = await _call(style, client, lambda sdk: sdk.files.upload(file=path, config=config))
        assert (file.size_bytes, file.mime_type, file.display_name) == (
            2 * CHUNK_BYTES + 5,
            "text/plain",
            "lines",
        )
        assert (file.expiration_time - file.create_time).total_seconds() == 48 * 3600
        got = await _call(style, client, lambda sdk: sdk.files.get(name=file.name))
        assert got == file
        named = {"mime_type": "text/plain", "name": "my-file"}
        mine = await _call(style, client, lambda sdk: sdk.files.upload(file=path, config=named))
        assert (mine.name, mine.sha256_hash) == ("files/my-file", file.sha256_hash)
        for _ in range(2):
            await _upload(style, client, b"y")
        listed = await _call(style, client, lambda sdk: sdk.files.list(config={"page_size": 2}))
        assert len(listed) == 4
        assert listed[-1] == file
        await _call(style, client, lambda sdk: sdk.files.delete(name=file.name))
        with pytest.raises(errors.ClientError) as caught:
            await _call(style, client, lambda sdk: sdk.files.get(name=file.name))
    assert caught.value.code == 403


async def test_batch_of_a_file(style: str, version: str) -> None:
    """A batch of a file ends, is in the list, and its result file has a line for each request."""
    async with _client(version) as client:
        lines = _line("a", "A robot") + _line("b", "A fox [[fault:500]]") + _line("c", "A cat")
        file = await _upload(style, client, lines.encode())
        made = await _call(
            style,
            client,
            lambda sdk: sdk.batches.create(
                model=PRO, src=file.name, config={"display_name": "three"}
            ),
        )
        batch = await _call(style, client, lambda sdk: sdk.batches.get(name=made.name))
        assert batch.state == types.JobState.JOB_STATE_SUCCEEDED
        assert (batch.display_name, batch.model) == ("three", f"models/{PRO}")
        other = await _call(
            style,
            client,
            lambda sdk: sdk.batches.create(model=PRO, src=file.name, config={"display_name": "x"}),
        )
        listed = await _call(style, client, lambda sdk: sdk.batches.list(config={"page_size": 1}))
        assert [item.name for item in listed] == [other.name, made.name]
        data = await _call(style, client, lambda sdk: sdk.files.download(file=batch.dest.file_name))
        a, b, c = (json.loads(line) for line in data.splitlines())
        assert [list(a)[-1], b["key"], c["key"]] == ["key", "b", "c"]
        parts = a["response"]["candidates"][0]["content"]["parts"]
        assert parts[-1]["inlineData"]["mimeType"] == "image/jpeg"
        assert b["error"]["code"] == 13
        with pytest.raises(errors.ClientError):  # longer than a name of the Files API may be
            await _call(style, client, lambda sdk: sdk.files.get(name=batch.dest.file_name))
        await _call(style, client, lambda sdk: sdk.batches.delete(name=made.name))
        with pytest.raises(errors.ClientError):
            await _call(style, client, lambda sdk: sdk.batches.get(name=made.name))


async def test_inlined_batch(style: str, version: str) -> None:
    """The answers to inlined requests are in the batch, and not in the list."""
    async with _client(version) as client:
        config = types.GenerateContentConfig(image_config=types.ImageConfig(aspect_ratio="16:9"))
        requests = [
            types.InlinedRequest(contents="A robot", config=config, metadata={"key": "a"}),
            types.InlinedRequest(contents="A fox", config=config),
        ]
        made = await _call(
            style,
            client,
            lambda sdk: sdk.batches.create(model=PRO, src=requests, config={"display_name": "two"}),
        )
        batch = await _call(style, client, lambda sdk: sdk.batches.get(name=made.name))
        first, second = batch.dest.inlined_responses
        assert (first.metadata, second.metadata) == ({"key": "a"}, None)
        assert first.response.parts[-1].inline_data.mime_type == "image/jpeg"
        (listed,) = await _call(style, client, lambda sdk: sdk.batches.list())
    assert listed.dest is None


async def test_cancel(style: str, version: str) -> None:
    """A batch that runs can be cancelled; then it has no results."""
    async with _client(version, batch_turnaround_s=3600) as client:
        file = await _upload(style, client, _line("a", "A robot").encode())
        made = await _call(
            style,
            client,
            lambda sdk: sdk.batches.create(
                model=PRO, src=file.name, config={"display_name": "one"}
            ),
        )
        assert made.state == types.JobState.JOB_STATE_PENDING
        await _call(style, client, lambda sdk: sdk.batches.cancel(name=made.name))
        batch = await _call(style, client, lambda sdk: sdk.batches.get(name=made.name))
    assert (batch.state, batch.dest) == (types.JobState.JOB_STATE_CANCELLED, None)


async def test_models_name_batches(style: str, version: str) -> None:
    """The methods of a model name batches."""
    async with _client(version) as client:
        model = await _call(style, client, lambda sdk: sdk.models.get(model=PRO))
    assert "batchGenerateContent" in model.supported_actions
