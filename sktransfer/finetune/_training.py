"""One call of `fit` or `partial_fit`: from items and a model to a model that is trained."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from skorch.history import History

from .._parameters import Activations, Augmentation, Training
from ..compute import FrozenPass
from ..exceptions import DivergenceWarning, SktransferWarning
from ..inputs import Subset
from ._activations import Examples, Storage, Views, choose_storage, room_for
from ._augment import make_augment
from ._callbacks import changes_training, gradual_unfreeze, named_callbacks
from ._checkpoints import Run, from_json, to_json, watched_of
from ._checks import monitors_validation
from ._head_init import fit_head, train_head
from ._model import Model
from ._net import make_net, renew_net, run_net
from ._parameter_groups import LayerState, Rates, home_name, layer_states
from ._rows import rows_of, sizes_of
from ._tasks import Task

__all__ = ["Part", "Trained", "Trainer"]


_PLACES = {"memory": "in memory", "disk": "on disk", "nowhere": "nowhere"}
# How many times the loss of a network that has learnt nothing is no longer noise.
_WORSE = 2.0
# Below that the accuracy of what is held out is known to some four points at best.
_FEW = 100


@dataclass(frozen=True)
class Part:
    """Items with targets and weights."""

    items: Any
    target: np.ndarray
    weight: np.ndarray | None
    # What moves with the items where they are augmented.
    moving: Any = None

    def weighed(self, task: Task) -> Part:
        """The same with the weights of classes in those of items."""
        return replace(self, weight=task.sample_weights(self.target, self.weight))

    def take(self, numbers: np.ndarray) -> Part:
        weight = None if self.weight is None else self.weight[numbers]
        moving = None if self.moving is None else Subset(self.moving, numbers)
        return Part(Subset(self.items, numbers), self.target[numbers], weight, moving)


@dataclass(frozen=True)
class Trained:
    """What a call leaves, besides the weights of the model.

    Attributes
    ----------
    net : skorch.NeuralNet
    history : History
        Of all epochs so far.
    layers : list of LayerState
    n_views : int
    best_epoch : int or None
        By what was held out, where early stopping held anything out.
    """

    net: Any
    history: History
    layers: list[LayerState]
    n_views: int
    best_epoch: int | None


@dataclass(frozen=True)
class Trainer:
    """How a model is trained, whatever the items.

    Attributes
    ----------
    model : Model
        Trained in place.
    prefix : FrozenPass
        Its frozen part, which runs on the devices of this process.
    task : Task
    training : Training
    activations : Activations
    augmentation : Augmentation or None
        How items are changed from epoch to epoch.
    head_init : str
        As in the estimator.
    seed : int
        Draws all that is drawn.
    run : Run
    """

    model: Model
    prefix: FrozenPass
    task: Task
    training: Training
    activations: Activations
    augmentation: Augmentation | None
    head_init: str
    seed: int
    run: Run

    def fit(self, every: Part, held_out: Part | None, groups: Any, history: History) -> Trained:
        """Train with a new net, and find the best epoch where early stopping asks for it.

        Parameters
        ----------
        every : Part
            Items to train on.
        held_out : Part or None
            Items to validate on; early stopping splits some off where there are none.
        groups : array-like or None
            Items of one group stay together when it does.
        history : History
            Of what was trained before.
        """
        if not self.training.early_stopping:
            return self.train(every, held_out, history)
        part = every
        if held_out is None:
            fraction = self.training.validation_fraction
            sides = self.task.split(every.target, groups, fraction, self.seed)
            part, held_out = (every.take(np.sort(side)) for side in sides)
        _warn_if_few_are_held_out(len(held_out.target))
        if part is every or not _can_be_trained_anew(self.training):
            return self.train(part, held_out, history)
        return self._train_for_best_epochs(every, part, held_out, history)

    def train(
        self, part: Part, validate: Part | None, history: History, net: Any = None
    ) -> Trained:
        """Run the epochs; a net that is given continues with its optimizer and its callbacks."""
        run, model = self.run, self.model
        if not run.continues and not run.refit:
            self._warn_of_waiting_stages()
        if not run.continues and run.state is None:
            self._start_head(part)
        model.module.to(torch.device(self.prefix.settings.device[0]))
        sizes = sizes_of(part.items, self.prefix)
        storage = self._storage(part, sizes)
        views = [self._views(part, storage, sizes)]
        examples = [Examples(views[0], part.target, part.weight)]
        if validate is not None:
            views.append(self._views_to_validate(validate))
            examples.append(Examples(views[1], validate.target, validate.weight))
        try:
            if net is None:
                net = self.make_net(len(part.target), history)
            else:
                renew_net(net, self.training, self.task, len(part.target), run)
            batch = self.training.batch_size
            run_net(net, examples, run, seed=self.seed, n_views=storage.n_views, n_checked=batch)
        finally:
            for one in views:
                one.close()
        model.module.eval()
        best = None
        if self.training.early_stopping and validate is not None and not run.refit:
            best = dict(net.callbacks_)["early_stopping"].best_epoch_
        if run.leads and run.final:
            self._warn_if_diverged(net)
        return Trained(net, net.history, self._layers(net), storage.n_views, best)

    def make_net(self, n_samples: int, history: Sequence[Any]) -> Any:
        """A net with the history so far, whose optimizer begins again."""
        device = torch.device(self.prefix.settings.device[0])
        self.model.module.to(device)
        net = make_net(
            self.model, self.task, self.training, device, n_samples, self.seed, self.run
        )
        net.history_ = History(history)
        self.model.module.eval()
        return net

    def _train_for_best_epochs(
        self, every: Part, part: Part, validate: Part, before: History
    ) -> Trained:
        """Find the best number of epochs on what is held out, then train on all for so many.

        What comes out is what a fit of so many epochs gives that holds nothing out, bit for bit:
        its schedule ends with the last of them. The history is that of the validated epochs.
        """
        run, start = self.run, self.model.learnt()
        found = watched_of(run.saved)
        if found is not None:
            history = from_json(found["watched"])
        else:
            trained = replace(self, run=replace(run, final=False)).train(part, validate, before)
            history = trained.history
            found = {
                "watched": to_json(history),
                "n_watched": len(history),
                "best_epoch": trained.best_epoch,
            }
            if run.team is not None:
                found = run.team.same(found)
            self.model.load(start)
        best = found["best_epoch"]
        if run.verbose:
            print(
                f"Epoch {best} was the best of {found['n_watched']} by the "
                f"{len(validate.target)} samples held out; training again on all "
                f"{len(every.target)} for that number of epochs."
            )
        again = replace(self, run=replace(run, epochs=best - len(before), watched=found))
        own = [one for _, one in named_callbacks(self.training.callbacks)]
        watched = not all(map(changes_training, own))  # by callbacks that score or log
        trained = again.train(every, validate if watched else None, before)
        trained.net.history_ = history
        return replace(trained, history=history, best_epoch=best)

    def _start_head(self, part: Part) -> None:
        if self.head_init == "random":
            return
        if self.model.taps:
            self._start_head_of_maps(part)
            return
        codes = self.model.first_codes(self.prefix, part.items)
        codes, target, weight = self.task.for_head(codes, part.target, part.weight)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            fit_head(self.model.module.head, codes, target, weight, self.task)

    def _start_head_of_maps(self, part: Part) -> None:
        """Begin with what a convex fit gives, or a head that was trained alone."""
        module, task = self.model.module, self.task
        taps = self.prefix.at(self.model.taps, None)
        n_bytes = len(part.items) * math.prod(taps.shape) * taps.dtype.itemsize
        with room_for(n_bytes) as path:
            rows = rows_of(part.items, taps, taps.dtype, path=path)

            def maps_of(numbers: np.ndarray) -> Any:
                return module.as_maps(rows.take(numbers))

            if task.fit_on_maps(module.head, maps_of, part.target, part.weight, self.seed):
                return
            if self.model.stages_learn:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(self.seed)
                    train_head(
                        module.head, maps_of, part.target, part.weight, task,
                        lr=self.training.lr, batch_size=self.training.batch_size, seed=self.seed,
                    )  # fmt: skip

    def _storage(self, part: Part, sizes: np.ndarray | None) -> Storage:
        prefix, run, wanted = self.prefix, self.run, self.activations
        storage = choose_storage(
            self._n_bytes(part, sizes, wanted.activation_dtype),
            # What memory allowed when the fit began.
            views=self._most_views if run.state is None else run.state["n_views"],
            augmented=self._augment is not None,
            from_pixels=not prefix.layers,
            epochs=run.epochs,
            asked=wanted.cache_activations,
        )
        if run.verbose and prefix.layers:
            print(
                f"Frozen up to {prefix.layers[-1].name!r}: {storage.n_views} augmented "
                f"version(s) of {len(part.items)} {part.items.noun}s, "
                f"{storage.n_bytes / 2**20:.0f} MB, kept {_PLACES[storage.where]}."
            )
        return storage

    def _n_bytes(self, part: Part, sizes: np.ndarray | None, dtype: str) -> int:
        """What one view of some items takes."""
        prefix = self.prefix
        held = np.dtype(dtype) if prefix.layers else prefix.dtype
        numbers = len(part.items) * math.prod(prefix.shape)
        if sizes is not None:
            numbers = int(sizes.prod(axis=1).sum()) * prefix.shape[-1]
        return numbers * held.itemsize

    def _views_to_validate(self, part: Part) -> Views:
        """Of items as they are, in memory where there is room."""
        where = "memory"
        if self.model.taps:
            where = choose_storage(
                self._n_bytes(part, None, "float32"), views=None, augmented=False,
                from_pixels=not self.prefix.layers, epochs=self.run.epochs, asked="auto",
            ).where  # fmt: skip
        return Views(part.items, self.prefix, None, 1, where=where, dtype="float32")

    def _views(self, part: Part, storage: Storage, sizes: np.ndarray | None) -> Views:
        return Views(
            part.items,
            self.prefix,
            make_augment(self._augment, part.moving),
            storage.n_views,
            where=storage.where,
            dtype=self.activations.activation_dtype,
            sizes=sizes,
            moving=part.moving,
        )

    @property
    def _augment(self) -> Any:
        return None if self.augmentation is None else self.augmentation.augment

    @property
    def _most_views(self) -> int | None:
        return None if self.augmentation is None else self.augmentation.augment_views

    def _layers(self, net: Any) -> list[LayerState]:
        p, model, gradual = self.training, self.model, gradual_unfreeze(self.training.callbacks)
        return layer_states(
            model.module,
            model.names,
            model.stages,
            Rates(p.lr, p.backbone_lr_factor, p.layer_decay),
            model.table.parameters(),
            begun=None if gradual is None else gradual.stages_begun(len(net.history)),
        )

    def _warn_of_waiting_stages(self) -> None:
        """Some stage does not begin to be trained in so few epochs."""
        gradual, epochs = gradual_unfreeze(self.training.callbacks), self.run.epochs
        if gradual is None or not epochs:
            return
        model = self.model
        trained = {home_name(n) for n, p in model.module.named_parameters() if p.requires_grad}
        stages = {model.stage_of[name] for name in trained if name in model.stage_of}
        needed = len(model.stages) - min(stages, default=len(model.stages))
        begun = gradual.stages_begun(epochs)
        if begun < needed:
            what = "the head alone is trained" if not begun else f"{begun} of {needed} are trained"
            warnings.warn(
                f"{gradual!r} needs {needed * gradual.every + 1} epochs for all {needed} stages to "
                f"begin, but max_epochs={epochs}: {what}.",
                SktransferWarning,
                stacklevel=2,
            )

    def _warn_if_diverged(self, net: Any) -> None:
        """The loss of the last epoch is larger than that of guessing: lr is too large."""
        losses = [row["train_loss"] for row in net.history if "train_loss" in row]
        if not losses:
            return
        guess = self.task.guess()
        from_probe = self.task.starts_below_guessing and self.head_init == "linear_probe"
        restored = self.training.early_stopping and not self.run.refit
        loss = min(losses) if restored else losses[-1]
        end = getattr(net, "end_loss_", 0.0)  # after the last step
        if end > guess * _WORSE:
            loss = max(loss, end)
        if loss > guess * (1.0 if from_probe else _WORSE):
            warnings.warn(
                f"Training diverged: the loss is {loss:.3g}, but guessing gives {guess:.3g}. Take "
                f"a smaller lr than {self.training.lr:g} (see "
                "lr_find), or clip gradients by "
                "callbacks=[skorch.callbacks.GradientNormClipping(1.0)].",
                DivergenceWarning,
                stacklevel=2,
            )


def _can_be_trained_anew(training: Training) -> bool:
    """Whether the best number of epochs can be trained for again.

    A schedule of the user's own was made for as many steps as the first fit has, and what monitors
    validation has nothing to look at in a second one.
    """
    own = [one for _, one in named_callbacks(training.callbacks)]
    return isinstance(training.schedule, str) and not any(map(monitors_validation, own))


def _warn_if_few_are_held_out(n: int) -> None:
    """So few samples seldom tell one epoch from another."""
    if n < _FEW:
        held_out = "1 sample is held out" if n == 1 else f"{n} samples are held out"
        warnings.warn(
            f"early_stopping=True needs some {_FEW} samples to find the best epoch, and "
            f"{held_out}: training will seldom end before max_epochs. Leave it off, since the "
            "schedule ends by itself, or pass more by validation_fraction= or validation_data=.",
            SktransferWarning,
            stacklevel=2,
        )
