"""What datasets and FEFF campaigns are made of: structures, run folders, tables of spectra, archives."""

import gzip
import io
import json
import shutil
import tarfile
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipelines.dataset.build import prepare
from data_pipelines.errors import UserError
from data_pipelines.feff.campaign import Campaign, run_campaign
from data_pipelines.feff.input import FeffSettings
from data_pipelines.library import EXAMPLE
from data_pipelines.readers.spectrum import read_spectrum
from data_pipelines.structures.files import Dropped, read_file, read_sources
from tests.fuzz import corpus
from tests.fuzz.harness import is_line, share
from tests.fuzz.mangled import NAMES, mangled

RUN = corpus.RUNS / "NiO_base_Ni0"
PACKING = st.sampled_from(["", "", "", ".gz", ".bz2", ".xz"])


def test_a_changed_structure_is_read_or_dropped_in_a_line(guarded):
    @given(mangled(corpus.structures()), PACKING)
    def run(changed, packing):
        name, content = changed
        path = guarded.fresh() / f"{name}{packing}"
        path.write_bytes(gzip.compress(content, 1) if packing == ".gz" else content)
        with guarded():
            found = list(read_file(path))
        for each in found:
            if isinstance(each, Dropped):
                is_line(f"{each.reason}: {each.detail}")
            else:
                assert np.isfinite(each.structure.lattice.matrix).all()
                assert np.isfinite(each.structure.frac_coords).all()

    run()


@pytest.mark.parametrize("name", ["bomb.cif.gz", "bomb.json.gz", "zeros.vasp.gz", "many.vasp", "deep.json", "wide.cif"])
def test_a_structure_that_is_a_bomb_is_dropped(name, guarded):
    content = {
        "bomb.cif.gz": lambda: gzip.compress(bytes(300_000_000), 1),
        "bomb.json.gz": lambda: gzip.compress(b"[" + b"{}," * 60_000_000, 1),
        "zeros.vasp.gz": lambda: gzip.compress(b"a\n1\n" + b" " * 300_000_000, 1),
        "many.vasp": lambda: b"a\n1.0\n9 0 0\n0 9 0\n0 0 9\nO\n999999999\ndirect\n0 0 0\n",
        "deep.json": lambda: b"[" * 200_000,
        "wide.cif": lambda: corpus.structures()["nio.cif"].replace(b"_cell_length_a", b"_cell_length_a 1e-9\n_b"),
    }[name]()
    path = guarded.fresh() / name
    path.write_bytes(content)
    with guarded():
        found = list(read_file(path))
    for each in found:
        assert isinstance(each, Dropped)
        is_line(f"{each.reason}: {each.detail}")


def test_a_folder_of_structures_with_any_names(guarded):
    own = corpus.structures()["nio.cif"]

    @given(st.lists(NAMES, min_size=1, max_size=3))
    @share(0.15)
    def run(names):
        folder = guarded.fresh()
        for name in names:
            (folder / name.replace(".dat", ".cif")).write_bytes(own)
        (folder / "round.cif").symlink_to(folder / "round.cif")
        with guarded():
            found, dropped = read_sources([folder])
        assert len(found) <= len(set(names))
        for each in dropped:
            is_line(f"{each.reason}: {each.detail}")
            is_line(each.id)

    run()


def test_a_changed_campaign_is_refused_in_a_line(guarded):
    """No site is of xenon, so all is read and nothing runs."""
    site = {"index": 0, "element": "Ni"}
    given_ = {"POSCAR": (RUN / "POSCAR").read_bytes(), "provenance.json": json.dumps({"sites": [site]}).encode()}

    @given(mangled(given_), st.sampled_from(["mp-1", "a\nb", "[b]", "x" * 200, "\udcff"]))
    def run(changed, material):
        folder = guarded.fresh() / "structures" / material
        folder.mkdir(parents=True)
        for name, content in (given_ | dict([changed])).items():
            (folder / name).write_bytes(content)
        campaign = Campaign(folder.parent, folder.parents[1] / "runs", "true", FeffSettings(), ("Xe",))
        with guarded(programs=True), pytest.raises(UserError) as error:
            run_campaign(campaign)
        is_line(str(error.value))

    run()


