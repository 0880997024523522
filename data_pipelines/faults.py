"""What a store of objects or a disk of the network answers when it fails: for a moment, which is waited out and counted,
or for good. And reads that take long, which are told while they do.

`counts()` is what went wrong since the start of the process and was got over: numbers of their own in a log, since they
cost time and say that a store is overloaded.
"""

from __future__ import annotations

import errno
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, Thread
from typing import TypeVar

from data_pipelines.errors import PlaceError, UserError, line_of

T = TypeVar("T")
TRIES = 7
# Seconds before the second try; each later one waits twice as long, up to a limit: half a minute together.
FIRST_WAIT, LONGEST_WAIT = 0.5, 16.0
# Seconds after which a read is slow.
SLOW = 10.0
PASSING = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.EIO,
    errno.ETIMEDOUT,
    errno.ESTALE,
    errno.ECONNRESET,
    errno.ECONNREFUSED,
    errno.ECONNABORTED,
    errno.EPIPE,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    getattr(errno, "EREMOTEIO", errno.EIO),  # as s3fs says InternalError
}
ANSWERS = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
# Packages that speak HTTP for a store: what they raise is of the network, unless it has a status.
SPEAKERS = {"aiohttp", "aiobotocore", "botocore", "requests", "urllib3", "http", "gcsfs", "google", "fsspec"}
REMEDY = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws configure`; AWS_ENDPOINT_URL for another server",
    "gs": "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS",
}
COUNTED = ("asked_again", "slow_reads", "replaced_rows")
log = logging.getLogger(__name__)
_counted: Counter[str] = Counter()
_lock = Lock()
# Reads that are under way: of which file, since when. And files that were told to be slow.
_reading: dict[object, tuple[str, float]] = {}
_slow: set[str] = set()
_watcher: list[Thread] = []


def add(name: str, number: int = 1) -> None:
    with _lock:
        _counted[name] += number


def counts() -> dict[str, int]:
    """asked_again: how often anything was in this process. slow_reads: that took longer than SLOW seconds. replaced_rows:
    that were shown in the place of those of a damaged block. What did not happen is not in it."""
    return dict(_counted)


def since(before: dict[str, int]) -> dict[str, int]:
    """What has been added to `counts()` as it was before."""
    return {name: number - before.get(name, 0) for name, number in counts().items() if number > before.get(name, 0)}


def count() -> int:
    """How often anything has been asked again in this process."""
    return _counted["asked_again"]


@contextmanager
def watched(path: str) -> Iterator[None]:
    """A read of `path`: where it takes longer than SLOW seconds it is counted, and the first of a file is told, while it
    still goes on."""
    with _lock:
        if not _watcher:
            _watcher.append(Thread(target=_watch, daemon=True, name="slow reads"))
            _watcher[0].start()
    read = object()
    _reading[read] = path, time.monotonic()
    try:
        yield
    finally:
        _reading.pop(read, None)


def _watch() -> None:
    seen: set[object] = set()
    while True:
        time.sleep(SLOW / 10)
        now, under_way = time.monotonic(), dict(_reading)
        seen &= under_way.keys()
        for read, (path, began) in under_way.items():
            if now - began > SLOW and read not in seen:
                seen.add(read)
                add("slow_reads")
                if path not in _slow:
                    _slow.add(path)
                    log.warning("%s: a read of it has taken %.0f s so far; is its disk or its store busy?", path, SLOW)


def retried(path: str, what: str, call: Callable[[], T]) -> T:
    """What `call` answers, which may be asked any number of times to the same end. what: read, list, write, remove.

    Raises FileNotFoundError and the like as answers that they are, and PlaceError, in one line, for what fails for good
    or after TRIES times.
    """
    for tried in range(1, TRIES + 1):
        try:
            if what != "read":
                return call()
            with watched(path):
                return call()
        except UserError:
            raise
        except ANSWERS as error:
            if "bucket does not exist" in str(error).lower():
                raise PlaceError(
                    f"{'/'.join(path.split('/')[:3])}: no such bucket; make it first, or correct the name"
                ) from None
            raise FileNotFoundError(path) if isinstance(error, FileNotFoundError) else error from None
        except Exception as error:
            final = _final(path, what, error)
            if final or tried == TRIES:
                raise final or PlaceError(f"{path}: cannot {what}, tried {TRIES} times ({line_of(error)})") from None
            _wait(path, what, error, tried)
    raise AssertionError  # the last try returns or raises


def _wait(path: str, what: str, error: Exception, tried: int) -> None:
    add("asked_again")
    seconds = min(FIRST_WAIT * 2 ** (tried - 1), LONGEST_WAIT) * random.uniform(
        0.75, 1.25
    )  # hosts must not ask in step
    log.warning("%s: cannot %s (%s); try %d of %d in %.1f s", path, what, line_of(error), tried + 1, TRIES, seconds)
    time.sleep(seconds)


def _final(path: str, what: str, error: Exception) -> Exception | None:
    """What to raise at once; None for what may pass."""
    scheme, told = path.partition(":")[0], line_of(error)
    name, status = type(error).__name__, _status(error)
    if "Credential" in name or "Anonymous" in told or status == 401:
        return PlaceError(f"{path}: no credentials for {scheme}:// ({told}); {REMEDY.get(scheme, 'give some')}")
    if isinstance(error, PermissionError) or status == 403 or "Forbidden" in str(error):
        known = "" if what in ("read", "list") else ", the bucket may be read-only"
        return PlaceError(f"{path}: no permission to {what}{known} ({told}); check the rights of your credentials")
    if status is not None:
        return (
            None if status in (408, 409, 425, 429) or status >= 500 else PlaceError(f"{path}: cannot {what} ({told})")
        )
    if isinstance(error, ConnectionError | TimeoutError) or type(error).__module__.partition(".")[0] in SPEAKERS:
        return None
    if isinstance(error, OSError) and error.errno in PASSING:
        return None
    return PlaceError(f"{path}: cannot {what} ({told})") if isinstance(error, OSError) else error


def _status(error: BaseException | None) -> int | None:
    """Of the HTTP answer behind an exception or what it was raised from, if there is one."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        else:
            found = getattr(error, "status", None) or getattr(error, "code", None)
        if isinstance(found, int | str) and str(found).isdecimal():
            return int(found)
        error = error.__cause__
    return None
