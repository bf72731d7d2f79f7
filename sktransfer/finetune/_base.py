"""What the classifier and the regressor have in common."""

from __future__ import annotations

import copy
import hashlib
import pickle
import sys
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from skorch.history import History

from .._parameters import (
    Activations,
    Architecture,
    Cache,
    Checkpointing,
    General,
    ImageInput,
    Network,
    Training,
    TrainingCompute,
)
from .._sklearn import check_columns
from ..compute import resolve_devices, usable_devices
from ..compute._frozen_pass import FrozenPass
from ..compute._plan import ComputeSettings
from ..exceptions import DivergenceWarning, InputError, LayerError, SktransferWarning, shown
from ..inputs import ImagePreparation, Images, Reading, Subset, as_images
from ..networks import Backbone, load_backbone
from ..networks._fitted import NETWORK, KeepsNetwork, check_given, given_of, pack_state
from ..networks._load import BackboneInfo
from ..networks._spec import image_preparation
from ..store import open_store
from ._activations import Examples, Storage, Views, choose_storage
from ._augment import check_augment, make_augment
from ._callbacks import stages_begun
from ._checkpoints import (
    Checkpoints,
    Follower,
    Run,
    digest_of,
    from_json,
    open_checkpoints,
    signature_of,
    to_json,
    watched_of,
)
from ._constraints import check_training, monitors_validation
from ._gradients import Team, make_team
from ._head_init import fit_head
from ._lr_find import LearningRateRange, find_range
from ._model import Design, Model, build_model, code_width
from ._net import make_net, renew_schedule, train
from ._parameter_groups import Rates, layer_states, learning_names, plain_name
from ._targets import as_weights
from ._tasks import Task

__all__ = [
    "FineTuneBase",
    "Fitted",
    "LearningOn",
    "Part",
    "as_it_was_on_errors",
    "fit_estimator",
    "images_of",
    "learn",
    "learn_for_the_best_epochs",
    "model_of",
    "net_of",
    "prefix_of",
    "save_state",
    "unfreeze",
    "warn_if_diverged",
    "warn_if_few_are_held_out",
    "warn_of_waiting_stages",
]


# One call of `fit`: from parameters and photographs to a network that has learnt.


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
    task, target = est._encode(y, len(images), est._task if go_on else None, classes, name)
    every = Part(images, target, as_weights(sample_weight, images))
    check_augment(est.augment, images)
    team = make_team(est)
    if not go_on:
        resolve_devices(est.device)
        check_columns(est, X, reset=True)
        _design(est, images, task)
    est._task = task
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
        every = every.weighed(task)
        part, validate = every, held_out and held_out.weighed(task)
        if stops and validate is None:
            seed = est._fitted.design.seed
            sides = task.split(every.target, groups, est.validation_fraction, seed)
            part, validate = (every.take(np.sort(side)) for side in sides)
        if stops and validate is not None:
            warn_if_few_are_held_out(len(validate.target))
        if validate is not None and part is not every and _refits(est):
            learn_for_the_best_epochs(est, every, part, validate, run)
        else:
            learn(est, part, validate, run)
        # Now the files were decoded.
        reading = replace(est._fitted.reading, bright=images.bright)
        est._fitted = replace(est._fitted, reading=reading)
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


def _design(est: FineTuneBase, images: Images, task: Task) -> None:
    """Settle the network; on an error the estimator is as it was."""
    backbone = load_backbone(
        est.backbone, weights=est.weights, preprocessing=est.preprocessing, verbose=est.verbose
    )
    preparation = image_preparation(
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
        n_outputs=task.n_outputs,
        seed=seed,
    )
    model = build_model(backbone, preparation.image_size, design)
    est._fitted = Fitted(
        design,
        est.trainable,
        preparation,
        images.reading,
        given_of(est, NETWORK),
    )
    est.__dict__.pop("net_", None)
    est._model, est._learnt, est.history_ = model, None, History()
    est._network = None if backbone.portable else backbone
    est.backbone_ = BackboneInfo.of(backbone, est.weights)
    est.image_size_ = preparation.image_size
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
    return Part(images, est._task.encode(y, len(images), name), None)


