"""Estimators ready for scikit-learn's own checks.

scikit-learn's checks feed rows of any length that hold any numbers. The strict defaults
refuse these, rightly: such rows are no photographs. Two documented settings make them
legal, ``image_shape="row"`` (a row is a grey image of height 1) and ``value_range=(low,
high)`` (what black and white are).
"""

from __future__ import annotations

from typing import Any

from .codes import CNNCodes

__all__ = ["check_instances"]


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
    ...     print(type(estimator).__name__, expected_failures)
    CNNCodes {}
    """
    codes = CNNCodes(image_shape="row", value_range=(-10.0, 110.0), image_size=32)
    return [(codes, {})]
