"""The backend of any endpoint that speaks OpenAI's chat completions."""

from __future__ import annotations

import logging
from collections.abc import Callable
from urllib.parse import urlsplit

from openai import AsyncOpenAI

from router.execution.chat_backend import ChatBackend
from router.execution.keys import NO_KEY

logging.getLogger("openai").setLevel(logging.WARNING)  # below that it logs prompts


class OpenAIBackend(ChatBackend):
    """Calls through the official client.

    `key` is asked for at every call, so that a key may change.
    """

    def __init__(self, endpoint: str, key: Callable[[], str]) -> None:
        async def api_key() -> str:
            return key() or NO_KEY

        client = AsyncOpenAI(base_url=endpoint, api_key=api_key, max_retries=0)
        if not (urlsplit(endpoint).hostname or "").endswith("openai.com"):
            client.organization = client.project = None
        super().__init__(client.chat.completions.create, client.close)
