"""Gradients of a batch: shard by shard on CPUs, whole or in parts on accelerators.

On a CPU a batch is cut into shards of eight that are computed side by side, each on one core,
and summed in order. Several shards on one thread each beat one batch on several threads, and
the result has the same bits whatever the number of cores.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ..engines import worker_pool

__all__ = ["Dropout", "Lot", "gradients", "own_draws"]

_SHARD = 8
_of_thread = threading.local()


@dataclass(frozen=True)
class Lot:
    """Examples of one step.

    Attributes
    ----------
    x, target, weight : Tensor
    others : (Tensor, Tensor) or None
        Targets that were mixed in, and their weights.
    share : float
        How much of the loss is that of `target`.
    mass : float
        What the whole batch weighs.
    pulls : bool
        Whether the pull towards the pretrained weights is counted here.
    """

    x: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor
    others: tuple[torch.Tensor, torch.Tensor] | None
    share: float
    mass: float
    pulls: bool = True

    @classmethod
    def of(cls, net: Any, x: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> Lot:
        """A whole batch, mixed as the recipe says."""
        x, partners, share = net.recipe.mix(x)
        others = None if partners is None else (target[partners], weight[partners])
        return cls(x, target, weight, others, share, float(weight.sum()))

    def __len__(self) -> int:
        return len(self.x)

    def take(self, part: slice, *, pulls: bool) -> Lot:
        """Some of the examples; they weigh what they weigh in the whole batch."""
        others = None if self.others is None else (self.others[0][part], self.others[1][part])
        return replace(
            self,
            x=self.x[part],
            target=self.target[part],
            weight=self.weight[part],
            others=others,
            pulls=pulls and self.pulls,
        )

    def loss(self, net: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The share of these examples in the loss of the batch, and their outputs."""
        out = net.forward_batch(self.x)
        loss = self._of(net, out, self.target, self.weight) * self.share
        if self.others is not None:
            loss = loss + self._of(net, out, *self.others) * (1 - self.share)
        return loss, out

    def _of(self, net: Any, out: Any, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        share = float(weight.sum()) / max(self.mass, 1e-12)
        return net.loss_of(out, target, weight) * share


def gradients(net: Any, lot: Lot, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Leave the gradients of some examples in the parameters; give their loss and outputs.

    Parameters
    ----------
    net : skorch.NeuralNet
    lot : Lot
    size : int
        Most examples that go through an accelerator together.
    """
    if not len(lot):
        return _nothing(net, lot)
    on_cpu = torch.device(net.device).type == "cpu"
    if on_cpu and not net.module_.live_norms:
        loss, outs = _by_shards(net, lot)
    else:
        loss, outs = _by_parts(net, lot, size)
    if lot.pulls and net.recipe.anchors:
        pull = net.recipe.pull(net.module_)
        if pull.requires_grad:  # gradual unfreezing begins with the head alone
            net.scaler_.scale(pull).backward()
        loss = loss + pull.detach()
    return loss, torch.cat(outs)


def _by_parts(net: Any, lot: Lot, size: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    total = torch.zeros((), device=net.device)
    outs: list[torch.Tensor] = []
    for start in range(0, len(lot), size):
        loss, out = lot.take(slice(start, start + size), pulls=False).loss(net)
        net.scaler_.scale(loss).backward()
        total = total + loss.detach()
        outs.append(out.detach())
    return total, outs


def _by_shards(net: Any, lot: Lot) -> tuple[torch.Tensor, list[torch.Tensor]]:
    learning = [p for p in net.module_.parameters() if p.requires_grad]
    # Rows are so little work that cutting them costs more than it wins.
    size = _SHARD if lot.x.ndim > 2 else len(lot)
    seeds = torch.randint(2**62, (-(-len(lot) // size),)).tolist()

    def work(number: int) -> Any:
        part = slice(number * size, (number + 1) * size)
        with torch.enable_grad(), own_draws(seeds[number]):
            loss, out = lot.take(part, pulls=False).loss(net)
            scaled = net.scaler_.scale(loss)
            found = torch.autograd.grad(scaled, learning, allow_unused=True)
        return loss.detach(), out.detach(), found

    shards = [future.result() for future in [_submit(work, i) for i in range(len(seeds))]]
    total = torch.zeros(())
    for loss, _, found in shards:
        total = total + loss
        for parameter, gradient in zip(learning, found, strict=True):
            if gradient is not None and parameter.grad is None:
                parameter.grad = gradient
            elif gradient is not None:
                parameter.grad += gradient
    return total, [out for _, out, _ in shards]


@contextmanager
def own_draws(seed: int) -> Iterator[None]:
    """Have dropout of this thread draw from a generator of its own."""
    _of_thread.generator = torch.Generator().manual_seed(seed)
    try:
        yield
    finally:
        _of_thread.generator = None


def _submit(work: Any, number: int) -> Any:
    return worker_pool().submit(work, number)


def _nothing(net: Any, lot: Lot) -> tuple[torch.Tensor, torch.Tensor]:
    """Where there are more processes than examples: no loss, and outputs of no example."""
    net.module_.train(False)
    with torch.no_grad():
        out = net.forward_batch(lot.x)
    net.module_.train(True)
    return out.new_zeros(()), out


class Dropout(nn.Dropout):
    """Dropout that draws from the generator of its shard, so that threads do not mix it up."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        generator = getattr(_of_thread, "generator", None)
        if not self.training or not self.p or generator is None or x.device.type != "cpu":
            return super().forward(x)
        kept = torch.rand(x.shape, generator=generator) >= self.p
        return x * kept / (1 - self.p)
