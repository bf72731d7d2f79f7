"""What happens between batches and epochs."""

from __future__ import annotations

import copy
import math
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student
from sklearn.base import clone
from skorch.callbacks import Callback, GradientNormClipping, LRScheduler, PrintLog
from skorch.dataset import get_len
from torch.optim.lr_scheduler import LambdaLR

from ._parameter_groups import home_name
from ._tasks import weighted_mean

__all__ = [
    "EMA",
    "SCHEDULES",
    "BestEpoch",
    "GradualUnfreeze",
    "Ledger",
    "Line",
    "Mixup",
    "NextView",
    "changes_training",
    "gradual_unfreeze",
    "make_schedule",
    "named_callbacks",
]


_COLOUR = re.compile(r"\x1b\[\d+m")


class Ledger(Callback):
    """Write accuracies, learning rates and samples per second into the history.

    Accuracies are those of the batches when they were trained on, and of validation; learning rates
    are means over the batches of the epoch, 0 for what is not trained yet.
    """

    def on_epoch_begin(self, net: Any, **_: Any) -> None:
        self._seen = {True: 0, False: 0}
        self._right, self._asked = {True: 0.0, False: 0.0}, {True: 0.0, False: 0.0}
        self._rates: dict[str, list[float]] = {}

    def on_batch_begin(self, net: Any, training: bool = False, **_: Any) -> None:
        for group in net.optimizer_.param_groups if training else ():
            # What is not decayed has the same learning rate as the rest of its stage.
            name = group.get("name", "").removesuffix(", not decayed")
            learns = any(parameter.requires_grad for parameter in group["params"])
            self._rates.setdefault(name, []).append(group["lr"] if learns else 0.0)

    def on_batch_end(self, net: Any, batch: Any, training: bool, y_pred: Any, **_: Any) -> None:
        self._seen[training] += len(batch[1])
        hits = net.recipe.task.hits(y_pred, batch[1].to(y_pred.device))
        if hits is not None:
            self._right[training] += float(hits[0].sum())
            self._asked[training] += float(hits[1].sum())

    def on_epoch_end(self, net: Any, dataset_train: Any = None, **_: Any) -> None:
        for training, name in ((True, "train_acc"), (False, "valid_acc")):
            if self._asked[training]:
                net.history.record(name, self._right[training] / self._asked[training])
        for name, rates in self._rates.items():
            net.history.record(f"lr {name}".strip(), float(np.mean(rates)))
        if dataset_train is not None:
            self._n = get_len(dataset_train)
        seconds = net.history[-1].get("dur")
        if seconds:
            noun = getattr(dataset_train, "noun", "image")
            net.history.record(f"{noun}s_per_second", self._seen[True] / seconds)


class Line(PrintLog):
    """A line for each epoch, without learning rates, of which the history has one or two a stage.

    Colours are for terminals; in files and pipes their codes would be noise.
    """

    def format_row(self, row: Any, key: str, color: str) -> Any:
        shown = super().format_row(row, key, color)
        return shown if sys.stdout.isatty() else _COLOUR.sub("", str(shown))

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.keys_ignored_ |= {key for key in net.history[-1] if key.startswith("lr ")}
        super().on_epoch_end(net, **kwargs)


class NextView(Callback):
    """Have each epoch draw another view of the samples."""

    def on_epoch_begin(self, net: Any, dataset_train: Any = None, **_: Any) -> None:
        if dataset_train is not None and hasattr(dataset_train, "epoch"):
            dataset_train.epoch = len(net.history) - 1


class _Training(Callback):
    """A callback that is shown by its parameters, and is cloned and compared by them."""

    def __repr__(self) -> str:
        given = (f"{name}={value!r}" for name, value in self.get_params().items())
        return f"{type(self).__name__}({', '.join(given)})"


class EMA(_Training):
    """End training with the exponential moving average of what was trained.

    Parameters
    ----------
    decay : float, default=0.99
        Share of the old average that stays at each step, at most, in [0, 1); early steps keep less.

    Examples
    --------
    >>> from sktransfer import FineTuneClassifier
    >>> from sktransfer.finetune import EMA
    >>> clf = FineTuneClassifier(callbacks=[EMA(0.99)])
    """

    def __init__(self, decay: float = 0.99):
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay!r}.")
        self.decay = decay

    def on_train_begin(self, net: Any, **_: Any) -> None:
        self.steps_ = 0
        self.mean_ = {name: value.detach().clone() for name, value in self._trained(net)}

    def on_batch_end(self, net: Any, training: bool, **_: Any) -> None:
        if not training:
            return
        self.steps_ += 1
        decay = min(self.decay, (1 + self.steps_) / (10 + self.steps_))
        for name, value in self._trained(net):
            self.mean_[name].lerp_(value.detach(), 1 - decay)

    def on_train_end(self, net: Any, **_: Any) -> None:
        with torch.no_grad():
            for name, value in self._trained(net):
                value.copy_(self.mean_[name])
        self.mean_ = {}  # an estimator that is saved holds its callbacks

    def _trained(self, net: Any) -> list[tuple[str, Any]]:
        return [(n, p) for n, p in net.module_.named_parameters() if p.requires_grad]


