"""The watcher on real Postgres: floors are certified, watched, and told of when they break."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest

from router.conditions import MonitorState
from router.errors import NotFound
from router.policy.certificate import Certificate, Status
from router.store.watching import OneWatcher
from tests.kit.commands import answer, run
from tests.kit.records import attempt, outcome
from tests.kit.watching import TEXTS, World, catch_up, receiver, world
from training.watch.webhook import EVENT_ID, SIGNATURE, Webhook, signature

SECRET = "a long secret"
LEADLINE = [sys.executable, "-c", "from router.cli import main; main()"]


@pytest.fixture
def acme(dsn: str) -> Iterator[World]:
    with world(dsn) as made:
        yield made


def certificate(acme: World) -> Certificate:
    found = acme.in_force().certificate
    assert found is not None
    return Certificate.from_mapping(found.body)


def look(acme: World) -> int:
    found = acme.in_force().certificate
    assert found is not None
    return int(found.body["inputs"]["look"])


def test_a_floor_that_holds_is_certified_from_recorded_outcomes(acme: World) -> None:
    slo = acme.put(min_accuracy=0.5)
    decided = acme.decided(slo, 450)
    acme.scored(decided[:400], 0.9)
    with acme.watcher() as watcher:
        catch_up(watcher)
        assert not watcher.turn(datetime.now(UTC)).more
    found, record = certificate(acme), acme.in_force().certificate
    assert found.status is Status.CERTIFIED, found.message
    assert (found.n, found.lower_bound > 0.5) == (400, True)
    assert record is not None
    assert (record.slo_version, record.policy_version) == (slo.version, acme.policy_version)
    assert record.body["inputs"]["since_is"] == "promotion"
    statement = acme.kept().monitor.statement()
    assert statement.state is MonitorState.HOLDING
    assert (statement.outcomes, statement.decisions) == (400, 450)
    assert statement.coverage == pytest.approx(400 / 450)


def test_too_little_evidence_is_said_with_its_number_and_grows_into_a_certificate(
    acme: World,
) -> None:
    slo = acme.put(min_accuracy=0.5)
    with acme.watcher() as watcher:
        catch_up(watcher)
        assert certificate(acme).message.startswith("not certifiable: n = 0, needs about ")
        acme.scored(acme.decided(slo, 12), 0.8)
        catch_up(watcher)
        assert certificate(acme).n == 0
        acme.scored(acme.decided(slo, 28), 0.6)
        catch_up(watcher)
        assert certificate(acme).status is Status.NOT_CERTIFIABLE
        assert certificate(acme).message.startswith("not certifiable: n = 40, ")
        acme.scored(acme.decided(slo, 400), 0.9)
        catch_up(watcher)
        assert certificate(acme).certified
        assert certificate(acme).message.endswith("(look 2 at own outcomes)")
        assert certificate(acme).confidence == slo.confidence
        assert look(acme) == 2
        acme.put(min_accuracy=0.6)
        catch_up(watcher)
        assert look(acme) == 1


def test_other_slos_queries_certify_nothing(acme: World) -> None:
    other = acme.put(name="easy", min_accuracy=0.5)
    acme.scored(acme.decided(other, 300), 1.0)
    slo = acme.put(min_accuracy=0.5)
    acme.scored(acme.decided(slo, 8), 1.0)
    with acme.watcher() as watcher:
        catch_up(watcher)
    assert (certificate(acme).status, certificate(acme).n) == (Status.NOT_CERTIFIABLE, 8)


def test_what_taught_the_policy_and_what_has_no_propensity_certifies_nothing(acme: World) -> None:
    slo = acme.put(min_accuracy=0.5)
    acme.scored(acme.decided(slo, 50), 1.0)
    acme.scored(acme.decided(slo, 50, propensity=None), 1.0)
    acme.promote(trees=5)
    acme.scored(acme.decided(slo, 30), 1.0)
    with acme.watcher() as watcher:
        catch_up(watcher)
    assert certificate(acme).n == 30


def test_an_answer_that_was_given_up_counts_as_wrong(acme: World) -> None:
    slo = acme.put(min_accuracy=0.5)
    decided = acme.decided(slo, 60, should_continue=True)
    acme.ship([attempt(each, keep=False) for each in decided])
    acme.ship([outcome(each, 1, score=1.0) for each in decided])
    with acme.watcher() as watcher:
        catch_up(watcher)
        assert certificate(acme).estimate < 0.2
        assert acme.kept().monitor.tally.outcomes == 0
        later = datetime.now(UTC) + timedelta(minutes=2)
        catch_up(watcher, later)
        assert acme.kept().monitor.tally.mean == 1.0


def test_an_outcome_dated_ahead_keeps_a_monitor_waiting_ten_minutes_at_most(acme: World) -> None:
    slo = acme.put(min_accuracy=0.5)
    ahead = datetime.now(UTC) + timedelta(days=3)
    decided = acme.decided(slo, 30, should_continue=True)
    acme.ship([outcome(each, score=1.0, occurred_at=ahead) for each in decided])
    with acme.watcher() as watcher:
        catch_up(watcher)
        assert acme.kept().monitor.tally.outcomes == 0
        catch_up(watcher, datetime.now(UTC) + timedelta(minutes=11))
    assert acme.kept().monitor.tally.outcomes == 30


def test_one_slow_slo_rests_and_keeps_no_other_waiting(acme: World) -> None:
    for name in ("a slow one", "chat"):
        acme.scored(acme.decided(acme.put(name=name, min_accuracy=0.5), 60), 0.9)
    now = datetime.now(UTC)
    with acme.watcher(slow="a slow one") as watcher:
        catch_up(watcher, now)
        assert acme.kept().monitor.tally.outcomes == 60
        assert acme.in_force("a slow one").monitor is None
    with acme.watcher() as watcher:
        catch_up(watcher, now)
    assert acme.kept("a slow one").monitor.tally.outcomes == 60


def test_a_broken_floor_is_audited_and_told_once(acme: World) -> None:
    slo = acme.put(min_accuracy=0.8)
    with receiver() as told, acme.watcher(Webhook(told.url, SECRET)) as watcher:
        catch_up(watcher)
        acme.scored(acme.decided(slo, 300), 0.3)
        for _ in range(3):
            catch_up(watcher)
        with acme.watcher(Webhook(told.url, SECRET)) as another:
            catch_up(another)
    assert acme.changes() == ["holding", "broken"]
    (post,) = told.posts
    assert post.headers[SIGNATURE] == signature(SECRET.encode(), post.body)
    assert post.headers[EVENT_ID] == post.event["id"]
    said = {name: post.event[name] for name in ("tenant", "slo", "before", "state")}
    assert said == {"tenant": "acme", "slo": "chat", "before": "holding", "state": "broken"}
    assert post.event["statement"]["outcomes"] == 300
    assert not any(text.encode() in post.body for text in TEXTS)
    assert acme.kept().untold == ()


def test_an_event_that_was_not_taken_is_told_again_under_its_id(acme: World) -> None:
    slo = acme.put(min_accuracy=0.8)
    now = datetime.now(UTC)
    with (
        receiver() as elsewhere,
        receiver((503, ""), (302, elsewhere.url)) as told,
        acme.watcher(Webhook(told.url, SECRET)) as watcher,
    ):
        catch_up(watcher, now)
        acme.scored(acme.decided(slo, 300), 0.3)
        for later_s in (0, 0.5, 2, 2.5, 6, 60):
            catch_up(watcher, now + timedelta(seconds=later_s))
    assert len(told.posts) == 3
    assert len(set(told.ids)) == 1
    assert elsewhere.posts == []
    assert acme.changes() == ["holding", "broken"]


def test_a_webhook_that_is_away_keeps_nothing_waiting(acme: World) -> None:
    slo = acme.put(min_accuracy=0.8)
    with receiver() as gone:
        url = gone.url
    with acme.watcher(Webhook(url, SECRET)) as watcher:
        catch_up(watcher)
        acme.scored(acme.decided(slo, 300), 0.3)
        catch_up(watcher)
    assert [event["state"] for event in acme.kept().untold] == ["broken"]
    with receiver() as told, acme.watcher(Webhook(told.url, SECRET)) as watcher:
        catch_up(watcher)
        assert [post.event["state"] for post in told.posts] == ["broken"]


def test_late_and_double_outcomes_count_once(acme: World) -> None:
    slo = acme.put(min_accuracy=0.5)
    with acme.watcher() as watcher:
        catch_up(watcher)
        decided = acme.decided(slo, 50)
        acme.scored(decided[:20], 1.0)
        catch_up(watcher)
        acme.scored(decided[:30], 1.0)
        acme.scored(decided[10:30], 0.0)
        catch_up(watcher)
    tally = acme.kept().monitor.tally
    assert (tally.outcomes, tally.decisions, tally.mean) == (30, 50, 1.0)


def test_novel_queries_are_counted_apart(acme: World) -> None:
    slo = acme.put(min_accuracy=0.5)
    acme.scored(acme.decided(slo, 40, novelty=0.2), 1.0)
    acme.scored(acme.decided(slo, 10, novelty=0.999), 0.0)
    with acme.watcher() as watcher:
        catch_up(watcher)
    tally = acme.kept().monitor.tally
    assert (tally.outcomes, tally.decisions) == (40, 40)
    assert (tally.apart_outcomes, tally.apart_decisions, tally.apart_mean) == (10, 10, 0.0)
    record = acme.in_force().certificate
    assert record is not None
    assert record.body["inputs"]["novel"] == 10


def test_broken_stays_until_another_policy_or_slo_begins_anew(acme: World) -> None:
    slo = acme.put(min_accuracy=0.8)
    with acme.watcher() as watcher:
        catch_up(watcher)
        acme.scored(acme.decided(slo, 200), 0.2)
        catch_up(watcher)
        acme.scored(acme.decided(slo, 200), 1.0)
        catch_up(watcher)
        assert acme.kept().monitor.state is MonitorState.BROKEN
        late = acme.decided(slo, 10)
        acme.promote(trees=5)
        catch_up(watcher)
        assert acme.kept().monitor.tally.decisions == 0
        acme.scored(late, 0.0)
        acme.scored(acme.decided(slo, 30), 1.0)
        catch_up(watcher)
        assert acme.kept().versions == (slo.version, acme.policy_version)
        assert acme.kept().monitor.tally.outcomes == 30
        changed = acme.put(min_accuracy=0.7)
        catch_up(watcher)
        assert acme.kept().versions == (changed.version, acme.policy_version)
        assert acme.kept().monitor.floor == 0.7
    assert acme.changes() == ["holding", "broken", "holding"]


def test_a_relative_floor_is_watched_once_its_reference_is_known(acme: World) -> None:
    slo = acme.put(min_relative_accuracy=0.5, reference_arm="large:single")
    with acme.watcher() as watcher:
        catch_up(watcher)
        assert acme.in_force().monitor is None
        acme.scored(acme.decided(slo, 30), 0.2)
        catch_up(watcher)
        assert (certificate(acme).n, certificate(acme).certified) == (30, False)
        assert acme.in_force().monitor is None
        acme.scored(acme.decided(slo, 2_000), 0.9)
        catch_up(watcher)
    assert certificate(acme).certified, certificate(acme).message
    assert acme.kept().monitor.floor < certificate(acme).floor
    assert acme.kept().monitor.floor == pytest.approx(0.45, abs=0.05)


def test_a_log_that_never_explored_asks_for_exploration(acme: World) -> None:
    slo = acme.put(min_accuracy=0.5)
    small = {"arm": "small:single", "model": "small", "propensity": 1.0}
    acme.scored(acme.decided(slo, 200, **small), 0.9)
    with acme.watcher() as watcher:
        catch_up(watcher)
    found = certificate(acme)
    assert found.certified or "set exploration_rate" in found.message, found.message
    assert found.status is not Status.INFEASIBLE


def test_the_static_policy_is_watched_and_not_certified(acme: World) -> None:
    slo = acme.put(min_accuracy=0.8)
    acme.roll_back()
    with acme.watcher() as watcher:
        catch_up(watcher)
        acme.scored(acme.decided(slo, 200, policy_source="static"), 0.2)
        catch_up(watcher)
    assert "no trade-off" in certificate(acme).message or "no outcome" in certificate(acme).message
    assert acme.kept().monitor.state is MonitorState.BROKEN


KILLED = """
    import sys
    from datetime import UTC, datetime
    from router.serving.telemetry import configure_logs, logger
    from training.watch.watcher import Watcher
    from training.watch.plan import Policies, opened
    from training.watch.telling import Teller
    from training.watch.webhook import Webhook

    configure_logs("error")
    with opened(sys.argv[1]) as stores:
        webhook = Webhook(sys.argv[2], "a long secret")
        teller = Teller(webhook)
        watcher = Watcher(stores, Policies(stores, {}), log=logger(), teller=teller)
        while True:
            watcher.turn(datetime.now(UTC))
            print("turned", flush=True)
