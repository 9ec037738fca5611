"""Batches on the page of the audit."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_TONES = {"SUCCEEDED": "good", "FAILED": "bad", "EXPIRED": "bad", "CANCELLED": "warn"}


def batch_table(batches: Sequence[Mapping[str, Any]], shown: int = 100) -> str:
    """Return the newest `shown` batches as HTML; nothing if there are none."""
    if not batches:
        return ""
    rows = "".join(_row(batch) for batch in reversed(batches[-shown:]))
    return (
        "<h2>Batches, newest first</h2><div class='card scroll'><table><tr><th>state"
        "<th class=n>lines<th class=n>answered<th class=n>errors<th class=n>images<th class=n>price"
        f"<th>name</tr>{rows}</table></div>"
    )


def _row(batch: Mapping[str, Any]) -> str:
    below = f"{batch['model']} · project {batch['project']} · {batch['name']}"
    if batch["is_deleted"]:
        below += " · deleted"
    if batch["faults"]:
        below += f" · fault {', '.join(batch['faults'])}"
    return (
        f"<tr><td><span class='chip {_TONES.get(batch['state'], '')}'>{batch['state']}</span>"
        + "".join(f"<td class=n>{batch[name]:,}" for name in ("lines", "answered", "errors"))
        + f"<td class=n>{batch['paid']:,}<td class=n>${batch['usd']:,.2f}"
        f"<td>{escape(batch['display_name'])}<br><span class='faint small'>{escape(below)}</span>"
        "</tr>"
    )
