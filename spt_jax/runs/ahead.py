"""Programs compiled ahead of time: a process that finds one for its device and batch answers without compiling.

Such a program is machine code of one kind of device and one version of jax, and it is loaded by unpickling: it can do
whatever any program can. So it is read only where that is asked for, of files by people whose programs one would run.
"""

from __future__ import annotations

import hashlib
import logging
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import SingleDeviceSharding

from data_pipelines.errors import CheckpointError
from spt_jax.runs.blueprint import Network
from spt_jax.runs.sources import Sourceless, without_sources

Program = Callable[[Any, Any], jax.Array]
"""(B, L) spectra and (B,) atomic numbers -> (B, numbers of all outputs) float32, for one B."""

UNREAD = (
    "the program compiled ahead for this machine was not read; if you would run any program of those who made the file, "
    "give --compiled (spt_jax.load(FILE, compiled=True))"
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Machine:
    """What a program runs on: platform "cpu", "gpu" or "tpu"; kind of device; jax and its compiler by version.

    A CPU's kind holds a hash of what it can do: code for more than that would end the process.
    """

    platform: str
    kind: str
    jax: str
    jaxlib: str

    @classmethod
    def of(cls, device: jax.Device) -> Machine:
        kind = _cpu_kind() if device.platform == "cpu" else device.device_kind
        return cls(device.platform, kind, jax.__version__, version("jaxlib"))

    def __str__(self) -> str:
        return f"{self.kind} with jax {self.jax}"


@dataclass(frozen=True)
class Ahead:
    """A program for batches of one size on one kind of machine, as bytes."""

    machine: Machine
    batch: int
    content: bytes

    def to_json(self) -> dict:
        """All but the content."""
        return {"machine": asdict(self.machine), "batch": self.batch}


def side_by_side(network: Network) -> Program:
    """The network with all its outputs as one array: each copy from a device costs."""
    network = jax.jit(network)

    def program(spectrum: jax.Array, atomic_number: jax.Array) -> jax.Array:
        parts = network(spectrum, atomic_number).values()
        return jnp.concatenate([part.reshape(len(spectrum), -1).astype(jnp.float32) for part in parts], axis=1)

    return program


def compile_ahead(network: Network, batch: int, length: int, device: jax.Device) -> Ahead:
    """For `batch` spectra of `length` points on a device that need not be here (`targets.device_of`).

    Raises CheckpointError where this version of jax cannot put its program into bytes, or, for a device that is here,
    bring it back.
    """
    place = SingleDeviceSharding(device)
    shapes = (
        jax.ShapeDtypeStruct((batch, length), jnp.float32, sharding=place),
        jax.ShapeDtypeStruct((batch,), jnp.int32, sharding=place),
    )
    machine = Machine.of(device)
    from spt_jax.model.kernels import meant_for  # loads flax, which who only reads such a file does not have

    with _compiling_anew(), without_sources(), meant_for(device.platform, device.device_kind):
        compiled = jax.jit(Sourceless(side_by_side(network)), keep_unused=True).lower(*shapes).compile()
    try:
        content, *_ = serialize_executable.serialize(compiled)
        if device in jax.devices():
            _loaded(content, batch, length)
    except Exception as error:  # whatever the compiler of that device says
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"a program for {machine} cannot be stored ({reason}); leave --compiled-batch out"
        ) from None
    return Ahead(machine, batch, content)


class Programs:
    """Those of one file. `here`: contents for this machine, by batch size. others: machines that the rest is for.
    wanted: whether they may be loaded; where not, `here` has the sizes alone.

    Why there is none to be had is said once.
    """

    def __init__(self, path: str, here: Mapping[int, bytes], others: frozenset[Machine], wanted: bool):
        self._path, self._here, self._others, self._wanted, self._told = path, dict(here), others, wanted, False

    @property
    def sizes(self) -> tuple[int, ...]:
        """Batches of which there is a program that may be loaded here."""
        return tuple(self._here) if self._wanted else ()

    def find(self, batch: int, length: int) -> Program | None:
        """The program for `batch` spectra of `length` points on the first device, or None: it is to be compiled."""
        if not self._wanted:
            if batch in self._here:
                self._tell(UNREAD)
            return None
        if batch in self._here:
            try:
                return _loaded(self._here[batch], batch, length)
            except Exception as error:  # of another build than its version says
                self._tell(f"its program compiled ahead does not load here ({' '.join(str(error).split())[:200]})")
                return None
        if self._here:
            self._tell(f"compiled ahead for batches of {', '.join(map(str, self._here))}, not of {batch}")
        elif self._others:
            here = Machine.of(jax.devices()[0])
            self._tell(f"compiled ahead for {' and '.join(sorted(map(str, self._others)))}, this is {here}")
        else:
            self._tell("no program in it is compiled ahead")
        return None

    def silence(self) -> None:
        """For who never asked for such programs, and so need not hear why one is compiled."""
        self._told = True

    def _tell(self, text: str) -> None:
        if not self._told:
            log.warning("%s: %s; compiling", self._path, text)
        self._told = True


def _loaded(content: bytes, batch: int, length: int) -> Program:
    """Ready to run on the first device: it has run once, for not every fault shows before."""
    shapes, output = jax.tree.structure(((0, 0), {})), jax.tree.structure(0)
    devices = jax.devices()[:1]
    program = serialize_executable.deserialize_and_load(content, shapes, output, execution_devices=devices)
    jax.block_until_ready(program(np.zeros((batch, length), np.float32), np.zeros(batch, np.int32)))
    return program


@contextmanager
def _compiling_anew() -> Iterator[None]:
    """A program that came from the cache on disk loses some of its functions when it is put into bytes once more."""
    before = jax.config.jax_enable_compilation_cache
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def _cpu_kind() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    able = next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
    abilities = " ".join(sorted(able.partition(":")[2].split()))
    return f"{platform.system()} {platform.machine()} CPU {hashlib.sha256(abilities.encode()).hexdigest()[:8]}"
