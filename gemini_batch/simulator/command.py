"""The command `simulate`: serve the simulator on a port until it is interrupted."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gemini_batch.simulator.batch_flags import add_batch_flags

if TYPE_CHECKING:
    from datetime import datetime

    from gemini_batch.simulator.config import SimulatorConfig

_DONE = 0
_USAGE = 2
# Field named by a ConfigError -> its flag.
_FLAGS = {
    "port": "--port",
    "key": "--key",
    "requests_per_min": "--rpm",
    "requests_per_day": "--rpd",
    "tokens_per_min": "--tpm",
    "images_per_min": "--ipm",
    "usd_per_10min": "--usd-per-10min",
    "minute_s": "--minute",
    "token_s": "--token-life",
    "latency_s": "--latency",
    "pixels": "--pixels",
    "batch_turnaround_s": "--batch-turnaround",
    "batch_tokens": "--batch-tokens",
}
_MORE = """\
selecting faults:
  in a prompt     "A robot [[fault:503 x2]]" is answered with 503 twice, then with an image;
                  [[fault:trickle=5]] takes 5 s; [[fault:escaped+chunked]] combines two faults
  in a FILE       [rates]                 # share of all requests
                  503 = 0.02
                  [[rules]]               # the first rule that applies is used
                  fault = "429-day"
                  match = "robot"         # in the prompt; also: model, skip, times, from_s, until_s

while it runs:
  GET /audit      the requests so far and the busiest minute: HTML for a browser, else JSON
  POST /clock     {"advance_s": 3600} or {"now": "2026-11-23T00:00:00-08:00"} moves the time forward
                  (send it with Content-Type: application/json)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags and the help epilog of `simulate`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _MORE
    parser.add_argument(
        "--port",
        type=int,
        default=8787,
        metavar="N",
        help="port to listen on; 0 picks a free one (default: %(default)s)",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on (default: %(default)s, this machine only)",
    )
    quotas = parser.add_argument_group("quota")
    quotas.add_argument(
        "--tier",
        default="free",
        choices=("free", "pay-as-you-go", "unlimited"),
        help="tier whose limits are enforced (default: %(default)s)",
    )
    quotas.add_argument(
        "--rpm",
        type=int,
        metavar="N",
        help="requests per minute; 0 answers `limit: 0` (default: the tier's)",
    )
    quotas.add_argument(
        "--rpd", type=int, metavar="N", help="requests per day (default: the tier's)"
    )
    quotas.add_argument(
        "--tpm", type=int, metavar="N", help="input tokens per minute (default: no limit)"
    )
    quotas.add_argument(
        "--ipm", type=int, metavar="N", help="images per minute (default: no limit)"
    )
    quotas.add_argument(
        "--usd-per-10min",
        type=float,
        metavar="USD",
        help="USD per ten minutes (default: no limit)",
    )
    quotas.add_argument(
        "--enforce",
        default="sliding",
        choices=("sliding", "fixed", "bucket"),
        help="kind of window: the last 60 s, the clock's minute, or a token bucket that starts "
        "full (default: %(default)s)",
    )
    quotas.add_argument(
        "--minute",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="length of a quota minute; shorter for tests (default: 60)",
    )
    quotas.add_argument(
        "--now",
        metavar="TIME",
        help="the server's time at the start, such as 2026-11-22T23:59:00-08:00; not in the past",
    )
    faults = parser.add_argument_group("faults")
    faults.add_argument(
        "--faults", type=Path, metavar="FILE", help="TOML file with rates and rules, see below"
    )
    faults.add_argument(
        "--rate",
        action="append",
        default=[],
        metavar="NAME=SHARE",
        help="share of requests that get a fault, such as 503=0.02; repeatable",
    )
    faults.add_argument(
        "--list-faults", action="store_true", help="list the faults with their effects and exit"
    )
    faults.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of faults and images (default: %(default)s)",
    )
    add_batch_flags(parser)
    answers = parser.add_argument_group("answers")
    answers.add_argument("--key", metavar="K", help="the only valid key (default: accept any key)")
    answers.add_argument(
        "--vertex",
        action="store_true",
        help="be Vertex AI, which wants a login instead of a key; GET /credentials.json has one",
    )
    answers.add_argument(
        "--token-life",
        type=float,
        default=3600.0,
        metavar="SECONDS",
        help="with --vertex, seconds that a token of POST /token is valid (default: 3600)",
    )
    answers.add_argument(
        "--latency",
        default="0.3",
        metavar="SECONDS",
        help="seconds until an answer, or `real` for the model's own latency (default: 0.3)",
    )
    answers.add_argument(
        "--pixels",
        type=int,
        metavar="N",
        help="longest side of an image, small for fast tests (default: the documented size)",
    )
    answers.add_argument(
        "--gzip", action="store_true", help="compress answers for clients that accept gzip"
    )


