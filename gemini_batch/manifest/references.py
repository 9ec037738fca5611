"""References of a manifest to its own calls: collected line by line, looked up at the end."""

from array import array
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from gemini_batch.hashmap import fingerprint
from gemini_batch.manifest.chains import Chains
from gemini_batch.records import ids
from gemini_batch.records.references import PREFIX, references
from gemini_batch.wording import shown

if TYPE_CHECKING:  # it needs pydantic
    from gemini_batch.records.job import Job

_SHOWN_JOBS = 5

Read: TypeAlias = "Callable[[int], Job | None]"
"""Reads a job by its index."""
Claimed: TypeAlias = Callable[[int], int | None]
"""Returns the index of the job that has a folded id, by its fingerprint."""


class References:
    """The references of all jobs. Only lines with references cost anything.

    Attributes:
        chains: What they make of the jobs; whole once `faults` has found none.
    """

    def __init__(self) -> None:
        self.chains = Chains()
        self._folded = array("Q")  # by slot

    def add(self, index: int, job: "Job") -> None:
        """Add the references of the next job, if it has any."""
        call_ids = [call_id for _, call_id in references(job)]
        if not call_ids:
            return
        self.chains.add(index, call_ids)
        for call_id in call_ids:
            if self.chains.slot(call_id) == len(self._folded):
                self._folded.append(fingerprint(ids.folded(call_id)))

    def faults(self, read: Read, claimed: Claimed) -> Iterator[tuple[int, str, str]]:
        """Look all of them up; yield (index of the job, field, message) of each that is wrong."""
        unknown = set[int]()
        for slot, folded in enumerate(self._folded):
            index = claimed(folded)
            variant = None if index is None else self._variant(slot, read(index))
            if index is None or variant is None:
                unknown.add(slot)
            else:
                self.chains.set_parent(slot, index, variant)
        self._folded = array("Q")
        if unknown:
            yield from self._unknown(unknown, read, claimed)
            return
        for circle in self.chains.sort():
            yield self._circle(circle, read)

    def _variant(self, slot: int, job: "Job | None") -> int | None:
        """Return which variant of a job a slot is; None if it is none."""
        own = () if job is None else ids.of_calls(job)
        slots = enumerate(map(self.chains.slot, own), start=1)
        return next((variant for variant, each in slots if each == slot), None)

    def _unknown(
        self, slots: set[int], read: Read, claimed: Claimed
    ) -> Iterator[tuple[int, str, str]]:
        for number, index in enumerate(self.chains.children):
            if slots.isdisjoint(self.chains.parents(number)):
                continue
            job = read(index)
            for field, call_id in references(job) if job else ():
                if self.chains.slot(call_id) in slots:
                    found = f"got {shown(PREFIX + call_id)}"
                    yield index, field, f"{found}; {_advice(call_id, read, claimed)}"

    def _circle(self, circle: list[int], read: Read) -> tuple[int, str, str]:
        """Return the problem of a circle, at the reference of its first job."""
        start = circle.index(min(circle))
        jobs = [read(index) for index in (*circle[start:], *circle[:start])]
        names = [job.id or "" for job in jobs if job]
        field = ""
        if jobs[0] and jobs[-1]:
            parent = jobs[1 % len(jobs)] or jobs[0]
            of_parent = set(ids.of_calls(parent))
            field = next(name for name, call_id in references(jobs[0]) if call_id in of_parent)
        if len(names) == 1:
            return circle[start], field, "a job can't use a picture of its own"
        shown_names = [*names[:_SHOWN_JOBS], *(["…"] if len(names) > _SHOWN_JOBS else [])]
        way = " uses ".join([*shown_names, names[0]])
        return circle[start], field, f"{way}: none of them can be sent first; leave one out"


def _advice(call_id: str, read: Read, claimed: Claimed) -> str:
    """Return what is wrong with a reference that names no call."""
    index = claimed(fingerprint(ids.folded(call_id)))
    job = None if index is None else read(index)
    for found in ids.of_calls(job) if job else ():
        if ids.folded(found) == ids.folded(call_id):
            return f"the id is {shown(found)}: write it in the same way"
    base, dot, number = call_id.rpartition(".")
    index = claimed(fingerprint(ids.folded(base))) if dot and number.isdecimal() else None
    job = None if index is None else read(index)
    if job and ids.folded(job.id or "") == ids.folded(base):
        variants = "1 variant" if job.variants == 1 else f"{job.variants} variants"
        return f"the job {shown(base)} has {variants}"
    return 'no job of this manifest has this id; for a file of this name, write "./" before it'
