"""The skorch nets that estimators make in `fit` and keep as `net_`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import Callback
from skorch.exceptions import SkorchException
from skorch.helper import predefined_split
from skorch.utils import to_tensor
from torch import nn
from torch.amp import GradScaler

from .._parameters import Training
from ..compute import within_memory
from ..exceptions import EngineError, SktransferError, TrainingError, shown
from ..networks import running
from ._activations import BatchIterator, Examples
from ._callbacks import (
    BestEpoch,
    Ledger,
    Line,
    NextView,
    changes_training,
    make_schedule,
    named_callbacks,
)
from ._checkpoints import Checkpointing, Run, restore
from ._gradients import Lot, Team, autocast_dtype, gradients
from ._model import Model
from ._parameter_groups import Rates, parameter_groups, plain_name
from ._rows import Batch
from ._tasks import Task, weighted_mean

__all__ = [
    "OPTIMIZERS",
    "ClassifierNet",
    "Recipe",
    "RegressorNet",
    "ScaledSteps",
    "make_net",
    "renew_net",
    "run_net",
]


# What one step of training does beyond the network, its loss and its optimizer.


@dataclass
class Recipe:
    """Everything about a step that the skorch net does not know of itself.

    Attributes
    ----------
    groups : callable
        Gives the optimizer's parameter groups of a module.
    task : Task
        Gives the loss.
    stage_of : dict of str to int
        The stage of each pretrained parameter.
    n_stages : int
    mixup : float
        Both parameters of the Beta distribution of mixing; 0 mixes nothing. Set by `Mixup`.
    l2_sp : float
        Strength of the pull towards the pretrained weights.
    autocast : torch.dtype or None
        What the network computes in.
    generator : numpy.random.Generator
        Draws the mixing.
    team : Team or None
        The processes that share each batch.
    anchors : dict of str to Tensor
        Pretrained values of what is trained, for `l2_sp`.

    References
    ----------
    X. Li, Y. Grandvalet, F. Davoine (2018). Explicit inductive bias for transfer learning with
    convolutional networks. ICML. Section 3 (L2-SP).
    """

    groups: Any
    task: Task
    stage_of: dict[str, int]
    n_stages: int
    mixup: float = 0.0
    l2_sp: float = 0.0
    autocast: torch.dtype | None = None
    generator: np.random.Generator = field(default_factory=np.random.default_rng)
    team: Team | None = None
    anchors: dict[str, torch.Tensor] = field(default_factory=dict)

    def remember(self, module: nn.Module, pretrained: Mapping[str, torch.Tensor]) -> None:
        """Take the pretrained values of trained weights as those to be pulled towards."""
        if self.l2_sp:
            self.anchors = {
                name: pretrained[plain_name(name)].detach().clone().to(value.device)
                for name, value in module.named_parameters()
                if value.requires_grad
                and name.startswith("tail.")
                and plain_name(name) in pretrained
            }

    def pull(self, module: nn.Module) -> torch.Tensor | float:
        """Half the squared distance to the pretrained weights, times its strength."""
        if not self.anchors:
            return 0.0
        own = dict(module.named_parameters())
        squares = [((own[name] - value) ** 2).sum() for name, value in self.anchors.items()]
        return 0.5 * self.l2_sp * torch.stack(squares).sum()

    def mix(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, float]:
        """Blend each example of a batch with another one.

        Returns
        -------
        mixed : Tensor
        partners : Tensor or None
            Number of the other example of each.
        share : float
            How much of the example itself is left.
        """
        if not self.mixup:
            return x, None, 1.0
        share = float(self.generator.beta(self.mixup, self.mixup))
        partners = torch.from_numpy(self.generator.permutation(len(x)))
        mixed = share * x.float() + (1 - share) * x.float()[partners]
        return mixed, partners, share


# The skorch net of a fit, and its epochs.


OPTIMIZERS: dict[str, Any] = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


def make_net(
    model: Model,
    task: Task,
    training: Training,
    device: torch.device,
    n_samples: int,
    seed: int,
    run: Run,
) -> Any:
    """A net that is initialised and has not been trained yet."""
    recipe = _recipe(model, task, training, device, seed, run.team)
    recipe.remember(model.module, model.table.parameters())
    optimizer = training.optimizer
    options: dict[str, Any] = {}
    if isinstance(optimizer, str):
        if optimizer == "sgd":
            options = {"optimizer__momentum": 0.9, "optimizer__nesterov": True}
        optimizer = OPTIMIZERS[optimizer]
        # One pass over weights, gradients and moments where torch has a dozen by default on CPUs.
        own = {"optimizer__foreach", "optimizer__differentiable"}
        if device.type == "cpu" and own.isdisjoint(training.net_params or {}):
            options["optimizer__fused"] = True
    params = {
        "module": model.module,
        "recipe": recipe,
        "optimizer": optimizer,
        "lr": training.lr,
        "max_epochs": run.epochs,
        "batch_size": training.batch_size,
        "iterator_train": BatchIterator,
        "iterator_train__generator": torch.Generator().manual_seed(seed),
        "iterator_train__joins_single": model.module.follows_batches,
        "iterator_valid": BatchIterator,
        "train_split": None,
        "device": str(device),
        "verbose": run.verbose,
        "callbacks": _callbacks(model, training, n_samples, run),
        "callbacks__print_log": Line() if run.verbose else None,
        **task.net_params,
        **options,
        **(training.net_params or {}),
    }
    try:
        return _NETS.get(task.kind, PlacesNet)(**params).initialize()
    except SktransferError:
        raise
    except (AttributeError, TypeError, ValueError) as error:
        raise TrainingError(
            "The net could not be made of optimizer=, schedule=, callbacks= and net_params=: "
            f"{shown(error).rstrip('.')}. Pass callbacks as instances, and the arguments of the "
            'optimizer by net_params={"optimizer__<name>": ...}.'
        ) from error


def _recipe(
    model: Model,
    task: Task,
    training: Training,
    device: torch.device,
    seed: int,
    team: Team | None,
) -> Recipe:
    return Recipe(
        groups=partial(
            parameter_groups,
            stage_of=model.stage_of,
            stages=[stage.name for stage in model.stages],
            rates=Rates(training.lr, training.backbone_lr_factor, training.layer_decay),
            weight_decay=training.weight_decay,
        ),
        task=task,
        stage_of=model.stage_of,
        n_stages=len(model.stages),
        l2_sp=training.l2_sp,
        autocast=autocast_dtype(training.amp, device, is_much_work=model.is_much_work),
        generator=np.random.default_rng(seed),
        team=team,
    )


def _callbacks(
    model: Model, training: Training, n_samples: int, run: Run
) -> list[tuple[str, Callback]]:
    p = training
    found: list[tuple[str, Callback | None]] = [
        ("ledger", Ledger()),
        ("next_view", NextView()),
        ("schedule", make_schedule(p.schedule, _n_steps(p, n_samples, run), p.warmup)),
    ]
    own = named_callbacks(p.callbacks)
    # The weights of the best epoch come back after all that changes them at the end.
    found += [pair for pair in own if changes_training(pair[1])]
    if p.early_stopping:
        warmup = math.ceil(p.warmup * run.epochs) if isinstance(p.schedule, str) else 0
        patience = math.inf if run.refit else p.patience
        stopping = BestEpoch(patience, warmup, restores=run.final and not run.refit)
        found.append(("early_stopping", stopping))
    found += [pair for pair in own if not changes_training(pair[1])]
    return [(name, one) for name, one in found if one is not None]


def _n_steps(training: Training, n_samples: int, run: Run) -> int:
    return run.epochs * math.ceil(n_samples / training.batch_size)


def renew_net(net: Any, training: Training, task: Task, n_samples: int, run: Run) -> None:
    """Have a net that continues follow the task and the schedule of this call."""
    net.recipe.task = task
    schedule = dict(net.callbacks_).get("schedule")
    fresh = make_schedule(training.schedule, _n_steps(training, n_samples, run), training.warmup)
    if isinstance(training.schedule, str) and schedule is not None:
        schedule.lr_lambda = fresh.lr_lambda  # type: ignore[union-attr]


def run_net(
    net: Any, examples: list[Examples], run: Run, *, seed: int, n_views: int, n_checked: int
) -> None:
    """Run the epochs, drawing from generators of their own and one that is put back.

    Parameters
    ----------
    net : skorch.NeuralNet
    examples : list of Examples
        To train on, and to validate on.
    run : Run
    seed : int
    n_views : int
        Kept in checkpoints.
    n_checked : int
        Samples whose loss is looked at after the last step.
    """
    net.set_params(train_split=predefined_split(examples[1]) if len(examples) > 1 else None)
    devices = [torch.device(net.device)] if "cuda" in net.device else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed + len(net.history))
        if run.team is not None:
            run.team.align(net.module_)
        if run.saved is None:
            _run_epochs(net, examples[0], run.epochs)
        else:
            facts = {"seed": seed, "n_views": n_views, **run.watched}
            first = run.watched.get("n_watched", 0)
            checkpointing = Checkpointing(run.saved, run.state, facts, first)
            _run_with_checkpoints(net, examples[0], run, checkpointing)
    if run.epochs and run.final:
        some = np.unique(np.linspace(0, len(examples[0]) - 1, n_checked).astype(int))
        net.check_end(examples[0].batch(some))


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


# Loss scaling: small gradients vanish in float16 unless the loss is made larger.
#
# Reference: P. Micikevicius et al. (2018). Mixed precision training. ICLR. Section 3.2.


# Lower than torch's own: fits are short, and each step that overflows is lost.
_FIRST = 2.0**12
_Mixin: Any = NeuralNet if TYPE_CHECKING else object


class ScaledSteps(_Mixin):
    """A skorch net whose loss is scaled while it computes in float16, and only then.

    A step whose gradients overflow is left out and the scale halved; after 2,000 good steps it is
    doubled.

    Attributes
    ----------
    scaler_ : torch.amp.GradScaler
    """

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """Begin with a fresh scale."""
        half = self.recipe.autocast is torch.float16
        device = torch.device(self.device).type
        self.scaler_ = GradScaler(device, init_scale=_FIRST, enabled=half)
        return super().initialize_optimizer(*args, **kwargs)

    def _step_optimizer(self, step_fn: Any) -> None:
        if step_fn is None or not self.scaler_.is_enabled():
            super()._step_optimizer(step_fn)
            return
        step_fn()
        self.scaler_.step(self.optimizer_)
        self.scaler_.update()


class _Steps(ScaledSteps):
    """How batches of activations, targets and weights are learnt from.

    Parameters
    ----------
    recipe : Recipe
    """

    def __init__(self, *args: Any, recipe: Recipe, **kwargs: Any):
        self.recipe = recipe
        super().__init__(*args, **kwargs)

    def get_params_for_optimizer(self, prefix: str, named_parameters: Any) -> Any:
        """The groups of the recipe in the place of all parameters."""
        args, kwargs = super().get_params_for_optimizer(prefix, named_parameters)
        if prefix == "optimizer":
            args = (self.recipe.groups(self.module_),)
        return args, kwargs

    def notify(self, method_name: str, **kwargs: Any) -> None:
        """Callbacks see batches as those of skorch: inputs and targets, without weights."""
        if kwargs.get("batch") is not None:
            x, (target, _) = kwargs["batch"]
            kwargs["batch"] = x, target
        super().notify(method_name, **kwargs)

    def run_single_epoch(self, *args: Any, **kwargs: Any) -> None:
        """One pass; notes whether Ctrl-C ended it, which skorch takes for the end of training."""
        self.interrupted_ = True
        super().run_single_epoch(*args, **kwargs)
        self.interrupted_ = False
        self._check_epoch()

    def _check_epoch(self) -> None:
        """Every batch of the epoch, on every device; skorch has brought the losses here anyway."""
        for row in self.history[-1]["batches"]:
            for name in ("train_loss", "valid_loss"):
                if not math.isfinite(row.get(name, 0.0)):
                    self._refuse(row[name])

    def train_step_single(self, batch: Any, **_: Any) -> dict[str, torch.Tensor]:
        """Gradients of one batch; of parts of it where memory does not hold it whole."""
        self._set_training(True)
        x, (target, weight) = batch
        team, n = self.recipe.team, len(x)
        own = Lot.of(self, x, target, weight)
        if team is not None:
            own = own.take(team.part(n), pulls=team.rank == team.size - 1)
        with running():
            try:
                loss, out = self._within_memory(own)
            except ValueError as error:
                if "more than 1 value per channel" not in str(error):
                    raise
                raise TrainingError(
                    'A batch norm that follows the batches needs at least 2 samples in each, '
                    f'got {n}. Take a larger batch_size, more samples, or batchnorm="frozen".'
                ) from error
        if team is not None:
            loss, out = team.combine(self.module_, loss, out, n)
        self._check(loss)
        self.scaler_.unscale_(self.optimizer_)
        return {"loss": loss, "y_pred": out}

    def _step_optimizer(self, step_fn: Any) -> None:
        try:
            super()._step_optimizer(step_fn)
        except (OverflowError, RuntimeError) as error:
            if "overflow" not in str(error):  # torch takes no step that float32 cannot hold
                raise
            self._refuse(math.inf)

    def _within_memory(self, lot: Lot) -> tuple[torch.Tensor, torch.Tensor]:
        def by(size: int) -> tuple[torch.Tensor, torch.Tensor]:
            if size < at_first:  # part of the gradients may be there
                self.optimizer_.zero_grad()
            return gradients(self, lot, size)

        at_first = min(getattr(self, "_part", len(lot)), len(lot))
        try:
            found, size = within_memory(by, at_first, self.device)
        except EngineError as error:
            raise TrainingError(
                f"The memory of {self.device} does not hold one sample. Train fewer stages, "
                "or take a smaller image_size; of texts a smaller max_tokens, or "
                'long_texts="head_tail".'
            ) from error
        if size < at_first:
            self._part = size
        return found

    def forward_batch(self, x: Any, *, learns: bool = False) -> torch.Tensor:
        """Outputs of a batch as float32; CPUs compute in half precision only to learn."""
        x = x.to(self.device) if isinstance(x, Batch) else to_tensor(x, device=self.device)
        dtype = self.recipe.autocast
        kind = torch.device(self.device).type
        half = dtype is not None and (learns or self.module_.training or kind != "cpu")
        with torch.autocast(kind, dtype=dtype or torch.bfloat16, enabled=half):
            return self.module_(x).float()

    def loss_of(self, out: Any, target: Any, weight: Any) -> torch.Tensor:
        """The weighted mean of the losses of a batch."""
        target, weight = (to_tensor(one, device=self.device) for one in (target, weight))
        return weighted_mean(self.recipe.task.losses(out, target), weight)

    def _check(self, loss: torch.Tensor) -> None:
        if torch.device(self.device).type == "cpu" and not torch.isfinite(loss):
            self._refuse(float(loss))

    def _refuse(self, loss: float) -> None:
        raise TrainingError(
            f"Training diverged: the loss became {loss:.3g} in epoch {len(self.history)}. Take a "
            f"smaller lr (now {self.lr:g}; see lr_find), or clip gradients by "
            "callbacks=[skorch.callbacks.GradientNormClipping(1.0)]."
        )

    def check_end(self, batch: Any) -> None:
        """Refuse a network that training spoilt; after the last step nobody has looked at the loss.

        Parameters
        ----------
        batch : (x, (target, weight))
            Examples that were trained on; what they lose is kept as `end_loss_`.

        Raises
        ------
        TrainingError
            If weights are no numbers, or the loss is out of all proportion.
        """
        x, (target, weight) = batch
        self._set_training(False)
        with running(), torch.no_grad():
            out = self.forward_batch(x, learns=True)
            self.end_loss_ = float(self.loss_of(out, target, weight))
        tensors = [one for one in self.module_.state_dict().values() if one.is_floating_point()]
        sound = bool(torch.stack([torch.isfinite(one).all() for one in tensors]).all())
        last = self.history[-1].get("train_loss", 0.0)
        most = self.recipe.task.absurd * self.recipe.task.guess(target)
        if not (sound and self.end_loss_ <= most and last <= most):
            self._refuse(max(self.end_loss_, last) if sound else math.nan)

    def validation_step(self, batch: Any, **_: Any) -> dict[str, torch.Tensor]:
        self._set_training(False)
        x, (target, weight) = batch
        team, n = self.recipe.team, len(x)
        with running(), torch.no_grad():
            out = self.forward_batch(x if team is None else x[team.part(n)])
            out = out if team is None else team.whole(out, n)
            return {"loss": self.loss_of(out, target, weight), "y_pred": out}

    def evaluation_step(self, batch: Any, training: bool = False) -> torch.Tensor:
        self.check_is_fitted()
        x = batch[0] if isinstance(batch, (tuple, list)) else batch
        with running(), torch.set_grad_enabled(training):
            self._set_training(training)
            return self.forward_batch(x)


class ClassifierNet(_Steps, NeuralNetClassifier):
    """A skorch classifier whose batches hold weights beside targets."""


class RegressorNet(_Steps, NeuralNetRegressor):
    """A skorch regressor whose batches hold weights beside targets."""


class TagsNet(ClassifierNet):
    """A skorch classifier that answers yes or no for each of several tags."""

    def predict(self, X: Any) -> np.ndarray:
        """Whether each tag is more likely than not."""
        return (self.predict_proba(X) > 0.5).astype(np.int64)


class PlacesNet(_Steps, NeuralNet):
    """A skorch net that gives scores of every word of a text, or of places of an image."""


_NETS: dict[str, Any] = {"labels": ClassifierNet, "values": RegressorNet, "tags": TagsNet}
