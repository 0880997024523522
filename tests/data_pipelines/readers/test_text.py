"""A table is the same table in whatever encoding, separator and decimal sign it is written."""

import numpy as np
import pytest

from data_pipelines.errors import SpectrumError
from data_pipelines.readers.spectrum import ReadAs, read_spectrum
from data_pipelines.readers.text import decoded, lines_of, table_of


@pytest.fixture
def spectrum(rng):
    """(60, 2): energies of an Fe K scan and some mu."""
    return np.column_stack([7050 + np.cumsum(rng.uniform(0.2, 3, 60)), rng.uniform(-0.5, 2, 60)]).round(4)


def written(rows, separator, comma=False):
    lines = [separator.join(f"{number:.4f}" for number in row) for row in rows]
    text = "\n".join(lines) + "\n"
    return text.replace(".", ",") if comma else text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings(tmp_path, spectrum, encoding):
    (tmp_path / "a.txt").write_bytes(f"# référence, 20 °C\n{written(spectrum, ' ')}".encode(encoding))
    found = read_spectrum(tmp_path / "a.txt")
    np.testing.assert_allclose(np.column_stack(found[:2]), spectrum)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("separator", "comma"), [(" ", True), ("\t", True), (";", True), ("; ", True), (", ", True)])
@pytest.mark.parametrize("heading", ["", "2019 12\n", "60\n", "Energie; µ\n\n", "# E mu\n"])
def test_decimal_commas_separators_and_headings(tmp_path, spectrum, separator, comma, heading, end):
    (tmp_path / "a.dat").write_bytes((heading + written(spectrum, separator, comma)).replace("\n", end).encode())
    found = read_spectrum(tmp_path / "a.dat")
    np.testing.assert_allclose(np.column_stack(found[:2]), spectrum)
    assert "commas read as decimal points" in found.notes


@pytest.mark.parametrize("separator", [" ", "\t", ",", ", ", ";", "  ;  "])
def test_points_are_points_in_every_separator(tmp_path, spectrum, separator):
    (tmp_path / "a.csv").write_text("energy,mu\n" + written(spectrum, separator))
    np.testing.assert_allclose(np.column_stack(read_spectrum(tmp_path / "a.csv")[:2]), spectrum)


def test_fortran_exponents_and_comments_between(tmp_path):
    text = "".join(f"{7000 + i}.0D+00 1.5E-0{1 + i % 3}  # point {i}\n! comment\n" for i in range(20))
    (tmp_path / "a.dat").write_text(text)
    found = read_spectrum(tmp_path / "a.dat")
    assert len(found.energy) == 20 and found.mu[1] == 0.015


def test_numbers_that_are_interrupted_are_no_table(spectrum):
    rows = written(spectrum, " ").splitlines()
    with pytest.raises(SpectrumError, match=r"a\.dat, line 31: not numbers, '7100 oops'"):
        table_of([*rows[:30], "7100 oops", *rows[30:]], "a.dat")
    with pytest.raises(SpectrumError, match="line 61: 3 numbers where the lines above have 2"):
        table_of([*rows, "1 2 3", "4 5 6"], "a.dat")
    cut = table_of([*rows, "7300"], "a.dat")
    assert len(cut.values) == 60 and "the last line, which is cut" in cut.notes[0]
    with pytest.raises(SpectrumError, match="holds no numbers"):
        table_of(["just", "words"], "a.dat")


def test_what_is_no_text_is_refused(rng, tmp_path):
    for content in (rng.bytes(3000), b"\0" * 400, bytes(range(256)), b"\xff\xfe" + rng.bytes(501)):
        with pytest.raises(SpectrumError):
            decoded(content, "a.bin") and table_of(lines_of(decoded(content, "a.bin")), "a.bin")
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04" + rng.bytes(100))
    with pytest.raises(SpectrumError, match="unpack it first"):
        read_spectrum(tmp_path / "a.zip", ReadAs())
