"""Values that a bundle holds as arrays, each named by its class's prefix and its field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, ClassVar, Self

import numpy as np

from router.types import Floats


class Bundled:
    """A dataclass of arrays that goes into a bundle and comes out of it again.

    A field with a default is not among them: it follows from something else.
    """

    __slots__ = ()
    PREFIX: ClassVar[str]

    @classmethod
    def from_mapping(cls, arrays: Mapping[str, Floats]) -> Self:
        """Picks the arrays by name out of a bundle's. Raises KeyError when one is missing."""
        read = {name: np.asarray(arrays[cls.PREFIX + name], np.float64) for name in _names(cls)}
        return cls(**read)

    def to_mapping(self) -> dict[str, Floats]:
        """The arrays under their names in a bundle."""
        return {self.PREFIX + name: np.asarray(getattr(self, name)) for name in _names(type(self))}


def _names(cls: Any) -> list[str]:
    return [each.name for each in fields(cls) if each.default_factory is MISSING]
