"""The JSON of a request in pieces; images stay on disk until they are sent. Pure.

Field names: https://generativelanguage.googleapis.com/$discovery/rest?version=v1beta (August 2026).
"""

import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any, TypeAlias
from urllib.parse import quote, urlsplit

import orjson

from gemini_batch.catalog import models
from gemini_batch.records import (
    InputImage,
    InputUri,
    JobPicture,
    Part,
    Request,
    Text,
    exact_json,
    media_types,
)

API_VERSION = "v1beta"
_NAMES_A_VERSION = re.compile(r"/v[0-9]+(?:(?:alpha|beta)[0-9]*)?(?=/|\Z)")
# Vertex AI refuses a content without one: "Please use a valid role: user, model"
# (BerriAI/litellm#32731, collected 2026-11-30). On the Gemini API it is the default.
_ROLE = "user"
Segment: TypeAlias = bytes | InputImage
"""A piece of a body: bytes, or a file to be sent as base64."""


def url(base_url: str, model: str) -> str:
    """Return the URL of a call to a model, without the key."""
    return f"{model_url(base_url, model)}:generateContent"


def model_url(base_url: str, model: str) -> str:
    """Return the URL of a model, without the key.

    `base_url` has no slash at its end, and may name the API's version anywhere in its path, as in
    `https://aiplatform.googleapis.com/v1/publishers/google`.
    """
    return f"{versioned(base_url)}/models/{quote(model, safe='')}"


def batch_url(base_url: str, model: str) -> str:
    """Return the URL that creates a batch of calls to a model, without the key."""
    return f"{model_url(base_url, model)}:batchGenerateContent"


def resource_url(base_url: str, name: str) -> str:
    """Return the URL of `batches/…` or `files/…`, without the key."""
    return f"{versioned(base_url)}/{quote(name)}"


def upload_url(base_url: str) -> str:
    """Return the URL that begins an upload: `upload` goes before the version."""
    whole = versioned(base_url)
    start = len(whole) - len(urlsplit(whole).path)
    found = _NAMES_A_VERSION.search(whole, start)
    at = found.start() if found else len(whole)
    return f"{whole[:at]}/upload{whole[at:]}/files"


def versioned(base_url: str) -> str:
    """Return the base URL with the API's version, the same for all routes."""
    path = urlsplit(base_url).path
    return base_url if _NAMES_A_VERSION.search(path) else f"{base_url}/{API_VERSION}"


def body(request: Request, more: Mapping[str, Any] | None = None) -> tuple[Segment, ...]:
    """Return the pieces of the request's JSON, with more fields than describe the picture."""
    if request.raw is not None:
        whole = {**_with_roles(request.raw.body), **(more or {})}
        return (orjson.dumps(whole, exact_json.written),)
    return tuple(_merged(_segments(request, more or {})))


def line(key: str, request: Request) -> tuple[Segment, ...]:
    """Return the pieces of a line of a batch's input file, with its newline.

    A raw request without a role gets one, as in `body`. The model is in the URL of the create.
    """
    start, end = b'{"key":%b,"request":' % orjson.dumps(key), b"}\n"
    return tuple(_merged(iter((start, *body(request), end))))


def content_length(segments: tuple[Segment, ...]) -> int:
    """Return the exact size of the body in bytes."""
    return sum(
        len(piece) if isinstance(piece, bytes) else media_types.base64_bytes(piece.size_bytes)
        for piece in segments
    )


def _segments(request: Request, more: Mapping[str, Any]) -> Iterator[Segment]:
    yield b'{"contents":[{"role":"%b","parts":[' % _ROLE.encode()
    for index, part in enumerate(request.parts):
        if index:
            yield b","
        yield from _part(part)
    yield b"]}]"
    if request.system is not None:
        yield b',"systemInstruction":' + orjson.dumps({"parts": [{"text": request.system}]})
    yield b',"generationConfig":' + orjson.dumps(_generation_config(request))
    for name, value in more.items():
        yield b"," + orjson.dumps(name) + b":" + orjson.dumps(value)
    yield b"}"


def _with_roles(body: dict[str, Any]) -> dict[str, Any]:
    """Return a raw request in which each content has a role; its own is left."""
    match body.get("contents"):
        case dict() as content:
            return {**body, "contents": _with_role(content)}
        case list() as contents:
            return {**body, "contents": [_with_role(content) for content in contents]}
        case _:
            return body


def _with_role(content: Any) -> Any:
    return {"role": _ROLE, **content} if isinstance(content, dict) else content


def _part(part: Part) -> Iterator[Segment]:
    match part:
        case Text():
            yield orjson.dumps({"text": part.text})
        case InputUri():
            data = _given(mimeType=part.mime_type or None, fileUri=part.uri)
            yield orjson.dumps({"fileData": data})
        case InputImage():
            sent = part.downscaled or part
            yield b'{"inlineData":{"mimeType":' + orjson.dumps(sent.mime_type) + b',"data":"'
            yield sent
            yield b'"}}'
        case JobPicture():
            raise TypeError(f"the picture of {part.call_id} must be looked up before it is sent")


def _generation_config(request: Request) -> dict[str, Any]:
    # Without the default: some models refuse any size (2026-06-30).
    size = request.image_size if request.image_size != models.DEFAULT_IMAGE_SIZE else None
    image = _given(aspectRatio=request.aspect_ratio, imageSize=size)
    thinking = request.thinking and {"thinkingLevel": request.thinking.upper()}
    return _given(
        responseModalities=list(request.modalities),
        imageConfig=image or None,
        seed=request.seed,
        temperature=request.temperature,
        thinkingConfig=thinking,
    )


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _merged(segments: Iterator[Segment]) -> Iterator[Segment]:
    """Join adjacent bytes, so that a text-only request is one write."""
    for kind, group in groupby(segments, type):
        if kind is bytes:
            yield b"".join(segment for segment in group if isinstance(segment, bytes))
        else:
            yield from group
