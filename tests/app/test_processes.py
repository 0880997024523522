"""Several processes behind one port: all answer, one that dies is replaced, and none is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from data_pipelines.errors import UserError
from spt_jax.app.listen import listening, shared
from tests.runs.formats import HERE


def begun(*words: str) -> subprocess.Popen:
    line = [sys.executable, "-c", "from spt_jax.cli import main; main()", "serve", *words, "--processes", "2"]
    return subprocess.Popen([*line, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def line_with(process: subprocess.Popen, word: str) -> str:
    while word not in (line := process.stdout.readline()):
        assert line, f"it ended without {word!r}"
    return line


def workers(process: subprocess.Popen) -> list[int]:
    """Without the helper of multiprocessing that has no socket."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs /proc")
def test_one_that_dies_is_replaced_and_a_stop_ends_all():
    process = begun(str(HERE / "export_2.spt"))
    try:
        address = line_with(process, "http").split()[0]
        first = workers(process)
        assert len(first) == 2

        def healthy() -> bool:
            with urllib.request.urlopen(f"{address}/health", timeout=30) as answer:
                return json.load(answer)["status"] == "ok"

        assert all(healthy() for _ in range(10))
        os.kill(first[0], signal.SIGKILL)
        assert f"process {first[0]} ended by signal 9" in line_with(process, "takes its place")
        # Also those that wait at the socket of the one that is gone.
        assert all(healthy() for _ in range(10))
        second = workers(process)
        assert len(second) == 2 and first[1] in second and first[0] not in second
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=30)[0].splitlines()[-1] == "stopped"
        assert process.returncode == 0
    finally:
        process.kill()
    until = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in second):
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_model_that_no_process_can_read_is_one_line(tmp_path):
    (tmp_path / "no.spt").write_bytes(b"nothing")
    process = begun(str(tmp_path / "no.spt"))
    said = process.communicate(timeout=120)[0].splitlines()
    assert process.returncode == 1 and "not an exported model, or damaged" in said[-1]
    assert not any("Traceback" in line for line in said)


@pytest.mark.skipif(sys.platform != "linux", reason="one socket for all there")
def test_a_port_that_processes_share_is_taken():
    own = listening("127.0.0.1", 0)
    port = own.getsockname()[1]
    sockets = shared(own, 3)
    assert {each.getsockname()[1] for each in sockets} == {port}
    with pytest.raises(UserError, match="take another with --port"):
        listening("127.0.0.1", port)
    for each in sockets:
        each.close()
