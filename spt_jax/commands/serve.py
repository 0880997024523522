"""A model behind HTTP: for programs, and as a page for people."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from data_pipelines.errors import UserError
from data_pipelines.ranges import Range, check
from spt_jax.commands.screen import Bars, errors

if TYPE_CHECKING:
    from spt_jax.app.desk import Desk

ASKED = "POST /predict, POST /files, GET /openapi.json"
Name = tyro.conf.Positional[str]


@dataclass(frozen=True)
class Listening:
    """The model that answers, and where it is asked."""

    model: Annotated[Name, tyro.conf.arg(metavar="MODEL")] = ""
    """As of `spt-jax predict`; the default one that comes with the package where not given."""
    host: Annotated[str, tyro.conf.arg(metavar="ADDRESS")] = "127.0.0.1"
    """Address to listen at: 127.0.0.1 is this machine alone, 0.0.0.0 all its networks."""
    port: Annotated[int, Range(least=0), tyro.conf.arg(metavar="NUMBER")] = 8000
    """0 takes a free one, and says which."""
    hosts: Annotated[tuple[str, ...], tyro.conf.arg(metavar="HOSTNAME...")] = ()
    """Names of this machine that are asked for besides localhost, its own and its addresses; others are refused."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Serve(Listening):
    r"""Answer over HTTP, until Ctrl-C or SIGTERM: what is in flight then is answered first (docs/app.md).

    Spectra that come at the same time are answered together, by one compiled program.

      curl localhost:8000/files -F files=@scan.xdi
      curl localhost:8000/predict -H 'content-type: application/json' \
          -d '{"spectra": [{"element": "Fe", "energy": [...], "mu": [...]}]}'

    GET /health says whether it lives, GET /model what it knows, GET /openapi.json how to ask. There is no password: on
    any other --host than 127.0.0.1 everyone who reaches the port may ask.
    """

    processes: Annotated[int, Range(least=1), tyro.conf.arg(metavar="NUMBER")] = 1
    """Processes behind the one port, each with a model of its own; for a CPU of several cores."""

    def run(self) -> None:
        from spt_jax.app.listen import listening, run
        from spt_jax.app.web import service

        with listening(self.host, self.port) as own:
            if self.processes > 1:
                self._run_several(own)
            else:
                app = service(desk_of(self.model), self.hosts)
                announce(own, ASKED)
                run(app, own)
        print("stopped")

    def _run_several(self, own: socket.socket) -> None:
        from spt_jax.app.listen import shared
        from spt_jax.app.processes import Crew

        def say(line: str) -> None:
            errors.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)

        with contextlib.ExitStack() as held:
            sockets = [held.enter_context(each) for each in shared(own, self.processes)]
            crew = held.enter_context(Crew(sockets, self.model, self.hosts))
            with Bars() as report:
                crew.begin(report)
            if not crew.asked:
                announce(sockets[0], ASKED)
                crew.watch(say)


def desk_of(model: str) -> Desk:
    """The model, compiled; a bar meanwhile."""
    from spt_jax.app.desk import Desk

    with Bars():
        return Desk(model)


def announce(own: socket.socket, what: str) -> None:
    """Where it is to be found; programs wait for this line."""
    host, port = own.getsockname()[:2]
    if not ipaddress.ip_address(host).is_loopback:
        note = f"note: everyone who reaches port {port} may ask; there is no password"
        errors.print(note, style="yellow", highlight=False, soft_wrap=True)
    print(f"http://{f'[{host}]' if ':' in host else host}:{port}  {what}; Ctrl-C stops", flush=True)


@dataclass(frozen=True)
class App(Listening):
    """A page for a browser on this machine: drop files on it, or let it watch the folder that a measurement fills.

    Every spectrum is shown as the model sees it, with its descriptors and how sure they are, what was put right, and a
    descriptor along the files. Answers of a watched folder appear within a second; a file that is still being written is
    read again when it has grown. Everything is exported as CSV or JSON. The service of `spt-jax serve` is there too
    (docs/app.md).

      spt-jax app --watch /data/today --element Fe
    """

    watch: Path | None = None
    """Folder whose files are read as they come; without the folders in it."""
    element: str = ""
    """Absorbing element of what is in the watched folder, before what a file says; as of `spt-jax predict`, like all that
    follows. For files that are dropped the page asks."""
    edge: str = ""
    """Absorption edge there."""
    channel: Literal["", "transmission", "fluorescence", "reference"] = ""
    """Detector to take there."""
    columns: Annotated[str, tyro.conf.arg(metavar="COLUMNS")] = ""
    """Columns to take there: "energy=1 mu=ln(i0/i1)"."""
    beamline: Annotated[str, tyro.conf.arg(metavar="PRESET")] = ""
    """Columns of a beamline, as listed in docs/files.md."""
    shift: Annotated[float, Range()] = 0.0
    """eV to add to the energies there."""
    deglitch: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Leave out points there that stand alone, far off their neighbours."""
    taken: Annotated[Literal["auto", "measured", "theory"], tyro.conf.arg(name="as")] = "auto"
    """Whether spectra there are measured ones or calculated."""
    foil: Annotated[float | Literal["auto", "none"], Range(above=0)] = "auto"
    """E0 that the monochromator gave to a metal foil of the element, eV; auto is that of a foil behind the sample."""
    normalise: Literal["edges", "mback"] = "edges"
    """How mu is brought to edge steps there, as of `spt-jax predict`."""

    def run(self) -> None:
        from spt_jax.app.boards import Boards
        from spt_jax.app.listen import listening, run
        from spt_jax.app.watch import Watch
        from spt_jax.app.web import Settings, page

        said = {
            name: getattr(self, name)
            for name in ("element", "edge", "channel", "columns", "beamline", "shift", "deglitch", "foil", "normalise")
        }
        told = Settings.model_validate({**said, "as": self.taken}).told()
        if self.watch and not self.watch.is_dir():
            raise UserError(f"{self.watch}: no such folder to watch")
        with listening(self.host, self.port) as own:
            desk, boards = desk_of(self.model), Boards()
            watch = Watch(self.watch, desk, boards, told) if self.watch else None
            app = page(desk, boards, watch, self.hosts)
            announce(own, "open it in a browser")
            run(app, own)
        print("stopped")
