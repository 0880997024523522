"""Models and datasets as they lie on disk, with bytes changed: refused in one line, or as good as before."""

import hashlib
import json
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import spt_jax
from data_pipelines.dataset.build import prepare
from data_pipelines.dataset.opening import open_data
from data_pipelines.dataset.verify import verify
from data_pipelines.errors import CheckpointError, DatasetError, UserError
from data_pipelines.library import EXAMPLE
from data_pipelines.readers.spectrum import read_spectrum
from spt_jax.runs.packed import CHECKSUM, DOCUMENT, read_card
from tests.fuzz import corpus
from tests.fuzz.harness import is_line, share
from tests.fuzz.mangled import mangled
from tests.runs.formats import HERE

OWN = read_spectrum(EXAMPLE)


def load(guarded, place: Path) -> None:
    """A model that is loaded answers; one that is refused says in a line why."""
    with guarded():
        try:
            model = spt_jax.load(place)
        except UserError as error:
            is_line(str(error))
            assert place.name in str(error)
            return
    assert model.blueprint.tasks and "MBL" in model.predict(OWN.energy, OWN.mu, "Co")


def test_a_changed_packed_model_is_refused_in_a_line(guarded):
    content = (HERE / "packed_1.safetensors").read_bytes()

    @given(mangled({"packed.safetensors": content}))
    @example(("", struct.pack("<Q", 2**62) + content[8:]))
    @example(("", b"\xff" * 8))
    @share(0.8)
    def run(changed):
        (path := guarded.fresh() / "packed.safetensors").write_bytes(changed[1])
        if changed[1] != content:
            with guarded(), pytest.raises(CheckpointError, match=r"packed\.safetensors: ") as error:
                spt_jax.load(path)
            is_line(str(error.value))
        with guarded():
            try:
                read_card(path)
            except UserError as error:
                is_line(str(error))

    run()


def resealed(content: bytes, change) -> bytes:
    """The same file with another document in it, and the checksum right: who means it can do that."""
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"][DOCUMENT] = change(header["__metadata__"][DOCUMENT])
    digest = hashlib.sha256(header["__metadata__"][DOCUMENT].encode())
    kinds = {"F16": "float16", "F32": "float32"}
    for name in sorted(set(header) - {"__metadata__"}):
        own, (start, end) = header[name], header[name]["data_offsets"]
        digest.update(f"\n{name} {kinds[own['dtype']]} {tuple(own['shape'])}\n".encode())
        digest.update(content[8 + size + start : 8 + size + end])
    header["__metadata__"][CHECKSUM] = digest.hexdigest()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + content[8 + size :]


VALUES = st.sampled_from(
    [None, -1, 0, 10**9, 10**30, 1e300, float("nan"), "", "a\nb", [], {}, [[]], {"a": 1}, "../../etc"]
)


def _replaced(document, places: list[float], value):
    """With another value somewhere deep in it; a place is a share of what there is on each level."""
    if not places or not isinstance(document, (dict, list)) or not document:
        return value
    keys = sorted(document) if isinstance(document, dict) else list(range(len(document)))
    key = keys[int(places[0] * 0.999 * len(keys))]
    changed = document.copy()
    if value == "gone":
        del changed[key]
    else:
        changed[key] = _replaced(document[key], places[1:], value)
    return changed


def test_a_packed_model_of_another_document_is_refused_in_a_line(guarded):
    content = (HERE / "packed_1.safetensors").read_bytes()

    @given(st.lists(st.floats(0, 1, width=16), min_size=1, max_size=5), VALUES | st.just("gone"))
    @example([0.9736328125, 0.9736328125, 0.0, 0.0], 1e300)  # an absorber that is a number
    @share(0.15)
    def run(places, value):
        changed = resealed(content, lambda text: json.dumps(_replaced(json.loads(text), places, value)))
        (path := guarded.fresh() / "packed.safetensors").write_bytes(changed)
        with guarded():
            try:
                model = spt_jax.load(path)
                model.predict(OWN.energy, OWN.mu, "Co")
            except UserError as error:
                is_line(str(error))

    run()


def test_a_changed_exported_model_is_refused_in_a_line(guarded):
    @given(mangled({"model.spt": (HERE / "export_2.spt").read_bytes()}))
    @share(0.25)
    def run(changed):
        (path := guarded.fresh() / "model.spt").write_bytes(changed[1])
        load(guarded, path)

    run()


def contents(folder: Path) -> dict[str, bytes]:
    """Of all files below, by their place in the folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def copy_with(changed: tuple[str, bytes], folder: Path, place: Path) -> Path:
    """A copy of the folder in which one file holds something else."""
    shutil.copytree(folder, place)
    (place / changed[0]).write_bytes(changed[1])
    return place


def test_a_changed_run_folder_is_refused_in_a_line(guarded, tmp_path_factory):
    whole = tmp_path_factory.mktemp("whole")
    with tarfile.open(HERE / "checkpoint_4.tar.gz") as archive:
        archive.extractall(whole, filter="data")

    @given(mangled(contents(whole)))
    @share(0.1)
    def run(changed):
        load(guarded, copy_with(changed, whole, guarded.fresh() / "run"))

    run()


def test_a_model_that_is_a_bomb_is_refused(guarded):
    path = guarded.fresh() / "model.spt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("model.json", b"[" * 200_000_000)
    load(guarded, path)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dataset")
    prepare(sorted(path.parent for path in corpus.RUNS.glob("*/xmu.dat")), folder / "own", workers=1)
    return folder / "own"


def test_a_changed_dataset_is_refused_in_a_line(guarded, dataset):
    @given(mangled(contents(dataset)))
    @share(0.3)
    def run(changed):
        place = copy_with(changed, dataset, guarded.fresh() / "own")
        with guarded(limited=False):
            try:
                data = open_data(place)
                for split in data.examples:
                    if data.examples[split]:
                        data.split(split)
                        data.statistics(split)
            except DatasetError as error:
                is_line(str(error))
            try:
                for line in verify(place):
                    is_line(line)
            except UserError as error:
                is_line(str(error))

    run()
