"""A project and a location of Vertex AI, and the address that serves them."""

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from gemini_batch.errors import ConfigError
from gemini_batch.wording import shown

GLOBAL = "global"
_HOST = "aiplatform.googleapis.com"
_MULTI_REGIONS = ("us", "eu")
# An id, also of a domain (`example.com:my-project`), or a number; Google's own rule is stricter:
# https://cloud.google.com/resource-manager/docs/creating-managing-projects (2026-11-30).
_PROJECT = re.compile(r"(?:[a-z0-9.-]+:)?[a-z](?:[a-z0-9-]{0,28}[a-z0-9])?|[0-9]{1,19}")
_LOCATION = re.compile(rf"{GLOBAL}|{'|'.join(_MULTI_REGIONS)}|[a-z]+-[a-z]+[0-9]+")
_ALLOWED = (
    "allowed: PROJECT or PROJECT/LOCATION, such as my-project or my-project/us-central1; the "
    "location may be a region, us, eu or global"
)
# google-genai 3.6.1, `_api_client.py`, and the REST reference; v1beta1 has the same (2026-11-18).
_VERSION = "/v1"
_NAMES_A_VERSION = re.compile(r"/v[0-9]+(?:(?:alpha|beta)[0-9]*)?(?=/|\Z)")


@dataclass(frozen=True, slots=True)
class Vertex:
    """A project of Google Cloud, and a location of Vertex AI that its calls are sent to."""

    project: str
    location: str = GLOBAL

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the two that a text names: `PROJECT[/LOCATION]`.

        Raises:
            ValueError: One of them is not such a name; the message is for the user.
        """
        project, slash, location = text.strip().partition("/")
        if not _PROJECT.fullmatch(project):
            raise ValueError(f"got {shown(text)}; {_ALLOWED}")
        if slash and not _LOCATION.fullmatch(location):
            raise ValueError(f"got the location {shown(location)}; {_ALLOWED}")
        return cls(project, location or GLOBAL)

    @property
    def name(self) -> str:
        """Both names, for users and for the ledger."""
        return f"{self.project}/{self.location}"

    @property
    def address(self) -> str:
        """The address of Google's server for the location."""
        if self.location == GLOBAL:
            return f"https://{_HOST}"
        if self.location in _MULTI_REGIONS:
            return f"https://aiplatform.{self.location}.rep.googleapis.com"
        return f"https://{self.location}-{_HOST}"

    def base_url(self, address: str) -> str:
        """Return the base URL of its models at an address, which may have a path.

        Raises:
            ConfigError: The address has the path of a project already.
        """
        path = urlsplit(address).path
        if "/publishers" in path or "/projects" in path:
            raise ConfigError(
                f'--base-url: got "{address}"; --vertex adds the path of the project: leave it out'
            )
        version = "" if _NAMES_A_VERSION.search(path) else _VERSION
        place = f"projects/{self.project}/locations/{self.location}"
        return f"{address}{version}/{place}/publishers/google"
