"""Messages stay readable, whatever was given."""

from __future__ import annotations

import warnings

import pytest

from sktransfer import exceptions
from sktransfer.exceptions import ImageError, SktransferError, SktransferWarning, shown

KINDS = [
    kind
    for name in exceptions.__all__
    if issubclass(kind := getattr(exceptions, name), (SktransferError, SktransferWarning))
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_message_is_long(kind):
    message = str(kind("begin " + "x" * 100_000 + " end"))
    assert len(message) < 2000 and "begin" in message and message.rstrip(".").endswith("end")
    assert "a short one" in str(kind("a short one"))


def test_a_warning_that_is_shown_is_short_as_well():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn(SktransferWarning("x" * 100_000), stacklevel=1)
    text = warnings.formatwarning(caught[0].message, caught[0].category, "file.py", 1, line="")
    assert len(text) < 2100


@pytest.mark.parametrize(
    "path", ["a\nb.png", "a\r\n.png", "\0.png", " a.png", "a.png ", "a\x1b[31m"]
)
def test_what_cannot_be_printed_is_escaped(path):
    message = str(ImageError("not found", 3, path))
    assert message.startswith("image 3 (") and message.isprintable()
    assert repr(path) in message


def test_what_can_be_printed_is_shown_as_it_is():
    assert shown("Bilder/Käse, 日本.png") == "Bilder/Käse, 日本.png"
    assert str(ImageError("not found", 0, "a.png")) == "image 0 (a.png): not found."


def test_both_ends_of_a_long_path_are_shown():
    text = shown("/start/" + "d/" * 50_000 + "end.png")
    assert len(text) <= 200 and text.startswith("/start/") and text.endswith("end.png")
