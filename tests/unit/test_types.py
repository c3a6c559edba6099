"""Values refuse what makes no sense, and name the field."""

from __future__ import annotations

from typing import Any

import pytest

from router.errors import InvalidInput
from router.types import Arm, Bounds, Role, check_arm


def test_an_arm_is_named_by_its_parameters_in_order() -> None:
    one = Arm(model="m", strategy="self_consistency", params={"samples": 3, "base": "single"})
    other = Arm(model="m", strategy="self_consistency", params={"base": "single", "samples": 3})
    assert one == other
    assert hash(one) == hash(other)
    assert one.key == "m:self_consistency?base=single&samples=3"
    assert Arm(model="m", strategy="single").key == "m:single"


BAD_ARMS: dict[str, tuple[dict[str, Any], str]] = {
    "no model": ({"model": ""}, "arm.model"),
    "a key's mark": ({"model": "m?x=1"}, "arm.model"),
    "nul": ({"strategy": "sing\x00le"}, "arm.strategy"),
    "two strategies": ({"strategy": "a:b"}, "arm.strategy"),
    "endless": ({"model": "m" * 129}, "arm.model"),
    "parameter's name": ({"params": {"a&b": 1}}, "arm.params"),
    "a whole number beyond any float": ({"params": {"samples": 10**400}}, "arm.params"),
    "too much": ({"params": {"tokens": 1e20}}, "arm.params"),
    "negative": ({"params": {"tokens": -1e7}}, "arm.params"),
    "not a number": ({"params": {"x": float("nan")}}, "arm.params"),
    "infinite": ({"params": {"x": float("inf")}}, "arm.params"),
    "nothing": ({"params": {"x": None}}, "arm.params"),
    "a list": ({"params": {"x": [1]}}, "arm.params"),
    "long text": ({"params": {"x": "y" * 65}}, "arm.params"),
    "text of a control character": ({"params": {"x": "a\nb"}}, "arm.params"),
    "text that reads as too much": ({"params": {"x": "1" * 60}}, "arm.params"),
    "text that reads as no number": ({"params": {"x": "NaN"}}, "arm.params"),
    "too many": ({"params": {f"p{number}": 1 for number in range(17)}}, "arm.params"),
}


@pytest.mark.parametrize("name", BAD_ARMS)
def test_an_arm_that_leadline_cannot_hold_is_refused_by_field(name: str) -> None:
    changes, field = BAD_ARMS[name]
    given = {"model": "m", "strategy": "single"} | changes
    with pytest.raises(InvalidInput) as caught:
        check_arm(Arm(**given))
    assert caught.value.field == field


def test_an_arm_of_a_plug_in_with_plain_parameters_is_held() -> None:
    params = {"samples": 3, "base": "single", "warm": True, "heat": 0.7}
    check_arm(Arm(model="org/m-1.5 (large)", strategy="my_plug_in", params=params))


@pytest.mark.parametrize("budget", [-1, 101])
def test_a_compute_budget_is_from_1_to_100(budget: int) -> None:
    with pytest.raises(InvalidInput, match="compute_budget"):
        Bounds(compute_budget=budget)


def test_a_role_may_do_what_lower_roles_may() -> None:
    assert list(Role) == [Role.CALLER, Role.ADMIN, Role.OPERATOR]
