"""From photographs and a network to one that has learnt: views, a net, its epochs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from skorch.history import History

from ..engines import usable_devices
from ._augment import make_augment
from ._budget import Storage, choose_storage
from ._callbacks import stages_begun
from ._complaints import warn_if_diverged, warn_of_waiting_stages
from ._fitted import Part, model_of, prefix_of
from ._model import Model
from ._parameters import Rates, layer_states
from ._prefix import Prefix
from ._probe_head import fit_head
from ._resuming import from_json, to_json, watched_of
from ._run import Run
from ._training import make_net, renew_schedule, train
from ._views import Examples, Views

if TYPE_CHECKING:
    from ._base import FineTuneBase


__all__ = ["learn", "learn_for_the_best_epochs", "net_of"]

_PLACES = {"memory": "in memory", "disk": "on disk", "nowhere": "nowhere"}


def learn(est: FineTuneBase, part: Part, validate: Part | None, run: Run) -> None:
    """Learn from some photographs, and validate on others; the net and its history are kept."""
    model = model_of(est)
    prefix = prefix_of(est, model)
    if not run.go_on and not run.refit:
        warn_of_waiting_stages(est, run)
    if run.team is not None:
        prefix = replace(prefix, device=[str(run.team.device)])
    device = torch.device(prefix.device[0])
    if not run.go_on and run.state is None:
        _start_head(est, model, prefix, part)
    model.module.to(device)
    storage = _storage(est, prefix, len(part.target), run)
    views = [_views(est, prefix, part, storage)]
    examples = [Examples(views[0], part.target, part.weight)]
    if validate is not None:
        views.append(Views(validate.images, prefix, None, 1, where="memory", dtype="float32"))
        examples.append(Examples(views[1], validate.target, validate.weight))
    try:
        est._n_learnt = len(part.target)
        if "net_" in vars(est):
            renew_schedule(est, est.net_, est._n_learnt, run)
        else:
            est.net_ = net_of(est, run)
        train(est, est.net_, examples, run, n_views=storage.n_views)
        est._learnt = None
    finally:
        for one in views:
            one.close()
    _describe(est, model, storage)
    if est.early_stopping and validate is not None and not run.refit:
        est.best_epoch_ = dict(est.net_.callbacks_)["early_stopping"].best_epoch_
    if run.leads and run.final:
        warn_if_diverged(est, run)


def learn_for_the_best_epochs(
    est: FineTuneBase, every: Part, part: Part, validate: Part, run: Run
) -> None:
    """Find the best number of epochs on what is held out, then learn from all for so many.

    What comes out is what a fit of so many epochs gives that holds nothing out, bit for bit: its
    schedule ends with the last of them. The history is that of the epochs that were validated.
    """
    start, before = model_of(est).learnt(), est.history_
    found = watched_of(run.saved)
    if found is not None:
        history = from_json(found["watched"])
    else:
        learn(est, part, validate, replace(run, final=False))
        history = est.history_
        found = {
            "watched": to_json(history),
            "n_watched": len(history),
            "best_epoch": est.best_epoch_,
        }
        if run.team is not None:
            found = run.team.same(found)
        model_of(est).load(start)
        est.__dict__.pop("net_")
    best = found["best_epoch"]
    if est.verbose and run.leads:
        print(
            f"Epoch {best} was the best of {found['n_watched']} by the {len(validate.target)} "
            f"images held out; all {len(every.target)} are trained on for so many."
        )
    est.history_ = before
    watching = validate if est.callbacks else None
    learn(est, every, watching, replace(run, epochs=best - len(before), watched=found))
    est.net_.history_ = est.history_ = history
    est.n_iter_, est.best_epoch_ = len(est.history_), best


def net_of(est: FineTuneBase, run: Run | None = None) -> Any:
    """The net of an estimator with its history so far; its optimizer begins anew."""
    model = model_of(est)
    run = Run(est.max_epochs) if run is None else run
    device = torch.device(usable_devices(est.device)[0] if run.team is None else run.team.device)
    model.module.to(device)
    net = make_net(est, model, device, est._n_learnt, run)
    net.history_ = History(est.history_)
    model.module.eval()
    return net


def _start_head(est: FineTuneBase, model: Model, prefix: Prefix, learn: Part) -> None:
    if est.head_init == "random":
        return
    code = model.table.layers[-1]
    codes = prefix.at(code).compute(learn.images)
    classes = est._fitted.design.n_outputs if learn.target.ndim == 1 else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(est._fitted.design.seed)
        fit_head(model.module.head, codes, learn.target, learn.weight, classes=classes)


def _storage(est: FineTuneBase, prefix: Prefix, n: int, run: Run) -> Storage:
    size = 1 if prefix.start is None else np.dtype(est.activation_dtype).itemsize
    storage = choose_storage(
        n * int(np.prod(prefix.shape)) * size,
        # What memory allowed when the fit began.
        views=est.augment_views if run.state is None else run.state["n_views"],
        augmented=est.augment is not None,
        from_pixels=prefix.start is None,
        epochs=run.epochs,
        asked=est.cache_activations,
    )
    if est.verbose and run.leads and prefix.start is not None:
        print(
            f"Frozen up to {prefix.start.name!r}: {storage.n_views} view(s) of {n} photographs, "
            f"{storage.n_bytes / 2**20:.0f} MB, kept {_PLACES[storage.where]}."
        )
    return storage


def _views(est: FineTuneBase, prefix: Prefix, learn: Part, storage: Storage) -> Views:
    return Views(
        learn.images,
        prefix,
        make_augment(est.augment),
        storage.n_views,
        where=storage.where,
        dtype=est.activation_dtype,
    )


def _describe(est: FineTuneBase, model: Model, storage: Storage) -> None:
    model.module.eval()
    rates = Rates(est.lr, est.backbone_lr_factor, est.layer_decay)
    every, n_epochs = est.unfreeze_every, len(est.net_.history)
    est.layers_ = layer_states(
        model.module,
        model.names,
        model.stages,
        rates,
        model.table.network.module,
        begun=None if every is None else stages_begun(n_epochs, every),
    )
    est.n_trainable_parameters_ = sum(layer.n_trainable for layer in est.layers_)
    est.augment_views_ = storage.n_views
    est.history_ = est.net_.history
    est.n_iter_ = len(est.history_)
