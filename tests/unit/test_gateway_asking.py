"""What a chat completion request asks: read strictly, and whatever comes, refused by its field."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import InvalidInput, LeadlineError, NotFound
from router.gateway.asking import Asked, asked
from router.gateway.body import MOST_DEPTH, read_json
from router.gateway.naming import named
from router.gateway.refusals import KINDS, refusal
from router.gateway.writing import completion_id, read_completion_id
from router.policy.policy import static_policy
from router.serving.state import State
from router.types import Arm, Capability, Catalog, Model
from tests.kit.policies import catalog

KEY = b"a key of this test"
PLAIN: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}
STATE = State.of(static_policy(catalog()), catalog())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 60), 1 << 60) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = (
    *("model", "messages", "n", "stream", "stream_options", "temperature", "top_p", "seed"),
    *("stop", "max_tokens", "logprobs", "response_format", "tools", "tool_choice", "user"),
    *("slo", "compute_budget", "max_cost_usd", "timeout_s", "conversation_id", "functions"),
)


def read(headers: dict[str, str] | None = None, **fields: Any) -> Asked:
    return asked(PLAIN | fields, headers or {}, key=KEY, most_s=600.0)


def refused(body: dict[str, Any]) -> InvalidInput | None:
    try:
        asked(body, {}, key=KEY, most_s=600.0)
    except InvalidInput as error:
        return error
    return None


@given(st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4), st.booleans())
def test_whatever_comes_is_read_or_refused_by_its_field(
    fields: dict[str, Any], on_top: bool
) -> None:
    error = refused(PLAIN | fields if on_top else fields)
    assert error is None or (error.field and refusal(error).status == 400)


@given(st.binary(max_size=200) | JSON.map(orjson.dumps))
def test_whatever_bytes_come_are_an_object_or_are_refused(body: bytes) -> None:
    with suppress(InvalidInput):
        assert isinstance(read_json(bytearray(body)), dict)


@pytest.mark.parametrize("depth", [MOST_DEPTH + 1, 900, 100_000])
def test_what_is_nested_too_deep_is_refused(depth: int) -> None:
    with pytest.raises(InvalidInput):
        read_json(bytearray(b'{"a":' + b"[" * depth + b"]" * depth + b"}"))


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "poet", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages.0.content"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"n": 10_000}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"stop": [1]}, "stop"),
        ({"compute_budget": 101}, "compute_budget"),
        ({"max_cost_usd": -1}, "max_cost_usd"),
        ({"functions": [{"name": "f"}]}, "functions"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        read(**fields)
    assert raised.value.field == param
    assert refusal(raised.value).error["param"] == param


def test_a_header_that_is_no_number_is_refused_by_its_field() -> None:
    with pytest.raises(InvalidInput) as raised:
        read({"x-leadline-compute-budget": "lots"})
    assert raised.value.field == "compute_budget"


def test_fields_that_nobody_knows_are_left_alone() -> None:
    assert read(metadata={"a": "b"}, tomorrow=[1]).request == read().request


def test_images_tools_and_json_are_needs_and_images_stay_as_they_came() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    content = [{"type": "text", "text": "What is it?"}, image]
    request = read(
        messages=[{"role": "user", "content": content}],
        tools=[{"type": "function", "function": {"name": "f"}}],
        response_format={"type": "json_object"},
    ).request
    assert request.needs == set(Capability)
    assert request.task.messages[0]["content"] == content
    assert request.task.answer_kind == "json"


def test_a_named_models_needs_are_its_callers_business() -> None:
    fields: dict[str, Any] = {"tools": [{"type": "function", "function": {"name": "f"}}]}
    assert read(**fields).of_model(named("m0", STATE)).needs == frozenset()
    assert read(**fields).of_model(named("auto", STATE)).needs == {Capability.TOOLS}


def test_no_request_takes_longer_than_the_settings_allow() -> None:
    assert read().request.deadline_s == 600.0
    assert read(timeout_s=5).request.deadline_s == 5.0
    assert read({"x-leadline-timeout-s": "9000"}).request.deadline_s == 600.0


def test_two_slos_contradict_each_other() -> None:
    with pytest.raises(InvalidInput, match="names another"):
        read(slo="slow").of_model(named("auto:fast", STATE))
    assert read(slo="fast").of_model(named("auto:fast", STATE)).slo == "fast"


def test_turns_of_a_long_conversation_share_an_id_that_tells_nothing() -> None:
    opening = [{"role": "system", "content": "Be brief. " * 200}, {"role": "user", "content": "Hi"}]
    later = [*opening, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "So?"}]
    other = [opening[0], {"role": "user", "content": "Ho"}]
    first, second, third = (
        read(messages=each).request.conversation_id for each in (opening, later, other)
    )
    assert first == second != third
    assert (
        first
        != asked(PLAIN | {"messages": opening}, {}, key=b"x", most_s=1).request.conversation_id
    )
    assert read().request.conversation_id == ""
    assert read(messages=opening, conversation_id="c").request.conversation_id == "c"


def test_a_name_is_a_model_with_an_arm_an_arm_or_unknown() -> None:
    wordy = Model(name="wordy", input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)
    idle = Model(name="idle", input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)
    arms = tuple(
        Arm(model="wordy", strategy="chain_of_thought", params={"tokens": n}) for n in (256, 512)
    )
    described = Catalog(models=(wordy, idle), arms=arms)
    state = State.of(static_policy(described), described)
    assert named("wordy", state).arms == {arm.key for arm in arms}
    assert named(arms[0].key, state).arms == {arms[0].key}
    for unknown in ("idle", "gpt-9"):
        with pytest.raises(NotFound) as raised:
            named(unknown, state)
        assert refusal(raised.value).error["code"] == "model_not_found"


def test_every_refusal_is_in_openais_shape() -> None:
    for reason, kind in KINDS.items():
        refused = refusal(LeadlineError("What to do.", reason=reason))
        assert refused.status == kind.status
        assert set(orjson.loads(refused.body)["error"]) == {"message", "type", "param", "code"}
    assert refusal(LeadlineError("x", reason="NEW")).status == 500


@given(st.uuids(version=4), st.integers(0, 99))
def test_an_answers_id_leads_back_to_its_attempt(decision_id: Any, attempt: int) -> None:
    assert read_completion_id(completion_id(decision_id, attempt), "x") == (decision_id, attempt)
