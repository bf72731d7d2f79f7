"""Codes: what a pretrained network makes of an image or a text, as rows of numbers.

Modules are imported with the first of their names, so that a transformer that was loaded needs none
of the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazily

if TYPE_CHECKING:
    from ._estimator import CNNCodes
    from ._labeller import TokenLabeller

    # What other rooms ask of linear models and of codes of places; not for users.
    from ._linear import default_pixel_estimator as default_pixel_estimator
    from ._linear import linear_map_of as linear_map_of
    from ._linear import slopes_of as slopes_of
    from ._pixels import PixelClassifier
    from ._pixels import largest_scores as largest_scores
    from ._places import codes_at as codes_at
    from ._places import sample_places as sample_places

    # What other rooms ask of labels of words; not for users.
    from ._sequences import Transitions as Transitions
    from ._sequences import as_objects as as_objects
    from ._sequences import check_sentences as check_sentences
    from ._sequences import entity_f1
    from ._sequences import label_lists as label_lists
    from ._sequences import one_kind_of_labels as one_kind_of_labels
    from ._sequences import scheme_of as scheme_of
    from ._sequences import score_of as score_of
    from ._text import TextCodes, TokenCodes
    from ._to_file import TransformReport

__all__ = [
    "CNNCodes",
    "PixelClassifier",
    "TextCodes",
    "TokenCodes",
    "TokenLabeller",
    "TransformReport",
    "entity_f1",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "_estimator": ["CNNCodes"],
        "_labeller": ["TokenLabeller"],
        "_linear": ["default_pixel_estimator", "linear_map_of", "slopes_of"],
        "_pixels": ["PixelClassifier", "largest_scores"],
        "_places": ["codes_at", "sample_places"],
        "_sequences": [
            *("Transitions", "as_objects", "check_sentences", "entity_f1", "label_lists"),
            *("one_kind_of_labels", "scheme_of", "score_of"),
        ],
        "_text": ["TextCodes", "TokenCodes"],
        "_to_file": ["TransformReport"],
    },
)
