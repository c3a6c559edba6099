"""The backend of any endpoint that speaks OpenAI's chat completions."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from openai import AsyncOpenAI, AsyncStream

from router.execution.chat_backend import ChatBackend, Create
from router.execution.keys import NO_KEY
from router.execution.viewing import view, views

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
        super().__init__(_creating(client), client.close)


def _creating(client: AsyncOpenAI) -> Create:
    """Sends bodies and takes replies as they are, with none of the client's types between.

    Those take a fifth of the time of a short call, and most of that of a long answer with
    log-probabilities, token by token.
    """

    async def create(**told: Any) -> Any:
        timeout_s, extra = told.pop("timeout"), told.pop("extra_body", {})
        reply: Any = await client.post(
            "/chat/completions",
            body=told | extra,
            options={"timeout": timeout_s},
            cast_to=object,
            stream=bool(told.get("stream")),
            stream_cls=AsyncStream[object],
        )
        return views(reply) if told.get("stream") else view(reply)

    return create
