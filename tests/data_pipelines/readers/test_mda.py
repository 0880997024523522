"""saveData files of EPICS: a real one of the Australian Synchrotron, maps and scans that were stopped, and hostile ones."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.errors import SpectrumError
from data_pipelines.readers.mda import tables
from data_pipelines.readers.spectrum import ReadAs, read_spectra, read_spectrum

# Carbon K of a polymer, beamline SXR; from xraysoftmat/pyNexafs, MIT (sxr129577.LICENSE).
REAL = gzip.decompress((Path(__file__).parent / "sxr129577.mda.gz").read_bytes())
ENERGY = np.arange(7100.0, 7160.0, 0.5)


def text(words: str) -> bytes:
    """A counted string; "" has no second length."""
    content = words.encode()
    if not content:
        return struct.pack(">i", 0)
    return struct.pack(">ii", len(content), len(content)) + content + bytes(-len(content) % 4)


def scan(rank, columns, reached, lower=(), positioners=1) -> bytes:
    """columns: (variable, description, unit, numbers), the first ones of positioners, which have no readback."""
    points = len(columns[0][3])
    parts = [struct.pack(">iii", rank, points, reached), *(struct.pack(">i", at) for at in lower), text("scan1") * 2]
    parts.append(struct.pack(">iii", positioners, len(columns) - positioners, 0))
    for number, (variable, told, unit, _) in enumerate(columns):
        words = (variable, told, "LINEAR", unit, "", "", "") if number < positioners else (variable, told, unit)
        parts += [struct.pack(">i", number), *map(text, words)]
    for number, (*_, numbers) in enumerate(columns):
        parts.append(np.asarray(numbers, ">f8" if number < positioners else ">f4").tobytes())
    return b"".join(parts)


def header(dims) -> bytes:
    return struct.pack(">fii", 1.3, 7, len(dims)) + struct.pack(f">{len(dims)}i", *dims) + struct.pack(">ii", 1, 0)


def channels(gain=1.0):
    mu = 1 / (1 + np.exp(7120 - ENERGY))
    detectors = [("20id:scaler1.S2", "I0", "", 1e5 + 0 * mu), ("20id:scaler1.S3", "It", "", 1e5 * np.exp(-gain * mu))]
    return [("20id:mono", "Mono Energy", "keV", ENERGY / 1000), *detectors], gain * mu


def test_a_real_scan_by_its_columns(tmp_path):
    path = tmp_path / "sxr129577.mda"
    path.write_bytes(REAL)
    found = read_spectrum(path, ReadAs(element="C", columns="energy=3 mu='Photodiode'/'I0 Chamber'"))
    assert len(found.energy) == 601 and found.energy[[0, -1]] == pytest.approx([269.99985, 329.99915], abs=1e-4)
    # As mda2ascii prints the first point: 3.158591e-07 and 1.443468e-11 A.
    assert found.mu[0] == pytest.approx(3.158591e-07 / 1.443468e-11, rel=1e-6)
    with pytest.raises(
        SpectrumError, match=r"not clear which columns are mu in 1 Mono setpoint, .* 13 I0 Chamber"
    ) as why:
        read_spectrum(path)
    assert "--columns" in str(why.value)


def test_channels_that_explain_themselves_and_a_scan_that_was_stopped(tmp_path):
    columns, mu = channels()
    (tmp_path / "fe.mda").write_bytes(header([len(mu)]) + scan(1, columns, 100))
    found = read_spectrum(tmp_path / "fe.mda", ReadAs(element="Fe"))
    assert found.channel == "transmission" and "the scan was stopped after 100 of 120 points" in found.notes
    np.testing.assert_allclose(found.energy, ENERGY[:100], atol=1e-6)
    np.testing.assert_allclose(found.mu, mu[:100], atol=1e-6)


def test_a_map_gives_its_scans_by_number(tmp_path):
    inner = [scan(1, channels(gain)[0], len(ENERGY)) for gain in (1.0, 2.0)]
    steps = [("m1", "sample x", "mm", [0.0, 1.0, 2.0])]
    begin = len(header([3, 120])) + len(scan(2, steps, 2, (0, 0, 0)))
    outer = scan(2, steps, 2, (begin, begin + len(inner[0]), 0))
    (tmp_path / "map.mda").write_bytes(header([3, 120]) + outer + b"".join(inner))
    records = read_spectra(tmp_path / "map.mda", ReadAs(element="Fe"))
    assert [name.rpartition("#")[2] for name, _ in records] == ["1", "2"]
    np.testing.assert_allclose(records[1][1].mu, channels(2.0)[1], atol=1e-5)
    assert len(read_spectrum(f"{tmp_path / 'map.mda'}#2", ReadAs(element="Fe")).mu) == 120
    # A scan over something else is refused with its columns.
    (tmp_path / "x.mda").write_bytes(
        header([3]) + scan(1, [*steps, ("s1", "a", "", [1, 2, 3]), ("s2", "b", "", [1, 2, 3])], 3)
    )
    with pytest.raises(SpectrumError, match="no energy in 1 sample x, 2 a, 3 b"):
        read_spectrum(tmp_path / "x.mda")


def test_what_is_damaged_or_hostile_is_one_line(tmp_path):
    """Whatever a length, a count or a pointer says: a spectrum, or one line, and never more memory than the file has."""
    for wrong in (b"", b"text", REAL[:4], struct.pack(">f", 1.7) + REAL[4:]):
        (tmp_path / "a.mda").write_bytes(wrong)
        with pytest.raises(SpectrumError) as why:
            read_spectra(tmp_path / "a.mda")
        assert why.value.reason in ("unreadable", "empty") and "\n" not in str(why.value)
    outcomes = set()
    steps = [("m1", "sample x", "mm", [0.0, 1.0])]
    size = len(header([2, 2])) + len(scan(2, steps, 2, (0, 0)))
    # Both points hold the scan itself.
    circle = header([2, 2]) + scan(2, steps, 2, (size, len(header([2, 2])))) + scan(1, steps, 2)
    for content in (header([120]) + scan(1, channels()[0], 120), REAL[:6000], circle):
        for at in range(4, min(len(content), 1400), 4):
            for word in (-1, 3, 2**31 - 1):
                hostile = content[:at] + struct.pack(">i", word) + content[at + 4 :]
                try:
                    outcomes.add(len(tables(hostile, "a.mda")))
                except SpectrumError as error:
                    assert "\n" not in str(error)
                    outcomes.add(error.reason)
    assert outcomes >= {1, "unreadable"}
