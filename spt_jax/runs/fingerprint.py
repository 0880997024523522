"""Whether two answers are of one model: a fingerprint of the bytes that it is read from."""

from __future__ import annotations

import hashlib

from data_pipelines.files import file_sha256
from data_pipelines.places import Place, RemotePath
from spt_jax.runs.checkpoint import MODEL
from spt_jax.runs.folder import read_config


def model_fingerprint(model: Place) -> str:
    """Of a run folder's best model, of the members of an ensemble's folder, or of an exported file; 16 hex digits.

    A run that is trained further has another. Raises RunError for a folder that is none of these.
    """
    digest = hashlib.sha256()
    for path in _files(model):
        inside = path.relative_to(model).as_posix() if path != model else ""
        digest.update(f"{inside} {file_sha256(path)}\n".encode())
    return digest.hexdigest()[:16]


def _files(model: Place) -> list[Place]:
    if model.is_file():
        return [model]
    if isinstance(model, RemotePath):  # its marks of whole steps are of the store
        own = [path for path in (model / MODEL).rglob("*") if path.parent != model / MODEL]
    else:
        own = sorted(path for path in (model / MODEL).rglob("*") if path.is_file())
    if own:
        return own
    members = read_config(model).get("ensemble", {}).get("members", ())
    return [path for name in members for path in _files(model / name)]
