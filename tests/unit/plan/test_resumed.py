"""Plans of manifests that are partly done: the same for plain lines, which are looked up many at once."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.config import Settings
from gemini_batch.config.endpoints import GOOGLE
from gemini_batch.output.paths import RESULTS
from gemini_batch.plan.build import build_plan
from gemini_batch.records import Call, ImageFile, Limits, Status
from tests.builders import line_of, make_row
from tests.unit.manifest.lines import carefully

PREVIEW, SUCCESSOR = "gemini-3-pro-image-preview", "gemini-3-pro-image"
IMAGE = ImageFile("images/a.png", "image/png", 1, 1, 1, "")
settings = st.builds(
    Settings,
    tier=st.just("t"),
    limits=st.just(Limits()),
    endpoint=st.just(GOOGLE),
    base_url=st.none(),
    model=st.sampled_from([PREVIEW, SUCCESSOR]),
    retry=st.sampled_from([frozenset(), frozenset({Status.SUCCEEDED, Status.UNCERTAIN})]),
    retry_missing=st.booleans(),
)
jobs = st.fixed_dictionaries(
    {"prompt": st.sampled_from(["x", "y", "é"])},
    optional={"id": st.sampled_from("abcdef"), "model": st.sampled_from([PREVIEW, SUCCESSOR])},
)
changes: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}, {"images": [IMAGE]}, {"images": [IMAGE]}, {"request_sha256": "0" * 64}, {"endpoint": "x"}]
)


def plan_of(manifest: Path, config: Settings) -> tuple[list[Call], Any]:
    """Return the calls to be made, and all that a plan knows of the others."""
    with build_plan(manifest, manifest.with_name("out"), config) as planned:
        plan, history = planned.plan, planned.history
        calls = [
            call for each in planned.calls().values() for call in each if isinstance(call, Call)
        ]
        return calls, (plan._states, plan.totals, history.statuses, history.by_alias)


@given(
    st.lists(jobs, max_size=6, unique_by=lambda each: each.get("id", object())),
    settings,
    settings,
    st.data(),
)
def test_plain_lines_are_looked_up_as_their_jobs_are(
    lines: list[dict[str, Any]], before: Settings, config: Settings, data: st.DataObject
) -> None:
    """States, statuses and calls are the same with plain lines and without, after rows of any kind."""
    with TemporaryDirectory() as name:
        manifest = Path(name, "jobs.jsonl")
        manifest.write_text("\n".join(map(json.dumps, [*lines, {"prompt": "last"}])))
        calls, _ = plan_of(manifest, before)
        rows = [
            line_of(
                make_row(
                    call.id,
                    data.draw(st.sampled_from([*Status, *[Status.SUCCEEDED] * 5])),
                    **{
                        "request_sha256": call.request_sha256,
                        "endpoint": GOOGLE,
                        **data.draw(changes),
                    },
                )
            )
            for call in data.draw(st.lists(st.sampled_from(calls), max_size=8))
        ]
        manifest.with_name("out").mkdir()
        manifest.with_name("out").joinpath(RESULTS).write_bytes(b"".join(rows))
        with carefully():
            expected = plan_of(manifest, config)
        assert plan_of(manifest, config) == expected


def test_a_finished_call_that_is_wanted_again_is_looked_at_by_itself(tmp_path: Path) -> None:
    """With `retry_missing`, a plain line whose image is gone is made again, and only that one."""
    manifest, out = tmp_path / "jobs.jsonl", tmp_path / "out"
    manifest.write_text('{"id": "a", "prompt": "x"}\n{"id": "b", "prompt": "x"}\n')
    config = Settings("t", Limits(), GOOGLE, None, PREVIEW, retry_missing=True)
    calls, _ = plan_of(manifest, config)
    out.mkdir()
    common: dict[str, Any] = {"request_sha256": calls[0].request_sha256, "endpoint": GOOGLE}
    rows = [make_row("a", **common), make_row("b", images=[IMAGE], **common)]
    (out / RESULTS).write_bytes(b"".join(map(line_of, rows)))
    assert [call.id for call in plan_of(manifest, config)[0]] == ["b"]
