"""Fields of a request to Vertex AI: all that google-genai 3.6.1 sends (2026-11-18)."""

from gemini_batch.simulator.enum_names import (
    HARM_CATEGORIES,
    HARM_METHODS,
    HARM_THRESHOLDS,
    PERSON_GENERATIONS,
    PROMINENT_PEOPLE,
)
from gemini_batch.simulator.gemini_schema import GENERATION_CONFIG
from gemini_batch.simulator.gemini_schema import REQUEST as GEMINI_REQUEST
from gemini_batch.simulator.schema import ANY, BOOL, INT32, STRING, Enum, Message, Repeated

_IMAGE_CONFIG = Message(
    {
        "aspect_ratio": STRING,
        "image_size": STRING,
        "person_generation": Enum("ImageConfig.PersonGeneration", PERSON_GENERATIONS),
        "prominent_people": Enum("ImageConfig.ProminentPeople", PROMINENT_PEOPLE),
        "image_output_options": Message({"mime_type": STRING, "compression_quality": INT32}),
    }
)
_SAFETY = Message(
    {
        "category": Enum("HarmCategory", HARM_CATEGORIES),
        "threshold": Enum("SafetySetting.HarmBlockThreshold", HARM_THRESHOLDS),
        "method": Enum("SafetySetting.HarmBlockMethod", HARM_METHODS),
    }
)
REQUEST = Message(
    {name: kind for name, kind in GEMINI_REQUEST.fields.items() if name != "store"}
    | {
        "output_config": Message({"output_uri_prefix": STRING}),
        "safety_settings": Repeated(_SAFETY),
        "model_armor_config": ANY,
        "generation_config": Message(
            {
                name: kind
                for name, kind in GENERATION_CONFIG.fields.items()
                if name != "enable_enhanced_civic_answers"
            }
            | {
                "image_config": _IMAGE_CONFIG,
                "audio_timestamp": BOOL,
                "enable_affective_dialog": BOOL,
                "routing_config": ANY,
                "model_config": ANY,
            }
        ),
    }
)
