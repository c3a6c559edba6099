"""A verifier at an HTTP address that the operator has set.

It gets `{"messages", "answer", "extracted", "params"}` as JSON and answers with `{"score"}` in
[0, 1], and `passed` and `feedback` where it likes.
"""

from __future__ import annotations

import asyncio
from http.client import HTTPException
from typing import Any
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

import orjson
import structlog

from router.execution.strategy import Caller
from router.execution.verifiers.functions import scored
from router.execution.verifiers.verdict import CANNOT_TELL, Checked, Verdict
from router.webhooks import checked_url, origin

TIMEOUT_S = 10.0
MOST_REPLY_BYTES, MOST_FEEDBACK_CHARS = 65_536, 2_000

_log = structlog.get_logger(__name__)


class WebhookVerifier:
    """Posts each answer once; no redirect is followed and no proxy asked."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        """Raises InvalidInput unless the URL is https://, or http:// on this machine."""
        self._url, self._timeout_s = checked_url(url, private=True), timeout_s

    async def verify(self, checked: Checked, caller: Caller) -> Verdict:
        """As Verifier says."""
        seconds = min(self._timeout_s, caller.left().seconds)
        body = orjson.dumps(
            {
                "messages": checked.task.messages,
                "answer": checked.said.text,
                "extracted": checked.extracted,
                "params": dict(checked.params),
            }
        )
        try:
            async with asyncio.timeout(seconds):
                return _read(await asyncio.to_thread(self._post, body, seconds))
        except (OSError, HTTPException, ValueError) as error:
            place, why = origin(self._url), type(error).__name__
            _log.warning("a verifier's webhook failed", place=place, error=why)
            return CANNOT_TELL

    def _post(self, body: bytes, seconds: float) -> bytes:
        request = Request(self._url, data=body, method="POST")  # noqa: S310 (checked above)
        request.add_header("Content-Type", "application/json")
        opener = build_opener(_NoRedirects, ProxyHandler({}))
        with opener.open(request, timeout=max(seconds, 0.001)) as reply:
            read: bytes = reply.read(MOST_REPLY_BYTES)
        return read


def _read(reply: bytes) -> Verdict:
    found: Any = orjson.loads(reply)
    verdict = scored(found.get("score")) if isinstance(found, dict) else CANNOT_TELL
    if verdict.score is None:
        return CANNOT_TELL
    passed = found.get("passed", verdict.passed)
    feedback = str(found.get("feedback") or "")[:MOST_FEEDBACK_CHARS]
    return Verdict(passed=passed is True, score=verdict.score, feedback=feedback)


class _NoRedirects(HTTPRedirectHandler):
    """A redirect is an error like any other."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Names no request to follow."""
        return
