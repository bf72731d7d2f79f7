"""The first answer of a service as fast as all others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ..exceptions import InputError

__all__ = ["warm_up"]


def warm_up(estimator: Any) -> Any:
    """Load the networks of a fitted estimator and run each on one made-up item.

    What a loaded estimator does once, at its first prediction, is done now: weights are loaded, the
    network is built and made ready for the device, which takes seconds. Nothing is kept in the
    cache, and no answer changes.

    Parameters
    ----------
    estimator : estimator
        Fitted: one of sktransfer's, or anything that holds some, such as a Pipeline, a
        ColumnTransformer, a search or a vote.

    Returns
    -------
    estimator : estimator
        The same.

    Raises
    ------
    InputError
        If it holds no fitted estimator with a network.
    sklearn.exceptions.NotFittedError
        If it is not fitted.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sktransfer import CNNCodes, warm_up
    >>> from sktransfer.datasets import load_cifar10_sample
    >>> X, y = load_cifar10_sample(return_X_y=True)
    >>> pipe = make_pipeline(CNNCodes(image_size=32, cache=None), LogisticRegression())
    >>> pipe.fit(X[:60], y[:60]) is warm_up(pipe)
    True
    """
    check_is_fitted(estimator)
    found = list(_holders(estimator, set()))
    if not found:
        raise InputError(
            "The estimator must hold a fitted network, such as CNNCodes in a Pipeline, got "
            f"{type(estimator).__name__} without one."
        )
    for one in found:
        one.warm_up()
    return estimator


def _holders(value: Any, seen: set[int]) -> Iterator[Any]:
    """Fitted estimators with a network, however deep others hold them; each once."""
    if isinstance(value, (list, tuple, Mapping)):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _holders(one, seen)
    elif isinstance(value, BaseEstimator) and id(value) not in seen:
        seen.add(id(value))
        if not hasattr(value, "warm_up"):
            yield from _holders(list(vars(value).values()), seen)
        elif value.__sklearn_is_fitted__():  # unlike those that are parameters
            yield value
