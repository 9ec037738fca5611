"""Plain lines, which are nearly all lines of most manifests, checked in a fraction of the time.

A plain line has an id, a prompt, a shape, a size, a model and flat metadata, or fewer of these.
Many of them are checked at once, by column. A line that has anything else, may be wrong, or may
have a name twice is checked as a `Job`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import orjson

from gemini_batch.hashmap import fingerprints
from gemini_batch.records import ids
from gemini_batch.records.job import Job

_KIND = ("model", "aspect_ratio", "image_size")
_ABSENT = object()
# A float is left out: it may be a whole number that is too large for orjson.
_FLAT = {str, int, bool}
_MAX_KINDS = 1_000
_MOST_AT_ONCE = 1_000
_PROMPT = "\\prompt/"  # of the job of a kind; nothing else in its JSON is written so


class Kind:
    """The plain lines of one shape, size and model.

    Attributes:
        job: A job that differs from theirs only in id, prompt and metadata.
        names: The number of names that each of them has for shape, size and model.
    """

    __slots__ = ("_asked", "job", "names")

    def __init__(self, job: Job, names: int) -> None:
        self.job = job
        self.names = names
        self._asked = around_prompt(ids.asked(job))

    def derived_id(self, prompt: str) -> str:
        """Return what `ids.derived` returns for a job of this kind."""
        before, after = self._asked
        return ids.derived_from(before + orjson.dumps(prompt) + after, prompt)


@dataclass(slots=True)
class PlainJobs:
    """The jobs of plain lines that follow each other, by column.

    Attributes:
        ranks: 1 where the id is derived, else 0; more for an id that other jobs have, too.
        keys: Fingerprints of the ids where case makes no difference.
    """

    ids: list[str] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    kinds: list[Kind] = field(default_factory=list)
    ranks: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, part: slice) -> "PlainJobs":
        return PlainJobs(
            self.ids[part], self.prompts[part], self.kinds[part], self.ranks[part], self.keys[part]
        )


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
        self._at_once = _MOST_AT_ONCE

    def read(self, texts: Sequence[bytes]) -> PlainJobs:
        """Return the jobs of lines up to one that is not plain, or of fewer; none if that is first.

        It is found in a few steps: after it, the lines that are checked at once become more again.
        """
        while (jobs := self._read(texts[: self._at_once])) is None and self._at_once > 1:
            self._at_once = 1
        if jobs is None:
            return PlainJobs()
        self._at_once = min(2 * self._at_once, _MOST_AT_ONCE)
        return jobs

    def _read(self, texts: Sequence[bytes]) -> PlainJobs | None:
        """Return the jobs of lines; None if one of them is not plain."""
        try:
            given = list(map(orjson.loads, texts))
            prompts = [each["prompt"] for each in given]
            metadata = [each["metadata"] for each in given if "metadata" in each]
            job_ids = [each.get("id", _ABSENT) for each in given]
            values = list(map(type, chain.from_iterable(map(dict.values, metadata))))
            kinds = self._kinds_of(given)
        except (ValueError, TypeError, AttributeError, KeyError):  # no JSON, or another type
            return None
        own_ids = [each for each in job_ids if each is not _ABSENT]
        names = sum(map(len, given))
        known = len(prompts) + len(metadata) + len(own_ids) + sum([each.names for each in kinds])
        # Each name has a string as its value, but metadata has an object.
        strings = 2 * names - len(metadata) + len(values) + values.count(str)
        if (
            names == known
            and set(map(type, prompts)) == {str}
            and all(prompts)
            and _FLAT.issuperset(values)
            and _are_plain(own_ids)
            and _has_strings(texts, strings)
        ):
            return _jobs(job_ids, prompts, kinds)
        return None

    def _kinds_of(self, given: list[dict[str, Any]]) -> list[Kind]:
        """Return the kind of each line; raise a ValueError if there is one without."""
        keys = [
            (get("model", _ABSENT), get("aspect_ratio", _ABSENT), get("image_size", _ABSENT))
            for each in given
            for get in (each.get,)
        ]
        return [self._kinds.get(key) or self._kind(key) for key in keys]

    def _kind(self, key: tuple[Any, ...]) -> Kind:
        """Return a new kind; raise a ValueError if `Job` refuses it, or there are many already."""
        if key in self._kinds or len(self._kinds) >= _MAX_KINDS:
            raise ValueError
        self._kinds[key] = None
        named = {
            name: value for name, value in zip(_KIND, key, strict=True) if value is not _ABSENT
        }
        if any(type(value) is not str for value in named.values()):
            raise ValueError
        kind = Kind(Job.model_validate({"prompt": _PROMPT, **named}), len(named))
        self._kinds[key] = kind
        return kind


def _are_plain(job_ids: list[Any]) -> bool:
    return not job_ids or (
        set(map(type, job_ids)) == {str}
        and all(map(str.isascii, job_ids))
        and not any(map(ids.fault, job_ids))
    )


def _jobs(job_ids: list[Any], prompts: list[str], kinds: list[Kind]) -> PlainJobs:
    ranks = [0] * len(job_ids)
    for place, job_id in enumerate(job_ids):
        if job_id is _ABSENT:
            job_ids[place] = kinds[place].derived_id(prompts[place])
            ranks[place] = 1
    keys = fingerprints(map(str.lower, job_ids))  # all of them are ASCII
    return PlainJobs(job_ids, prompts, kinds, ranks, keys)


def _has_strings(texts: Sequence[bytes], strings: int) -> bool:
    r"""Return whether JSON is written with so many strings; False if that is hard to see.

    A name that is there twice, or a value that is no string, makes more of them than the objects
    have that were read from it.
    """
    text = b"".join(texts)
    quotes = text.count(b'"')
    return quotes == 2 * strings or (
        b"\\\\" not in text and quotes - text.count(b'\\"') == 2 * strings
    )
