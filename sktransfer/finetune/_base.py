"""What the estimators that fine-tune have in common: `fit`, what it leaves, and its pickle."""

from __future__ import annotations

import copy
import hashlib
import pickle
import sys
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from skorch.history import History

from .._parameters import (
    Activations,
    Augmentation,
    Cache,
    Checkpointing,
    Compute,
    General,
    Tail,
    Training,
)
from .._sklearn import check_columns, fit_context
from ..compute import ComputeSettings, FrozenPass, resolve_devices, usable_devices
from ..exceptions import InputError, LayerError, shown
from ..inputs import Preparation
from ..networks import (
    Backbone,
    BackboneInfo,
    Cuttable,
    KeepsNetwork,
    check_given,
    given_of,
    pack_state,
)
from ..store import open_store
from ._callbacks import EMA, GradualUnfreeze, named_callbacks
from ._checkpoints import Checkpoints, Follower, Run, digest_of, key_of_fit, open_checkpoints
from ._checks import check_mixing, check_training, reads_validation
from ._gradients import Team, make_team
from ._lr_find import LearningRateRange, find_range
from ._model import Design, Model, build_model
from ._parameter_groups import plain_name, trainable_names
from ._targets import as_weights
from ._tasks import Task
from ._training import Part, Trained, Trainer

__all__ = ["FineTuneBase", "Fitted"]

# What was trained, by the names of tensors.
Learnt = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Fitted:
    """What decides what a fitted estimator computes; replaced as a whole, never changed in part.

    An estimator has one exactly where it is fitted. Beside it stand `history_`, the epochs so far;
    `net_`, which trains the module of `weights`, and is missing where nothing has been trained
    since the estimator was loaded or unfrozen, or since a call failed; and `_network`, the network
    where its name does not suffice to load it again.

    Attributes
    ----------
    design : Design
        The parameters that the network was built with.
    trainable : object
        As given to `fit`; `unfreeze` changes that of the design.
    task : Task
    preparation : object
        How items are prepared, as plain values.
    reading : Reading or TextReading
    weights : Model or dict of str to ndarray
        The network with all that was trained; or that alone, until it is first needed after the
        estimator was loaded.
    n_samples : int
        Of the last call that trained.
    given : tuple of (str, str)
        What the parameters were, which later calls need to be as they were.
    """

    design: Design
    trainable: Any
    task: Task
    preparation: Any
    reading: Any
    weights: Model | Learnt = field(repr=False)
    n_samples: int
    given: tuple[tuple[str, str], ...]

    @property
    def model(self) -> Model:
        """The network, where it is built."""
        if not isinstance(self.weights, Model):
            raise TypeError("the network must be built")
        return self.weights

    def seeded(self, seed: int) -> Fitted:
        """The same with the seed of another process, or of a fit that was killed."""
        return replace(self, design=replace(self.design, seed=seed))


class _MissingNet:
    """`net_` where an estimator has none: an error that says why, and what makes it."""

    def __get__(self, estimator: Any, owner: Any) -> Any:
        if estimator is None:
            return self
        check_is_fitted(estimator, "backbone_")
        raise AttributeError(
            f"This {owner.__name__} has no net_: it is not in a pickle, and is gone after unfreeze "
            "and after a call that failed. make_net() makes it; predictions need none.",
            name="net_",
            obj=estimator,
        )


