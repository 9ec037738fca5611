"""Every option of Google's own SDK, to the Gemini API and to Vertex AI: the simulator takes what they take."""

import io
from contextlib import AbstractAsyncContextManager
from functools import cache
from typing import Any

import pytest
from PIL import Image

from tests.loopback.simulator import test_google_sdk, test_google_vertex
from tests.loopback.simulator.test_google_sdk import _call, errors, types
from tests.loopback.simulator.test_google_vertex import NANO, PRO, asking

GEMINI, VERTEX = "gemini", "vertex"
BOTH = frozenset((GEMINI, VERTEX))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.loopback,
    # The SDK's own: how it derives its session from aiohttp's, and its words on fields that it means to drop.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),
]
# Only what the SDK does itself: it is in no request.
IN_THE_SDK = ("should_return_http_response", "automatic_function_calling", "automatic_continuation")
# The values that a field is tried with; with a set, the only APIs for which the SDK lets it pass.
Values = list[Any] | tuple[frozenset[str], list[Any]]


@cache
def passing() -> dict[str, Values]:
    """Return each field of `GenerateContentConfig` with values that bring a picture."""
    only_vertex, only_gemini = frozenset((VERTEX,)), frozenset((GEMINI,))
    manual = types.GenerationConfigRoutingConfigManualRoutingMode(model_name=PRO)
    voice = types.VoiceConfig(prebuilt_voice_config=types.PrebuiltVoiceConfig(voice_name="Kore"))
    speaker = types.SpeakerVoiceConfig(speaker="A", voice_config=voice)
    speakers = types.MultiSpeakerVoiceConfig(speaker_voice_configs=[speaker])
    hate = {"category": "HARM_CATEGORY_HATE_SPEECH", "threshold": "OFF"}
    return {
        "http_options": [types.HttpOptions(headers={"x-more": "1"}, extra_body={"labels": {}})],
        "system_instruction": ["Be kind.", types.Content(parts=[types.Part(text="Be kind.")])],
        "temperature": [0.0, 2.0],
        "top_p": [0.9],
        "top_k": [40],
        "candidate_count": [1],
        "max_output_tokens": [4096],
        "stop_sequences": [["END"]],
        "response_logprobs": [False],
        "logprobs": [1],
        "presence_penalty": [0.1],
        "frequency_penalty": [0.1],
        "seed": [7, 0],
        "response_mime_type": ["text/plain"],
        "response_schema": [types.Schema(type="STRING")],
        "response_json_schema": [{"type": "string"}],
        "routing_config": (
            only_vertex,
            [types.GenerationConfigRoutingConfig(manual_mode=manual)],
        ),
        "model_selection_config": (
            only_vertex,
            [types.ModelSelectionConfig(feature_selection_preference="BALANCED")],
        ),
        "safety_settings": [
            [types.SafetySetting(**hate | {"threshold": threshold})]
            for threshold in types.HarmBlockThreshold
        ],
        "tools": [[types.Tool(google_search=types.GoogleSearch())]],
        "tool_config": [
            types.ToolConfig(function_calling_config=types.FunctionCallingConfig(mode="NONE"))
        ],
        "labels": [{"team": "art"}],
        "response_modalities": [["IMAGE"], ["TEXT", "IMAGE"], ["Image", "Text"]],
        "media_resolution": list(types.MediaResolution),
        "speech_config": [
            "Kore",
            types.SpeechConfig(voice_config=voice, language_code="en-US"),
            types.SpeechConfig(multi_speaker_voice_config=speakers),
        ],
        "audio_timestamp": (only_vertex, [True]),
        "thinking_config": [
            types.ThinkingConfig(include_thoughts=True),
            types.ThinkingConfig(thinking_budget=128),
            types.ThinkingConfig(thinking_level="HIGH"),
        ],
        "image_config": [
            types.ImageConfig(aspect_ratio="21:9", image_size=size) for size in ("1K", "2K", "4K")
        ],
        "enable_enhanced_civic_answers": (only_gemini, [True]),
        "model_armor_config": (
            only_vertex,
            [types.ModelArmorConfig(prompt_template_name="p", response_template_name="r")],
        ),
        "service_tier": list(types.ServiceTier),
        "audio_transcription_config": [
            types.AudioTranscriptionConfig(
                language_codes=["en-US"],
                word_timestamp=True,
                diarization=False,
                mode="SMART",
                custom_vocabulary=["robot"],
            ),
            types.AudioTranscriptionConfig(
                language_hints=types.LanguageHints(language_codes=["de"]),
                adaptation_phrases=["robots"],
                source_text="A robot",
            ),
            types.AudioTranscriptionConfig(language_auto=types.LanguageAuto()),
        ],
        "continuation_token": [b"\x00token\xff"],
        "generation_output_config": (
            only_vertex,
            [types.GenerationOutputConfig(output_uri_prefix="gs://bucket/out")],
        ),
        "store": (only_gemini, [True, False]),
        "should_return_http_response": [True],
        "automatic_function_calling": [types.AutomaticFunctionCallingConfig(disable=True)],
        "automatic_continuation": [True, False],
    }


@cache
def of_vertex_images() -> dict[str, list[Any]]:
    """Return the fields of `ImageConfig` that the SDK lets pass to Vertex AI alone."""
    return {
        "person_generation": ["DONT_ALLOW", "ALLOW_ADULT", "ALLOW_ALL"],
        "prominent_people": list(types.ProminentPeople),
        "output_mime_type": ["image/jpeg", "image/png"],
        "output_compression_quality": [80],
        "image_output_options": [
            types.ImageConfigImageOutputOptions(mime_type="image/jpeg", compression_quality=80)
        ],
    }


