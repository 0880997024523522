"""What programs send to `spt-jax serve`: JSON, files and settings, all of them wrong in some way."""

import asyncio
import json
import math
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("fastapi", reason="needs the extra `app`")
pytest.importorskip("uvicorn", reason="needs the extra `app`")

from data_pipelines.library import EXAMPLE
from data_pipelines.readers.spectrum import read_spectrum
from spt_jax.app.desk import Desk
from spt_jax.app.web import service
from tests.fuzz import corpus
from tests.fuzz.harness import is_line, share
from tests.fuzz.mangled import GARBAGE, NAMES, mangled

REFUSALS = (400, 403, 404, 405, 413, 422)
OWN = read_spectrum(EXAMPLE)
FEW = {"energy": OWN.energy.tolist(), "mu": OWN.mu.tolist(), "element": "Co"}

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(GARBAGE)
ANY = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))
NUMBERS = st.sampled_from([OWN.energy.tolist(), OWN.mu.tolist(), [], [1e308] * 9, [math.nan] * 119, [-1.0] * 119])
NUMBERS |= st.lists(st.floats() | SCALARS, max_size=10)
SPECTRUM = st.fixed_dictionaries(
    {"energy": NUMBERS, "mu": NUMBERS},
    optional={
        "element": st.sampled_from(["Co", 27, "²", "Xx", -1, 10**30, "9" * 190]) | SCALARS,
        "edge": st.sampled_from(["K", "L3", "K\n"]) | SCALARS,
        "name": NAMES | SCALARS,
    },
)
ASKED = st.fixed_dictionaries(
    {"spectra": st.lists(SPECTRUM | st.just(FEW) | ANY, max_size=3) | ANY},
    optional={
        "as": st.sampled_from(["theory", "measured"]) | SCALARS,
        "foil": st.floats() | SCALARS,
        "shift": st.floats() | SCALARS,
    },
)
SETTINGS = st.dictionaries(
    st.sampled_from("element edge channel columns beamline shift deglitch as foil wrong".split()),
    st.sampled_from(
        ["Co", "K", "nan", "inf", "1e999", "-1", "theory", "measured", "transmission", "energy=1 mu=2", "\n"]
    )
    | st.text(max_size=8)
    | st.sampled_from([each for each in GARBAGE if len(each) < 600]),
    max_size=3,
)


@pytest.fixture(scope="module")
def app():
    desk = Desk("spt-k")
    yield service(desk)
    desk.close()


def ask(app, guarded, path: str, body: bytes, kind: str, query: str = "") -> tuple[int, object]:
    """(status, answer) of a POST, checked: never a failure, and JSON of one line each."""
    sent = iter([{"type": "http.request", "body": body, "more_body": False}])
    said: list[dict] = []

    async def receive() -> dict:
        return next(sent, {"type": "http.disconnect"})

    async def send(message: dict) -> None:
        said.append(message)

    head = {b"host": b"localhost", b"content-type": kind.encode(), b"content-length": str(len(body)).encode()}
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http"}
    scope |= {"path": path, "raw_path": path.encode(), "root_path": "", "query_string": query.encode()}
    scope |= {"headers": list(head.items()), "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000)}
    with guarded():
        asyncio.run(app(scope, receive, send))
    status = said[0]["status"]
    text = b"".join(each.get("body", b"") for each in said[1:])
    answer = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert status == 200 or status in REFUSALS, (status, answer)
    for line in [each["error"] for each in answer if "error" in each] if status == 200 else [answer["detail"]]:
        is_line(line)
        assert str(guarded.folder) not in line
    return status, answer


def test_any_json_is_answered_or_refused_in_a_line(app, guarded):
    @given(ASKED | ANY)
    @example({"spectra": [FEW], "shift": math.nan})
    @example({"spectra": [FEW], "foil": math.inf})
    @example({"spectra": [{**FEW, "element": "²"}]})
    @example({"spectra": [{**FEW, "energy": [10**400, 1]}], "foil": 10**400})
    @example({"spectra": [{**FEW, "energy": [each * 1e300 for each in FEW["energy"]]}]})
    def run(asked):
        ask(app, guarded, "/predict", json.dumps(asked).encode("utf-8", "surrogatepass"), "application/json")

    run()
    assert ask(app, guarded, "/predict", json.dumps({"spectra": [FEW]}).encode(), "application/json")[0] == 200


def test_any_bytes_are_answered_or_refused_in_a_line(app, guarded):
    whole = {"asked": json.dumps({"spectra": [FEW], "as": "theory"}).encode()}

    @given(mangled(whole), st.sampled_from(["application/json", "text/plain", "multipart/form-data", "\xff"]))
    @example(("", b"[" * 100_000), "application/json")
    @example(("", b'{"spectra":' * 100_000), "application/json")
    @example(("", b'{"spectra": ' + b"9" * 5_000 + b"}"), "application/json")
    @share(0.6)
    def run(changed, kind):
        ask(app, guarded, "/predict", changed[1], kind)

    run()


def _form(name: str, content: bytes) -> bytes:
    name = name.encode("utf-8", "surrogateescape").decode("latin-1").replace('"', "%22")
    head = f'--mark\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    return head.encode("latin-1") + content + b"\r\n--mark--\r\n"


def test_any_file_and_any_setting_is_answered_or_refused_in_a_line(app, guarded):
    names = NAMES | st.sampled_from(["../../etc/passwd", "..", "a\0b", "C:\\x", "a/b", "", "." * 300, "é" * 300])

    @given(mangled(corpus.spectra("here")), names, SETTINGS)
    def run(changed, name, said):
        query = "&".join(f"{key}={quote(value, errors='replace')}" for key, value in said.items())
        ask(app, guarded, "/files", _form(name, changed[1]), "multipart/form-data; boundary=mark", query)

    run()


def test_any_form_is_answered_or_refused_in_a_line(app, guarded):
    whole = {"form": _form("xmu.dat", EXAMPLE.read_bytes()), "short": _form("a", b"1 2\n")}

    @given(
        mangled(whole), st.sampled_from(["; boundary=mark", "", "; boundary=", "; boundary=" + "a" * 9000, ";;=\xff"])
    )
    @share(0.6)
    def run(changed, boundary):
        ask(app, guarded, "/files", changed[1], f"multipart/form-data{boundary}")

    run()
