"""A real server with its gateway before the simulated provider, each in processes of their own."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from router.simulation.fleet import catalog
from router.simulation.provider import ProviderSettings, spawn
from router.types import Capability, Catalog
from tests.kit.server import Admin, ServerProcess, serving


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The base addresses, with /v1, of a gateway and of the provider behind it."""

    gateway: str
    provider: str
    server: ServerProcess

    def counters(self) -> dict[str, Any]:
        """What the provider has counted."""
        with urllib.request.urlopen(self._simulated("counters"), timeout=10) as reply:
            told: dict[str, Any] = json.loads(reply.read())
        return told

    def go_wrong(self, *faults: dict[str, Any]) -> None:
        """Has the provider's next calls go wrong; none ends what is left of earlier ones."""
        request = urllib.request.Request(
            self._simulated("faults"), json.dumps(faults).encode(), method="PUT"
        )
        urllib.request.urlopen(request, timeout=10).close()

    def _simulated(self, path: str) -> str:
        return self.provider.removesuffix("/v1") + "/simulated/" + path


def able(endpoint: str) -> Catalog:
    """The simulated models, able to do all that a query may need."""
    described = catalog(endpoint)
    models = tuple(replace(model, capabilities=frozenset(Capability)) for model in described.models)
    return replace(described, models=models)


@contextmanager
def served(
    dsn: str, state_dir: Path, provider: ProviderSettings | None = None, **settings: str
) -> Iterator[Served]:
    """Both, serving inside the block to anyone."""
    with spawn(provider or ProviderSettings(count=50)) as endpoint, Admin(dsn) as admin:
        admin.seed(able(endpoint), "default")
        with serving(state_dir, dsn, gateway_port="0", **settings) as server:
            found = re.search(r"gateway on port (\d+)", server.line)
            assert found is not None, server.line
            url = f"http://127.0.0.1:{found[1]}/v1"
            yield Served(gateway=url, provider=endpoint, server=server)
