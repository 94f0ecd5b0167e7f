"""The one exception type that Quadrate raises for anything a user can mend."""


class QuadrateError(Exception):
    """A failure with one clear line: what was wrong, where, and what would be right."""
