"""What programs and browsers get from a running one: answers, one line where there is none, nothing of others."""

import gzip
import json
import shutil
import socket
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import spt_jax
from data_pipelines.library import EXAMPLE
from data_pipelines.readers.spectrum import read_spectrum
from spt_jax.inference.output import row_of
from tests.app.browser import CHROMIUM, Browser

EXPERIMENT = Path(__file__).parents[3] / "shared" / "data" / "experiment"


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Path:
    """A folder with spectra that were measured at beamlines."""
    archive = EXPERIMENT / "xdi_library.tar.xz"
    if not archive.exists():
        pytest.skip("needs ../shared/data/experiment")
    folder = tmp_path_factory.mktemp("xdi")
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    return next(folder.rglob("Fe2O3_rt_01.xdi")).parent


@pytest.fixture(scope="module")
def example() -> dict:
    own = read_spectrum(EXAMPLE)
    return {"energy": own.energy.tolist(), "mu": own.mu.tolist(), "element": own.element}


def test_an_answer_is_that_of_predict(running, example):
    status, [found] = running.ask("predict", {"spectra": [{**example, "name": "a"}], "as": "theory"})
    [said] = spt_jax.predict("spt-k", [str(EXAMPLE)])
    expected = json.loads(json.dumps(row_of(said)))
    assert status == 200 and found["absorber"] == expected["absorber"] and found["file"] == "a"
    for name, own in expected["descriptors"].items():
        assert found["descriptors"][name]["value"] == pytest.approx(own["value"], abs=1e-3)
    status, [of_file] = running.ask("files", {"xmu.dat": EXAMPLE.read_bytes()})
    assert of_file["descriptors"].keys() == found["descriptors"].keys() and "error" not in of_file


def test_many_at_once_are_all_answered_and_each_its_own(running, example):
    def one(i: int) -> str:
        wrong = {**example, "mu": example["mu"][:-1]} if i % 5 == 0 else example
        kind = "theory" if i % 2 else "measured"
        [found] = running.ask("predict", {"spectra": [{**wrong, "name": f"n{i}"}], "as": kind})[1]
        return f"{found['file']} {'shapes' in found.get('error', '')}"

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(one, range(40))) == [f"n{i} {i % 5 == 0}" for i in range(40)]


def test_it_says_how_to_ask_and_what_it_is(running):
    assert running.ask("health")[1]["status"] == "ok"
    model = running.ask("model")[1]
    assert "Fe K" in model["absorbers"] and model["card"]["licence"] and "OS" in model["descriptors"]
    described = running.ask("openapi.json")[1]["paths"]
    assert set(described) == {"/health", "/model", "/predict", "/files"}
    assert "default-src 'self'" in running.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("body", "status", "line"),
    [
        (b"{", 422, "not JSON"),
        ({"spectra": []}, 422, "at least 1 item"),
        ({"spectra": [{"energy": [1] * 20_001, "mu": [1]}]}, 422, "at most 20000 items"),
        ({"spectra": [{"energy": [1], "mu": [1]}] * 1_001}, 422, "at most 1000 items"),
        ({"spectra": [{"energy": ["x"], "mu": [1]}]}, 422, "spectra 0 energy 0"),
        ({"spectra": [{"energy": [1], "mu": [1], "wrong": 1}]}, 422, "wrong"),
        ({"spectra": [{"energy": [1], "mu": [1]}], "as": "theory", "foil": 7111}, 422, "of measured spectra"),
        (b" " * 64_000_001, 413, "more than the 64 MB"),
    ],
)
def test_what_cannot_be_asked_is_one_line(running, body, status, line):
    if isinstance(body, bytes) and len(body) > 1e6:
        # It answers before all is sent, and sends no more then than the head.
        with socket.create_connection(running.address.split("/")[2].split(":")) as own:
            own.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body))
            head, _, text = b"".join(iter(lambda: own.recv(10_000), b"")).decode().partition("\r\n\r\n")
            found = int(head.split()[1]), json.loads(text[text.index("{") : text.rindex("}") + 1])
    else:
        found = running.ask("predict", body, {"Content-Type": "application/json"})
    assert found[0] == status and line in found[1]["detail"] and "\n" not in found[1]["detail"]


