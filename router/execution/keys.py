"""The keys of backends, by the host of their endpoint: from the environment or from files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from router.errors import ConfigurationError

PREFIX = "LEADLINE_KEY_"
NO_KEY = "none"
"""Sent to an endpoint without a key, as one's own vLLM or llama.cpp is."""

USUAL: Mapping[str, str] = {
    "api.openai.com": "OPENAI_API_KEY",
    "api.anthropic.com": "ANTHROPIC_API_KEY",
    "generativelanguage.googleapis.com": "GEMINI_API_KEY",
    "api.together.xyz": "TOGETHER_API_KEY",
    "api.fireworks.ai": "FIREWORKS_API_KEY",
    "api.groq.com": "GROQ_API_KEY",
    "api.mistral.ai": "MISTRAL_API_KEY",
    "api.deepseek.com": "DEEPSEEK_API_KEY",
    "openrouter.ai": "OPENROUTER_API_KEY",
}
"""The variables that people have already, each read for its own host alone."""


class Keys:
    """Finds a key anew at every call: a file named after the host, its variable, the usual one.

    The file of `https://api.openai.com/v1` in `directory` is `api.openai.com`, its variable
    LEADLINE_KEY_API_OPENAI_COM; a port follows after an underscore.
    """

    def __init__(self, environment: Mapping[str, str], directory: Path | None = None) -> None:
        self._environment, self._directory = environment, directory

    def __repr__(self) -> str:
        return f"Keys(directory={self._directory})"

    def of(self, endpoint: str) -> Callable[[], str]:
        """What gives the endpoint's key. It raises ConfigurationError for an unreadable file."""
        parts = urlsplit(endpoint)
        host = (parts.hostname or "").lower()
        place = host if parts.port is None else f"{host}_{parts.port}"
        variables = (PREFIX + re.sub(r"\W", "_", place).upper(), USUAL.get(host, ""))
        return lambda: self._filed(place) or self._set(*variables) or NO_KEY

    def _set(self, *variables: str) -> str:
        found = (self._environment.get(name, "").strip() for name in variables if name)
        return next(filter(None, found), "")

    def _filed(self, place: str) -> str:
        if self._directory is None or not place:
            return ""
        try:
            return (self._directory / place).read_text().strip()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError):
            raise ConfigurationError(
                f"the key file {place} in LEADLINE_BACKEND_KEYS_DIR cannot be read; mend it"
            ) from None
