"""The network of an estimator, built from its parameters or again from its pickle."""

from __future__ import annotations

import copy
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from .._content import content_of
from .._optional import import_optional
from .._parameters import Tail
from ..compute import FrozenPass, worker_pool
from ..exceptions import LayerError, TrainingError, shown
from ..inputs import Items, Subset
from ..networks import Backbone, Cuttable, Layer, Pool, Stage, as_kept, pooled_shape, running
from ._gradients import Dropout, spare_grouped
from ._parameter_groups import is_norm, plain_name, trainable_names
from ._rows import Rows, chunks_of, rows_of
from ._while_learning import while_learning

__all__ = [
    "Cut",
    "Design",
    "FineTuneModule",
    "ImageDesign",
    "Model",
    "PixelModule",
    "RowDesign",
    "Scale",
    "add_adapters",
    "attributes_of",
    "build_model",
    "has_hooks",
    "in_dtype_of",
    "make_head",
    "normalization_before",
    "own_copy",
    "put_back",
    "suit_images",
    "told_of",
]


# Before names of what a head holds beside its state_dict.
_BESIDE = "beside the state of the head: "


@dataclass(frozen=True)
class Cut:
    """Where a network ends, and what of it is frozen.

    Attributes
    ----------
    table : Cuttable
        Up to where the network ends.
    taps : tuple of Layer
        Those whose maps the head takes, in order, the last of which is the end; none where the head
        takes a row.
    start : Layer or None
        Where the frozen part ends; None where nothing is frozen.
    """

    table: Cuttable
    taps: tuple[Layer, ...]
    start: Layer | None

    @property
    def end(self) -> Layer:
        return self.table.layers[-1]

    @property
    def frozen_taps(self) -> tuple[Layer, ...]:
        """Taps that are computed once."""
        if self.start is None or not self.taps:
            return ()
        order = self.table.every()
        return self.taps[: sum(order.index(one) <= order.index(self.start) for one in self.taps)]

    @property
    def trained_taps(self) -> tuple[Layer, ...]:
        """Taps that the tail gives."""
        return self.taps[len(self.frozen_taps) :]

    def tail(self) -> nn.Module:
        """What is behind the frozen part, all of it frozen as well.

        Raises
        ------
        LayerError
            If the network cannot be cut there.
        """
        return self.table.tail(self.start, self.trained_taps).requires_grad_(False)


@dataclass(frozen=True, kw_only=True)
class Design(ABC):
    """The parameters that decide what the network is.

    Attributes
    ----------
    trainable, head, dropout, method : object
        As in the estimator.
    pooling : str or None
        How what the network gives becomes a row; None where the head takes maps.
    n_outputs : int
    seed : int
        Draws the first weights of the head.
    """

    trainable: Any
    head: Any
    dropout: float
    method: str
    pooling: str | None
    n_outputs: int
    seed: int

    @classmethod
    def of(cls, tail: Tail, **others: Any) -> Self:
        """That of the parameters of an estimator."""
        names = [one.name for one in fields(cls) if one.name not in others]
        return cls(**{name: getattr(tail, name) for name in names}, **others)

    @property
    def given(self) -> dict[str, Any]:
        """The parameters that a call that continues must not change."""
        names = [one.name for one in fields(self)]
        idle = ("n_outputs", "pooling", "seed", "trainable")
        return {name: getattr(self, name) for name in names if name not in idle}

    @abstractmethod
    def ends(self, cuts: Cuttable) -> tuple[Cuttable, tuple[Layer, ...]]:
        """The network up to where it ends, and its taps."""

    @abstractmethod
    def new_head(self, table: Cuttable, taps: tuple[Layer, ...]) -> nn.Module:
        """A new head for it."""

    @abstractmethod
    def module(
        self, backbone: Backbone, tail: nn.Module, cut: Cut, head: nn.Module
    ) -> FineTuneModule:
        """What is trained, of what is behind a cut, and a head."""


