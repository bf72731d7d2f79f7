"""What estimators that fine-tune answer, by the kind of target, whatever goes in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin

from .._parameters import ClassifierLoss
from .._sklearn import fit_context
from ._base import FineTuneBase
from ._tags import Tags, is_indicator
from ._targets import check_balanced
from ._tasks import Labels, Task, Values

__all__ = ["FineTunedClassifier", "FineTunedRegressor"]


class FineTunedClassifier(ClassifierMixin, ClassifierLoss, FineTuneBase):
    """One label an item, or several tags.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels, in order; of several tags a sample the numbers of the columns of `y`, as
        scikit-learn's MLPClassifier and OneVsRestClassifier have it.
    """

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one more epoch, on these samples.

        Parameters
        ----------
        X : array, list or table
            As in `fit`.
        y : array-like of shape (n_samples,) or (n_samples, n_tags)
            As in `fit`.
        classes : array-like, default=None
            All labels there are; needed in the first call if `y` has not all of them. Of several
            tags a sample `y` tells how many there are.
        sample_weight : array-like of shape (n_samples,), default=None
            As in `fit`.

        Returns
        -------
        self : object
        """
        check_balanced(self.class_weight, vars(self).get("_fitted"))
        return self._fit(X, y, sample_weight, classes=classes, continues=True, epochs=1)

    def decision_function(self, X: Any) -> np.ndarray:
        """Outputs of the head before softmax, of several tags before the sigmoid.

        Parameters
        ----------
        X : array, list or table
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
        """The most probable label of each sample, or its tags.

        Parameters
        ----------
        X : array, list or table
            As in `fit`.

        Returns
        -------
        labels : ndarray of shape (n_samples,) or (n_samples, n_tags)
            Of several tags a sample 1 where a tag has a probability above 0.5, and 0 elsewhere.
        """
        outputs = self._outputs(X)
        return self._task.predict(outputs)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes, in the order of `classes_`.

        Parameters
        ----------
        X : array, list or table
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
        X : array, list or table
            As in `fit`.

        Returns
        -------
        logarithms : ndarray of shape (n_samples, n_classes), float64
        """
        outputs = self._outputs(X)
        return self._task.predict_log_proba(outputs)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of samples whose label is predicted right; of several tags, all known ones.

        Samples of which no tag is known are left out.

        Parameters
        ----------
        X : array, list or table
            As in `fit`.
        y : array-like of shape (n_samples,) or (n_samples, n_tags)
            As in `fit`.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each sample counts.

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
        self, y: Any, items: Any, before: Labels | Tags | None, classes: Any, name: str
    ) -> tuple[Task, np.ndarray]:
        if before is None:
            kind: Any = Tags if is_indicator(y) else Labels
            task, target = kind.of(y, len(items), classes, name)
        else:
            if classes is not None:
                before.check_classes(classes)
            task, target = before, before.encode(y, items, name)
        task = replace(task, label_smoothing=self.label_smoothing)
        if name == "y" or not isinstance(self.class_weight, str):  # a piece has not all labels
            task = task.weighted(self.class_weight, target)
        return task, target


class FineTunedRegressor(RegressorMixin, FineTuneBase):
    """A number an item, or several."""

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one more epoch, on these samples.

        Parameters
        ----------
        X : array, list or table
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
        """The number of each sample.

        Parameters
        ----------
        X : array, list or table
            As in `fit`.

        Returns
        -------
        values : ndarray of shape (n_samples,) or (n_samples, n_outputs), float64
        """
        outputs = self._outputs(X)
        return self._task.predict(outputs)

    def _encode(
        self, y: Any, items: Any, before: Values | None, classes: Any, name: str
    ) -> tuple[Task, np.ndarray]:
        if before is None:
            return Values.of(y, len(items), name)
        target = before.encode(y, items, name)
        before.warn_if_far(target, name)
        return before, target

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
