"""Each tenant is told at its own webhook, under its own secret, which nobody else sees."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from router import cli
from router.store.engine import DatabaseRole, connect
from router.store.seams import Topic
from router.store.webhooks import PostgresWebhooks
from tests.kit.postgres import rows
from tests.kit.server import Admin
from tests.kit.watching import Receiver, catch_up, receiver, world
from training.watch.telling import Teller
from training.watch.webhook import EVENT_ID, SIGNATURE, Webhook, signature

NOW = datetime(2026, 11, 22, tzinfo=UTC)


@contextmanager
def webhooks(dsn: str, role: DatabaseRole = DatabaseRole.ADMIN) -> Iterator[PostgresWebhooks]:
    engine = connect(dsn, role=role)
    try:
        yield PostgresWebhooks(engine)
    finally:
        engine.dispose()


def made(dsn: str, *names: str) -> list[UUID]:
    with Admin(dsn) as admin:
        return [admin.tenants.create(name, actor="test").tenant_id for name in names]


def event(name: str) -> dict[str, Any]:
    return {"id": name, "state": "broken"}


def audited(dsn: str) -> list[tuple[Any, ...]]:
    query = "select action, subject from audit_log where action like 'webhooks%%' order by entry_id"
    return list(rows(dsn, query))


def signed(told: Receiver, secret: str) -> list[str]:
    """Ids of the posts, all of which must carry the secret's signature."""
    for post in told.posts:
        assert post.headers[SIGNATURE] == signature(secret.encode(), post.body)
    return [post.headers[EVENT_ID] for post in told.posts]


def warned(*_: Any, **__: Any) -> None:
    return


def test_each_tenant_is_told_of_its_own_events_alone(dsn: str) -> None:
    acme, other, none = made(dsn, "acme", "other", "none")
    with receiver() as first, receiver() as second, receiver() as ours, webhooks(dsn) as known:
        one = known.put(acme, first.url, actor="test", private=True)
        two = known.put(other, second.url, actor="test", private=True)
        teller = Teller(Webhook(ours.url, "installation"), private=True)
        teller.follow(known.current())
        untold = [(acme, event("a")), (other, event("b")), (none, event("c")), (acme, event("d"))]
        assert teller.tell(untold, NOW, known, warned) == {"a", "b", "c", "d"}
        assert signed(first, one.secret) == ["a", "d"]
        assert signed(second, two.secret) == ["b"]
        assert signed(ours, "installation") == ["c"]
        assert one.secret != two.secret
        assert [(each.tenant, each.delivered) for each in known.shown()] == [
            ("acme", 2),
            ("other", 1),
        ]


def test_a_webhook_that_fails_is_counted_audited_once_and_holds_up_no_other(dsn: str) -> None:
    acme, other = made(dsn, "acme", "other")
    untold = [(acme, event("a")), (acme, event("b")), (other, event("c"))]
    with receiver((503, ""), (503, "")) as bad, receiver() as good, webhooks(dsn) as known:
        known.put(acme, bad.url, actor="test", private=True)
        known.put(other, good.url, actor="test", private=True)
        with webhooks(dsn, DatabaseRole.TRAINER) as counted:
            teller = Teller(None, private=True)
            teller.follow(counted.current())
            assert teller.tell(untold, NOW, counted, warned) == {"c"}
            assert teller.tell(untold[:2], NOW, counted, warned) == set()
            teller.follow(counted.current())
            assert teller.tell(untold[:2], NOW + timedelta(seconds=1), counted, warned) == set()
            [failing, _] = known.shown()
            assert (failing.failed, failing.failed_in_a_row) == (2, 2)
            assert failing.last_failure == "it answered 503"
            assert teller.tell(untold[:2], NOW + timedelta(minutes=1), counted, warned) == {
                "a",
                "b",
            }
        assert bad.ids == ["a", "a", "a", "b"]
        [mended, _] = known.shown()
        assert (mended.delivered, mended.failed, mended.failed_in_a_row) == (2, 2, 0)
    assert [action for action, _ in audited(dsn)] == [
        "webhooks.set",
        "webhooks.set",
        "webhooks.fail",
    ]


def test_what_nobody_is_told_of_waits_for_nobody(dsn: str) -> None:
    [acme] = made(dsn, "acme")
    with webhooks(dsn) as known:
        assert Teller(None).tell([(acme, event("a"))], NOW, known, warned) == {"a"}


