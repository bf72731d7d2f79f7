"""Processes that share each batch: each computes a part, and all take the same step.

Losses hold the weight of the part in the whole batch, so that the sum of the gradients is that of
one process, also with uneven parts and sample weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .._optional import import_optional
from ..exceptions import TrainingError

__all__ = ["Team", "make_team"]


@dataclass(frozen=True)
class Team:
    """The processes of one fit.

    Attributes
    ----------
    rank, size : int
        Number of this process, and of all.
    device : torch.device
        Of this process.
    """

    rank: int
    size: int
    device: torch.device

    def part(self, n: int) -> slice:
        """Which of n examples are this process's share."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def same(self, value: Any) -> Any:
        """The first process's value, for all."""
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def check_same(self, value: Any, what: str) -> None:
        """Have every process stop if one has another value than the first."""
        differs = torch.tensor([float(self.same(value) != value)], device=self.device)
        torch.distributed.all_reduce(differs)
        if differs.item():
            raise TrainingError(
                f"Every process of a distributed fit must have the same {what}; those of "
                f"{int(differs.item())} of {self.size} differ from the first one's."
            )

    def align(self, module: nn.Module) -> None:
        """Begin with the first process's weights."""
        with torch.no_grad():
            for tensor in module.state_dict().values():
                torch.distributed.broadcast(tensor, src=0)

    def whole(self, out: torch.Tensor, n: int) -> torch.Tensor:
        """Outputs of all n examples, from each process's share."""
        return self._sum([self._placed(out, n)])[0]

    def combine(
        self, module: nn.Module, loss: torch.Tensor, out: torch.Tensor, n: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Put the gradients of the whole batch into the parameters.

        Parameters
        ----------
        module : torch.nn.Module
            With the gradients of this process's share.
        loss, out : Tensor
            Its share of the loss, and its outputs.
        n : int
            Examples in the whole batch.

        Returns
        -------
        loss, out : Tensor
            Of the whole batch.
        """
        learning = [p for p in module.parameters() if p.requires_grad]
        for one in learning:
            one.grad = torch.zeros_like(one) if one.grad is None else one.grad
        gradients = [p.grad for p in learning if p.grad is not None]
        moving = list(_statistics(module))
        # Statistics are averaged; losses and gradients already hold the weight of the share.
        own = [*gradients, *(one * (len(out) / n) for one in moving), loss.reshape(1)]
        *sums, total, out = self._sum([*own, self._placed(out, n)])
        with torch.no_grad():
            for old, new in zip((*gradients, *moving), sums, strict=True):
                old.copy_(new)
        return total[0], out

    def _placed(self, out: torch.Tensor, n: int) -> torch.Tensor:
        placed = out.new_zeros((n, *out.shape[1:]), dtype=torch.float32)
        placed[self.part(n)] = out.float()
        return placed

    def _sum(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        """Sum over the processes, in one message."""
        message = torch.cat([one.detach().float().flatten() for one in tensors])
        torch.distributed.all_reduce(message)
        sums = message.split([one.numel() for one in tensors])
        return [new.view(old.shape) for new, old in zip(sums, tensors, strict=True)]


def _statistics(module: nn.Module) -> Iterator[torch.Tensor]:
    """Means and variances of batch norms that follow the batches."""
    for one in module.modules():
        if isinstance(one, nn.modules.batchnorm._BatchNorm) and one.training:
            yield from (b for b in (one.running_mean, one.running_var) if b is not None)


def make_team(est: Any) -> Team | None:
    """The processes that accelerate or torchrun started; None where there is one alone.

    Raises
    ------
    ImportError
        If the package accelerate is missing.
    """
    if not est.distributed:
        return None
    PartialState = import_optional("accelerate", "distributed=True", "distributed").PartialState
    on_cpu = str(est.device).startswith("cpu")
    state = PartialState(cpu=True) if on_cpu else PartialState()
    if state.num_processes == 1:
        return None
    # It calls every CPU "cpu:0".
    device = torch.device("cpu") if state.device.type == "cpu" else state.device
    return Team(state.process_index, state.num_processes, device)
