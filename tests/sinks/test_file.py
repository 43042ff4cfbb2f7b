"""The file sink: whole lines, on the disk before they count, whatever happened to the file."""

import fcntl
import json
import os
import resource
import select
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.support.receiver import event
from worker.clock import monotonic
from worker.settings import SinkSettings
from worker.sinks import file as file_module
from worker.sinks.file import DiskFull, FileSink, NotAFile, OutputSink, ReaderAway, file_sink


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


@pytest.fixture
def sink(path):
    made = file_sink("mine", SinkSettings(name="mine", type="file", path=str(path)))
    assert isinstance(made, FileSink)
    yield made
    made.close()


def ids(path):
    """The ids of the lines that are whole; others are there as they are."""
    found = []
    for line in path.read_bytes().splitlines():
        try:
            found.append(json.loads(line)["id"])
        except ValueError:
            found.append(line)
    return found


def test_each_event_is_a_line_of_json(sink, path):
    sink.deliver([event(1), event(2)])
    sink.deliver([event(3)])

    lines = path.read_text("ascii").split("\n")
    assert [json.loads(line) for line in lines[:-1]] == [event(1), event(2), event(3)]
    assert lines[-1] == ""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_batch_is_on_the_disk_before_it_counts(sink, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
    sink.deliver([event(1)])
    before = len(synced)
    sink.deliver([event(2), event(3)])

    assert len(synced) == before + 1
    assert synced[-1] == os.fstat(sink._file).st_size


def test_a_file_that_is_there_keeps_its_lines_and_its_mode(sink, path):
    path.write_text('{"id":"old"}\n')
    path.chmod(0o640)
    sink.deliver([event(1)])

    assert ids(path) == ["old", "id-1"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("torn", [b'{"id":"to', b'{"id":"old"}\n{', b"\xff"])
def test_a_line_that_a_crash_has_torn_is_ended(sink, path, torn):
    path.write_bytes(torn)
    sink.deliver([event(1)])

    assert path.read_bytes().startswith(torn + b"\n{")
    assert ids(path)[-1] == "id-1"


def test_a_file_that_was_moved_or_deleted_is_made_anew(sink, path):
    sink.deliver([event(1)])
    rotated = path.with_suffix(".1")
    path.rename(rotated)
    sink.deliver([event(2)])
    path.unlink()
    sink.deliver([event(3)])

    assert (ids(rotated), ids(path)) == (["id-1"], ["id-3"])


def test_a_file_that_was_emptied_goes_on(sink, path):
    sink.deliver([event(1)])
    os.truncate(path, 0)
    sink.deliver([event(2)])

    assert ids(path) == ["id-2"]


@contextmanager
def room_for(size):
    """No file may grow beyond `size` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_nothing_half_written(sink, path):
    sink.deliver([event(1)])
    with room_for(path.stat().st_size + 40), pytest.raises(DiskFull):
        sink.deliver([event(2), event(3)])

    assert ids(path) == ["id-1"]
    sink.deliver([event(2), event(3)])
    assert ids(path) == ["id-1", "id-2", "id-3"]


def test_a_disk_that_does_not_confirm_has_not_taken_it(sink, path, monkeypatch):
    sink.deliver([event(1)])

    def broken(_):
        raise OSError(5, "I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", broken)
        with pytest.raises(OSError, match="I/O error"):
            sink.deliver([event(2)])
    sink.deliver([event(2)])

    assert ids(path) == ["id-1", "id-2"]


def test_two_never_write_at_once(sink, path):
    sink.deliver([event(1)])
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            sink.deliver([event(2)])
    sink.deliver([event(2)])

    assert ids(path) == ["id-1", "id-2"]


def test_several_processes_leave_whole_lines(path):
    """As when a lease has run out: each tries again until it may, and no line is torn or lost."""

    def write(number):
        own = FileSink("mine", path)
        for each in range(20):
            while True:
                try:
                    own.deliver([event(100 * number + each)])
                except BlockingIOError:
                    continue
                break
        own.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))

    assert sorted(ids(path)) == sorted(f"id-{100 * number + each}" for number in range(4) for each in range(20))


def test_what_is_no_file_is_refused(path, sink):
    os.mkfifo(path)
    with pytest.raises(NotAFile):
        sink.deliver([event(1)])
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        sink.deliver([event(1)])


def test_a_folder_that_is_missing_is_waited_for(tmp_path):
    late = FileSink("late", tmp_path / "later" / "events")
    with pytest.raises(FileNotFoundError):
        late.deliver([event(1)])
    (tmp_path / "later").mkdir()
    late.deliver([event(1)])
    late.close()

    assert ids(tmp_path / "later" / "events") == ["id-1"]


def empty(reader):
    read = b""
    while select.select([reader], [], [], 0)[0]:
        read += os.read(reader, 65536)
    return read


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    ends = [reader, writer]
    yield ends
    for end in ends:
        os.close(end)


def test_standard_output_is_a_pipe_of_lines(pipe):
    reader, writer = pipe
    OutputSink("out", output=writer).deliver([event(1), event(2)])

    assert [json.loads(line)["id"] for line in os.read(reader, 65536).splitlines()] == ["id-1", "id-2"]


def test_a_path_of_a_dash_is_standard_output():
    program = (
        "from worker.settings import SinkSettings; from worker.sinks.file import file_sink\n"
        "file_sink('out', SinkSettings(name='out', type='file', path='-')).deliver([{'id': 'one'}])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)

    assert done.stdout == b'{"id":"one"}\n'


def test_a_reader_that_pauses_is_not_waited_for_and_gets_whole_lines_later(pipe, monkeypatch):
    monkeypatch.setattr(file_module, "PIPE_SECONDS", 0.2)
    reader, writer = pipe
    sink = OutputSink("out", output=writer)
    begun = monotonic()
    with pytest.raises(ReaderAway):
        sink.deliver([event(number) for number in range(1000)])
    assert monotonic() - begun < 5

    read = empty(reader)
    sink.deliver([event(1)])
    *torn, last, _ = (read + empty(reader)).split(b"\n")
    assert json.loads(last) == event(1)
    assert not torn[-1].endswith(b"}")


def test_a_reader_that_has_gone_is_said(pipe):
    reader, writer = pipe
    pipe.remove(reader)
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        OutputSink("out", output=writer).deliver([event(1)])
