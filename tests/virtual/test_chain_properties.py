"""Any graph of chains, any order of moves: each call once, and children only of durable parents."""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gemini_batch.cli import main
from gemini_batch.config.settings import RouteChoice
from gemini_batch.errors import ConfigError
from gemini_batch.output.marks import Mark, Marks
from gemini_batch.output.rows import newest_rows
from gemini_batch.records import FailureKind
from tests.builders import blocked_for, fails, picture, says
from tests.virtual.batch_desk import BATCH, BatchDesk
from tests.virtual.desk import CONFIG

pytestmark = [pytest.mark.usefixtures("no_real_syncs"), pytest.mark.slow]

NAMES = "abcdef"
ENDS = {
    "blocked": lambda: blocked_for("SAFETY"),
    "rejected": lambda: says(400),
    "failed": lambda: fails(FailureKind.TIMEOUT),
    "unavailable": lambda: says(503),
}


@dataclass
class Graph:
    """Jobs, their parents, and the version of their prompts; the lines are in any order."""

    parents: dict[str, list[str]]
    variants: dict[str, int]
    order: list[str]
    versions: Counter[str] = field(default_factory=Counter)
    hidden: set[str] = field(default_factory=set)

    def lines(self) -> bytes:
        """Return the manifest, without the hidden jobs."""
        return b"".join(
            orjson.dumps(self._job(name)) + b"\n" for name in self.order if name not in self.hidden
        )

    def hide(self, names: Iterable[str]) -> None:
        """Leave out these jobs, and no others; one that a visible job uses stays."""
        self.hidden = set()
        for name in sorted(names, reverse=True):
            kids = {kid for kid in self.order if kid not in self.hidden}
            used = {each.partition(".")[0] for kid in kids for each in self.parents[kid]}
            if name in self.order and name not in used and len(kids) > 1:
                self.hidden.add(name)

    def _job(self, name: str) -> dict[str, Any]:
        images = [{"image": f"job:{each}"} for each in self.parents[name]]
        text = {"text": f"{name} {self.versions[name]}"}
        return {"id": name, "parts": [text, *images], "variants": self.variants[name]}

    @property
    def calls(self) -> set[str]:
        """The ids of all calls."""
        return {
            name if each == 1 else f"{name}.{each}"
            for name, number in self.variants.items()
            for each in range(1, number + 1)
        }


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Draw a graph without circles."""
    names = list(NAMES[: draw(st.integers(2, len(NAMES)))])
    variants = {name: draw(st.sampled_from([1, 1, 2])) for name in names}
    parents: dict[str, list[str]] = {}
    for place, name in enumerate(names):
        earlier = [
            each if number == 1 else f"{each}.{number}"
            for each in names[:place]
            for number in range(1, variants[each] + 1)
        ]
        some = st.lists(st.sampled_from(earlier), max_size=3) if earlier else st.just([])
        parents[name] = draw(some)
    return Graph(parents, variants, draw(st.permutations(names)))


@dataclass(frozen=True)
class Move:
    """One run, and what happens before it and in it."""

    route: RouteChoice
    edits: tuple[str, ...]
    redo: tuple[str, ...]
    only: tuple[str, ...]
    limit: int | None
    ends: dict[str, str]
    kill_at: int
    max_cost_usd: float | None
    reuses: bool
    hides: tuple[str, ...] = ()
    prunes: bool = False
    discards: tuple[str, ...] = ()
    moves: bool = False


MOVES = st.lists(
    st.builds(
        Move,
        route=st.sampled_from(["interactive", "interactive", "batch", "auto"]),
        edits=st.lists(st.sampled_from(NAMES), max_size=1).map(tuple),
        redo=st.sampled_from(
            [(), (), ("stale",), ("a",), ("b", "stale"), ("discarded",), ("discarded", "stale")]
        ),
        only=st.sampled_from([(), (), (), ("[a-c]*",), ("b",)]),
        limit=st.sampled_from([None, None, 1, 2]),
        ends=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(sorted(ENDS)), max_size=2),
        kill_at=st.sampled_from([0, 0, *range(1, 25)]),
        max_cost_usd=st.sampled_from([None, None, 0.3]),
        reuses=st.booleans(),
        hides=st.lists(st.sampled_from(NAMES), max_size=2).map(tuple),
        prunes=st.sampled_from([False, False, True]),
        discards=st.lists(st.sampled_from(NAMES), max_size=2).map(tuple),
        moves=st.sampled_from([False, False, False, True]),
    ),
    max_size=5,
)
DRAWINGS = count(1)


@contextmanager
def desk_of(graph: Graph) -> Iterator[BatchDesk]:
    """Yield a desk with the manifest of a graph."""
    folder = Path(mkdtemp())
    try:
        with pytest.MonkeyPatch.context() as patch:
            desk = BatchDesk(folder, patch)
            desk.path.write_bytes(graph.lines())
            yield desk
    finally:
        shutil.rmtree(folder)


def run(desk: BatchDesk, move: Move, other: Path) -> None:
    """Make a move; a kill leaves the folder and the server as they are at that moment."""
    script = {
        f"{name}{suffix}": [
            ENDS[move.ends[name]]() if name in move.ends and not suffix else drawn()
        ]
        for name in NAMES
        for suffix in ("", ".2")
    }
    desk.deeds.clear()
    desk.kill_at = move.kill_at
    reuse = (other,) if move.reuses and (other / "results.jsonl").exists() else ()
    config = BATCH if move.route != "interactive" else CONFIG
    try:
        desk.run(
            replace(config, route=move.route),
            script=script,
            redo=move.redo,
            only=move.only,
            limit=move.limit,
            max_cost_usd=move.max_cost_usd,
            reuse_from=reuse,
        )
    except ConfigError:
        pass  # an id of another graph
    except BaseException:
        if desk._left_behind is None:
            raise
        desk._resume()
    desk.kill_at = 0


def _job(call_id: str) -> str:
    return call_id.partition(".")[0]


def prepare(desk: BatchDesk, graph: Graph, move: Move, redone: set[str]) -> None:
    """Do what a user does between two runs: edit, leave out, prune, discard, move the folder."""
    graph.versions.update(move.edits)
    graph.hide(move.hides)
    desk.path.write_bytes(graph.lines())
    redone |= {"a", "b"} & {*move.redo}
    if not desk.out.exists():
        return
    if move.moves:
        desk.out = desk.out.rename(desk.out.with_name(f"{desk.out.name}.moved"))
    newest = {row["id"]: row for row in newest_rows(desk.out)}
    for row in (newest[name] for name in move.discards if name in newest):
        if row["images"]:
            size_bytes = (desk.out / "results.jsonl").stat().st_size
            mark = Mark(row["id"], row["images"][0]["sha256"], "discard", None, size_bytes)
            Marks(desk.out).set(mark)
            redone.add(row["id"])
    if move.prunes:
        assert main(["prune", str(desk.out), "--yes", "--manifest", str(desk.path)]) != 1


def drawn() -> Any:
    """Return an answer with a picture of its own."""
    return picture(drawing=f" {next(DRAWINGS)}")


def check_rows(desk: BatchDesk, redone: set[str]) -> None:
    """Check that each row was made with pictures that were durable before, and that none was paid for twice.

    When lines come back after `prune`, a variant may take the picture of another one of its job, which is then
    made again: as many are paid for as there are variants.
    """
    pruned = {_job(row["id"]) for row in desk.rows() if row["status"] == "pruned"}
    pictures: set[tuple[str, str]] = set()
    paid: Counter[tuple[Any, ...]] = Counter()
    for row in desk.rows():
        made_with = [(each["path"].removeprefix("job:"), each["sha256"]) for each in row["inputs"]]
        if row["status"] != "rejected" or row["attempts"]:
            assert pictures.issuperset(made_with), (row["id"], row["status"])
        if row["status"] in {"succeeded", "late"} and row["images"]:
            pictures.add((row["id"], row["images"][0]["sha256"]))
        if row["status"] == "succeeded" and not row["reused_from"] and row["attempts"]:
            paid[row["id"], row["request_sha256"], tuple(made_with)] += 1
    again = {key: number for key, number in paid.items() if number > 1 and key[0] not in redone}
    assert {key: number for key, number in again.items() if _job(key[0]) not in pruned} == {}
    for call_id, *request in again:
        job = [key for key in paid if _job(key[0]) == _job(call_id) and [*key[1:]] == request]
        assert sum(paid[key] for key in job) <= 2, job  # variants, at most


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(graph=graphs(), moves=MOVES)
def test_any_moves_on_any_graph(graph: Graph, moves: list[Move]) -> None:
    """Edits, redo, discards, prune, `--only`, `--limit`, `--reuse-from`, budgets, failures, kills, a folder that moves, by any route; at the end all is there."""
    with desk_of(graph) as desk:
        redone: set[str] = set()
        other = desk.out.parent / "other"
        for number, move in enumerate(moves):
            prepare(desk, graph, move, redone)
            run(desk, move, other)
            check_rows(desk, redone)
            if number == 1 and desk.out.exists():
                shutil.rmtree(other, ignore_errors=True)
                shutil.copytree(desk.out, other)
        graph.hide(())
        desk.path.write_bytes(graph.lines())
        for _ in range(30):
            summary = desk.run(
                CONFIG,
                script={each: [drawn()] for each in graph.calls},
                redo=("stale",),
                retry=frozenset({"blocked", "rejected"}),
            )
            if not summary.left and not summary.stale and not summary.this_run.finished:
                break
        check_rows(desk, redone)
        assert desk.final() == dict.fromkeys(graph.calls, "succeeded")
        newest = {row["id"]: row for row in desk.rows() if row["status"] == "succeeded"}
        for row in newest.values():
            for each in row["inputs"]:
                parent = newest[each["path"].removeprefix("job:")]
                assert each["sha256"] == parent["images"][0]["sha256"], row["id"]
        assert summary.this_run.sent == 0
