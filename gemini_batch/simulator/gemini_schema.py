"""Fields of a GenerateContentRequest to the Gemini API.

Names and types are from Google's discovery document
(https://generativelanguage.googleapis.com/$discovery/rest?version=v1beta, 2026-08), as far as the
image models use them; `continuation_token`, speech and transcription from google-genai 3.6.1
(2026-11-18). A field of type `ANY` is not checked.
"""

from gemini_batch.simulator.enum_names import (
    HARM_CATEGORIES,
    HARM_THRESHOLDS,
    MEDIA_RESOLUTIONS,
    SERVICE_TIERS,
    TRANSCRIPTION_MODES,
)
from gemini_batch.simulator.schema import (
    ANY,
    BOOL,
    BYTES,
    FLOAT,
    INT32,
    STRING,
    Enum,
    Message,
    Repeated,
)

_PART = Message(
    {
        "text": STRING,
        "inline_data": Message({"mime_type": STRING, "data": BYTES, "display_name": STRING}),
        "file_data": Message({"mime_type": STRING, "file_uri": STRING, "display_name": STRING}),
        "function_call": ANY,
        "function_response": ANY,
        "executable_code": ANY,
        "code_execution_result": ANY,
        "thought": BOOL,
        "thought_signature": BYTES,
        "video_metadata": ANY,
        "media_resolution": ANY,
        "part_metadata": ANY,
    },
    oneof=("text", "inline_data", "file_data", "function_call", "function_response"),
)
_CONTENT = Message({"parts": Repeated(_PART), "role": STRING})
_VOICE = Message(
    {
        "prebuilt_voice_config": Message({"voice_name": STRING}),
        "replicated_voice_config": ANY,
        "voice": STRING,
    }
)
_SPEECH = Message(
    {
        "voice_config": _VOICE,
        "language_code": STRING,
        "multi_speaker_voice_config": Message(
            {
                "speaker_voice_configs": Repeated(
                    Message({"speaker": STRING, "voice_config": _VOICE})
                )
            }
        ),
    }
)
_TRANSCRIPTION = Message(
    {
        "language_codes": Repeated(STRING),
        "language_auto": ANY,
        "language_hints": Message({"language_codes": Repeated(STRING)}),
        "custom_vocabulary": Repeated(STRING),
        "adaptation_phrases": Repeated(STRING),
        "word_timestamp": BOOL,
        "diarization": BOOL,
        "mode": Enum("AudioTranscriptionConfig.Mode", TRANSCRIPTION_MODES),
        "source_text": STRING,
    }
)
GENERATION_CONFIG = Message(
    {
        "candidate_count": INT32,
        "stop_sequences": Repeated(STRING),
        "max_output_tokens": INT32,
        "temperature": FLOAT,
        "top_p": FLOAT,
        "top_k": INT32,
        "seed": INT32,
        "response_mime_type": STRING,
        "response_schema": ANY,
        "response_json_schema": ANY,
        "presence_penalty": FLOAT,
        "frequency_penalty": FLOAT,
        "response_logprobs": BOOL,
        "logprobs": INT32,
        "enable_enhanced_civic_answers": BOOL,
        "response_modalities": Repeated(
            Enum(
                "GenerationConfig.Modality",
                ("MODALITY_UNSPECIFIED", "TEXT", "IMAGE", "AUDIO", "VIDEO"),
            )
        ),
        "response_format": ANY,
        "speech_config": _SPEECH,
        "audio_transcription_config": _TRANSCRIPTION,
        "thinking_config": Message(
            {
                "include_thoughts": BOOL,
                "thinking_budget": INT32,
                "thinking_level": Enum(
                    "ThinkingConfig.ThinkingLevel",
                    ("THINKING_LEVEL_UNSPECIFIED", "MINIMAL", "LOW", "MEDIUM", "HIGH"),
                ),
            }
        ),
        "image_config": Message({"aspect_ratio": STRING, "image_size": STRING}),
        "media_resolution": Enum("GenerationConfig.MediaResolution", MEDIA_RESOLUTIONS),
    }
)
REQUEST = Message(
    {
        "model": STRING,
        "contents": Repeated(_CONTENT),
        "system_instruction": _CONTENT,
        "tools": ANY,
        "tool_config": ANY,
        "safety_settings": Repeated(
            Message(
                {
                    "category": Enum("HarmCategory", HARM_CATEGORIES),
                    "threshold": Enum("SafetySetting.HarmBlockThreshold", HARM_THRESHOLDS),
                }
            )
        ),
        "generation_config": GENERATION_CONFIG,
        "cached_content": STRING,
        "continuation_token": BYTES,
        "service_tier": Enum("ServiceTier", SERVICE_TIERS),
        "labels": ANY,
        "store": BOOL,
    }
)

COUNT_REQUEST = Message(
    {"model": STRING, "contents": Repeated(_CONTENT), "generate_content_request": REQUEST}
)
