"""What commands that run for long share: how they end, and what a supervisor tells them."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from router.commands.options import settings

if TYPE_CHECKING:
    from types import FrameType

    from router.settings import Settings

NICENESS = 10


class Stopped(BaseException):
    """A signal ends the command; what is under way is not done, and nothing is half done."""


def told() -> Settings:
    """The settings with what the supervisor says in one line, whose pipe ends with it."""
    line: Mapping[str, Any] = json.loads(sys.stdin.buffer.readline())
    os.nice(NICENESS)
    threading.Thread(target=_follow_supervisor, daemon=True).start()
    return settings(**line)


def _follow_supervisor() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def until_stopped(*, supervised: bool) -> Iterator[threading.Event]:
    """Ends the block at SIGTERM or Ctrl-C; of a supervised one only the supervisor gets that."""
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        if not stop.is_set():
            stop.set()
            raise Stopped

    heard = {signal.SIGTERM: end, signal.SIGINT: signal.SIG_IGN if supervised else end}
    before = {each: signal.signal(each, handler) for each, handler in heard.items()}
    try:
        yield stop
    except Stopped:
        return
    except Exception:
        if not stop.is_set():  # else it is what the signal broke off
            raise
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
