"""The backend of any endpoint that speaks OpenAI's chat completions."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx2
import orjson
from openai import (
    APIStatusError,
    AsyncOpenAI,
    AsyncStream,
    AuthenticationError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
)

from router.execution.chat_backend import ChatBackend, Create
from router.execution.connections import Connections, Reply
from router.execution.keys import NO_KEY
from router.execution.viewing import view, views

logging.getLogger("openai").setLevel(logging.WARNING)  # below that it logs prompts


OF_THE_MACHINE = "X-Stainless-"
"""The official client's headers that tell what it runs on, which no answer depends on."""

LEAST_ERROR, LEAST_SERVER_ERROR = 400, 500
ERRORS: Mapping[int, type[APIStatusError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    429: RateLimitError,
}
"""The official client's, which are told apart by their class."""


class OpenAIBackend(ChatBackend):
    """Calls through the official client.

    `key` is asked for at every call, so that a key may change.
    """

    def __init__(self, endpoint: str, key: Callable[[], str]) -> None:
        connections = Connections()
        client = AsyncOpenAI(
            base_url=endpoint, api_key=NO_KEY, max_retries=0, http_client=connections
        )
        if not (urlsplit(endpoint).hostname or "").endswith("openai.com"):
            client.organization = client.project = None
        super().__init__(_creating(client, connections, key), client.close)


def _creating(client: AsyncOpenAI, connections: Connections, key: Callable[[], str]) -> Create:
    """Sends bodies and takes replies as they are, with none of the client's types between.

    Those take most of the time of a short call, and of a long answer with
    log-probabilities, token by token. A whole answer goes straight over the client's
    connections, under those of its headers that matter.
    """
    url = f"{client.base_url}chat/completions"
    usual = {
        name: said
        for name, said in client.default_headers.items()
        if isinstance(said, str) and not name.startswith(OF_THE_MACHINE)
    }

    async def create(*, timeout: float, extra_body: Any = None, **told: Any) -> Any:  # noqa: ARG001, ASYNC109 (whoever calls bounds the time)
        content = _json(told | (extra_body or {}))
        own = {"Authorization": f"Bearer {key() or NO_KEY}"}
        if not told.get("stream"):
            return view(_read(await connections.ask(url, usual | own, content)))
        options: Any = {"headers": own}
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


def _read(reply: Reply) -> Any:
    """What a reply's JSON says, halves of characters too.

    Raises openai.APIStatusError for a refusal, and ValueError where it is no JSON.
    """
    if reply.status >= LEAST_ERROR:
        raise _refused(reply)
    try:
        return orjson.loads(reply.content)
    except orjson.JSONDecodeError:
        return json.loads(reply.content)


def _refused(reply: Reply) -> APIStatusError:
    """The official client's error for the status."""
    with suppress(ValueError, RecursionError):
        said = json.loads(reply.content)
        said = said.get("error", said) if isinstance(said, dict) else None
        return _error(reply, said)
    return _error(reply, None)


def _error(reply: Reply, said: Any) -> APIStatusError:
    server = InternalServerError if reply.status >= LEAST_SERVER_ERROR else APIStatusError
    response = httpx2.Response(
        reply.status, headers=dict(reply.headers), request=httpx2.Request("POST", "/")
    )
    error = ERRORS.get(reply.status, server)
    return error(f"status {reply.status}", response=response, body=said)
