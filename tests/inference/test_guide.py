"""docs/evaluation.md: its Python runs as it stands there."""

import re
from pathlib import Path

from data_pipelines.library import EXAMPLE, LIBRARY
from tests.runs.formats import EXPORT_1

GUIDE = Path(__file__).parents[2] / "docs" / "evaluation.md"


def test_the_python_of_the_guide_runs(tmp_path, monkeypatch, capsys):
    for name, target in {"run": EXPORT_1, "dataset": LIBRARY, "xmu.dat": EXAMPLE}.items():
        (tmp_path / name).symlink_to(target)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    exec("".join(blocks), found := {})
    assert found["decisions"].halfwidth.keys() >= {"MBL"} and found["values"]["CN"].value == 6
    assert capsys.readouterr().out == "xmu.dat 6\nnowhere.dat no such file: nowhere.dat\n"
