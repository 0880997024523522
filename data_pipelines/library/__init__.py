"""What is shipped with the package: the embedded library of FEFF10 spectra, and one run of it as an example."""

from importlib.resources import files
from pathlib import Path

LIBRARY = Path(str(files("data_pipelines.library")))
EXAMPLE = LIBRARY / "example" / "xmu.dat"
