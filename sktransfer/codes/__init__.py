"""Codes: what a pretrained network makes of an image or a text, as rows of numbers."""

from __future__ import annotations

from ._estimator import CNNCodes
from ._text import TextCodes
from ._to_file import TransformReport

__all__ = ["CNNCodes", "TextCodes", "TransformReport"]
