"""Every acknowledged record reaches Postgres once, whoever is killed and whenever."""

from __future__ import annotations

import random
import resource
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from router.store.outbox import SqliteOutbox
from router.store.seams import Kind, Record
from router.store.shipper import Shipper
from tests.kit.postgres import TEMPLATE, PostgresServer, rows
from tests.kit.records import OTHER_TENANT, TENANT, attempt, decision, outcome


def make_outbox(directory: Path, worker: int = 0) -> SqliteOutbox:
    return SqliteOutbox(directory / f"outbox-{worker}.sqlite3", max_bytes=1 << 30)


@contextmanager
def shipping(directory: Path, dsn: str) -> Iterator[Shipper]:
    """A shipper that runs in a thread of its own."""
    shipper, stop = Shipper(directory, dsn), threading.Event()
    running = threading.Thread(target=shipper.run, args=(stop,))
    running.start()
    try:
        yield shipper
    finally:
        stop.set()
        running.join()


def decision_ids(dsn: str) -> list[UUID]:
    return [UUID(str(row[0])) for row in rows(dsn, "select decision_id from decisions")]


def assert_each_once(dsn: str, records: list[Record]) -> None:
    found = decision_ids(dsn)
    assert len(found) == len(set(found))
    assert set(found) == {record.row_id for record in records}


def put(outbox: SqliteOutbox, count: int) -> list[Record]:
    return [outbox.put(decision()) for _ in range(count)]


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[SqliteOutbox]:
    outbox = make_outbox(tmp_path)
    yield outbox
    outbox.close()


def test_all_three_kinds_arrive_in_any_order(
    tmp_path: Path, dsn: str, outbox: SqliteOutbox
) -> None:
    first = decision()
    other = decision(OTHER_TENANT)
    for record in (outcome(first, score=1.0), attempt(first), first, outcome(other), other):
        outbox.put(record)
    shipper = Shipper(tmp_path, dsn)
    assert shipper.drain(10)
    assert shipper.stats().shipped_rows == 5
    assert shipper.stats().pending_bytes == outbox.pending_bytes() == 0
    for log, count in (("decisions", 2), ("attempts", 1), ("outcomes", 2)):
        assert rows(dsn, f"select count(*) from {log}") == [(count,)]
    shipper.close()


def test_an_empty_directory_is_drained_at_once(tmp_path: Path, dsn: str) -> None:
    for directory in (tmp_path, tmp_path / "none"):
        shipper = Shipper(directory, dsn)
        assert shipper.drain(5)
        assert shipper.stats().pending_rows == 0
        shipper.close()


def test_a_record_that_was_sent_twice_is_one_row(
    tmp_path: Path, dsn: str, outbox: SqliteOutbox
) -> None:
    records = put(outbox, 20)
    other = make_outbox(tmp_path, 1)
    for record in records:
        other.put(record)
    shipper = Shipper(tmp_path, dsn)
    assert shipper.drain(10)
    with sqlite3.connect(tmp_path / "outbox-0.sqlite3") as connection:
        connection.execute("update progress set seq = 0, total = 0")
    connection.close()
    assert shipper.drain(10)
    assert_each_once(dsn, records)
    shipper.close()
    other.close()


def test_outboxes_of_workers_that_are_no_more_are_emptied(tmp_path: Path, dsn: str) -> None:
    records = []
    for worker in range(5):
        outbox = make_outbox(tmp_path, worker)
        records += put(outbox, 3)
        outbox.close()
    shipper = Shipper(tmp_path, dsn)
    assert shipper.drain(10)
    assert_each_once(dsn, records)
    shipper.close()


def test_a_poison_row_is_set_aside_and_stops_nobody(
    tmp_path: Path, dsn: str, outbox: SqliteOutbox
) -> None:
    secret = "the prompt itself"
    good = put(outbox, 30)
    poison = [
        decision(input_tokens=1 << 40, query=secret),
        decision(occurred_at="never", query=secret),
        decision(arm=None, query=secret),
        decision(query=f"{secret}\x00"),
        replace(decision(), row=b"{not json"),
        replace(decision(), row=b'{"query": "\xff"}'),
    ]
    for record in poison:
        outbox.put(record)
    good += put(outbox, 30)
    shipper = Shipper(tmp_path, dsn)
    assert shipper.drain(20)
    assert_each_once(dsn, good)
    assert shipper.stats().refused_rows == len(poison)
    with sqlite3.connect(tmp_path / "outbox-0.sqlite3") as connection:
        refused = connection.execute("select row_id, row, reason from refused").fetchall()
    connection.close()
    assert {UUID(bytes=row[0]) for row in refused} == {record.row_id for record in poison}
    assert {bytes(row[1]) for row in refused} == {record.row for record in poison}
    assert all(row[2] for row in refused)
    shipper.close()


