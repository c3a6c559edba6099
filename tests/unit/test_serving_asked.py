"""A request is read and refused the same by whichever door it comes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import InvalidInput, LeadlineError, NotFound
from router.execution.deciding import Request
from router.serving.asked import Asked, asked, check
from router.serving.deciding import question_of
from router.serving.wire import question
from router.types import Bounds, Capability
from router.v1.router_pb2 import Needs, RouteRequest
from tests.kit.execution import request

Fields = Mapping[str, Any]
WORDS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8)


def by_grpc(text: str, said: Fields) -> Asked:
    bounds: Bounds = said.get("bounds", Bounds())
    needs = {str(need): True for need in said.get("needs", ())}
    tokens = said.get("needs_context_tokens", 0)
    texts = {name: said[name] for name in said if name not in {"bounds", "needs"}}
    texts.pop("needs_context_tokens", None)
    message = RouteRequest(
        text=text,
        compute_budget=bounds.compute_budget,
        allowed_arms=sorted(bounds.allowed_arms),
        max_cost_usd=bounds.max_cost_usd,
        may_continue=bounds.may_continue,
        needs=Needs(context_tokens=tokens, **needs),
        **texts,
    )
    return question(message)


def by_execution(text: str, said: Fields) -> Asked:
    return question_of(replace(request(text), **said))


@given(
    st.text(st.characters(blacklist_categories=["Cs"]), min_size=1).filter(str.strip),
    st.fixed_dictionaries(
        {},
        optional={
            "slo": WORDS,
            "subject": WORDS,
            "conversation_id": WORDS,
            "labels": st.dictionaries(WORDS, WORDS, max_size=3),
            "needs": st.frozensets(st.sampled_from(Capability)),
            "needs_context_tokens": st.integers(0, 9),
            "bounds": st.builds(
                Bounds,
                compute_budget=st.integers(0, 100),
                may_continue=st.booleans(),
                max_cost_usd=st.none() | st.just(0.5),
                allowed_arms=st.frozensets(st.sampled_from(["a:single", "b:single"])),
            ),
        },
    ),
)
def test_the_same_request_is_read_the_same_at_both_doors(text: str, said: Fields) -> None:
    digest = b"the digest is each door's own"
    here, there = by_execution(text, said), by_grpc(text, said)
    assert replace(here, digest=digest) == replace(there, digest=digest)
    assert by_execution(text, said).digest == here.digest
    assert by_execution(text + "?", said).digest != here.digest


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x", {"request_id": "no id"}),
        ("x", {"slo": "s" * 129}),
        ("x", {"subject": "s" * 257}),
        ("x", {"conversation_id": "c" * 257}),
        ("x", {"labels": {str(number): "" for number in range(17)}}),
        ("x", {"needs_context_tokens": -1}),
    ],
)
def test_what_one_door_refuses_the_other_does_with_the_same_words(text: str, said: Fields) -> None:
    refusals: list[LeadlineError] = []
    for door in (by_grpc, by_execution):
        with pytest.raises(InvalidInput) as caught:
            door(text, said)
        refusals.append(caught.value)
    first, second = refusals
    assert (first.reason, first.message) == (second.reason, second.message)


def test_a_worker_takes_no_query_beyond_its_bound_and_no_arm_that_it_lacks() -> None:
    with pytest.raises(InvalidInput, match="21 bytes, more than 20"):
        check(asked("ä" * 10 + "?"), arms=(), max_query_bytes=20)
    check(asked("ä" * 10), arms=(), max_query_bytes=20)
    for field in ("allowed_arms", "excluded_arms"):
        named = asked("x", bounds=Bounds(**{field: frozenset({"m:single"})}))  # type: ignore[arg-type]
        check(named, arms={"m:single"}, max_query_bytes=20)
        with pytest.raises(NotFound, match=f"{field}: the catalog has no enabled arm 'm:single'"):
            check(named, arms={"m:chain_of_thought"}, max_query_bytes=20)


def test_a_request_that_names_another_slo_is_another_request() -> None:
    plain = Request(task=request().task)
    assert question_of(plain).digest != question_of(replace(plain, slo="chat")).digest
