"""What the supervisor tells a worker when it starts it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Self

from router.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The worker's number from 0, the port that all share, and where the database is."""

    settings: Settings
    dsn: str
    port: int
    worker: int

    def to_json(self) -> bytes:
        """One line. It holds the DSN's password, so it goes through a pipe and nowhere else."""
        settings = self.settings.model_dump(mode="json", exclude={"dsn"})
        told = {"settings": settings, "dsn": self.dsn, "port": self.port, "worker": self.worker}
        return json.dumps(told).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes) -> Self:
        """What `to_json` wrote."""
        told = json.loads(line)
        return cls(**told | {"settings": Settings(**told["settings"])})
