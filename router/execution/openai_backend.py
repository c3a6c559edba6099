"""The backend of any endpoint that speaks OpenAI's chat completions."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx2
import orjson
from openai import AsyncOpenAI, AsyncStream

from router.execution.chat_backend import ChatBackend, Create
from router.execution.connections import Connections
from router.execution.keys import NO_KEY
from router.execution.viewing import view, views

logging.getLogger("openai").setLevel(logging.WARNING)  # below that it logs prompts


class OpenAIBackend(ChatBackend):
    """Calls through the official client.

    `key` is asked for at every call, so that a key may change.
    """

    def __init__(self, endpoint: str, key: Callable[[], str]) -> None:
        client = AsyncOpenAI(
            base_url=endpoint, api_key=NO_KEY, max_retries=0, http_client=Connections()
        )
        if not (urlsplit(endpoint).hostname or "").endswith("openai.com"):
            client.organization = client.project = None
        super().__init__(_creating(client, key), client.close)


def _creating(client: AsyncOpenAI, key: Callable[[], str]) -> Create:
    """Sends bodies and takes replies as they are, with none of the client's types between.

    Those take a fifth of the time of a short call, and most of that of a long answer with
    log-probabilities, token by token.
    """
    url = f"{client.base_url}chat/completions"

    async def create(*, timeout: float, extra_body: Any = None, **told: Any) -> Any:  # noqa: ARG001, ASYNC109 (whoever calls bounds the time)
        content = _json(told | (extra_body or {}))
        options: Any = {"headers": {"Authorization": f"Bearer {key() or NO_KEY}"}}
        if not told.get("stream"):
            reply = await client.post(
                url, content=content, options=options, cast_to=httpx2.Response
            )
            return view(_read(reply.content))
        chunks: Any = await client.post(
            url,
            content=content,
            options=options,
            cast_to=object,
            stream=True,
            stream_cls=AsyncStream[object],
        )
        return views(chunks)

    return create


def _json(value: Any) -> bytes:
    """As JSON; halves of characters, which orjson refuses, stay escaped."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()


def _read(content: bytes) -> Any:
    """What JSON says, halves of characters too. Raises ValueError where it is none."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return json.loads(content)