@cache
def tables() -> dict[str, bytes]:
    """A library with its structure, a table without, an .npz, an archive of runs: of one spectrum each."""
    from pymatgen.core import Structure

    own, found = read_spectrum(RUN / "xmu.dat"), {}
    row = {"id": ["a"], "absorber": ["Ni"], "omega": [own.energy.tolist()], "mu": [own.mu.tolist()]}
    structure = {"structure": [Structure.from_file(RUN / "POSCAR").to_json()], "site_index": [0], "prototype": ["NiO"]}
    for name, columns in (("library.parquet", row | structure), ("table.parquet", row)):
        content = io.BytesIO()
        pq.write_table(pa.table(columns), content)
        found[name] = content.getvalue()
    content, even = io.BytesIO(), np.arange(own.energy[0], own.energy[-1], 0.5)
    np.savez(content, mu=np.interp(even, own.energy, own.mu)[None], element=["Ni"], e0_eV=own.energy[:1], step_eV=0.5)
    found["table.npz"] = content.getvalue()
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        archive.add(RUN, "NiO_base_Ni0")
    return found | {"runs.tar.gz": content.getvalue()}


def made(guarded, source) -> None:
    """As `spt-jax prepare` does it."""
    with guarded(limited=False):
        try:
            card = prepare([source], guarded.folder / "given" / "dataset", workers=1)
        except UserError as error:
            is_line(str(error))
            return
    for dropped in card["dropped"]:
        is_line(f"{dropped['reason']}: {dropped['detail']}")


def test_a_changed_table_is_read_or_refused_in_a_line(guarded):
    @given(mangled(tables()))
    @share(0.6)
    def run(changed):
        name, content = changed
        (path := guarded.fresh() / name).write_bytes(content)
        made(guarded, path)

    run()


VALUES = st.sampled_from([[], [None], None, [float("nan")] * 119, [1e308] * 119, [-1.0] * 8, [7709.0] * 2])


def test_a_table_of_any_values_is_read_or_refused_in_a_line(guarded):
    own = read_spectrum(EXAMPLE)
    lists = VALUES | st.sampled_from([own.energy.tolist(), own.mu.tolist()])
    texts = st.sampled_from(["a", "", None, "Co", "Xx", "²", "a\nb", "a/../b", "{", '{"lattice": 1}', "[" * 5000])
    columns = {"id": texts, "absorber": st.sampled_from(["Co", "Co", "O"]) | texts, "omega": lists, "mu": lists}
    more = {"structure": texts, "site_index": st.sampled_from([0, -1, 10**12, None]), "OS": st.floats() | st.none()}

    @given(st.fixed_dictionaries(columns, optional=more))
    @share(0.4)
    def run(row):
        path = guarded.fresh() / "table.parquet"
        pq.write_table(pa.table({name: [value] for name, value in row.items()}), path)
        made(guarded, path)

    run()


def test_a_changed_run_folder_is_read_or_refused_in_a_line(guarded):
    parts = {name: (RUN / name).read_bytes() for name in ("POSCAR", "feff.inp", "xmu.dat")}

    @given(mangled(parts), st.sampled_from(["000_Ni", "999999999999_Ni", "000_Xx", "-1_Ni", "a\nb"]), st.booleans())
    @share(0.25)
    def run(changed, site, tree):
        root = guarded.fresh() / "runs"
        folder = root / "mp-1" / "FEFF-XANES" / site if tree else root
        folder.mkdir(parents=True)
        for name, content in (parts | dict([changed])).items():
            (folder if name != "POSCAR" or not tree else root / "mp-1").joinpath(name).write_bytes(content)
        made(guarded, root)

    run()


@pytest.mark.parametrize("name", ["../out", "/tmp/out-of-here", "link", "a/../../out", "device"])
def test_an_archive_writes_nothing_outside(name, guarded):
    path = guarded.fresh() / "runs.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(RUN, "NiO_base_Ni0")
        member = tarfile.TarInfo(name)
        if name == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "/etc"
        if name == "device":
            member.type = tarfile.CHRTYPE
        archive.addfile(member)
    made(guarded, path)
    shutil.rmtree(guarded.folder / "given")
