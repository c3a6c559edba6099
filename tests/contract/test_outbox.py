"""What the outbox promises: SQLite and its in-memory twin alike."""

from __future__ import annotations

import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from router.errors import ConfigurationError, Conflict, OutboxFull, Unavailable
from router.settings import Durability
from router.store.memory import MemoryOutbox
from router.store.neighbour import Neighbour
from router.store.outbox import PUTS_BETWEEN_WAL_CHECKS, SqliteOutbox
from router.store.outbox_file import wal_bytes
from router.store.seams import Kind, Outbox
from tests.kit.records import OTHER_TENANT, TENANT, decision, outcome

MakeOutbox = Callable[[int], Outbox]


@pytest.fixture(params=["sqlite", "sqlite on disk", "memory"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeOutbox]:
    made: list[Outbox] = []

    def make(max_bytes: int = 1 << 30) -> Outbox:
        path = tmp_path / f"outbox-{len(made)}.sqlite3"
        durability = Durability.DISK if "disk" in request.param else Durability.PROCESS
        made.append(
            MemoryOutbox(max_bytes=max_bytes)
            if request.param == "memory"
            else SqliteOutbox(path, max_bytes=max_bytes, durability=durability)
        )
        return made[-1]

    yield make
    for outbox in made:
        outbox.close()


@pytest.fixture
def outbox(make: MakeOutbox) -> Outbox:
    return make(1 << 30)


class TestOutbox:
    def test_what_was_put_is_found_by_its_key_and_by_its_row(self, outbox: Outbox) -> None:
        record = decision(key=uuid4())
        assert outbox.put(record) == record
        assert outbox.find(Kind.DECISION, TENANT, record.row_id) == record
        assert outbox.find_key(Kind.DECISION, TENANT, record.key) == record

    def test_another_tenant_or_kind_finds_nothing(self, outbox: Outbox) -> None:
        record = outbox.put(decision(key=uuid4()))
        assert outbox.find(Kind.DECISION, OTHER_TENANT, record.row_id) is None
        assert outbox.find(Kind.OUTCOME, TENANT, record.row_id) is None
        assert outbox.find_key(Kind.DECISION, OTHER_TENANT, record.key) is None
        assert outbox.find_key(Kind.ATTEMPT, TENANT, record.key) is None

    def test_a_retry_gets_the_record_stored_first(self, outbox: Outbox) -> None:
        key = uuid4()
        first = outbox.put(decision(key=key))
        assert outbox.put(decision(key=key)) == first

    def test_a_key_with_another_body_is_a_conflict(self, outbox: Outbox) -> None:
        key = uuid4()
        first = outbox.put(decision(key=key, body=b"one"))
        with pytest.raises(Conflict) as raised:
            outbox.put(decision(key=key, body=b"two"))
        assert raised.value.reason == "REQUEST_ID_REUSED"
        assert outbox.find_key(Kind.DECISION, TENANT, key) == first

    def test_one_key_serves_two_kinds_and_two_tenants(self, outbox: Outbox) -> None:
        record = decision(key=uuid4())
        others = [
            decision(OTHER_TENANT, key=record.key),
            replace(outcome(record), key=record.key),
        ]
        assert [outbox.put(item) for item in (record, *others)] == [record, *others]

    def test_at_the_bound_a_new_record_is_refused_and_a_retry_is_not(
        self, make: MakeOutbox
    ) -> None:
        outbox = make(64 << 10)
        first = outbox.put(decision(query="x" * 60_000))
        late = decision(query="x" * 60_000)
        with pytest.raises(OutboxFull):
            outbox.put(late)
        assert outbox.find(Kind.DECISION, TENANT, late.row_id) is None
        assert outbox.put(first) == first

    def test_threads_that_retry_one_key_agree(self, outbox: Outbox) -> None:
        key = uuid4()
        records = [decision(key=key) for _ in range(16)]
        with ThreadPoolExecutor(4) as pool:
            stored = set(pool.map(outbox.put, records))
        assert len(stored) == 1

    def test_closing_twice_does_nothing(self, outbox: Outbox) -> None:
        outbox.close()
        outbox.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox" / "outbox-0.sqlite3"


def make_sqlite(path: Path, max_bytes: int = 1 << 30) -> SqliteOutbox:
    return SqliteOutbox(path, max_bytes=max_bytes)


def test_what_was_put_is_there_after_opening_again(path: Path) -> None:
    outbox = make_sqlite(path)
    record = outbox.put(decision())
    pending = outbox.pending_bytes()
    outbox.close()
    again = make_sqlite(path)
    assert again.find(Kind.DECISION, TENANT, record.row_id) == record
    assert again.pending_bytes() == pending > len(record.row)
    again.close()


def test_putting_many_gives_each_its_own_result(path: Path) -> None:
    outbox = make_sqlite(path)
    used, key = outbox.put(decision(key=uuid4())), uuid4()
    results = outbox.put_many(
        [decision(key=used.key, body=b"other"), (fresh := decision(key=key)), decision(key=key)]
    )
    assert isinstance(results[0], Conflict)
    assert results[1:] == [fresh, fresh]
    assert outbox.put_many([]) == []
    outbox.close()


def test_a_neighbour_reads_what_a_live_worker_puts(path: Path) -> None:
    neighbour, record = Neighbour(path), decision()
    assert neighbour.find(Kind.DECISION, TENANT, record.row_id) is None
    outbox = make_sqlite(path)
    assert neighbour.find(Kind.DECISION, TENANT, record.row_id) is None
    outbox.put(record)
    assert neighbour.find(Kind.DECISION, TENANT, record.row_id) == record
    assert neighbour.find(Kind.DECISION, OTHER_TENANT, record.row_id) is None
    neighbour.close()
    outbox.close()


def test_a_neighbour_neither_moves_nor_changes_a_damaged_outbox(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(damaged := b"this is no database" * 500)
    neighbour = Neighbour(path)
    assert neighbour.find(Kind.DECISION, TENANT, uuid4()) is None
    assert [(file.name, file.read_bytes()) for file in path.parent.iterdir()] == [
        (path.name, damaged)
    ]
    path.unlink()
    outbox = make_sqlite(path)
    record = outbox.put(decision())
    assert neighbour.find(Kind.DECISION, TENANT, record.row_id) == record
    neighbour.close()
    outbox.close()


def test_an_unforeseen_error_leaves_no_transaction_open(path: Path) -> None:
    outbox = make_sqlite(path)
    pending, lost, late = outbox.pending_bytes(), decision(), decision()
    with pytest.raises(AttributeError):
        outbox.put_many([lost, replace(decision(), key=None)])  # type: ignore[arg-type]
    assert outbox.put(late) == late
    other = make_sqlite(path)
    assert other.find(Kind.DECISION, TENANT, late.row_id) == late
    assert other.find(Kind.DECISION, TENANT, lost.row_id) is None
    assert other.pending_bytes() > pending
    other.close()
    outbox.close()


def test_grouped_records_keep_the_write_ahead_log_short_too(path: Path) -> None:
    outbox = SqliteOutbox(path, max_bytes=1 << 30, longest_wal_bytes=1 << 20)
    sizes = []
    for _ in range(4):
        for _ in range(PUTS_BETWEEN_WAL_CHECKS // 2):
            outbox.put_many([decision(), decision()])
        sizes.append(wal_bytes(path))
    assert sizes[0] > 1 << 20
    assert sizes[-1] < 2 * sizes[0]
    outbox.close()


def test_only_this_user_reads_the_file(path: Path) -> None:
    outbox = make_sqlite(path)
    outbox.put(decision())
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    outbox.close()


def test_a_closed_outbox_is_unavailable(path: Path) -> None:
    outbox = make_sqlite(path)
    outbox.close()
    with pytest.raises(Unavailable, match="stopping"):
        outbox.put(decision())


@pytest.mark.parametrize("damage", ["text", "foreign", "torn"])
def test_a_damaged_file_is_moved_aside_and_the_next_start_works(path: Path, damage: str) -> None:
    path.parent.mkdir()
    if damage == "text":
        path.write_text("this is no database, and it is long enough to tell " * 50)
    elif damage == "foreign":
        with sqlite3.connect(path) as connection:
            connection.execute("create table theirs (x)")
        connection.close()
    else:
        make_sqlite(path).close()
        path.write_bytes(path.read_bytes()[:100] + b"\xff" * 5000)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match=r"moved to outbox-0\.sqlite3\.damaged-1"):
        make_sqlite(path)
    assert path.with_name("outbox-0.sqlite3.damaged-1").read_bytes() == before
    outbox = make_sqlite(path)
    outbox.put(decision())
    outbox.close()


def test_a_file_that_was_being_made_when_killed_is_finished(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    outbox = make_sqlite(path)
    outbox.put(decision())
    outbox.close()


def run_child(program: str, path: Path) -> subprocess.Popen[str]:
    lines = textwrap.dedent(program)
    return subprocess.Popen(
        [sys.executable, "-c", lines, str(path)], stdout=subprocess.PIPE, text=True
    )


def test_a_full_disk_refuses_and_loses_nothing_that_was_acknowledged(path: Path) -> None:
    child = run_child(
        """
        import resource, sys
        from pathlib import Path
        from router.errors import OutboxFull
        from router.store.outbox import SqliteOutbox
        from tests.kit.records import decision

        outbox = SqliteOutbox(Path(sys.argv[1]), max_bytes=1 << 30)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        acknowledged = 0
        try:
            while acknowledged < 10_000:
                outbox.put(decision())
                acknowledged += 1
        except OutboxFull as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
            outbox.put(decision())
            print(acknowledged + 1, error, flush=True)
        """,
        path,
    )
    said, _ = child.communicate(timeout=60)
    acknowledged, _, message = said.strip().partition(" ")
    assert 0 < int(acknowledged) < 10_000
    assert "is full or fails" in message
    assert "make room" in message
    with sqlite3.connect(path) as connection:
        assert connection.execute("select count(*) from records").fetchone()[0] == int(acknowledged)
        assert connection.execute("pragma integrity_check").fetchone()[0] == "ok"
    connection.close()


def test_an_acknowledged_record_survives_kill_9(path: Path) -> None:
    child = run_child(
        """
        import sys
        from pathlib import Path
        from router.store.outbox import SqliteOutbox
        from tests.kit.records import decision

        outbox = SqliteOutbox(Path(sys.argv[1]), max_bytes=1 << 30)
        while True:
            print(outbox.put(decision()).row_id, flush=True)
        """,
        path,
    )
    assert child.stdout is not None
    acknowledged = [child.stdout.readline().strip() for _ in range(500)]
    child.send_signal(signal.SIGKILL)
    acknowledged += [line.strip() for line in child.stdout if line.endswith("\n")]
    child.wait()
    child.stdout.close()
    with sqlite3.connect(path) as connection:
        stored = {row[0].hex() for row in connection.execute("select row_id from records")}
    connection.close()
    missing = [item for item in acknowledged if item.replace("-", "") not in stored]
    assert missing == []


def test_two_processes_on_one_file_keep_one_sum(path: Path) -> None:
    one, two = make_sqlite(path), make_sqlite(path)

    def put(outbox: SqliteOutbox) -> None:
        for _ in range(50):
            outbox.put(decision())

    threads = [threading.Thread(target=put, args=(outbox,)) for outbox in (one, two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with sqlite3.connect(path) as connection:
        totals = [row[0] for row in connection.execute("select total from records order by seq")]
    connection.close()
    assert len(totals) == 100
    assert totals == sorted(totals)
    assert one.pending_bytes() == two.pending_bytes() == totals[-1]
    one.close()
    two.close()
