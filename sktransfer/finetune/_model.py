"""The network of an estimator, built from its parameters or again from its pickle."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ..backbones import Backbone
from ..backbones._gate import running
from ..backbones._layers import Layer, LayerTable
from ..backbones._stages import Stage, stages_of
from ..codes._fitting import cached_table
from ..engines import worker_pool
from ..exceptions import TrainingError
from ._adapters import add_adapters
from ._gradients import Dropout
from ._network import (
    FineTuneModule,
    Scale,
    attributes_of,
    build_module,
    code_width,
    has_hooks,
    make_head,
    put_back,
    told_of,
)
from ._parameters import first_cut, learning_names, plain_name, stage_parameters
from ._prefix import Opens, Prefix, Some

__all__ = ["Design", "Model", "build_model"]

_CHUNK = 256
_BATCH = 16
# Before names of what a head holds beside its state_dict.
_BESIDE = "beside the state of the head: "


@dataclass(frozen=True)
class Design:
    """The parameters that decide what the network is.

    Attributes
    ----------
    layer, trainable, head, dropout, method, batchnorm : object
        As in the estimator.
    n_outputs : int
    seed : int
        Draws the first weights of the head.
    """

    layer: Any
    trainable: Any
    head: Any
    dropout: float
    method: str
    batchnorm: str
    n_outputs: int
    seed: int


@dataclass
class Model:
    """A network cut into a frozen part and one that learns.

    Attributes
    ----------
    backbone : Backbone
    table : LayerTable
        Up to where the network ends.
    stages : list of Stage
    names : list of list of str
        Parameters of each stage in the pretrained network.
    start : Layer or None
        Where the frozen part ends.
    module : FineTuneModule
        What is behind it.
    told : dict of str to str
        What the head held when it was built and cannot be put back.
    """

    backbone: Backbone
    table: LayerTable
    stages: list[Stage]
    names: list[list[str]]
    start: Layer | None
    module: FineTuneModule
    told: dict[str, str]

    @property
    def stage_of(self) -> dict[str, int]:
        return {name: i for i, part in enumerate(self.names) for name in part}

    @property
    def stages_learn(self) -> bool:
        """Whether anything is behind the cut but the head."""
        return self.start is not self.table.layers[-1]

    def outputs(self, prefix: Prefix, images: Opens, *, codes: bool = False) -> np.ndarray:
        """Outputs of the head, or codes before it, of every image; memory stays flat."""
        self.module.eval()
        head = nn.Identity() if codes else _exact(self.module.head)
        parts = [
            self._of_chunk(prefix.compute(Some(images, numbers)), head)
            for numbers in _chunks(len(images))
        ]
        found = np.concatenate(parts)
        bad = ~np.isfinite(found).all(axis=tuple(range(1, found.ndim)))
        if bad.any():
            raise TrainingError(
                f"What the network gives for image {int(np.flatnonzero(bad)[0])} must be finite "
                "numbers, got NaN or infinity. Fit again with a smaller lr."
            )
        return found

    def _of_chunk(self, rows: np.ndarray, head: nn.Module) -> np.ndarray:
        device = next(self.module.parameters()).device

        def work(part: np.ndarray) -> np.ndarray:
            with running(), torch.inference_mode():
                codes = self.module.codes(torch.from_numpy(part).to(device))
                dtype = next(head.parameters(), codes).dtype
                return head(codes.to(dtype)).cpu().numpy()

        if device.type != "cpu":
            return work(rows)
        size = max(1, min(_BATCH, -(-len(rows) // 2)))
        pool = worker_pool()
        futures: list[Future[np.ndarray]] = [
            pool.submit(work, rows[i : i + size]) for i in range(0, len(rows), size)
        ]
        return np.concatenate([future.result() for future in futures])

    def learnt(self) -> dict[str, np.ndarray]:
        """What differs from the pretrained network: what learns, and live statistics."""
        learns = {name for name, p in self.module.named_parameters() if p.requires_grad}
        kept = {}
        for name, value in self.module.state_dict().items():
            owner = name.rpartition(".")[0]
            live = self.module.live_norms and any(n.startswith(owner + ".") for n in learns)
            is_buffer = name not in dict(self.module.named_parameters())
            if name in learns or name.startswith("head.") or (is_buffer and live):
                kept[name] = value.detach().cpu().numpy().copy()
        beside = {**attributes_of(self.module.head), **self.told}
        return {**kept, **{_BESIDE + name: np.array(value) for name, value in beside.items()}}

    def load(self, learnt: dict[str, np.ndarray]) -> None:
        """Put back what was learnt.

        Raises
        ------
        ValueError
            If the head is not built as it was then.
        """
        state = {
            name: torch.from_numpy(np.array(value))
            for name, value in learnt.items()
            if not name.startswith(_BESIDE)
        }
        self.module.load_state_dict(state, strict=False)
        beside = {n.removeprefix(_BESIDE): v for n, v in learnt.items() if n.startswith(_BESIDE)}
        _check_told(self.told, {name: str(beside[name]) for name in self.told if name in beside})
        put_back(self.module.head, beside)


def _exact(head: nn.Module) -> nn.Module:
    """A head in double precision, where the last digits of a row hang less on its batch."""
    plain = (nn.Sequential, Scale, nn.Dropout, Dropout, nn.Linear, nn.ReLU)
    on_cpu = all(p.device.type == "cpu" for p in head.parameters())
    if on_cpu and all(
        type(module) in plain and not has_hooks(module) for module in head.modules()
    ):
        return copy.deepcopy(head).double()
    return head


def _chunks(n: int) -> Iterator[np.ndarray]:
    for start in range(0, n, _CHUNK):
        yield np.arange(start, min(start + _CHUNK, n))


def build_model(backbone: Backbone, image_size: tuple[int, int], design: Design) -> Model:
    """Cut a network, and give it a new head.

    Raises
    ------
    LayerError
        If `layer` or `trainable` names nothing.
    """
    table = cached_table(backbone, image_size).up_to(design.layer)
    stages = stages_of(table)
    learning = learning_names(table, stages, design.trainable)
    head = _seeded_head(design, code_width(table))
    module, start = build_module(
        backbone,
        table,
        first_cut(table, stages, learning),
        head,
        live_norms=design.batchnorm == "train",
    )
    _let_learn(module, set(learning), design)
    names, told = stage_parameters(table, stages), told_of(head)
    if told:
        _check_told(told, told_of(_seeded_head(design, code_width(table))))
    return Model(backbone, table, stages, names, start, module, told)


def _seeded_head(design: Design, width: int) -> nn.Module:
    """The same at each call, whichever of the global generators a function draws from."""
    of_numpy, of_python = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(design.seed)
            np.random.seed(design.seed)
            random.seed(design.seed)
            return make_head(design.head, width, design.n_outputs, design.dropout)
    finally:
        np.random.set_state(of_numpy)
        random.setstate(of_python)


def _check_told(now: dict[str, str], before: dict[str, str]) -> None:
    for name, value in before.items():
        if now.get(name, value) != value:
            raise ValueError(
                f"head= must build the same module each time, but its {name} is another now. Draw "
                "it from numpy's, Python's or torch's global generator, which is seeded, or keep "
                "it in a tensor, which is saved."
            )


def _let_learn(module: FineTuneModule, learning: set[str], design: Design) -> None:
    module.head.requires_grad_(True)
    if design.method == "lora":
        add_adapters(module, learning, design.seed)
        return
    for name, parameter in module.tail.named_parameters():
        of_method = design.method == "full" or (parameter.ndim == 1 and name.endswith("bias"))
        parameter.requires_grad_(plain_name(name) in learning and of_method)