"""


def test_kill_9_at_any_time_counts_nothing_twice(acme: World) -> None:
    slo = acme.put(min_accuracy=0.8)
    total = 0
    with receiver() as told:
        command = [sys.executable, "-c", textwrap.dedent(KILLED), acme.dsn, told.url]
        for turns in (1, 5):
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as one:
                assert one.stdout is not None
                for _ in range(turns):
                    acme.scored(acme.decided(slo, 40), 0.4)
                    total += 40
                    assert one.stdout.readline() == b"turned\n"
                one.kill()
        with acme.watcher(Webhook(told.url, SECRET)) as watcher:
            catch_up(watcher)
    tally = acme.kept().monitor.tally
    assert (tally.outcomes, tally.decisions) == (total, total)
    assert acme.changes().count("broken") == 1
    assert len({post.event["id"] for post in told.posts if post.event["state"] == "broken"}) == 1


def test_a_second_watcher_waits_until_the_first_is_gone(dsn: str) -> None:
    first, second = OneWatcher(dsn), OneWatcher(dsn)
    assert first.holds()
    assert first.holds()
    assert not second.holds()
    first.close()
    assert second.holds()
    assert not first.holds()
    for each in (first, second):
        each.close()


def test_once_tells_how_things_stand(acme: World) -> None:
    slo = acme.put(min_accuracy=0.5)
    acme.scored(acme.decided(slo, 300), 0.9)
    command = [*LEADLINE, "watch", "--once", "--json", "--dsn", acme.dsn]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    (row,) = orjson.loads(done.stdout)
    assert (row["tenant"], row["slo"], row["state"]) == ("acme", "chat", "holding")
    assert row["outcomes"] == 300
    assert row["certificate"].startswith("certified")


def watchers(server: int) -> list[int]:
    """Process ids of the watchers that a server has started."""
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_text() for pid in children}
    return [pid for pid, command in commands.items() if "--supervised" in command]


def eventually(holds: Callable[[], object], patience_s: float = 60.0) -> None:
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, "it does not come to that"
        time.sleep(0.05)


@pytest.mark.timeout(150)
def test_serve_watches_beside_its_workers_and_leaves_nothing_behind(
    acme: World, tmp_path: Path
) -> None:
    options = ["--dsn", acme.dsn, "--port", "0", "--state-dir", str(tmp_path)]
    command = [*LEADLINE, "serve", *options, "--authentication", "none", "--log-level", "error"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            assert b" serves on " in server.stdout.readline()
            slo = acme.put(min_accuracy=0.8)
            eventually(lambda: acme.in_force().monitor)
            (first,) = watchers(server.pid)
            assert os.getpriority(os.PRIO_PROCESS, first) >= 10
            os.kill(first, signal.SIGKILL)
            acme.scored(acme.decided(slo, 200), 0.2)
            eventually(lambda: acme.kept().monitor.state is MonitorState.BROKEN)
            (second,) = watchers(server.pid)
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    assert first != second
    assert not Path(f"/proc/{second}").exists()


def test_serve_without_watch_starts_none(acme: World, tmp_path: Path) -> None:
    options = ["--dsn", acme.dsn, "--port", "0", "--state-dir", str(tmp_path), "--no-watch"]
    command = [*LEADLINE, "serve", *options, "--authentication", "none", "--log-level", "error"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            assert b" serves on " in server.stdout.readline()
            assert watchers(server.pid) == []
        finally:
            server.send_signal(signal.SIGTERM)
    assert server.returncode == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command_at_once(acme: World, how: signal.Signals) -> None:
    acme.put(min_accuracy=0.8)
    command = [*LEADLINE, "watch", "--every", "5m", "--json", "--dsn", acme.dsn]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as watch:
        assert watch.stdout is not None
        assert orjson.loads(watch.stdout.readline())["slo"] == "chat"
        watch.send_signal(how)
        assert watch.wait(10) == 0


def test_certificates_are_listed_and_shown_with_their_inputs(acme: World) -> None:
    slo = acme.put(min_accuracy=0.5)
    acme.scored(acme.decided(slo, 100), 0.9)
    with acme.watcher() as watcher:
        catch_up(watcher)
    reach = ("--tenant", "acme", "--dsn", acme.dsn)
    found = run("certificates", "list", *reach, "--json")
    (listed,) = orjson.loads(found.stdout)
    assert (listed["slo_name"], listed["body"]["n"]) == ("chat", 100)
    shown = answer("certificates", "show", listed["certificate_id"], *reach)
    assert shown == listed
    person = run("certificates", "show", listed["certificate_id"], *reach).stdout
    assert "certified: a mean accuracy of at least 0.5" in person
    assert "promotion" in person
    assert "certified" in run("certificates", "list", *reach, "--slo", "chat").stdout
    with pytest.raises(NotFound, match="there is no certificate"):
        answer("certificates", "show", str(acme.tenant_id), *reach)
    assert run("certificates", "show", "nothing", *reach).exit_code == 2
