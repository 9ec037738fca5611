"""Plain lines, which are nearly all lines of most manifests, checked in a fraction of the time.

A plain line has an id, a prompt, a shape, a size, a model and flat metadata, or fewer of these. A
line that has anything else, may be wrong, or may have a name twice is checked as a `Job`.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from gemini_batch.records import ids
from gemini_batch.records.job import Job

_KIND = ("model", "aspect_ratio", "image_size")
_NAMES = frozenset(_KIND)
_ABSENT = object()
# Strings of a name and a value of metadata. A float is left out: it may be a whole number that is
# too large for orjson.
_STRINGS_OF = {str: 2, int: 1, bool: 1}.__getitem__
_MAX_KINDS = 1_000
_PROMPT = "\\prompt/"  # of the job of a kind; nothing else in its JSON is written so


class Kind:
    """The plain lines of one shape, size and model.

    Attributes:
        job: A job that differs from theirs only in id, prompt and metadata.
    """

    __slots__ = ("_asked", "job")

    def __init__(self, job: Job) -> None:
        self.job = job
        self._asked = around_prompt(ids.asked(job))

    def derived_id(self, prompt: str) -> str:
        """Return what `ids.derived` returns for a job of this kind."""
        before, after = self._asked
        return ids.derived_from(before + orjson.dumps(prompt) + after, prompt)


@dataclass(slots=True)
class PlainJob:
    """The job of a plain line.

    Attributes:
        rank: 1 if `id` is derived, else 0.
    """

    id: str
    prompt: str
    kind: Kind
    rank: int


def around_prompt(form: bytes) -> tuple[bytes, bytes]:
    """Return what stands before and after the prompt in JSON that was made of a kind's job.

    Raises:
        ValueError: The prompt is not in it once.
    """
    before, after = form.split(orjson.dumps(_PROMPT))
    return before, after


class PlainLines:
    """Reads plain lines. `Job` judges each kind of them once."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[Any, ...], Kind | None] = {}

    def read(self, text: bytes) -> PlainJob | None:
        """Return the job of a line; None if the line is not plain."""
        try:
            given = orjson.loads(text)
            strings = 2 * len(given)
            metadata, job_id = given.pop("metadata", _ABSENT), given.pop("id", _ABSENT)
            if metadata is not _ABSENT:
                strings += sum(map(_STRINGS_OF, map(type, metadata.values()))) - 1
            prompt, get = given.pop("prompt"), given.get
            key = get("model", _ABSENT), get("aspect_ratio", _ABSENT), get("image_size", _ABSENT)
            kind = self._kinds.get(key) or self._kind(key)
        except (ValueError, TypeError, AttributeError, KeyError):  # no JSON, or another type
            return None
        if not (
            kind
            and prompt
            and type(prompt) is str
            and _NAMES.issuperset(given)
            and (text.count(b'"') == 2 * strings or _has_strings(text, strings))
        ):
            return None
        if job_id is _ABSENT:
            return PlainJob(kind.derived_id(prompt), prompt, kind, 1)
        if type(job_id) is str and job_id.isascii() and ids.fault(job_id) is None:
            return PlainJob(job_id, prompt, kind, 0)
        return None

    def _kind(self, key: tuple[Any, ...]) -> Kind | None:
        """Return a new kind; None if `Job` refuses it, or there are many already."""
        if key in self._kinds or len(self._kinds) >= _MAX_KINDS:
            return None
        named = {
            name: value for name, value in zip(_KIND, key, strict=True) if value is not _ABSENT
        }
        kind = None
        if all(type(value) is str for value in named.values()):
            with suppress(ValueError):
                kind = Kind(Job.model_validate({"prompt": _PROMPT, **named}))
        self._kinds[key] = kind
        return kind


def _has_strings(text: bytes, strings: int) -> bool:
    r"""Return whether JSON is written with so many strings; False if that is hard to see.

    A name that is there twice, or a value that is no string, makes another number than the object
    has that was read from it.
    """
    return b"\\\\" not in text and text.count(b'"') - text.count(b'\\"') == 2 * strings
