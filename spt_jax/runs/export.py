"""A trained model as one file, to be used where there is no flax, no orbax and no run folder.

The file is a zip of two members: model.json with what inference must know, and network.bin, the network with its
weights as StableHLO (jax.export) for any batch size. It is read by this package, or by jax.export alone. Of a model that
knows what it learnt from there is domain.npz as well. There may be programs compiled ahead of time, ahead-N.bin, that
model.json tells the machines of (ahead.py): pickles, of which nothing is read unless the caller asks for them. No
path of the machine that made it stands in a file; one made of a file of an older version keeps those of that.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from data_pipelines.errors import CheckpointError, line_of
from data_pipelines.files import write_atomic
from data_pipelines.loss_grid import LossGrid
from data_pipelines.places import Place
from spt_jax.runs.ahead import Ahead, Machine, Programs
from spt_jax.runs.blueprint import Blueprint, Network
from spt_jax.runs.formats import EXPORT, export_of_today
from spt_jax.runs.sources import without_sources
from spt_jax.scoring.domain import Domain

PLATFORMS = ("cpu", "cuda", "tpu")
DOCUMENT, NETWORK, DOMAIN, PROGRAM = "model.json", "network.bin", "domain.npz", "ahead-{}.bin"
# What is written is not packed at all.
MOST_UNPACKED = 10
AGAIN = "make one with `spt-jax export RUN --out FILE`"


class Exported(NamedTuple):
    """What such a file holds. programs: compiled ahead for this machine; they can do anything. domain: what the model
    learnt from; None where that is not known."""

    blueprint: Blueprint
    network: Network
    programs: Programs
    domain: Domain | None


def export(
    blueprint: Blueprint,
    network: Network,
    path: Place,
    platforms: tuple[str, ...] = PLATFORMS,
    programs: Sequence[Ahead] = (),
    domain: Domain | None = None,
) -> None:
    """Write a model to the file `path`, whole or not at all; other platforms than this machine's need not be here.

    programs: that were compiled of it ahead of time.
    """
    write_atomic(path, exported(blueprint, network, platforms, programs, domain))


def exported(
    blueprint: Blueprint,
    network: Network,
    platforms: tuple[str, ...] = PLATFORMS,
    programs: Sequence[Ahead] = (),
    domain: Domain | None = None,
) -> bytes:
    """The content of such a file."""
    # A network that comes from a file runs on the platforms of that file.
    platforms = getattr(getattr(network, "__self__", None), "platforms", platforms)
    [batch] = jax_export.symbolic_shape("batch")
    spectrum = jax.ShapeDtypeStruct((batch, blueprint.grid.length), jnp.float32)
    atomic_number = jax.ShapeDtypeStruct((batch,), jnp.int32)
    with without_sources():
        program = jax_export.export(jax.jit(network), platforms=platforms)(spectrum, atomic_number)
    document = {"format": EXPORT, "platforms": platforms, "jax": jax.__version__, **blueprint.to_json()}
    document["ahead"] = [each.to_json() for each in programs]
    document["domain"], arrays = domain.parts() if domain else (None, {})
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(DOCUMENT, json.dumps(document, indent=1))
        archive.writestr(NETWORK, program.serialize())
        if domain:
            with archive.open(DOMAIN, "w") as file:
                np.savez(file, **arrays)
        for number, each in enumerate(programs):
            archive.writestr(PROGRAM.format(number), each.content)
    return content.getvalue()


def load_exported(path: Place, compiled: bool = False, images: bool = False) -> Exported:
    """What `export` wrote; of programs compiled ahead nothing is read but with `compiled`. images: is a model
    of spectrum images wanted, or one of spectra?

    Raises CheckpointError where `path` is not such a file, is damaged, of another version or for other devices.
    """
    found = read_exported(path.read_bytes(), str(path), compiled)
    if isinstance(found.blueprint.grid, LossGrid) and not images:
        raise CheckpointError(
            f"{path}: answers spectrum images, not spectra of one absorber: spt-jax image {path} FILE"
        )
    return found


def read_exported(content: bytes, path: str, compiled: bool = False) -> Exported:
    """The same of the content of a file; `path` is what errors call it."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(each.file_size for each in archive.infolist()) > MOST_UNPACKED * len(content):
                raise ValueError("it would unpack to far more than it is")
            document, content = json.loads(archive.read(DOCUMENT)), archive.read(NETWORK)
            programs = _programs(archive, document.get("ahead", ()), path, compiled)
            domain = _domain(archive, document.get("domain"))
    except Exception as error:  # whatever a zip file can have in it
        raise CheckpointError(f"{path}: not an exported model, or damaged ({line_of(error)}); {AGAIN}") from None
    try:
        document = export_of_today(document)
    except ValueError as error:
        raise CheckpointError(f"{path}: export of {error}; {AGAIN}") from None
    here, platforms = jax_export.default_export_platform(), ", ".join(document["platforms"])
    if here not in document["platforms"]:
        raise CheckpointError(
            f"{path}: exported for {platforms}, jax runs on {here} here; {AGAIN}, or set JAX_PLATFORMS"
        )
    try:
        network = jax_export.deserialize(bytearray(content)).call
        return Exported(Blueprint.from_json(document), network, programs, domain)
    except Exception as error:  # another descriptor table, or whatever jax says to the files of another version
        reason = " ".join(str(error).split()) or type(error).__name__
        made = f"another version of spt-jax or by jax {document.get('jax')}"
        raise CheckpointError(f"{path}: exported by {made} ({reason}); {AGAIN}") from None


def _domain(archive: zipfile.ZipFile, document: dict | None) -> Domain | None:
    if document is None:
        return None
    with archive.open(DOMAIN) as file, np.load(file, allow_pickle=False) as arrays:
        return Domain.of_parts(document, dict(arrays))


def _programs(archive: zipfile.ZipFile, stated: Sequence[dict], path: str, wanted: bool) -> Programs:
    """Those for the first device are read, where they are wanted; the others only counted."""
    machines = [Machine(**each["machine"]) for each in stated]
    here = Machine.of(jax.devices()[0]) if machines else None
    own = {
        int(each["batch"]): archive.read(PROGRAM.format(number)) if wanted else b""
        for number, (each, machine) in enumerate(zip(stated, machines, strict=True))
        if machine == here
    }
    return Programs(path, own, frozenset(machines) - {here}, wanted)
