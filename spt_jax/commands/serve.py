"""A model behind HTTP: for programs, and as a page for people."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from typing import Annotated

import tyro

from data_pipelines.ranges import Range, check
from spt_jax.commands.screen import Bars, errors

Name = tyro.conf.Positional[str]


@dataclass(frozen=True)
class Serve:
    r"""Answer over HTTP, until Ctrl-C or SIGTERM: what is in flight then is answered first (docs/app.md).

    Spectra that come at the same time are answered together, by one compiled program.

      curl localhost:8000/files -F files=@scan.xdi
      curl localhost:8000/predict -H 'content-type: application/json' \
          -d '{"spectra": [{"element": "Fe", "energy": [...], "mu": [...]}]}'

    GET /health says whether it lives, GET /model what it knows, GET /openapi.json how to ask. There is no password: on
    any other --host than 127.0.0.1 everyone who reaches the port may ask.
    """

    model: Annotated[Name, tyro.conf.arg(metavar="MODEL")] = ""
    """As of `spt-jax predict`; the default one that comes with the package where not given."""
    host: str = "127.0.0.1"
    """Address to listen at: 127.0.0.1 is this machine alone, 0.0.0.0 all its networks."""
    port: Annotated[int, Range(least=0)] = 8000
    """0 takes a free one, and says which."""
    hosts: tuple[str, ...] = ()
    """Names of this machine that are asked for besides localhost, its own and its addresses; others are refused."""

    def __post_init__(self) -> None:
        check(self)

    def run(self) -> None:
        from spt_jax.app.listen import listening, run
        from spt_jax.app.web import service

        with listening(self.host, self.port) as own:
            app = service(desk_of(self.model), self.hosts)
            announce(own, "POST /predict, POST /files, GET /openapi.json")
            run(app, own)
        print("stopped")


def desk_of(model: str):
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
