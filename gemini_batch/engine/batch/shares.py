"""Sizes of batches: how many calls one takes, and how many batches calls take. Pure."""

from dataclasses import dataclass

# What a line of the results is expected to take, so that a file has about 1 GB: base64 of an image,
# text and signatures. A 4K image has up to 30 MB of base64 (collected 2026-11-22).
_LINE_BYTES = {"512": 1_400_000, "1K": 2_850_000, "2K": 8_300_000, "4K": 33_000_000}
_UNKNOWN_LINE_BYTES = max(_LINE_BYTES.values())
MAX_INPUT_BYTES = 1_800_000_000
MAX_OUTPUT_BYTES = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Share:
    """The most that one batch takes, so that little is stuck, lost or torn at once.

    Attributes:
        calls: Lines.
        input_bytes: Of its input file; a file has at most 2 GB (collected 2026-11-30).
        output_bytes: Of its results, as far as they can be expected.
        input_tokens: Of what the project may have enqueued.
    """

    calls: int
    input_bytes: int
    output_bytes: int
    input_tokens: int

    def fits(self, other: "Share") -> bool:
        """Return whether this is no more than another share in any respect."""
        return (
            self.calls <= other.calls
            and self.input_bytes <= other.input_bytes
            and self.output_bytes <= other.output_bytes
            and self.input_tokens <= other.input_tokens
        )

    def __add__(self, other: "Share") -> "Share":
        return Share(
            self.calls + other.calls,
            self.input_bytes + other.input_bytes,
            self.output_bytes + other.output_bytes,
            self.input_tokens + other.input_tokens,
        )


def most(calls: int, enqueued_tokens: int) -> Share:
    """Return the most that one batch takes, of a project's enqueued tokens a quarter."""
    return Share(calls, MAX_INPUT_BYTES, MAX_OUTPUT_BYTES, max(1, enqueued_tokens // 4))


def fewest(share: Share, largest: Share) -> int:
    """Return the number of batches that calls of one model take at least."""
    return max(
        -(-share.calls // largest.calls),
        -(-share.output_bytes // largest.output_bytes),
        -(-share.input_tokens // largest.input_tokens),
    )


def line_bytes(image_size: str) -> int:
    """Return the expected size of a line of results."""
    return _LINE_BYTES.get(image_size, _UNKNOWN_LINE_BYTES)


EMPTY_SHARE = Share(0, 0, 0, 0)
