"""The classifier."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin

from .._parameters import param, parameters
from .._sklearn import Interval, Real, StrOptions, fit_context
from ._base import FineTuneBase
from ._tags import Tags, is_indicator
from ._tasks import Labels, Task, Values

__all__ = ["FineTuneClassifier", "FineTuneRegressor"]


@parameters
class FineTuneClassifier(ClassifierMixin, FineTuneBase):
    """Fine-tune a pretrained network to tell images apart.

    The network gets a new output layer, which starts from a linear classifier on the codes;
    then it and the last stages train on, the pretrained ones gently [1]_. What is frozen is
    computed once for each image, whatever the number of epochs, folds and candidates.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, in order; of several tags an image the numbers of the columns of `y`, as
        scikit-learn's MLPClassifier and OneVsRestClassifier have it.

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

    class_weight: dict[Any, float] | list[dict[int, float]] | Literal["balanced"] | None = param(
        default=None, valid=[dict, list, StrOptions({"balanced"}), None],
        type='dict, list of dicts, "balanced" or None', doc="""
        Weights of the classes in the loss, by label; "balanced" makes them inversely
        proportional to their images. Of several tags an image, a dict such as {0: 1, 1: 5} for
        all tags, or a list of one for each; "balanced" balances each tag by itself.""")
    label_smoothing: float = param(
        default=0.0, valid=[Interval(Real, 0, 1, closed="left")], type="float", doc="""
        Share of the target that is spread over all classes, in [0, 1); of several tags over
        both answers for each.""")

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Learn one epoch more, from these images.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.
        y : array-like of shape (n_samples,) or (n_samples, n_tags)
            As in `fit`.
        classes : array-like, default=None
            All labels there are; needed in the first call if `y` has not all of them. Of several
            tags an image `y` tells how many there are.
        sample_weight : array-like of shape (n_samples,), default=None
            As in `fit`.

        Returns
        -------
        self : object
        """
        unknown = "_fitted" not in vars(self) or self._task.class_weight is None
        if isinstance(self.class_weight, str) and unknown:
            raise ValueError(
                'class_weight="balanced" needs all labels at once, which partial_fit does not '
                "have. Name the weights in a dict, or call fit first."
            )
        return self._fit(X, y, sample_weight, classes=classes, continues=True, epochs=1)

    def decision_function(self, X: Any) -> np.ndarray:
        """Outputs of the head before softmax, of several tags before the sigmoid.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_classes), or (n_samples,) for two classes
            For two classes the difference of the second and the first; of several tags one
            number for each, (n_samples, n_tags).
        """
        outputs = self._outputs(X)
        return self._task.decision_function(outputs)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each image, or its tags.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.

        Returns
        -------
        labels : ndarray of shape (n_samples,) or (n_samples, n_tags)
            Of several tags an image 1 where a tag has a probability above 0.5, and 0 elsewhere.
        """
        outputs = self._outputs(X)
        return self._task.predict(outputs)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes, in the order of `classes_`.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes), float64
            Rows sum to 1; of several tags each is a probability by itself.
        """
        outputs = self._outputs(X)
        return self._task.predict_proba(outputs)

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
        outputs = self._outputs(X)
        return self._task.predict_log_proba(outputs)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of images whose label is predicted right; of several tags, all known ones.

        Images of which no tag is known are left out.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.
        y : array-like of shape (n_samples,) or (n_samples, n_tags)
            As in `fit`.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each image counts.

        Returns
        -------
        accuracy : float
        """
        predicted = self.predict(X)
        return self._task.score(y, predicted, sample_weight)

    @property
    def classes_(self) -> np.ndarray:
        return self._task.classes

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _encode(
        self, y: Any, n_images: int, before: Labels | Tags | None, classes: Any, name: str
    ) -> tuple[Task, np.ndarray]:
        if before is None:
            kind: Any = Tags if is_indicator(y) else Labels
            task, target = kind.of(y, n_images, classes, name)
        else:
            if classes is not None:
                before.check_classes(classes)
            task, target = before, before.encode(y, n_images, name)
        task = replace(task, label_smoothing=self.label_smoothing)
        if name == "y" or not isinstance(self.class_weight, str):  # a piece has not all labels
            task = task.weighted(self.class_weight, target)
        return task, target


# The regressor.


@parameters
class FineTuneRegressor(RegressorMixin, FineTuneBase):
    """Fine-tune a pretrained network to tell numbers from images.

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
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn one epoch more, from these images.

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
        return self._fit(X, y, sample_weight, continues=True, epochs=1)

    def predict(self, X: Any) -> np.ndarray:
        """The number of each image.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.

        Returns
        -------
        values : ndarray of shape (n_samples,) or (n_samples, n_outputs), float64
        """
        outputs = self._outputs(X)
        return self._task.predict(outputs)

    def _encode(
        self, y: Any, n_images: int, before: Values | None, classes: Any, name: str
    ) -> tuple[Task, np.ndarray]:
        if before is None:
            return Values.of(y, n_images, name)
        target = before.encode(y, n_images, name)
        before.warn_if_far(target, name)
        return before, target

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
