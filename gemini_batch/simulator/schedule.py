"""Choice of the fault of each request: markers in the prompt, then rules of a file, then rates.

A file of faults is TOML::

    [rates]                # share of all requests, 0 to 1
    503 = 0.02
    trickle = 0.1

    [[rules]]              # the first rule that applies is used; only `fault` is required
    fault = "429-day"
    match = "robot"        # a regular expression, searched in the prompt
    model = "gemini-3-pro-image"
    skip = 10              # ignore the first ten requests that match
    times = 2              # then apply to two of them
    from_s = 30            # only from 30 s after the start
    until_s = 90           # to 90 s after the start

Rates are drawn from the seed, the request and the number of times it was sent, never from the order
of arrival. Two runs with the same seed get the same faults, even if their requests overlap
differently.
"""

import random
import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gemini_batch.errors import ConfigError
from gemini_batch.simulator.batch_faults import is_batch_fault
from gemini_batch.simulator.batch_schedule import BatchSchedule
from gemini_batch.simulator.checks import ImageRequest
from gemini_batch.simulator.faults import FaultSet, parse_faults
from gemini_batch.simulator.markers import markers_in
from gemini_batch.simulator.rules import Rule

_TEXT, _COUNT, _SECONDS = (
    (str, "a text in quotes"),
    (int, "a whole number, 0 or more"),
    (int | float, "seconds, 0 or more"),
)
_FIELDS = {
    **dict.fromkeys(("fault", "match", "model"), _TEXT),
    **dict.fromkeys(("skip", "times"), _COUNT),
    **dict.fromkeys(("from_s", "until_s"), _SECONDS),
}


class Schedule:
    """Chooses the faults of each request; `batches` those of files and batches."""

    def __init__(self, seed: int, rates: Mapping[str, float], rules: list[Rule]) -> None:
        """Validate every name and number.

        Raises:
            ConfigError: A fault is unknown, a rate is not between 0 and 1, or their sum exceeds 1.
        """
        self.batches = BatchSchedule(
            seed,
            {name: rate for name, rate in rates.items() if is_batch_fault(name)},
            [rule for rule in rules if is_batch_fault(rule.fault)],
        )
        rates = {name: rate for name, rate in rates.items() if not is_batch_fault(name)}
        rules = [rule for rule in rules if not is_batch_fault(rule.fault)]
        for name, rate in rates.items():
            parse_faults(name)
            if type(rate) not in (int, float) or not 0 <= rate <= 1:
                raise ConfigError(f"rate of {name}: got {rate!r}; allowed: a share from 0 to 1")
        if sum(rates.values()) > 1 + 1e-9:
            raise ConfigError(f"rates: got {sum(rates.values()):g} in sum; allowed: at most 1")
        for rule in rules:
            parse_faults(rule.fault)
        self._seed = seed
        self._rates = rates
        self._rules = rules
        self._sent: Counter[str] = Counter()
        self._marked: Counter[tuple[str, int]] = Counter()

    def draw(self, image_request: ImageRequest, offset_s: float) -> FaultSet | None:
        """Return the faults of a request that arrived `offset_s` seconds after the start.

        Raises:
            ConfigError: A marker in the prompt has an unknown name, or an invalid time or count.
        """
        sent = self._sent[image_request.sha256]
        self._sent[image_request.sha256] += 1
        for place, marker in enumerate(markers_in(image_request.prompt)):
            used = image_request.sha256, place
            if is_batch_fault(marker.faults):
                continue
            if marker.times is None or self._marked[used] < marker.times:
                self._marked[used] += 1
                return parse_faults(marker.faults)
        for rule in self._rules:
            if rule.applies(image_request.prompt, image_request.model.id, offset_s):
                return parse_faults(rule.fault)
        point = random.Random(f"{self._seed}/{image_request.sha256}/{sent}").random()
        for name, rate in self._rates.items():
            point -= rate
            if point < 0:
                return parse_faults(name)
        return None


def read_schedule(seed: int, rates: Mapping[str, float], file: Path | None) -> Schedule:
    """Merge the rates of the config with the rates and rules of a file.

    Raises:
        ConfigError: The file can't be read, or has an unknown field or fault, or an invalid value.
    """
    if file is None:
        return Schedule(seed, rates, [])
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as problem:
        raise ConfigError(f"{file}: can't be read: {problem.strerror}") from problem
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise ConfigError(f"{file}: is not TOML: {problem}") from problem
    try:
        return _from_table(seed, rates, data)
    except ConfigError as problem:
        raise ConfigError(f"{file}: {problem}") from problem


def _from_table(seed: int, rates: Mapping[str, float], data: dict[str, Any]) -> Schedule:
    _only_known(data, {"rates", "rules"}, "the top level")
    read_rates, read_rules = data.get("rates", {}), data.get("rules", [])
    if not isinstance(read_rates, dict) or not isinstance(read_rules, list):
        raise ConfigError(
            "rates is a table, written [rates], and rules are a list, written [[rules]]"
        )
    rules = [_rule(number, row) for number, row in enumerate(read_rules, 1)]
    return Schedule(seed, {**read_rates, **rates}, rules)


def _rule(number: int, row: Any) -> Rule:
    _only_known(row, set(_FIELDS), f"rule {number}")
    if "fault" not in row:
        raise ConfigError(f'rule {number}: needs a fault, such as fault = "503"')
    for name, value in row.items():
        kind, allowed = _FIELDS[name]
        wrong = isinstance(value, bool) or not isinstance(value, kind)
        if wrong or (kind is not str and not value >= 0):
            raise ConfigError(f"rule {number}, {name}: got {value!r}; allowed: {allowed}")
    try:
        re.compile(row.get("match", ""))
    except re.error as problem:
        raise ConfigError(f"rule {number}, match: not a regular expression: {problem}") from problem
    return Rule(**row)


def _only_known(row: Any, known: set[str], where: str) -> None:
    if not isinstance(row, dict):
        raise ConfigError(f"{where}: got {row!r}; allowed: a table")
    for name in row:
        if name not in known:
            raise ConfigError(f"{where}: unknown field {name!r}; known: {', '.join(sorted(known))}")
