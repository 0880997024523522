"""A packed model as `spt-jax export` would write it, compiled for this machine, kept for the next start of a command.

A command that answers for one file spends most of its time on getting ready: importing flax, tracing the networks, reading
back a program. What it was ready with is kept, so the next one imports no flax and traces nothing (benchmarks/NOTES.md).

A kept file is machine code and a pickle. It lies beside the compiled programs of jax in the user's own cache, and is read
only if this user wrote it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import jax

from data_pipelines.errors import CheckpointError
from data_pipelines.files import cache_folder, file_sha256
from spt_jax.inference.predict import FEW, Model, load
from spt_jax.runs.ahead import Machine, compile_ahead
from spt_jax.runs.export import export, load_exported
from spt_jax.zoo.shelf import SUFFIX, place_of

# The latest are kept; one of spt-k has 33 MB.
MOST = 4


def load_kept(
    name: Path | str = "",
    compiled: bool = False,
    source: int | str | None = None,
    report: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> Model:
    """The model of `load`, of which a packed file is ready at once where it was loaded here before. Its answers are those
    of the same networks; it cannot be looked into.

    Where nothing can be kept (a full disk, a cache that is not to be written) it is the model of `load`.
    """
    place = place_of(name)
    if not isinstance(place, Path) or place.suffix != SUFFIX or compiled:
        return load(place, compiled, source)
    file = cache_folder() / "kept" / f"{place.stem}-{_key(place, source)}.spt"
    found = _kept(file)
    if found is None:
        model = load(place, compiled, source)
        device = jax.devices()[0]
        report("compiling", 0, 1)
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            programs = [compile_ahead(model.network, FEW, model.blueprint.grid.length, device)]
            platform = "cuda" if device.platform == "gpu" else device.platform
            own = file.with_name(f"{file.stem}.{os.getpid()}")  # another process may be at the same
            export(model.blueprint, model.network, own, (platform,), programs, model.domain)
            os.replace(own, file)
        except (CheckpointError, OSError):
            return model
        _forget(file.parent)
        found = _kept(file)
    return found or model


def _kept(file: Path) -> Model | None:
    """None where there is none, or one that cannot be read."""
    try:
        if hasattr(os, "getuid") and file.stat().st_uid != os.getuid():  # Windows knows no such numbers
            return None
        found = load_exported(file, compiled=True)
    except (OSError, CheckpointError):
        return None
    found.programs.silence()
    return Model(*found)


def _key(place: Path, source: int | str | None) -> str:
    """Of all that makes the program: the file, the source, the machine with its jax, XLA's flags, this package as it is."""
    package = Path(__file__).parents[1]
    code = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(package.rglob("*.py"))]
    flags = os.environ.get("XLA_FLAGS", "")
    told = (file_sha256(place), source, Machine.of(jax.devices()[0]), flags, code)
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def _forget(folder: Path) -> None:
    """The oldest, where there are too many."""
    for path in sorted(folder.glob("*.spt"), key=lambda path: path.stat().st_mtime)[:-MOST]:
        path.unlink(missing_ok=True)
