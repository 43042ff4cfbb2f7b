"""The spool's file: what was kept is there in order, once, private, within its limits, and gone when it was handed
over."""

import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.store.play import rows as rows_of
from worker.errors import SpoolUnusable
from worker.store import spool as spool_module
from worker.store.spool import BATCH_BYTES, BATCH_ROWS, ROW_BYTES, Batch, Kept, Spool, look, mark_recorded, probe
from worker.store.tables import cursors

MEGABYTE = 1 << 20
ROOT = Path(__file__).parents[2]


def opened(folder, **limits):
    return Spool(folder, **{"max_bytes": 64 * MEGABYTE, "min_free_bytes": 0, **limits})


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def spool(folder):
    with opened(folder) as made:
        yield made


def numbered(*numbers, body=b"body"):
    return [Kept(f"head {number}", body) for number in numbers]


def drained(spool):
    """The heads of everything, batch by batch."""
    heads = []
    while batch := spool.batch():
        heads.append([row.head for row in batch.rows])
        spool.forget(batch)
    return heads


def test_rows_come_back_in_order_and_byte_for_byte(spool):
    first, second = Kept("a", b"\x00\xff\r\n"), Kept("b", b"")

    assert spool.append([first]) == [True]
    assert spool.append([second, first]) == [True, True]

    batch = spool.batch()
    assert batch.rows == (first, second, first)
    assert spool.depth() == (3, 2 * first.size + second.size)
    assert first.size == ROW_BYTES + 5


def test_an_empty_spool_has_no_batch(spool, folder):
    assert spool.batch() is None
    assert spool.depth() == look(folder) == (0, 0)


def test_making_one_touches_nothing_and_a_folder_without_one_is_empty(folder):
    opened(folder).close()

    assert not folder.exists()
    assert look(folder) == (0, 0)


def test_a_batch_stays_the_same_until_it_is_forgotten(spool, folder):
    spool.append(numbered(1, 2))
    batch = spool.batch()
    spool.append(numbered(3))

    assert spool.batch() == batch
    spool.close()
    with opened(folder) as another:
        assert another.batch() == batch
        another.forget(batch)
        after = another.batch()

    assert [row.head for row in after.rows] == ["head 3"]
    assert (after.before, batch.before) == (batch.name, None)
    assert after.name != batch.name


def test_to_forget_twice_forgets_nothing_else(spool):
    spool.append(numbered(1))
    batch = spool.batch()
    spool.forget(batch)
    spool.append(numbered(2))
    following = spool.batch()

    spool.forget(batch)

    assert spool.batch() == following
    assert spool.depth().deliveries == 1


