"""One call of `fit`: from parameters and photographs to a network that has learnt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from skorch.history import History

from ..backbones import load_backbone
from ..codes._fitting import check_columns
from ..codes._framing import make_framing
from ..codes._info import BackboneInfo
from ..engines import resolve_devices, usable_devices
from ..images import Framing, Images, as_images
from ..store import open_store
from ._augment import make_augment
from ._budget import Storage, choose_storage
from ._checkpoints import Checkpoints, Follower
from ._distributed import Team, make_team
from ._model import Design, Model, build_model
from ._parameters import Rates, layer_states
from ._prefix import Prefix, Some
from ._probe_head import fit_head
from ._run import Run, open_checkpoints
from ._signature import digest_of, signature_of
from ._targets import as_weights, split
from ._training import make_net, renew_schedule, train
from ._views import Examples, Views

if TYPE_CHECKING:
    from ._base import FineTuneBase

__all__ = ["Fitted", "fit_estimator", "images_of", "model_of", "prefix_of"]


@dataclass(frozen=True)
class Fitted:
    """Parameters that decide what a fitted estimator computes, as they were in `fit`."""

    design: Design
    framing: Framing
    image_shape: Any
    value_range: Any
    float_range: tuple[float, float] | None


@dataclass(frozen=True)
class Part:
    """Photographs with targets and weights."""

    images: Any
    target: np.ndarray
    weight: np.ndarray | None

    def take(self, numbers: np.ndarray) -> Part:
        weight = None if self.weight is None else self.weight[numbers]
        return Part(Some(self.images, numbers), self.target[numbers], weight)


def fit_estimator(
    est: FineTuneBase,
    X: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    groups: Any = None,
    validation_data: Any = None,
    classes: Any = None,
    go_on: bool = False,
    epochs: int | None = None,
) -> None:
    """Learn from photographs; with `go_on`, from where the last call stopped."""
    go_on = go_on and hasattr(est, "_fitted")
    images = images_of(est, X) if go_on else _first_images(est, X)
    target = est._encode(y, len(images), classes=classes, known=go_on)
    every = Part(images, target, as_weights(sample_weight, images))
    team = make_team(est)
    if not go_on:
        resolve_devices(est.device)
        check_columns(est, X, reset=True)
        _design(est, images, every)
    if team is not None:
        _agree(est, team, every)
    held_out = _validation(est, validation_data)
    saved = None
    if est.checkpoint_dir is not None and epochs is None:
        parts = [every] if held_out is None else [every, held_out]
        saved = _checkpoints(est, parts, groups, go_on=go_on, team=team)
    run = Run(est.max_epochs if epochs is None else epochs, go_on, saved, team)
    try:
        learn, validate = _split(est, every, groups, held_out)
        _learn(est, learn, validate, run)
    finally:
        if saved is not None:
            saved.close()


def _agree(est: FineTuneBase, team: Team, every: Part) -> None:
    """One seed for all processes, which must have been given the same."""
    team.check_same(digest_of((every.target, every.weight)), "targets and sample_weight")
    _take_seed(est, team.same(est._fitted.design.seed))


def _take_seed(est: FineTuneBase, seed: int) -> None:
    est._fitted = replace(est._fitted, design=replace(est._fitted.design, seed=seed))


def _checkpoints(
    est: FineTuneBase, parts: list[Part], groups: Any, *, go_on: bool, team: Team | None
) -> Checkpoints | Follower:
    """Open the folder; a fit that was killed goes on with its own seed."""
    start = model_of(est).learnt() if go_on else None
    groups = None if groups is None else np.asarray(groups)
    signature = signature_of(est, parts, groups, start)
    saved = open_checkpoints(est.checkpoint_dir, signature, est.keep_checkpoints, team)
    if saved.state is not None:
        _take_seed(est, saved.state["seed"])
    return saved


def _first_images(est: FineTuneBase, X: Any) -> Images:
    return as_images(X, image_shape=est.image_shape, value_range=est.value_range)


def images_of(est: FineTuneBase, X: Any) -> Images:
    """Photographs read as those of `fit` were."""
    fitted = est._fitted
    check_columns(est, X, reset=False)
    return as_images(
        X,
        image_shape=fitted.image_shape,
        value_range=fitted.value_range,
        float_range=fitted.float_range,
    )


def _design(est: FineTuneBase, images: Images, every: Part) -> None:
    """Settle the network; on an error the estimator is as it was."""
    backbone = load_backbone(
        est.backbone, weights=est.weights, preprocessing=est.preprocessing, verbose=est.verbose
    )
    framing = make_framing(
        backbone.preprocessing,
        image_size=est.image_size,
        resize=est.resize,
        crop_pct=est.crop_pct,
    )
    seed = int(check_random_state(est.random_state).randint(2**31 - 1))
    design = Design(
        trainable=est.trainable,
        head=est.head,
        dropout=est.dropout,
        method=est.method,
        batchnorm=est.batchnorm,
        n_outputs=est._n_outputs(every.target),
        seed=seed,
    )
    model = build_model(backbone, framing.image_size, design)
    est._fitted = Fitted(design, framing, images.image_shape, est.value_range, images.float_range)
    est._model, est._learnt = model, None
    est._network = None if backbone.portable else backbone
    est.backbone_ = BackboneInfo.of(backbone, est.weights)
    est.image_size_ = framing.image_size


def model_of(est: FineTuneBase) -> Model:
    """The network of a fitted estimator; built again after it was loaded."""
    if est._model is None:
        from ..codes._state import network_of

        model = build_model(network_of(est), est.image_size_, est._fitted.design)
        model.load(est._learnt)
        est._model = model
    return est._model


def prefix_of(est: FineTuneBase, model: Model) -> Prefix:
    """The frozen part, run as the parameters say."""
    return Prefix(
        backbone=model.backbone,
        table=model.table,
        start=model.start,
        framing=est._fitted.framing,
        store=open_store(est.cache),
        device=usable_devices(est.device),
        precision=est.precision,
        engine=est.engine,
        batch_size=None,
        n_jobs=est.n_jobs,
    )


def _validation(est: FineTuneBase, validation_data: Any) -> Part | None:
    if validation_data is None:
        return None
    X, y = validation_data
    images = images_of(est, X)
    return Part(images, est._encode(y, len(images), classes=None, known=True), None)


def _split(
    est: FineTuneBase, every: Part, groups: Any, held_out: Part | None
) -> tuple[Part, Part | None]:
    if held_out is not None:
        return every, held_out
    if not est.early_stopping:
        return every, None
    numbers = every.target if every.target.ndim == 1 else None
    learn, validate = split(
        numbers, len(every.target), groups, est.validation_fraction, est._fitted.design.seed
    )
    return every.take(np.sort(learn)), every.take(np.sort(validate))


def _learn(est: FineTuneBase, learn: Part, validate: Part | None, run: Run) -> None:
    model = model_of(est)
    prefix = prefix_of(est, model)
    if run.team is not None:
        prefix = replace(prefix, device=[str(run.team.device)])
    device = torch.device(prefix.device[0])
    if not run.go_on and run.state is None:
        _start_head(est, model, prefix, learn)
    model.module.to(device)
    storage = _storage(est, prefix, len(learn.target), run)
    views = [_views(est, prefix, learn, storage)]
    examples = [Examples(views[0], learn.target, learn.weight)]
    if validate is not None:
        views.append(Views(validate.images, prefix, None, 1, where="memory", dtype="float32"))
        examples.append(Examples(views[1], validate.target, validate.weight))
    try:
        if not run.go_on or not hasattr(est, "net_"):
            est.net_ = make_net(est, model, device, len(learn.target), learn.target, run)
            if run.go_on:
                est.net_.history_ = History(est.history_)
        else:
            renew_schedule(est, est.net_, len(learn.target), run)
        train(est, est.net_, examples, run, n_views=storage.n_views)
    finally:
        for one in views:
            one.close()
    _describe(est, model, storage)


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
            f"{storage.n_bytes / 2**20:.0f} MB, kept {storage.where}."
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
    est.layers_ = layer_states(
        model.module, model.names, model.stages, rates, model.table.network.module
    )
    est.n_trainable_parameters_ = sum(layer.n_trainable for layer in est.layers_)
    est.augment_views_ = storage.n_views
    est.history_ = est.net_.history
    est.n_iter_ = len(est.history_)
