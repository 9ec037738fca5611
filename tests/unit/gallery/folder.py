"""An output folder with rows and real pictures, for the tests of the gallery."""

from io import BytesIO
from pathlib import Path
from typing import Any

import orjson
import pytest
from PIL import Image

from tests.builders import sha256


def picture(
    colour: str = "teal", size: tuple[int, int] = (40, 20), format_name: str = "PNG"
) -> bytes:
    """Return an image's bytes."""
    file = BytesIO()
    Image.new("RGB", size, colour).save(file, format_name)
    return file.getvalue()


def row(call_id: str = "robot", **fields: Any) -> dict[str, Any]:
    """Return a row of a call that succeeded; `fields` win."""
    return {
        "id": call_id,
        "line": 1,
        "status": "succeeded",
        "images": [],
        "drafts": [],
        "text": None,
        "prompt": "A robot",
        "inputs": [],
        "finish_reason": "STOP",
        "finish_message": None,
        "block_reason": None,
        "usage": {
            "prompt_tokens": 10,
            "candidates_tokens": 1290,
            "thoughts_tokens": 170,
            "total_tokens": 1300,
        },
        "cost_usd": 0.25,
        "model": "gemini-3-pro-image-preview",
        "model_version": "gemini-3-pro-image-preview",
        "response_id": "r-1",
        "endpoint": "https://api.test",
        "request_sha256": "00",
        "attempts": 1,
        "latency_s": 20.5,
        "finished_at": "2026-11-22T12:00:00Z",
        "error": None,
        "metadata": None,
        **fields,
    }


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output folder next to its manifest, which summary.json names as given."""
    folder = tmp_path / "jobs.out"
    folder.mkdir()
    (tmp_path / "jobs.jsonl").write_text("{}\n", encoding="utf-8")
    (folder / "summary.json").write_bytes(
        orjson.dumps({"manifest": "jobs.jsonl", "out": "jobs.out"})
    )
    return folder


def write_rows(out: Path, *rows: dict[str, Any]) -> None:
    """Append rows to results.jsonl."""
    with (out / "results.jsonl").open("ab") as file:
        file.writelines(orjson.dumps(one) + b"\n" for one in rows)


def place(folder: Path, path: str, data: bytes | None = None) -> dict[str, Any]:
    """Put an image there; return what a row says of it."""
    data = picture() if data is None else data
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return {
        "path": path,
        "mime_type": "image/png",
        "size_bytes": len(data),
        "width": 40,
        "height": 20,
        "sha256": sha256(data),
    }
