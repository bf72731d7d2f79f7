"""The regressor."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin

from .._sklearn import fit_context
from ._base import FineTuneBase
from ._docs import with_parameters
from ._fitting import fit_estimator
from ._targets import as_values

__all__ = ["FineTuneRegressor"]


@with_parameters
class FineTuneRegressor(RegressorMixin, FineTuneBase):
    """Fine-tune a pretrained network to tell numbers from photographs.

    As :class:`FineTuneClassifier`, with squared errors in the place of cross-entropy. Targets
    are standardised for learning; the head starts from ridge regression on the codes.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    {attributes}

    See Also
    --------
    FineTuneClassifier : The same for labels.

    Examples
    --------
    >>> from sktransfer import FineTuneRegressor
    >>> from sktransfer.datasets import load_cifar10_sample
    >>> X, _ = load_cifar10_sample(return_X_y=True)
    >>> brightness = X.mean(axis=(1, 2, 3))
    >>> reg = FineTuneRegressor(trainable=1, image_size=64, max_epochs=2, random_state=0)
    >>> bool(reg.fit(X[:60], brightness[:60]).score(X[:60], brightness[:60]) > 0.8)
    True
    """

    _center: np.ndarray
    _scale: np.ndarray

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        groups: Any = None,
        validation_data: tuple[Any, Any] | None = None,
    ) -> Self:
        """Learn from photographs with numbers; after an error all is as it was before.

        Parameters
        ----------
        X : array, list or table of images
            As in :class:`sktransfer.CNNCodes`.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Numbers to learn.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each photograph counts.
        groups : array-like of shape (n_samples,), default=None
            Photographs of one group stay together when `early_stopping` splits.
        validation_data : (X, y), default=None
            Photographs to validate on; nothing is split off then.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If targets are not finite numbers, one row for each photograph.
        ImageError
            If an image cannot be read.
        TrainingError
            If the loss stops being a number.
        """
        fit_estimator(
            self,
            X,
            y,
            sample_weight=sample_weight,
            groups=groups,
            validation_data=validation_data,
            go_on=self.warm_start,
        )
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn one epoch more, from these photographs.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Numbers to learn.
        sample_weight : array-like of shape (n_samples,), default=None
            As in `fit`.

        Returns
        -------
        self : object
        """
        fit_estimator(self, X, y, sample_weight=sample_weight, go_on=True, epochs=1)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The number of each photograph.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.

        Returns
        -------
        values : ndarray of shape (n_samples,) or (n_samples, n_outputs), float64
        """
        values = self._outputs(X).astype(np.float64) * self._scale + self._center
        return values[:, 0] if self._is_flat else values

    def _encode(
        self, y: Any, n_images: int, *, classes: Any, known: bool, name: str
    ) -> np.ndarray:
        values, is_flat = as_values(y, n_images, name, len(self._center) if known else None)
        if not known:
            with np.errstate(over="ignore", invalid="ignore"):
                center, spread = values.mean(axis=0), values.std(axis=0)
            if not np.isfinite([center, spread]).all():
                raise ValueError(f"{name} must hold numbers whose variance float64 can hold.")
            self._is_flat, self._center = is_flat, center
            self._scale = np.where(spread > 0, spread, 1.0)
        return ((values - self._center) / self._scale).astype(np.float32)

    def _n_outputs(self, target: np.ndarray) -> int:
        return target.shape[1]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
