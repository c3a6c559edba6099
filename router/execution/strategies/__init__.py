"""The strategies by name: one file each, others by the entry-point group `leadline.strategies`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points

from router.errors import InvalidInput
from router.execution.strategies.chain_of_thought import ChainOfThought
from router.execution.strategies.dynamic import Dynamic
from router.execution.strategies.refinement import Refinement
from router.execution.strategies.self_consistency import SelfConsistency
from router.execution.strategies.single import Single
from router.execution.strategies.tree_of_thoughts import TreeOfThoughts
from router.execution.strategy import Runnable
from router.execution.verifiers import Verifiers

GROUP = "leadline.strategies"

_STANDARD: Mapping[str, Callable[[], Runnable]] = {
    each.name: each
    for each in (Single, ChainOfThought, SelfConsistency, Refinement, TreeOfThoughts, Dynamic)
}


def strategy(name: str, verifiers: Verifiers | None = None) -> Runnable:
    """The strategy of an arm, by its name. Raises InvalidInput where there is none.

    `verifiers` are those that the operator allows. An entry point names a class, or a function
    without arguments, that makes a strategy.
    """
    if name == Refinement.name:
        return Refinement(verifiers)
    made = _STANDARD.get(name)
    if made is not None:
        return made()
    for entry in entry_points(group=GROUP, name=name):
        runnable: Runnable = entry.load()()
        return runnable
    raise InvalidInput(
        f"{name!r:.80} cannot be run here; use one of {', '.join(_STANDARD)}, or install the "
        f"package that offers it as an entry point of {GROUP}",
        field="arm.strategy",
    )
