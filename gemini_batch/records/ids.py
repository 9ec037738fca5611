"""The ids of jobs and calls: valid ids, equal ids, and the id of a job that has none.

An id names a file below the output folder, so it must be a relative path that any file system
accepts: at most 200 bytes of UTF-8, 150 between two slashes. That leaves space within 255 bytes
(NAME_MAX) for a variant, an extension, and the names of staged and superseded files.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from unicodedata import normalize

import orjson

from gemini_batch.records import exact_json, media_types
from gemini_batch.wording import shown

if TYPE_CHECKING:  # it needs pydantic
    from gemini_batch.records.job import Job

MAX_ID_BYTES = 200
MAX_SEGMENT_BYTES = 150
_SLUG_CHARS = 40
_SLUG_OF_ASCII = "".join(
    chr(code).lower() if code < 128 and chr(code).isalnum() else " " for code in range(256)
).encode()
# 10 hex digits: of a million prompts that begin alike, one pair in two manifests collides.
_DIGEST_BYTES = 5

# Categories Cf, Zl and Zp of Unicode 16.0 without the visible signs of numbers and verses, and the
# letters and marks that are invisible too. Also the joiners: an emoji or a word is readable without
# them, and two ids that differ by one look alike. The last ones are beyond \uffff, which JavaScript
# writes in another way.
_INVISIBLE = (
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    r"\u3164\ufeff\uffa0\ufff9-\ufffb"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f"
)
_FORBIDDEN = rf'\x00-\x1f\x7f-\x9f{_INVISIBLE}\\<>:"|?*'
_is_plain = re.compile(r"(?=.{1,150}\Z)[A-Za-z0-9_-]++(?:/[A-Za-z0-9_-]++)*+").fullmatch
_forbidden = re.compile(f"[{_FORBIDDEN}]").search
_is_invisible = re.compile(f"[{_INVISIBLE}]").fullmatch
_IMAGE_SUFFIXES = (*media_types.EXTENSIONS.values(), ".jpeg", media_types.UNKNOWN_EXTENSION)
# Fields that are not part of the request; all others make the id of a job that has none.
_NOT_ASKED = frozenset({"id", "variants", "metadata", "service_tier"})


def _pattern() -> str:
    suffixes = "|".join(
        "".join(f"[{letter}{letter.upper()}]" for letter in name[1:]) for name in _IMAGE_SUFFIXES
    )
    segment = f"(?! )[^/{_FORBIDDEN}]{{0,{MAX_SEGMENT_BYTES - 1}}}[^/{_FORBIDDEN} .]"
    # In Python, "$" also matches before a line's end.
    return rf"^(?:(?![^/]*\.(?:{suffixes})/){segment}/)*{segment}$(?!\n)"


PATTERN = _pattern()
"""The rules of `fault` as a regular expression of JavaScript, with the flag `u`, and Python.

It is for an id in NFC, and limits characters instead of bytes.
"""


def normal(job_id: str) -> str:
    """Return the id in Unicode NFC."""
    return job_id if job_id.isascii() else normalize("NFC", job_id)


def folded(call_id: str) -> str:
    """Return a form that is equal for ids that name one file where case makes no difference."""
    if call_id.isascii():
        return call_id.lower()
    return normalize("NFC", normalize("NFD", call_id).casefold())


def call_id(job_id: str, variant: int) -> str:
    """Return the id of a job's call: `robot`, `robot.2`, `robot.3`."""
    return job_id if variant == 1 else f"{job_id}.{variant}"


def of_calls(job: "Job") -> list[str]:
    """Return the ids of the calls of a job."""
    return [call_id(job.id or "", variant) for variant in range(1, job.variants + 1)]


def fault(job_id: str) -> str | None:
    """Return the first problem of an id, for the user; None for a valid id."""
    if _is_plain(job_id):
        return None
    reason = next(_faults(job_id, job_id.split("/")), None)
    return reason and f"got {shown(job_id)}; {reason}"


