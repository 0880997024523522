"""Errors that the user can mend: their message is one line, shown as it is."""


def printable(text: str) -> str:
    r"""The same, with an escape for each character that is no letter or sign: names of files hold whatever they like.

    >>> print(printable("a\nb \x1b[31m 1 Å \udcff"))
    a\nb \x1b[31m 1 Å \udcff
    """
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class UserError(ValueError):
    """Base of all of them; the command line prints the message and exits with `status`."""

    status = 1

    def __init__(self, message: str = ""):
        super().__init__(printable(message))


class PlaceError(UserError):
    """A bucket that is not there, may not be written to, or does not answer."""


class SourceError(UserError):
    """A source of spectra that cannot be read at all."""


class DamagedSource(SourceError):
    """A source of spectra that is there and is of a known kind, but is not whole: others can do without it."""


class DatasetError(UserError):
    """A dataset folder that is missing, damaged or of another format."""


class DamagedBlock(DatasetError):
    """A block of a dataset that cannot be read, though the file is there: others can do without it. what: says which."""

    def __init__(self, what: str, remedy: str = ""):
        super().__init__(f"{what}; {remedy}" if remedy else what)
        self.what = printable(what)


class RunError(UserError):
    """A run folder, configuration or dataset that do not fit each other."""


class CheckpointError(UserError):
    """A run without a usable model."""


class LostError(UserError):
    """Another process of the same training is gone: the same command may be run again at once."""

    status = 75  # of sysexits.h: try again


class MissingExtra(UserError):
    """A library that only some installations have. `extra` names it in setup.cfg, `what` needs it.

    >>> str(MissingExtra("study", "a study"))
    "for a study, install the extra `study`: in the clone of the repository, pip install -c constraints.txt '.[study]'"
    """

    def __init__(self, extra: str, what: str):
        line = f"pip install -c constraints.txt '.[{extra}]'"
        super().__init__(f"for {what}, install the extra `{extra}`: in the clone of the repository, {line}")


class CountedError(UserError):
    """One item of many that cannot be used. `reason` is a short stable name, counted and reported with the rest."""

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = printable(detail)


class DoubtError(UserError):
    """There are answers, and a reason not to believe them."""


class SpectrumError(CountedError):
    """A spectrum that cannot be used."""


class StructureError(CountedError):
    """A structure that cannot be read, ordered or made."""


def line_of(error: Exception) -> str:
    """What another library's exception says, in one line."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
