"""Blocking calls have a limit, and say what it means that they passed it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from router.errors import Unavailable
from router.serving.threads import Threads


def test_a_call_that_is_late_says_what_did_not_happen() -> None:
    threads, done = Threads(0.05, late="the policy was not verified", threads=1), threading.Event()
    with pytest.raises(Unavailable, match=r"the policy was not verified within 0\.05 s; try again"):
        asyncio.run(threads.run(done.wait, 10))
    done.set()
    threads.close()
