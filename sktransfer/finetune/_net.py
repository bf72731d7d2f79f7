"""The skorch nets that estimators make in `fit` and keep as `net_`."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor
from skorch.utils import to_tensor

from ..backbones._gate import running
from ..exceptions import EngineWarning, TrainingError
from ._recipe import Recipe

__all__ = ["ClassifierNet", "RegressorNet"]


_Mixin: Any = NeuralNet if TYPE_CHECKING else object


class _Steps(_Mixin):
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

    def train_step_single(self, batch: Any, **_: Any) -> dict[str, torch.Tensor]:
        """Gradients of one batch; of parts of it where memory does not hold it whole."""
        self._set_training(True)
        x, (target, weight) = batch
        x, partners, share = self.recipe.mix(x)
        size = getattr(self, "_part", len(x))
        while True:
            try:
                with running():
                    return self._parts(x, target, weight, partners, share, size)
            except torch.cuda.OutOfMemoryError as error:
                if size == 1:
                    raise TrainingError(
                        f"The memory of {self.device} does not hold one image. Train fewer stages, "
                        "or take a smaller image_size."
                    ) from error
                size = self._part = -(-min(size, len(x)) // 2)
                self.optimizer_.zero_grad()
                torch.cuda.empty_cache()
                warnings.warn(
                    f"The memory of {self.device} does not hold the batch; its gradients are "
                    f"summed over parts of {size}, which gives the same.",
                    EngineWarning,
                    stacklevel=2,
                )

    def _parts(
        self, x: Any, target: Any, weight: Any, partners: Any, share: float, size: int
    ) -> dict[str, torch.Tensor]:
        total, whole = torch.zeros(()), float(self._mass(target, weight))
        outs: list[torch.Tensor] = []
        for start in range(0, len(x), size):
            part = slice(start, start + size)
            out = self._forward(x[part])
            mass = float(self._mass(target[part], weight[part])) / max(whole, 1e-12)
            loss = self._loss(out, target[part], weight[part]) * share
            if partners is not None:
                other = partners[part]
                loss = loss + self._loss(out, target[other], weight[part]) * (1 - share)
            loss = loss * (mass if size < len(x) else 1.0)
            if start == 0:
                loss = loss + self.recipe.pull(self.module_)
            self._backward(loss)
            total = total.to(loss.device) + loss.detach()
            outs.append(out.detach())
        self._check(total)
        if self.recipe.clip_grad is not None:
            self._clip(self.recipe.clip_grad)
        return {"loss": total, "y_pred": torch.cat(outs)}

    def _mass(self, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        classes = self.recipe.class_weight
        if classes is None:
            return weight.sum()
        return (weight * classes.to(target.device)[target]).sum()

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        x = to_tensor(x, device=self.device)
        dtype = self.recipe.autocast
        kind = torch.device(self.device).type
        with torch.autocast(kind, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            return self.module_(x)

    def _loss(self, out: Any, target: Any, weight: Any) -> torch.Tensor:
        target, weight = (to_tensor(one, device=self.device) for one in (target, weight))
        return self._criterion(out, target, weight)

    def _backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def _clip(self, norm: float) -> None:
        learning = [p for group in self.optimizer_.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(learning, norm)

    def _check(self, loss: torch.Tensor) -> None:
        if torch.device(self.device).type == "cpu" and not torch.isfinite(loss):
            raise TrainingError(
                f"The loss became {float(loss)} in epoch {len(self.history)}. Take a smaller lr "
                f"(now {self.lr:g}), or clip_grad=1.0."
            )

    def validation_step(self, batch: Any, **_: Any) -> dict[str, torch.Tensor]:
        self._set_training(False)
        x, (target, weight) = batch
        with running(), torch.no_grad():
            out = self._forward(x)
            return {"loss": self._loss(out, target, weight), "y_pred": out}

    def evaluation_step(self, batch: Any, training: bool = False) -> torch.Tensor:
        self.check_is_fitted()
        x = batch[0] if isinstance(batch, (tuple, list)) else batch
        with running(), torch.set_grad_enabled(training):
            self._set_training(training)
            return self._forward(x)


class ClassifierNet(_Steps, NeuralNetClassifier):
    """A skorch classifier whose batches hold weights beside targets."""

    def _criterion(self, out: Any, target: Any, weight: Any) -> torch.Tensor:
        return self.recipe.classification(out, target, weight)


class RegressorNet(_Steps, NeuralNetRegressor):
    """A skorch regressor whose batches hold weights beside targets."""

    def _criterion(self, out: Any, target: Any, weight: Any) -> torch.Tensor:
        return self.recipe.regression(out, target, weight)