def test_more_than_is_taken_is_refused_where_no_length_is_said(running):
    piece = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    with socket.create_connection(running.address.split("/")[2].split(":")) as own:
        head = "Host: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked"
        own.sendall(f"POST /predict HTTP/1.1\r\n{head}\r\n\r\n".encode())
        try:
            for _ in range(70):
                own.sendall(piece)
        except OSError:
            return  # it hung up
        assert b" 413 " in own.recv(1000)


def test_strangers_are_refused(running):
    """A name of theirs that leads here, and what their pages send."""
    assert running.ask("health", headers={"Host": "rebound.example.org"})[0] == 403
    assert running.ask("board", headers={"Host": "localhost.example.org:80"})[0] == 403
    assert running.ask("files", {"a": b"1"}, {"Origin": "http://example.org"})[0] == 403
    assert running.ask("health", headers={"Host": "[::1]:8000"})[0] == 200
    for path in ("page/../web.py", "page/%2e%2e/web.py", "page/__init__.py", "page//etc/passwd"):
        assert running.ask(path)[0] == 404


def test_hostile_files_cost_a_line_each(running):
    bomb = gzip.compress(b"# Athena project file\n" + b"@x = (" + b"'0'," * 15_000_000)
    hostile = {
        "../../etc/passwd": b"root:x:0:0:root:/root:/bin/bash\n",
        "=cmd|' /C calc'!A1.dat": b"",
        "bomb.prj": bomb,
        "zip.dat": b"PK\x03\x04" + bytes(1000),
        "h5.nxs": b"\x89HDF\r\n\x1a\n" + bytes(500),
        "<img src=x onerror=alert(1)>.dat": b"1 2\n3 4\n",
        "nan.dat": b"nan nan\n" * 500,
        "deep.prj": b"# Athena project file\n" + b"{" * 100_000,
        "large.dat": b"1 2\n" * 2_000_001,
    }
    before = set(Path(tempfile.gettempdir()).glob("spt-jax-*"))
    status, found = running.ask("files", hostile)
    assert status == 200 and len(found) == len(hostile)
    for each in found:
        assert each["error"] and "\n" not in each["error"] and "/tmp" not in each["error"], each
        assert each["file"][0] not in "=./<" and "/" not in each["file"]
    assert set(Path(tempfile.gettempdir()).glob("spt-jax-*")) <= before
    assert running.ask("health")[0] == 200


def test_what_is_said_of_files_is_checked_and_used(running):
    content = {"xmu.dat": EXAMPLE.read_bytes()}
    for settings, line in (
        ("element=Xx", "unknown element"),
        ("columns=nonsense", "columns"),
        ("foil=-1", "foil"),
        ("normalise=no", "normalise"),
        ("as=theory&foil=7111", "of measured spectra"),
        ("as=theory&normalise=mback", "of measured spectra"),
    ):
        status, found = running.ask(f"files?{settings}", content)
        assert status == 422 and line in found["detail"]
    [found] = running.ask("files?as=measured&shift=0.5&foil=none", content)[1]
    assert "normalised" in " ".join(found["notes"]) and found["shift"] == 0.5


def test_each_browser_sees_its_own(running):
    content, cookies = {"mine.dat": EXAMPLE.read_bytes()}, []
    for _ in range(2):
        running.ask("board")
        cookies.append({"Cookie": running.headers["set-cookie"].split(";")[0]})
    assert running.ask("board", content)[0] == 403
    [mine] = running.ask("board", content, cookies[0])[1]
    assert mine["name"] == "mine.dat" and running.ask(f"board/{mine['number']}", headers=cookies[0])[0] == 200
    assert running.ask(f"board/{mine['number']}", headers=cookies[1])[0] == 404
    names = [
        [row["name"] for row in running.ask("board", headers=own)[1]["rows"] if not row["watched"]] for own in cookies
    ]
    assert names == [["mine.dat"], []]
    assert "mine.dat" in running.ask("export.csv", headers=cookies[0])[1]
    [saved] = [row for row in running.ask("export.json", headers=cookies[0])[1] if row["file"] == "mine.dat"]
    assert saved["columns"] == "energy=omega mu=mu" and saved["descriptors"]["OS"]["probabilities"]
    assert running.ask("board", headers=cookies[0], method="DELETE")[0] == 200
    assert "mine.dat" not in running.ask("export.csv", headers=cookies[0])[1]


