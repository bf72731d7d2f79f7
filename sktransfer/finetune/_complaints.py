"""What is warned of: parameters without effect, and training that made things worse."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

from sklearn.base import is_classifier

from ..exceptions import DivergenceWarning, SktransferWarning
from ._callbacks import stages_begun
from ._run import Run

if TYPE_CHECKING:
    from ._base import FineTuneBase

__all__ = ["warn_if_diverged", "warn_if_few_are_held_out", "warn_of_waiting_stages"]

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
    # Classes that are all as likely; targets of regression have a variance of one.
    guess = math.log(est._fitted.design.n_outputs) if is_classifier(est) else 1.0
    # A classifier that began as a linear probe began below that.
    from_probe = is_classifier(est) and est.head_init == "linear_probe"
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
