"""Small functions that several files of tests use."""

from __future__ import annotations

import io

import numpy as np


def learnt(estimator):
    """What the training of an estimator has changed, as arrays by their names."""
    return estimator._load_model().learnt()


def assert_equal(one, other):
    """Two dictionaries of arrays are equal bit for bit."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def relative(found, expected, axis=None):
    """How far apart codes are, as a share of their length."""
    return np.linalg.norm(found - expected, axis=axis) / np.linalg.norm(expected, axis=axis)


def encode(image, fmt, **options):
    """The bytes of a file of an image of Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()