@cache
def refused() -> list[dict[str, Any]]:
    """Return what the SDK lets pass to both APIs, and neither takes for an image model."""
    return [
        {"cached_content": "cachedContents/a"},
        {"candidate_count": 2},
        {"temperature": 2.1},
        {"response_mime_type": "application/json"},
        {"response_modalities": ["TEXT"]},
        {"response_modalities": ["IMAGE", "AUDIO"]},
        {"tools": [types.Tool(code_execution=types.ToolCodeExecution())]},
        {"image_config": types.ImageConfig(aspect_ratio="8:1")},
        {"image_config": types.ImageConfig(image_size="512")},
        {"thinking_config": types.ThinkingConfig(thinking_level="XHIGH")},
    ]


@cache
def refused_by_nano() -> list[dict[str, Any]]:
    """Return what the newest model refuses, and others take."""
    return [
        {"seed": 7},
        {"temperature": 0.5},
        {"top_p": 0.9},
        {"top_k": 40},
        {"logprobs": 1},
        {"candidate_count": 1},
        {"thinking_config": types.ThinkingConfig(thinking_budget=128)},
        {"thinking_config": types.ThinkingConfig(thinking_level="LOW")},
        {"image_config": types.ImageConfig(image_size="512")},
    ]


@pytest.fixture(params=[GEMINI, VERTEX])
def api(request: pytest.FixtureRequest) -> str:
    """Return the API that the SDK is used for."""
    return str(request.param)


@pytest.fixture(params=["sync", "async"])
def style(request: pytest.FixtureRequest) -> str:
    """Return the SDK's surface."""
    return str(request.param)


def _client(api: str) -> AbstractAsyncContextManager[Any]:
    if api == VERTEX:
        return test_google_vertex._client("v1")
    return test_google_sdk._client("v1beta")


def test_no_option_is_forgotten() -> None:
    """A field that a newer SDK has must be tried here, and a field of its own options for images and thinking."""
    fields = set(types.GenerateContentConfig.model_fields)
    assert fields == passing().keys() | {"cached_content"}
    images = set(types.ImageConfig.model_fields)
    assert images == {"aspect_ratio", "image_size"} | of_vertex_images().keys()
    thinking = set(types.ThinkingConfig.model_fields)
    assert thinking == {"include_thoughts", "thinking_budget", "thinking_level"}


async def test_every_option_that_passes(api: str, style: str) -> None:
    """Each value alone brings a picture; where the SDK itself refuses the field, nothing is sent."""
    async with _client(api) as client:
        for name, values in passing().items():
            apis, tried = values if isinstance(values, tuple) else (BOTH, values)
            for value in tried:
                ask = asking("A robot", PRO, **{name: value})
                if api not in apis:
                    with pytest.raises(ValueError, match=f"^{name} parameter is only supported"):
                        await _call(style, client, ask)
                    continue
                got = await _call(style, client, ask)
                if name != "should_return_http_response":
                    assert got.parts[-1].inline_data.data, {name: value}


async def test_every_option_of_images(api: str, style: str) -> None:
    """Vertex AI takes more than shape and size; the SDK lets none of it pass to the Gemini API."""
    async with _client(api) as client:
        for name, values in of_vertex_images().items():
            for value in values:
                ask = asking("A robot", image_config=types.ImageConfig(**{name: value}))
                if api == GEMINI:
                    with pytest.raises(ValueError, match=f"{name} parameter is only supported"):
                        await _call(style, client, ask)
                    continue
                data = (await _call(style, client, ask)).parts[-1].inline_data.data
                expected = "PNG" if value == "image/png" else "JPEG"
                assert Image.open(io.BytesIO(data)).format == expected


async def test_options_that_are_refused(api: str, style: str) -> None:
    """Each is a 400 of the API, not of the SDK."""
    async with _client(api) as client:
        for model, tried in ((PRO, refused()), (NANO, refused_by_nano())):
            for fields in tried:
                with pytest.raises(errors.ClientError) as caught:
                    await _call(style, client, asking("A robot", model, **fields))
                assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT"), fields


async def test_many_options_together(api: str, style: str) -> None:
    """As many as one model takes at once, with levels of thinking."""
    alone = {"http_options", "routing_config", *IN_THE_SDK}
    if api == VERTEX:
        alone.add("safety_settings")  # the SDK lets only one of it and `model_armor_config` pass
    together: dict[str, Any] = {}
    for name, values in passing().items():
        apis, tried = values if isinstance(values, tuple) else (BOTH, values)
        if api in apis and name not in alone:
            together[name] = tried[0]
    async with _client(api) as client:
        got = await _call(style, client, asking("A robot", PRO, **together))
        assert got.parts[-1].inline_data.data
        for level in ("MINIMAL", "MEDIUM", "HIGH"):
            thinking = types.ThinkingConfig(thinking_level=level)
            got = await _call(style, client, asking("A robot", NANO, thinking_config=thinking))
            assert got.usage_metadata.thoughts_token_count


async def test_what_was_served(api: str, style: str) -> None:
    """The tier in the body counts for the Gemini API; Vertex AI names the kind of its traffic."""
    async with _client(api) as client:
        got = await _call(style, client, asking("A robot", service_tier="flex"))
    if api == GEMINI:
        assert got.sdk_http_response.headers["x-gemini-service-tier"] == "flex"
    else:
        assert got.usage_metadata.traffic_type == types.TrafficType.ON_DEMAND