def test_the_watcher_follows_a_webhook_that_is_set_and_removed(dsn: str) -> None:
    with world(dsn) as acme, receiver() as own, receiver() as ours, webhooks(dsn) as known:
        slo = acme.put(min_accuracy=0.8)
        with acme.watcher(Webhook(ours.url, "installation")) as watcher:
            catch_up(watcher)
            secret = known.put(acme.tenant_id, own.url, actor="test", private=True).secret
            acme.scored(acme.decided(slo, 300), 0.3)
            catch_up(watcher)
            assert len(signed(own, secret)) == 1
            assert (own.posts[0].event["tenant"], own.posts[0].event["state"]) == ("acme", "broken")
            known.remove(acme.tenant_id, actor="test")
            acme.put(min_accuracy=0.5)
            catch_up(watcher)
        assert len(own.posts) == 1
        assert [post.event["state"] for post in ours.posts] == ["holding"]


def test_a_private_address_is_not_told_once_it_is_not_permitted(dsn: str) -> None:
    with world(dsn) as acme, receiver() as own, webhooks(dsn) as known:
        known.put(acme.tenant_id, own.url, actor="test", private=True)
        slo = acme.put(min_accuracy=0.8)
        with acme.watcher(private=False) as watcher:
            catch_up(watcher)
            acme.scored(acme.decided(slo, 300), 0.3)
            catch_up(watcher)
        assert own.posts == []
        assert known.shown()[0].last_failure == "PrivateAddress"
        assert [each["state"] for each in acme.kept().untold] == ["broken"]


def test_setting_is_announced_and_counting_is_not(dsn: str) -> None:
    [acme] = made(dsn, "acme")

    def heard() -> object:
        query = "select revision from revisions where topic = %s"
        return rows(dsn, query, Topic.TENANTS.value)

    with webhooks(dsn) as known:
        before = heard()
        first = known.put(acme, "https://hooks.example.org/hush", actor="test")
        once = heard()
        known.delivered(acme, 1)
        known.failed(acme, "TimeoutError", actor="test")
        assert heard() == once != before
        second = known.put(acme, "https://hooks.example.org/hush", actor="test")
        assert heard() != once
        assert first.secret != second.secret
        assert known.shown()[0].failed == 0
        twice = heard()
        assert known.remove(acme, actor="test")
        assert heard() != twice
        assert not known.remove(acme, actor="test")
    assert {subject for _, subject in audited(dsn)} == {"https://hooks.example.org"}


def test_the_secret_is_printed_once_and_the_path_never(
    dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEADLINE_DSN", dsn)
    made(dsn, "acme")
    url = "https://hooks.example.org:8443/hush"
    assert cli.run(["tenants", "set-webhook", "acme", url]) == 0
    said = capsys.readouterr().out
    assert "https://hooks.example.org:8443" in said
    secret = said.split()[-1]
    assert len(secret) == 64
    for arguments in (["tenants", "webhooks"], ["tenants", "webhooks", "--json"]):
        assert cli.run(arguments) == 0
        said = capsys.readouterr().out
        assert "https://hooks.example.org:8443" in said
        assert secret not in said
        assert "hush" not in said
    with webhooks(dsn) as known:
        assert "hush" not in repr(known.current())
        assert secret not in repr(known.current())
    entries = rows(dsn, "select row_to_json(audit_log)::text from audit_log")
    assert not any("hush" in str(entry) or secret in str(entry) for entry in entries)
    assert cli.run(["tenants", "remove-webhook", "acme", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"tenant": "acme", "removed": True}


def test_a_private_webhook_is_refused_in_one_line_unless_permitted(
    dsn: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LEADLINE_DSN", dsn)
    made(dsn, "acme")
    asked = ["tenants", "set-webhook", "acme", "http://127.0.0.1:8080/hush"]
    assert cli.run(asked) != 0
    said = capsys.readouterr().err
    assert "LEADLINE_WEBHOOK_PRIVATE=true" in said
    assert said.count("\n") == 1
    assert "hush" not in said
    monkeypatch.setenv("LEADLINE_WEBHOOK_PRIVATE", "true")
    assert cli.run(asked) == 0
