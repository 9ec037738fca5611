"""A compact map of 64-bit hashes, for manifests and results of a million lines."""

from array import array
from collections.abc import Iterable, Sequence

MASK = (1 << 64) - 1
_FIRST_CAPACITY = 1 << 10


def fingerprint(value: str | bytes | tuple[str | int | None, ...]) -> int:
    """Return a 64-bit hash that is never 0 and is valid within this process only.

    It is Python's keyed hash: the odds of one collision among a million values are 1 to 10⁷, and
    collisions can't be made on purpose.
    """
    return (hash(value) & MASK) or 1


def fingerprints(values: Iterable[str | bytes | tuple[str | int | None, ...]]) -> list[int]:
    """Return the `fingerprint` of each value."""
    return [(each & MASK) or 1 for each in map(hash, values)]


class HashMap64:
    """A map from 64-bit hash to a number, in 24 to 32 bytes per entry.

    A dict of a million such pairs takes about 140 MB, this 24. As in a dict, entries are stored in
    the order of insertion; a table that is at most half full finds them, by open addressing with
    linear probing. Lookups in about the same order hit the processor's cache. Space for `expected`
    entries is there from the start. An entry takes four bytes less if all values are
    `less_than_2_32`.
    """

    def __init__(self, expected: int = 0, *, less_than_2_32: bool = False) -> None:
        # The entry at 0 is unused: a slot with 0 is vacant.
        self._keys = array("Q", (0,))
        self._values = array("I" if less_than_2_32 else "Q", (0,))
        self._rehash(max(_FIRST_CAPACITY, 2 << expected.bit_length()))

    def __len__(self) -> int:
        return len(self._keys) - 1

    # Each of these probes by itself: with a common method they take twice as long.

    def get(self, key: int) -> int | None:
        """Return the value of `key`, or None when it is not in the map."""
        slots, keys, mask = self._slots, self._keys, self._mask
        slot = key & mask
        while place := slots[slot]:
            if keys[place] == key:
                return self._values[place]
            slot = (slot + 1) & mask
        return None

    def get_all(self, keys: Iterable[int]) -> list[int | None]:
        """Return what `get` returns for each key."""
        slots, taken, values, mask = self._slots, self._keys, self._values, self._mask
        found: list[int | None] = []
        for key in keys:
            slot = key & mask
            while (place := slots[slot]) and taken[place] != key:
                slot = (slot + 1) & mask
            found.append(values[place] if place else None)
        return found

    def put(self, key: int, value: int) -> None:
        """Set the value of `key` (0 < key < 2⁶⁴, 0 ≤ value < 2⁶⁴)."""
        slots, keys, mask = self._slots, self._keys, self._mask
        slot = key & mask
        while place := slots[slot]:
            if keys[place] == key:
                self._values[place] = value
                return
            slot = (slot + 1) & mask
        self._insert(slot, key, value)

    def put_all(self, keys: Sequence[int], new: Sequence[int]) -> None:
        """Set the value of each key, as `put` does."""
        while 2 * (len(self) + len(keys)) > self._mask:
            self._rehash(2 * len(self._slots))
        slots, taken, values, mask = self._slots, self._keys, self._values, self._mask
        for key, value in zip(keys, new, strict=True):
            slot = key & mask
            while (place := slots[slot]) and taken[place] != key:
                slot = (slot + 1) & mask
            if place:
                values[place] = value
            else:
                slots[slot] = len(taken)
                taken.append(key)
                values.append(value)

    def claim(self, key: int, value: int) -> int | None:
        """Set the value of `key` if it has none; return the one that it already has."""
        slots, keys, mask = self._slots, self._keys, self._mask
        slot = key & mask
        while place := slots[slot]:
            if keys[place] == key:
                return self._values[place]
            slot = (slot + 1) & mask
        self._insert(slot, key, value)
        return None

    def claim_next(self, keys: Sequence[int], first_value: int) -> int:
        """Set the values of keys to `first_value`, the number after it, and so on.

        Stop at the first key that has a value; return how many were set.
        """
        while 2 * (len(self) + len(keys)) > self._mask:
            self._rehash(2 * len(self._slots))
        slots, claimed, mask = self._slots, self._keys, self._mask
        place = first_place = len(claimed)
        claimed.extend(keys)
        for key in keys:
            slot = key & mask
            while earlier := slots[slot]:
                if claimed[earlier] == key:
                    break
                slot = (slot + 1) & mask
            else:
                slots[slot] = place
                place += 1
                continue
            break
        del claimed[place:]
        number = place - first_place
        self._values.extend(range(first_value, first_value + number))
        return number

    def _insert(self, slot: int, key: int, value: int) -> None:
        place = self._slots[slot] = len(self._keys)
        self._keys.append(key)
        self._values.append(value)
        if 2 * place > self._mask:
            self._rehash(2 * len(self._slots))

    def _rehash(self, capacity: int) -> None:
        slots, mask = array("I", (0,)) * capacity, capacity - 1
        for place, key in enumerate(self._keys):
            if place:  # no key is there twice
                slot = key & mask
                while slots[slot]:
                    slot = (slot + 1) & mask
                slots[slot] = place
        self._slots, self._mask = slots, mask
