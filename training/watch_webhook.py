"""Tells a tenant's own systems when an slo's state changes, by HTTP."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

import orjson

TIMEOUT_S = 5.0
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=1), timedelta(minutes=1)
SIGNATURE = "Leadline-Signature"
EVENT_ID = "Leadline-Event-Id"

Warn = Callable[..., Any]


class Webhook:
    """Posts events, each at least once; what was not taken is posted again after a pause.

    The body is JSON; the header Leadline-Signature is `sha256=` with the hex HMAC-SHA256 of
    the body under the secret. Redirects are refused: nothing goes where nobody said.
    """

    def __init__(self, url: str, secret: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._url, self._secret, self._timeout_s = url, secret.encode(), timeout_s
        self._opener: OpenerDirector = build_opener(_NoRedirects)
        self._pause = FIRST_PAUSE
        self._due = datetime.min.replace(tzinfo=UTC)

    def take(self, event: Mapping[str, Any], now: datetime, warn: Warn) -> bool:
        """Whether the event has arrived; False, and no try, while pausing after a failure."""
        if now < self._due:
            return False
        failure = self._post(orjson.dumps(event), str(event["id"]))
        if failure is None:
            self._pause = FIRST_PAUSE
            return True
        self._due = now + self._pause
        warn("webhook failed", event_id=event["id"], why=failure, again_in_s=self._pause.seconds)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return False

    def _post(self, body: bytes, event_id: str) -> str | None:
        """Why it failed; None when it has not."""
        request = Request(self._url, data=body, method="POST")  # noqa: S310 (settings check it)
        request.add_header("Content-Type", "application/json")
        request.add_header(EVENT_ID, event_id)
        request.add_header(SIGNATURE, signature(self._secret, body))
        try:
            with self._opener.open(request, timeout=self._timeout_s):
                return None
        except HTTPError as error:
            error.close()
            return f"it answered {error.code}"
        except (OSError, HTTPException) as error:
            return type(error).__name__


def signature(secret: bytes, body: bytes) -> str:
    """What the receiver compares the header with."""
    return "sha256=" + hmac.digest(secret, body, hashlib.sha256).hex()


class _NoRedirects(HTTPRedirectHandler):
    """A redirect is an error like any other."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Names no request to follow."""
        return
