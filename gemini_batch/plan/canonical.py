"""The canonical form of a request, which identifies it, and facts of a request, raw or not."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson

from gemini_batch.catalog import models, prices
from gemini_batch.records import InputImage, InputUri, JobPicture, Modality, Part, Request, Text
from gemini_batch.records.exact_json import Number, written

# A new form of `canonical` needs a new tag: with it, every finished call is paid for again.
CANONICAL_TAG = b"gemini_batch request 1\n"
DEFAULT_MODALITIES: tuple[Modality, ...] = ("IMAGE",)


def canonical(request: Request) -> bytes:
    """Return bytes that are equal for two equivalent requests to one model.

    An image in a bucket counts by its address and version, because it is not read.

    They do not depend on the endpoint, the path of an image (its content counts), the order of
    modalities, or on whether a default is written out. A downscaled image counts by the content of
    the original and the number of pixels: the output of Pillow may change with its version, which
    must not cost anything. The picture of another call counts by that call's id, because it may not
    exist yet.
    """
    form: dict[str, Any] = {"model": request.model}
    if request.raw is not None:
        form["raw"] = request.raw.body
        return CANONICAL_TAG + orjson.dumps(form, _number, orjson.OPT_SORT_KEYS)
    form["parts"] = [_canonical_part(part) for part in request.parts]
    if request.modalities != DEFAULT_MODALITIES:
        form["modalities"] = sorted(set(request.modalities))
    if request.image_size != models.DEFAULT_IMAGE_SIZE:
        form["image_size"] = request.image_size
    form["system"] = request.system
    form["aspect_ratio"] = request.aspect_ratio
    form["seed"] = request.seed
    form["temperature"] = request.temperature
    form["thinking"] = request.thinking
    given = {name: value for name, value in form.items() if value is not None}
    return CANONICAL_TAG + orjson.dumps(given, option=orjson.OPT_SORT_KEYS)


def _number(value: Any) -> float | orjson.Fragment:
    """Return a whole number as it is sent, and a decimal as the double that the API reads."""
    if isinstance(value, Number) and isinstance(nearest := value.nearest, float):
        return nearest
    return written(value)


def _canonical_part(part: Part) -> dict[str, str | int]:
    match part:
        case Text(text):
            return {"text": text}
        case InputImage(job=job) if job:
            return {"job": job}
        case JobPicture(call_id):
            return {"job": call_id}
        case InputImage():
            size = {} if part.max_pixels is None else {"max_pixels": part.max_pixels}
            if part.version:
                return {"uri": part.path, "version": part.version, **size}
            return {"sha256": part.sha256, **size}
        case InputUri():
            return {"uri": part.uri}


def request_sha256(request: Request) -> str:
    """Return the SHA-256 of the canonical request, in hex."""
    return hashlib.sha256(canonical(request)).hexdigest()


def sent_sha256(request_sha256: str, request: Request) -> str:
    """Return the SHA-256 of what is sent: of the request, and of the pictures of other calls in it.

    After a kill it shows whether the call that was in flight had the same pictures. Without any it
    is `request_sha256`.
    """
    pictures = [part.sha256 for part in request.parts if isinstance(part, InputImage) and part.job]
    if not pictures:
        return request_sha256
    return hashlib.sha256(" ".join((request_sha256, *pictures)).encode()).hexdigest()


def other_forms(request: Request) -> Iterator[Request]:
    """Yield the same request to each other id of its model.

    Earlier versions took the service tier of a raw request for a part of what is asked for: their
    forms come as well.
    """
    forms = [request]
    if request.raw is not None and request.raw.service_tiers:
        raw = replace(request.raw, body=request.raw.whole_body, service_tiers={})
        forms.append(replace(request, raw=raw))
        yield forms[1]
    for model in sorted(models.same(request.model) - {request.model}):
        for form in forms:
            yield replace(form, model=model)


def other_sha256s(request: Request) -> Iterator[str]:
    """Yield `request_sha256` of each of its `other_forms`."""
    yield from map(request_sha256, other_forms(request))


def image_size(request: Request) -> str:
    """Return the size that a request asks for; 1K if it names none."""
    asked = request.image_size if request.raw is None else request.raw.image_size
    return asked or models.DEFAULT_IMAGE_SIZE


def thinking(request: Request) -> str | None:
    """Return the level of thinking that a request asks for, if any."""
    return request.thinking if request.raw is None else request.raw.thinking


def searches(request: Request) -> bool:
    """Return whether the model may search the web for a request, at a price a query."""
    return request.raw is not None and request.raw.searches


def input_tokens(request: Request) -> int:
    """Return the approximate number of a request's input tokens."""
    # Plain loops: this is done for each line of a manifest.
    if request.raw is not None:
        images, prompt_bytes = request.raw.images, _utf8_bytes(request.raw.prompt)
    else:
        images, prompt_bytes = 0, _utf8_bytes(request.system)
        for part in request.parts:
            if isinstance(part, Text):
                prompt_bytes += _utf8_bytes(part.text)
            else:
                images += 1
    return prices.input_tokens(request.model, input_images=images, prompt_bytes=prompt_bytes)


def prompt_text(request: Request) -> str | None:
    """Return the texts of a request, one per line; None without any."""
    if request.raw is not None:
        return request.raw.prompt
    return "\n".join(part.text for part in request.parts if isinstance(part, Text)) or None


def _utf8_bytes(text: str | None) -> int:
    if text is None:
        return 0
    return len(text) if text.isascii() else len(text.encode())
