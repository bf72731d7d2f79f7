"""Codes: what a pretrained network makes of an image or a text, as rows of numbers."""

from __future__ import annotations

from ._estimator import CNNCodes
from ._labeller import TokenLabeller
from ._sequences import entity_f1
from ._text import TextCodes, TokenCodes
from ._to_file import TransformReport

__all__ = [
    "CNNCodes",
    "TextCodes",
    "TokenCodes",
    "TokenLabeller",
    "TransformReport",
    "entity_f1",
]