class FineTuneBase(
    KeepsNetwork,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    General,
    Checkpointing,
    Cache,
    Compute,
    Activations,
    Training,
    Tail,
    BaseEstimator,
):
    """Parameters, and all that depends neither on what goes in nor on what the target is.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The net; what it takes are activations of the frozen part. After loading, `unfreeze`, or a
        later call that failed, it is not there before the next call that trains, or
        :meth:`make_net`.
    history_ : skorch.history.History
        Losses, accuracies, learning rates, seconds and samples per second of each epoch; with
        `early_stopping` those that were validated.
    layers_ : list of LayerState
        Of each stage and the head: whether it was trained, its learning rate and its numbers.
    n_trainable_parameters_ : int
        Numbers that were trained.
    n_iter_ : int
        Epochs in `history_`.
    best_epoch_ : int
        The best of them, from 1, by what was held out; what is fitted has been trained for so many.
        Only with `early_stopping`.
    backbone_ : BackboneInfo
        Name, source, weights, preprocessing and fingerprint of the network.
    n_features_in_ : int
        Number of columns, where the input is a table.
    feature_names_in_ : ndarray of str
        Their names, where they have names.
    """

    _fitted: Fitted
    # Parameters that decide which network it is and what it sees of an item.
    _given: ClassVar[tuple[str, ...]]
    backbone: Any
    weights: Any
    net_: Any = _MissingNet()
    history_: History

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        groups: Any = None,
        validation_data: tuple[Any, Any] | None = None,
    ) -> Self:
        """Train on samples with their targets; after an error all is as it was before.

        Parameters
        ----------
        X : array, list or table
            Images as in :class:`sktransfer.CNNCodes`, texts as in :class:`sktransfer.TextCodes`.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            What is to be predicted of each sample. For a regressor one number or several. For a
            classifier a label of any kind; or several tags: a matrix of 0 and 1, dense, sparse or
            a data frame, with a column for each tag, in which NaN is a tag that is not known and
            counts nowhere. For a labeller of words a list of labels for each sentence. For a
            segmenter a mask for each image, as :class:`sktransfer.PixelClassifier` takes them. For
            a detector an entry for each image: a dict of ``"boxes"`` (k, 4), x1, y1, x2, y2 in
            pixels of the upright image, and ``"labels"`` (k,); an array (k, 4) where there is one
            class; ``[]`` where there is nothing.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each sample counts.
        groups : array-like of shape (n_samples,), default=None
            Samples of one group stay together when `early_stopping` splits.
        validation_data : (X, y), default=None
            Samples to validate on; nothing is split off then.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If targets are missing, not one for each sample, of one class, or not finite.
        ItemError
            If an image or a text cannot be read.
        TrainingError
            If the loss stops being a number.
        """
        return self._fit(
            X,
            y,
            sample_weight,
            groups=groups,
            validation_data=validation_data,
            continues=self.warm_start,
        )

    def set_params(self, **params: Any) -> Self:
        """Set parameters, and those of a `schedule` that is an LRScheduler by ``schedule__<name>``.

        Parameters
        ----------
        **params : dict
            By name.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If there is no such parameter. Those of optimizers and callbacks are in `net_params`.
        """
        for key in params:
            name, within, _ = key.partition("__")
            held = params.get(name, getattr(self, name, None))
            if within and name in _WITH_FUNCTIONS and not hasattr(held, "set_params"):
                raise ValueError(_not_nested(key, name))
        return super().set_params(**params)

    def unfreeze(self, trainable: str | int | Sequence[str]) -> Self:
        """Train more of the network, in the next `partial_fit` or fit with `warm_start`.

        What was trained stays; the optimizer begins again. The parameter `trainable` is left as it
        is, for clones and fits from the start.

        Parameters
        ----------
        trainable : "all", int, str or list of str
            As the parameter: the last so many stages, or layers by name, all that were trained
            before among them.

        Returns
        -------
        self : object

        Raises
        ------
        LayerError
            If it names nothing, or leaves out what has been trained.
        """
        check_is_fitted(self, "backbone_")
        old, design = self._load_model(), self._fitted.design
        names = set(trainable_names(old.table, trainable))
        before = trainable_names(old.table, design.trainable)
        lost = [name for name in before if name not in names]
        if lost:
            raise LayerError(
                f"unfreeze({trainable!r}) must include all layers trained with "
                f"trainable={design.trainable!r}, but misses {lost[0]!r} and "
                f"{len(lost) - 1} more. To freeze trained layers, set their learning rate "
                "to zero: backbone_lr_factor=0."
            )
        design = replace(design, trainable=trainable)
        model = build_model(old.backbone, self._cut(old.backbone), design)
        model.load(old.learnt())
        self._fitted = replace(self._fitted, design=design, weights=model)
        # The next call that trains makes a net, whose optimizer knows all that is trained.
        self.__dict__.pop("net_", None)
        return self

    def make_net(self) -> Any:
        """Make `net_` where it is not there, as in an estimator that was loaded.

        Its module holds what was trained; its optimizer begins again. What it takes are activations
        of the frozen part.

        Returns
        -------
        net : skorch.NeuralNet
        """
        check_is_fitted(self, "backbone_")
        if "net_" not in vars(self):
            fitted = replace(self._fitted, weights=self._load_model())
            run = Run(self.max_epochs, continues=True, verbose=self.verbose)
            self.net_ = self._trainer(fitted, run).make_net(fitted.n_samples, self.history_)
        return self.net_

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

        The learning rates of pretrained layers rise in proportion. The estimator stays as it is.

        Parameters
        ----------
        X, y, sample_weight : object
            As in `fit`.
        start, end : float, default=1e-6, 1.0
            First and last learning rate of the head.
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
        # Nothing is held out, and what reads that has nothing to do here; all is trained.
        kept = [
            (name, one)
            for name, one in named_callbacks(self.callbacks)
            if not reads_validation(one) and not isinstance(one, (EMA, GradualUnfreeze))
        ]
        twin = clone(self).set_params(
            callbacks=kept, max_epochs=n_steps, early_stopping=False, checkpoint_dir=None,
            warm_start=False, verbose=0,
        )  # fmt: skip

        def fit(schedule: Any) -> None:
            twin.set_params(schedule=schedule).fit(X, y, sample_weight=sample_weight)

        return find_range(fit, self.lr, start, end, n_steps)

    def transform(self, X: Any) -> np.ndarray:
        """Compute the fine-tuned codes: what goes into the head.

        Parameters
        ----------
        X : array, list or table
            As in `fit`.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_codes), float32

        Raises
        ------
        ItemError
            If an image or a text cannot be read.
        """
        return self._outputs(X, codes=True)

    def _run_once(self) -> None:
        fitted, model = self._fitted, self._load_model()
        prefix = self._frozen_pass(self._fitted, usable_devices(self.device)).uncached()
        model.outputs(prefix, fitted.reading.made_up(fitted.preparation))
        prefix.warm_up()

    @abstractmethod
    def _encode(
        self, y: Any, items: Any, before: Any, classes: Any, name: str
    ) -> tuple[Task, np.ndarray]:
        """The task, and the targets as it encodes them; `before` is that of earlier calls."""

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        groups: Any = None,
        validation_data: Any = None,
        classes: Any = None,
        continues: bool = False,
        epochs: int | None = None,
    ) -> Self:
        """One call of `fit`, or of `partial_fit`, which says for how many `epochs`.

        With `continues` it begins with what was trained before, if anything was.
        """
        continues, is_partial = continues and self.__sklearn_is_fitted__(), epochs is not None
        validates = validation_data is not None or (self.early_stopping and not is_partial)
        check_training(self, validates=validates, is_partial=is_partial)
        every, task = self._read(X, y, sample_weight, classes, continues, is_partial)
        team = make_team(self.distributed, self.device)
        fitted, info, columns = self._begun(X, every, task, continues)
        if team is not None:
            team.check_same(digest_of((every.target, every.weight)), "targets and sample_weight")
            fitted = fitted.seeded(team.same(fitted.design.seed))
        held_out = None
        if validation_data is not None:
            held_out = _held_out(validation_data, fitted, columns)
            self._check_targets(held_out.items, validation_data[1], "y of validation_data")
        with ExitStack() as stack:
            saved = None
            if self.checkpoint_dir is not None and not is_partial:
                parts = [every] if held_out is None else [every, held_out]
                saved = self._open_checkpoints(
                    fitted, info, parts, groups, team, continues=continues
                )
                stack.callback(saved.close)
                fitted = fitted if saved.state is None else fitted.seeded(saved.state["seed"])
            run = Run(self.max_epochs if epochs is None else epochs, continues, saved, team)
            run = replace(run, verbose=self.verbose if run.leads else 0)
            trainer, history = self._trainer(fitted, run), self.history_ if continues else History()
            every, held_out = every.weighed(task), held_out and held_out.weighed(task)
            if continues:
                stack.enter_context(self._put_back_on_errors())
            if is_partial:
                trained = trainer.train(every, held_out, history, vars(self).get("net_"))
            else:
                trained = trainer.fit(every, held_out, groups, history)
        fitted = replace(fitted, reading=self._reading_of(every.items, fitted))
        self._keep(fitted, trained, info, columns, is_partial)
        return self

    def _read(
        self, X: Any, y: Any, sample_weight: Any, classes: Any, continues: bool, is_partial: bool
    ) -> tuple[Part, Task]:
        """Items with targets and weights, and the task that these targets are."""
        if continues:
            self._check_given()
            items, known = self._items(X), self._fitted.task
        else:
            items, known = self._first_items(X), None
        name = "y of partial_fit" if is_partial else "y"
        self._check_targets(items, y, name)
        task, target = self._encode(y, items, known, classes, name)
        augmented = self._augmentation is not None and self._augmentation.augment is not None
        moving = task.movable(y, items) if augmented else None
        every = Part(items, target, as_weights(sample_weight, items), moving)
        self._check_part(every)
        check_mixing(self.callbacks, task)
        return every, task

    def _begun(
        self, X: Any, every: Part, task: Task, continues: bool
    ) -> tuple[Fitted, BackboneInfo, Any]:
        """What training begins with, which network that is, and who keeps account of columns."""
        if continues:
            fitted = replace(
                self._fitted, task=task, weights=self._load_model(), n_samples=len(every.target)
            )
            return fitted, self.backbone_, self
        resolve_devices(self.device)
        # Another one, whose account is taken over when all is done.
        columns = type(self).__new__(type(self))
        check_columns(columns, X, reset=True)
        backbone = self._load()
        preparation = self._prepare(backbone, every.items)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        design = self._design(backbone, task, seed)
        model = build_model(backbone, self._cut(backbone, preparation), design)
        fitted = Fitted(
            design, self.trainable, task, preparation, every.items.reading, model,
            len(every.target), given_of(self, self._given),
        )  # fmt: skip
        return fitted, self._info(backbone), columns

    def _check_given(self) -> None:
        """Refuse parameters that the network was not built with."""
        fitted = self._fitted
        built = fitted.design.given
        for name, before in {**built, "trainable": fitted.trainable}.items():
            now = getattr(self, name)
            if now != before:
                hint = f"unfreeze({now!r})" if name == "trainable" else "fit with warm_start=False"
                raise InputError(
                    f"Continuing needs {name}={before!r}, as in the first fit, got {name}={now!r}. "
                    f"To change it, call {hint}."
                )
        check_given(self, fitted.given, "fit with warm_start=False")

    def _open_checkpoints(
        self,
        fitted: Fitted,
        info: BackboneInfo,
        parts: list[Part],
        groups: Any,
        team: Team | None,
        *,
        continues: bool,
    ) -> Checkpoints | Follower:
        """Those of this very fit, which may have been killed before."""
        seed, classes = fitted.design.seed, fitted.task.classes
        facts = {
            "the kind of estimator": type(self).__name__,
            "the network": info.fingerprint,
            "the number of outputs": fitted.design.n_outputs,
            **self._facts(fitted),
        }
        signature = key_of_fit(
            self.get_params(deep=False),
            None if self.random_state is None else seed,
            facts,
            classes,
            parts,
            None if groups is None else np.asarray(groups),
            fitted.model.learnt() if continues else None,
        )
        return open_checkpoints(self.checkpoint_dir, signature, self.keep_checkpoints, team)

    def _trainer(self, fitted: Fitted, run: Run) -> Trainer:
        devices = usable_devices(self.device) if run.team is None else [str(run.team.device)]
        return Trainer(
            fitted.model,
            self._frozen_pass(fitted, devices),
            fitted.task,
            training=self,
            activations=self,
            augmentation=self._augmentation,
            head_init=self.head_init,
            seed=fitted.design.seed,
            run=run,
        )

    def _frozen_pass(self, fitted: Fitted, devices: list[str]) -> FrozenPass:
        """The frozen part, run as the parameters say."""
        model = fitted.model
        layers, pooling = model.frozen
        settings = ComputeSettings(devices, self.precision, self.engine, n_jobs=self.n_jobs)
        preparation = self._preparation(fitted, model.backbone)
        return FrozenPass(
            model.table, layers, preparation, pooling, settings, open_store(self.cache)
        )

    @contextmanager
    def _put_back_on_errors(self) -> Iterator[None]:
        """Later calls train the very weights that are there: an error puts them back."""
        fitted = replace(self._fitted, weights=self._load_model().learnt())
        history = copy.deepcopy(self.history_)
        try:
            yield
        except BaseException:
            self.__dict__.pop("net_", None)
            self._fitted, self.history_ = fitted, history
            raise

    def _keep(
        self,
        fitted: Fitted,
        trained: Trained,
        info: BackboneInfo,
        columns: Any,
        is_partial: bool,
    ) -> None:
        """Take over what a call that trained has given; nothing can fail any more."""
        if columns is not self:
            backbone = fitted.model.backbone
            self._network = None if backbone.portable else backbone
            self.backbone_ = info
            self._n_features_out = fitted.model.n_codes
            for name in ("n_features_in_", "feature_names_in_"):
                self.__dict__.pop(name, None)
            self.__dict__.update(vars(columns))
        self._fitted = fitted
        self.net_, self.history_ = trained.net, trained.history
        self.layers_ = trained.layers
        self.n_trainable_parameters_ = sum(layer.n_trainable for layer in trained.layers)
        self.n_iter_ = len(trained.history)
        if not is_partial:
            self.__dict__.pop("best_epoch_", None)
        if trained.best_epoch is not None:
            self.best_epoch_ = trained.best_epoch

    def _items(self, X: Any) -> Any:
        """Items read as those of `fit` were."""
        check_columns(self, X, reset=False)
        return self._fitted.reading.items(X)

    def _outputs(self, X: Any, *, codes: bool = False) -> np.ndarray:
        """What the head gives for each item, or what goes into it."""
        check_is_fitted(self, "backbone_")
        items, model = self._items(X), self._load_model()
        prefix = self._frozen_pass(self._fitted, usable_devices(self.device))
        return model.outputs(prefix, items, codes=codes)

    @property
    def _task(self) -> Any:
        check_is_fitted(self, "backbone_")
        return self._fitted.task

    def _load_model(self) -> Model:
        """The network with all that was trained; built again where the estimator was loaded."""
        fitted = self._fitted
        if isinstance(fitted.weights, Model):
            return fitted.weights
        network = self._load_network()
        model = build_model(network, self._cut(network), fitted.design)
        model.load(fitted.weights)
        self._fitted = replace(fitted, weights=model)
        return model

    # What kinds of items differ in.

    @abstractmethod
    def _first_items(self, X: Any) -> Any:
        """The input of the first call as items."""

    @abstractmethod
    def _load(self) -> Backbone:
        """The network of the parameters."""

    @abstractmethod
    def _prepare(self, backbone: Backbone, items: Any) -> Any:
        """How items are prepared for it, as plain values."""

    @abstractmethod
    def _preparation(self, fitted: Fitted, backbone: Backbone) -> Preparation:
        """What these plain values mean."""

    @abstractmethod
    def _cut(self, backbone: Backbone, preparation: Any = None) -> Cuttable:
        """Where it can be cut; prepared as in `fit`, unless told otherwise."""

    @abstractmethod
    def _design(self, backbone: Backbone, task: Any, seed: int) -> Design:
        """What the parameters make of it."""

    @abstractmethod
    def _info(self, backbone: Backbone) -> BackboneInfo:
        """What is told of it."""

    def _check_part(self, part: Part) -> None:
        """Refuse parameters that do not suit the items, or what is said of them."""
        return

    def _check_targets(self, items: Any, y: Any, name: str) -> None:
        """Refuse targets that do not suit the items, beyond their number."""
        return

    def _facts(self, fitted: Fitted) -> dict[str, Any]:
        """What decides a fit besides parameters, by what a message calls it."""
        return {}

    def _reading_of(self, items: Any, fitted: Fitted) -> Any:
        """How later input is to be read, now that these items were."""
        return fitted.reading

    @property
    def _augmentation(self) -> Augmentation | None:
        """How items are changed from epoch to epoch."""
        return None

    # What a pickle holds.

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return "_fitted" in vars(self)

    def __getstate__(self) -> dict[str, Any]:
        """What was trained, as arrays that load on any device; not what was published."""
        _check_functions({name: getattr(self, name, None) for name in _WITH_FUNCTIONS})
        state = dict(BaseEstimator.__getstate__(self))
        state.pop("net_", None)
        if "_fitted" in state:
            fitted, network = state["_fitted"], state["_network"]
            learnt = fitted.weights
            if isinstance(learnt, Model):
                learnt = learnt.learnt()
            if network is None and self.bundle_weights:
                network = self.backbone_.load()
            if isinstance(network, Backbone):
                network, learnt = _merged(network, learnt)
            state["_fitted"], state["_network"] = replace(fitted, weights=learnt), network
        return pack_state(state)


