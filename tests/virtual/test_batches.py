from tests.builders import png
from tests.virtual.batch_desk import BatchDesk


def test_calls_are_submitted_and_a_later_run_collects_them(batch_desk: BatchDesk) -> None:
    """The first run submits and ends with 5, the next one collects: half the price, once each."""
    batch_desk.write()
    first = batch_desk.run()
    assert (first.exit_code, first.needs_person, first.waiting, first.left) == (5, False, 4, 4)
    assert [stop["reason"] for stop in first.stops] == ["waiting"]
    assert first.run_again_at is not None
    assert [(each["calls"], each["waiting"]) for each in first.batches] == [(3, 3), (1, 1)]
    second = batch_desk.run()
    assert (second.exit_code, second.waiting, second.left) == (0, 0, 0)
    assert batch_desk.final() == dict.fromkeys("abcd", "succeeded")
    assert batch_desk.images() == {each: png(f"prompt {each}") for each in "abcd"}
    assert {row["route"] for row in batch_desk.rows()} == {"batch"}
    assert batch_desk.notes() == []
    assert batch_desk.server.files == {}
    assert set(batch_desk.server.billed().values()) == {1}
