"""Processes that do not have the same configuration or data say which field differs, before any step."""

import json
import os
import shutil
import socket
import subprocess
import sys

from data_pipelines.library import LIBRARY
from spt_jax.training.agreement import differing


def test_what_differs_is_named_with_who_has_what():
    same = {"train.batch_size": 64, "train.seed": 0}
    assert differing([same, dict(same)]) == ""
    assert differing([same, same, same | {"train.seed": 5}]) == "train.seed is 0 in process 0, 1 and 5 in process 2"
    words = differing([{**same, "objective.noise": 0.1}] + 7 * [{**same, "objective.hide": 0.3}])
    assert words == (
        "objective.noise is 0.1 in process 0 and none in process 1, 2, 3, 4, 5 and 2 more, "
        "objective.hide is none in process 0 and 0.3 in process 1, 2, 3, 4, 5 and 2 more"
    )
    assert differing([{str(i): i for i in range(9)}, {}]).endswith(", 4 fields more")


def test_two_processes_that_disagree_stop_before_any_step(tmp_path):
    """Real ones, with another seed and other data; the run folder is not claimed."""
    other = tmp_path / "other"
    shutil.copytree(LIBRARY, other)
    card = json.loads((other / "data_card.json").read_text())
    (other / "data_card.json").write_text(json.dumps({**card, "fingerprint": "another"}))
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("localhost", 0))
        place = {"JAX_COORDINATOR_ADDRESS": f"localhost:{reserved.getsockname()[1]}", "JAX_NUM_PROCESSES": "2"}
        processes = []
        for number, (data, seed) in enumerate(((LIBRARY, 0), (other, 5))):
            command = [sys.executable, "-m", "spt_jax.launch", "train", "tiny", "--distributed", "--data", str(data)]
            command += ["--out", str(tmp_path / "run"), "--train.seed", str(seed)]
            environment = {**os.environ, **place, "JAX_PROCESS_ID": str(number), "NPROC": "16"}
            kwargs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            processes.append(subprocess.Popen(command, env=environment, **kwargs))
        told = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 1], "\n".join(told)
    for text in told:
        [line] = [line for line in text.splitlines() if "do not agree" in line]
        assert "train.seed is 0 in process 0 and 5 in process 1" in line
        assert f'data.fingerprint is "{card["fingerprint"]}" in process 0 and "another" in process 1' in line
    assert not (tmp_path / "run").exists()
