"""What the Dockerfile promises, and what it puts into the image: run as it runs there, without a container."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.deploy.files import USER, VERSION, instructions
from tests.support.evidence import assert_nothing_lost, flow
from tests.support.processes import ROOT, Child, Installation, answers
from web.simulator.server import Simulator
from web.simulator.world import World

INSTRUCTIONS = instructions()
LAST_STAGE = INSTRUCTIONS[max(number for number, (word, _) in enumerate(INSTRUCTIONS) if word == "FROM") :]


def last(word: str) -> str:
    """What the last stage says behind this word."""
    [found] = [rest for own, rest in LAST_STAGE if own == word]
    return found


def test_it_is_nobody_with_a_name_and_ends_in_order():
    assert last("USER") == f"{USER}:{USER}"
    assert last("STOPSIGNAL") == "SIGTERM"
    # In the form of a shell's command line a shell would get the signal, and keep it.
    assert json.loads(last("ENTRYPOINT")) == ["verisink"]
    assert json.loads(last("CMD")) == ["up"]
    assert json.loads(last("VOLUME")) == [last("WORKDIR")]


def test_its_base_is_named_once_and_exactly():
    [base] = [rest for word, rest in INSTRUCTIONS if word == "ARG" and rest.startswith("PYTHON_IMAGE=")]
    assert re.fullmatch(r"PYTHON_IMAGE=docker\.io/library/python:3\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", base)
    stages = [rest for word, rest in INSTRUCTIONS if word == "FROM"]
    assert stages == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE}"]


def test_nothing_gets_in_that_is_not_locked():
    installs = [command for word, rest in INSTRUCTIONS if word == "RUN" for command in rest.split("&&")]
    installs = [command for command in installs if " install " in command and "pip" in command]
    assert len(installs) == 2
    assert "--require-hashes" in installs[0]
    assert "--no-deps" in installs[1]
    assert "--no-build-isolation" in installs[1]
    assert not [rest for word, rest in INSTRUCTIONS if word == "ADD"]
    assert not [rest for _, rest in INSTRUCTIONS if "curl" in rest or "apt-get" in rest]


def test_it_holds_no_secret_and_sets_none():
    """A setting in the image would be there twice for who gives it as a file."""
    named = [rest for word, rest in INSTRUCTIONS if word in ("ENV", "ARG")]
    assert set(re.findall(r"VERISINK_\w+", " ".join(named))) == {"VERISINK_HOST", "VERISINK_LOG_FORMAT"}
    assert f"VERSION={VERSION}" in named
    assert (ROOT / ".dockerignore").read_text("utf-8").partition("\n")[2].startswith("*\n")


def copied() -> list[str]:
    """What the Dockerfile takes from the checkout."""
    places = [rest.split()[:-1] for word, rest in INSTRUCTIONS if word == "COPY" and "--from" not in rest]
    return sorted(name for names in places for name in names)


def test_it_is_given_what_it_copies_and_nothing_else():
    let_in = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE)
    assert sorted(let_in) == copied()


@pytest.mark.flow
def test_its_health_check_asks_the_process_in_it(simulator: Simulator, tmp_path: Path):
    command = json.loads(last("HEALTHCHECK").partition(" CMD ")[2])
    assert command[0] == "python"
    with Installation(tmp_path / "one", simulator.credentials, simulator.url) as installation:
        child = installation.up()
        check = [sys.executable, *command[1:]]
        port = str(installation.port)
        assert installation.start_program("check", check, VERISINK_PORT=port).wait() == 0
        # Some platforms say the port without the prefix.
        assert installation.start_program("check", check, PORT=port).wait() == 0
        assert child.stop() == 0
        assert installation.start_program("check", check, VERISINK_PORT=port).wait() == 1


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that other users may enter. Below pytest's own they may not, and each run of pytest sees to that."""
    folder = Path(tempfile.mkdtemp(prefix="verisink-image-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def program(place: Path) -> Iterator[Path]:
    """What the image has of Verisink, in a folder that nobody may write: made as the Dockerfile makes it."""
    source, built, program = place / "src", place / "built", place / "program"
    source.mkdir()
    for name in copied():
        take = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        take(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--wheel-dir", str(built)]
    subprocess.run(
        [*pip, "--no-build-isolation", "--no-deps", "--no-index", str(source)],
        check=True,
        timeout=100,
    )
    [wheel] = built.glob("verisink-*.whl")
    assert wheel.name.startswith(f"verisink-{VERSION}-")
    shutil.unpack_archive(wheel, program, "zip")
    compiled = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(program)]
    subprocess.run(compiled, check=True, timeout=100)
    everything = [program, *program.rglob("*")]
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield program
    for path in everything:
        path.chmod(0o755)


def as_root() -> bool:
    """Whether there are privileges here that can be given up."""
    return os.geteuid() == 0 and shutil.which("setpriv") is not None


def without_privileges(command: list[str]) -> list[str]:
    """The command as the image's user, where this is run by somebody who may become that."""
    if not as_root():
        return command
    user = ["--reuid", str(USER), "--regid", str(USER), "--clear-groups"]
    return ["setpriv", *user, "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", *command]


def readable_python() -> bool:
    """Whether the image's user may run this Python: one below root's home is closed to it."""
    command = without_privileges([sys.executable, "-c", "import flask"])
    return subprocess.run(command, capture_output=True, timeout=60).returncode == 0


@pytest.mark.flow
def test_what_it_has_serves_a_webhook_without_privileges_and_without_writing(
    program: Path, simulator: Simulator, place: Path
):
    if not readable_python():
        pytest.skip("this Python may not be run by an unprivileged user")
    with Installation(place / "state", simulator.credentials, simulator.url) as installation:
        if as_root():
            for path in (installation.folder, installation.config):
                os.chown(path, USER, USER)
        origin = [sys.executable, "-c", "import worker; print(worker.__file__)"]
        found = subprocess.run(without_privileges(origin), cwd=program, capture_output=True, check=True, timeout=60)
        assert Path(found.stdout.decode().strip()).is_relative_to(program)
        command = without_privileges([sys.executable, "-m", "web.main", "up"])
        child = installation.start_program_in(program, "image", command, PYTHONDONTWRITEBYTECODE="1")
        child.ready(lambda: answers(installation.url + "/readyz"))
        assert _written_places(child) == {installation.folder}
        assert not as_root() or psutil.Process(child.pid).uids().effective == USER
        with flow(simulator, installation, installation.url) as running:
            world: World = simulator.world
            record = world.change(world.create("persona", "inquiry").ref, "approve")
            assert running.tell(record).status == 200
            running.result(record.ref, stage="decided", outcome="approved")
            assert_nothing_lost(running)
        installation.show()
        assert child.stop() == 0


def _written_places(child: Child) -> set[Path]:
    """The folders of the files that it has open for writing, but for its output."""
    files = psutil.Process(child.pid).open_files()
    return {Path(file.path).parent for file in files if file.mode != "r" and not file.path.endswith((".log", ".out"))}
