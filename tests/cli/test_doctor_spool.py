"""What `verisink doctor` says about the spool."""

import shutil
from collections import namedtuple

import pytest

from worker.cli import checks
from worker.settings import Settings
from worker.store.spool import Kept, Spool

DiskUsage = namedtuple("DiskUsage", "total used free")
PLENTY = 500 << 30


@pytest.fixture
def free(monkeypatch):
    """How many bytes the disk has left."""
    left = [PLENTY]
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: DiskUsage(PLENTY, 0, left[0]))
    return left


def examine(folder, **changes):
    settings = Settings.model_validate({"spool_dir": folder, **changes})
    return [(check.name, check.state, check.detail) for check in checks.spool_checks(settings)]


def fill(folder, *bodies):
    with Spool(folder, max_bytes=PLENTY, min_free_bytes=0) as spool:
        assert all(spool.append([Kept("", body) for body in bodies]))


def test_without_a_spool_nothing_is_said():
    assert examine(None) == []


def test_an_empty_one_is_well_and_looking_makes_none(tmp_path, free):
    assert examine(tmp_path / "spool") == [("spool", "ok", "empty; 500.0 GiB free")]
    assert not (tmp_path / "spool").exists()
    fill(tmp_path / "spool")
    assert examine(tmp_path / "spool") == [("spool", "ok", "empty; 500.0 GiB free")]


def test_what_waits_is_counted(tmp_path, free):
    fill(tmp_path / "spool", b"x" * (1 << 20), b"")

    assert examine(tmp_path / "spool") == [("spool", "warn", "2 deliveries, 1.0 MiB; 500.0 GiB free")]


def test_a_full_one_fails(tmp_path, free):
    fill(tmp_path / "spool", b"x" * (2 << 20))
    assert examine(tmp_path / "spool", spool_max_bytes=1 << 20) == [
        ("spool", "fail", "full: 1 deliveries, 2.0 MiB; 500.0 GiB free")
    ]

    free[0] = 100 << 20
    assert examine(tmp_path / "spool") == [("spool", "fail", "full: 1 deliveries, 2.0 MiB; 0.1 GiB free")]


def test_a_folder_that_cannot_be_used_fails(tmp_path):
    # What stands for the folder is a file, because nothing is forbidden to a superuser.
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "spool", tmp_path / "missing" / "spool"):
        [(name, state, detail)] = examine(folder)
        assert (name, state) == ("spool", "fail")
        assert "is no folder that may be written" in detail


def test_a_damaged_file_fails(tmp_path):
    (tmp_path / "spool.db").write_bytes(b"not a database" * 1000)

    [(_, state, detail)] = examine(tmp_path)

    assert (state, "not a database" in detail) == ("fail", True)
