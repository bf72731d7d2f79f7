"""The skorch net of a fit, and its epochs."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.base import is_classifier
from skorch.callbacks import Callback
from skorch.exceptions import SkorchException
from skorch.helper import predefined_split

from ..exceptions import TrainingError, shown
from ._callbacks import Average, BestEpoch, Ledger, Line, NextView, Unfreeze
from ._distributed import Team
from ._model import Model
from ._net import ClassifierNet, RegressorNet
from ._parameters import Rates, parameter_groups
from ._precision import autocast_dtype
from ._recipe import Recipe
from ._resuming import Checkpointing, restore
from ._run import Run
from ._schedule import make_schedule
from ._views import BatchIterator, Examples

if TYPE_CHECKING:
    from ._base import FineTuneBase

__all__ = ["OPTIMIZERS", "make_net", "renew_schedule", "train"]

OPTIMIZERS: dict[str, Any] = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


def make_net(est: FineTuneBase, model: Model, device: torch.device, n: int, run: Run) -> Any:
    """A net that is initialised and has learnt nothing yet."""
    verbose = est.verbose if run.leads else 0
    recipe = _recipe(est, model, device, run.team)
    recipe.remember(model.module, dict(model.table.network.module.named_parameters()))
    optimizer = (
        OPTIMIZERS[est.optimizer] if isinstance(est.optimizer, str) else est.optimizer
    )
    options: dict[str, Any] = {"optimizer__momentum": 0.9} if est.optimizer == "sgd" else {}
    if est.optimizer == "sgd":
        options["optimizer__nesterov"] = True
    steps = _n_steps(est, n, run)
    common = {
        "module": model.module,
        "recipe": recipe,
        "optimizer": optimizer,
        "lr": est.lr,
        "max_epochs": run.epochs,
        "batch_size": est.batch_size,
        "iterator_train": BatchIterator,
        "iterator_train__generator": torch.Generator().manual_seed(est._fitted.design.seed),
        "iterator_valid": BatchIterator,
        "train_split": None,
        "device": str(device),
        "verbose": verbose,
        "callbacks": _callbacks(est, model, steps, run),
        "callbacks__print_log": Line() if verbose else None,
        **options,
        **(est.net_params or {}),
    }
    if is_classifier(est):
        net: Any = ClassifierNet(
            criterion=torch.nn.CrossEntropyLoss,
            classes=list(range(est._fitted.design.n_outputs)),
            callbacks__valid_acc=None,
            **common,
        )
    else:
        net = RegressorNet(criterion=torch.nn.MSELoss, **common)
    return net.initialize()


def _recipe(est: FineTuneBase, model: Model, device: torch.device, team: Team | None) -> Recipe:
    rates = Rates(est.lr, est.backbone_lr_factor, est.layer_decay)
    return Recipe(
        groups=partial(
            parameter_groups,
            stage_of=model.stage_of,
            stages=[stage.name for stage in model.stages],
            rates=rates,
            weight_decay=est.weight_decay,
        ),
        label_smoothing=getattr(est, "label_smoothing", 0.0),
        mixup=est.mixup,
        l2_sp=est.l2_sp,
        clip_grad=est.clip_grad,
        autocast=autocast_dtype(est.precision, device, stages_learn=model.stages_learn),
        generator=np.random.default_rng(est._fitted.design.seed),
        team=team,
    )


def _callbacks(
    est: FineTuneBase, model: Model, steps: int, run: Run
) -> list[tuple[str, Callback]]:
    found: list[tuple[str, Callback | None]] = [
        ("ledger", Ledger()),
        ("next_view", NextView()),
        ("schedule", make_schedule(est.schedule, steps, est.warmup)),
        ("average", Average(est.ema) if est.ema else None),
        ("unfreeze", Unfreeze(model, est.unfreeze_every) if est.unfreeze_every else None),
    ]
    if est.early_stopping:
        warmup = math.ceil(est.warmup * run.epochs) if isinstance(est.schedule, str) else 0
        patience = math.inf if run.refit else est.patience
        stopping = BestEpoch(patience, warmup, restores=run.final and not run.refit)
        found.append(("early_stopping", stopping))
    for number, callback in enumerate(est.callbacks or []):
        named = callback if isinstance(callback, tuple) else (f"own_{number}", callback)
        found.append(named)
    return [(name, one) for name, one in found if one is not None]


def _n_steps(est: FineTuneBase, n: int, run: Run) -> int:
    return run.epochs * math.ceil(n / est.batch_size)


def renew_schedule(est: FineTuneBase, net: Any, n: int, run: Run) -> None:
    """Have a net that goes on follow the schedule over the epochs of this call."""
    schedule = dict(net.callbacks_).get("schedule")
    fresh = make_schedule(est.schedule, _n_steps(est, n, run), est.warmup)
    if isinstance(est.schedule, str) and schedule is not None:
        schedule.lr_lambda = fresh.lr_lambda  # type: ignore[union-attr]


def train(est: Any, net: Any, examples: list[Examples], run: Run, *, n_views: int) -> None:
    """Run the epochs, drawing from generators of their own and one that is put back."""
    net.set_params(train_split=predefined_split(examples[1]) if len(examples) > 1 else None)
    devices = [torch.device(net.device)] if "cuda" in net.device else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(est._fitted.design.seed + len(net.history))
        if run.team is not None:
            run.team.align(net.module_)
        if run.saved is None:
            _run_epochs(net, examples[0], run.epochs)
        else:
            facts = {"seed": est._fitted.design.seed, "n_views": n_views, **run.watched}
            first = run.watched.get("n_watched", 0)
            checkpointing = Checkpointing(run.saved, run.state, facts, first)
            _run_with_checkpoints(net, examples[0], run, checkpointing)
    if run.epochs and run.final:
        some = np.unique(np.linspace(0, len(examples[0]) - 1, est.batch_size).astype(int))
        batch = examples[0].batch(some)
        net.check_end(batch, _guess(est, batch[1][0]))


def _guess(est: FineTuneBase, target: torch.Tensor) -> float:
    """The loss of a network that has learnt nothing."""
    if is_classifier(est):
        return math.log(est._fitted.design.n_outputs)
    # Standardised by the targets of the first call, of which these may be far off.
    return max(1.0, float((target**2).mean()))


def _run_epochs(net: Any, examples: Examples, epochs: int) -> None:
    try:
        net.partial_fit(examples, epochs=epochs)
    except (KeyError, SkorchException) as error:
        if "history" not in str(error):
            raise
        there = sorted(net.history[-1]) if net.history else []
        raise TrainingError(
            f"A callback reads what the history does not hold: {shown(error)} It holds "
            f"{', '.join(there)}; with early_stopping=True or validation_data= also valid_loss and "
            "valid_acc."
        ) from error
    # skorch ends training on Ctrl-C as if it were done, and a search would take the next
    # candidate; callbacks that end it do so between epochs.
    if epochs and net.interrupted_:
        raise KeyboardInterrupt


def _run_with_checkpoints(
    net: Any, examples: Examples, run: Run, checkpointing: Checkpointing
) -> None:
    state = run.state
    if state is not None and state["finished"]:
        restore(net, state, checkpointing.saved.source)
        return
    net.callbacks_.append(("checkpoints", checkpointing))
    try:
        _run_epochs(net, examples, run.epochs - (0 if state is None else state["done"]))
    finally:
        net.callbacks_.pop()
    checkpointing.write(net, finished=True)
