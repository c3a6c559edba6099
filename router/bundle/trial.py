"""Tries a booster in a child process, and compares it with what training saw it predict."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from router.bundle.manifest import ACCURACY, GOLDEN
from router.errors import BundleRefused, Unavailable
from router.types import Floats

RTOL = 1e-9
TIMEOUT_S = 15.0

_TRANSIENT_EXIT = 75  # EX_TEMPFAIL, by which the probe says that the machine failed it
_PROBE = Path(__file__).with_name("probe.py")
_KEPT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR")
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Hangs(Unavailable):
    """The booster did not answer in time; try again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Rows (n, f) and the raw scores (n,) that the booster gave them when it was trained."""

    rows: Floats
    raw: Floats

    def to_bytes(self) -> bytes:
        """The content of golden.safetensors."""
        plain = {"rows": np.ascontiguousarray(self.rows), "raw": np.ascontiguousarray(self.raw)}
        return save(plain)

    @classmethod
    def parse(cls, data: bytes, columns: int) -> Golden:
        """Raises BundleRefused unless there are finite scores for rows of that many columns."""
        try:
            found = load(data)
            golden = cls(rows=found.pop("rows"), raw=found.pop("raw"))
        except (SafetensorError, KeyError, ValueError, TypeError) as error:
            raise BundleRefused(f"{GOLDEN} is not safetensors of rows and raw ({error})") from None
        if found or golden.problem(columns):
            raise BundleRefused(f"{GOLDEN}: {golden.problem(columns) or 'holds more than that'}")
        return golden

    def problem(self, columns: int) -> str:
        """What is wrong with the shapes or values, or nothing."""
        if self.rows.dtype != np.float64 or self.raw.dtype != np.float64:
            return "rows and raw must be float64"
        if self.rows.ndim != 2 or self.rows.shape[1] != columns or self.raw.ndim != 1:
            return (
                f"rows must be (n, {columns}) and raw (n,), not {self.rows.shape}, {self.raw.shape}"
            )
        if not 1 <= len(self.rows) <= 4_096 or len(self.rows) != len(self.raw):
            return (
                f"there are {len(self.rows)} rows and {len(self.raw)} scores, not 1 to 4,096 each"
            )
        return "" if np.all(np.isfinite(self.raw)) else "raw must be finite"

    def compare(self, raw: Floats) -> None:
        """Raises BundleRefused when a score differs from what training saw."""
        if raw.shape != self.raw.shape:
            raise BundleRefused(f"the booster scores {GOLDEN} with shape {raw.shape}")
        wrong = ~np.isclose(raw, self.raw, rtol=RTOL, atol=1e-12)
        if np.any(wrong):
            first = int(np.argmax(wrong))
            raise BundleRefused(
                f"the booster does not predict what it did in training: {int(wrong.sum())} of "
                f"{len(raw)} golden rows differ, row {first} is {raw[first]:.9g}, not "
                f"{self.raw[first]:.9g}; train the policy anew"
            )


def attempt(booster: bytes, golden: Golden, *, timeout_s: float = TIMEOUT_S) -> None:
    """Loads the booster in a child and compares its scores; a crash ends the child alone.

    Raises BundleRefused for a crash or other scores, Hangs when there is no answer in
    time, and Unavailable when the machine failed: the child killed, no room for its files.
    """
    try:
        answer = _try(booster, golden, timeout_s)
    except OSError as error:
        raise Unavailable(
            f"the booster could not be tried ({error.strerror}); make room in "
            f"{tempfile.gettempdir()}, or try again"
        ) from error
    golden.compare(answer)


def _try(booster: bytes, golden: Golden, timeout_s: float) -> Floats:
    with tempfile.TemporaryDirectory(prefix="leadline-probe-") as name:
        directory = Path(name)
        (directory / ACCURACY).write_bytes(booster)
        (directory / "rows.f64").write_bytes(golden.rows.tobytes())
        return _answer(directory, golden.rows.shape[1], timeout_s)


def _answer(directory: Path, columns: int, timeout_s: float) -> Floats:
    answer, messages = directory / "answer", directory / "messages"
    command = [sys.executable, "-I", "-S", str(_PROBE), str(directory), _library(), str(columns)]
    with answer.open("wb") as out, messages.open("wb") as err:
        try:
            status = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=_environment(),
                cwd=directory,
                timeout=timeout_s,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            raise Hangs(f"the booster hangs: no answer within {timeout_s:g} s") from None
    if status != 0:
        raise _death(status, messages)
    try:
        return np.array(json.loads(answer.read_bytes()), np.float64)
    except ValueError:
        raise BundleRefused("the booster's trial gave no readable answer") from None


def _library() -> str:
    """Where LightGBM's shared library stands, wherever its package keeps it."""
    from lightgbm import basic  # noqa: PLC0415

    return str(vars(basic)["_LIB"]._name)  # noqa: SLF001


def _death(status: int, messages: Path) -> BundleRefused | Unavailable:
    """What the child's end says of the booster, or of the machine."""
    if status > 0:
        said = messages.read_bytes()[-200:].decode(errors="replace").strip().splitlines()[-1:]
        last = "".join(said) or str(status)
        if status == _TRANSIENT_EXIT:
            return Unavailable(f"the booster could not be tried ({last}); try again")
        return BundleRefused(f"the booster is refused by LightGBM: {last}")
    name = signal.Signals(-status).name
    if -status in (signal.SIGXCPU, signal.SIGALRM):
        return Hangs(f"the booster takes too long: the process that tried it ended by {name}")
    if -status in (signal.SIGKILL, signal.SIGTERM):
        return Unavailable(f"the process that tried the booster was ended by {name}; try again")
    return BundleRefused(f"the booster crashes the process that tried it ({name})")


def _environment() -> dict[str, str]:
    """No secret of this process, and one thread: several workers may try at once."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return kept | dict.fromkeys(_ONE_THREAD, "1")
