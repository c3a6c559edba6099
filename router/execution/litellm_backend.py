"""The backend of providers that litellm speaks to and that have no compatible endpoint."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

from router.execution.chat_backend import ChatBackend
from router.execution.keys import NO_KEY

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would fetch prices when imported
logging.getLogger("LiteLLM").setLevel(logging.WARNING)  # below that it logs prompts


class LiteLLMBackend(ChatBackend):
    """Calls through litellm; `endpoint` is a base URL, empty for the provider's own.

    The model's `endpoint_model` names the provider, as `bedrock/anthropic.claude-...`. What
    the provider cannot take is left out. Without a key of the endpoint litellm reads the
    provider's usual variables.
    """

    def __init__(self, endpoint: str, key: Callable[[], str]) -> None:
        import litellm  # noqa: PLC0415

        litellm.disable_aiohttp_transport = True  # it takes half an answer for a whole one
        litellm.suppress_debug_info = True
        litellm.turn_off_message_logging = True

        async def create(*, extra_body: dict[str, Any] | None = None, **said: Any) -> Any:
            given = key()
            return await litellm.acompletion(
                **said,
                **(extra_body or {}),
                api_base=endpoint or None,
                api_key=None if given == NO_KEY and not endpoint else given,
                num_retries=0,
                max_retries=0,
                drop_params=True,
            )

        super().__init__(create, _closed)


async def _closed() -> None:
    """Nothing is to be closed: litellm keeps its clients for the process."""
