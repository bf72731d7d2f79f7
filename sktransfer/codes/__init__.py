"""CNN codes: what a pretrained network sees in an image, as rows of numbers."""

from __future__ import annotations

from ._estimator import CNNCodes
from ._to_file import TransformReport

__all__ = ["CNNCodes", "TransformReport"]
