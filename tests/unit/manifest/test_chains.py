"""References of a manifest to its own calls: looked up in all of it, in any order, and never a circle."""

from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemini_batch.hashmap import fingerprint
from gemini_batch.manifest import Manifest
from gemini_batch.manifest.chains import Chains
from tests.unit.manifest.lines import carefully, refusal, scanned, written


def job(name: str, *parents: str, **fields: Any) -> dict[str, Any]:
    """Return a job that uses these pictures."""
    return {"id": name, "prompt": "x", "images": [f"job:{each}" for each in parents], **fields}


def chains_of(*lines: dict[str, Any]) -> Chains:
    """Return the chains of a manifest."""
    with Manifest(written(*lines)) as manifest:
        deque(manifest.scan(), maxlen=0)
        return manifest.chains


def test_parents_may_stand_anywhere() -> None:
    """Before a child or after it; by the id of a call, derived or of a variant."""
    lines = [
        job("c", "b.2", "a.2"),
        {"id": "a.2", "prompt": "x"},
        job("b", "a.2", variants=2),
        {"prompt": "Grün", "id": "gru\u0308n"},
        {"id": "d", "parts": [{"image": "job:gr\u00fcn"}, {"text": "x"}, {"image": "job:c"}]},
        {"prompt": "without id"},
    ]
    chains = chains_of(*lines)
    assert list(chains.children) == [0, 2, 4]
    calls = [[chains.call(slot) for slot in chains.parents(number)] for number in range(3)]
    assert calls == [[(2, 2), (1, 1)], [(1, 1)], [(3, 1), (0, 1)]]
    assert (list(chains.order), chains.depth) == ([1, 0, 2], 4)
    derived = scanned(written({"prompt": "without id"}))[0].id or ""
    assert len(chains_of({"prompt": "without id"}, job("e", derived))) == 1


def test_only_lines_with_references_cost_anything() -> None:
    """A manifest without any has no chains, and other images are no references."""
    chains = chains_of(
        {"id": "a", "prompt": "x"}, {"id": "b", "prompt": "x", "images": ["./job:a"]}
    )
    assert (len(chains), chains.depth) == (0, 1)


@pytest.mark.parametrize(
    ("reference", "problem"),
    [
        ("job:robto", 'got "job:robto"; no job of this manifest has this id'),
        ("job:", 'got "job:"; no job of this manifest has this id'),
        ("job:Robot", 'got "job:Robot"; the id is "robot": write it in the same way'),
        ("job:robot.4", 'got "job:robot.4"; the job "robot" has 3 variants'),
        ("job:robot.1", 'got "job:robot.1"; the job "robot" has 3 variants'),
        ("job:cat.2", 'got "job:cat.2"; the job "cat" has 1 variant'),
        ("job:images/robot.png", 'got "job:images/robot.png"; no job of this manifest'),
    ],
)
def test_an_unknown_id_is_a_problem(reference: str, problem: str) -> None:
    """With its line and field, and what is there instead, wherever the reference stands."""
    robots = job("robot", variants=3) | {"images": []}
    cat = {"id": "cat", "prompt": "x"}
    (found,) = refusal(robots, cat, {"id": "a", "prompt": "x", "images": ["job:cat", reference]})
    assert found.startswith(f"jobs.jsonl:3: images[1]: {problem}")
    in_parts = {"id": "a", "parts": [{"text": "x"}, {"image": reference}]}
    (found,) = refusal(in_parts, robots, cat)
    assert found.startswith(f"jobs.jsonl:1: parts[1].image: {problem}")


def test_all_problems_are_shown() -> None:
    """Of each reference that is unknown; those of lines that can't be read are not called unknown."""
    found = refusal(job("a", "x"), job("b", "y", "x"), job("b"))
    assert [each.partition("; ")[0] for each in found] == [
        'jobs.jsonl:1: images[0]: got "job:x"',
        'jobs.jsonl:2: images[0]: got "job:y"',
        'jobs.jsonl:2: images[1]: got "job:x"',
        'jobs.jsonl:3: id: got "b", which line 2 has',
    ]
    (found_one,) = refusal(job("a", "b"), {"id": "b", "prompt": 7})
    assert "must be a string" in found_one


def test_a_circle_is_a_problem() -> None:
    """Each circle once, with its way; what only hangs on it is none."""
    found = refusal(
        job("a", "c"),
        job("b", "a"),
        job("c", "x", "b"),
        job("below", "c"),
        {"id": "x", "prompt": "x"},
        job("self", "x", "self"),
        job("twin", "twin.2", variants=2),
    )
    assert found == [
        "jobs.jsonl:1: images[0]: a uses c uses b uses a: none of them can be sent first; leave one out",
        "jobs.jsonl:6: images[1]: a job can't use a picture of its own",
        "jobs.jsonl:7: images[0]: a job can't use a picture of its own",
    ]


@given(st.lists(st.lists(st.integers(0, 11), max_size=4), max_size=12))
def test_an_order_exists_unless_there_is_a_circle(graph: list[list[int]]) -> None:
    """Any graph: either each child comes after its parents, or a circle is found that is one."""
    chains = Chains()
    for index, parents in enumerate(graph):
        if parents:
            chains.add(index, [str(each) for each in parents])
    for parent in {each for parents in graph for each in parents}:
        slot = chains.slot(str(parent))
        assert slot is not None
        assert chains.keys[slot] == fingerprint(str(parent))
        chains.set_parent(slot, parent, 1)
    circles = list(chains.sort())
    for circle in circles:
        for child, parent in zip(circle, [*circle[1:], circle[0]], strict=True):
            assert parent in graph[child]
    done = {index for index in range(12) if index >= len(graph) or not graph[index]}
    for number in chains.order:
        index = chains.children[number]
        assert done.issuperset(graph[index])
        done.add(index)
    assert bool(circles) == (len(done) < 12)
    for parent in range(12):
        slot = chains.slot(str(parent))
        kids = [] if slot is None else [chains.children[each] for each in chains.kids(slot)]
        assert kids == sorted(
            index for index, parents in enumerate(graph) for each in parents if each == parent
        )


def test_a_long_chain_is_ordered_without_recursion() -> None:
    """A chain as long as the manifest, last first."""
    number = 3_000
    lines = [job(f"j{each}", f"j{each + 1}") for each in range(number)]
    with carefully():
        chains = chains_of(*lines, {"id": f"j{number}", "prompt": "x"})
    assert chains.depth == number + 1
    assert list(chains.order) == list(range(number))[::-1]
