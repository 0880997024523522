"""Where a spectrum stands: by names, headers, dates and tables, and a reason where that is not known."""

import os

import numpy as np
import pytest

from data_pipelines.errors import UserError
from spt_jax.series.order import Place, axis_of, places


def found(order, names, values=None):
    return {
        name: each.value if isinstance(each, Place) else str(each)
        for name, each in places(names, order, values).items()
    }


def test_numbers_in_names():
    names = ["LixCoO2_x0.25.dat", "max2_x0p5_01.xdi", "x1/xmu.dat", "a.prj#x=0.75", "10x20.dat", "x0.1_x0.2.dat"]
    told = found("x", names)
    assert [told[name] for name in names[:4]] == [0.25, 0.5, 1, 0.75]
    assert "no x in its name (as x0.25)" in told["10x20.dat"] and "--values" in told["10x20.dat"]
    assert "x 0.1 and 0.2 in the file's name" in told["x0.1_x0.2.dat"]
    names = ["NMC_4.80V_1.txt", "4p8V", "c4300mV.dat", "cell_4.3_V/scan.dat", "4Volt.dat"]
    told = found("voltage", names)
    assert [told[name] for name in names[:4]] == [4.8, 4.8, 4.3, 4.3] and "no voltage" in told["4Volt.dat"]


def test_headers(tmp_path):
    for name, line in {"a": "# Sample.x: 0.125", "b": "# composition = 0.5"}.items():
        (tmp_path / name).write_text(f"{line}\n7100 1\n")
    assert list(found("x", [str(tmp_path / "a"), str(tmp_path / "b")]).values()) == [0.125, 0.5]
    (tmp_path / "c").write_text("# Detector.I0_voltage: 90 V\n# Cell.voltage: 4300 mV\n7100 1\n")
    assert found("voltage", [str(tmp_path / "c")])[str(tmp_path / "c")] == 4.3


def test_times(tmp_path):
    text = {
        "xdi": "# Scan.end_time: 2001-06-26 23:00:00\n# Scan.start_time: 2001-06-26T22:30:00\n1 2\n",
        "ctime": "; began at: Tue Jun 26 22:45:00 2001\n1 2\n",
        "either": "# Start time: 06/05/2001 22:00:00\n1 2\n",
        "two.spec": "#S 1 up\n#D Tue Jun 26 22:50:00 2001\n1 2\n\n#S 2 up\n#D Tue Jun 26 23:30:00 2001\n1 2\n",
    }
    for name, content in text.items():
        (tmp_path / name).write_text(content)
    os.utime(tmp_path / "either", (1e9, 1e9))
    names = [str(tmp_path / name) for name in ("xdi", "ctime", "either", "two.spec#1", "two.spec#2")]
    told = places(names, "time")
    assert told[names[2]] == (1e9, "no date as 2024-03-05 10:00 in its header: time is that of the file's last change")
    assert told[names[0]].note.endswith("Scan.start_time: 2001-06-26T22:30:00")
    at = np.array([told[name].value for name in (names[0], names[1], names[3], names[4])])
    assert ((at - at[0]) / 60).tolist() == [0, 15, 20, 60]
    assert axis_of("time", at).label == "time (min)" and axis_of("time", at * 10).label == "time (h)"


def test_a_table_says_it(tmp_path):
    table = tmp_path / "x.csv"
    table.write_text("file,value\na.dat,0.5\nsub/b.dat, 1\n")
    told = found("x", ["here/a.dat", "sub/b.dat", "c.dat"], table)
    assert told["here/a.dat"] == 0.5 and told["sub/b.dat"] == 1 and "is not in" in told["c.dat"]
    for content, why in (
        ("a.dat,0.5", "columns file,value"),
        ("file,value\na.dat,x", "line 2: 'x' is not a number"),
        ("file,value\na.dat,1\na.dat,2", "two values"),
    ):
        table.write_text(content)
        with pytest.raises(UserError, match=why):
            places(["a.dat"], "x", table)
    with pytest.raises(UserError, match="cannot be read"):
        places(["a.dat"], "x", tmp_path / "none.csv")