def test_batches_are_bounded_in_rows_and_bytes_and_have_one_row_at_least(spool):
    spool.append(numbered(*range(BATCH_ROWS + 1)))
    assert [len(batch) for batch in drained(spool)] == [BATCH_ROWS, 1]

    spool.append(numbered(1, 2, 3, body=b"x" * (BATCH_BYTES // 2)))
    spool.append(numbered(4, body=b"x" * (2 * BATCH_BYTES)))
    assert drained(spool) == [["head 1"], ["head 2"], ["head 3"], ["head 4"]]
    assert spool.depth() == (0, 0)


def test_the_limit_is_exact_and_refuses_only_what_does_not_fit(folder, monkeypatch):
    monkeypatch.setattr(spool_module, "USUAL_BYTES", 1)
    small, large = Kept("", b"x" * (1000 - ROW_BYTES)), Kept("", b"x" * 5000)
    with opened(folder, max_bytes=3500) as spool:
        assert spool.append([small, large, small, small, small]) == [True, False, True, True, False]
        assert spool.append([small]) == [False]
        assert spool.has_room()
        assert spool.append([Kept("", b"x" * (500 - ROW_BYTES))]) == [True]
        assert not spool.has_room()
        assert spool.depth() == (4, 3500)

        spool.forget(spool.batch())

        assert spool.has_room()
        assert spool.append([small]) == [True]


def test_a_disk_with_too_little_left_takes_nothing(folder):
    with opened(folder, min_free_bytes=1 << 60) as spool:
        assert spool.append(numbered(1)) == [False]
        assert not spool.has_room()
        assert spool.depth() == (0, 0)


def test_folder_and_files_are_private(spool, folder):
    spool.append(numbered(1))
    with spool.draining() as mine:
        assert mine

    assert folder.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == dict.fromkeys(["spool.db", "spool.db-wal", "spool.db-shm", "drain.lock"], 0o600)


def test_a_commit_is_synced_and_what_was_deleted_is_overwritten(spool):
    spool.append(numbered(1))
    with spool._using() as connection:
        values = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in
                  ("journal_mode", "synchronous", "secure_delete", "auto_vacuum")]  # fmt: skip

    assert values == ["wal", 2, 1, 2]


def test_the_files_shrink_again_and_hold_nothing_of_what_was_kept(spool, folder):
    body = b"Maria Gonzalez " * 1000
    for number in range(20):
        spool.append(numbered(number, body=body))
    used = sum(path.stat().st_size for path in folder.iterdir())
    drained(spool)

    spool.shrink()

    left = [path.read_bytes() for path in folder.iterdir() if path.suffix != ".db-shm"]
    assert used > 300_000
    assert sum(map(len, left)) < 100_000
    assert not [content for content in left if b"Maria" in content]


def test_only_one_hands_over_at_a_time(spool, folder):
    spool.append(numbered(1))
    with opened(folder) as other:
        with spool.draining() as mine, other.draining() as theirs:
            assert (mine, theirs) == (True, False)
        with other.draining() as theirs:
            assert theirs


def test_threads_and_processes_share_it(folder):
    """Six processes make it at the same time, and each appends. One that has to wait for too long comes again."""
    program = """if True:
        import sys
        from pathlib import Path
        from worker.errors import SpoolUnusable
        from worker.store.spool import Kept, Spool
        with Spool(Path(sys.argv[1]), max_bytes=1 << 30, min_free_bytes=0) as spool:
            number = refused = 0
            while number < 20 and refused < 20:
                try:
                    assert spool.append([Kept(f"{sys.argv[2]} {number}", b"x")]) == [True]
                    number += 1
                except SpoolUnusable as error:
                    assert "locked" in str(error)
                    refused += 1
    """
    command = [sys.executable, "-c", program, str(folder)]
    with ThreadPoolExecutor(6) as pool:
        ended = list(pool.map(lambda name: subprocess.run([*command, str(name)], cwd=ROOT, check=False), range(6)))

    assert [process.returncode for process in ended] == [0] * 6
    with opened(folder) as spool:
        heads = [head.split() for batch in drained(spool) for head in batch]
    assert len(heads) == 120
    for name in map(str, range(6)):
        assert [int(number) for writer, number in heads if writer == name] == list(range(20))


def test_a_file_that_was_removed_below_is_begun_anew(spool, folder):
    spool.append(numbered(1))
    for path in folder.iterdir():
        path.unlink()

    assert spool.append(numbered(2)) == [True]
    assert look(folder).deliveries == 1
    assert drained(spool) == [["head 2"]]


def test_a_folder_that_cannot_be_used_is_said_and_used_when_it_can_be(tmp_path):
    (tmp_path / "in-the-way").touch()
    folder = tmp_path / "in-the-way" / "spool"
    spool = opened(folder)
    for use in (spool.depth, spool.batch, spool.shrink, lambda: spool.append(numbered(1))):
        with pytest.raises(SpoolUnusable, match="Not a directory"):
            use()
    with pytest.raises(SpoolUnusable), spool.draining():
        pass

    (tmp_path / "in-the-way").unlink()

    assert spool.append(numbered(1)) == [True]
    spool.close()


def test_a_damaged_file_is_said(folder):
    folder.mkdir()
    (folder / "spool.db").write_bytes(b"not a database" * 1000)

    with pytest.raises(SpoolUnusable, match="not a database"):
        opened(folder).append(numbered(1))
    with pytest.raises(SpoolUnusable, match="not a database"):
        look(folder)


def test_a_file_in_use_for_too_long_is_said_and_nothing_half_kept(spool, folder, monkeypatch):
    monkeypatch.setattr(spool_module, "_PRAGMAS", ("PRAGMA busy_timeout=50", *spool_module._PRAGMAS[1:]))
    spool.append(numbered(1))
    with closing(sqlite3.connect(folder / "spool.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SpoolUnusable, match="locked"):
            spool.append(numbered(2))
        other.execute("ROLLBACK")

    assert spool.append(numbered(3)) == [True]
    assert drained(spool) == [["head 1", "head 3"]]


class Disk:
    """A file system in memory."""

    def __init__(self, path):
        self.path = path

    def mount(self, size, *options):
        command = ["mount", "-t", "tmpfs", "-o", ",".join((f"size={size}", *options)), "verisink-spool", str(self.path)]
        try:
            return os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:
            return False


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk"
    path.mkdir()
    found = Disk(path)
    if not found.mount("2m"):
        pytest.skip("mounting a small file system is not allowed here")
    yield found
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_on_a_full_disk_what_was_acknowledged_stays_and_is_handed_over_when_there_is_room(disk, monkeypatch):
    # No limit holds, so that SQLite itself meets the end of the disk.
    monkeypatch.setattr(spool_module, "RESERVE_BYTES", -64 * MEGABYTE)
    with opened(disk.path / "spool", min_free_bytes=-64 * MEGABYTE) as spool:
        kept, refused = [], set()
        for number in range(400):
            try:
                [answer] = spool.append(numbered(number, body=b"x" * 20_000))
            except SpoolUnusable as error:
                refused.add(str(error))
            else:
                assert answer
                kept.append(f"head {number}")
        assert refused == {"the spool cannot be used: database or disk is full"}
        assert 10 < len(kept) < 200
        assert spool.depth().deliveries == len(kept)
        batch = spool.batch()
        with pytest.raises(SpoolUnusable, match="full"):
            spool.forget(batch)
        assert spool.batch() == batch

        assert disk.mount("16m", "remount")

        assert spool.append(numbered("after")) == [True]
        assert [head for heads in drained(spool) for head in heads] == [*kept, "head after"]


def test_what_fits_by_the_limits_can_also_be_handed_over(disk):
    """To hand over writes to the disk as well, and nobody may make room meanwhile."""
    assert disk.mount("32m", "remount")
    with opened(disk.path / "spool") as spool:
        answers = [spool.append(numbered(number, body=b"x" * 200_000))[0] for number in range(150)]
        count = answers.count(True)
        assert 10 < count < 140
        assert not any(answers[count:])

        assert sum(map(len, drained(spool))) == count
        spool.shrink()

        assert spool.append(numbered("after")) == [True]


def marks(database):
    with database.read() as session:
        return set(session.execute(select(cursors.c.name).where(cursors.c.name.like("spool%"))).scalars())


def test_the_database_remembers_one_batch_and_forgets_the_one_before(database):
    first, second = Batch("one", None, 3, ()), Batch("two", "one", 6, ())

    with database.write() as session:
        assert mark_recorded(session, first)
    with database.write() as session:
        assert not mark_recorded(session, first)
    with database.write() as session:
        assert mark_recorded(session, second)
        assert not mark_recorded(session, second)

    assert marks(database) == {"spool:two"}


def test_the_probe_writes_every_time(database):
    for expected in (1, 2):
        with database.write() as session:
            probe(session)
        [value] = [row.value for row in rows_of(database, cursors) if row.name == spool_module.PROBE]
        assert value == expected
