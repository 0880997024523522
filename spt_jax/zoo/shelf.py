"""Models by name: which there are, which one answers where none is named, and the file of each, pinned by its checksum."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

from data_pipelines.errors import CheckpointError
from data_pipelines.files import file_sha256, scratch
from data_pipelines.places import Place, RemotePath, is_remote, place
from spt_jax.zoo.download import fetched, is_address

CATALOGUE, SUFFIX = "catalogue.json", ".safetensors"
FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Shelf:
    """A folder of packed models with a catalogue. default: "" where no model is one. pinned: name -> SHA-256."""

    folder: Path
    default: str
    pinned: dict[str, str]

    @classmethod
    def of(cls, folder: Path | None = None) -> Shelf:
        """Of the package, where no other is given."""
        folder = folder or FOLDER
        document = json.loads((folder / CATALOGUE).read_text(encoding="utf-8"))
        return cls(folder, document["default"], document["models"])

    def path(self, name: str) -> Path:
        """The file of a model, as it is: not yet checked."""
        return self.folder / f"{name}{SUFFIX}"

    def checked(self, name: str) -> Path:
        """The file of a model. Raises CheckpointError for a name that is not here, and for a file that is not the one pinned."""
        if name not in self.pinned:
            known = ", ".join(self.pinned) or "none"
            raise CheckpointError(
                f"{name}: not a run folder, a file or a model of the package ({known}); make a run with `spt-jax train`"
            )
        path = self.path(name)
        if not path.is_file():
            raise CheckpointError(f"{path}: missing; install spt_jax again")
        if (found := file_sha256(path)) != self.pinned[name]:
            raise CheckpointError(
                f"{path}: not the {name} of the catalogue (SHA-256 {found[:12]}, not {self.pinned[name][:12]}); "
                "install spt_jax again"
            )
        return path


def is_model(given: Path | str) -> bool:
    """Whether this names a model rather than spectra: what is not there, and a folder without any mark, is none."""
    path = Path(given)
    if is_address(given) or is_remote(given):  # spectra lie on this machine
        return True
    if path.is_dir():
        # Not by the constants of runs: who owns them loads orbax, which who reads an exported file may not have.
        return (path / "model").is_dir() or (path / "config.json").is_file()
    if path.is_file():
        return path.suffix == SUFFIX or zipfile.is_zipfile(path)
    return str(given) in Shelf.of().pinned


def place_of(model: Place | str) -> Place:
    """Where a model lies that is named by its place, by its name in the zoo, or by an address that it is fetched from;
    without a name, the zoo's default.

    What is there comes before a model of the zoo of the same name. Raises CheckpointError for what is none of them.
    """
    if str(model) and is_remote(model):
        return _remote(place(model))
    if str(model) and Path(model).exists():
        return Path(model)
    if is_address(model):
        return fetched(model, SUFFIX)
    shelf = Shelf.of()
    if not str(model) and not shelf.default:
        raise CheckpointError("no model is named, and the package has no default; name a run folder or a file")
    return shelf.checked(str(model) or shelf.default)


def _remote(model: Place) -> Place:
    """A packed file is read from a copy on this machine, all else where it lies."""
    if not model.exists():
        raise CheckpointError(f"{model}: nothing is there; name a run folder or a file")
    if isinstance(model, RemotePath) and model.suffix == SUFFIX:
        copy = scratch() / hashlib.sha256(str(model).encode()).hexdigest()[:16] / model.name
        copy.parent.mkdir(exist_ok=True)
        model.download(copy)
        return copy
    return model
