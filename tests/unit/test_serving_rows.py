"""What was logged is what was said: a reply can be made again from its row."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from uuid import UUID

import pytest
from hypothesis import given, settings

from router import pipeline
from router.bundle.embedder import load_embedder
from router.bundle.loader import load_archive
from router.clients import replies
from router.clients.messages import slo_message
from router.conditions import PLAIN, Backend, Conditions, Conversation, Promise
from router.errors import InvalidInput
from router.loading import bind, learned
from router.policy.choice import choose
from router.policy.explain import explain
from router.policy.policy import Policy, static_policy
from router.policy.worth import worth
from router.requested import again
from router.serving.messages import arm_from, slo_of
from router.serving.rows import alternatives, arm_of, decision_row, dump, read
from router.serving.state import State
from router.serving.wire import arm_message, question, reply
from router.slo import Slo
from router.types import Arm, Bounds, Decision, PolicySource, Predictions, Query
from router.v1.router_pb2 import Needs, RouteRequest
from tests.kit.bundles import TRUSTED
from tests.kit.policies import catalog, some_predictions, some_slos, standing
from tests.kit.serving_bundles import bundle

NOW = datetime(2026, 1, 2, tzinfo=UTC)
TENANT, DECISION = UUID(int=1), UUID(int=2)
CATALOG = catalog()
STATE = State.of(static_policy(CATALOG), CATALOG)
REQUEST = RouteRequest(
    text="What?",
    labels={"a": "b"},
    max_cost_usd=0.5,
    compute_budget=50,
    allowed_arms=[STATE.keys[0], STATE.keys[1]],
    needs=Needs(json=True, context_tokens=100),
    may_continue=True,
)
ASKED = question(REQUEST)


@cache
def learnt() -> Policy:
    loaded = load_archive(bundle(CATALOG), trusted=TRUSTED, probe=False)
    return bind(learned(loaded, load_embedder()), CATALOG, 1)


def decision(predictions: Predictions) -> Decision:
    query, slo = Query(text="x", input_tokens=3), Slo()
    eligible = STATE.policy.table.eligible(query, slo, Bounds())
    return Decision(
        decision_id=DECISION,
        occurred_at=NOW,
        arms=STATE.policy.arms,
        predictions=predictions,
        choice=choose(standing(predictions), eligible, slo, Bounds(), worth(slo, None)),
        difficulty=0.25,
        input_tokens=3,
        slo=slo,
        policy_version=7,
        policy_source=PolicySource.LEARNED,
        should_continue=True,
    )


@settings(max_examples=50, deadline=None)
@given(some_predictions())
def test_a_reply_made_from_the_stored_row_is_the_one_that_was_sent(
    predictions: Predictions,
) -> None:
    made = decision(predictions)
    row = decision_row(made, ASKED, TENANT, STATE.keys, alternatives(made, None))
    assert reply(read(dump(row)), STATE.arms) == reply(row, STATE.arms)


@settings(max_examples=50, deadline=None)
@given(some_predictions())
def test_alternatives_are_feasible_others_and_the_cheapest_comes_first(
    predictions: Predictions,
) -> None:
    made = decision(predictions)
    others = alternatives(made, None)
    assert len(others) == 3
    assert made.choice.index not in others
    costs = [predictions.cost_usd[index] for index in others]
    assert costs == sorted(costs)


@pytest.mark.parametrize("made_of", ["nothing", "a bundle"])
def test_an_explanation_survives_the_row_and_the_wire(made_of: str) -> None:
    policy = STATE.policy if made_of == "nothing" else learnt()
    [known] = policy.predict(["What?"])
    made = pipeline.decide(
        policy, ASKED.query, Slo(), ASKED.bounds, decision_id=DECISION, now=NOW, predicted=known
    )
    why = explain(policy, known, made, ASKED.query, ASKED.bounds)
    row = decision_row(made, ASKED, TENANT, STATE.keys, [], explanation=why)
    sent = reply(row, STATE.arms)
    assert replies.explanation(sent.explanation) == why
    again = reply(read(dump(row)), STATE.arms)
    assert again.SerializeToString(deterministic=True) == sent.SerializeToString(deterministic=True)


def test_a_decision_that_nobody_asked_to_explain_has_nothing_more_in_its_row() -> None:
    made = pipeline.decide(
        STATE.policy, ASKED.query, Slo(), ASKED.bounds, decision_id=DECISION, now=NOW
    )
    row = decision_row(made, ASKED, TENANT, STATE.keys, [])
    assert "explanation" not in row
    assert not reply(row, STATE.arms).HasField("explanation")


def test_a_logged_request_asks_the_same_again() -> None:
    made = pipeline.decide(
        STATE.policy, ASKED.query, Slo(), ASKED.bounds, decision_id=DECISION, now=NOW
    )
    row = read(dump(decision_row(made, ASKED, TENANT, STATE.keys, [])))
    query, bounds = again(row)
    assert bounds == ASKED.bounds
    assert (query.text, query.needs, query.needs_context_tokens) == (
        "What?",
        ASKED.query.needs,
        100,
    )


def test_a_caller_who_is_willing_to_continue_is_so_after_each_attempt() -> None:
    for request in (RouteRequest(text="x", may_continue=True), REQUEST):
        willing = question(request)
        assert willing.bounds.may_continue
        stored = {"query": "x", "input_tokens": 1, "request": willing.request}
        assert again(stored)[1] == willing.bounds
    plain = question(RouteRequest(text="x"))
    assert not plain.bounds.may_continue
    assert plain.request == {}


@pytest.mark.parametrize("arm", CATALOG.arms, ids=lambda arm: arm.key)
def test_an_arm_survives_its_key_and_the_wire(arm: Arm) -> None:
    assert arm_of(arm.key) == arm
    assert dict(arm_of(arm.key).params) == dict(arm.params)
    assert arm_from(arm_message(arm)) == arm


@settings(max_examples=50, deadline=None)
@given(some_slos())
def test_an_slo_survives_the_wire(slo: Slo) -> None:
    assert slo_of(slo_message(slo)) == slo


def test_a_bad_slo_names_its_field() -> None:
    message = slo_message(Slo(min_accuracy=0.5))
    message.latency_quantile = 0.42
    with pytest.raises(InvalidInput) as caught:
        slo_of(message)
    assert caught.value.field == "latency_quantile"


def test_conditions_can_be_read_from_a_row() -> None:
    backend = Backend(slowdown=2.0, available=False)
    promise = Promise(certificate_id="c", value_usd=0.5)
    spoken = Conversation(model="m0", cached_tokens=7)
    for conditions in (
        PLAIN,
        Conditions(backends={"m0": backend}, mean_cost_usd=0.0),
        Conditions(promise=promise, budget_left_usd=1.5, conversation=spoken),
    ):
        said = read(dump({"conditions": conditions.to_mapping()}))["conditions"]
        assert Conditions.from_mapping(said) == conditions
        usual, plain = asdict(PLAIN), asdict(conditions)
        assert conditions.to_mapping() == {
            name: value for name, value in plain.items() if value != usual[name]
        }
