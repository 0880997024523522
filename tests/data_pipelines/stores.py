"""Object stores to test against: fsspec's memory, and an S3 server on loopback that fails as it is told."""

from __future__ import annotations

import importlib.util
import logging
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest

from data_pipelines import faults, places
from data_pipelines.places import RemotePath, place

BUCKET = "spectra"
HERE = all(map(importlib.util.find_spec, ("moto", "flask", "flask_cors", "s3fs")))
NEEDS_GS = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("gcp_storage_emulator", "gcsfs"))),
    reason="needs the extra remote, and gcp-storage-emulator of the extra test",
)
NEEDS_S3 = pytest.mark.skipif(not HERE, reason="needs the extra remote, and moto's server of the extra test")
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


class Store:
    """`root`: an empty folder in it. `fault`: is asked before every request (method, path) for a status to fail with,
    0 to drop the connection, or None to answer it. `requests`: those that came."""

    def __init__(self, root: RemotePath, url: str = ""):
        self.root, self.url = root, url
        self.fault: Callable[[str, str], int | None] = lambda method, path: None
        self.requests: list[tuple[str, str]] = []


@contextmanager
def memory(name: str) -> Iterator[Store]:
    store = Store(place(f"memory://{BUCKET}/{name}"))
    yield store
    store.root.remove_tree()


@contextmanager
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    inner, store = DomainDispatcherApplication(create_backend_app), Store(place(f"s3://{BUCKET}/folder"))

    def answer(environ: dict, start: Callable) -> list[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        store.requests.append((method, path))
        status = store.fault(method, path)
        if status == 0:
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            raise ConnectionError
        if status is not None:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            code = {403: "AccessDenied", 503: "SlowDown"}.get(status, "InternalError")
            start(f"{status} {code}", [("Content-Type", "application/xml")])
            error = f"<Error><Code>{code}</Code><Message>told to</Message></Error>".encode()
            return [] if method == "HEAD" else [error]
        return inner(environ, start)

    class Quiet(WSGIRequestHandler):
        def log(self, *_) -> None: ...

    server = make_server("127.0.0.1", 0, answer, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    store.url = f"http://127.0.0.1:{server.port}"
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": store.url}.items():
        monkeypatch.setenv(name, value)
    forget()
    urllib.request.urlopen(f"{store.url}/moto-api/reset", data=b"").close()  # moto keeps its buckets with the process
    places.filesystem("s3").mkdir(BUCKET)
    try:
        yield store
    finally:
        forget()
        server.shutdown()
        thread.join()


@contextmanager
def gs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    from gcp_storage_emulator import server as emulator

    decoded, end = emulator._decode_raw_data, b"\n--==0==--"

    def whole(raw: bytes | None, handler: object) -> bytes | None:
        # Its parser takes a \r at the end of the content for a part of the line between.
        return decoded(raw.removesuffix(end) + b"\r" + end if raw and raw.endswith(end) else raw, handler)

    monkeypatch.setattr(emulator, "_decode_raw_data", whole)
    logging.getLogger("gcp_storage_emulator").setLevel(logging.CRITICAL)
    server = emulator.create_server("127.0.0.1", 0, in_memory=True, default_bucket=BUCKET)
    server.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server._api._httpd.server_address[1]}")
    forget()
    try:
        yield Store(place(f"gs://{BUCKET}/folder"))
    finally:
        forget()
        server.stop()


def forget() -> None:
    """As a new process knows: no connection, no bucket."""
    places.filesystem.cache_clear()
    places._bucket.cache_clear()


@pytest.fixture(params=["memory", pytest.param("s3", marks=NEEDS_S3), pytest.param("gs", marks=NEEDS_GS)])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(faults, "FIRST_WAIT", 0.001)
    made_of = {"memory": lambda: memory(uuid4().hex), "s3": lambda: s3(monkeypatch), "gs": lambda: gs(monkeypatch)}
    with made_of[request.param]() as made:
        yield made


@pytest.fixture
def s3_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(faults, "FIRST_WAIT", 0.001)
    with s3(monkeypatch) as made:
        yield made