def _not_nested(key: str, name: str) -> str:
    """What to say of a name within a parameter whose value has no parameters."""
    option, hint = key.removeprefix("net_params__"), f"Set {name}= as a whole"
    if option.startswith(("optimizer__", "callbacks__")):
        hint = f'Set net_params={{"{option}": ...}}, or {name}= as a whole'
    return f"{shown(key)} is no parameter: {name}= holds nothing that has parameters. {hint}."


def _held_out(validation_data: Any, fitted: Fitted, columns: Any) -> Part:
    """Items to validate on, with their targets."""
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
        number = ""
        if isinstance(validation_data, (tuple, list)):
            number = f" of {len(validation_data)}; weights of what is validated on are not taken"
        raise ValueError(
            "validation_data= must be a pair (X, y) of samples and targets, got "
            f"{shown(type(validation_data).__name__)}{number}."
        )
    X, y = validation_data
    check_columns(columns, X, reset=False)
    items = fitted.reading.items(X)
    return Part(items, fitted.task.encode(y, items, "y of validation_data"), None)


# What a pickle holds.


# Parameters that may hold functions.
_WITH_FUNCTIONS = ("augment", "head", "optimizer", "schedule", "callbacks", "net_params")
# They copy functions that have no name to be found by.
_COPIERS = {"cloudpickle", "copy", "dill", "ray", "skops"}


def _check_functions(params: dict[str, Any]) -> None:
    """Say which parameter it is that pickle cannot save, where it is pickle that saves."""
    held = {name: one for name, one in params.items() if not isinstance(one, (str, type(None)))}
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
