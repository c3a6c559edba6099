"""The verifiers by name; a user's own come by the entry-point group `leadline.verifiers`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from router.errors import InvalidInput, PermissionDenied
from router.execution.verifiers.confined import Limits
from router.execution.verifiers.functions import FunctionVerifier
from router.execution.verifiers.model import ModelVerifier
from router.execution.verifiers.schema import SchemaVerifier
from router.execution.verifiers.unit_tests import UnitTestVerifier
from router.execution.verifiers.verdict import CANNOT_TELL, Checked, Verdict, Verifier
from router.execution.verifiers.webhook import WebhookVerifier

__all__ = ["CANNOT_TELL", "Checked", "Verdict", "Verifier", "Verifiers"]

GROUP = "leadline.verifiers"
SELF = "self"
"""No verifier: the model checks its answer as it gives the next one."""

_STANDARD: Mapping[str, Callable[[], Verifier]] = {
    "model": ModelVerifier,
    "json_schema": SchemaVerifier,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifiers:
    """The verifiers that an operator allows.

    `code` allows running what models write, in bounds; `webhooks` are addresses by the names
    that callers know them by.
    """

    code: bool = False
    limits: Limits = field(default_factory=Limits)
    webhooks: Mapping[str, str] = field(default_factory=dict)

    def named(self, name: str) -> Verifier | None:
        """The verifier, None for 'self'. Raises InvalidInput and PermissionDenied."""
        if name == SELF:
            return None
        if name == "unit_tests":
            return self._runner()
        if name in _STANDARD:
            return _STANDARD[name]()
        if name in self.webhooks:
            return WebhookVerifier(self.webhooks[name])
        for entry in entry_points(group=GROUP, name=name):
            return _made(entry.load())
        known = (SELF, "unit_tests", *_STANDARD, *self.webhooks)
        raise InvalidInput(
            f"{name!r:.80} is none of {', '.join(known)}, and no installed package offers it",
            field="verifier",
        )

    def _runner(self) -> Verifier:
        if not self.code:
            raise PermissionDenied("running code is off here; the operator may allow it")
        return UnitTestVerifier(self.limits)


def _made(loaded: Any) -> Verifier:
    """An entry point names a class with `verify`, or a function (see `functions.Check`)."""
    if hasattr(loaded, "verify"):
        verifier: Verifier = loaded() if isinstance(loaded, type) else loaded
        return verifier
    return FunctionVerifier(loaded)