class Mixup(_Training):
    """Blend activations of pairs of images, and their losses.

    Parameters
    ----------
    alpha : float, default=0.2
        Both parameters of the Beta distribution that the shares are drawn from, above 0.

    References
    ----------
    H. Zhang et al. (2018). mixup: Beyond empirical risk minimization. ICLR.

    Examples
    --------
    >>> from sktransfer import FineTuneClassifier
    >>> from sktransfer.finetune import Mixup
    >>> clf = FineTuneClassifier(callbacks=[Mixup(0.2)])
    """

    def __init__(self, alpha: float = 0.2):
        if not alpha > 0:
            raise ValueError(f"alpha must be above 0, got {alpha!r}.")
        self.alpha = alpha

    def on_train_begin(self, net: Any, **_: Any) -> None:
        net.recipe.mixup = self.alpha


class GradualUnfreeze(_Training):
    """Train the head first, and one stage more every so many epochs, from the last to the first.

    Parameters
    ----------
    every : int, default=1
        Epochs between two stages; fewer than `max_epochs`, or no stage begins.

    References
    ----------
    J. Howard, S. Ruder (2018). Universal language model fine-tuning for text classification.
    ACL. Section 3.3.

    Examples
    --------
    >>> from sktransfer import FineTuneClassifier
    >>> from sktransfer.finetune import GradualUnfreeze
    >>> clf = FineTuneClassifier(trainable=2, callbacks=[GradualUnfreeze(every=2)])
    """

    def __init__(self, every: int = 1):
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every!r}.")
        self.every = every

    def stages_begun(self, n_epochs: int) -> int:
        """How many stages are trained in the last of so many epochs.

        Parameters
        ----------
        n_epochs : int
            Of the whole history.

        Returns
        -------
        n_stages : int
        """
        return max(n_epochs - 1, 0) // self.every

    def on_train_begin(self, net: Any, **_: Any) -> None:
        self.names_ = [n for n, p in net.module_.named_parameters() if p.requires_grad]

    def on_epoch_begin(self, net: Any, **_: Any) -> None:
        trained, recipe = set(self.names_), net.recipe
        first = recipe.n_stages - self.stages_begun(len(net.history))
        for name, parameter in net.module_.named_parameters():
            stage = recipe.stage_of.get(home_name(name), recipe.n_stages)
            parameter.requires_grad_(name in trained and stage >= first)
            if not parameter.requires_grad:
                parameter.grad = None

    def on_train_end(self, net: Any, **_: Any) -> None:
        trained, self.names_ = set(self.names_), []
        for name, parameter in net.module_.named_parameters():
            parameter.requires_grad_(name in trained)


# Those that change how is trained, and look at nothing that is held out.
_CHANGE_TRAINING = (EMA, GradualUnfreeze, Mixup, GradientNormClipping)


def named_callbacks(callbacks: Sequence[Any] | None) -> list[tuple[str, Any]]:
    """The callbacks of a user with their names; of ours new ones, so that nets share none."""
    named = [
        one if isinstance(one, tuple) else (f"own_{number}", one)
        for number, one in enumerate(callbacks or ())
    ]
    return [(name, _made(one)) for name, one in named]


def _made(callback: Any) -> Any:
    if isinstance(callback, _Training):
        return clone(callback)
    ours = isinstance(callback, type) and issubclass(callback, _Training)
    return callback() if ours else callback


def changes_training(callback: Any) -> bool:
    """Whether a callback changes how is trained, and looks at nothing that is held out."""
    return isinstance(callback, _CHANGE_TRAINING)


def gradual_unfreeze(callbacks: Sequence[Any] | None) -> GradualUnfreeze | None:
    """The one among the callbacks of a user that lets stages begin one after the other."""
    every = [one for _, one in named_callbacks(callbacks) if isinstance(one, GradualUnfreeze)]
    return every[0] if every else None


