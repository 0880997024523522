"""Frames as they come: whole ones once, half-written ones when they are whole, bad ones told; Ctrl-C; frames of a program."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.errors import UserError
from data_pipelines.readers.images.image import ImageCalibration
from spt_jax.eels import arrivals
from spt_jax.eels.arrivals import Arrivals
from spt_jax.eels.live import FrameLog, LiveRun, answers, follow_folder
from spt_jax.eels.live_page import LivePage, LiveState, live_html
from tests.eels.planted_answer import ENERGY, PlantedModel, truth
from tests.pages import Page

ROOT = Path(__file__).parents[2]
GIVEN = ImageCalibration(offset=520, step=0.5)


def frame(height=8, width=9, number=0):
    """(H, W, E) whose classes `PlantedModel` reads."""
    true = truth(10, height, width, 3)[number]
    return np.repeat(true[..., None], len(ENERGY), axis=-1).astype(np.float32)


class Watched:
    """follow_folder in a thread, until it has said so many lines."""

    def __init__(self, folder, log=None, show=None, interval=0.02):
        self.run, self.said, self.over = LiveRun(), [], threading.Event()
        arguments = (folder, PlantedModel(), self.run, self.said.append, interval, GIVEN, log, show, self.over.is_set)
        self.thread = threading.Thread(target=follow_folder, args=arguments, daemon=True)
        self.thread.start()

    def until(self, lines, patience=20):
        end = time.monotonic() + patience
        while len(self.said) < lines and time.monotonic() < end:
            time.sleep(0.01)
        assert len(self.said) >= lines, self.said

    def close(self):
        self.over.set()
        self.thread.join()


@pytest.fixture
def watch(monkeypatch):
    monkeypatch.setattr(arrivals, "PATIENCE_SECONDS", 0.3)
    started = []

    def start(*arguments, **options):
        started.append(Watched(*arguments, **options))
        return started[-1]

    yield start
    for each in started:
        each.close()


def test_frames_are_answered_as_they_come(tmp_path, watch):
    np.save(tmp_path / "a0.npy", frame())
    log = FrameLog(tmp_path / "log.jsonl")
    watched = watch(tmp_path, log)
    watched.until(1)
    for number in range(1, 4):
        np.save(tmp_path / f"a{number}.npy", frame(number=number))
        watched.until(number + 1)
    np.save(tmp_path / "b.npy", frame(12, 20))
    watched.until(5)
    watched.close()
    first, *middle, last = watched.run.frames
    assert [each.file for each in watched.run.frames] == ["a0.npy", "a1.npy", "a2.npy", "a3.npy", "b.npy"]
    assert first.compiled and last.compiled and not any(each.compiled for each in middle)
    assert len(watched.run.seconds) == 3 and 0 < middle[-1].p50 <= middle[-1].p99 < 5
    assert last.shape == (1, 12, 20, 120) and "compiled for 12 x 20 x 120" in watched.said[-1]
    assert sum(middle[0].pixels.values()) + middle[0].left_out == 72
    records = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert [each["file"] for each in records] == [each.file for each in watched.run.frames]
    assert records[0]["p50"] is None and records[1]["pixels"] == middle[0].pixels


def test_a_file_that_is_being_written_is_read_when_it_is_whole(tmp_path, watch):
    np.save(whole := io.BytesIO(), frame())
    content = whole.getvalue()
    watched = watch(tmp_path)
    # Cut short at first, and still for longer than it takes to be read.
    with open(tmp_path / "slow.npy", "wb") as file:
        file.write(content[: len(content) // 2])
        file.flush()
        time.sleep(0.15)
        file.write(content[len(content) // 2 :])
    watched.until(1)
    assert watched.run.frames[-1].file == "slow.npy" and not watched.run.bad


def test_bad_frames_are_told_once_and_counted(tmp_path, watch):
    watched = watch(tmp_path)
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01\x00")
    np.save(tmp_path / "nan.npy", np.full((4, 4, 120), np.nan, np.float32))
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "note.pdf").write_bytes(b"x")
    (tmp_path / ".hidden.npy").write_bytes(b"x")
    watched.until(2)
    np.save(tmp_path / "good.npy", frame())
    watched.until(3)
    time.sleep(0.5)
    assert len(watched.said) == 3 and sorted(name for name, _ in watched.run.bad) == ["cut.npy", "nan.npy"]
    assert all("\n" not in line for line in watched.said) and "2 bad" in watched.run.summary()
    # Mended, it is read.
    np.save(tmp_path / "cut.npy", frame())
    watched.until(4)
    assert watched.run.frames[-1].file == "cut.npy" and not watched.run.frames[-1].again
    np.save(tmp_path / "cut.npy", frame(number=5))
    watched.until(5)
    assert watched.run.frames[-1].again and "again, as it changed" in watched.said[-1]


def test_what_the_log_tells_is_not_answered_again(tmp_path, watch):
    np.save(tmp_path / "a.npy", frame())
    log = FrameLog(tmp_path / "log.jsonl")
    first = watch(tmp_path, log)
    first.until(1)
    first.close()
    log.path.write_text(log.path.read_text() + '{"file": "cut')
    np.save(tmp_path / "b.npy", frame())
    again = FrameLog(log.path)
    second = watch(tmp_path, again)
    second.until(1)
    second.close()
    assert [each.file for each in second.run.frames] == ["b.npy"] and len(again.known) == 1
    assert len(FrameLog(log.path).known) == 2


def test_a_folder_that_goes_and_comes(tmp_path, watch):
    folder = tmp_path / "in"
    folder.mkdir()
    np.save(folder / "a.npy", frame())
    watched = watch(folder)
    watched.until(1)
    (folder / "a.npy").unlink()
    folder.rmdir()
    watched.until(2)
    assert "No such file or directory" in watched.said[1]
    folder.mkdir()
    np.save(folder / "b.npy", frame())
    watched.until(3)
    assert watched.run.frames[1].file == "b.npy" and len(watched.said) == 3
    with pytest.raises(UserError, match="no such folder to watch"):
        Arrivals(tmp_path / "none", 0.1)


def test_calibrations_beside_arrays_are_no_frames(tmp_path):
    np.save(tmp_path / "a.npy", frame())
    np.savetxt(tmp_path / "a.csv", ENERGY, header="energy", comments="")
    (tmp_path / "b.csv").write_text("energy,counts\n")
    (tmp_path / "out.jsonl").write_text("{}")
    own = Arrivals(tmp_path, 0.1)
    assert own.look(0) == [] and [file.path.name for file in own.look(0.2)] == ["a.npy", "b.csv"]


def test_the_page_is_whole_and_reads_itself_again(tmp_path, watch):
    page = LivePage(tmp_path / "live.html", "today")
    watched = watch(tmp_path, show=page.show)
    for number in range(3):
        np.save(tmp_path / f"a{number}.npy", frame(number=number))
        watched.until(number + 1)
    end = time.monotonic() + 20
    while not (tmp_path / "live.html").exists() and time.monotonic() < end:
        time.sleep(0.05)
    early = (tmp_path / "live.html").read_text(encoding="utf-8")
    Page(early)
    assert '<meta http-equiv="refresh" content="2">' in early
    watched.run.bad.append(("x<y>.npy", "truncated"))
    watched.close()
    page.close(watched.run)
    last = (tmp_path / "live.html").read_text(encoding="utf-8")
    assert "refresh" not in last and "x<y>.npy" in Page(last).text and "a2.npy" in Page(last).text
    assert not page.trouble and not list(tmp_path.glob(".*.partial"))
    Page(live_html(LiveState.of(LiveRun()), "nothing yet", 2))


def test_frames_of_a_program():
    taken = []

    def detector():
        for number in range(5):
            taken.append(number)
            yield frame(number=number)

    found = answers(detector(), PlantedModel(), ENERGY)
    assert next(found).phase.shape == (1, 8, 9)
    assert len(list(found)) == 4 and taken == [0, 1, 2, 3, 4]
    with pytest.raises(UserError, match=r"frame 1: rows x columns x 120 counts are needed, got 4 x 120 of float64$"):
        next(answers([np.zeros((4, 120))], PlantedModel(), ENERGY))


def test_frames_of_a_program_that_fails_or_is_left():
    def failing():
        yield frame()
        raise OSError("the detector is off")

    found = answers(failing(), PlantedModel(), ENERGY)
    next(found)
    with pytest.raises(OSError, match="the detector is off"):
        next(found)
    before = threading.active_count()
    left = answers((frame() for _ in range(1000)), PlantedModel(), ENERGY)
    next(left)
    left.close()
    end = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.05)
    assert threading.active_count() <= before


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT of another process")
def test_ctrl_c_ends_the_command_cleanly(tmp_path):
    folder, run = tmp_path / "in", tmp_path / "run"
    folder.mkdir()
    run.mkdir()
    (run / "config.json").write_text("{}")
    np.save(folder / "a.npy", frame())
    code = (
        # Whoever starts the tests in the background has it ignored, which is inherited.
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from spt_jax.eels import answer; from tests.eels.planted_answer import PlantedModel; "
        "answer.load_image_model = lambda path: PlantedModel(); from spt_jax.cli import main; main(sys.argv[1:])"
    )
    arguments = ["image", str(run), str(folder), "--live", "--offset", "520", "--step", "0.5", "--interval", "0.05"]
    arguments += ["--html", str(tmp_path / "live.html"), "--out", str(tmp_path / "live.jsonl")]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 60
    while not (tmp_path / "live.jsonl").exists() and time.monotonic() < end and process.poll() is None:
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, complaints = process.communicate(timeout=60)
    assert process.returncode == 0, complaints
    assert "a.npy" in out and "1 frame answered, 0 bad" in out and "Traceback" not in complaints
    Page((tmp_path / "live.html").read_text(encoding="utf-8"))
    assert len((tmp_path / "live.jsonl").read_text().splitlines()) == 1
