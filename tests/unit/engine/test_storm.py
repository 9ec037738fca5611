from gemini_batch.engine.storm import MANY, MAX_STORM_S, Storm


def a_storm() -> Storm:
    """Return one that begins at 0 s."""
    storm = Storm()
    for _ in range(MANY):
        assert not storm.probes(0.0)
        storm.failed(503, 0.0)
    return storm


def test_one_call_after_each_hold_and_holds_grow() -> None:
    """In a quarter of an hour ten calls are sent, fewer and fewer, up to two minutes apart."""
    storm = a_storm()
    sent_s = []
    for now_s in range(900):
        if now_s >= storm.until_s:
            assert storm.probes(now_s)
            sent_s.append(now_s)
            storm.failed(503, now_s)
    assert sent_s == [15, 45, 105, 225, 345, 465, 585, 705, 825]


def test_what_else_is_answered_ends_it() -> None:
    """Fewer in a row are no storm; after one that is over, the next begins anew."""
    storm = a_storm()
    assert (storm.until_s, storm.probes(16.0), storm.until_s) == (15.0, True, 46.0)
    assert storm.over()
    assert (storm.until_s, storm.probes(17.0), storm.over()) == (0.0, False, False)
    for _ in range(MANY):
        storm.failed(500, 20.0)
    assert (storm.until_s, storm.http_status) == (35.0, 500)


def test_it_is_not_waited_for_without_end() -> None:
    """After half an hour a storm is endless."""
    storm = a_storm()
    assert (storm.is_endless(MAX_STORM_S - 1), storm.is_endless(MAX_STORM_S)) == (False, True)
    storm.over()
    assert not storm.is_endless(MAX_STORM_S)
