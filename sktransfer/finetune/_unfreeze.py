"""More of the network begins to learn; what was learnt stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..exceptions import LayerError
from ._fitted import model_of
from ._model import build_model
from ._parameters import learning_names

if TYPE_CHECKING:
    from ._base import FineTuneBase

__all__ = ["unfreeze"]


def unfreeze(est: FineTuneBase, trainable: str | int | Sequence[str]) -> None:
    """Cut the network of a fitted estimator earlier, and put back what was learnt.

    Raises
    ------
    LayerError
        If `trainable` names nothing, or leaves out what has learnt already.
    """
    old = model_of(est)
    names = learning_names(old.table, old.stages, trainable)
    before = learning_names(old.table, old.stages, est._fitted.design.trainable)
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
