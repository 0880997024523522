"""A trained model as one file, to be used where there is no flax, no orbax and no run folder.

The file is a zip of two members: model.json with what inference must know, and network.bin, the network with its
weights as StableHLO (jax.export) for any batch size. It is read by this package, or by jax.export alone.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import export as jax_export

from data_pipelines.errors import CheckpointError
from data_pipelines.files import write_atomic
from spt_jax.runs.blueprint import Blueprint, Network
from spt_jax.runs.formats import EXPORT, export_of_today

PLATFORMS = ("cpu", "cuda", "tpu")
DOCUMENT, NETWORK = "model.json", "network.bin"
AGAIN = "make one with `spt-jax export RUN --out FILE`"


def export(blueprint: Blueprint, network: Network, path: Path, platforms: tuple[str, ...] = PLATFORMS) -> None:
    """Write a model to the file `path`, whole or not at all; other platforms than this machine's need not be here."""
    [batch] = jax_export.symbolic_shape("batch")
    spectrum = jax.ShapeDtypeStruct((batch, blueprint.grid.points), jnp.float32)
    atomic_number = jax.ShapeDtypeStruct((batch,), jnp.int32)
    exported = jax_export.export(jax.jit(network), platforms=platforms)(spectrum, atomic_number)
    document = {"format": EXPORT, "platforms": platforms, "jax": jax.__version__, **blueprint.to_json()}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(DOCUMENT, json.dumps(document, indent=1))
        archive.writestr(NETWORK, exported.serialize())
    write_atomic(path, content.getvalue())


def load_exported(path: Path) -> tuple[Blueprint, Network]:
    """What `export` wrote. Raises CheckpointError where `path` is not such a file, is damaged, of another version or for other devices."""
    try:
        with zipfile.ZipFile(path) as archive:
            document, content = json.loads(archive.read(DOCUMENT)), archive.read(NETWORK)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: not an exported model, or damaged ({error}); {AGAIN}") from None
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
        return Blueprint.from_json(document), jax_export.deserialize(bytearray(content)).call
    except Exception as error:  # another descriptor table, or whatever jax says to the files of another version
        reason = " ".join(str(error).split()) or type(error).__name__
        made = f"another version of spt-jax or by jax {document.get('jax')}"
        raise CheckpointError(f"{path}: exported by {made} ({reason}); {AGAIN}") from None
