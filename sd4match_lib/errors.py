"""Errors that a user can cause and can mend."""

import errno

LONGEST = 2000
"""Characters of a message; the middle of a longer one is left out."""


class UserError(ValueError):
    """Something in the request is wrong: one sentence that names the file, the field and the fix.

    The command line prints the sentence alone and exits with `exit_code`; notebooks show it as the last line.
    Names from outside may hold anything, so what cannot be printed on one line is shown escaped.
    """

    exit_code = 2

    def __init__(self, message: str, *, report: str = "") -> None:
        """Make the error of a sentence, and of lines below it that this library itself laid out."""
        super().__init__(one_line(message) + report)


class DataError(UserError):
    """A file from outside is missing, damaged or contradicts itself."""


class NoSplitError(DataError):
    """A data set has no such split."""


class NoLayerError(UserError):
    """A model has no such layer."""


class WriteError(UserError, OSError):
    """A file cannot be written: the disk is full, or the folder is somebody else's."""


def one_line(text: str) -> str:
    """Return `text` with whatever cannot be printed on one line escaped, and cut in the middle when too long.

    >>> one_line("two\\nlines")
    'two\\\\nlines'
    """
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def reason(error: BaseException) -> str:
    """Return what a library's exception says, on one line and without its second thoughts."""
    said = " ".join(str(error).split())
    return one_line(said if len(said) <= 300 else f"{said[:300]} ...") if said else type(error).__name__


def why(error: BaseException) -> str:
    """Return what an exception says, an operating system's without its number and file."""
    return str(error.strerror) if isinstance(error, OSError) and error.strerror else reason(error)


def storage_sentence(error: OSError, path: object = None) -> str:
    """Return what went wrong with a file (the error's own when None), and what to do about it."""
    path = error.filename if path is None else path
    where = "a file" if path is None else str(path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"the disk is full: {where} was not written; make room there and give the same command again, "
            "what is complete is kept."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{where} is not ours to use ({why(error)}); change its permissions, or name another place."
    return f"{where} cannot be used ({why(error)}); correct the path, or name another place."
