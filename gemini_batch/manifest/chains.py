"""Chains: the jobs of a manifest that use pictures of other jobs, as compact arrays."""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from gemini_batch.hashmap import HashMap64, fingerprint


class Chains:
    """Which jobs use the pictures of which calls.

    A child is a job with references; its number is its rank among the children. A parent is a call
    that is referred to; its slot is its number. A reference takes about 50 bytes.

    Attributes:
        children: The index of each child, ascending.
        slots: The slot of each reference, child by child.
        jobs: The index of the job of each slot.
        variants: Its variant, from 1.
        keys: The fingerprint of its id.
        order: The numbers of the children; each comes after the children whose picture it uses.
        depth: The most calls that follow each other; 1 without a child.
    """

    def __init__(self) -> None:
        self.children = array("I")
        self.slots = array("I")
        self.jobs = array("I")
        self.variants = array("H")
        self.keys = array("Q")
        self.order = array("I")
        self.depth = 1
        self._first = array("I", (0,))  # where the references of each child begin
        self._slot_of = HashMap64()  # id of a call → slot
        self._child_of = array("I")  # slot → number of its job among the children, plus 1
        self._kids_first, self._kids = array("I"), array("I")  # slot → children

    def __len__(self) -> int:
        return len(self.children)

    def add(self, index: int, call_ids: Sequence[str]) -> None:
        """Add the next job with references."""
        self.children.append(index)
        for call_id in call_ids:
            slot = self._slot_of.claim(call := fingerprint(call_id), len(self.jobs))
            if slot is None:
                slot = self._slot_of.get(call) or 0
                self.jobs.append(0)
                self.variants.append(0)
                self.keys.append(call)
            self.slots.append(slot)
        self._first.append(len(self.slots))

    def slot(self, call_id: str) -> int | None:
        """Return the slot of a call; None if it is not a parent."""
        return self._slot_of.get(fingerprint(call_id))

    def set_parent(self, slot: int, index: int, variant: int) -> None:
        """Set the job and the variant of a slot."""
        self.jobs[slot], self.variants[slot] = index, variant

    def call(self, slot: int) -> tuple[int, int]:
        """Return the index of the job of a slot, and its variant."""
        return self.jobs[slot], self.variants[slot]

    def number(self, index: int) -> int | None:
        """Return the number of a job among the children; None if it is none."""
        number = bisect_left(self.children, index)
        is_child = number < len(self.children) and self.children[number] == index
        return number if is_child else None

    def parents(self, number: int) -> "array[int]":
        """Return the slots of a child."""
        return self.slots[self._first[number] : self._first[number + 1]]

    def kids(self, slot: int) -> "array[int]":
        """Return the numbers of the children of a slot, once for each reference."""
        return self._kids[self._kids_first[slot] : self._kids_first[slot + 1]]

    def parent_child(self, slot: int) -> int | None:
        """Return the number of the job of a slot among the children; None if it is none."""
        return self._child_of[slot] - 1 if self._child_of[slot] else None

    def sort(self) -> Iterator[list[int]]:
        """Order the children; yield the indexes of the jobs of each circle, child before parent.

        Call it once all parents are set.
        """
        numbers = (self.number(index) for index in self.jobs)
        self._child_of = array("I", (0 if each is None else each + 1 for each in numbers))
        self._kids_first, self._kids = self._inverted()
        missing = array("I", bytes(4 * len(self)))
        for number in range(len(self)):
            missing[number] = sum(self._child_of[slot] > 0 for slot in self.parents(number))
        of_child = _SlotsOfChildren(self._child_of, len(self))
        level = array("I", bytes(4 * len(self)))
        self.order = array("I", (number for number, left in enumerate(missing) if not left))
        for number in self.order:  # it grows meanwhile
            for slot in of_child[number]:
                for kid in self.kids(slot):
                    level[kid] = max(level[kid], level[number] + 1)
                    missing[kid] -= 1
                    if not missing[kid]:
                        self.order.append(kid)
        self.depth = max(level, default=-1) + 2
        yield from self._circles(missing)

    def _inverted(self) -> tuple["array[int]", "array[int]"]:
        """Return where the children of each slot begin, and these, by a counting sort."""
        counts = array("I", bytes(4 * (len(self.jobs) + 1)))
        for slot in self.slots:
            counts[slot + 1] += 1
        first = array("I", accumulate(counts))
        free, kids = first[:], array("I", bytes(4 * len(self.slots)))
        for number in range(len(self)):
            for slot in self.parents(number):
                kids[free[slot]] = number
                free[slot] += 1
        return first, kids

    def _circles(self, missing: "array[int]") -> Iterator[list[int]]:
        """Yield each circle among the children that still miss a parent."""
        seen = array("I", bytes(4 * len(self)))  # the walk that was there, from 1
        for start, left in enumerate(missing):
            number, walk, path = start, start + 1, list[int]()
            while left and not seen[number]:
                seen[number] = walk
                path.append(number)
                number = self._missed(number, missing)
            if path and seen[number] == walk:
                yield [self.children[each] for each in path[path.index(number) :]]

    def _missed(self, number: int, missing: "array[int]") -> int:
        """Return a child that a child waits for in vain."""
        found = (self._child_of[slot] for slot in self.parents(number))
        return next(each - 1 for each in found if each and missing[each - 1])


class _SlotsOfChildren:
    """The slots of each child's own calls."""

    def __init__(self, child_of: "array[int]", number: int) -> None:
        counts = array("I", bytes(4 * (number + 2)))
        for child in child_of:
            counts[child + 1] += 1
        self._first = array("I", accumulate(counts))
        free, self._slots = self._first[:], array("I", bytes(4 * len(child_of)))
        for slot, child in enumerate(child_of):
            self._slots[free[child]] = slot
            free[child] += 1

    def __getitem__(self, number: int) -> "array[int]":
        return self._slots[self._first[number + 1] : self._first[number + 2]]
