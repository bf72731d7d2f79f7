"""The skorch nets that estimators make in `fit` and keep as `net_`."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.utils import to_tensor

from ..backbones._gate import running
from ..exceptions import EngineWarning, TrainingError
from ._gradients import Lot, gradients
from ._recipe import Recipe, weighted_mean
from ._scaling import ScaledSteps

__all__ = ["ClassifierNet", "RegressorNet"]

# How many times the loss of guessing no training can end with: of logarithms, and of squares.
_ABSURD, _ABSURD_SQUARE = 1e4, 1e16


class _Steps(ScaledSteps):
    """How batches of activations, targets and weights are learnt from.

    Parameters
    ----------
    recipe : Recipe
    """

    is_of_classes = False

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
            loss, out = self._within_memory(own)
        if team is not None:
            loss, out = team.combine(self.module_, loss, out, n)
        self._check(loss)
        self.scaler_.unscale_(self.optimizer_)
        if self.recipe.clip_grad is not None:
            self._clip(self.recipe.clip_grad)
        return {"loss": loss, "y_pred": out}

    def _step_optimizer(self, step_fn: Any) -> None:
        try:
            super()._step_optimizer(step_fn)
        except (OverflowError, RuntimeError) as error:
            if "overflow" not in str(error):  # torch takes no step that float32 cannot hold
                raise
            self._refuse(math.inf)

    def _within_memory(self, lot: Lot) -> tuple[torch.Tensor, torch.Tensor]:
        size = getattr(self, "_part", len(lot))
        while True:
            try:
                return gradients(self, lot, size)
            except torch.cuda.OutOfMemoryError as error:
                if size == 1:
                    raise TrainingError(
                        f"The memory of {self.device} does not hold one image. Train fewer stages, "
                        "or take a smaller image_size."
                    ) from error
                size = self._part = -(-min(size, len(lot)) // 2)
                self.optimizer_.zero_grad()
                torch.cuda.empty_cache()
                warnings.warn(
                    f"The memory of {self.device} does not hold the batch; its gradients are "
                    f"summed over parts of {size}, which gives the same.",
                    EngineWarning,
                    stacklevel=2,
                )

    def forward_batch(self, x: torch.Tensor, *, learns: bool = False) -> torch.Tensor:
        """Outputs of a batch as float32; CPUs compute in half precision only to learn."""
        x = to_tensor(x, device=self.device)
        dtype = self.recipe.autocast
        kind = torch.device(self.device).type
        half = dtype is not None and (learns or self.module_.training or kind != "cpu")
        with torch.autocast(kind, dtype=dtype or torch.bfloat16, enabled=half):
            return self.module_(x).float()

    def loss_of(self, out: Any, target: Any, weight: Any) -> torch.Tensor:
        """The weighted mean of the losses of a batch."""
        target, weight = (to_tensor(one, device=self.device) for one in (target, weight))
        return weighted_mean(self.losses(out, target), weight)

    def _clip(self, norm: float) -> None:
        learning = [p for group in self.optimizer_.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(learning, norm)

    def _check(self, loss: torch.Tensor) -> None:
        if torch.device(self.device).type == "cpu" and not torch.isfinite(loss):
            self._refuse(float(loss))

    def _refuse(self, loss: float) -> None:
        raise TrainingError(
            f"Training diverged: the loss became {loss:.3g} in epoch {len(self.history)}. Take a "
            f"smaller lr (now {self.lr:g}; see lr_find), or clip_grad=1.0."
        )

    def check_end(self, batch: Any, guess: float) -> None:
        """Refuse a network that training spoilt; after the last step nobody has looked at the loss.

        Parameters
        ----------
        batch : (x, (target, weight))
            Examples that were learnt from; what they lose is kept as `end_loss_`.
        guess : float
            The loss of a network that has learnt nothing.

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
        most = (_ABSURD if self.is_of_classes else _ABSURD_SQUARE) * guess
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

    is_of_classes = True

    def losses(self, out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss of each example."""
        return self.recipe.classification(out, target)


class RegressorNet(_Steps, NeuralNetRegressor):
    """A skorch regressor whose batches hold weights beside targets."""

    def losses(self, out: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """The loss of each example."""
        return self.recipe.regression(out, target)
