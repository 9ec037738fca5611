"""A flat map of 64-bit hashes, for manifests and results of a million lines."""

from array import array

MASK = (1 << 64) - 1
_VACANT = 0
_FIRST_CAPACITY = 1 << 10


def fingerprint(value: str | bytes | tuple[str | int | None, ...]) -> int:
    """Return a 64-bit hash that is never 0 and holds within this process only.

    It is Python's own keyed hash: one value in 10¹³ collides among a million, and nobody can make collisions on purpose.
    """
    return (hash(value) & MASK) or 1


class Fingerprints:
    """A map from 64-bit hash to 64-bit value, 16 bytes a slot, half full at the most.

    A dict of a million such pairs takes about 140 MB, this 32 MB: open addressing with linear probing in two arrays.
    """

    def __init__(self) -> None:
        self._size = 0
        self._allocate(_FIRST_CAPACITY)

    def __len__(self) -> int:
        return self._size

    def get(self, key: int) -> int | None:
        """Return the value of `key`, or None when it is not in the map."""
        slot = self._slot(key)
        return self._values[slot] if self._keys[slot] == key else None

    def put(self, key: int, value: int) -> None:
        """Set the value of `key` (both 0 < key < 2⁶⁴, 0 ≤ value < 2⁶⁴), in place of an earlier one."""
        slot = self._slot(key)
        if self._keys[slot] == key:
            self._values[slot] = value
        else:
            self._insert(slot, key, value)

    def claim(self, key: int, value: int) -> int | None:
        """Set the value of `key` if it has none; return the one that it has already."""
        slot = self._slot(key)
        if self._keys[slot] == key:
            return self._values[slot]
        self._insert(slot, key, value)
        return None

    def _insert(self, slot: int, key: int, value: int) -> None:
        if 2 * (self._size + 1) > len(self._keys):
            self._grow()
            slot = self._slot(key)
        self._keys[slot] = key
        self._values[slot] = value
        self._size += 1

    def _slot(self, key: int) -> int:
        keys, mask = self._keys, self._mask
        slot = key & mask
        while keys[slot] not in (key, _VACANT):
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        keys, values = self._keys, self._values
        self._allocate(2 * len(keys))
        for key, value in zip(keys, values, strict=True):
            if key != _VACANT:
                slot = self._slot(key)
                self._keys[slot] = key
                self._values[slot] = value

    def _allocate(self, capacity: int) -> None:
        self._keys = array("Q", bytes(8 * capacity))
        self._values = array("Q", bytes(8 * capacity))
        self._mask = capacity - 1