class BestEpoch(Callback):
    """Find the best epoch by what is held out, and end training where it gets worse.

    The lowest loss of a few samples is a matter of luck, and the learning rate has not fallen yet
    where training ends early. So an epoch is worse than the one of the lowest loss only if a paired
    t-test over the samples says so and the accuracy does not speak against it. Else the later epoch
    is the better one.

    Parameters
    ----------
    patience : float
        Epochs one after the other that must be worse for training to end.
    warmup : int
        Epochs at the beginning that do not count, since the learning rate still rises.
    restores : bool
        Whether the net ends with the weights of the best epoch.

    Attributes
    ----------
    best_epoch_ : int
        Its number in the history, from 1; where nothing was validated, epochs before the fit.
    """

    def __init__(self, patience: float, warmup: int, *, restores: bool):
        self.patience, self.warmup, self.restores = patience, warmup, restores

    def on_train_begin(self, net: Any, **_: Any) -> None:
        self.best_epoch_ = self._first = len(net.history)
        self.lowest_epoch_ = self.misses_ = 0
        self._found: list[dict[str, torch.Tensor]] = []
        self._lowest: dict[str, torch.Tensor] | None = None
        self._weights: dict[str, torch.Tensor] | None = None

    def on_batch_end(self, net: Any, batch: Any, training: bool, y_pred: Any, **_: Any) -> None:
        if training:
            return
        # Outputs may be large: what is kept are numbers of each sample.
        out, task = y_pred.detach(), net.recipe.task
        target = batch[1].to(out.device)
        now = {"losses": task.losses(out, target).double().cpu()}
        hits = task.hits(out, target)
        if hits is not None:
            now["right"] = (hits[0].double() / hits[1].clamp(min=1)).cpu()
        self._found.append(now)

    def on_epoch_end(self, net: Any, dataset_valid: Any = None, **_: Any) -> None:
        if not self._found:
            return
        now = {name: torch.cat([one[name] for one in self._found]) for name in self._found[0]}
        self._found, weight = [], dataset_valid.weight
        epoch = len(net.history)
        lowest = math.nan if self._lowest is None else _mean(self._lowest["losses"], weight)
        if self._lowest is None or not lowest <= _mean(now["losses"], weight):
            self.lowest_epoch_, self._lowest = epoch, now
            if self.restores:
                self._weights = copy.deepcopy(net.module_.state_dict())
        worse = _is_worse(now, self._lowest, weight)
        self.best_epoch_ = self.lowest_epoch_ if worse else epoch
        counts = worse and epoch - self._first > self.warmup
        self.misses_ = self.misses_ + 1 if counts else 0
        if self.misses_ >= self.patience:
            raise KeyboardInterrupt  # skorch's way of ending: training is done

    def on_train_end(self, net: Any, **_: Any) -> None:
        if self._weights is not None and self.best_epoch_ < len(net.history):
            net.module_.load_state_dict(self._weights)
        self._weights = self._lowest = None


def _mean(values: torch.Tensor, weight: torch.Tensor) -> float:
    return float(weighted_mean(values, weight.double()))


def _is_worse(
    now: dict[str, torch.Tensor], before: dict[str, torch.Tensor], weight: torch.Tensor
) -> bool:
    """Whether the losses of the same samples are higher, and the accuracy is not."""
    n = int((weight > 0).sum())
    if n < 2:
        return False
    risen, error = _mean_and_error(now["losses"] - before["losses"], weight, n)
    # By a paired t-test in which one in 40 is wrong.
    if not risen > error * student.ppf(0.975, n - 1):
        return False
    if "right" not in now:
        return True
    gained, error = _mean_and_error(now["right"] - before["right"], weight, n)
    # One sample more is one standard error, and no evidence.
    return gained <= error * (1 + 1e-6)


def _mean_and_error(
    differences: torch.Tensor, weight: torch.Tensor, n: int
) -> tuple[float, float]:
    """The weighted mean of n differences, and its standard error."""
    mean = _mean(differences, weight)
    off = (differences - mean) * weight.double() / weight.double().sum()
    return mean, math.sqrt(float((off**2).sum()) * n / (n - 1))


# Learning rates over time.


SCHEDULES = ("cosine", "constant", "step")


def make_schedule(schedule: Any, steps: int, warmup: float) -> Callback | None:
    """A callback that sets the learning rates of every group before each batch.

    Parameters
    ----------
    schedule : {"cosine", "constant", "step"} or skorch.callbacks.LRScheduler
        "cosine" falls to zero, "step" to a tenth after two thirds of all steps.
    steps : int
        Batches in the whole fit.
    warmup : float
        Share of the steps in which learning rates rise from zero.
    """
    if not isinstance(schedule, str):
        return schedule
    factor = _factor(schedule, max(1, steps), warmup)
    # Each call of fit has a schedule of its own, whatever was learnt before.
    return LRScheduler(LambdaLR, lr_lambda=factor, step_every="batch", last_epoch=-1)


def _factor(schedule: str, steps: int, warmup: float) -> Callable[[int], float]:
    rising = math.ceil(warmup * steps)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / (rising + 1)
        done = min(1.0, (step - rising) / max(1, steps - rising))
        if schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        return 0.1 if schedule == "step" and done >= 2 / 3 else 1.0

    return factor
