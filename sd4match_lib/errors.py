"""Errors that a user can cause and can mend."""


class UserError(ValueError):
    """Something in the request is wrong: one sentence that names the file, the field and the fix.

    The command line prints the sentence alone and exits with code 2; notebooks show it as the last line.
    """


class DataError(UserError):
    """A data set's file is missing, damaged or contradicts itself."""
