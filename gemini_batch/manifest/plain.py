"""Plain lines, which are nearly all lines of most manifests, checked in a fraction of the time.

A plain line has an id, a prompt, a shape, a size, a model, a seed and flat metadata, or fewer.
Many of them are checked at once, by column. A line that has anything else, may be wrong, or may
have a name twice is checked as a `Job`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar, cast, get_args

import orjson

from gemini_batch.hashmap import fingerprints
from gemini_batch.records import AspectRatio, ImageSize, ids
from gemini_batch.records.call import SEED_MAX, SEED_MIN

if TYPE_CHECKING:  # it needs pydantic
    from gemini_batch.records.job import Job

_KIND = ("model", "aspect_ratio", "image_size")
_CHOICES = {"aspect_ratio": get_args(AspectRatio), "image_size": get_args(ImageSize)}
_NAMES = frozenset({"id", "prompt", "metadata", "seed", *_KIND})
_ABSENT = object()
# A float is left out: it may be a whole number that is too large for orjson.
_FLAT = {str, int, bool}
_MAX_KINDS = 1_000
# Few, for one that is not plain among them lets all of them be checked by themselves.
_AT_ONCE = 50
_PROMPT = "\\prompt/"  # of the job of a kind; nothing else in its JSON is written so
_SEED = SEED_MAX  # of the job of a kind whose lines have one
_SEED_FIELD = b'"seed":%d'


class PlainJob:
    """A plain line with the attributes of its `Job`, which pydantic would have to make."""

    id = prompt = parts = request = system = modalities = seed = temperature = thinking = None
    aspect_ratio = image_size = service_tier = model = metadata = None
    images: ClassVar[list[str]] = []
    variants = 1

    def __init__(self, **given: Any) -> None:
        vars(self).update(given)

    def __getattr__(self, name: str) -> Any:
        """Return what else a `Job` has, which is made for it."""
        from gemini_batch.records.job import Job

        return getattr(Job(**vars(self)), name)

    def __eq__(self, other: object) -> bool:
        names = (name for name in vars(PlainJob) if not name.startswith(("_", "model_copy")))
        return all(getattr(self, name) == getattr(other, name, _ABSENT) for name in names)

    __hash__ = None  # type: ignore[assignment] # as of a job with lists

    def model_copy(self, *, update: dict[str, Any]) -> "PlainJob":
        """Return a copy with other values."""
        return PlainJob(**vars(self) | update)


class Kind:
    """The plain lines of one shape, size and model, with a seed or without.

    Attributes:
        job: A job that differs from theirs only in id, prompt, seed and metadata.
        names: The number of names that each of them has for shape, size, model and seed.
    """

    __slots__ = ("_asked", "job", "names")

    def __init__(self, job: "Job", names: int) -> None:
        self.job = job
        self.names = names
        self._asked = Form(ids.asked(job), job)

    def derived_id(self, prompt: str, seed: int | None) -> str:
        """Return what `ids.derived` returns for a job of this kind."""
        return ids.derived_from(self._asked.filled(prompt, seed), prompt)


class Form:
    """JSON that was made of the job of a kind, for any prompt and seed.

    Raises:
        ValueError: The prompt or the seed is not in it once.
    """

    __slots__ = ("_parts",)

    def __init__(self, form: bytes, job: "Job") -> None:
        before, between = form.split(orjson.dumps(_PROMPT))
        after = b""
        if job.seed is not None:
            between, after = between.split(_SEED_FIELD % _SEED)  # names are in order
        self._parts = before, between, after

    def filled(self, prompt: str, seed: int | None) -> bytes:
        """Return the JSON with another prompt and seed."""
        before, between, after = self._parts
        if seed is None:
            return before + orjson.dumps(prompt) + between
        return before + orjson.dumps(prompt) + between + _SEED_FIELD % seed + after


@dataclass(slots=True)
class PlainJobs:
    """The jobs of plain lines that follow each other, by column.

    Attributes:
        seeds: None for no seed.
        ranks: 1 where the id is derived, else 0; more for an id that other jobs have, too.
        keys: Fingerprints of the ids where case makes no difference.
    """

    ids: list[str]
    prompts: list[str]
    kinds: list[Kind]
    seeds: list[int | None]
    ranks: list[int]
    keys: list[int]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, part: slice) -> "PlainJobs":
        return PlainJobs(*[column[part] for column in self.columns])

    @property
    def columns(self) -> tuple[list[Any], ...]:
        """Its columns, in the order of the attributes."""
        return self.ids, self.prompts, self.kinds, self.seeds, self.ranks, self.keys

    def extend(self, other: "PlainJobs") -> None:
        """Append other jobs."""
        for column, more in zip(self.columns, other.columns, strict=True):
            column.extend(more)


class PlainLines:
    """Reads plain lines. Each kind of them is judged once, as `Job` does."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[Any, ...], Kind | None] = {}

    def read(self, texts: Sequence[bytes]) -> Iterable[PlainJobs | None]:
        """Return the jobs of plain lines that follow each other, and None for each other line."""
        given = _loaded(texts)
        if jobs := self._jobs(given, texts):
            return [jobs]
        places = [place for place, each in enumerate(given) if _may_be_plain(each)]
        jobs = PlainJobs([], [], [], [], [], [])
        found: list[int] = []
        for start in range(0, len(places), _AT_ONCE):
            self._add(jobs, found, places[start : start + _AT_ONCE], given, texts)
        return _in_order(jobs, found, len(texts))

    def job(self, text: bytes) -> "tuple[Job, int] | None":
        """Return the job of a plain line, and its rank; None for any other line."""
        try:
            given = orjson.loads(text)
        except ValueError:
            return None
        if (jobs := self._jobs([given], [text])) is None:
            return None
        job = PlainJob(**given | {"id": jobs.ids[0]})
        return cast("Job", job), jobs.ranks[0]

    def _add(
        self,
        jobs: PlainJobs,
        found: list[int],
        places: Sequence[int],
        given: Sequence[Any],
        texts: Sequence[bytes],
    ) -> None:
        """Add the jobs and the places of the plain lines among some; one by one if it must be."""
        some = self._jobs([given[place] for place in places], [texts[place] for place in places])
        if some:
            jobs.extend(some)
            found += places
        elif len(places) > 1:
            for place in places:
                self._add(jobs, found, [place], given, texts)

    def _jobs(self, given: Sequence[Any], texts: Sequence[bytes]) -> PlainJobs | None:
        """Return the jobs of lines; None if one of them is not plain."""
        try:
            metadata = [each["metadata"] for each in given if "metadata" in each]
            values = list(map(type, chain.from_iterable(map(dict.values, metadata))))
            if not _FLAT.issuperset(values):
                return None
            prompts = [each["prompt"] for each in given]
            job_ids = [each.get("id", _ABSENT) for each in given]
            kinds = self._kinds_of(given)
            seeds = [each["seed"] for each in given if "seed" in each]
        except (ValueError, TypeError, AttributeError, KeyError):  # no JSON, or another type
            return None
        own_ids = [each for each in job_ids if each is not _ABSENT]
        names = sum(map(len, given))
        known = len(prompts) + len(metadata) + len(own_ids) + sum([each.names for each in kinds])
        # Each name has a string as its value, but a seed is a number, and metadata an object.
        strings = 2 * names - len(seeds) - len(metadata) + len(values) + values.count(str)
        if (
            names == known
            and _are_seeds(seeds)
            and set(map(type, prompts)) == {str}
            and all(prompts)
            and _are_plain(own_ids)
            and _has_strings(texts, strings)
        ):
            all_seeds = [each.get("seed") for each in given] if seeds else [None] * len(given)
            return _with_ids(job_ids, prompts, kinds, all_seeds)
        return None

    def _kinds_of(self, given: Sequence[Any]) -> list[Kind]:
        """Return the kind of each line; raise a ValueError if there is one without."""
        keys = [
            (get("model", _ABSENT), get("aspect_ratio", _ABSENT), get("image_size", _ABSENT), seed)
            for each in given
            for get, seed in ((each.get, "seed" in each),)
        ]
        return [self._kinds.get(key) or self._kind(key) for key in keys]

    def _kind(self, key: tuple[Any, ...]) -> Kind:
        """Return a new kind; raise a ValueError if `Job` refuses it, or there are many already."""
        if key in self._kinds or len(self._kinds) >= _MAX_KINDS:
            raise ValueError
        self._kinds[key] = None
        *values, has_seed = key
        named = {
            name: value for name, value in zip(_KIND, values, strict=True) if value is not _ABSENT
        }
        if any(type(value) is not str or not value for value in named.values()):
            raise ValueError
        if any(named.get(name, allowed[0]) not in allowed for name, allowed in _CHOICES.items()):
            raise ValueError
        if has_seed:
            named["seed"] = _SEED
        kind = Kind(cast("Job", PlainJob(prompt=_PROMPT, **named)), len(named))
        self._kinds[key] = kind
        return kind