def _refits(est: FineTuneBase) -> bool:
    """Whether the best number of epochs can be trained for anew.

    A schedule of the user's own was made for as many steps as the first fit has, and what monitors
    validation has nothing to look at in a second one.
    """
    own = [one[1] if isinstance(one, tuple) else one for one in est.callbacks or []]
    return isinstance(est.schedule, str) and not any(map(monitors_validation, own))


# What is left of a fit: its network, and how it reads photographs.


@dataclass(frozen=True)
class Fitted:
    """Parameters that decide what a fitted estimator computes, as they were in `fit`."""

    design: Design
    trainable: Any  # in `fit`; `unfreeze` changes that of the design
    preparation: ImagePreparation
    reading: Reading
    # What the parameters were, which going on needs to be as they were.
    given: tuple[tuple[str, str], ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Part:
    """Photographs with targets and weights."""

    images: Any
    target: np.ndarray
    weight: np.ndarray | None

    def weighed(self, task: Task) -> Part:
        """The same with the weights of classes in those of images."""
        return replace(self, weight=task.image_weights(self.target, self.weight))

    def take(self, numbers: np.ndarray) -> Part:
        weight = None if self.weight is None else self.weight[numbers]
        return Part(Subset(self.images, numbers), self.target[numbers], weight)


def images_of(est: FineTuneBase, X: Any) -> Images:
    """Photographs read as those of `fit` were."""
    check_columns(est, X, reset=False)
    return est._fitted.reading.images(X)


def model_of(est: FineTuneBase) -> Model:
    """The network of a fitted estimator; built again after it was loaded."""
    if est._model is None:
        model = build_model(est._load_network(), est.image_size_, est._fitted.design)
        model.load(est._learnt)
        est._model = model
    return est._model


def prefix_of(est: FineTuneBase, model: Model) -> FrozenPass:
    """The frozen part, run as the parameters say."""
    layers, pooling = model.frozen
    settings = ComputeSettings(
        usable_devices(est.device), est.precision, est.engine, n_jobs=est.n_jobs
    )
    return FrozenPass(
        model.backbone,
        model.table,
        layers,
        est._fitted.preparation,
        pooling,
        settings,
        open_store(est.cache),
    )


# From photographs and a network to one that has learnt: views, a net, its epochs.


_PLACES = {"memory": "in memory", "disk": "on disk", "nowhere": "nowhere"}


def learn(est: FineTuneBase, part: Part, validate: Part | None, run: Run) -> None:
    """Learn from some photographs, and validate on others; the net and its history are kept."""
    model = model_of(est)
    prefix = prefix_of(est, model)
    if not run.go_on and not run.refit:
        warn_of_waiting_stages(est, run)
    if run.team is not None:
        alone = replace(prefix.settings, device=[str(run.team.device)])
        prefix = replace(prefix, settings=alone)
    device = torch.device(prefix.settings.device[0])
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
            est.net_.recipe.task = est._task
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


def _start_head(est: FineTuneBase, model: Model, prefix: FrozenPass, learn: Part) -> None:
    if est.head_init == "random":
        return
    code = model.table.layers[-1]
    codes = prefix.at([code], "avg").rows(learn.images)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(est._fitted.design.seed)
        fit_head(model.module.head, codes, learn.target, learn.weight, est._task)


def _storage(est: FineTuneBase, prefix: FrozenPass, n: int, run: Run) -> Storage:
    size = np.dtype(est.activation_dtype).itemsize if prefix.layers else 1
    storage = choose_storage(
        n * int(np.prod(prefix.shape)) * size,
        # What memory allowed when the fit began.
        views=est.augment_views if run.state is None else run.state["n_views"],
        augmented=est.augment is not None,
        from_pixels=not prefix.layers,
        epochs=run.epochs,
        asked=est.cache_activations,
    )
    if est.verbose and run.leads and prefix.layers:
        print(
            f"Frozen up to {prefix.layers[-1].name!r}: {storage.n_views} view(s) of {n} images, "
            f"{storage.n_bytes / 2**20:.0f} MB, kept {_PLACES[storage.where]}."
        )
    return storage


def _views(est: FineTuneBase, prefix: FrozenPass, learn: Part, storage: Storage) -> Views:
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
        model.table.parameters(),
        begun=None if every is None else stages_begun(n_epochs, every),
    )
    est.n_trainable_parameters_ = sum(layer.n_trainable for layer in est.layers_)
    est.augment_views_ = storage.n_views
    est.history_ = est.net_.history
    est.n_iter_ = len(est.history_)


