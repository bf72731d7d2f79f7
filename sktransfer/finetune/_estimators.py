"""The classifier."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from scipy.special import log_softmax, softmax
from sklearn.base import ClassifierMixin, RegressorMixin

from .._parameters import param, parameters
from .._sklearn import Interval, Real, StrOptions, fit_context
from ..exceptions import shown
from ._base import FineTuneBase, fit_estimator
from ._tasks import array_of, as_labels, as_values, class_weights, labels_of

__all__ = ["FineTuneClassifier", "FineTuneRegressor"]


@parameters
class FineTuneClassifier(ClassifierMixin, FineTuneBase):
    """Fine-tune a pretrained network to tell photographs apart.

    The network gets a new output layer, which starts from a linear classifier on the codes;
    then it and the last stages learn on, the pretrained ones gently [1]_. What is frozen is
    computed once for each photograph, whatever the number of epochs, folds and candidates.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, in order.

    See Also
    --------
    sktransfer.CNNCodes : Codes of a frozen network, for any classifier.
    FineTuneRegressor : The same for numbers.

    References
    ----------
    .. [1] A. Kumar et al. (2022). Fine-tuning can distort pretrained features and underperform
       out-of-distribution. ICLR.

    Examples
    --------
    >>> from sktransfer import FineTuneClassifier
    >>> from sktransfer.datasets import load_cifar10_sample
    >>> X, y = load_cifar10_sample(return_X_y=True)
    >>> clf = FineTuneClassifier(trainable=1, image_size=64, max_epochs=2, random_state=0)
    >>> bool(clf.fit(X[:60], y[:60]).score(X[:60], y[:60]) > 0.9)
    True
    """

    class_weight: dict[Any, float] | Literal["balanced"] | None = param(
        default=None, valid=[dict, StrOptions({"balanced"}), None],
        type='dict, "balanced" or None', doc="""
        Weights of the classes in the loss, by label; "balanced" makes them inversely
        proportional to their images.""")
    label_smoothing: float = param(
        default=0.0, valid=[Interval(Real, 0, 1, closed="left")], type="float", doc="""
        Share of the target that is spread over all classes, in [0, 1).""")

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
        """Learn from labelled photographs; after an error all is as it was before.

        Parameters
        ----------
        X : array, list or table of images
            As in :class:`sktransfer.CNNCodes`.
        y : array-like of shape (n_samples,)
            Labels of any kind.
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
            If labels are missing, of one class, or not one for each photograph.
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
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Learn one epoch more, from these photographs.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.
        y : array-like of shape (n_samples,)
            As in `fit`.
        classes : array-like, default=None
            All labels there are; needed in the first call if `y` has not all of them.
        sample_weight : array-like of shape (n_samples,), default=None
            As in `fit`.

        Returns
        -------
        self : object
        """
        unknown = "_fitted" not in vars(self) or self._class_weight is None
        if isinstance(self.class_weight, str) and unknown:
            raise ValueError(
                'class_weight="balanced" needs all labels at once, which partial_fit does not '
                "have. Name the weights in a dict, or call fit first."
            )
        fit_estimator(
            self, X, y, sample_weight=sample_weight, classes=classes, go_on=True, epochs=1
        )
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Outputs of the head before softmax.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
            For two classes the difference of the second and the first.
        """
        outputs = self._outputs(X)
        return outputs[:, 1] - outputs[:, 0] if len(self.classes_) == 2 else outputs

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each photograph.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
        """
        outputs = self._outputs(X)
        return self.classes_[outputs.argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes, in the order of `classes_`.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes), float64
            Rows sum to 1.
        """
        return softmax(self._outputs(X).astype(np.float64), axis=1)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithms of the probabilities.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.

        Returns
        -------
        logarithms : ndarray of shape (n_samples, n_classes), float64
        """
        return log_softmax(self._outputs(X).astype(np.float64), axis=1)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of photographs whose label is predicted right.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.
        y : array-like of shape (n_samples,)
            As in `fit`.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each photograph counts.

        Returns
        -------
        accuracy : float
        """
        return super().score(X, array_of(y), sample_weight)

    def _encode(
        self, y: Any, n_images: int, *, classes: Any, known: bool, name: str
    ) -> np.ndarray:
        if known and classes is not None:
            _check_classes(classes, self.classes_)
        given = self.classes_ if known else classes
        self.classes_: np.ndarray
        self.classes_, numbers = as_labels(y, n_images, given, name)
        return numbers

    def _n_outputs(self, target: np.ndarray) -> int:
        return len(self.classes_)

    def _class_weights(self, target: np.ndarray) -> np.ndarray | None:
        return class_weights(self.class_weight, self.classes_, target)


def _check_classes(classes: Any, before: np.ndarray) -> None:
    """Later calls of `partial_fit` may name the classes again, and no others."""
    named = labels_of(classes, "classes").tolist()
    if set(named) != set(before.tolist()):
        raise ValueError(
            f"classes must be those of the first call, {shown(before.tolist())}, got "
            f"{shown(named)}."
        )


# The regressor.


@parameters
class FineTuneRegressor(RegressorMixin, FineTuneBase):
    """Fine-tune a pretrained network to tell numbers from photographs.

    As :class:`FineTuneClassifier`, with squared errors in the place of cross-entropy. Targets
    are standardised for learning; the head starts from ridge regression on the codes.

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
            self._is_flat = is_flat
            self._center: np.ndarray = center
            self._scale: np.ndarray = np.where(spread > 0, spread, 1.0)
        return ((values - self._center) / self._scale).astype(np.float32)

    def _n_outputs(self, target: np.ndarray) -> int:
        return target.shape[1]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
