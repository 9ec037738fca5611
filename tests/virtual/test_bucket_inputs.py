"""Reference images in a bucket: looked up when the manifest is checked, fetched when they are sent."""

from pathlib import Path

import pytest

from gemini_batch.client.request_json import body
from gemini_batch.errors import ManifestError
from gemini_batch.inputs import lookup, object_lookup
from gemini_batch.inputs.object_lookup import look_up
from gemini_batch.inputs.objects import ObjectFetcher
from gemini_batch.records import InputImage, Request
from gemini_batch.store.base import ImageStore
from gemini_batch.store.memory import MemoryStore
from tests.builders import corners, png, sha256
from tests.loopback.commands import rows
from tests.virtual.desk import Desk

pytestmark = pytest.mark.usefixtures("no_real_syncs", "bucket")
URI = "s3://pictures/refs/cat.png"


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """Return a bucket with one image."""
    bucket = MemoryStore()
    bucket.create("refs/cat.png", png("cat"))

    def store_of(_scheme: str, _bucket: str) -> ImageStore:
        return bucket

    monkeypatch.setattr(object_lookup, "store_of", store_of)
    monkeypatch.setattr("gemini_batch.inputs.objects.store_of", store_of)
    lookup._object.cache_clear()
    return bucket


def test_an_image_in_a_bucket_is_sent_inline(desk: Desk) -> None:
    """Its row has its address, and the hash of what was sent; nothing of it stays when all is done."""
    desk.write_jobs({"id": "a", "prompt": "A dog", "images": [URI]})
    assert desk.run().exit_code == 0
    (row,) = rows(desk.out)
    assert row["inputs"][0]["path"] == URI
    assert row["inputs"][0]["sha256"] is None
    assert row["inputs"][0]["sent"]["sha256"] == sha256(png("cat"))
    assert not (desk.out / ".gemini_batch/inputs").exists()


def test_a_call_is_the_same_while_the_object_is(desk: Desk, bucket: MemoryStore) -> None:
    """Another version of it is an edit, and is paid for."""
    desk.write_jobs({"id": "a", "prompt": "A dog", "images": [URI]})
    desk.run()
    lookup._object.cache_clear()
    desk.run()
    assert desk.sent() == []
    bucket.put("refs/cat.png", png("another cat"))
    lookup._object.cache_clear()
    desk.run()
    assert desk.sent() == ["a"]


def test_an_object_that_changes_during_the_run_is_not_sent(desk: Desk, bucket: MemoryStore) -> None:
    """Its call fails, at no cost, and the next run may send it."""
    desk.write_jobs({"id": "a", "prompt": "A dog", "images": [URI]})

    real = bucket.get

    def get(name: str) -> object:
        bucket.put(name, png("changed"))
        return real(name)

    bucket.get = get  # type: ignore[method-assign, assignment]
    summary = desk.run()
    assert (summary.exit_code, desk.sent()) == (4, [])
    assert "changed since the run began" in str(summary.this_run.unfinished)


def test_a_large_object_is_downscaled(desk: Desk, bucket: MemoryStore, tmp_path: Path) -> None:
    """As a large file is; what is sent is in the row."""
    corners(80, 40).save(tmp_path / "large.png")
    bucket.put("refs/cat.png", (tmp_path / "large.png").read_bytes())
    desk.write_jobs({"id": "a", "prompt": "A dog", "images": [URI]})
    assert desk.run(max_input_pixels=200).exit_code == 0
    sent = rows(desk.out)[0]["inputs"][0]["sent"]
    assert sent["width"] * sent["height"] <= 200


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("s3://pictures/refs/dog.png", "there is no such object"),
        ("s3://pictures", "names a bucket"),
        ("s3://p/x.png", "has 3 to 63"),
        ("az://pictures/x.png?sig=SECRET", "has a query"),
    ],
)
def test_a_wrong_address_is_a_problem_of_its_line(desk: Desk, uri: str, told: str) -> None:
    """Before anything is sent."""
    desk.write_jobs({"id": "a", "prompt": "A dog", "images": [uri]})
    with pytest.raises(ManifestError, match=told) as raised:
        desk.run()
    assert "images[0]" in str(raised.value)
    assert "SECRET" not in str(raised.value)


def test_the_batch_route_has_the_image_in_its_line(tmp_path: Path) -> None:
    """A request with its copies has no address in it, whatever the route."""
    request = Request("m", (look_up(URI, None),))
    pieces = body(ObjectFetcher(tmp_path, None).request(request))
    assert b"s3://" not in b"".join(piece for piece in pieces if isinstance(piece, bytes))
    (image,) = (piece for piece in pieces if isinstance(piece, InputImage))
    assert Path(image.file).read_bytes() == png("cat")
