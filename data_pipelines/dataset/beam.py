"""Apache Beam as the engine: calls that make a file each, on the workers of any of its runners.

A call is handed over in a file of the folder that driver and workers share, and the pipeline carries its number alone:
so the graph stays small, whatever the data's size, where services refuse one above 10 MB. What is done is what lies in
that folder. The driver watches it, since a runner that has lost its workers may say nothing for ever; a call whose file
is there is not made again, by a bundle that is repeated or by a later start.
"""

from __future__ import annotations

import logging
import pickle
import re
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Annotated, Any

from data_pipelines.errors import MissingExtra, UserError
from data_pipelines.places import Place, RemotePath
from data_pipelines.ranges import Range, check

# A chunk is a quarter of a minute's work, but a cluster may first have to start its machines.
WAIT_S = 1800.0
# How often the folder is looked at, here and in a bucket.
LOOK_S, LOOK_REMOTE_S = 0.5, 15.0
# Files that are put into a bucket at a time.
AT_A_TIME = 8
ANSWER_S = 5.0
# Options that name what must be there before a pipeline can start.
ENDPOINTS = ("job_endpoint", "artifact_endpoint", "flink_master")
# Runners whose options Beam's Python knows all; others are told theirs by their services.
IN_PYTHON = ("DirectRunner", "FnApiRunner")


@dataclass(frozen=True)
class Beam:
    """A runner's name (DirectRunner, PortableRunner, FlinkRunner, ...) and its pipeline options, as Beam writes them."""

    runner: str
    options: tuple[str, ...] = ()
    wait_s: Annotated[float, Range(above=0)] = WAIT_S

    def __post_init__(self) -> None:
        check(self)

    def check(self) -> None:
        """Raises MissingExtra without apache-beam, and UserError for a runner or options that it does not know and for
        a service that does not answer."""
        logging.disable(logging.WARNING)  # Beam tells of libraries that are not asked for
        try:
            options = self._pipeline_options()
            from apache_beam.runners.runner import create_runner

            create_runner(self.runner)
        except UserError:
            raise
        except Exception as error:  # also of what a runner imports
            raise UserError(f"{self._name}: {_said(error)}") from None
        finally:
            logging.disable(logging.NOTSET)
        given = options.get_all_options()
        addresses = {name: str(given.get(name) or "") for name in ENDPOINTS}
        if given.get("environment_type") == "EXTERNAL":
            addresses["environment_config"] = str(given.get("environment_config") or "")
        for name, address in addresses.items():
            host, _, port = address.rpartition(":")
            if re.fullmatch(r"[\w.-]+", host) and port.isdigit():
                _reach(self.runner, name, host, int(port))

    def run(
        self,
        calls: Mapping[Place, Callable[[], None]],
        shared: Place,
        made: Callable[[Place], None] = lambda path: None,
    ) -> None:
        """Make every call on some worker; each makes the file that it stands for, whole or not at all.

        shared: a folder that all see, whose files are the driver's. `made(file)` is called when one is there. Raises
        UserError in the words of the runner, and where no file has come for `wait_s` seconds.
        """
        self.check()
        handed = shared / "calls"
        _hand_over(list(calls.items()), handed)
        own = _Running(self, len(calls), handed)
        left = dict.fromkeys(calls)
        look = LOOK_REMOTE_S if isinstance(shared, RemotePath) else LOOK_S
        last = monotonic()
        try:
            while left:
                ended = own.ended(look)
                for path in [path for path in _there({path.parent for path in left}) if path in left]:
                    del left[path]
                    made(path)
                    last = monotonic()
                if ended and left:
                    raise UserError(f"{self._name}: ended without {len(left)} of {len(calls)} pieces of work; {_KEPT}")
                if monotonic() - last > self.wait_s and left:
                    raise UserError(
                        f"{self._name}: no piece of work was done in {self.wait_s:g} s ({len(left)} are left); its workers may "
                        f"be gone, or not see {shared}; {_KEPT}"
                    )
            while not own.ended(look):
                pass
        except BaseException:
            own.cancel()
            raise

    @property
    def _name(self) -> str:
        return f"--beam {self.runner}"

    def _pipeline_options(self) -> Any:
        try:
            from apache_beam.options.pipeline_options import PipelineOptions
        except ImportError:
            raise MissingExtra("beam", "--beam") from None
        try:
            options = PipelineOptions(list(self.options))
            known, given = options.get_all_options(), options.get_all_options(retain_unknown_options=True)
        except SystemExit:  # argparse, which has said what is wrong
            raise UserError(f"--beam-options: Beam cannot read {' '.join(self.options)}") from None
        unknown = sorted(given.keys() - known.keys())
        if unknown and self.runner in IN_PYTHON:
            raise UserError(f"--beam-options {unknown[0]}: {self.runner} has no such option")
        return options


_KEPT = "what is done is kept, and the same command goes on with the rest"


class _Running:
    """A pipeline in a thread of its own, since runners return from `run` at once or at the end, as they like."""

    def __init__(self, beam: Beam, calls: int, handed: Place):
        self._beam, self._calls, self._handed = beam, calls, handed
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        import apache_beam as library

        apache_beam: Any = library  # it has types for a part of itself
        try:
            pipeline = apache_beam.Pipeline(runner=self._beam.runner, options=self._beam._pipeline_options())
            numbers = pipeline | apache_beam.Create(range(self._calls)) | apache_beam.Reshuffle()
            _ = numbers | apache_beam.Map(partial(_make, self._handed))
            self._result = pipeline.run()
            self._result.wait_until_finish()
        except BaseException as error:
            self._error = error

    def ended(self, seconds: float) -> bool:
        """Whether it is through, waiting so long for it. Raises UserError if it failed."""
        self._thread.join(seconds)
        if self._error:
            raise UserError(f"{self._beam._name}: {_said(self._error)}; {_KEPT}") from None
        return not self._thread.is_alive()

    def cancel(self) -> None:
        """Of runners that can."""
        if self._result is not None and self._thread.is_alive():
            # It may wait for workers that are gone, and nobody shall wait for it.
            threading.Thread(target=_quietly, args=(self._result.cancel,), daemon=True).start()


def _quietly(call: Callable[[], None]) -> None:
    try:
        call()
    except Exception:  # what failed before is told
        return


def _hand_over(calls: list[tuple[Place, Callable[[], None]]], folder: Place) -> None:
    folder.mkdir(parents=True, exist_ok=True)

    def put(number: int) -> None:
        _file(folder, number).write_bytes(pickle.dumps(calls[number]))

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        list(pool.map(put, range(len(calls))))


def _file(folder: Place, number: int) -> Place:
    return folder / f"{number:06d}.pickle"


def _make(folder: Place, number: int) -> None:
    """On a worker."""
    path, call = pickle.loads(_file(folder, number).read_bytes())
    if not path.exists():
        call()


def _there(folders: set[Place]) -> list[Place]:
    return [path for folder in folders if folder.exists() for path in folder.iterdir()]


def _reach(runner: str, option: str, host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), ANSWER_S).close()
    except OSError as error:
        why = error.strerror or str(error) or type(error).__name__
        raise UserError(
            f"--beam {runner}: nothing answers at {option}={host}:{port} ({why}); start it, or correct it"
        ) from None


def _said(error: BaseException) -> str:
    """The line of a runner's word that says what happened: the last that begins with an exception, of a worker's trace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Interrupt): ", line)]
    return (told or lines or [type(error).__name__])[-1 if told else 0].split(" [while running")[0][:400]