def _faults(job_id: str, segments: list[str]) -> Iterator[str]:
    if bad := _forbidden(job_id):
        yield f"{_named(bad.group())}: leave it out"
    if job_id.startswith("/"):
        yield 'it is a path inside the output folder: leave the first "/" out'
    if "" in segments:
        yield 'every part between slashes needs a name, as in "icons/robot"'
    if "." in segments or ".." in segments:
        yield 'it is a path inside the output folder: no part of it may be "." or ".."'
    if any(segment.startswith(" ") or segment.endswith((".", " ")) for segment in segments):
        yield "no part of it may begin with a space, or end with a space or a dot"
    size, longest = len(job_id.encode()), max(len(segment.encode()) for segment in segments)
    if size > MAX_ID_BYTES or longest > MAX_SEGMENT_BYTES:
        limits = f"{MAX_ID_BYTES}, and {MAX_SEGMENT_BYTES} in one part: choose a shorter one"
        yield f"it has {size} bytes, {longest} of them in one part; allowed: {limits}"
    for folder in segments[:-1]:
        if folder.casefold().endswith(_IMAGE_SUFFIXES):
            job_id = folder.rpartition(".")[0]
            advice = "give it another name"
            yield f'the folder "{folder}" could be the image of a job "{job_id}": {advice}'


def _named(character: str) -> str:
    code = f"the character U+{ord(character):04X}"
    if _is_invisible(character):
        return f"{code} is invisible in a file's name"
    shown_as = f"'{character}'" if character.isprintable() else code
    return f"{shown_as} can't be in a file's name"


def derived(job: "Job", *, with_tier: bool = False) -> str:
    """Return the id of a job that has none: `slug-of-the-prompt-5f0c6a1e9b`, from its own fields.

    It does not depend on the line's number, on other lines, or on the content of files; nor on the
    service tier of a raw request, but for the ids of earlier versions (`with_tier`).
    """
    return derived_from(asked(job, with_tier=with_tier), _text(job))


def derived_from(asked_json: bytes, text: str) -> str:
    """Return the id of a job that has none, from the result of `asked` and its text."""
    digest = hashlib.blake2b(asked_json, digest_size=_DIGEST_BYTES).hexdigest()
    return f"{_slug(text) or 'image'}-{digest}"


def asked(job: "Job", *, with_tier: bool = False) -> bytes:
    """Return the fields of a job that make its derived id, as JSON."""
    fields = {
        name: value
        for name, value in job.__dict__.items()
        if value is not None and name not in _NOT_ASKED and (value or name != "images")
    }
    if job.request is not None and not with_tier:
        from gemini_batch.records import raw_request  # few jobs have one

        fields["request"] = raw_request.without_tier(job.request)
    return orjson.dumps(fields, default=_plain, option=orjson.OPT_SORT_KEYS)


def repeated(derived_id: str, count: int) -> str:
    """Return the id of the `count`-th job with the same request: `…-5f0c6a1e9b`, `…-2`."""
    return derived_id if count == 1 else f"{derived_id}-{count}"


def _plain(value: Any) -> dict[str, str] | float:
    from gemini_batch.records.job import JobPart  # who has one has imported it

    if isinstance(value, JobPart):
        return {"text": value.text} if value.text is not None else {"image": value.image or ""}
    if isinstance(value, exact_json.Number):
        return float(value.text)  # another id would be another call, and paid for again
    raise TypeError


def _text(job: "Job") -> str:
    if job.prompt is not None:
        return job.prompt
    if job.parts is not None:
        return next((part.text for part in job.parts if part.text), "")
    from gemini_batch.records import raw_request

    return raw_request.texts_in_lists(job.request or {})


def _slug(text: str) -> str:
    """Return the beginning of a text as lower-case ASCII with hyphens, at most 40 characters."""
    slug = _hyphenated(text[: _SLUG_CHARS + 16])  # nearly always enough
    if len(slug) <= _SLUG_CHARS:
        slug = _hyphenated(text[: 4 * _SLUG_CHARS])
    if len(slug) <= _SLUG_CHARS:
        return slug
    return slug[: _SLUG_CHARS + 1].rpartition("-")[0] or slug[:_SLUG_CHARS]


def _hyphenated(text: str) -> str:
    """Return the letters and digits of a text in lower-case ASCII, and hyphens between them."""
    data = text.encode() if text.isascii() else normalize("NFKD", text).encode("ascii", "ignore")
    return b"-".join(data.translate(_SLUG_OF_ASCII).split()).decode()
