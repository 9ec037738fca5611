"""Names of the enums of a request, from Google's discovery document (2026-08)."""

# With those of images and of jailbreaks in google-genai 3.6.1 (2026-11-18).
HARM_CATEGORIES = tuple(
    f"HARM_CATEGORY_{name}"
    for name in (
        "UNSPECIFIED",
        "DEROGATORY",
        "TOXICITY",
        "VIOLENCE",
        "SEXUAL",
        "MEDICAL",
        "DANGEROUS",
        "HARASSMENT",
        "HATE_SPEECH",
        "SEXUALLY_EXPLICIT",
        "DANGEROUS_CONTENT",
        "CIVIC_INTEGRITY",
        "IMAGE_HATE",
        "IMAGE_DANGEROUS_CONTENT",
        "IMAGE_HARASSMENT",
        "IMAGE_SEXUALLY_EXPLICIT",
        "JAILBREAK",
    )
)
HARM_THRESHOLDS = (
    "HARM_BLOCK_THRESHOLD_UNSPECIFIED",
    "BLOCK_LOW_AND_ABOVE",
    "BLOCK_MEDIUM_AND_ABOVE",
    "BLOCK_ONLY_HIGH",
    "BLOCK_NONE",
    "OFF",
)
MEDIA_RESOLUTIONS = (
    "MEDIA_RESOLUTION_UNSPECIFIED",
    "MEDIA_RESOLUTION_LOW",
    "MEDIA_RESOLUTION_MEDIUM",
    "MEDIA_RESOLUTION_HIGH",
)
# The second one is google-genai's own, which the API takes (2026-11-18).
SERVICE_TIERS = ("SERVICE_TIER_UNSPECIFIED", "UNSPECIFIED", "STANDARD", "FLEX", "PRIORITY")
