"""A lock between processes: one has it, it is free when its file goes, and a disk that cannot lock is no obstacle."""

import errno
import fcntl
import os
import shutil

import pytest

from data_pipelines.errors import UserError
from data_pipelines.files import locked


def test_one_at_a_time(tmp_path):
    path = tmp_path / "new" / "lock"
    with locked(path, "answers"):
        for _ in range(2):
            with (
                pytest.raises(UserError, match=rf"^answers: process {os.getpid()} on .* is writing it"),
                locked(path, "answers"),
            ):
                pass
        shutil.rmtree(path.parent)
        with locked(path, "answers"):
            assert path.exists()
    with locked(path, "answers"):
        pass


def test_one_that_goes_at_the_last_moment_is_not_taken(tmp_path, monkeypatch):
    path, flock, calls = tmp_path / "new" / "lock", fcntl.flock, []

    def late(*given):
        calls.append(given)
        if len(calls) == 1:
            shutil.rmtree(path.parent)
        return flock(*given)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(path, "answers"):
        assert len(calls) == 2 and path.read_text().startswith(f"process {os.getpid()} on ")


def test_a_disk_that_cannot_lock(tmp_path, monkeypatch):
    def fail(number):
        def flock(*given):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", flock)

    fail(errno.ENOLCK)
    with locked(tmp_path / "lock", "answers"), locked(tmp_path / "lock", "answers"):
        pass
    fail(errno.EIO)
    with pytest.raises(OSError, match="Input/output"), locked(tmp_path / "lock", "answers"):
        pass
