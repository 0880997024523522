"""Scaling over devices: what is measured on this machine, and what is predicted for chips that are not here.

    python -m benchmarks.scaling                # virtual devices and processes of this machine, then the prediction
    python -m benchmarks.scaling --predict      # the prediction alone, from what benchmarks.compile has written

See docs/accelerators.md, "Many chips".
"""

from benchmarks.scaling.study import main

__all__ = ["main"]