def _loaded(texts: Sequence[bytes]) -> list[Any]:
    """Return what each line has; None for no JSON."""
    try:
        return list(map(orjson.loads, texts))
    except ValueError:
        return [_loaded_one(text) for text in texts]


def _loaded_one(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        return None


def _may_be_plain(given: Any) -> bool:
    """Return False for most lines that are not plain."""
    if not isinstance(given, dict) or not _NAMES.issuperset(given):
        return False
    metadata = given.get("metadata")
    return not isinstance(metadata, dict) or _FLAT.issuperset(map(type, metadata.values()))


def _in_order(jobs: PlainJobs, places: Sequence[int], number: int) -> Iterator[PlainJobs | None]:
    """Yield the jobs at these places of `number` lines, as `read` does."""
    done, begin = 0, 0
    while done < number:
        end = begin
        while end < len(places) and places[end] == done + end - begin:
            end += 1
        if end > begin:
            yield jobs[begin:end]
            done, begin = done + end - begin, end
        else:
            yield None
            done += 1


def _are_plain(job_ids: list[Any]) -> bool:
    return not job_ids or (
        set(map(type, job_ids)) == {str}
        and all(map(str.isascii, job_ids))
        and not any(map(ids.fault, job_ids))
    )


def _are_seeds(seeds: list[Any]) -> bool:
    return not seeds or (
        set(map(type, seeds)) == {int} and min(seeds) >= SEED_MIN and max(seeds) <= SEED_MAX
    )


def _with_ids(
    job_ids: list[Any], prompts: list[str], kinds: list[Kind], seeds: list[int | None]
) -> PlainJobs:
    ranks = [0] * len(job_ids)
    for place, job_id in enumerate(job_ids):
        if job_id is _ABSENT:
            job_ids[place] = kinds[place].derived_id(prompts[place], seeds[place])
            ranks[place] = 1
    keys = fingerprints(map(str.lower, job_ids))  # all of them are ASCII
    return PlainJobs(job_ids, prompts, kinds, seeds, ranks, keys)


def _has_strings(texts: Sequence[bytes], strings: int) -> bool:
    r"""Return whether JSON has this number of strings; False if that is hard to see.

    A name that is there twice, or a value that is not a string, makes more of them than the objects
    have that were read from it.
    """
    text = b"".join(texts)
    quotes = text.count(b'"')
    return quotes == 2 * strings or (
        b"\\\\" not in text and quotes - text.count(b'\\"') == 2 * strings
    )
