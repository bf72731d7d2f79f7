"""The only file that imports what scikit-learn keeps private.

A release of scikit-learn that moves one of these breaks this file and no other.
"""

from sklearn.base import _fit_context as fit_context
from sklearn.utils._param_validation import HasMethods, Integral, Interval, Real, StrOptions
from sklearn.utils._set_output import _get_output_config as output_config
from sklearn.utils.validation import _check_feature_names_in as check_feature_names_in
from sklearn.utils.validation import _check_sample_weight as check_sample_weight
from sklearn.utils.validation import validate_data

__all__ = [
    "HasMethods",
    "Integral",
    "Interval",
    "Real",
    "StrOptions",
    "check_feature_names_in",
    "check_sample_weight",
    "fit_context",
    "output_config",
    "validate_data",
]
