"""What a store of objects answers when it fails: for a moment, which is waited out and counted, or for good.

`count()` is how often something was asked again since the start of the process: a number of its own in a log, since
it costs time and says that a store is overloaded.
"""

from __future__ import annotations

import errno
import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from threading import Lock
from typing import TypeVar

from data_pipelines.errors import PlaceError, UserError, line_of

T = TypeVar("T")
TRIES = 7
# Seconds before the second try; each later one waits twice as long, up to a limit: half a minute together.
FIRST_WAIT, LONGEST_WAIT = 0.5, 16.0
PASSING = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.EIO,
    errno.ETIMEDOUT,
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
log = logging.getLogger(__name__)
_counted: Counter[str] = Counter()
_lock = Lock()


def count() -> int:
    """How often anything has been asked again in this process."""
    return _counted.total()


def retried(path: str, what: str, call: Callable[[], T]) -> T:
    """What `call` answers, which may be asked any number of times to the same end. what: read, list, write, remove.

    Raises FileNotFoundError and the like as answers that they are, and PlaceError, in one line, for what fails for good
    or after TRIES times.
    """
    for tried in range(1, TRIES + 1):
        try:
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
    with _lock:
        _counted[type(error).__name__] += 1
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
