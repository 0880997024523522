"""The process that `spt-jax` runs in: settings of the C library and of XLA that only count before they start.

On a CPU every step asks the system for fresh memory; in huge pages that takes a quarter off a training step
(benchmarks/NOTES.md). Compiled programs are kept, so that a second start of the same command does not compile again.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings

from data_pipelines.files import cache_folder


def settle() -> None:
    """Start this process again with the settings, unless the user has some of their own."""
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_folder() / "compiled"))
    # XLA writes to stderr how to file a bug where compiling takes long; what fails is raised all the same.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if sys.platform == "linux" and "GLIBC_TUNABLES" not in os.environ:
        os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def hush() -> None:
    """What fails in a thread of Orbax is raised where the thread is waited for; leave out the tracebacks before that. A
    program that cannot be kept, on a full disk, is compiled again."""
    from absl import logging

    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    logging.set_verbosity(logging.FATAL)
    show = sys.unraisablehook
    sys.unraisablehook = lambda error: show(error) if threading.current_thread() is threading.main_thread() else None


def main() -> None:
    """The command `spt-jax`."""
    settle()
    hush()
    from spt_jax.cli import main as run

    try:
        run()
    except SystemExit as stop:
        if stop.code:
            # The last word is said: threads that libraries left behind would keep the process, or add to it.
            sys.stdout.flush()
            os._exit(stop.code)
        raise


if __name__ == "__main__":
    main()
