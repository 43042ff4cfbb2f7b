"""The tools of the harness do what their names say: a clock that is wrong, a disk that is full."""

import subprocess
import sys
import time

import pytest

from tests.chaos.disk import disk
from tests.chaos.town import shifted_clock
from tests.support.processes import ROOT
from worker.settings import child_environment

READ_CLOCKS = """
import time
from datetime import UTC, datetime
from worker.clock import unix_seconds, utc_now
print(time.time(), utc_now().timestamp(), unix_seconds(), datetime.now(UTC).timestamp(), datetime.now().timestamp())
print(time.monotonic(), type(datetime.now(UTC)) is datetime)
"""


@pytest.mark.parametrize("shift", [600, -600])
def test_a_wrong_clock_is_wrong_for_all_who_ask_and_durations_stay_right(tmp_path, shift):
    environ = {**child_environment(tmp_path / "none.toml"), **shifted_clock(shift)}

    told = subprocess.run([sys.executable, "-c", READ_CLOCKS], env=environ, cwd=ROOT, capture_output=True, check=True)

    walls, (monotonic, is_datetime) = [line.split() for line in told.stdout.decode().splitlines()]
    for wall in walls:
        assert float(wall) - time.time() == pytest.approx(shift, abs=60)
    assert float(monotonic) == pytest.approx(time.monotonic(), abs=60)
    assert is_datetime == "True"


def test_a_full_disk_takes_nothing_until_it_is_freed():
    with disk() as small:
        if small is None:
            pytest.skip("mounting a file system is not allowed here")
        small.fill()
        with pytest.raises(OSError, match="No space left"):
            (small.path / "more").write_bytes(b"x" * 100_000)
        small.free()
        (small.path / "more").write_bytes(b"x" * 100_000)
        path = small.path
    assert not path.exists()
