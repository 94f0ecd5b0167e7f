"""The exception for anything that a user can mend, and the warning for what may be a mistake."""


class QuadrateError(Exception):
    """A failure with one clear line: what was wrong, where, and what would be right."""


class UsageError(QuadrateError):
    """Words of the command line that are no command: its exit status is 2 rather than 1."""


class QuadrateWarning(UserWarning):
    """A doubt in one clear line: the result stands, but it may not be what was meant.

    The command line prints it as `quadrate: warning: …`.
    """
