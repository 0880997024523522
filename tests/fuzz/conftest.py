"""Inputs that nobody meant: an answer or one line, in bounded time and memory, whatever comes.

In the suite the same inputs every time, some hundred of each kind. To look for new ones, for as long as it takes:

    python -m pytest tests/fuzz --hypothesis-profile long --hypothesis-seed=random
    python -m pytest tests/fuzz/test_files.py --hypothesis-profile long -k cases

What is found is mended in the product, and the input added as an `@example`, or as a test of its own.
"""

from pathlib import Path

import pytest

pytest.importorskip("hypothesis", reason="needs the extra `test`")
pytest.importorskip("resource", reason="needs a POSIX system")

from hypothesis import HealthCheck, Phase, settings

from tests.fuzz.harness import Guarded

COMMON = {
    "deadline": None,  # processor time is watched by `Guarded`: the clock of a busy machine says nothing
    "suppress_health_check": list(HealthCheck),
    "phases": (Phase.explicit, Phase.reuse, Phase.generate),  # whole files shrink for minutes, and to little
}
settings.register_profile("fuzz", max_examples=80, derandomize=True, database=None, **COMMON)
settings.register_profile("long", max_examples=2_000, **COMMON)
if settings.get_current_profile_name() in ("default", "ci"):
    settings.load_profile("fuzz")


@pytest.fixture
def guarded(tmp_path: Path) -> Guarded:
    return Guarded(tmp_path)
