"""Checks of parameters of training that concern several of them, or what is in them."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from skorch.callbacks import BatchScoring, EpochScoring, LRScheduler

from .._parameters import Training
from ..exceptions import SktransferWarning, shown
from ._callbacks import SCHEDULES, Mixup, named_callbacks
from ._net import OPTIMIZERS
from ._tasks import Task

__all__ = ["check_mixing", "check_training", "monitors_validation", "reads_validation"]

# Parameters of a skorch net that are ours, and what to say instead.
_OURS = {
    "module": "Take backbone=, trainable= and head=.",
    "criterion": "The loss is the cross-entropy of a classifier, of each tag where there are "
    "several, and the squared error of a regressor; class_weight=, label_smoothing= and "
    "sample_weight change it. For another loss train a skorch net on the codes of CNNCodes.",
    "optimizer": "Take optimizer=.",
    "max_epochs": "Take max_epochs=.",
    "batch_size": "Take batch_size=.",
    "iterator_train": "Batches are cut from activations that are held; take batch_size=, augment=.",
    "iterator_valid": "Batches are cut from activations that are held; take batch_size=.",
    "dataset": "Samples are given to fit.",
    "train_split": "Take early_stopping= and validation_fraction=, or validation_data= of fit.",
    "callbacks": "Take callbacks=.",
    "device": "Take device=.",
    "verbose": "Take verbose=.",
    "warm_start": "Take warm_start=.",
    "classes": "Take classes= of partial_fit.",
    "recipe": "It is made of label_smoothing=, l2_sp= and amp=.",
    "optimizer__lr": "Take lr= and backbone_lr_factor=.",
    "optimizer__weight_decay": "Take weight_decay=.",
    "optimizer__param_groups": "Take backbone_lr_factor=, layer_decay= and weight_decay=.",
    "callbacks__valid_acc": "history_ holds it already.",
}
_OF_NETS = ("predict_nonlinearity", "compile", "use_caching", "torch_load_kwargs")
_TAKEN = {"ledger", "next_view", "schedule", "early_stopping"}
_OF_SKORCH = {"print_log", "train_loss", "valid_loss", "epoch_timer"}
# What net_params may reach into.
_OPEN = ("optimizer", "callbacks")


def check_training(training: Training, *, validates: bool, is_partial: bool = False) -> None:
    """Refuse what skorch would refuse in other words, or ignore, after the frozen part has run.

    Parameters
    ----------
    training : Training
    validates : bool
        Whether anything is held out.
    is_partial : bool
        Whether the call is one of `partial_fit`.

    Raises
    ------
    ValueError
        If `schedule`, `optimizer`, `callbacks` or `net_params` are not of the kinds they must be,
        or a callback needs what is held out and nothing is.
    """
    _check_schedule(training.schedule)
    _check_optimizer(training.optimizer)
    given = list(_callbacks(training))
    hint = "Pass early_stopping=True, or validation_data=(X, y) to fit."
    if is_partial:
        hint = "partial_fit validates on nothing: call it without this callback."
    _check_net_params(training)
    for parameter, name, callback in given:
        reads = None if validates else reads_validation(callback)
        # What scores may see validation in `fit` alone; what monitors it cannot do without.
        waits = is_partial and training.early_stopping and not monitors_validation(callback)
        if reads and not waits:
            raise ValueError(
                f"{parameter}= holds {name}, which needs {reads}, but nothing is held out for "
                f"validation. {hint}"
            )


def check_mixing(callbacks: Any, task: Task) -> None:
    """Refuse Mixup where samples cannot be blended.

    Raises
    ------
    ValueError
        If a callback mixes.
    """
    mixes = any(isinstance(one, Mixup) for _, one in named_callbacks(callbacks))
    if mixes and not task.mixes:
        raise ValueError(
            f"callbacks= must not hold Mixup, which blends two images: {task.kind} say where "
            "things are, and a blend has those of both in one place. Take augment= instead."
        )


def _check_schedule(schedule: Any) -> None:
    if isinstance(schedule, str) and schedule in SCHEDULES:
        return
    if not isinstance(schedule, (str, type)) and _is_callback(schedule):
        return
    kind = schedule if isinstance(schedule, type) else type(schedule)
    name = kind.__name__ if "torch" in kind.__module__ else "StepLR"
    raise ValueError(
        f"schedule= must be one of {', '.join(map(repr, SCHEDULES))} or a "
        f"skorch.callbacks.LRScheduler, got {shown(repr(schedule))}. Schedulers of torch are "
        f"wrapped with their parameters: LRScheduler({name!r}, ...)."
    )


# Optimizers of torch that cannot train here, and why.
_UNSUITED = {
    "LBFGS": "computes the loss several times in a step and has one learning rate for all layers",
    "SparseAdam": "takes sparse gradients alone, and those of networks for images are dense",
    "Muon": "takes matrices alone, and networks for images have convolutions and biases",
}


def _check_optimizer(optimizer: Any) -> None:
    kinds = optimizer.__mro__ if isinstance(optimizer, type) else ()
    for kind in kinds:
        if kind.__name__ in _UNSUITED and kind.__module__.startswith("torch.optim"):
            raise ValueError(
                f"optimizer= must not be {kind.__name__}, which {_UNSUITED[kind.__name__]}. Take "
                "'adamw', 'sgd', or another class of torch.optim."
            )
    if isinstance(optimizer, type) and not issubclass(optimizer, torch.optim.Optimizer):
        raise ValueError(
            f"optimizer= must be one of {', '.join(map(repr, OPTIMIZERS))} or a class of "
            f"torch.optim, got {shown(repr(optimizer))}."
        )


def _check_net_params(training: Training) -> None:
    for key in training.net_params or {}:
        if key == "lr":
            warnings.warn(
                "net_params={'lr': ...} changes nothing: every group of parameters has its own "
                "learning rate. Take lr= and backbone_lr_factor=.",
                SktransferWarning,
                stacklevel=2,
            )
            continue
        prefix = key.split("__")[0] if isinstance(key, str) else ""
        if remedy := _OURS.get(key) or (_OURS.get(prefix) if prefix not in _OPEN else None):
            raise ValueError(f"net_params= must not hold {key!r}. {remedy}")
        if key in _OF_NETS:
            continue
        if prefix not in _OPEN or "__" not in key:
            raise ValueError(
                "net_params= takes parameters of the optimizer and of callbacks, such as "
                f"'optimizer__betas', and {', '.join(map(repr, _OF_NETS))}; got {shown(repr(key))}."
            )
        if prefix == "optimizer":
            _check_option(training.optimizer, key)
        elif (name := key.split("__")[1]) not in (known := _names(training)):
            raise ValueError(
                f"net_params= holds {shown(repr(key))}, but there is no callback {shown(name)!r}: "
                f"there are {', '.join(sorted(known))}."
            )


def _check_option(optimizer: Any, key: str) -> None:
    """A misspelt parameter of an optimizer is an error before the frozen part has run."""
    made = OPTIMIZERS[optimizer] if isinstance(optimizer, str) else optimizer
    takes = inspect.signature(made).parameters
    open_ended = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in takes.values())
    if key.split("__")[1] not in takes and not open_ended:
        options = [name for name in takes if name not in ("params", "lr", "weight_decay")]
        raise ValueError(
            f"net_params= holds {shown(repr(key))}, but {made.__name__} takes "
            f"{', '.join(options)}."
        )


def _names(training: Training) -> set[str]:
    own = [
        one[0] if isinstance(one, tuple) else f"own_{number}"
        for number, one in enumerate(training.callbacks or ())
    ]
    return {*_TAKEN, *_OF_SKORCH, *own}


def _is_callback(value: Any) -> bool:
    return all(callable(getattr(value, name, None)) for name in ("initialize", "on_train_begin"))


def _callbacks(training: Training) -> Iterator[tuple[str, str, Any]]:
    """The parameter, the name and the callback, of all that the caller gave."""
    if not isinstance(training.schedule, str):
        yield "schedule", type(training.schedule).__name__, training.schedule
    seen = set(_TAKEN)
    for one in training.callbacks or ():
        named = isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], str)
        callback = one[1] if named else one
        kind = callback if isinstance(callback, type) else type(callback)
        if not _is_callback(kind):
            raise ValueError(
                "callbacks= must hold callbacks of skorch, or pairs (name, callback), got "
                f"{shown(repr(one))}."
            )
        if isinstance(kind, type) and issubclass(kind, LRScheduler):
            raise ValueError(
                f"callbacks= must not hold {kind.__name__}, since schedule= sets the learning "
                f"rates as well, got {shown(repr(one))}. Pass it as schedule=."
            )
        if named and one[0] in seen:
            raise ValueError(f"callbacks= must not use the name {one[0]!r}, which is taken.")
        seen |= {one[0]} if named else set()
        yield "callbacks", kind.__name__, callback


def reads_validation(callback: Any) -> str | None:
    """What a callback reads of validation; None where that is not known."""
    callback = _made(callback)
    if isinstance(callback, (EpochScoring, BatchScoring)):
        return None if callback.on_train else "samples to score on (on_train=False)"
    monitor = getattr(callback, "monitor", None)
    return repr(monitor) if monitors_validation(callback) else None


def monitors_validation(callback: Any) -> bool:
    """Whether what a callback does depends on validation."""
    monitor = getattr(_made(callback), "monitor", None)
    return isinstance(monitor, str) and "valid" in monitor


def _made(callback: Any) -> Any:
    """Classes stand for what they make; None if they need parameters."""
    try:
        return callback() if isinstance(callback, type) else callback
    except TypeError:
        return None
