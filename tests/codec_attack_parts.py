"""Loaders of the kinds of codec files, and what they say of a bad one."""

import pytest

from quadrate import QuadrateError


def refused(load, path, message=None):
    with pytest.raises(QuadrateError, match=message) as caught:
        load(path)
    text = str(caught.value)
    assert str(path) in text and text.isprintable() and len(text) < 700
    return text
