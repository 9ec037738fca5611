"""The audit as an HTML page, with a light and a dark theme."""

from collections.abc import Mapping
from datetime import datetime
from html import escape
from typing import Any

from gemini_batch.simulator.audit_batches import batch_table

_LIMITS = {
    "requests_per_min": "this minute",
    "requests_per_day": "today",
    "tokens_per_min": "tokens per minute",
    "images_per_min": "images per minute",
    "usd_per_10min": "USD per 10 min",
}
_MAX_ERROR_LENGTH = 200
_NEAR = 0.9  # share of a limit from which its bar shows a warning

_STYLE = """
:root { color-scheme: light dark;
  --page: #f5f6f8; --card: #fff; --ink: #1c2128; --faint: #636c76; --line: #dfe3e8;
  --bar: #3b7ddd; --good: #1a7f45; --good-bg: #dcf5e5; --warn: #925500; --warn-bg: #fdeccb;
  --bad: #c02630; --bad-bg: #fde2e3 }
@media (prefers-color-scheme: dark) {
  :root { --page: #12151a; --card: #1b2027; --ink: #e4e8ed; --faint: #98a2ad; --line: #313842;
    --bar: #5b9cf5; --good: #6fd797; --good-bg: #16341f; --warn: #f1bc60; --warn-bg: #3b2c0d;
    --bad: #ff8f90; --bad-bg: #47191d } }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 78rem;
  padding: 1.5rem 1.25rem 3rem; background: var(--page); color: var(--ink) }
h1 { font-size: 1.45rem; margin: 0 } h2 { font-size: 1.05rem; margin: 2rem 0 .6rem }
p { margin: .2rem 0 0 }
.faint { color: var(--faint) } .small { font-size: .85em } a { color: var(--bar) }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(24rem, 100%), 1fr));
  gap: 1rem; align-items: start }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .7rem;
  padding: 1rem 1.1rem }
.card h3 { font: 600 .95rem/1.4 ui-monospace, monospace; margin: 0; overflow-wrap: anywhere }
.figures { display: flex; flex-wrap: wrap; gap: .2rem 1.6rem; margin: .7rem 0 }
.figures strong { display: block; font-size: 1.35rem; line-height: 1.2;
  font-variant-numeric: tabular-nums }
.limit { display: grid; grid-template-columns: 8rem 1fr auto; gap: .6rem; align-items: center;
  font-size: .88rem }
.limit .n { min-width: 8.4rem }
.track { height: .45rem; border-radius: 1rem; background: var(--line); overflow: hidden }
.fill { height: 100%; border-radius: 1rem; background: var(--bar) }
.near .fill { background: var(--warn) }
.over .fill { background: var(--bad) } .over { color: var(--bad); font-weight: 600 }
.chips { display: flex; flex-wrap: wrap; gap: .35rem; margin-top: .8rem }
.chip { border-radius: .35rem; padding: .05rem .45rem; font-size: .85rem;
  font-variant-numeric: tabular-nums; white-space: nowrap; background: var(--line) }
.good { background: var(--good-bg); color: var(--good) }
.warn { background: var(--warn-bg); color: var(--warn) }
.bad { background: var(--bad-bg); color: var(--bad) }
.scroll { overflow-x: auto; padding: .3rem 1.1rem }
table { border-collapse: collapse; width: 100% }
tr + tr { border-top: 1px solid var(--line) }
th { font-size: .82rem; font-weight: 600; color: var(--faint) }
th, td { text-align: left; padding: .45rem 1rem .45rem 0; vertical-align: top; white-space: nowrap }
td:last-child { white-space: normal; overflow-wrap: anywhere; min-width: 18rem; width: 100%;
  padding-right: 0 }
.n { text-align: right; font-variant-numeric: tabular-nums }
"""


_EMPTY = "<h2>No requests yet</h2><p>Send a request, then reload this page.</p>"


