"""What tells one call of `fit` from another of the same estimator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ._checkpoints import Checkpoints, Follower
from ._distributed import Team
from ._signature import Signature

__all__ = ["Run", "open_checkpoints"]


@dataclass(frozen=True)
class Run:
    """One call of `fit` or `partial_fit`.

    Attributes
    ----------
    epochs : int
        To learn for, those before it was killed included.
    go_on : bool
        Whether it begins with what was learnt before.
    saved : Checkpoints, Follower or None
    team : Team or None
        The processes that share the batches.
    final : bool
        Whether it leaves the fitted network, and not only a number of epochs.
    watched : dict
        What early stopping found, where all images are trained on afterwards: the history
        ("watched", as text), its length ("n_watched") and "best_epoch". Empty in any other fit.
    """

    epochs: int
    go_on: bool = False
    saved: Checkpoints | Follower | None = None
    team: Team | None = None
    final: bool = True
    watched: dict[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> dict[str, Any] | None:
        """The checkpoint to go on from; one of the watched epochs is none of the later fit."""
        state = None if self.saved is None else self.saved.state
        if state is None or bool(self.watched) != ("watched" in state):
            return None
        return state

    @property
    def refit(self) -> bool:
        """Whether all images are trained on after early stopping held some of them out."""
        return bool(self.watched)

    @property
    def leads(self) -> bool:
        """Whether this process prints."""
        return self.team is None or self.team.rank == 0


def open_checkpoints(
    folder: Any, signature: Signature, keep: int, team: Team | None
) -> Checkpoints | Follower:
    """The checkpoints of a fit; of several processes the first has them, and tells the others.

    Raises
    ------
    CheckpointError
        If they cannot be used; in every process.
    """
    if team is None:
        return Checkpoints(folder, signature, keep)
    saved, error, state, source = None, None, None, ""
    if team.rank == 0:
        try:
            saved = Checkpoints(folder, signature, keep)
            state, source = saved.state, saved.source
        except Exception as caught:
            error = caught
    error, state, source = team.same((error, state, source))
    if error is not None:
        raise error
    return Follower(state, source) if saved is None else saved
