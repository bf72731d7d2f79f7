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

from .._optional import import_optional
from ..compute import worker_pool
from ..exceptions import TrainingError
from ..networks import HOOKS

__all__ = [
    "Dropout",
    "Lot",
    "Team",
    "autocast_dtype",
    "gradients",
    "is_spared",
    "make_team",
    "only_spared",
    "own_draws",
    "spare_grouped",
]


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
    x : Tensor or Batch
    target, weight : Tensor
    others : (Tensor, Tensor) or None
        Targets that were mixed in, and their weights.
    share : float
        How much of the loss is that of `target`.
    mass : float
        What the whole batch weighs.
    pulls : bool
        Whether the pull towards the pretrained weights is counted here.
    """

    x: Any
    target: torch.Tensor
    weight: torch.Tensor
    others: tuple[torch.Tensor, torch.Tensor] | None
    share: float
    mass: float
    pulls: bool = True

    @classmethod
    def of(cls, net: Any, x: Any, target: torch.Tensor, weight: torch.Tensor) -> Lot:
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
    return loss, net.recipe.task.joined(outs)


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


# Processes that share each batch: each computes a part, and all take the same step.
#
# Losses hold the weight of the part in the whole batch, so that the sum of the gradients is that of
# one process, also with uneven parts and sample weights.


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


def make_team(distributed: bool, device: Any) -> Team | None:
    """The processes that accelerate or torchrun started; None where there is one alone.

    Parameters
    ----------
    distributed : bool
    device : str or list of str
        As in the estimator.

    Raises
    ------
    ImportError
        If the package accelerate is missing.
    """
    if not distributed:
        return None
    PartialState = import_optional("accelerate", "distributed=True", "distributed").PartialState
    on_cpu = str(device).startswith("cpu")
    state = PartialState(cpu=True) if on_cpu else PartialState()
    if state.num_processes == 1:
        return None
    # It calls every CPU "cpu:0".
    device = torch.device("cpu") if state.device.type == "cpu" else state.device
    return Team(state.process_index, state.num_processes, device)


# What learning computes in: half precision where it is faster, weights in float32 always.
#
# Reference: P. Micikevicius et al. (2018). Mixed precision training. ICLR. Section 3.1.


_of_thread_precision = threading.local()


def autocast_dtype(amp: str, device: torch.device, *, is_much_work: bool) -> torch.dtype | None:
    """The half precision of a fit; None is float32.

    Parameters
    ----------
    amp : {"auto", "float32", "bfloat16", "float16"}
        "auto" takes bfloat16 on GPUs and CPUs that multiply in it, and float16 on other GPUs. A
        linear head alone is so little work that it stays in float32 on CPUs.
    device : torch.device
    is_much_work : bool
        Whether more than a linear head is trained.
    """
    if amp != "auto":
        return None if amp == "float32" else getattr(torch, amp)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type == "cpu" and is_much_work and _cpu_multiplies_bfloat16():
        return torch.bfloat16
    return None


def _cpu_multiplies_bfloat16() -> bool:
    """Whether instructions for it are there: emulated, it would be slower than float32."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # of newer torch alone
    return any(getattr(torch.cpu, name, bool)() for name in probes)


def spare_grouped(module: nn.Module) -> None:
    """Have grouped convolutions compute in float32 on a CPU where the rest is bfloat16.

    Their gradients take many times as long in bfloat16 as in float32 there, so that a network of
    depthwise convolutions would learn half as fast instead of one and a half times. To be called
    once, where the module is made: nets come and go over one module.
    """
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d) and conv.groups > 1:
            conv.register_forward_pre_hook(_leave_autocast)
            conv.register_forward_hook(_return_to_autocast)


_ALL_HOOKS = (*HOOKS, "_backward_pre_hooks", "_backward_hooks")


def is_spared(module: nn.Module) -> bool:
    """Whether a module computes in float32 where the rest is bfloat16, at this moment."""
    return _is_bfloat16() and _leave_autocast in module._forward_pre_hooks.values()


def only_spared(module: nn.Module) -> bool:
    """Whether a module computes what its class says, and nobody looks at what it gives."""
    of_module, own = vars(module), (_leave_autocast, _return_to_autocast)
    hooks = (hook for name in _ALL_HOOKS for hook in of_module[name].values())
    return "forward" not in of_module and all(hook in own for hook in hooks)


def _is_bfloat16() -> bool:
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") is torch.bfloat16


def _leave_autocast(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    _of_thread_precision.left = half = _is_bfloat16()
    if not half:
        return args
    torch.set_autocast_enabled("cpu", False)
    return (args[0].float(), *args[1:])


def _return_to_autocast(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
    if _of_thread_precision.left:
        torch.set_autocast_enabled("cpu", True)