def as_page(report: Mapping[str, Any], shown: int = 200) -> str:
    """Return a report as an HTML page with its newest `shown` entries."""
    cards = "".join(_card(model) for model in report["models"])
    entries = report["entries"][-shown:]
    rows = "".join(_row(entry) for entry in reversed(entries))
    now = datetime.fromisoformat(report["now"])
    minute = "" if report["minute_s"] == 60 else f" A minute lasts {report['minute_s']:g} s here."
    newest = "Requests, newest first"
    if report["requests"] > len(entries):
        newest = f"The newest {len(entries):,} of {report['requests']:,} requests"
    batches = batch_table(report["batches"])
    listed = (
        f"<h2>By model</h2><div class=cards>{cards}</div><h2>{newest}</h2><div class='card scroll'>"
        "<table><tr><th class=n>#<th class=n>at<th>answer<th class=n>latency<th class=n>size"
        "<th>prompt</tr>"
        f"{rows}</table></div>"
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'><title>Simulator: requests</title>"
        f"<link rel=icon href='data:,'><style>{_STYLE}</style><h1>Simulator: requests</h1>"
        f"<p class=faint>{_counted(report['requests'], 'request')} until "
        f"{now:%Y-%m-%d %H:%M:%S} UTC.{minute} For JSON, <code>curl</code> this address.</p>"
        f"{batches}{listed if report['requests'] else '' if batches else _EMPTY}</html>\n"
    )


def _card(model: Mapping[str, Any]) -> str:
    """Return one model's totals, its limits as bars and its requests by status."""
    worst = model["worst_minute"]
    figures = "".join(
        f"<div><strong>{model[name]:,}</strong><span class='faint small'>{label}</span></div>"
        for name, label in (
            ("requests", "requests"),
            ("images", "images"),
            ("prompt_tokens", "input tokens"),
            ("most_in_flight", "max in flight"),
        )
    )
    bars = _bar("busiest minute", worst["requests"], worst["limit"], "")
    for kind, amount in model["used"].items():
        bars += _bar(
            _LIMITS.get(kind, kind),
            amount["used"],
            amount["limit"],
            "$" if kind.startswith("usd") else "",
        )
    chips = "".join(
        f"<span class='chip {_tone(status)}'>{escape(_status(status))} &times; {count:,}</span>"
        for status, count in sorted(model["by_status"].items())
    )
    if model["abandoned"]:
        chips += f"<span class='chip warn'>disconnected &times; {model['abandoned']:,}</span>"
    return (
        f"<div class=card><h3>{escape(model['model'])}</h3>"
        f"<span class='faint small'>project {escape(model['project'])}</span>"
        f"<div class=figures>{figures}</div>{bars}<div class=chips>{chips}</div></div>"
    )


def _bar(label: str, used: float, limit: float | None, unit: str) -> str:
    if limit is None:
        return (
            f"<div class=limit><span>{label}</span><span class='faint small'>no limit</span>"
            f"<span class=n>{unit}{used:,.10g}</span></div>"
        )
    share = used / limit if limit else float(used > 0)
    tone = " over" if used > limit else " near" if share >= _NEAR else ""
    return (
        f"<div class='limit{tone}'><span>{label}</span>"
        f"<div class=track><div class=fill style='width:{min(1.0, share):.1%}'></div></div>"
        f"<span class=n>{unit}{used:,.10g} of {unit}{limit:,.10g}</span></div>"
    )


def _row(entry: Mapping[str, Any]) -> str:
    status = "none" if entry["http_status"] is None else str(entry["http_status"])
    ended = entry["latency_s"] is not None
    if entry["abandoned"]:
        chip = "<span class='chip warn'>disconnected</span>"
    else:
        chip = (
            f"<span class='chip {_tone(status)}'>{_status(status)}</span>"
            if ended
            else "<span class=chip>…</span>"
        )
    latency = f"{entry['latency_s']:.2f} s" if ended else ""
    below = escape(entry["model"])
    if entry["faults"]:
        below += f" · fault {escape(entry['faults'])}"
    if entry["error"]:
        below += f" · {escape(_shortened(entry['error']))}"
    return (
        f"<tr><td class='n faint'>{entry['number']:,}<td class=n>{entry['offset_s']:,.2f} s"
        f"<td>{chip}"
        f"<td class=n>{latency}<td class=n>{_size(entry['bytes_out'])}"
        f"<td>{escape(entry['prompt']) or '<span class=faint>no prompt</span>'}"
        f"<br><span class='faint small'>{below}</span></tr>"
    )


def _shortened(error: str) -> str:
    line = " ".join(error.split())
    half = _MAX_ERROR_LENGTH // 2  # the details are at the end
    return line if len(line) <= _MAX_ERROR_LENGTH else f"{line[:half]}… {line[-half:]}"


def _status(status: str) -> str:
    return "no answer" if status == "none" else status


def _tone(status: str) -> str:
    return {"2": "good", "4": "warn", "5": "bad"}.get(status[0], "")


def _size(size_bytes: int) -> str:
    if not size_bytes:
        return ""
    return f"{size_bytes / 1e6:,.1f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:,.1f} kB"


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
