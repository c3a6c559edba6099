"""Tells a tenant's own systems when an slo's state changes, by HTTP."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

import orjson

from training.watch.public_http import handlers

TIMEOUT_S = 5.0
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=1), timedelta(minutes=1)
SIGNATURE = "Leadline-Signature"
EVENT_ID = "Leadline-Event-Id"

Warn = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What came of telling: why it failed, None where it arrived or, in a pause, was not tried."""

    taken: bool
    failure: str | None = None


class Webhook:
    """Posts events, each at least once; what was not taken is posted again after a pause.

    The body is JSON; the header Leadline-Signature is `sha256=` with the hex HMAC-SHA256 of
    the body under the secret; Leadline-Event-Id is the same whenever an event is told again.
    Redirects are refused: nothing goes where nobody said. A `public` one, which a tenant set,
    reaches no private address.
    """

    def __init__(
        self, url: str, secret: str, *, timeout_s: float = TIMEOUT_S, public: bool = False
    ) -> None:
        self._url, self._secret, self._timeout_s = url, secret.encode(), timeout_s
        reached = handlers() if public else []
        self._opener: OpenerDirector = build_opener(_NoRedirects, *reached)
        self._next_pause = FIRST_PAUSE
        self._due = datetime.min.replace(tzinfo=UTC)
        self.pause_s = 0.0

    def tell(self, event: Mapping[str, Any], now: datetime) -> Told:
        """Posts the event, but for while it pauses after a failure, for `pause_s`."""
        if now < self._due:
            return Told(taken=False)
        failure = self._post(orjson.dumps(event), str(event["id"]))
        if failure is None:
            self._next_pause = FIRST_PAUSE
            return Told(taken=True)
        self._due, self.pause_s = now + self._next_pause, self._next_pause.total_seconds()
        self._next_pause = min(2 * self._next_pause, LONGEST_PAUSE)
        return Told(taken=False, failure=failure)

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
        except URLError as error:
            known = isinstance(error.reason, Exception)
            return type(error.reason if known else error).__name__
        except (OSError, HTTPException, ValueError) as error:
            return type(error).__name__


def signature(secret: bytes, body: bytes) -> str:
    """What the receiver compares the header with."""
    return "sha256=" + hmac.digest(secret, body, hashlib.sha256).hex()


class _NoRedirects(HTTPRedirectHandler):
    """A redirect is an error like any other."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Names no request to follow."""
        return
