"""Code that nobody vouches for, in a process of its own with bounds.

It has a directory of its own, a bare environment, bounded time, memory, file size and open
files, and no network where the kernel lets an unprivileged process leave it. That keeps off
accidents; against an attacker, run Leadline in a container of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

CHILD = Path(__file__).with_name("child.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a run may take; `bytes` bounds its memory."""

    seconds: float = 10.0
    bytes: int = 512 * 1024 * 1024


async def run_confined(job: dict[str, Any], limits: Limits) -> dict[str, Any] | None:
    """What the child reports of a job; None where it died, hung or reported nothing.

    However this ends, the child and whatever it started are gone.
    """
    with tempfile.TemporaryDirectory(prefix="leadline-", ignore_cleanup_errors=True) as place:
        command = (sys.executable, "-I", str(CHILD), str(limits.seconds), str(limits.bytes))
        child = await asyncio.create_subprocess_exec(
            *command,
            cwd=place,
            env={"PATH": os.defpath, "HOME": place, "TMPDIR": place},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(limits.seconds):
                return await _exchanged(child, orjson.dumps(job))
        except TimeoutError:
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()


async def _exchanged(child: asyncio.subprocess.Process, job: bytes) -> dict[str, Any] | None:
    if child.stdin is None or child.stdout is None:
        return None
    with contextlib.suppress(ConnectionError):
        child.stdin.write(job)
        await child.stdin.drain()
        child.stdin.close()
    try:
        report = orjson.loads(await child.stdout.readuntil(b"\n"))
    except (ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return None
    return report if isinstance(report, dict) else None
