"""What a user sees and hears while a command works: no silence in a log, an answer to Ctrl-C at once, one last line."""

import io
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from rich.console import Console

from data_pipelines.library import LIBRARY
from spt_jax.commands import screen
from spt_jax.training import progress
from spt_jax.training.progress import Live, TrainingLine
from tests.conftest import SMALL

LINE = {"loss": 1.25, "spectra_per_s": 640.0, "epochs": 9}

ENDLESS = """
import signal
import jax
from spt_jax.commands.screen import answering

signal.signal(signal.SIGINT, lambda *_: None)  # as the trainer does, to stop between epochs
with answering():
    print("ready", flush=True)
    jax.block_until_ready(jax.jit(lambda: jax.lax.while_loop(lambda x: x < 1, jax.numpy.sin, 0.0))())
"""


def wait_until(seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_log_is_never_silent(monkeypatch):
    monkeypatch.setattr(progress, "SILENCE_SECONDS", 0.05)
    log = io.StringIO()
    with Live(Console(file=log), "starting") as live:
        live.tell("reading 3/8", 3, 8)
        wait_until(lambda: log.getvalue().count("reading 3/8  [0:00:0") >= 2)
        live.tell("reading 8/8", 8, 8, aloud=True)
    assert log.getvalue().splitlines()[-1] == "reading 8/8"


def test_training_says_in_a_log_that_it_begins_and_each_validation():
    log = io.StringIO()
    with TrainingLine(Console(file=log)) as report:
        report({**LINE, "epoch": 1})
        report({**LINE, "epoch": 2, "score": 0.5})
    assert log.getvalue().splitlines() == [
        "reading the data, compiling",
        "epoch 2/9  loss 1.250  score 0.500  640/s",
    ]


def test_training_says_on_a_terminal_how_far_an_epoch_is():
    screen, log = io.StringIO(), io.StringIO()
    for stream, terminal in ((screen, True), (log, False)):
        with TrainingLine(Console(file=stream, force_terminal=terminal, width=80)) as report:
            report({**LINE, "epoch": 1, "score": 0.5})
            report.within({"epoch": 2, "epochs": 9, "share": 0.251, "loss": 1.3, "spectra_per_s": 700})
    assert "epoch 2/9 at 25 %  loss 1.300  score 0.500  700/s" in screen.getvalue()
    assert log.getvalue().splitlines()[1:] == ["epoch 1/9  loss 1.250  score 0.500  640/s"]


def test_a_throughput_is_of_what_this_run_did(monkeypatch):
    log, clock = io.StringIO(), iter([10.0, 14.0, 20.0])
    monkeypatch.setattr(screen, "errors", Console(file=log))
    monkeypatch.setattr(screen.time, "monotonic", lambda: next(clock))
    report = screen.Throughput()
    report(4000, 10000)
    report(8000, 10000)
    report(10000, 10000)
    assert log.getvalue().splitlines() == [
        "4,000 of 10,000 spectra",
        "10,000 of 10,000 spectra  600/s  0:00:00 left",
    ]


def test_a_terminal_shows_no_epoch_before_there_is_one():
    screen = io.StringIO()
    with TrainingLine(Console(file=screen, force_terminal=True, width=80)) as report:
        wait_until(lambda: "compiling" in screen.getvalue())
        before = screen.getvalue()
        report({**LINE, "epoch": 1})
    assert "epoch" not in before and "left" not in before
    assert "epoch 1/9" in screen.getvalue()


def test_ctrl_c_is_answered_while_xla_works_and_twice_ends_the_process():
    """XLA never comes back here, so Python's own handlers do not run."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", ENDLESS], text=True, **pipes) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == "stopping once the state is saved; once more stops at once\n"
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert "stopped; run the same command again" in process.communicate(timeout=60)[1]
        assert process.returncode == 130


def test_a_full_disk_in_mid_training_is_one_line(tmp_path):
    """The first checkpoint does not fit; Orbax writes it in threads of its own."""
    mount = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=300k tmpfs "$0" && exec "$@"', str(tmp_path)]
    if shutil.which("unshare") is None or subprocess.run([*mount, "true"], capture_output=True).returncode:
        pytest.skip("needs a small file system, which takes Linux and a user that may mount one")
    train = ["train", "tiny", "--data", str(LIBRARY), "--out", str(tmp_path / "run"), *SMALL]
    done = subprocess.run(
        [*mount, sys.executable, "-m", "spt_jax.launch", *train], capture_output=True, text=True, check=False
    )
    assert done.stderr == "spt-jax: error: No space left on device; free some and run the same command again\n"
    assert done.returncode == 1
