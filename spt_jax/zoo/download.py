"""Models that lie elsewhere: fetched once, kept, and taken only if they are what the address says they are."""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

from data_pipelines.errors import CheckpointError
from data_pipelines.files import cache_folder, file_sha256

# A path makes one slash of two.
ADDRESS = re.compile(r"(https?):/+(.+)")
PIN = re.compile(r"(.+)#sha256=([0-9a-fA-F]{64})")
SECONDS, PIECE = 60, 2**20


def is_address(model: Path | str) -> bool:
    """Whether this is a URL rather than a place or a name."""
    return bool(ADDRESS.fullmatch(str(model)))


def fetched(model: Path | str, suffix: str) -> Path:
    """The file at `https://HOST/NAME.safetensors#sha256=CHECKSUM`, from the cache where it was fetched before.

    It is kept in `cache_folder()`. Raises CheckpointError for an address without a checksum,
    for one that does not answer, and for a file that is another.
    """
    scheme, rest = ADDRESS.fullmatch(str(model)).groups()
    address = f"{scheme}://{rest}"
    pinned = PIN.fullmatch(address)
    if not pinned:
        raise CheckpointError(
            f"{address}: add #sha256=, with the SHA-256 of the file, so that no other is taken for it"
        )
    address, checksum = pinned[1], pinned[2].lower()
    place = cache_folder() / "models" / f"{checksum}{suffix}"
    if not (place.is_file() and file_sha256(place) == checksum):
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with TemporaryDirectory(dir=place.parent) as own:  # other processes may fetch the same
                partial = Path(own) / place.name
                _download(address, partial)
                if (found := file_sha256(partial)) != checksum:
                    raise CheckpointError(f"{address}: its SHA-256 is {found}, not {checksum}; it was not kept")
                os.replace(partial, place)
        except CheckpointError:
            raise
        except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError, ValueError) as error:
            raise CheckpointError(f"{address}: not to be had ({getattr(error, 'reason', None) or error})") from None
        except OSError as error:
            raise CheckpointError(f"{place}: cannot be written ({error.strerror or error})") from None
    return place


def _download(address: str, into: Path) -> None:
    with urllib.request.urlopen(address, timeout=SECONDS) as answer, open(into, "wb") as file:
        while piece := answer.read(PIECE):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