# What an estimator does besides `fit`: let more layers learn, and look for a learning rate.


class LearningOn:
    """Methods that both estimators have."""

    def unfreeze(self, trainable: str | int | Sequence[str]) -> Self:
        """Let more of the network learn, in the next `partial_fit` or fit with `warm_start`.

        What was learnt stays; the optimizer begins anew. The parameter `trainable` is left as it
        is, for clones and fits from the start.

        Parameters
        ----------
        trainable : "all", int, str or list of str
            As the parameter: the last so many stages, or layers by name, all that learnt before
            among them.

        Returns
        -------
        self : object

        Raises
        ------
        LayerError
            If it names nothing, or leaves out what has learnt.
        """
        check_is_fitted(self, "backbone_")
        unfreeze(self, trainable)  # type: ignore[arg-type]
        return self

    def lr_find(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        start: float = 1e-6,
        end: float = 1.0,
        n_steps: int = 100,
    ) -> LearningRateRange:
        """Try rising learning rates on a copy, batch by batch, until the loss diverges.

        The rates of pretrained layers rise in proportion. The estimator stays as it is.

        Parameters
        ----------
        X, y, sample_weight : object
            As in `fit`.
        start, end : float, default=1e-6, 1.0
            First and last rate of the head.
        n_steps : int, default=100
            Batches.

        Returns
        -------
        found : LearningRateRange
            With `lrs`, `losses`, `suggestion_` and `plot()`.

        References
        ----------
        L. Smith (2017). Cyclical learning rates for training neural networks. WACV. Section 3.3.
        """
        return find_range(self, X, y, sample_weight, start, end, n_steps)  # type: ignore[arg-type]


class FineTuneBase(
    LearningOn,
    KeepsNetwork,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    General,
    Checkpointing,
    Cache,
    TrainingCompute,
    ImageInput,
    Activations,
    Training,
    Architecture,
    Network,
    BaseEstimator,
):
    """Parameters, and all that does not depend on what the target is.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The net; what it takes are activations of the frozen part. Built when it is first asked for
        in an estimator that was loaded.
    history_ : skorch.history.History
        Losses, accuracies, learning rates, seconds and images per second of each epoch; with
        `early_stopping` those that were validated.
    layers_ : list of LayerState
        Of each stage and the head: whether it was trained, its learning rate and its numbers.
    n_trainable_parameters_ : int
        Numbers that were trained.
    augment_views_ : int
        Views of each image that epochs draw from.
    n_iter_ : int
        Epochs in `history_`.
    best_epoch_ : int
        The best of them, from 1, by what was held out; what is fitted has been trained for so many.
        Only with `early_stopping`.
    backbone_ : BackboneInfo
        Name, source, weights, preprocessing and fingerprint of the network.
    image_size_ : tuple of int
        Height and width that the network sees.
    n_features_in_ : int
        Number of columns, where the input is a table.
    feature_names_in_ : ndarray of str
        Their names, where they have names.
    """


    @abstractmethod
    def _encode(
        self, y: Any, n_images: int, before: Any, classes: Any, name: str
    ) -> tuple[Task, np.ndarray]:
        """The task, and the targets as it encodes them; `before` is that of earlier calls."""

    def _outputs(self, X: Any) -> np.ndarray:
        """What the head gives for each image."""
        check_is_fitted(self, "backbone_")
        images = images_of(self, X)
        model = model_of(self)
        return model.outputs(prefix_of(self, model), images)

    def transform(self, X: Any) -> np.ndarray:
        """Compute the fine-tuned codes: what goes into the head.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_codes), float32

        Raises
        ------
        ImageError
            If an image cannot be read.
        """
        check_is_fitted(self, "backbone_")
        images = images_of(self, X)
        model = model_of(self)
        return model.outputs(prefix_of(self, model), images, codes=True)

    def __getattr__(self, name: str) -> Any:
        # Not a property: notebooks show the values of all that `dir` names.
        if name == "net_" and "_fitted" in vars(self):
            self.net_ = net_of(self)
            return self.net_
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return "_fitted" in vars(self)

    def __getstate__(self) -> dict[str, Any]:
        return save_state(self, BaseEstimator.__getstate__(self))


