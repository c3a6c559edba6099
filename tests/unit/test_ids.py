"""Decision ids prove whose they are, and stay the same for a retry."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import RFC_4122, UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.ids import decision_id, derived_uuid7, is_ours, time_of, uuid7

KEY = bytes(range(32))
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
times = st.datetimes(
    datetime(1970, 1, 1),  # noqa: DTZ001
    datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.just(UTC),
)
keys = st.binary(min_size=32, max_size=32)


@given(times)
def test_a_uuid7_is_one_and_tells_its_millisecond(now: datetime) -> None:
    value = uuid7(now)
    assert (value.version, value.variant) == (7, RFC_4122)
    assert timedelta(0) <= now - time_of(value) < timedelta(milliseconds=1)


@given(times, st.uuids(), st.none() | st.uuids(), keys)
def test_what_was_made_here_is_ours(
    now: datetime, tenant: UUID, request: UUID | None, key: bytes
) -> None:
    made = decision_id(tenant, request, now, key)
    assert (made.version, made.variant) == (7, RFC_4122)
    assert is_ours(made, tenant, key)


@given(st.uuids(), st.uuids(), keys, keys)
def test_another_tenants_or_instances_id_is_not_ours(
    tenant: UUID, other: UUID, key: bytes, other_key: bytes
) -> None:
    made = decision_id(tenant, None, NOW, key)
    assert is_ours(made, other, key) == (other == tenant)
    assert is_ours(made, tenant, other_key) == (other_key == key)


@given(st.uuids(), st.integers(0, 127))
def test_changing_any_bit_is_noticed(tenant: UUID, bit: int) -> None:
    made = decision_id(tenant, None, NOW, KEY)
    changed = UUID(int=made.int ^ (1 << bit))
    assert not is_ours(changed, tenant, KEY)


@given(st.uuids())
def test_a_stranger_is_not_ours(value: UUID) -> None:
    assert not is_ours(value, uuid4(), KEY)


@given(st.timedeltas(-timedelta(hours=23), timedelta(hours=23)))
def test_a_retry_with_a_version_7_request_id_gets_the_same_id_anywhere(late: timedelta) -> None:
    tenant, request = uuid4(), uuid7(NOW)
    first = decision_id(tenant, request, NOW, KEY)
    assert decision_id(tenant, request, NOW + late, KEY) == first
    assert time_of(first) == time_of(request)


@pytest.mark.parametrize("hours", [-25, 25])
def test_a_request_id_far_from_now_does_not_set_the_time(hours: int) -> None:
    request = uuid7(NOW + timedelta(hours=hours))
    assert time_of(decision_id(uuid4(), request, NOW, KEY)) == NOW


def test_a_request_id_at_the_end_of_time_does_not_set_the_time() -> None:
    request = UUID("ffffffff-ffff-7fff-bfff-ffffffffffff")
    assert time_of(decision_id(uuid4(), request, NOW, KEY)) == NOW


def test_without_a_request_id_every_call_is_another_decision() -> None:
    tenant = uuid4()
    assert len({decision_id(tenant, None, NOW, KEY) for _ in range(1000)}) == 1000


def test_tenants_with_one_request_id_have_two_decisions() -> None:
    request = uuid7(NOW)
    made = {decision_id(UUID(int=number), request, NOW, KEY).int >> 40 for number in (1, 2)}
    assert len(made) == 2


def test_another_version_and_the_end_of_time_tell_no_time() -> None:
    with pytest.raises(ValueError, match="version 7"):
        time_of(uuid4())
    with pytest.raises(ValueError, match="9999"):
        time_of(UUID("ffffffff-ffff-7fff-bfff-ffffffffffff"))


@given(times, st.lists(st.text(max_size=5), min_size=1))
def test_a_derived_id_follows_from_its_parts(at: datetime, parts: list[str]) -> None:
    assert derived_uuid7(at, *parts) == derived_uuid7(at, *parts)
    assert derived_uuid7(at, *parts) != derived_uuid7(at, *parts, "more")


def test_another_body_under_the_same_request_id_gets_an_id_of_its_own() -> None:
    tenant, request, now = uuid4(), uuid7(NOW), NOW
    one, again, other = (
        decision_id(tenant, request, now, KEY, digest=digest) for digest in (b"a", b"a", b"b")
    )
    assert one == again != other
    assert is_ours(other, tenant, KEY)
