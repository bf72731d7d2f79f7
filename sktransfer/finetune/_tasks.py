"""What is learnt: how targets become numbers for a loss, and outputs of a head become answers."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from scipy.special import log_softmax, softmax
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import accuracy_score
from sklearn.model_selection import (
    GroupShuffleSplit,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedShuffleSplit,
    cross_val_score,
)
from sklearn.utils.validation import check_consistent_length
from torch import nn

from ..exceptions import SktransferWarning
from ._targets import (
    array_of,
    as_labels,
    as_values,
    check_classes,
    class_weights,
    weights_by_class,
)

__all__ = [
    "ENOUGH",
    "Labels",
    "LinearFit",
    "Sides",
    "Task",
    "Values",
    "logistic_fit",
    "weighted_mean",
]


# Standard deviations of the first targets that later ones may be away from their mean.
_FAR = 10.0
# Weights and intercepts of a linear head, a row for each output.
LinearFit = tuple[np.ndarray, np.ndarray]
# Numbers of the samples to train on, and of those to validate on.
Sides = tuple[np.ndarray, np.ndarray]


class Task(ABC):
    """One kind of target: all that training and estimators know of it.

    A task is made of the targets of the first call of `fit`, and never changes. Targets are encoded
    as an array with one row for each sample, losses and hits are numbers of each sample.

    Attributes
    ----------
    kind : {"labels", "values", "tags", "words", "masks"}
    classes : ndarray or None
    class_weight : ndarray or None
    mixes : bool
        Whether two samples can be blended, and their losses.
    """

    kind: ClassVar[str]
    classes: np.ndarray | None = None
    class_weight: np.ndarray | None = None
    # How many times the loss of guessing no training can end with.
    absurd: ClassVar[float] = 1e4
    # Whether a head that starts from a linear probe starts below the loss of guessing.
    starts_below_guessing: ClassVar[bool] = True
    mixes: ClassVar[bool] = True

    @property
    @abstractmethod
    def n_outputs(self) -> int:
        """Numbers that the head gives for each sample."""

    @property
    @abstractmethod
    def net_params(self) -> dict[str, Any]:
        """What the skorch net of the kind is made with; its `criterion` is there for skorch."""

    @abstractmethod
    def encode(self, y: Any, items: Sized, name: str = "y") -> np.ndarray:
        """Targets of a later call, or to validate on, one for each of the items.

        Raises
        ------
        ValueError
            If they are not of the kind of those of the first call.
        """

    @abstractmethod
    def losses(self, out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss of each sample."""

    @abstractmethod
    def guess(self, target: torch.Tensor | None = None) -> float:
        """The loss of a network that has learnt nothing, on these targets or those of `fit`."""

    @abstractmethod
    def fit_linear(
        self, codes: np.ndarray, target: np.ndarray, weight: np.ndarray | None
    ) -> LinearFit:
        """A convex fit of a linear head on codes that are scaled."""

    @abstractmethod
    def predict(self, outputs: np.ndarray) -> np.ndarray:
        """The answers that outputs of the head stand for."""

    def unsmoothed(self) -> Task:
        """The same without label smoothing."""
        return self

    def hits(
        self, out: torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor] | None:
        """How many answers are right for each sample, and of how many; None if none ever is."""
        return None

    def joined(self, outs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Outputs of batches, one below the other."""
        return torch.cat(list(outs))

    def for_head(
        self, codes: Any, target: np.ndarray, weight: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """What the head is fitted on first: codes, targets and weights."""
        return codes, target, weight

    def fit_on_maps(
        self,
        head: nn.Module,
        maps_of: Callable[[np.ndarray], list[torch.Tensor]],
        target: np.ndarray,
        weight: np.ndarray | None,
        seed: int,
    ) -> bool:
        """Fit a head that takes maps, in place; False where there is no convex fit for it.

        Parameters
        ----------
        head : torch.nn.Module
        maps_of : callable
            Gives what the pretrained network makes of some items, by their numbers.
        target, weight : ndarray
        seed : int
        """
        return False

    def movable(self, y: Any, items: Any) -> Sequence[Any] | None:
        """A `Target` of each item, opened one at a time, that moves with it; None of others."""
        return None

    def sample_weights(self, target: np.ndarray, weight: np.ndarray | None) -> np.ndarray | None:
        """Weights of samples, by what is known of them and by their classes."""
        return weight

    def split(self, target: np.ndarray, groups: Any, fraction: float, seed: int) -> Sides:
        """Samples to train on and to validate on: stratified, with groups kept together.

        Raises
        ------
        ValueError
            If a class has one sample, or there are not two samples and two groups.
        """
        every = np.arange(len(target))
        if len(target) < 2:
            raise ValueError(
                f"early_stopping=True holds samples out and needs at least 2, got {len(target)}. "
                "Pass more, or validation_data=."
            )
        if groups is None:
            return self._split(every, target, fraction, seed)
        groups = np.asarray(groups)
        check_consistent_length(every, groups)
        n_groups = len(np.unique(groups))
        if n_groups < 2:
            raise ValueError(
                "early_stopping=True keeps the samples of a group together and needs at least 2 "
                f"groups to hold one out, got {n_groups}. Pass validation_data=, or no groups."
            )
        return self._split_groups(every, target, groups, fraction, seed)

    def _split(self, every: np.ndarray, target: np.ndarray, fraction: float, seed: int) -> Sides:
        return next(ShuffleSplit(1, test_size=fraction, random_state=seed).split(every))

    def _split_groups(
        self, every: np.ndarray, target: np.ndarray, groups: np.ndarray, fraction: float, seed: int
    ) -> Sides:
        splitter = GroupShuffleSplit(1, test_size=fraction, random_state=seed)
        return next(splitter.split(every, groups=groups))


@dataclass(frozen=True, eq=False)
class Labels(Task):
    """One label for each sample; encoded as the numbers of their classes.

    Attributes
    ----------
    classes : ndarray of shape (n_classes,)
        The labels, in order.
    class_weight : ndarray of shape (n_classes,) or None
    label_smoothing : float
        Share of the target that is spread over all classes.
    """

    kind: ClassVar[str] = "labels"
    classes: np.ndarray
    class_weight: np.ndarray | None = None
    label_smoothing: float = 0.0

    @classmethod
    def of(
        cls, y: Any, n_samples: int, classes: Any = None, name: str = "y"
    ) -> tuple[Self, np.ndarray]:
        """The task of the first targets, and these encoded."""
        classes, numbers = as_labels(y, n_samples, classes, name)
        return cls(classes), numbers

    def weighted(self, class_weight: Any, target: np.ndarray) -> Self:
        """The same with the weights that a parameter `class_weight` means for these targets."""
        return replace(self, class_weight=class_weights(class_weight, self.classes, target))

    def check_classes(self, classes: Any) -> None:
        """Refuse other classes than those of the first call."""
        check_classes(classes, self.classes)

    @property
    def n_outputs(self) -> int:
        return len(self.classes)

    @property
    def net_params(self) -> dict[str, Any]:
        classes = list(range(self.n_outputs))
        return {
            "criterion": nn.CrossEntropyLoss, "classes": classes, "callbacks__valid_acc": None
        }  # fmt: skip

    def encode(self, y: Any, items: Sized, name: str = "y") -> np.ndarray:
        return as_labels(y, len(items), self.classes, name)[1]

    def losses(self, out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(
            out, target, reduction="none", label_smoothing=self.label_smoothing
        )

    def unsmoothed(self) -> Task:
        return replace(self, label_smoothing=0.0)

    def guess(self, target: torch.Tensor | None = None) -> float:
        return math.log(len(self.classes))

    def hits(self, out: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return out.argmax(1) == target, torch.ones_like(target)

    def sample_weights(self, target: np.ndarray, weight: np.ndarray | None) -> np.ndarray | None:
        if self.class_weight is None:
            return weight
        return weights_by_class(self.class_weight[target], weight)

    def fit_linear(
        self, codes: np.ndarray, target: np.ndarray, weight: np.ndarray | None
    ) -> LinearFit:
        """Logistic regression; classes without an example are unlikely."""
        present, fitted_coef, fitted_intercept = logistic_fit(codes, target, weight)
        coef = np.zeros((len(self.classes), codes.shape[1]))
        # All that have no example together weigh about as much as one example more.
        absent = max(1, len(self.classes) - len(present))
        intercept = np.full(len(self.classes), -np.log(absent * (len(target) + 1.0)))
        if len(present) == 2:
            # One row tells two classes apart; softmax wants half of it for each.
            halves = np.array([[-0.5], [0.5]])
            coef[present] = halves * fitted_coef
            intercept[present] = halves[:, 0] * fitted_intercept
        else:
            coef[present], intercept[present] = fitted_coef, fitted_intercept
        return coef, intercept

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        return self.classes[outputs.argmax(axis=1)]

    def predict_proba(self, outputs: np.ndarray) -> np.ndarray:
        return softmax(outputs.astype(np.float64), axis=1)

    def predict_log_proba(self, outputs: np.ndarray) -> np.ndarray:
        return log_softmax(outputs.astype(np.float64), axis=1)

    def decision_function(self, outputs: np.ndarray) -> np.ndarray:
        return outputs[:, 1] - outputs[:, 0] if len(self.classes) == 2 else outputs

    def score(self, y: Any, predicted: np.ndarray, sample_weight: Any = None) -> float:
        """Share of samples whose label is predicted right."""
        return float(accuracy_score(array_of(y), predicted, sample_weight=sample_weight))

    def _split(self, every: np.ndarray, target: np.ndarray, fraction: float, seed: int) -> Sides:
        counts = np.bincount(target)
        if counts[counts > 0].min() < 2:
            lonely = int(np.flatnonzero(counts == 1)[0])
            raise ValueError(
                "early_stopping=True splits every class in two, but the class "
                f"{self.classes.tolist()[lonely]!r} has one sample (sample "
                f"{int(np.flatnonzero(target == lonely)[0])}). "
                "Give it more, or pass validation_data=."
            )
        n_classes = int((counts > 0).sum())
        # Each class is on both sides.
        size = min(max(n_classes, int(np.ceil(fraction * len(every)))), len(every) - n_classes)
        splitter = StratifiedShuffleSplit(1, test_size=size, random_state=seed)
        return next(splitter.split(every, target))

    def _split_groups(
        self, every: np.ndarray, target: np.ndarray, groups: np.ndarray, fraction: float, seed: int
    ) -> Sides:
        most = int(np.bincount(target).max())
        folds = min(max(2, round(1 / fraction)), len(np.unique(groups)), most)
        if folds < 2:  # no class has two samples
            return super()._split_groups(every, target, groups, fraction, seed)
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The least populated class")
            found = [one for one in splitter.split(every, target, groups) if all(map(len, one))]
        # With groups of unequal sizes folds may be empty.
        return found[0]


@dataclass(frozen=True, eq=False)
class Values(Task):
    """Numbers for each sample; encoded with mean 0 and standard deviation 1.

    Attributes
    ----------
    center, scale : ndarray of shape (n_outputs,)
        Mean and standard deviation in the first call of `fit`.
    is_flat : bool
        Whether targets had one axis.
    """

    kind: ClassVar[str] = "values"
    absurd: ClassVar[float] = 1e16
    starts_below_guessing: ClassVar[bool] = False
    center: np.ndarray
    scale: np.ndarray
    is_flat: bool

    @classmethod
    def of(cls, y: Any, n_samples: int, name: str = "y") -> tuple[Self, np.ndarray]:
        """The task of the first targets, and these encoded."""
        values, is_flat = as_values(y, n_samples, name)
        with np.errstate(over="ignore", invalid="ignore"):
            center, std = values.mean(axis=0), values.std(axis=0)
        if not np.isfinite([center, std]).all():
            raise ValueError(f"{name} must hold numbers whose variance float64 can hold.")
        task = cls(center, np.where(std > 0, std, 1.0), is_flat)
        return task, task._standardised(values)

    @property
    def n_outputs(self) -> int:
        return len(self.center)

    @property
    def net_params(self) -> dict[str, Any]:
        return {"criterion": nn.MSELoss}

    def encode(self, y: Any, items: Sized, name: str = "y") -> np.ndarray:
        return self._standardised(as_values(y, len(items), name, self.n_outputs)[0])

    def warn_if_far(self, target: np.ndarray, name: str) -> None:
        """Say where targets of a later call are unlike those that they are standardised by."""
        with np.errstate(over="ignore"):
            away = np.sqrt((target.astype(np.float64) ** 2).mean(axis=0))
        worst = int(away.argmax())
        if away[worst] > _FAR:
            column = "" if self.is_flat else f" in column {worst}"
            warnings.warn(
                f"{name} lies far from the targets of the first call{column}, by whose mean "
                f"({self.center[worst]:.3g}) and standard deviation ({self.scale[worst]:.3g}) all "
                f"are standardised: {away[worst]:.3g} standard deviations. The loss may not come "
                "down. Begin with targets like all the others, or call fit with all of them.",
                SktransferWarning,
                stacklevel=2,
            )

    def _standardised(self, values: np.ndarray) -> np.ndarray:
        return ((values - self.center) / self.scale).astype(np.float32)

    def losses(self, out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return ((out - target) ** 2).mean(1)

    def guess(self, target: torch.Tensor | None = None) -> float:
        # Standardised by the targets of the first call, of which these may be far off.
        return 1.0 if target is None else max(1.0, float((target**2).mean()))

    def fit_linear(
        self, codes: np.ndarray, target: np.ndarray, weight: np.ndarray | None
    ) -> LinearFit:
        """Ridge regression."""
        if len(target) < 2:
            # Nothing to choose a strength by.
            return np.zeros((target.shape[1], codes.shape[1])), target[0]
        probe = RidgeCV(_ALPHAS).fit(codes, target, sample_weight=weight)
        return np.atleast_2d(probe.coef_), np.atleast_1d(probe.intercept_)

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        values = outputs.astype(np.float64) * self.scale + self.center
        return values[:, 0] if self.is_flat else values


# Inverse strengths of the penalty on standardised codes; the first is taken where there are too
# few samples to choose by cross-validation.
_STRENGTHS = (3e-3, 3e-4, 3e-2)
_FOLDS, ENOUGH = 3, 5000
_ALPHAS = np.logspace(-1, 5, 13)


def logistic_fit(
    codes: np.ndarray, target: np.ndarray, weight: np.ndarray | None, *, enough: int = ENOUGH
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logistic regression on scaled codes, whose penalty is chosen by cross-validation.

    Parameters
    ----------
    codes : ndarray of shape (n_samples, width)
    target : ndarray of shape (n_samples,)
    weight : ndarray of shape (n_samples,) or None
    enough : int
        With more samples than that the first strength is taken.

    Returns
    -------
    present : ndarray
        The values of `target`, in order.
    coef, intercept : ndarray
        As scikit-learn has them; zeros where one value alone is present.
    """
    present, counts = np.unique(target, return_counts=True)
    strength = _STRENGTHS[0]
    if len(present) == 1:
        return present, np.zeros((1, codes.shape[1])), np.zeros(1)
    if counts.min() >= _FOLDS and len(codes) <= enough:
        scores = [
            cross_val_score(LogisticRegression(C=c, max_iter=200), codes, target, cv=_FOLDS).mean()
            for c in _STRENGTHS
        ]
        strength = _STRENGTHS[int(np.argmax(scores))]
    probe = LogisticRegression(C=strength, max_iter=1000)
    probe.fit(codes, target, sample_weight=weight)
    return probe.classes_, probe.coef_, probe.intercept_


def weighted_mean(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The mean of some examples, such as their losses; 0 where nothing weighs anything."""
    return (values * weight).sum() / weight.sum().clamp(min=1e-12)