# More of the network begins to learn; what was learnt stays.


def unfreeze(est: FineTuneBase, trainable: str | int | Sequence[str]) -> None:
    """Cut the network of a fitted estimator earlier, and put back what was learnt.

    Raises
    ------
    LayerError
        If `trainable` names nothing, or leaves out what has learnt already.
    """
    old = model_of(est)
    names = learning_names(old.table, trainable)
    before = learning_names(old.table, est._fitted.design.trainable)
    lost = [name for name in before if name not in set(names)]
    if lost:
        raise LayerError(
            f"unfreeze({trainable!r}) must keep what has learnt with "
            f"trainable={est._fitted.design.trainable!r}, but leaves out {lost[0]!r} and "
            f"{len(lost) - 1} more. To freeze layers that have learnt, set their learning rate to "
            "zero: backbone_lr_factor=0."
        )
    learnt = old.learnt()
    design = replace(est._fitted.design, trainable=trainable)
    model = build_model(old.backbone, est.image_size_, design)
    model.load(learnt)
    est._fitted = replace(est._fitted, design=design)
    est._model, est._learnt = model, learnt
    # The next fit makes a net, whose optimizer knows all that learns.
    est.__dict__.pop("net_", None)


# What a pickle of a fine-tuned estimator holds: what was learnt, not what was published.


Learnt = dict[str, np.ndarray]


# Parameters that may hold functions.
_WITH_FUNCTIONS = ("augment", "head", "optimizer", "schedule", "callbacks", "net_params")
# They copy functions that have no name to be found by.
_COPIERS = {"cloudpickle", "copy", "dill", "ray", "skops"}


def save_state(est: FineTuneBase, state: dict[str, Any]) -> dict[str, Any]:
    """Leave the net out; put what was learnt in, as arrays that load on any device."""
    _check_functions(est)
    state = dict(state)
    state.pop("net_", None)
    model = state.pop("_model", None)
    if "_fitted" in state:
        state["_model"] = None
        if state["_learnt"] is None:
            state["_learnt"] = model.learnt()
        if state["_network"] is None and est.bundle_weights:
            state["_network"] = est.backbone_.load()
        if isinstance(state["_network"], Backbone):
            state["_network"], state["_learnt"] = _merged(state["_network"], state["_learnt"])
    return pack_state(state)


def _check_functions(est: FineTuneBase) -> None:
    """Say which parameter it is that pickle cannot save, where it is pickle that saves."""
    held = {name: getattr(est, name, None) for name in _WITH_FUNCTIONS}
    held = {name: one for name, one in held.items() if not isinstance(one, (str, type(None)))}
    if not held or _is_copied():
        return
    for name, value in held.items():
        try:
            pickle.dumps(value)
        except Exception as error:
            raise pickle.PicklingError(
                f"{name}= cannot be pickled: {shown(error)}. Define its function or class in a "
                "module that can be imported, or save with cloudpickle."
            ) from error


