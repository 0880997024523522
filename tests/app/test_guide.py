"""docs/app.md: the callback for Bluesky as it stands there, on documents of its schema made by hand, and a real scan."""

import re
from pathlib import Path

import numpy as np

from data_pipelines.library import EXAMPLE
from data_pipelines.readers.spectrum import read_spectrum

GUIDE = Path(__file__).parents[2] / "docs" / "app.md"


def documents(energy, mu):
    """Of one run: (name, document), as event-model describes them, with a second stream that is none of ours."""
    yield "start", {"uid": "run-1", "time": 1.0, "scan_id": 1, "plan_name": "scan"}
    keys = {"dtype": "number", "shape": [], "source": "x"}
    for number, stream in enumerate(("baseline", "primary")):
        about = {"uid": f"d{number}", "run_start": "run-1", "time": 1.0, "name": stream}
        yield "descriptor", about | {"data_keys": dict.fromkeys(("mono", "i0", "it"), keys)}
    at = {"time": 1.0, "timestamps": dict.fromkeys(("mono", "i0", "it"), 1.0), "filled": {}}
    yield "event", {"uid": "e", "descriptor": "d0", "seq_num": 1, "data": {"mono": 0.0, "i0": 1.0, "it": 1.0}, **at}
    for number, (x, y) in enumerate(zip(energy.tolist(), mu.tolist(), strict=True), start=1):
        data = {"mono": x, "i0": 1e5, "it": 1e5 * np.exp(-y)}
        yield "event", {"uid": f"e{number}", "descriptor": "d1", "seq_num": number, "data": data, **at}
    yield (
        "stop",
        {"uid": "s", "run_start": "run-1", "time": 2.0, "exit_status": "success", "num_events": {"primary": 1}},
    )


def test_the_callback_answers_every_scan_that_succeeded(running):
    [code] = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    exec(code, made := {})
    own, told = read_spectrum(EXAMPLE), []
    callback = made["answered"](told.append, own.element, "mono", "i0", "it", running.address.rstrip("/"))
    run = list(documents(own.energy, own.mu))
    for name, document in run:
        callback(name, document)
    for name, document in [*run[:-1], ("stop", run[-1][1] | {"exit_status": "abort"})]:
        callback(name, document)
    [found] = told
    assert found["file"] == "run-1" and "OS" in found["descriptors"] and "error" not in found