def test_where_the_network_looked_is_told_of_what_it_answered(running):
    running.ask("board")
    mine = {"Cookie": running.headers["set-cookie"].split(";")[0]}
    [row] = running.ask("board", {"xmu.dat": EXAMPLE.read_bytes()}, mine)[1]
    where = f"board/{row['number']}/looked?descriptor="
    status, found = running.ask(f"{where}OS", headers=mine)
    own = running.ask(f"board/{row['number']}", headers=mine)[1]
    assert status == 200 and found["unit"] == "log-odds" and found["networks"] == 3
    assert found["of"] == f"OS {row['values']['OS']['value']}" and len(found["values"]) == len(own["curve"]["energy"])
    assert sum(found["values"]) == pytest.approx(found["change"], rel=0.1, abs=0.1)
    began = time.monotonic()
    assert running.ask(f"{where}MBL", headers=mine)[1]["unit"] == "Å"
    assert time.monotonic() - began < 2  # nothing is compiled for another question
    assert running.ask(f"{where}XY", headers=mine) == (422, {"detail": "XY: not answered for this spectrum"})
    assert running.ask(f"{where}OS")[0] == 404
    nearest = own["nearest"][0]
    assert nearest["material"].startswith("Co3O4") and len(nearest["mu"]) == 66
    assert [atom[0] for atom in nearest["atoms"][:7]] == ["O"] * 6 + ["Co"] and len(nearest["atoms"]) == 20


