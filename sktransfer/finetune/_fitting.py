"""One call of `fit`: from parameters and photographs to a network that has learnt."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import check_random_state
from skorch.history import History

from ..backbones import load_backbone
from ..codes._fitting import NETWORK, check_columns, check_given, given_of
from ..codes._framing import make_framing
from ..codes._info import BackboneInfo
from ..engines import resolve_devices
from ..exceptions import InputError, shown
from ..images import Images, as_images
from ._augment import check_augment
from ._checkpoints import Checkpoints, Follower
from ._complaints import warn_if_few_are_held_out
from ._constraints import check_training, monitors_validation
from ._distributed import Team, make_team
from ._fitted import Fitted, Part, images_of, model_of
from ._learning import learn, learn_for_the_best_epochs
from ._model import Design, build_model
from ._network import code_width
from ._run import Run, open_checkpoints
from ._signature import digest_of, signature_of
from ._state import as_it_was_on_errors
from ._targets import as_weights, split, weights_by_class

if TYPE_CHECKING:
    from ._base import FineTuneBase


__all__ = ["fit_estimator"]


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
    """Learn from photographs; with `go_on`, from where the last call stopped.

    After an error the estimator is as it was before: unfitted, or fitted as it had been.
    """
    go_on = go_on and "_fitted" in vars(est)
    with as_it_was_on_errors(est, go_on=go_on):
        _fit(est, X, y, sample_weight, groups, validation_data, classes, go_on, epochs)


def _fit(
    est: FineTuneBase,
    X: Any,
    y: Any,
    sample_weight: Any,
    groups: Any,
    validation_data: Any,
    classes: Any,
    go_on: bool,
    epochs: int | None,
) -> None:
    stops = est.early_stopping and epochs is None
    validates = stops or validation_data is not None
    check_training(est, validates=validates, is_partial=epochs is not None)
    if go_on:
        _check_network(est)
    images = images_of(est, X) if go_on else _first_images(est, X)
    name = "y" if epochs is None else "y of partial_fit"
    target = est._encode(y, len(images), classes=classes, known=go_on, name=name)
    every = Part(images, target, as_weights(sample_weight, images))
    check_augment(est.augment, images)
    team = make_team(est)
    if not go_on:
        resolve_devices(est.device)
        check_columns(est, X, reset=True)
        _design(est, images, every)
    balanced = isinstance(getattr(est, "class_weight", None), str)
    if not (go_on and epochs is not None and balanced):  # a piece has not all labels
        est._class_weight = est._class_weights(target)
    if team is not None:
        _agree(est, team, every)
    held_out = _validation(est, validation_data)
    saved = None
    if est.checkpoint_dir is not None and epochs is None:
        parts = [every] if held_out is None else [every, held_out]
        saved = _checkpoints(est, parts, groups, go_on=go_on, team=team)
    run = Run(est.max_epochs if epochs is None else epochs, go_on, saved, team)
    try:
        if epochs is None:
            # A call of `fit` follows the parameters as they are now; `partial_fit` goes on.
            est.__dict__.pop("net_", None)
            est.__dict__.pop("best_epoch_", None)
        every = _by_class(est, every)
        part, validate = every, held_out and _by_class(est, held_out)
        if stops and validate is None:
            part, validate = _split(est, every, groups)
        if stops and validate is not None:
            warn_if_few_are_held_out(len(validate.target))
        if validate is not None and part is not every and _refits(est):
            learn_for_the_best_epochs(est, every, part, validate, run)
        else:
            learn(est, part, validate, run)
        est._fitted = replace(est._fitted, bright=images.bright)  # now the files were decoded
    finally:
        if saved is not None:
            saved.close()


def _by_class(est: FineTuneBase, part: Part) -> Part:
    """Weights of classes times those of photographs."""
    if est._class_weight is None:
        return part
    return replace(part, weight=weights_by_class(est._class_weight, part.target, part.weight))


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
        layer=est.layer,
        trainable=est.trainable,
        head=est.head,
        dropout=est.dropout,
        method=est.method,
        batchnorm=est.batchnorm,
        n_outputs=est._n_outputs(every.target),
        seed=seed,
    )
    model = build_model(backbone, framing.image_size, design)
    est._fitted = Fitted(
        design,
        est.trainable,
        framing,
        images.image_shape,
        est.value_range,
        images.float_range,
        images.layout,
        images.bright,
        given_of(est, NETWORK),
    )
    est.__dict__.pop("net_", None)
    est._model, est._learnt, est.history_ = model, None, History()
    est._network = None if backbone.portable else backbone
    est.backbone_ = BackboneInfo.of(backbone, est.weights)
    est.image_size_ = framing.image_size
    est._n_features_out = code_width(model.table)


def _check_network(est: FineTuneBase) -> None:
    """What goes on has the network it was built with."""
    fitted = est._fitted
    of_design = ("layer", "head", "method", "batchnorm", "dropout")
    built = {name: getattr(fitted.design, name) for name in of_design}
    for name, before in {**built, "trainable": fitted.trainable}.items():
        now = getattr(est, name)
        if now != before:
            hint = f"unfreeze({now!r})" if name == "trainable" else "fit with warm_start=False"
            raise InputError(
                f"Going on needs {name}={before!r}, as in the first fit, got {name}={now!r}. "
                f"To change it, call {hint}."
            )
    check_given(est, fitted.given, "fit with warm_start=False")


def _validation(est: FineTuneBase, validation_data: Any) -> Part | None:
    if validation_data is None:
        return None
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
        number = ""
        if isinstance(validation_data, (tuple, list)):
            number = f" of {len(validation_data)}; weights of what is validated on are not taken"
        raise ValueError(
            "validation_data= must be a pair (X, y) of images and targets, got "
            f"{shown(type(validation_data).__name__)}{number}."
        )
    X, y = validation_data
    images = images_of(est, X)
    name = "y of validation_data"
    return Part(images, est._encode(y, len(images), classes=None, known=True, name=name), None)


def _split(est: FineTuneBase, every: Part, groups: Any) -> tuple[Part, Part]:
    numbers = every.target if every.target.ndim == 1 else None
    learn, validate = split(
        numbers,
        len(every.target),
        groups,
        est.validation_fraction,
        est._fitted.design.seed,
        getattr(est, "classes_", None),
    )
    return every.take(np.sort(learn)), every.take(np.sort(validate))


def _refits(est: FineTuneBase) -> bool:
    """Whether the best number of epochs can be trained for anew.

    A schedule of the user's own was made for as many steps as the first fit has, and what monitors
    validation has nothing to look at in a second one.
    """
    own = [one[1] if isinstance(one, tuple) else one for one in est.callbacks or []]
    return isinstance(est.schedule, str) and not any(map(monitors_validation, own))
