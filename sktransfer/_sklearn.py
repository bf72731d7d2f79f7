"""The only file that imports what scikit-learn keeps private.

A release of scikit-learn that moves one of these breaks this file and no other.
"""

from typing import Any

import numpy as np
from sklearn.base import _fit_context as fit_context
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.utils._param_validation import HasMethods, Integral, Interval, Real, StrOptions
from sklearn.utils._set_output import _get_output_config as output_config
from sklearn.utils.validation import _check_feature_names_in as check_feature_names_in
from sklearn.utils.validation import _check_sample_weight as check_sample_weight
from sklearn.utils.validation import validate_data

__all__ = [
    "GroupedFolds",
    "HasMethods",
    "Integral",
    "Interval",
    "Real",
    "StrOptions",
    "check_columns",
    "check_feature_names_in",
    "check_sample_weight",
    "fit_context",
    "output_config",
    "validate_data",
]


def check_columns(estimator: Any, X: Any, *, reset: bool) -> None:
    """Keep scikit-learn's account of columns, `n_features_in_`, where the input is a table.

    With `reset` it is made again, and gone where `X` is no table; after an error it is as it was.
    """
    own = vars(estimator)
    before = {}
    if reset:
        names = ("n_features_in_", "feature_names_in_")
        before = {name: own.pop(name) for name in names if name in own}
    is_table = len(getattr(X, "shape", ())) == 2
    if is_table and (reset or hasattr(estimator, "n_features_in_")):
        try:
            validate_data(estimator, X, reset=reset, skip_check_array=True)
        except BaseException:
            own.update(before)
            raise


class GroupedFolds(StratifiedGroupKFold):
    """The folds of `StratifiedGroupKFold`, with a tenth of its work for each group.

    Of 10,000 images of which a few are there twice nearly every one is a group.
    """

    def _find_best_fold(
        self, y_counts_per_fold: Any, y_cnt: Any, group_y_counts: Any
    ) -> int | None:
        # As there, for all folds at once. Where it is called otherwise, its own work is done.
        n = self.n_splits
        proposed = np.repeat(y_counts_per_fold[None], n, axis=0)
        proposed[np.arange(n), np.arange(n)] += group_y_counts
        evals = (proposed / y_cnt).std(axis=1).mean(axis=1).tolist()
        sizes = y_counts_per_fold.sum(axis=1).tolist()
        best, least, fewest = None, np.inf, np.inf
        for fold, (value, size) in enumerate(zip(evals, sizes, strict=True)):
            near = abs(value - least) <= 1e-8 + 1e-5 * abs(least)  # numpy.isclose
            if value < least or (near and size < fewest):
                best, least, fewest = fold, value, size
        return best
