"""Strategies: bytes of real files with something done to them, and names that no file should have."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Mapping

from hypothesis import strategies as st

MOST = 3_000_000
NUMBER = re.compile(rb"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?")
NUMBERS = (
    "nan inf -inf 1e400 1e308 -1e308 1e-320 -0 0 -1 1e15 1e5 9e99999 1d400 1_000 0x10 1,5 1.2.3 ١٢٣ ² ½ --5 +-1 1e True"
).split()
NUMBERS += ["9" * 500, "1" + "0" * 400, "0." + "0" * 400 + "1", "9" * 5000]
GARBAGE = [
    *NUMBERS,
    *"\0 \n \r \r\n\r\n \t \x0c \x1a \x1b[31m # ; % ' \" \\ ( ) [ ] { } = => : , * _ \u2028 \x85 \ufeff".split(" "),
    *("(" * 4000, "[" * 4000, "{" * 4000, '{"a":' * 3000, "'" * 4001, "\\" * 4001, "(-" * 4000, "1 " * 30_000),
    *(" " * 100_000, "\t" * 30_000, "a" * 100_000, "," * 30_000, "1" * 100_000, "\n" * 50_000, "a b " * 20_000),
    *("# Element.symbol: 99999999999999999999\n", "# Element.symbol: " + "F" * 9000 + "\n", "# Element.edge: \0\n"),
    *("# Mono.d_spacing: 1e400\n", "# Column.1: energy keV\n", "# Column.999999999: mu\n", "Column 0 x\n", "Data:\n"),
    *("#S 1 ascan\n#L Energy  I0  I1\n", "#S 2\n#L \n", "#S 99999999999999999999999\n", "#FORMAT      : EMSA\n"),
    *(
        "#DATATYPE : Y\n#OFFSET : nan\n#XPERCHAN : 1e308\n",
        "#NCOLUMNS : -1\n",
        "P1 = {\n",
        "$old_group = 'x';\n@args = (",
    ),
    *(
        "@x = (",
        ");",
        "[record]\n",
        "bless(",
        "  9810 PF\n",
        "omega e k mu mu0 chi @#\n",
        "Abs   Z=999999999 x shell\n",
    ),
    *(
        "_cell_length_a 1e308\n",
        "loop_\n",
        "data_\n",
        "_symmetry_Int_Tables_number 999\n",
        "'x,y,z,w'\n",
        ";\n",
        "?",
        ".",
    ),
]


def numbered(content: bytes, how: Callable[[bytes], bytes], at: float, count: int) -> bytes:
    """Some of its numbers changed, from a place on."""
    found = list(NUMBER.finditer(content))
    first = int(at * len(found))
    for each in reversed(found[first : first + count]):
        content = content[: each.start()] + how(each[0]) + content[each.end() :]
    return content


def column(content: bytes, number: int, how: Callable[[bytes], bytes]) -> bytes:
    """The same column changed in all rows."""
    lines = content.split(b"\n")
    for i, line in enumerate(lines):
        words = line.split()
        if number < len(words) and NUMBER.fullmatch(words[0]):
            words[number] = how(words[number])
            lines[i] = b" ".join(words)
    return b"\n".join(lines)


def _scaled(by: float) -> Callable[[bytes], bytes]:
    def how(word: bytes) -> bytes:
        try:
            return repr(float(word) * by).encode()
        except ValueError:
            return word

    return how


def _encoded(name: str) -> Callable[..., bytes]:
    return lambda content, *_: content.decode("latin-1").encode(name, "replace")


Change = Callable[[bytes, float, float, str, int], bytes]
CHANGES: dict[str, Change] = {
    "cut": lambda c, a, b, g, n: c[: int(a * len(c))],
    "beheaded": lambda c, a, b, g, n: c[int(a * len(c)) :],
    "gap": lambda c, a, b, g, n: c[: int(a * len(c))] + c[int(a * len(c)) + int(b * 3000) :],
    "flipped": lambda c, a, b, g, n: _flipped(c, a, b, n),
    "inserted": lambda c, a, b, g, n: c[: int(a * len(c))] + g.encode() + c[int(a * len(c)) :],
    "inserted line": lambda c, a, b, g, n: b"\n".join(_put(c.split(b"\n"), a, [g.encode()])),
    "above": lambda c, a, b, g, n: g.encode() + b"\n" + c,
    "repeated": lambda c, a, b, g, n: _repeated(c, a, b, n),
    "numbers": lambda c, a, b, g, n: numbered(c, lambda word: NUMBERS[n % len(NUMBERS)].encode(), a, 1 + int(b * 5)),
    "many numbers": lambda c, a, b, g, n: numbered(c, lambda word: NUMBERS[n % len(NUMBERS)].encode(), a, 400),
    "column": lambda c, a, b, g, n: column(c, n % 4, lambda word: NUMBERS[int(b * 0.99 * len(NUMBERS))].encode()),
    "scaled": lambda c, a, b, g, n: column(c, n % 4, _scaled(10.0 ** int(40 * b - 20))),
    "turned": lambda c, a, b, g, n: column(c, n % 4, _scaled(-1.0)),
    "power": lambda c, a, b, g, n: numbered(c, _scaled(10.0 ** int(600 * b - 300)), a, n),
    "lines turned": lambda c, a, b, g, n: b"\n".join(c.split(b"\n")[::-1]),
    "every n-th line": lambda c, a, b, g, n: b"\n".join(c.split(b"\n")[:: 1 + n % 20]),
    "few lines": lambda c, a, b, g, n: b"\n".join(c.split(b"\n")[int(a * c.count(b"\n")) :][: n % 12]),
    "one line": lambda c, a, b, g, n: c.replace(b"\n", b" "),
    "returns": lambda c, a, b, g, n: c.replace(b"\n", b"\r"),
    "utf-16": _encoded("utf-16"),
    "utf-16-le": _encoded("utf-16-le"),
    "utf-32": _encoded("utf-32"),
    "utf-7": _encoded("utf-7"),
    "ebcdic": _encoded("cp037"),
    "marked": lambda c, a, b, g, n: (b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\xff\xfe\0\0")[n % 4] + c,
    "packed": lambda c, a, b, g, n: gzip.compress(c, 1),
    "packed and cut": lambda c, a, b, g, n: gzip.compress(c, 1)[: -1 - int(a * 100)],
    "commas": lambda c, a, b, g, n: c.replace(b".", b","),
    "empty": lambda c, a, b, g, n: b"",
}


def _put(lines: list[bytes], at: float, more: list[bytes]) -> list[bytes]:
    place = int(at * len(lines))
    return lines[:place] + more + lines[place:]


def _flipped(content: bytes, at: float, value: float, count: int) -> bytes:
    found = bytearray(content)
    step = max(1, len(found) // (count or 1))
    for place in range(int(at * step), len(found), step):
        found[place] ^= 1 + int(value * 254)
    return bytes(found)


def _repeated(content: bytes, at: float, end: float, count: int) -> bytes:
    start = int(at * len(content))
    block = content[start : start + int(end * len(content))]
    count = min(2 + count, 1 + MOST // max(1, len(block)))
    return content[:start] + block * count + content[start + len(block) :]


SHARES = st.floats(0, 1, width=16)


@st.composite
def mangled(draw: st.DrawFn, contents: Mapping[str, bytes]) -> tuple[str, bytes]:
    """(name, bytes) of one of the files, with one to three changes."""
    name = draw(st.sampled_from(sorted(contents)))
    content = contents[name]
    for change in draw(st.lists(st.sampled_from(sorted(CHANGES)), min_size=1, max_size=3)):
        given = draw(SHARES), draw(SHARES), draw(st.sampled_from(GARBAGE)), draw(st.integers(0, 60))
        content = CHANGES[change](content, *given)[:MOST]
    return name, content


# Of files that are there; a path may hold neither NUL nor a slash.
NAMES = st.sampled_from(
    [
        *("a\nb.dat", "a\r\x1b[31mb.dat", "#.dat", "a#b#c.dat", "-rf.dat", "...dat", "a\udcffb.dat", "[bold]a[b].dat"),
        *(
            "%s{0}$HOME.dat",
            "a\u2028b\u202e.dat",
            "=1+1.dat",
            "'\".dat",
            " .dat",
            "x" * 200 + ".dat",
            "ｆｅ.dat",
            "*?.dat",
        ),
    ]
)
