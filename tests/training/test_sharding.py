"""What a compiled step exchanges between devices, and real runs over several processes."""

import json
import os
import signal
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from data_pipelines.errors import RunError
from data_pipelines.library import LIBRARY
from spt_jax.training.sharding import Layout, make_mesh
from tests.training.test_train import flags, losses

COMPILE = """
import json
import jax, numpy as np
from benchmarks import workload
from benchmarks.compile.traffic import count
from spt_jax.config import Config, ExecutionConfig, LabelsConfig, ModelConfig
from spt_jax.training.sharding import Layout, make_mesh
small = {"width": 8, "blocks": 1, "bands": 1, "kernel": 1, "attention": "none", "hidden": 32, "highest_band": 4}
model, found = ModelConfig(**small), []
for fsdp, slices, pieces in ((1, 1, 2), (0, 1, 1), (2, 1, 1), (1, 2, 1), (2, 2, 1), (4, 2, 1)):
    config = Config(model, LabelsConfig(mixup=0.4), execution=ExecutionConfig(accumulate=pieces))
    layout = Layout(make_mesh(fsdp, slices))
    made, batch = workload.make(config, 32, 24, layout=layout).made, workload.make(config, 32, 24).batch
    state, batch = made.state(), layout.place_rows(batch)
    program = jax.jit(made.step, donate_argnums=0).lower(state, batch).compile()
    held = [shard.data.size for shard in state.params.addressable_shards]
    for _ in range(3):
        state, metrics = program(state, batch)
    summary = [float(metrics["loss"]), float(np.abs(np.asarray(state.params)).sum())]
    found.append([f"{fsdp} {slices}", made.flat.size, count(program.as_text(), slices).collectives, held, summary])
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def exchanges() -> dict[str, tuple[int, list, list, list]]:
    """By "fsdp slices" of a step on eight devices: parameters, exchanges, parameters held by each device, and what comes out."""
    environment = {**os.environ, "XLA_FLAGS": flags(8), "NPROC": "16"}
    line = [sys.executable, "-c", COMPILE]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=600, check=True)
    return {name: rest for name, *rest in json.loads(done.stdout.splitlines()[-1])}


def large(found: list, far: bool) -> list[tuple[str, int]]:
    """Those of vectors of parameters, inside slices or between them, in an order."""
    return sorted((kind, nbytes) for kind, nbytes, _, outside in found if nbytes > 4 * 64 and outside == far)


def test_one_all_reduce_of_the_gradient_and_no_gather(exchanges):
    size, found, *_ = exchanges["1 1"]
    assert [each[:2] for each in found if each[0] == "all-reduce"] == [["all-reduce", 4 * size]]
    assert not [each for each in found if each[0] in ("all-gather", "all-to-all")]
    # Mixup's neighbour: a row crosses to the next device, nothing larger.
    assert all(nbytes <= 4 * 24 for kind, nbytes, *_ in found if kind == "collective-permute")


def test_shared_parameters_are_gathered_once_and_their_gradient_reduced_once(exchanges):
    size, found, *_ = exchanges["0 1"]
    assert large(found, far=False) == [("all-gather", 4 * size), ("reduce-scatter", 4 * size)]


def test_between_slices_goes_one_share_of_each_device(exchanges):
    for mesh in ("1 2", "2 2", "4 2"):
        size, found, *_ = exchanges[mesh]
        assert large(found, far=True) == [("all-reduce", 4 * size // 4)], mesh
    size, found, *_ = exchanges["1 2"]
    assert large(found, far=False) == [("all-gather", 4 * size), ("reduce-scatter", 4 * size)]
    # Two of a slice of four share the parameters: the gradient is halved over them first, and comes back to halves.
    size, found, *_ = exchanges["2 2"]
    given = {
        ("reduce-scatter", 4 * size),
        ("reduce-scatter", 2 * size),
        ("all-gather", 2 * size),
        ("all-gather", 4 * size),
    }
    assert set(large(found, far=False)) == given


def test_parameters_lie_over_fsdp_alone_and_any_mesh_trains_as_the_first(exchanges):
    size, _, _, (loss, parameters) = exchanges["1 1"]
    for name, (_, _, held, summary) in exchanges.items():
        fsdp = int(name.split()[0]) or 8
        assert held == [size // fsdp] * 8, name
        np.testing.assert_allclose(summary, [loss, parameters], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("fsdp", "slices", "told"),
    [(3, 1, "among 3 devices, as a slice has 1 device: give a divisor"), (1, 2, "2 slices .* of 1 device;")],
)
def test_a_mesh_that_does_not_fit_is_refused(fsdp, slices, told):
    with pytest.raises(RunError, match=told):
        make_mesh(fsdp, slices, jax.devices()[:1])


@pytest.fixture
def address():
    """Of a port for the coordinator, which may share it; bound throughout, or another process could take it."""
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("localhost", 0))
        yield f"localhost:{reserved.getsockname()[1]}"


def test_a_process_that_is_told_to_stop_before_it_trains_stops(address):
    code = "import os, signal, time\nfrom spt_jax.training.sharding import join_processes\njoin_processes()\n"
    code += "os.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(5)"
    place = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"}
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **place}, timeout=100, check=False)
    assert done.returncode == -signal.SIGTERM


@pytest.mark.parametrize("mode", ["resident", "stream"])
def test_two_processes_train_one_model(address, tmp_path, mode):
    """Over localhost, as two hosts would: each reads its share, both step together, one writes."""
    small = "--model.width 4 --model.blocks 1 --model.bands 1 --model.kernel 1 --model.attention none --model.hidden 8"
    command = [sys.executable, "-m", "spt_jax.launch", "train", "tiny", "--data", str(LIBRARY), "--distributed"]
    command += ["--out", str(tmp_path / "run"), *small.split(), "--model.attention-heads", "1"]
    command += ["--train.epochs", "2", "--train.batch-size", "64", "--train.input", mode]
    processes = []
    for i in range(2):
        place = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(i)}
        environment = {**os.environ, **place, "NPROC": "16"}
        processes.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
    output = [process.communicate(timeout=600)[0].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(output)
    together = losses(tmp_path / "run")
    assert len(together) == 2
    alone = [*command[:-1], mode]
    alone.remove("--distributed")
    alone[alone.index(str(tmp_path / "run"))] = str(tmp_path / "alone")
    assert subprocess.run(alone, timeout=600, check=False, capture_output=True).returncode == 0
    np.testing.assert_allclose(losses(tmp_path / "alone"), together, rtol=1e-4)


def test_what_does_not_divide_is_refused():
    layout = Layout()
    with pytest.raises(RunError, match="multiple of 3"):
        layout.check_batch(64, 3, whole_batch=False)
    with pytest.raises(RunError, match="one device in one piece"):
        layout.check_batch(64, 2, whole_batch=True)