def _is_copied() -> bool:
    frame = sys._getframe(1)
    while frame is not None:
        parts = str(frame.f_globals.get("__name__")).split(".")
        if parts[0] in _COPIERS or "cloudpickle" in parts:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _merged(backbone: Backbone, learnt: Learnt) -> tuple[Backbone, Learnt]:
    """What was learnt in the place of what it replaced, so that a pickle holds that once."""
    own = dict(backbone.module.state_dict())
    inside = {
        name: value
        for name, value in learnt.items()
        if name.startswith("tail.")
        and plain_name(name) in own
        and own[plain_name(name)].shape == value.shape
    }
    if not inside:
        return backbone, learnt
    digest = hashlib.sha256(backbone.fingerprint.encode())
    module = copy.deepcopy(backbone.module)
    own = module.state_dict()
    with torch.no_grad():
        for name, value in inside.items():
            own[plain_name(name)].copy_(torch.from_numpy(value))
            digest.update(name.encode() + value.tobytes())
    # It is another network now: tables and codes of the first are not its own.
    changed = replace(backbone, module=module, fingerprint=digest.hexdigest()[:32])
    return changed, {name: value for name, value in learnt.items() if name not in inside}


@contextmanager
def as_it_was_on_errors(est: FineTuneBase, *, go_on: bool) -> Iterator[None]:
    """Undo what a failing fit did to an estimator, also to weights that it went on with."""
    before = dict(vars(est))
    if go_on:
        learnt = before["_learnt"] or est._model.learnt()
        history = copy.deepcopy(est.history_)
    try:
        yield
    except BaseException:
        est.__dict__.clear()
        est.__dict__.update(before)
        if go_on:
            est.__dict__.pop("net_", None)
            est._model, est._learnt, est.history_ = None, learnt, history
        raise


# What is warned of: parameters without effect, and training that made things worse.


# How many times the loss of a network that has learnt nothing is no longer noise.
_WORSE = 2.0
# Below that the accuracy of what is held out is known to some four points at best.
_FEW = 100


def warn_of_waiting_stages(est: FineTuneBase, run: Run) -> None:
    """No stage begins to learn in so few epochs."""
    every = est.unfreeze_every
    if every is not None and run.epochs and not stages_begun(run.epochs, every):
        warnings.warn(
            f"unfreeze_every={every} must be less than max_epochs={run.epochs} for any stage to "
            "begin; the head alone learns.",
            SktransferWarning,
            stacklevel=2,
        )


def warn_if_few_are_held_out(n: int) -> None:
    """So few images seldom tell one epoch from another."""
    if n < _FEW:
        held_out = "1 image is held out" if n == 1 else f"{n} images are held out"
        warnings.warn(
            f"early_stopping=True needs some {_FEW} images to tell which epoch is the best, and "
            f"{held_out}: training will seldom end before max_epochs. Leave it off, since the "
            "schedule ends by itself, or pass more by validation_fraction= or validation_data=.",
            SktransferWarning,
            stacklevel=2,
        )


def warn_if_diverged(est: FineTuneBase, run: Run) -> None:
    """The loss of the last epoch is larger than that of guessing: the rates are too large."""
    losses = [row["train_loss"] for row in est.net_.history if "train_loss" in row]
    if not losses:
        return
    guess = est._task.guess()
    from_probe = est._task.starts_below_guessing and est.head_init == "linear_probe"
    restored = est.early_stopping and not run.refit
    loss = min(losses) if restored else losses[-1]
    end = getattr(est.net_, "end_loss_", 0.0)  # after the last step
    if end > guess * _WORSE:
        loss = max(loss, end)
    if loss > guess * (1.0 if from_probe else _WORSE):
        warnings.warn(
            f"Training diverged: the loss is {loss:.3g}, and that of a network that has learnt "
            f"nothing is {guess:.3g}. Take a smaller lr than {est.lr:g} (see lr_find), or "
            "clip_grad=1.",
            DivergenceWarning,
            stacklevel=2,
        )
