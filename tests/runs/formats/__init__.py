"""One small model of each format that was ever written, with what it answered: they load for ever."""

from pathlib import Path

HERE = Path(__file__).parent
EXPORT_1 = HERE / "export_1.spt"