def test_refusals_are_logged_without_the_prompt(
    tmp_path: Path, dsn: str, outbox: SqliteOutbox, capsys: pytest.CaptureFixture[str]
) -> None:
    outbox.put(decision(input_tokens="the prompt itself", query="the prompt itself"))
    shipper = Shipper(tmp_path, dsn)
    assert shipper.drain(10)
    shipper.close()
    said = capsys.readouterr()
    assert "row refused" in said.out + said.err
    assert "the prompt itself" not in said.out + said.err


def test_an_unmigrated_database_refuses_no_row(
    tmp_path: Path, empty_dsn: str, outbox: SqliteOutbox
) -> None:
    put(outbox, 5)
    shipper = Shipper(tmp_path, empty_dsn)
    assert not shipper.drain(0.5)
    assert (shipper.stats().refused_rows, shipper.stats().pending_rows) == (0, 5)
    assert shipper.stats().last_error
    shipper.close()


def test_huge_rows_arrive_in_small_batches(tmp_path: Path, dsn: str, outbox: SqliteOutbox) -> None:
    records = [outbox.put(decision(query="x" * (1 << 20))) for _ in range(30)]
    shipper = Shipper(tmp_path, dsn)
    assert shipper.drain(60)
    assert_each_once(dsn, records)
    shipper.close()


def test_shipped_records_are_held_for_retries_and_then_deleted(tmp_path: Path, dsn: str) -> None:
    now_s = [1000.0]
    outbox = SqliteOutbox(tmp_path / "outbox-0.sqlite3", max_bytes=1 << 30, clock=lambda: now_s[0])
    records = put(outbox, 300)
    shipper = Shipper(tmp_path, dsn, clock=lambda: now_s[0])
    assert shipper.drain(10)
    now_s[0] += 599
    assert shipper.drain(10)
    assert outbox.find(Kind.DECISION, TENANT, records[0].row_id) == records[0]
    assert outbox.put(records[0]) == records[0]
    now_s[0] += 2
    assert shipper.drain(10)
    found = [outbox.find(Kind.DECISION, TENANT, record.row_id) for record in records]
    assert found == [None] * 299 + [records[-1]]
    more = put(outbox, 10)
    assert shipper.drain(10)
    assert_each_once(dsn, records + more)
    shipper.close()
    outbox.close()


def test_rows_not_yet_shipped_are_never_deleted(tmp_path: Path, outbox: SqliteOutbox) -> None:
    records = put(outbox, 100)
    late = Shipper(tmp_path, "postgresql://127.0.0.1:1/away", clock=lambda: time.time() + 1e6)
    assert not late.drain(0.5)
    assert late.stats().pending_rows == 100
    assert all(outbox.find(Kind.DECISION, TENANT, record.row_id) for record in records)
    late.close()


def test_a_damaged_orphan_does_not_stop_the_others(
    tmp_path: Path, dsn: str, outbox: SqliteOutbox
) -> None:
    (tmp_path / "outbox-9.sqlite3").write_bytes(b"this is no database" * 500)
    (tmp_path / "outbox-8.sqlite3").touch()
    records = put(outbox, 5)
    shipper = Shipper(tmp_path, dsn)
    assert shipper.drain(10)
    assert_each_once(dsn, records)
    shipper.close()


CHILD = """
import sys, threading
from pathlib import Path
from router.store.shipper import Shipper

Shipper(Path(sys.argv[1]), sys.argv[2]).run(threading.Event())
"""


def test_kill_9_of_the_shipper_in_mid_batch_loses_and_doubles_nothing(
    tmp_path: Path, dsn: str, outbox: SqliteOutbox
) -> None:
    rng = random.Random(7)
    records: list[Record] = []
    arrived = [0]
    for _ in range(6):
        records += put(outbox, 1500)
        with subprocess.Popen([sys.executable, "-c", CHILD, str(tmp_path), dsn]) as child:
            wait_for_more(dsn, arrived[-1])
            time.sleep(rng.uniform(0, 0.05))
            child.send_signal(signal.SIGKILL)
        arrived.append(len(decision_ids(dsn)))
    assert any(0 < count < 1500 * turn for turn, count in enumerate(arrived) if turn)
    shipper = Shipper(tmp_path, dsn)
    assert shipper.drain(60)
    assert_each_once(dsn, records)
    shipper.close()


