"""Faults: a training is hit at random moments, begun again with the same command, and compared with one left alone.

Of several processes on this machine, with data streamed from disk; the attempts have one number of processes after the
other, and all the same number of devices. The faults, each as often as the others:

  kill one       kill -9 of one process: the others must name it and stop
  kill all       kill -9 of all
  terminate      SIGTERM to all, as a scheduler that takes the machine back: they must be done within 30 s
  stop one       SIGSTOP of one process: the others must name it and stop
  disk           writing a file fails in the first process, as on a full disk

After each: is the next attempt at the newest checkpoint that was on the disk (lost steps), and at the end: are the
checkpoint, by the digest in it, and the losses bit for bit those of the undisturbed run, and did each example come at
most once an epoch (by the ids of the batches of the steps that made it).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import resource
import signal
import socket
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from data_pipelines.dataset.opening import open_data
from data_pipelines.files import cache_folder
from data_pipelines.library import LIBRARY
from spt_jax.runs.attempts import read_attempts
from spt_jax.runs.folder import read_log

FAULTS = ("kill one", "stop one", "terminate", "kill all", "disk")
NETWORK = "--model.width 4 --model.blocks 1 --model.bands 1 --model.kernel 1 --model.attention none --model.hidden 8"
BATCH = 64
GRACE, SILENCE, LIMIT = 30.0, 6.0, 120.0
FOR_EVER = 1_000_000
# Longest time after the first step at which a fault comes, and the share of those that come before it.
LATEST, EARLY = 3.0, 0.2


def train(arguments: list[str], environment: dict[str, str], log: Path) -> None:
    """The command, in a process that has imported what it needs."""
    os.setsid()
    os.environ.update(environment)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    from spt_jax.cli import main as run

    code = 1
    try:
        run(arguments)
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:
        traceback.print_exc()
    finally:  # as the command does: nothing that is left behind keeps the process
        os._exit(code)


class Attempt:
    """All processes of one training, running."""

    def __init__(self, context, out: Path, options: argparse.Namespace, number: int = 0, epochs: int = FOR_EVER):
        count = options.processes[number % len(options.processes)]
        flags = f"--xla_force_host_platform_device_count={max(options.processes) // count}"
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        self.out, self.logs, self.processes = out, [], []
        for i in range(count):
            place = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(count), "XLA_FLAGS": flags}
            place |= {"JAX_PROCESS_ID": str(i), "JAX_PLATFORMS": "cpu", "NPROC": "2"}
            self.logs.append(out.with_name(f"{out.name}.{i}.log"))
            self.logs[-1].write_text("")
            command = ["train", "tiny", "--data", options.data, "--out", str(out), "--train.input", "stream"]
            command += [*NETWORK.split(), "--model.attention-heads", "1", "--train.epochs", str(epochs)]
            command += [
                "--train.validate-every",
                "50",
                "--train.schedule",
                "constant",
                "--train.patience",
                "0",
                "--train.batch-size",
                str(BATCH),
            ]
            command += ["--execution.save-minutes", "0.02", "--execution.silence-seconds", str(SILENCE)]
            command += ["--distributed"] if count > 1 else []
            process = context.Process(target=train, args=(command, place, self.logs[-1]))
            process.start()
            self.processes.append(process)

    def alive(self) -> list[int]:
        return [i for i, each in enumerate(self.processes) if each.is_alive()]

    def wait(self, seconds: float) -> bool:
        """Whether all have ended by then."""
        until = time.monotonic() + seconds
        while self.alive() and time.monotonic() < until:
            time.sleep(0.05)
        return not self.alive()

    def send(self, number: int, chosen: list[int]) -> None:
        for i in chosen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.processes[i].pid, number)

    def end(self) -> None:
        self.send(signal.SIGKILL, self.alive())
        for process in self.processes:
            process.join()

    def said(self) -> list[str]:
        """The last line of each process that is a word of ours."""
        found = [
            [x for x in log.read_text(errors="replace").splitlines() if x.startswith("spt-jax: ")] for log in self.logs
        ]
        return [lines[-1] if lines else "" for lines in found]


def checkpoints(out: Path) -> list[int]:
    folder = out / "checkpoints"
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.exists() else []


def started(out: Path, known: int) -> dict | None:
    """The start of a further attempt, after so many that are known."""
    starts = [line for line in read_attempts(out) if line["event"] == "start"]
    return starts[known] if len(starts) > known else None


def hit(attempt: Attempt, kind: str, chance: random.Random, together: bool) -> str:
    """Do it; what was wrong with how the processes took it, or nothing. together: they have begun to train."""
    everyone = list(range(len(attempt.processes)))
    one = chance.randrange(len(everyone))
    began = time.monotonic()
    if kind == "kill all":
        attempt.send(signal.SIGKILL, everyone)
    elif kind == "kill one":
        attempt.send(signal.SIGKILL, [one])
    elif kind == "terminate":
        attempt.send(signal.SIGTERM, everyone)
    elif kind == "stop one":
        one = chance.randrange(1, len(everyone)) if len(everyone) > 1 else 0
        attempt.send(signal.SIGSTOP, [one])
    else:
        resource.prlimit(attempt.processes[0].pid, resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))
    # Who has not met the others yet is waited for by JAX for five minutes: what starts them all would not wait so long.
    limit = GRACE if kind == "terminate" else LIMIT if together else SILENCE
    others = [i for i in everyone if i != one or kind not in ("stop one", "kill one")]
    while set(attempt.alive()) & set(others) and time.monotonic() < began + limit:
        time.sleep(0.05)
    left, said = set(attempt.alive()) & set(others), attempt.said()
    attempt.end()
    if left and (together or kind == "terminate"):
        return f"{kind}: processes {sorted(left)} still ran after {limit:.0f} s"
    # Where the first process is gone the others have lost the one that they meet at: JAX itself ends them.
    silent = [i for i in others if not said[i]] if together and one > 0 and kind in ("kill one", "stop one") else []
    return f"{kind}: processes {silent} stopped without a word" if silent else ""


def rehearse(context, options: argparse.Namespace, folder: Path) -> dict:
    chance, out, wrong, lost = random.Random(options.seed), folder / "hit", [], 0
    hits = Counter[str]()
    for number in range(options.faults):
        newest = (checkpoints(out) or [0])[-1]
        attempts = sum(line["event"] == "start" for line in read_attempts(out))
        attempt, kind = Attempt(context, out, options, number), FAULTS[number % len(FAULTS)]
        early = time.monotonic() + chance.uniform(0, LATEST) if chance.random() < EARLY else None
        while not (start := started(out, attempts)) and attempt.alive() and not (early and time.monotonic() > early):
            time.sleep(0.02)
        if start:
            lost += newest - start["step"]
            time.sleep(chance.uniform(0, LATEST))
        elif not attempt.alive():
            wrong.append(f"an attempt did not begin: {attempt.said()}")
        if found := hit(attempt, kind, chance, start is not None):
            wrong.append(found)
        hits[kind] += 1
        reached = (checkpoints(out) or [0])[-1]
        print(f"{number + 1:4d}  {kind:10s}  checkpoint of step {reached}  {found or 'as it should'}", flush=True)
    epochs = (read_log(out) or [{"epoch": 0}])[-1]["epoch"] + 2
    for run in (out, folder / "alone"):
        last = Attempt(context, run, options, 0, epochs)
        if not last.wait(3600) or any(process.exitcode for process in last.processes):
            wrong.append(f"{run.name} did not end well: {last.said()}")
        last.end()
    alone = folder / "alone"
    same = [line["loss"] for line in read_log(out)] == [line["loss"] for line in read_log(alone)]
    data, steps = open_data(options.data), read_log(alone)[0]["step"]
    counts = Counter(each for step in range(steps) for each in data.ids_of("train", BATCH, 0, step))
    return {
        "faults": sum(hits.values()),
        "hits": dict(hits),
        "epochs": epochs,
        "steps": steps * epochs,
        "lost_steps": lost,
        "wrong": wrong,
        "bit_equal": same and digest_of(out) == digest_of(alone),
        "doubled": sum(count - 1 for count in counts.values()),
        "left_out": data.count("train") - len(counts),
    }


def change(context, options: argparse.Namespace, folder: Path) -> dict:
    """Two epochs with each number of processes, one after the other, against all epochs with the first."""
    wrong, epochs = [], 2 * len(options.processes)
    attempts = [(folder / "changed", number, 2 * number + 2) for number in range(len(options.processes))]
    for run, number, until in [*attempts, (folder / "alone", 0, epochs)]:
        attempt = Attempt(context, run, options, number, until)
        if not attempt.wait(600) or any(process.exitcode for process in attempt.processes):
            wrong.append(f"{run.name} with {options.processes[number]} did not end well: {attempt.said()}")
        attempt.end()
    changed, alone = folder / "changed", folder / "alone"
    same = [line["loss"] for line in read_log(changed)] == [line["loss"] for line in read_log(alone)]
    found = {"epochs": epochs, "steps": read_log(alone)[-1]["step"], "wrong": wrong, "lost_steps": 0, "faults": 0}
    return {**found, "bit_equal": same and digest_of(changed) == digest_of(alone), "doubled": None, "left_out": None}


def digest_of(out: Path) -> list[int]:
    """Of the newest checkpoint's arrays, as it says itself."""
    folder = out / "checkpoints" / str(checkpoints(out)[-1]) / "progress"
    return json.loads((folder / "metadata").read_text())["digest"]


def main(arguments: list[str] | None = None) -> list[dict]:
    from benchmarks import measure

    parser = measure.parser(__doc__)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--processes", type=int, nargs="+", default=[4, 2], help="of one attempt, of the next, ...")
    parser.add_argument("--changing", action="store_true", help="no faults: two epochs with each of --processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", default=str(LIBRARY))
    parser.add_argument("--folder", type=Path, default=None, help="for the runs, where a stopped rehearsal goes on")
    options = parser.parse_args(arguments)
    if options.small:
        options.faults, options.processes = 1, [2]
    os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    # Before JAX is imported, in the process that all are forked from.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_folder() / "compiled"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["spt_jax.cli", "spt_jax.training.loop", "data_pipelines.dataset.stream"])
    with tempfile.TemporaryDirectory() as temporary:
        found = (change if options.changing else rehearse)(context, options, options.folder or Path(temporary))
    for each in found["wrong"]:
        print(each)
    line = measure.record("faults", f"{options.processes} processes", options, length=None, batch=BATCH, **found)
    measure.show([line], {name: name for name in ("faults", "steps", "lost_steps", "bit_equal", "doubled", "left_out")})
    return [line]


if __name__ == "__main__":
    main()
