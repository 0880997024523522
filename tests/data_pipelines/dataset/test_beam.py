"""Apache Beam as the engine: in this process, and over a portable runner's service with workers in processes of their own."""

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_pipelines.dataset import build, chunks
from data_pipelines.dataset.beam import Beam
from data_pipelines.dataset.build import prepare
from data_pipelines.errors import UserError
from spt_jax.cli import main
from tests.data_pipelines.dataset.test_records import contents

pytest.importorskip("apache_beam", reason="needs the extra `beam`")

# Beam's own job service and worker pool, at ports that are free, until its input is closed.
SERVICE = """
import sys
from apache_beam.runners.portability.local_job_service import LocalJobServicer
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer
pool, server = BeamFnExternalWorkerPoolServicer.start(use_process=True)
print(LocalJobServicer().start_grpc_server(0), pool, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def service():
    """A job service that starts each worker as a process of its own. beam(wait): the engine. workers(): their ids."""
    root = str(Path(__file__).parents[3])
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # the pool starts `python`
    process = subprocess.Popen(
        [sys.executable, "-c", SERVICE],
        env=os.environ | {"PYTHONPATH": root, "PATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    port, pool = process.stdout.readline().split()
    options = f"--job_endpoint=localhost:{port}", "--environment_type=EXTERNAL", f"--environment_config={pool}"

    def workers() -> list[int]:
        tasks = Path(f"/proc/{process.pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]

    yield SimpleNamespace(beam=lambda wait=60: Beam("PortableRunner", options, wait), workers=workers)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_in_one_process_it_gives_the_same_bytes(built, tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_TASKS", 3)
    prepare(built.sources, tmp_path / "dataset", built.grid, workers=1, beam=Beam("DirectRunner"))
    assert contents(tmp_path / "dataset") == contents(built.out)


@pytest.mark.skipif(sys.platform != "linux", reason="children of a process are found in /proc")
def test_killed_workers_and_drivers_lose_nothing(built, tmp_path, service, monkeypatch):
    """A worker is killed with -9, the next driver stops in the middle, a third one ends with the bytes of one process."""
    monkeypatch.setattr(chunks, "CHUNK_TASKS", 1)
    source, out, whole = [built.tree], tmp_path / "dataset", tmp_path / "whole"
    prepare(source, whole, built.grid)

    def never(*_):
        raise AssertionError("work in the driver")

    monkeypatch.setattr(chunks, "run_task", never)

    def kill() -> None:
        while not (found := service.workers()):
            time.sleep(0.05)
        os.kill(found[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(UserError, match=r"no piece of work was done in 1 s \(\d+ are left\); its workers may be gone"):
        prepare(source, out, built.grid, beam=service.beam(1))
    killer.join()

    def stop(stage: str, done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(source, out, built.grid, beam=service.beam(), report=stop)
    kept, first = len(list((out / build.WORK).glob("*/*.arrow"))), []
    prepare(source, out, built.grid, beam=service.beam(), report=lambda *said: first.append(said))
    assert kept and first[0][0] == "ingesting" and first[0][1] > 0, "what was kept is told first"
    assert contents(out) == contents(whole)


def fail(path: Path) -> None:
    raise OSError(28, f"No space left on device\nfor {path}")


def nothing() -> None:
    pass


def test_what_a_worker_says_is_one_line(tmp_path):
    path = tmp_path / "0.arrow"
    with pytest.raises(
        UserError, match=r"^--beam DirectRunner: OSError: \[Errno 28\] No space left .*the same command"
    ):
        Beam("DirectRunner").run({path: partial(fail, path)}, tmp_path)
    with pytest.raises(UserError, match="ended without 1 of 1 pieces of work; what is done is kept"):
        Beam("DirectRunner").run({path: nothing}, tmp_path)
    path.write_bytes(b"")
    Beam("DirectRunner").run({path: partial(fail, path)}, tmp_path)  # it is there: not made again


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--beam", "Nope"], "--beam Nope: Unexpected pipeline runner: Nope. Valid values are"),
        (
            ["--beam", "PortableRunner", "--beam-options", "job_endpoint=localhost:1"],
            "nothing answers at job_endpoint=localhost:1 (Connection refused); start it, or correct it",
        ),
        (
            "--beam PortableRunner --beam-options environment_type=EXTERNAL environment_config=localhost:1".split(),
            "nothing answers at environment_config=localhost:1",
        ),
        (["--beam", "DirectRunner", "--beam-options", "direct_num_worker=2"], "direct_num_worker: DirectRunner has no"),
        (
            ["--beam", "DirectRunner", "--beam-options", "direct_num_workers=x"],
            "Beam cannot read --direct_num_workers=x",
        ),
        (["--beam", "DirectRunner", "--beam-wait", "0"], "wait"),
        (["--beam-options", "a=1"], "--beam-options are of the runner that --beam names"),
    ],
)
def test_bad_input_is_one_line_before_any_work(built, tmp_path, capsys, given, words):
    with pytest.raises(SystemExit) as stop:
        main(["prepare", str(built.tree), "--out", str(tmp_path / "dataset"), *given])
    assert stop.value.code
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in last or "wait" in words
    assert not (tmp_path / "dataset").exists()
