"""Gradients of a batch: whole on CPUs, on all cores; whole or in parts on accelerators."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ..engines import worker_pool

__all__ = ["Dropout", "Lot", "gradients", "own_draws"]

_of_thread = threading.local()


class _Turns:
    """Fits in several threads take turns at a step: each uses every core."""

    def __init__(self) -> None:
        self.one = threading.Lock()


_turns = _Turns()
if hasattr(os, "register_at_fork"):  # whoever held the lock does not live in the child
    os.register_at_fork(after_in_child=_turns.__init__)  # type: ignore[misc]


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
    if torch.device(net.device).type == "cpu":
        loss, outs = _whole(net, lot)
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


def _whole(net: Any, lot: Lot) -> tuple[torch.Tensor, list[torch.Tensor]]:
    seed = int(torch.randint(2**62, ()))

    def work() -> tuple[torch.Tensor, list[torch.Tensor]]:
        with torch.enable_grad(), own_draws(seed):
            return _by_parts(net, lot, len(lot))

    if lot.x.ndim <= 2:
        # Rows are so little work that one core is as fast, and gives the same bits everywhere.
        return worker_pool().submit(work).result()
    with _turns.one:
        return work()


@contextmanager
def own_draws(seed: int) -> Iterator[None]:
    """Have dropout of this thread draw from a generator of its own, so that fits do not mix."""
    _of_thread.generator = torch.Generator().manual_seed(seed)
    try:
        yield
    finally:
        _of_thread.generator = None


def _nothing(net: Any, lot: Lot) -> tuple[torch.Tensor, torch.Tensor]:
    """Where there are more processes than examples: no loss, and outputs of no example."""
    net.module_.train(False)
    with torch.no_grad():
        out = net.forward_batch(lot.x)
    net.module_.train(True)
    return out.new_zeros(()), out


class Dropout(nn.Dropout):
    """Dropout that draws from the generator of its step, so that threads do not mix it up."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        generator = getattr(_of_thread, "generator", None)
        if not self.training or not self.p or generator is None or x.device.type != "cpu":
            return super().forward(x)
        kept = torch.rand(x.shape, generator=generator) >= self.p
        return x * kept / (1 - self.p)