@pytest.fixture(scope="module")
def browser(running, tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("needs Chromium or Chrome")
    own = Browser(tmp_path_factory.mktemp("browser"))
    own.open(running.address)
    own.until("document.querySelector('#model')?.textContent == 'spt-k'")
    yield own
    assert own.complaints == []
    own.close()


ROWS = "[...document.querySelectorAll('#rows tbody tr')].map(row => row.innerText)"


def test_a_file_is_answered_on_the_page(browser, measured, tmp_path):
    bad = tmp_path / "<b>bad.dat"
    bad.write_text("no spectrum at all\n")
    browser.give(measured / "Fe2O3_rt_01.xdi", bad)
    first, second = browser.until(f"({ROWS}).length >= 2 && {ROWS}")
    assert first.split()[:3:2] == ["Fe2O3_rt_01.xdi", "Fe"] and "holds no numbers" in second and "\n" not in second
    browser.until("document.querySelector('#one h2')?.innerText == 'Fe2O3_rt_01.xdi Fe K'")
    shown = browser.run("document.querySelector('#one').innerText")
    for words in (
        "unlike what this model learnt",
        "Most alike among the training spectra",
        "oxidation state of the absorber",
        "normalised: E0 7125.7 eV",
        "how good it is there was not measured",
    ):
        assert words in shown
    assert browser.run("document.querySelectorAll('#one svg path').length") > 3
    assert browser.run("document.querySelectorAll('b b, td b').length") == 0  # a name is no HTML


BALLS = "[...document.querySelectorAll('svg.atoms circle')].filter(one => one.firstChild)"
PLACES = f"{BALLS}.map(one => one.getAttribute('cx')).join()"


def test_the_nearest_spectra_are_drawn_with_their_atoms_which_turn(browser):
    assert len(browser.run(f"{BALLS}.map(one => one.textContent)")) == 21
    assert "Fe, the absorber" in browser.run(f"{BALLS}.map(one => one.textContent)")
    assert browser.run("document.querySelectorAll('svg.atoms .bond').length") == 6
    told = browser.run("document.querySelector('#alike').innerText")
    assert "Fe in Fe2O3 (Fe2O3_beta): 6 O at 1.9 to 2.1 Å" in told
    before = browser.run(PLACES)
    browser.run("document.querySelector('svg.atoms').scrollIntoView({block: 'center'})")
    box = browser.run(
        "(b => [b.x + b.width / 2, b.y + b.height / 2])(document.querySelector('svg.atoms').getBoundingClientRect())"
    )
    for kind, off in (("mousePressed", 0), ("mouseMoved", 40), ("mouseReleased", 40)):
        where = {"x": box[0] + off, "y": box[1], "button": "left", "buttons": 1, "clickCount": 1}
        browser.send("Input.dispatchMouseEvent", type=kind, **where)
    dragged = browser.until(f"{PLACES} != '{before}' && {PLACES}")
    for kind, points in (("touchStart", [0]), ("touchMove", [50]), ("touchEnd", [])):
        at = [{"x": box[0] + off, "y": box[1] + off} for off in points]
        browser.send("Input.dispatchTouchEvent", type=kind, touchPoints=at)
    touched = browser.until(f"{PLACES} != '{dragged}' && {PLACES}")
    browser.run("document.querySelectorAll('#alike button')[1].click()")
    other = browser.run("document.querySelectorAll('#alike button span')[2].innerText")
    assert f"Orange: {other}" in browser.run("document.querySelector('#curve').innerText")
    assert browser.run(PLACES) != touched
    assert browser.run("document.querySelectorAll('#curve path.neighbour').length") == 1
    time.sleep(0.7)  # it asks what is new, which changes nothing here
    assert browser.run("document.querySelectorAll('#alike button')[1].getAttribute('aria-pressed')") == "true"


CHOOSE = "(one => {{ one.value = '{0}'; one.dispatchEvent(new Event('change')); }})(document.querySelector('#looked'))"


def test_where_it_looked_is_drawn_below_and_stays_for_the_next(browser, measured, tmp_path):
    browser.run(CHOOSE.format("OS"))
    browser.until("document.querySelectorAll('#bars .share').length > 20")
    said = browser.run("document.querySelector('#bars').innerText")
    assert "speaks for OS 3, orange against it" in said and "mean of 3 networks" in said
    short = tmp_path / "short.xdi"
    lines = (measured / "Fe2O3_rt_01.xdi").read_text().splitlines(keepends=True)
    short.write_text("".join(line for line in lines if line[0] == "#" or float(line.split()[0]) < 7159))
    browser.give(short)
    browser.until("document.querySelector('#one h2')?.innerText == 'short.xdi Fe K'")
    browser.until("(count => count > 5 && count < 26)(document.querySelectorAll('#bars .share').length)")
    assert browser.run("document.querySelectorAll('#curve path.expected, #curve path.doubt').length") == 2
    words = browser.run("document.querySelector('#one').innerText")
    assert "Dashed: not measured, what the model expects there" in words
    assert "nine in ten points of calculated Fe spectra lie within" in words
    browser.run(CHOOSE.format("MBL"))
    browser.until("document.querySelector('#bars').innerText.includes('raises MBL, orange lowers it')")


def test_a_file_in_the_watched_folder_is_answered_within_a_second_and_again_when_it_grows(browser, running, measured):
    content = (measured / "Fe2O3_rt_01.xdi").read_text().splitlines(keepends=True)
    scan = running.folder / "scan_001.xdi"
    scan.write_text("".join(content[: len(content) // 4]))
    began = time.monotonic()
    row = f"({ROWS}).find(row => row.startsWith('scan_001'))"
    assert "Fe" not in browser.until(row).split()
    scan.write_text("".join(content))
    browser.until(f"{row}.split('\\t')[1] == 'Fe'")
    assert time.monotonic() - began < 5  # both; a busy machine may take longer than a second for each
    browser.until("document.querySelector('#one').innerText.includes('times while it grew')")
    (running.folder / "secret").symlink_to("/etc/passwd")
    (running.folder / ".hidden.xdi").write_text("".join(content))
    shutil.copy(measured / "FeO_rt_01.xdi", running.folder / "scan_002.xdi")
    browser.until(f"({ROWS}).some(row => row.startsWith('scan_002'))")
    assert not browser.run(f"({ROWS}).some(row => row.includes('secret') || row.includes('hidden'))")
    seen = "(box => (row => row.top >= box.top && row.bottom <= box.bottom)(document.querySelector('#rows .chosen').getBoundingClientRect()))"
    browser.until(f"{seen}(document.querySelector('#rows').getBoundingClientRect())")  # the newest, within its list
    assert "2 files" in browser.until("document.querySelector('#watch').innerText")
    browser.until(
        "!document.querySelector('#series').hidden && document.querySelectorAll('#alongplot .point').length >= 3"
    )


def test_the_page_fits_a_telephone(browser, measured):
    browser.give(*sorted(measured.glob("*.xdi"))[:12])
    browser.until(f"({ROWS}).length >= 14")
    for width in (1400, 420):
        browser.size(width)
        browser.until(f"innerWidth == {width}")
        time.sleep(0.4)  # it is drawn anew a moment after
        assert browser.run("document.documentElement.scrollWidth") <= width
    browser.size(1400)