def run(args: argparse.Namespace) -> int:
    """Run the simulator until SIGINT or SIGTERM.

    Returns:
        0 after a signal; 2 if a flag is invalid or the port is in use, with a message on stderr.
    """
    from gemini_batch.errors import ConfigError
    from gemini_batch.simulator.faults import listing

    if args.list_faults:
        sys.stdout.write(listing())
        return _DONE
    try:
        return serve(config_from(args), starts_at=_time(args.now))
    except ConfigError as problem:
        field, colon, reason = str(problem).partition(":")
        sys.stderr.write(f"gemini-batch: {_FLAGS.get(field, field)}{colon}{reason}\n")
    except ValueError as problem:
        sys.stderr.write(f"gemini-batch: --now: {problem}\n")
    return _USAGE


def config_from(args: argparse.Namespace) -> "SimulatorConfig":
    """Return the config for parsed flags.

    Raises:
        ConfigError: A value is out of its range.
    """
    from gemini_batch.errors import ConfigError
    from gemini_batch.simulator.config import SimulatorConfig

    rates = {}
    for pair in args.rate:
        name, _, share = pair.partition("=")
        if name in rates:
            raise ConfigError(f"--rate: got {name} twice; allowed: each fault once")
        try:
            rates[name] = float(share)
        except ValueError:
            name = ""
        if not name:
            raise ConfigError(f"--rate: got {pair!r}; allowed: NAME=SHARE, such as 503=0.02")
    real = args.latency == "real"
    try:
        latency_s = 0.0 if real else float(args.latency)
    except ValueError:
        raise ConfigError(f"--latency: got {args.latency!r}; allowed: seconds, or real") from None
    return SimulatorConfig(
        host=args.host,
        port=args.port,
        tier=args.tier,
        requests_per_min=args.rpm,
        requests_per_day=args.rpd,
        tokens_per_min=args.tpm,
        images_per_min=args.ipm,
        usd_per_10min=args.usd_per_10min,
        enforce=args.enforce,
        minute_s=args.minute,
        key=args.key,
        vertex=args.vertex,
        token_s=args.token_life,
        latency_s=latency_s,
        realistic_latency=real,
        seed=args.seed,
        rates=rates,
        faults=args.faults,
        pixels=args.pixels,
        gzip=args.gzip,
        batch_turnaround_s=args.batch_turnaround,
        batch_tokens=args.batch_tokens,
    )


def _time(given: str | None) -> "datetime | None":
    from datetime import datetime

    try:
        return None if given is None else datetime.fromisoformat(given)
    except ValueError:
        raise ValueError(
            f"got {given!r}; allowed: a time such as 2026-11-22T23:59:00-08:00"
        ) from None


def serve(config: "SimulatorConfig", *, starts_at: "datetime | None" = None) -> int:
    """Serve until SIGINT or SIGTERM, and return 0.

    Args:
        config: Behaviour of the simulator.
        starts_at: The server's time at the start; None is now.

    Raises:
        ConfigError: The port is in use, or the faults are invalid.
        ValueError: `starts_at` is in the past or has no time zone.
    """
    import asyncio

    return asyncio.run(_serve(config, starts_at))


async def _serve(config: "SimulatorConfig", starts_at: "datetime | None") -> int:
    import asyncio
    import signal

    from gemini_batch.simulator.client_command import client_command
    from gemini_batch.simulator.server import Simulator

    simulator = Simulator(config)
    if starts_at is not None:
        simulator.clock.set(starts_at)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with simulator:
        url = simulator.base_url
        sys.stdout.write(
            f"Gemini simulator on {url} (requests so far: {url}/audit). Use it: "
            f"{client_command(config, url)}\n"
        )
        sys.stdout.flush()
        await stopped.wait()
    return _DONE
