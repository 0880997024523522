"""How the service starts, and how it stops. uvicorn is used here only."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from types import FrameType

from data_pipelines.errors import MissingExtra, UserError

try:
    import uvicorn
except ModuleNotFoundError:
    raise MissingExtra("app", "the HTTP service and the page") from None

# What is not answered so long after it was asked to stop is let go, s.
PATIENCE = 30


class Server(uvicorn.Server):
    """Asked to stop, it answers what is in flight, and ends as one that did what it should."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = True


Server.handle_exit.meanwhile = "when what is in flight is answered"  # type: ignore[attr-defined]


def listening(host: str, port: int) -> socket.socket:
    """A socket that has the address, before anything long begins. Raises UserError where it is not to be had."""
    own = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return _bound(own, host, port)


def _bound(own: socket.socket, host: str, port: int) -> socket.socket:
    try:
        own.bind((host, port))
        own.listen(1024)  # who comes before the model is compiled waits
    except (OSError, OverflowError) as error:
        own.close()
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{host}, port {port}: {why}; take another with --port") from None
    return own


def shared(own: socket.socket, count: int) -> list[socket.socket]:
    """So many sockets at the address of `own`, which is closed: one for each process, among which Linux divides those
    who connect. Who comes while a process is replaced waits at its socket.

    Elsewhere all are the same socket, and who is quickest takes most. Raises UserError where the address is lost.
    """
    if sys.platform != "linux":
        return [own.dup() for _ in range(count)]
    address, family = own.getsockname(), own.family
    own.close()  # it was there to find the address free: of sockets that share one, anybody's next would too
    found = []
    for _ in range(count):
        each = socket.socket(family)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        found.append(_bound(each, *address[:2]))
    return found


def run(app: Callable, own: socket.socket) -> None:
    """Answer at this socket until Ctrl-C or SIGTERM. app: an ASGI application."""
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=PATIENCE, ws="none")
    Server(config).run([own])
