"""What holds whatever is handed over: a limit of time and memory, no warning, nothing opened elsewhere, one line."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[2]
SECONDS = 8.0  # of a processor
BYTES = 1_500_000_000  # more than there were
# Where Python itself reads: modules, time zones, the state of this process.
KNOWN = tuple({str(ROOT), *map(os.path.realpath, (sys.prefix, sys.base_prefix)), "/dev/", "/proc/", "/sys/", "/usr/"})
CHANGES = (
    "os.mkdir os.rename os.remove os.rmdir os.link os.symlink os.chmod os.truncate subprocess.Popen os.system os.exec "
    "os.posix_spawn os.fork socket.connect"
).split()
_heard: list[str] | None = None
_folder = ""


def _hook(event: str, given: tuple) -> None:
    """Cannot be taken away again, so it is silent where nobody listens."""
    if _heard is None or (event != "open" and event not in CHANGES):
        return
    if event == "open" and isinstance(given[0], int):
        return
    place = os.fsdecode(given[0]).replace("\0", "?") if isinstance(given[0], (str, bytes, os.PathLike)) else ""
    if event in ("os.remove", "os.rmdir", "os.mkdir") and given[-1] >= 0:  # by a folder that is open
        place = os.path.join(os.readlink(f"/proc/self/fd/{given[-1]}"), place)
    inside = os.path.realpath(place).startswith(_folder)
    flags = given[2] if event == "open" and isinstance(given[2], int) else 0
    writes = event != "open" or flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    known = os.path.realpath(place).startswith(KNOWN) and (not writes or "__pycache__" in place)
    known |= place.startswith(os.environ["JAX_COMPILATION_CACHE_DIR"])
    if not inside and not known:
        _heard.append(f"{event} {place!r}")


sys.addaudithook(_hook)


class Guarded:
    """`with guarded():` about what is asked. folder: where inputs lie; all else is not to be touched."""

    def __init__(self, folder: Path):
        self.folder = folder

    def fresh(self) -> Path:
        """An empty folder for one input."""
        place = self.folder / "given"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        return place

    @contextmanager
    def __call__(self, programs: bool = False, limited: bool = True) -> Iterator[None]:
        """programs: others may be started. limited: what is too much memory fails at once; ArrayRecord would crash."""
        global _heard, _folder
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        limits = resource.getrlimit(resource.RLIMIT_AS)
        statm = Path("/proc/self/statm")
        before, alarm = tempfile.tempdir, signal.signal(signal.SIGPROF, _too_long)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for hidden in (ResourceWarning, DeprecationWarning, PendingDeprecationWarning):  # from users too
                warnings.simplefilter("ignore", hidden)
            tempfile.tempdir = str(scratch)
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            if limited and statm.exists():
                size = int(statm.read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (size + BYTES, limits[1]))
            _folder, _heard = os.path.realpath(self.folder), []
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                yield
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
                heard, _heard = _heard, None
                resource.setrlimit(resource.RLIMIT_AS, limits)
                signal.signal(signal.SIGPROF, alarm)
                tempfile.tempdir = before
        heard = [each for each in heard if not (programs and each.startswith(("subprocess.Popen", "open '/dev/null'")))]
        assert not heard, heard
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most)
        assert grown < BYTES, f"{grown / 1e9:.1f} GB more than before"
        assert not told, [f"{each.filename}:{each.lineno}: {each.message}" for each in told]
        left = [path.name for path in scratch.iterdir() if not path.name.endswith("tfds")]  # TFDS leaves empty folders
        assert not left, left


def _too_long(number: int, frame: object) -> None:
    pytest.fail(f"took more than {SECONDS:g} s of a processor")


def share(part: float) -> settings:
    """Of the examples that the profile asks for: of inputs that cost more than others."""
    return settings(max_examples=max(1, int(part * settings().max_examples)))


def is_line(text: str) -> None:
    """One line that any terminal shows."""
    assert text.strip() and text.splitlines() == [text] and text.isprintable(), repr(text)
    text.encode("utf-8")
