"""Chains in a bucket: a picture that is not on the disk any more comes from the bucket."""

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from gemini_batch.errors import ExitCode
from gemini_batch.events import CallHeld
from gemini_batch.store.base import StoreUnavailableError
from tests.builders import sha256
from tests.virtual.desk import Desk
from tests.virtual.test_bucket import ADDRESS, Bucket, bucket, empty, told
from tests.virtual.test_chains import inputs, job

pytestmark = pytest.mark.usefixtures("no_real_syncs")
__all__ = ["bucket"]  # a fixture


def run(desk: Desk, **options: Any) -> Any:
    """Run the manifest into the bucket."""
    return desk.run(bucket=ADDRESS, **options)


@pytest.fixture
def chain(desk: Desk) -> Desk:
    """Return a desk with a chain of three."""
    desk.write_jobs(job("a"), job("b", "a"), job("c", "b"))
    return desk


def evict(desk: Desk) -> None:
    """Remove the images, which the bucket has."""
    shutil.rmtree(desk.out / "images")


def edit(desk: Desk) -> None:
    """Put another image in the place of the picture; the bucket has the right one."""
    (desk.out / "images/a.png").write_bytes(b"other")


LOSSES: dict[str, Callable[[Desk], None]] = {"disk": empty, "images": evict, "edited": edit}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_picture_that_left_the_disk_comes_from_the_bucket(
    chain: Desk, bucket: Bucket, loss: str
) -> None:
    """On an empty disk, after --scratch-max, and for a file that was changed: nothing is held, nothing sent twice."""
    run(chain, limit=1)
    LOSSES[loss](chain)
    summary = run(chain)
    assert (summary.exit_code, chain.sent()) == (0, ["b", "c"])
    assert inputs(chain)["b"] == {"job:a": sha256(bucket.get("images/a.png").data)}
    bucket.check()


def test_a_chain_ends_in_a_scratch_folder_that_keeps_no_image(chain: Desk, bucket: Bucket) -> None:
    """Over runs of one call each."""
    sent = []
    for _ in range(3):
        summary = run(chain, limit=1, scratch_max_bytes=2)
        sent += chain.sent()
    assert (summary.exit_code, sent) == (0, ["a", "b", "c"])
    bucket.check()


def test_a_picture_that_is_nowhere_holds_its_child(chain: Desk, bucket: Bucket) -> None:
    """The message names it; nothing is paid for."""
    run(chain, limit=1)
    empty(chain)
    bucket.remove("images/a.png")
    summary = run(chain)
    assert (summary.exit_code, chain.sent()) == (ExitCode.INCOMPLETE, [])
    (held,) = (event for event in chain.events if isinstance(event, CallHeld))
    assert "images/a.png can't be read" in held.message


def test_a_bucket_that_does_not_give_a_picture_ends_the_run(
    chain: Desk, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that takes none does; the next run goes on."""
    run(chain, limit=1)
    empty(chain)
    get = bucket.get

    def fails(name: str) -> Any:
        if name.startswith("images"):
            raise StoreUnavailableError(f"{ADDRESS}/{name}: HTTP 503")
        return get(name)

    monkeypatch.setattr(bucket, "get", fails)
    summary = run(chain)
    assert (summary.exit_code, chain.sent()) == (ExitCode.STORAGE, [])
    assert "HTTP 503" in summary.stops[0]["message"], told(chain)
    monkeypatch.setattr(bucket, "get", get)
    assert run(chain).exit_code == 0
    assert chain.sent() == ["b", "c"]
