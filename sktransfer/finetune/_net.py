"""The skorch nets that estimators make in `fit` and keep as `net_`."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.utils import to_tensor

from ..backbones._gate import running
from ..exceptions import EngineWarning, TrainingError
from ._recipe import Recipe

__all__ = ["ClassifierNet", "RegressorNet"]


class _Steps:
    """How batches of activations, targets and weights are learnt from.

    Parameters
    ----------
    recipe : Recipe
    """

    def __init__(self, *args: Any, recipe: Recipe | None = None, **kwargs: Any):
        self.recipe = recipe
        super().__init__(*args, **kwargs)

    def get_params_for_optimizer(self, prefix: str, named_parameters: Any) -> Any:
        """The groups of the recipe in the place of all parameters."""
        args, kwargs = super().get_params_for_optimizer(prefix, named_parameters)  # type: ignore[misc]
        if prefix == "optimizer" and self.recipe is not None:
            args = (self.recipe.groups(self.module_),)
        return args, kwargs

    def train_step_single(self, batch: Any, **_: Any) -> dict[str, torch.Tensor]:
        """Gradients of one batch; of parts of it where memory does not hold it whole."""
        self._set_training(True)
        x, (target, weight) = batch
        x, partners, share = self.recipe.mix(x)
        others, n, team = None if partners is None else target[partners], len(x), self.recipe.team
        masses = self._mass(target, weight), self._mass(target if others is None else others, weight)
        pulls = team is None or team.rank == team.size - 1
        if team is not None:
            part = team.part(n)
            x, target, weight = x[part], target[part], weight[part]
            others = None if others is None else others[part]
        size = getattr(self, "_part", len(x))
        while True:
            try:
                with running():
                    loss, out = self._parts(x, target, weight, others, share, size, masses, pulls)
                break
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

        if team is not None:
            loss, out = team.combine(self.module_, loss, out, n)
        self._check(loss)
        if self.recipe.clip_grad is not None:
            self._clip()
        return {"loss": loss, "y_pred": out}

    def _parts(  # type: ignore[no-untyped-def]
        self, x, target, weight, others, share, size, masses, pulls
    ):
        # Each part weighs what its examples weigh in the whole batch.
        if not len(x):
            return self._nothing(x)
        total, outs = 0.0, []
        for start in range(0, len(x), size):
            part = slice(start, start + size)
            out = self._forward(x[part])
            loss = self._share(out, target[part], weight[part], masses[0]) * share
            if others is not None:
                loss = loss + self._share(out, others[part], weight[part], masses[1]) * (1 - share)
            if start == 0 and pulls:
                loss = loss + self.recipe.pull(self.module_)
            self._backward(loss)
            total, outs = total + loss.detach(), [*outs, out.detach()]
        return total, torch.cat(outs)

    def _nothing(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Where there are more processes than examples: no loss, and outputs of no example."""
        self._set_training(False)
        with torch.no_grad():
            out = self._forward(x)
        self._set_training(True)
        return out.new_zeros(()), out

    def _mass(self, target: torch.Tensor, weight: torch.Tensor) -> float:
        classes = self.recipe.class_weight
        weights = weight if classes is None else weight * classes.to(weight.device)[target]
        return float(weights.sum())

    def _share(self, out: Any, target: Any, weight: Any, whole: float) -> torch.Tensor:
        return self._loss(out, target, weight) * (self._mass(target, weight) / max(whole, 1e-12))

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

    def _clip(self) -> None:
        learning = [p for group in self.optimizer_.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(learning, self.recipe.clip_grad)

    def _check(self, loss: torch.Tensor) -> None:
        if torch.device(self.device).type == "cpu" and not torch.isfinite(loss):
            raise TrainingError(
                f"The loss became {float(loss)} in epoch {len(self.history)}. Take a smaller lr "
                f"(now {self.lr:g}), or clip_grad=1.0."
            )

    def validation_step(self, batch: Any, **_: Any) -> dict[str, torch.Tensor]:
        self._set_training(False)
        x, (target, weight) = batch
        team, n = self.recipe.team, len(x)
        with running(), torch.no_grad():
            out = self._forward(x if team is None else x[team.part(n)])
            out = out if team is None else team.whole(out, n)
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
