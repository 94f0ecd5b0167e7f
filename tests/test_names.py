"""Names from elsewhere: what may be printed, and what may become a file's name."""

import pytest

from quadrate.core.names import check_file_name, check_text
from quadrate.errors import QuadrateError


@pytest.mark.parametrize("name", ["faithful", "犬 x", "a/b", "", "x" * 4096])
def test_plain_texts_may_be_printed(name):
    assert check_text("a name", name) == name


@pytest.mark.parametrize(
    "name", ["\x1b]0;x\x07", "a\nb", "a\u2028b", "\x9b31m", "\ud800", "x" * 4097, 3, None]
)
def test_texts_that_break_a_terminal_are_refused(name):
    with pytest.raises(QuadrateError) as error:
        check_text("a name", name)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name", ["rdc-mnist", "end to end", "犬", "x" * 160, "1.5"])
def test_plain_names_may_become_folders(name):
    assert check_file_name("a name", name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "/x",
        "org/name",
        "a\\b",
        "x" * 161,
        ".hidden",
        "x.",
        " x",
        "NUL",
        "com1.txt",
        "a:b",
        "a\nb",
    ],
)
def test_names_that_lead_elsewhere_are_refused(name):
    with pytest.raises(QuadrateError):
        check_file_name("a name", name)
