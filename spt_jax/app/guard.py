"""Who may speak to the service, and how much: before anything of a request is read."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# Of a request: some hundred files, or a thousand spectra of some hundred points.
MOST_BODY = 64_000_000
TOO_LARGE = 413, f"more than the {MOST_BODY // 1_000_000} MB that are taken at a time"
HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)

Message = dict[str, Any]


class Guard:
    """Around an ASGI application. Every request must name this machine, by an address or by one of its names: a stranger's
    page reaches a program on this machine by a name of its own that leads here. Nor may another page send anything.

    hosts: names of this machine besides localhost and its own.
    """

    def __init__(self, app: Callable, hosts: Sequence[str] = ()):
        self.app, self.hosts = app, {"localhost", platform.node().lower(), *map(str.lower, hosts)}

    async def __call__(self, scope: Message, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        said = {name: value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refused(scope["method"], said)
        if refused:
            await _refuse(send, *refused)
            return
        taken, over = 0, False

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MOST_BODY:
                raise ConnectionError(TOO_LARGE[1])
            return message

        async def marked(message: Message) -> None:
            nonlocal over
            if over:
                return
            if taken > MOST_BODY:  # whatever the application makes of it
                over = True
                await _refuse(send, *TOO_LARGE)
                return
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *HEADERS]}
            await send(message)

        await self.app(scope, counted, marked)

    def _refused(self, method: str, said: Mapping[bytes, str]) -> tuple[int, str] | None:
        host, origin, length = said.get(b"host", ""), said.get(b"origin"), said.get(b"content-length", "0")
        if not self._own(host):
            return 403, f"{host or 'nobody'} is not a name of this machine; if it is, say so with --hosts"
        if origin and method not in ("GET", "HEAD") and origin.partition("://")[2] != host:
            return 403, f"{origin}: another page may not ask here"
        return TOO_LARGE if length.isdecimal() and int(length) > MOST_BODY else None

    def _own(self, host: str) -> bool:
        name = (host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]).lower()
        with contextlib.suppress(ValueError):
            return bool(ipaddress.ip_address(name.strip("[]")))
        return name in self.hosts


async def _refuse(send: Callable, status: int, line: str) -> None:
    kind = (b"content-type", b"application/json"), (b"connection", b"close")
    await send({"type": "http.response.start", "status": status, "headers": [*kind, *HEADERS]})
    await send({"type": "http.response.body", "body": json.dumps({"detail": line}).encode()})
