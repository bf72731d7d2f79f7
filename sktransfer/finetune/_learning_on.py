"""What an estimator does besides `fit`: let more layers learn, and look for a learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from sklearn.utils.validation import check_is_fitted

from ._lr_find import LearningRateRange, find_range
from ._unfreeze import unfreeze

__all__ = ["LearningOn"]


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
