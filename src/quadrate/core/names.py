"""Rules for names from users and files: which may be printed, and which may name a folder."""

from __future__ import annotations

import re

from quadrate.errors import QuadrateError

# Line breaks would break lists of names, and other control characters a terminal that shows them;
# surrogates are not Unicode text.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NOT_IN_FILES = re.compile(r'[/\\<>:"|?*]')  # the first two make folders; Windows forbids the rest
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # on Windows
_LONG = re.compile(r"\S{400,}")
_TEXT_BYTES = 1 << 12
_FILE_BYTES = 160  # of 255, since a digest, an ending and a temporary file's name need room


def is_printable(text: str) -> bool:
    """Whether a text can be printed on one line of a terminal as it is."""
    return not _FORBIDDEN.search(text)


def one_line(text: str) -> str:
    """A message on one line: control characters are escaped, and very long names cut short."""

    def escape(found: re.Match[str]) -> str:
        return found[0].encode("unicode_escape", "surrogatepass").decode()

    return _LONG.sub(lambda found: f"{found[0][:80]}…", _FORBIDDEN.sub(escape, text))


def check_text(what: str, text: str) -> str:
    """Returns a name that may be printed.

    Args:
        what: What the error calls it, such as "the name of a decoder".
        text: The name.

    Raises:
        QuadrateError: If it is not a text, takes more than 4096 bytes, or has control characters,
            line separators or surrogates.
    """
    if not isinstance(text, str):
        raise QuadrateError(f"{what} is a text; got {type(text).__name__}")
    if not is_printable(text):
        raise QuadrateError(f"{what}, {text[:80]!a}, has a line break or another control character")
    if len(text.encode()) > _TEXT_BYTES:
        raise QuadrateError(f"{what} takes {len(text.encode())} bytes; allowed: {_TEXT_BYTES}")
    return text


def check_file_name(what: str, text: str) -> str:
    """Returns a name that may name a file or folder on any system, and cannot lead out of it.

    Raises:
        QuadrateError: As `check_text` does; or if it is empty, takes more than 160 bytes, begins or
            ends with a dot or a space, has a character that some system forbids, or is the name of
            a device on Windows.
    """
    check_text(what, text)
    size = len(text.encode())
    if not 1 <= size <= _FILE_BYTES:
        raise QuadrateError(
            f"{what} becomes the name of a folder, so it takes 1 to {_FILE_BYTES} bytes; got {size}"
        )
    if _NOT_IN_FILES.search(text) or text.strip(". ") != text or DEVICES.fullmatch(text):
        raise QuadrateError(
            f"{what}, {text!r}, becomes the name of a folder: give a plain name such as my-name,"
            ' without / \\ < > : " | ? *, without a dot or a space at its ends, and not a'
            " device's"
        )
    return text