@dataclass(frozen=True, kw_only=True)
class RowDesign(Design):
    """The same where the head takes a row of numbers.

    Attributes
    ----------
    layer : object
        As in the estimator.
    """

    layer: Any

    def ends(self, cuts: Cuttable) -> tuple[Cuttable, tuple[Layer, ...]]:
        return cuts.up_to(self.layer), ()

    def new_head(self, table: Cuttable, taps: tuple[Layer, ...]) -> nn.Module:
        return make_head(self.head, code_width(table), self.n_outputs, self.dropout)


@dataclass(frozen=True, kw_only=True)
class ImageDesign(RowDesign):
    """The same of a network for images.

    Attributes
    ----------
    batchnorm : str
        As in the estimator.
    """

    batchnorm: str

    def module(self, backbone: Backbone, tail: nn.Module, cut: Cut, head: nn.Module) -> ImageModule:
        pool = Pool("avg", cut.end) if cut.start is not cut.end else nn.Identity()
        suit_images(tail)
        normalization = normalization_before(backbone, cut)
        return ImageModule(tail, pool, head, normalization, live_norms=self.batchnorm == "train")


@dataclass
class Model:
    """A network cut into a frozen part and one that is trained.

    Attributes
    ----------
    backbone : Backbone
    cut : Cut
    stages : list of Stage
    names : list of list of str
        Parameters of each stage in the pretrained network.
    pooling : str or None
        How what the network gives becomes a row; None where the head takes maps.
    module : FineTuneModule
        What is behind it.
    told : dict of str to str
        What the head held when it was built and cannot be put back.
    """

    backbone: Backbone
    cut: Cut
    stages: list[Stage]
    names: list[list[str]]
    pooling: str | None
    module: FineTuneModule
    told: dict[str, str]

    @property
    def table(self) -> Cuttable:
        """The network up to where it ends."""
        return self.cut.table

    @property
    def taps(self) -> tuple[Layer, ...]:
        """Layers whose maps the head takes."""
        return self.cut.taps

    @property
    def start(self) -> Layer | None:
        """Where the frozen part ends."""
        return self.cut.start

    @property
    def n_codes(self) -> int:
        """Numbers of an item that `transform` gives."""
        return sum(one.n_channels for one in self.taps) or code_width(self.table)

    @property
    def stage_of(self) -> dict[str, int]:
        return {name: i for i, part in enumerate(self.names) for name in part}

    @property
    def frozen(self) -> tuple[tuple[Layer, ...], str | None]:
        """What the module takes: layers and how they are pooled, or nothing, the prepared items."""
        if self.start is None:
            return (), None
        if self.taps:
            return tuple(dict.fromkeys([*self.cut.frozen_taps, self.start])), None
        # The codes themselves are pooled where they are made, as CNNCodes has them.
        pooled = not self.stages_learn and self.module.takes_pooled
        return (self.start,), self.pooling if pooled else None

    @property
    def stages_learn(self) -> bool:
        """Whether anything is behind the cut but the head."""
        return self.start is not self.table.layers[-1]

    @property
    def is_much_work(self) -> bool:
        """Whether more is trained than linear layers, of rows or of places."""
        layers = (one for one in self.module.head.modules() if isinstance(one, nn.Conv2d))
        return self.stages_learn or any(one.kernel_size != (1, 1) for one in layers)

    def first_codes(self, prefix: FrozenPass, items: Items) -> Any:
        """What the head is fitted on first: a row of each item, or rows of each of its words."""
        last = self.table.layers[-1]
        return self.module.first_codes(prefix.at([last], self.pooling), items)

    def outputs(self, prefix: FrozenPass, items: Items, *, codes: bool = False) -> np.ndarray:
        """Outputs of the head, or codes before it, of every item; memory stays flat."""
        numbers, found = zip(*self.in_chunks(prefix, items, codes=codes), strict=True)
        out = np.concatenate(found)
        out[np.concatenate(numbers)] = out.copy()
        return out

    def in_chunks(
        self, prefix: FrozenPass, items: Items, *, codes: bool = False
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The same of some items at a time: their numbers, and what is said of them."""
        for numbers, batches, found in self._chunks(prefix, items, _as_array, codes=codes):
            yield numbers, _together(batches, found, len(numbers))

    def reduced(
        self, prefix: FrozenPass, items: Items, reduce: Callable[[torch.Tensor, np.ndarray], Any]
    ) -> np.ndarray:
        """What `reduce` makes of the outputs of the head, an object for each item.

        Outputs of few items are in memory at a time, however large those of each are.

        Parameters
        ----------
        prefix : FrozenPass
        items : Items
        reduce : callable
            Takes outputs (n, ...) and the numbers of the items; gives something of each. Called
            in several threads.
        """
        every = np.empty(len(items), object)
        for numbers, batches, found in self._chunks(prefix, items, reduce):
            for batch, of_batch in zip(batches, found, strict=True):
                for number, one in zip(numbers[batch], of_batch, strict=True):
                    every[number] = one
        return every

    def _chunks(
        self, prefix: FrozenPass, items: Items, reduce: Any, *, codes: bool = False
    ) -> Iterator[tuple[np.ndarray, list[np.ndarray], list[Any]]]:
        """Numbers of some items, batches of them, and what is made of the outputs of each batch."""
        self.module.eval()
        head = None if codes else _exact(self.module.head)
        device = next(self.module.parameters()).device
        each = worker_pool().map if device.type == "cpu" else map
        for numbers in chunks_of(items, prefix):
            rows = rows_of(Subset(items, numbers, tells=False), prefix, prefix.dtype)

            def work(batch: np.ndarray, rows: Rows = rows, chunk: np.ndarray = numbers) -> Any:
                with running(), torch.inference_mode():
                    out = self._answers(head, rows.take(batch).to(device))
                    bad = ~torch.isfinite(out).flatten(1).all(1)
                    if bad.any():
                        number = int(chunk[batch[int(bad.nonzero()[0])]])
                        raise TrainingError(
                            f"What the network gives for {items.noun} {number} must be finite "
                            "numbers, got NaN or infinity. Fit again with a smaller lr."
                        )
                    return reduce(out, chunk[batch])

            batches = rows.alike(device)
            yield numbers, batches, list(each(work, batches))
        items.tell()

    def _answers(self, head: nn.Module | None, activations: Any) -> torch.Tensor:
        codes = self.module.codes(activations)
        return self.module.as_rows(codes) if head is None else self.module.answers(head, codes)

    def parted_at(self, layer: Layer) -> tuple[Layer | None, nn.Module, nn.Module]:
        """The network in two parts, before a layer and behind it, with all that was trained.

        For networks for images whose head takes a row.

        Returns
        -------
        start : Layer or None
            What the first part takes is what this layer gives; None is prepared items.
        before : torch.nn.Module
            Gives what `layer` does, as it is kept; nothing where that is the start.
        behind : torch.nn.Module
            Makes outputs of it.
        """
        order, end = [None, *self.table.every()], self.table.layers[-1]
        start, module = self.start, self.module.eval()
        device = next(module.parameters()).device
        if start is not None and order.index(layer) <= order.index(start):
            tail = self.table.up_to(start.name).tail(layer).eval().to(device)
            given = as_kept(start) if layer == start else start
            # The module takes the codes themselves where nothing but the head is trained.
            pool = Pool("avg" if start == end else None, given)
            return layer, nn.Identity(), nn.Sequential(tail, pool, module)
        first = self.table.up_to(layer.name).tail(start)
        second = nn.Identity() if layer == end else self.table.tail(layer)
        trained = _plain_state(module.tail)
        for part in (first, second):
            part.load_state_dict({name: trained[name] for name in part.state_dict()})
            part.eval().to(device)
        pool = Pool("avg", as_kept(end) if layer == end else end)
        before = nn.Sequential(_BeforeTail(module), first, Pool(None, layer))
        return start, before, nn.Sequential(second, pool, module.head)

    def learnt(self) -> dict[str, np.ndarray]:
        """What differs from the pretrained network: what is trained, and live statistics."""
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


class _BeforeTail(nn.Module):
    """What a module does with what it is given before its tail."""

    def __init__(self, module: Any):
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        prepared: torch.Tensor = self.module.before_tail(x)
        return prepared


def _plain_state(tail: nn.Module) -> dict[str, torch.Tensor]:
    """Tensors of a tail by their names in the pretrained network, adapters added in."""
    adapters = [name for name, one in tail.named_modules() if hasattr(one, "get_base_layer")]
    if adapters:
        tail = copy.deepcopy(tail)
        for name in adapters:
            adapter: Any = tail.get_submodule(name)
            adapter.merge()
    return {plain_name(name): one for name, one in tail.state_dict().items()}


def _as_array(out: torch.Tensor, numbers: np.ndarray) -> np.ndarray:
    return out.cpu().numpy()


def _together(batches: list[np.ndarray], found: list[np.ndarray], n: int) -> np.ndarray:
    """Outputs of all batches in one array."""
    shape = np.max([one.shape[1:] for one in found], axis=0)
    out = np.empty((n, *shape), found[0].dtype)
    for numbers, one in zip(batches, found, strict=True):
        if one.ndim == 3:  # of words: the last place stands for all behind it
            one = one[:, np.arange(shape[0]).clip(max=one.shape[1] - 1)]
        out[numbers] = one
    return out


def in_dtype_of(head: nn.Module, codes: torch.Tensor) -> torch.Tensor:
    """Codes in the precision of a head."""
    return codes.to(next(head.parameters(), codes).dtype)


def _exact(head: nn.Module) -> nn.Module:
    """A head in double precision, where the last digits of a row hang less on its batch."""
    plain = (nn.Sequential, Scale, nn.Dropout, Dropout, nn.Linear, nn.ReLU)
    on_cpu = all(p.device.type == "cpu" for p in head.parameters())
    if on_cpu and all(
        type(module) in plain and not has_hooks(module) for module in head.modules()
    ):
        return copy.deepcopy(head).double()
    return head


def build_model(backbone: Backbone, cuts: Cuttable, design: Design) -> Model:
    """Cut a network, and give it a new head.

    Raises
    ------
    LayerError
        If `layer` or `trainable` names nothing.
    """
    table, taps = design.ends(cuts)
    stages = table.stages()
    learning = trainable_names(table, design.trainable)
    head = _seeded_head(design, table, taps)
    cut, tail = _cut_before(table, taps, table.cut_before(learning))
    module = design.module(backbone, tail, cut, head)
    _let_learn(module, set(learning), design)
    names, told = [table.parameters_of(stage) for stage in stages], told_of(head)
    if told:
        _check_told(told, told_of(_seeded_head(design, table, taps)))
    return Model(backbone, cut, stages, names, design.pooling, module, told)


def _cut_before(
    table: Cuttable, taps: tuple[Layer, ...], start: Layer | None
) -> tuple[Cut, nn.Module]:
    """A cut at a layer, or at an earlier one where it cannot be cut, and what is behind it."""
    before = [None, *table.layers]
    candidates = before[: before.index(start) + 1]
    for candidate in reversed(candidates):
        cut = Cut(table, taps, candidate)
        try:
            return cut, cut.tail()
        except LayerError:
            if candidate is None:
                raise
    raise AssertionError("unreachable")  # pragma: no cover


def _seeded_head(design: Design, table: Cuttable, taps: tuple[Layer, ...]) -> nn.Module:
    """The same at each call, whichever of the global generators a function draws from."""
    of_numpy, of_python = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(design.seed)
            np.random.seed(design.seed)
            random.seed(design.seed)
            return design.new_head(table, taps)
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


# The network that is trained: tail, pooling and a new head.


_HIDDEN = 512


class FineTuneModule(nn.Module, ABC):
    """What is trained of a network, behind what is frozen.

    Parameters
    ----------
    tail : torch.nn.Module
        From the cut to the layer before the classifier; shares no weights with the network.
    head : torch.nn.Module
        From codes to the outputs: rows, or maps of several layers.
    live_norms : bool
        Whether batch norms that are trained also follow the statistics of the batches.

    Notes
    -----
    What does not learn stays in eval mode whatever calls ``train()``: frozen weights with
    drifting statistics are not frozen.
    """

    # Whether codes may be pooled before they come here, where there is no tail.
    takes_pooled = True

    def __init__(self, tail: nn.Module, head: nn.Module, *, live_norms: bool = False):
        super().__init__()
        self.tail, self.head, self.live_norms = tail, head, live_norms

    @abstractmethod
    def codes(self, activations: Any) -> Any:
        """What goes into the head: rows, or a list of maps."""

    def forward(self, activations: Any) -> torch.Tensor:
        return self.head(self.codes(activations))

    def first_codes(self, prefix: FrozenPass, items: Items) -> Any:
        """Codes of the pretrained network, pooled as they are behind the tail."""
        return prefix.rows(items)

    def answers(self, head: nn.Module, codes: Any) -> torch.Tensor:
        """What a head, which need not be that which is trained, gives of some codes."""
        return head(in_dtype_of(head, codes))

    def as_rows(self, codes: Any) -> torch.Tensor:
        """Codes as rows of numbers."""
        rows: torch.Tensor = codes
        return rows

    def as_maps(self, activations: Any) -> Any:
        """What the head takes, of what the pretrained network gives at its taps."""
        raise NotImplementedError(f"{type(self).__name__} has no taps")

    def train(self, mode: bool = True) -> Self:
        super().train(False)
        self.training = mode
        self.head.train(mode)
        if mode and self.live_norms:
            for module in self.tail.modules():
                if is_norm(module) and any(p.requires_grad for p in module.parameters()):
                    module.training = True
        return self

    @property
    def follows_batches(self) -> bool:
        """Whether a batch norm, of the network or of the head, takes statistics of the batches."""
        before = self.training
        found = any(is_norm(one) and one.training for one in self.train().modules())
        self.train(before)
        return found


class PixelModule(FineTuneModule):
    """The same of a network for images.

    Parameters
    ----------
    tail, head, live_norms : object
        As above.
    normalization : tuple of (mean, std) or None
        Given where the tail begins at the pixels, which are then bytes (n, h, w, c).
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(
        self,
        tail: nn.Module,
        head: nn.Module,
        normalization: tuple[Sequence[float], Sequence[float]] | None,
        *,
        live_norms: bool,
    ):
        super().__init__(tail, head, live_norms=live_norms)
        self.from_pixels = normalization is not None
        mean, std = normalization or ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        scale, shift = (1 / (255 * torch.tensor(std))), (-torch.tensor(mean) / torch.tensor(std))
        self.register_buffer("scale", scale.view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", shift.view(1, -1, 1, 1), persistent=False)
        self._learning: tuple[nn.Module] | None = None

    @property
    def tail_now(self) -> nn.Module:
        """The tail, or what it is computed by in a step of training."""
        if not self.training or not torch.is_grad_enabled() or self.scale.device.type != "cpu":
            return self.tail
        # In a tuple: no part of this one, whose weights would have two names.
        if self._learning is None:
            self._learning = (while_learning(self.tail),)
        return self._learning[0]

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_learning": None}

    def before_tail(self, x: torch.Tensor) -> torch.Tensor:
        """Pixels or activations as the tail takes them."""
        if self.from_pixels:
            return x.permute(0, 3, 1, 2).float() * self.scale + self.shift
        if x.ndim == 4:
            return x.float().contiguous(memory_format=torch.channels_last)
        return x.float()


class ImageModule(PixelModule):
    """The same where the head takes a row.

    Parameters
    ----------
    tail, head, normalization, live_norms : object
        As above.
    pool : torch.nn.Module
        From the output of the tail to a row.
    """

    def __init__(
        self, tail: nn.Module, pool: nn.Module, head: nn.Module, normalization: Any, **others: Any
    ):
        super().__init__(tail, head, normalization, **others)
        self.pool = pool

    def codes(self, activations: torch.Tensor) -> torch.Tensor:
        return self.pool(self.tail_now(self.before_tail(activations)))


def suit_images(tail: nn.Module) -> None:
    """Lay the weights of a tail out so that it computes images faster."""
    for weight in tail.parameters():
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    spare_grouped(tail)


def normalization_before(
    backbone: Backbone, cut: Cut
) -> tuple[Sequence[float], Sequence[float]] | None:
    """Mean and standard deviation of what a tail that begins at the pixels takes; else None."""
    facts = backbone.preprocessing
    return None if cut.start is not None else (facts.mean, facts.std)


def code_width(table: Cuttable) -> int:
    """Numbers that go into the head."""
    return pooled_shape(table.layers[-1], "avg")[0]


def make_head(
    head: str | Callable[[int, int], nn.Module], width: int, n_outputs: int, dropout: float
) -> nn.Module:
    """A new output layer.

    Parameters
    ----------
    head : {"linear", "mlp"} or callable
        A callable takes the numbers of inputs and outputs and gives a module.
    width, n_outputs : int
    dropout : float
        Share of its inputs that are left out in training.

    Raises
    ------
    ValueError
        If a callable gives no module, or one that does not turn codes into outputs.
    """
    if not isinstance(head, str):
        return _own_head(head, width, n_outputs)
    last = nn.Linear(width if head == "linear" else _HIDDEN, n_outputs)
    if head == "linear":
        return nn.Sequential(Scale(width**-0.5), Dropout(dropout), last)
    hidden = nn.Linear(width, _HIDDEN)
    return nn.Sequential(Dropout(dropout), hidden, nn.ReLU(), Dropout(dropout), last)


def _own_head(head: Any, width: int, n_outputs: int) -> nn.Module:
    """What a function gave, if it turns codes into outputs; its own copy."""
    call = "head=lambda n_inputs, n_outputs: torch.nn.Linear(n_inputs, n_outputs)"
    if isinstance(head, nn.Module) or not callable(head):
        raise ValueError(
            "head= must be 'linear', 'mlp' or a function that takes the numbers of inputs and "
            f"outputs and gives a module, got {shown(repr(head))}. Pass a function: {call}."
        )
    try:
        made: Any = head(width, n_outputs)
    except Exception as error:
        raise ValueError(
            f"head= failed with n_inputs={width} and n_outputs={n_outputs}: "
            f"{type(error).__name__}: {shown(error)}. It must take these two, such as {call}."
        ) from error
    if not isinstance(made, nn.Module):
        raise ValueError(f"head= must give a torch.nn.Module, gave {shown(repr(made))}.")
    made = own_copy(made, lambda: head(width, n_outputs))
    try:
        with torch.no_grad():
            out = made.eval()(torch.zeros(2, width))
    except Exception as error:
        raise ValueError(
            f"head= must give a module that takes codes of shape (n, {width}), but it failed: "
            f"{type(error).__name__}: {shown(error)}."
        ) from error
    if not isinstance(out, torch.Tensor) or out.shape != (2, n_outputs):
        gave = f"shape {tuple(out.shape)}" if isinstance(out, torch.Tensor) else type(out).__name__
        raise ValueError(
            f"head= must give a module with n_outputs={n_outputs} numbers for each sample, but its "
            f"module gave {gave} for 2 images. Use the second argument: {call}."
        )
    for module in made.modules():
        if type(module) is nn.Dropout:  # whose draws threads would mix up
            module.__class__ = Dropout
    return made


def own_copy(made: nn.Module, again: Callable[[], Any]) -> nn.Module:
    """A copy on the CPU: a module that is given twice would be trained by two fits."""
    try:
        return copy.deepcopy(made).cpu()
    except Exception as error:
        try:  # what cannot be copied may be made again each time
            if not _shared(made, again()):
                return made.cpu()
        except Exception:
            pass
        raise ValueError(
            "head= must make a new module at each call, or one that can be copied, with weights "
            f"on a real device, but it failed: {type(error).__name__}: {shown(error)}."
        ) from error


def _shared(one: nn.Module, other: nn.Module) -> bool:
    own = {id(part) for part in (*one.modules(), *one.parameters(), *one.buffers())}
    return any(id(part) in own for part in (*other.modules(), *other.parameters()))


def has_hooks(module: nn.Module) -> bool:
    """Whether a module does more than its class does, such as weight_norm's."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def attributes_of(head: nn.Module) -> dict[str, np.ndarray]:
    """Tensors, arrays and numbers that a head holds beside its state_dict."""
    kept = {}
    for name, value, is_own in _attributes(head):
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu()
            kept[name] = (value.float() if value.dtype == torch.bfloat16 else value).numpy().copy()
        elif _is_array(value) or (is_own and isinstance(value, (bool, int, float))):
            kept[name] = np.array(value)
    return kept


def put_back(head: nn.Module, kept: dict[str, np.ndarray]) -> None:
    """Give a head that was built again what `attributes_of` found."""
    for name, old, _ in list(_attributes(head)):
        if name not in kept:
            continue
        new: Any = np.array(kept[name])
        if new.dtype.kind == "U":  # a hash, of `told_of`
            continue
        if isinstance(old, torch.Tensor):
            new = torch.from_numpy(new).to(old.device, old.dtype)
        elif isinstance(old, (bool, int, float)):
            new = type(old)(new.item())
        owner, _, attribute = name.rpartition(".")
        setattr(head.get_submodule(owner), attribute, new)


def told_of(head: nn.Module) -> dict[str, str]:
    """Hashes of lists and dicts that a head holds, which are made again with it."""
    told = {}
    for name, value, is_own in _attributes(head):
        if is_own and isinstance(value, (list, tuple, dict, set)) and _is_data(value):
            told[name] = content_of(value).digest or ""
    return told


def _attributes(head: nn.Module) -> Iterator[tuple[str, Any, bool]]:
    """Name, value and whether a class of the user's has it."""
    of_all = vars(nn.Module())
    for path, module in head.named_modules():
        is_own = type(module).__module__.partition(".")[0] not in ("torch", "sktransfer")
        # What weight_norm and its like compute from the weights before each pass.
        computed = {getattr(one, "name", None) for one in module._forward_pre_hooks.values()}
        for name, value in vars(module).items():
            if name not in of_all and name not in computed:
                yield f"{path}.{name}".lstrip("."), value, is_own
        for name in module._non_persistent_buffers_set:
            yield f"{path}.{name}".lstrip("."), module._buffers[name], is_own


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "biuf"


def _is_data(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_data(one) for pair in value.items() for one in pair)
    if isinstance(value, (list, tuple, set)):
        return all(map(_is_data, value))
    return isinstance(value, (type(None), bool, int, float, str, torch.Tensor)) or _is_array(value)


class Scale(nn.Module):
    """Multiply by a fixed number.

    Adam moves every weight by about the learning rate in each step, so the outputs of a linear
    layer move with the number of its inputs: for 1,280 codes and a learning rate of 1e-3 by half a
    logit, which would undo a fitted head. Divided by the root of their number, a learning
    rate means the same for every width.

    Parameters
    ----------
    by : float
    """

    def __init__(self, by: float):
        super().__init__()
        self.by = by

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.by


# LoRA: small matrices beside frozen layers learn in their place.
#
# Reference: E. Hu et al. (2022). LoRA: Low-rank adaptation of large language models. ICLR.
# Section 4.


_RANK = 8


def add_adapters(module: FineTuneModule, learning: set[str], seed: int) -> None:
    """Put adapters of rank 8 beside the linear layers and convolutions that are to learn.

    Raises
    ------
    ImportError
        If the package peft is missing.
    """
    peft = import_optional("peft", 'method="lora"', "lora")
    targets = [
        name
        for name, layer in module.tail.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv2d))
        and f"{name}.weight" in learning
        and getattr(layer, "groups", 1) == 1
    ]
    if not targets:
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = peft.LoraConfig(r=_RANK, lora_alpha=2 * _RANK, target_modules=targets)
        module.tail = peft.inject_adapter_in_model(config, module.tail)
    for name, parameter in module.tail.named_parameters():
        parameter.requires_grad_("lora_" in name)