def wait_for_more(dsn: str, count: int) -> None:
    deadline = time.monotonic() + 30
    with psycopg.connect(dsn, autocommit=True) as connection:
        while time.monotonic() < deadline:
            counted = connection.execute("select count(*) from decisions").fetchone()
            if counted is not None and counted[0] > count:
                return
            time.sleep(0.005)


def test_kill_9_of_postgres_under_load_loses_and_doubles_nothing(
    tmp_path: Path, mortal: PostgresServer, outbox: SqliteOutbox
) -> None:
    dsn = mortal.server.dsn_of(TEMPLATE)
    records: list[Record] = []
    with shipping(tmp_path, dsn) as shipper:
        for _ in range(4):
            records += put(outbox, 1500)
            time.sleep(0.1)
            mortal.kill()
            records += put(outbox, 500)
            mortal.start()
        deadline = time.monotonic() + 60
        while shipper.stats().pending_rows or shipper.stats().last_error:
            assert time.monotonic() < deadline, shipper.stats()
            time.sleep(0.05)
    assert_each_once(dsn, records)


def test_while_postgres_is_away_puts_go_on_and_memory_stays_flat(
    tmp_path: Path, outbox: SqliteOutbox
) -> None:
    away = "postgresql://nobody@127.0.0.1:1/away"
    with shipping(tmp_path, away) as shipper:
        put(outbox, 500)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        big = [decision(query="x" * 20_000) for _ in range(10)]
        for turn in range(400):
            for place, record in enumerate(big):
                outbox.put(replace(record, key=UUID(int=turn << 64 | place)))
        deadline = time.monotonic() + 20  # it looks again after a pause of up to 2 s
        while shipper.stats().pending_rows < 500 + 4000:
            assert time.monotonic() < deadline, shipper.stats()
            time.sleep(0.05)
        grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert "OperationalError" in shipper.stats().last_error
    assert grown_kib < 30_000
    assert outbox.pending_bytes() > 80_000_000


def test_a_worker_waits_little_for_the_shipper(tmp_path: Path, dsn: str) -> None:
    worker = """
    import sys, time
    from pathlib import Path
    from router.store.outbox import SqliteOutbox
    from tests.kit.records import decision

    outbox = SqliteOutbox(Path(sys.argv[1]) / "outbox-0.sqlite3", max_bytes=1 << 30)
    waits_s = []
    for _ in range(3000):
        record = decision()
        began = time.perf_counter()
        outbox.put(record)
        waits_s.append(time.perf_counter() - began)
        time.sleep(0.0005)
    print(sorted(waits_s)[int(len(waits_s) * 0.99)])
    """
    # Every record is old at once, so that the shipper deletes as fast as it ships.
    shipper = Shipper(tmp_path, dsn, clock=lambda: time.time() + 1e6)
    stop = threading.Event()
    running = threading.Thread(target=shipper.run, args=(stop,))
    running.start()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(worker), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    stop.set()
    running.join()
    assert float(done.stdout) < 0.01
    assert shipper.drain(20)
    shipper.close()
    assert len(decision_ids(dsn)) == 3000


def test_the_write_ahead_log_is_truncated_when_idle(
    tmp_path: Path, dsn: str, outbox: SqliteOutbox
) -> None:
    put(outbox, 2000)
    log = tmp_path / "outbox-0.sqlite3-wal"
    assert log.stat().st_size > 1 << 20
    shipper = Shipper(tmp_path, dsn)
    assert shipper.drain(20)
    assert shipper.drain(20)
    assert log.stat().st_size == 0
    shipper.close()


def test_months_are_made_ahead_by_the_shipper(
    tmp_path: Path, dsn: str, outbox: SqliteOutbox
) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "do $$ declare part text; begin for part in select inhrelid::regclass::text "
            "from pg_inherits where inhparent = 'decisions'::regclass and "
            "inhrelid::regclass::text ~ '\\d{4}_\\d{2}$' loop "
            "execute format('drop table %I', part); end loop; end $$"
        )
    put(outbox, 1)
    shipper = Shipper(tmp_path, dsn)
    assert shipper.drain(10)
    months = "select count(*) from pg_inherits where inhparent = 'decisions'::regclass"
    assert rows(dsn, months) == [(2 + 4,)]
    shipper.close()
