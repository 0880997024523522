"""One program compiled in this process: `python -m benchmarks.compile.worker REQUEST RESULT`, as `isolate.py` starts it.

REQUEST is JSON, RESULT a file that the answer is written to. What the user can mend is one line and exit status 1.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(request_text: str, result: str) -> None:
    # After the environment that `isolate` sets: libtpu and XLA read it when they are loaded.
    from benchmarks.compile.examine import examine, place
    from benchmarks.compile.programs import prepare
    from benchmarks.compile.request import Request
    from benchmarks.compile.targets import find
    from data_pipelines.errors import UserError

    request = Request(**json.loads(request_text))
    try:
        target = find(request.target, request.chips, request.slices)
        mesh = place(target, request.chips, request.slices, request.fsdp)
        made = prepare(request, mesh)
        report = examine(
            made.function,
            *made.arguments,
            target=target.name,
            chips=request.chips,
            dtype=request.dtype,
            flops=made.flops,
            donate=made.donate,
            batch=request.batch,
            slices=request.slices,
        )
    except UserError as error:
        raise SystemExit(str(error)) from None
    Path(result).write_text(json.dumps(report.fields(made.spectra)))


if __name__ == "__main__":
    main(*sys.argv[1:])
