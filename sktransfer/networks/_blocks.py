"""Networks for text as something that can be cut: at the seams between their blocks.

A transformer for text is embeddings and a list of blocks of one kind. Nothing of its own code is
written anew: the network runs as it is, and the blocks in its list are replaced. Up to a cut, one
notes what each block gives, and what is behind the last of them is left out; behind a cut, the
block before it hands out activations that were kept, in the form the block has, and those before do
nothing. So masks, position biases and rotary embeddings are those of the network itself.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from .._lru import LRU
from .._optional import import_optional
from ..exceptions import BackboneError, LayerError, did_you_mean
from ._cut import Layer, NumberedLayers, Stage
from ._fingerprint import is_private
from ._frozen import FrozenModule
from ._load import bytes_of_modules
from ._spec import Backbone, reason_of

__all__ = ["BlockCuts", "FrozenBlocks", "TextTail", "pool_tokens", "text_cuts_of"]


EMBEDDINGS, OUTPUT = "embeddings", "output"
# Numbers of configurations that say how many blocks there are.
_COUNTS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "encoder_layers")


class BlockCuts(NumberedLayers):
    """A network for text as something that can be cut (`Cuttable`).

    Parameters
    ----------
    backbone : Backbone
        Its module is one of transformers'; an encoder alone.

    Attributes
    ----------
    layers : list of Layer
        ``"embeddings"``, ``"block.1"`` … ``"block.n"``: what the network gives as
        ``hidden_states[0]`` … ``hidden_states[n]``. The last is the default, with the norm that
        some networks have behind their blocks. ``"output"`` alone where it cannot be cut.
    whole : str
        Why it cannot be cut; empty if it can.
    """

    has_default = True

    def __init__(self, backbone: Backbone):
        self.backbone, self.name = backbone, backbone.name
        self._path, self.whole = _find_blocks(backbone.module)
        self._lengths: dict[int, int] = {}  # of the tuples that blocks give
        names = [OUTPUT]
        if self._path:
            names = [EMBEDDINGS, *(f"block.{i + 1}" for i in range(len(self._blocks)))]
        self._all: list[Layer] = [_layer(name, 0) for name in names]
        found: list[Layer] = []
        if self._path:
            try:
                found = self._checked(names)
            except LayerError as error:
                self.whole, self._path = str(error), ""
        if not found:
            width = self._reference(self._probe()[:1])[-1].shape[-1]
            found = [_layer(OUTPUT, width)]
        self._all = self.layers = found

    @property
    def _blocks(self) -> nn.ModuleList:
        return self.backbone.module.get_submodule(self._path)  # type: ignore[return-value]

    def _checked(self, names: list[str]) -> list[Layer]:
        """The layers, after a run that shows that each is what the network itself calls so."""
        tokens = self._probe()
        expected = self._reference(tokens)
        frozen = self.prefix(self._all, None)
        try:
            with torch.no_grad():
                found = frozen(tokens)
        except Exception as error:
            raise LayerError(
                f"{self.name} does not run with its blocks watched: {reason_of(error)}"
            ) from error
        self._lengths = dict(frozen.recorder.lengths)
        if len(expected) != len(found):
            raise LayerError(
                f"{self.name} has {len(found) - 1} blocks in {self._path!r}, but gives "
                f"{len(expected)} hidden states"
            )
        for name, one, other in zip(names, found, expected, strict=True):
            if one.shape != other.shape or not torch.allclose(one, other, rtol=1e-4, atol=1e-5):
                raise LayerError(f"what {name} of {self.name} gives is not its hidden state")
        return [_layer(name, one.shape[-1]) for name, one in zip(names, found, strict=True)]

    def _reference(self, tokens: torch.Tensor) -> list[torch.Tensor]:
        """What transformers itself calls the hidden states."""
        module = _sharing(self.backbone.module)  # which will have hooks
        try:
            with torch.no_grad():
                out = module(**_arguments(module, tokens), output_hidden_states=True)
        except Exception as error:  # of code of any kind
            raise BackboneError(
                f"{self.name} cannot be run on a short text: {reason_of(error)}."
            ) from error
        return list(getattr(out, "hidden_states", None) or [out[0]])

    def _probe(self) -> torch.Tensor:
        """Two short texts of made-up tokens, without special ones."""
        module: Any = self.backbone.module
        size = int(module.config.vocab_size)
        ids = np.random.default_rng(0).integers(min(5, size - 1), size, (2, 6))
        tokens = np.zeros((2, 6, 3), np.int32)
        tokens[..., 0], tokens[..., 2] = ids, 1
        return torch.from_numpy(tokens)

    # What other rooms ask.

    def listed(self) -> list[Layer]:
        """All layers."""
        return list(self._all)

    nameable = every = listed

    def resolve(self, layer: str | int | None) -> Layer:
        """Find a layer by name or by number; None is the default.

        Raises
        ------
        LayerError
            If there is none; the message names the nearest.
        """
        if not isinstance(layer, str):
            return self.numbered(-1 if layer is None else layer)
        for one in self._all:
            if one.name == layer or (layer == OUTPUT and one is self._all[-1]):
                return one
        names = [one.name for one in self._all]
        why = f" It cannot be cut: {self.whole}." if self.whole else ""
        raise LayerError(
            f"layer={layer!r} is not a layer of {self.name}. {did_you_mean(layer, names)}"
            f"Layers, from the input: {', '.join(names)}.{why}"
        )

    def up_to(self, layer: str | int | None) -> BlockCuts:
        """The same network, ending with a layer; None is the default."""
        last = self.resolve(layer)
        if last is self.layers[-1]:
            return self
        shorter = copy.copy(self)
        shorter.layers = self._all[: self._all.index(last) + 1]
        return shorter

    def keeps_items_apart(self, layer: Layer) -> bool:
        """The first axis is always that of the texts."""
        return True

    @property
    def identity(self) -> str:
        """The network, and the version of the code that runs it."""
        version = import_optional("transformers", "A network for text", "text").__version__
        return f"{self.backbone.fingerprint} transformers {version}"

    @property
    def private(self) -> bool:
        """Whether the network cannot be told from another one."""
        return is_private(self.backbone.fingerprint)

    def merge(self, pooling: str | None) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """Makes one row of those of the windows of a text."""
        return partial(_merged, pooling=pooling)

    def prefix(self, layers: Sequence[Layer], pooling: str | None) -> FrozenBlocks:
        """What is before the last of some layers, as one module that gives codes of each."""
        numbers = [self._all.index(layer) for layer in layers]
        return FrozenBlocks(self.backbone.module, self._path, numbers, len(self._all) - 1, pooling)

    def taps(self) -> list[Layer]:
        """None of its layers has places of an image."""
        raise LayerError(f"{self.name} reads texts and gives no maps of an image.")

    def tail(self, start: Layer | None, ends: Sequence[Layer] = ()) -> nn.Module:
        """A copy of what is behind a layer, up to the default one.

        Parameters
        ----------
        start : Layer or None
            Where the tail begins; None is the tokens.
        ends : sequence of Layer
            Not for texts.

        Raises
        ------
        LayerError
            If the network computes something else of activations that are handed to it.
        """
        if start == self.layers[-1]:
            return nn.Identity()
        end = self.layers[-1]
        tail = TextTail(
            self.backbone.module,
            self._path,
            None if start is None else self._all.index(start),
            self._all.index(end) if self._path else 0,
            len(self._all) - 1,
            self._lengths,
        )
        self._check_tail(tail, start, end)
        return tail

    def _check_tail(self, tail: TextTail, start: Layer | None, end: Layer) -> None:
        tokens = self._probe()
        prefix = self.prefix([end] if start is None else [start, end], None)
        with torch.no_grad():
            *before, expected = prefix(tokens)
        handed = before[0] if before else tokens
        mask = torch.ones(tokens.shape[:2])
        try:
            with torch.no_grad():
                found = tail(handed, mask)
        except Exception as error:
            raise LayerError(
                f"{self.name} cannot be run from {'its tokens' if start is None else start.name!r} "
                f"on: {reason_of(error)}. Train all of it, or its head."
            ) from error
        if found.shape != expected.shape or not torch.allclose(found, expected, 1e-4, 1e-5):
            raise LayerError(
                f"{self.name} computes something else from {start and start.name!r} on than as a "
                "whole: its blocks hand on more than their output. Train all of it, or its head."
            )
        # Of a convolution or a Fourier transform what fills up a text is seen by its tokens.
        shorter = tokens[:1, :4]
        with torch.no_grad():
            *before, expected = prefix(shorter)
            handed, mask[0, 4:] = handed.clone(), 0
            handed[0, :4], handed[0, 4:] = (before[0] if before else shorter)[0], 0
            found = tail(handed, mask)[:1, :4]
        tail.apart = not torch.allclose(found, expected, 1e-4, 1e-5)

    def stages(self) -> list[Stage]:
        """Embeddings and blocks, up to the default layer."""
        ends = self.layers
        starts = [None, *ends[:-1]]
        return [Stage(end.name, start, end) for start, end in zip(starts, ends, strict=True)]

    def parameters(self) -> dict[str, nn.Parameter]:
        """All parameters of the network by name; nobody may change them."""
        return dict(self.backbone.module.named_parameters())

    def parameters_of(self, stage: Stage) -> list[str]:
        """Names of the parameters of a stage, in order of computation."""
        return self._owned[self._all.index(stage.end)]

    @cached_property
    def _owned(self) -> list[list[str]]:
        """Parameters of each layer; what all blocks share belongs to the embeddings."""
        names = list(self.parameters())
        if not self._path:
            return [names]
        inside = [
            [name for name in names if name.startswith(f"{self._path}.{i}.")]
            for i in range(len(self._blocks))
        ]
        rest = [name for name in names if not name.startswith(f"{self._path}.")]
        before, behind = self._uses(rest)
        inside[-1] += behind
        return [before, *inside]

    def _uses(self, names: list[str]) -> tuple[list[str], list[str]]:
        """Of parameters outside the blocks: what reaches the last block, and what is behind it.

        What neither does, such as a pooler, is not used.
        """
        module, last = self.backbone.module, len(self._all) - 1
        own = {name: nn.Parameter(module.get_parameter(name).detach()) for name in names}
        frozen = FrozenBlocks(_sharing(module, own), self._path, [last], last, None)
        with torch.enable_grad():
            found, whole = frozen.run(self._probe())
            reached, used = (
                torch.autograd.grad(
                    one.sum(), list(own.values()), allow_unused=True, retain_graph=True
                )
                for one in (found[last], found[last] if whole is None else whole)
            )
        before = [name for name, one in zip(names, reached, strict=True) if one is not None]
        both = [name for name, one in zip(names, used, strict=True) if one is not None]
        return before, [name for name in both if name not in before]

    def cut_before(self, parameters: Collection[str]) -> Layer | None:
        """The last layer before all of some parameters; None is the tokens."""
        wanted = set(parameters)
        for number, names in enumerate(self._owned):
            if wanted & set(names):
                return self._all[number - 1] if number else None
        return self.layers[-1]

    def classifier(self) -> list[tuple[str, nn.Module | None]]:
        """Nothing is behind the default layer."""
        return []


def _layer(name: str, width: int) -> Layer:
    return Layer(name, (-1, -1, width), "text")


def _find_blocks(module: Any) -> tuple[str, str]:
    """Where the list of blocks is, or why there is none."""
    counts = {getattr(module.config, name, None) for name in _COUNTS} - {None}
    found = {
        path: sum(p.numel() for p in one.parameters())
        for path, one in module.named_modules()
        if isinstance(one, nn.ModuleList)
        and len(one) in counts
        and len({type(block) for block in one}) == 1
    }
    if not found:
        return "", f"{type(module).__name__} has no list of blocks, one for each layer"
    return max(found, key=found.__getitem__), ""


def _arguments(module: Any, tokens: torch.Tensor) -> dict[str, Any]:
    """What the forward of a network takes of tokens."""
    arguments = {"input_ids": tokens[..., 0].long()}
    if getattr(module.config, "type_vocab_size", 0) > 1:
        arguments["token_type_ids"] = tokens[..., 1].long()
    return arguments


# Hooks at blocks, and what stands in their place.


class _Reached(Exception):
    """The last layer that is wanted has been computed."""


class _Recorder(threading.local):
    """What blocks gave in this thread, by their numbers, and what is handed to them."""

    def __init__(self) -> None:
        self.found: dict[int, torch.Tensor] = {}
        self.lengths: dict[int, int] = {}
        self.handed: Any = None

    def in_place_of(self, hidden: torch.Tensor) -> torch.Tensor:
        """What is handed to a block; as long as what it stands for, which some networks fill up."""
        missing = hidden.shape[1] - self.handed.shape[1]
        return nn.functional.pad(self.handed, (0, 0, 0, missing)) if missing else self.handed

    def __deepcopy__(self, memo: dict[int, Any]) -> _Recorder:
        return _Recorder()


@dataclass(eq=False)
class _Note:
    """A hook that notes what a block gives; behind the last wanted one nothing is computed."""

    recorder: _Recorder
    number: int
    last: bool

    def __call__(self, block: nn.Module, args: Any, out: Any) -> None:
        is_tensor = isinstance(out, torch.Tensor)
        self.recorder.found[self.number] = out if is_tensor else out[0]
        self.recorder.lengths[self.number] = 0 if is_tensor else len(out)
        if self.last:
            raise _Reached


@dataclass(eq=False)
class _NoteInput:
    """A hook that notes what goes into the first block, or hands it what was kept."""

    recorder: _Recorder
    last: bool = False
    hands: bool = False

    def __call__(self, block: nn.Module, args: Any, kwargs: Any) -> Any:
        if self.hands:
            if args:
                return (self.recorder.in_place_of(args[0]), *args[1:]), kwargs
            handed = self.recorder.in_place_of(kwargs["hidden_states"])
            return args, {**kwargs, "hidden_states": handed}
        self.recorder.found[0] = args[0] if args else kwargs["hidden_states"]
        if self.last:
            raise _Reached
        return None


class _HandOut(nn.Module):
    """In the place of a block whose output was kept; without weights.

    Parameters
    ----------
    block : torch.nn.Module
        Its settings are those of this one, since the network may ask for them.
    recorder : _Recorder
    length : int
        Of the tuple that it gives; 0 for a tensor.
    """

    def __init__(self, block: nn.Module, recorder: _Recorder, length: int):
        super().__init__()
        for name, value in vars(block).items():
            if name not in vars(self):
                self.__dict__[name] = value
        self.recorder, self.length = recorder, length

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        hidden = self.recorder.in_place_of(args[0] if args else kwargs["hidden_states"])
        return (hidden, *[None] * (self.length - 1)) if self.length else hidden


class _NoEmbedding(nn.Module):
    """In the place of the embeddings of words, of which a tail has no need."""

    def __init__(self, embedding: Any):
        super().__init__()
        self.width = int(embedding.weight.shape[1])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Zeros, for places that a network fills up by itself."""
        return torch.zeros((*ids.shape, self.width), device=ids.device)


class FrozenBlocks(FrozenModule):
    """A network for text up to the last of some layers.

    Parameters
    ----------
    module : torch.nn.Module
        It is not changed and shares its weights with this one.
    path : str
        Of its list of blocks; "" runs it as a whole.
    numbers : sequence of int
        Of the layers, in the order in which codes come out.
    last : int
        Number of the last layer of the network, which is what it gives as a whole.
    pooling : {"avg", "avg_all", "max", "token", "last"} or None

    Notes
    -----
    ``forward`` takes whole numbers (n, n_tokens, 3), as `TextPreparation` makes them, and gives
    one tensor (n, width) for each layer, (n, n_tokens, width) without a pooling.
    """

    def __init__(
        self, module: nn.Module, path: str, numbers: Sequence[int], last: int, pooling: str | None
    ):
        super().__init__()
        self.recorder, self.numbers, self.last = _Recorder(), list(numbers), last
        self.pooling = pooling
        self.module = _sharing(module)
        deepest = max(numbers)
        if path:
            blocks: Any = self.module.get_submodule(path)
            first = _NoteInput(self.recorder, last=deepest == 0)
            blocks[0].register_forward_pre_hook(first, with_kwargs=True)
            for number, block in enumerate(list(blocks), start=1):
                if number > max(deepest, 1):  # not reached: left out, with its weights
                    blocks[number - 1] = nn.Identity()
                    continue
                ends = number == deepest < last
                block.register_forward_hook(_Note(self.recorder, number, ends))
        self.eval()

    def in_precision(self, dtype: torch.dtype) -> Self:
        """Change, in place, what the network computes in; codes are pooled in float32."""
        self.module.to(dtype)
        return self

    def folded(self) -> Self:
        """A copy."""
        return copy.deepcopy(self).eval()

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found, whole = self.run(tokens)
        if whole is not None:
            found[self.last] = whole
        if not found.keys() >= set(self.numbers):
            raise LayerError("its blocks are not called as modules")
        words, n_tokens = tokens[..., 2], tokens.shape[1]
        return tuple(  # without what some networks fill a text up with
            pool_tokens(found[number][:, :n_tokens].float(), words, self.pooling)
            for number in self.numbers
        )

    def run(self, tokens: torch.Tensor) -> tuple[dict[int, torch.Tensor], torch.Tensor | None]:
        """What the blocks give by their numbers, and what the network gives if it was run whole."""
        self.recorder.found = {}
        try:
            out = self.module(**_arguments(self.module, tokens))
        except _Reached:
            out = None
        found, self.recorder.found = self.recorder.found, {}
        return found, None if out is None else _last_of(out)


def _last_of(out: Any) -> torch.Tensor:
    """What a network gives for each token."""
    given = getattr(out, "last_hidden_state", None)
    return out[0] if given is None else given


def _sharing(module: nn.Module, instead: Mapping[str, nn.Parameter] | None = None) -> Any:
    """A copy of the modules that has the same weights in memory, but for some by their names."""
    memo: dict[int, Any] = {id(one): one for one in (*module.parameters(), *module.buffers())}
    for name, parameter in (instead or {}).items():
        memo[id(module.get_parameter(name))] = parameter
    return copy.deepcopy(module, memo)


class TextTail(nn.Module):
    """A network for text behind one of its layers, which can be trained.

    Parameters
    ----------
    module : torch.nn.Module
        It is not changed, and shares no weights with this one.
    path : str
        Of its list of blocks; "" for a network that runs as a whole alone.
    start : int or None
        Number of the layer that is handed to it; None are the tokens.
    end : int
        Number of the layer that it gives.
    last : int
        Number of the last layer of the network.
    lengths : dict of int to int
        Of the tuples that blocks give, by number; 0 for tensors.

    Notes
    -----
    ``forward`` takes activations (n, n_tokens, width), or tokens (n, n_tokens, 3), and a mask
    (n, n_tokens) that is 0 where a text has ended. Parameters have the names of the network.

    Attributes
    ----------
    apart : bool
        Whether texts of each length are computed by themselves, since the network would see what
        they are filled up with.
    """

    apart = False

    def __init__(
        self,
        module: nn.Module,
        path: str,
        start: int | None,
        end: int,
        last: int,
        lengths: Mapping[int, int],
    ):
        super().__init__()
        self.recorder, self.start, self.end = _Recorder(), start, end
        network = _sharing(module)
        if path:
            self._cut(network.get_submodule(path), last, lengths)
        if start is not None:
            network.set_input_embeddings(_NoEmbedding(network.get_input_embeddings()))
        network = copy.deepcopy(network, {id(self.recorder): self.recorder})
        # Its parts are parts of this module, so that weights have the names that they have there.
        for name, part in network.named_children():
            self.add_module(name, part)
        self._network = (network,)

    def __setattr__(self, name: str, value: Any) -> None:
        """A part that is replaced, by an adapter beside it, is one of the network as well."""
        super().__setattr__(name, value)
        if "_network" in vars(self) and name in self._network[0]._modules:
            setattr(self._network[0], name, value)

    def _cut(self, blocks: Any, last: int, lengths: Mapping[int, int]) -> None:
        if self.start == 0:
            hands = _NoteInput(self.recorder, hands=True)
            blocks[0].register_forward_pre_hook(hands, with_kwargs=True)
        for number, block in enumerate(list(blocks), start=1):
            if self.start is not None and number <= self.start:
                blocks[number - 1] = _HandOut(block, self.recorder, lengths[number])
            elif number > self.end:
                blocks[number - 1] = nn.Identity()
            elif number == self.end < last:
                block.register_forward_hook(_Note(self.recorder, number, last=True))

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if not self.apart:
            return self._run(hidden, mask)
        n_texts, n_tokens = hidden.shape[:2]
        lengths = mask.sum(1).long()
        rows: list[Any] = [None] * n_texts
        for length in lengths.unique().tolist():
            (chosen,) = torch.where(lengths == length)
            found = self._run(hidden[chosen, :length], mask[chosen, :length])
            filled = nn.functional.pad(found, (0, 0, 0, n_tokens - length))
            for row, one in zip(chosen.tolist(), filled, strict=True):
                rows[row] = one
        return torch.stack(rows)

    def _run(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        (network,) = self._network
        if self.start is None:
            arguments = _arguments(network, hidden)
        else:
            self.recorder.handed = hidden
            width = network.get_input_embeddings().width
            arguments = {"inputs_embeds": hidden.new_zeros((*hidden.shape[:2], width))}
        try:
            return _last_of(network(**arguments, attention_mask=mask.long()))
        except _Reached:
            return self.recorder.found[self.end][:, : hidden.shape[1]]
        finally:
            self.recorder.handed, self.recorder.found = None, {}


# From the tokens of a text to a row.


def pool_tokens(hidden: torch.Tensor, words: torch.Tensor, pooling: str | None) -> torch.Tensor:
    """Pool (n, n_tokens, width) over the tokens that count.

    Parameters
    ----------
    hidden : Tensor
    words : Tensor of shape (n, n_tokens)
        As the third place of what `TextPreparation` makes.
    pooling : {"avg", "avg_all", "max", "token", "last"} or None
    """
    if pooling is None:
        return hidden
    if pooling == "token":
        return hidden[:, 0]
    if pooling == "last":
        return hidden[:, -1]
    counted = (words >= 0 if pooling == "avg_all" else words > 0)[..., None]
    if pooling == "max":
        return hidden.masked_fill(~counted, -torch.inf).amax(1)
    number = counted.sum(1).clamp(min=1).to(hidden.dtype)
    return (hidden * counted.to(hidden.dtype)).sum(1) / number


def _merged(rows: np.ndarray, tokens: np.ndarray, *, pooling: str | None) -> np.ndarray:
    """Rows of all windows, of which each text has the same number, to rows of texts.

    Parameters
    ----------
    rows : ndarray of shape (n_texts * n_windows, ...)
    tokens : ndarray of shape (n_texts, n_windows, n_tokens, 3)
    """
    n_texts, n_windows = tokens.shape[:2]
    parts = rows.reshape(n_texts, n_windows, *rows.shape[1:])
    if pooling is None:
        return parts
    if n_windows == 1:
        return parts[:, 0]
    if pooling == "token":
        return parts[:, 0]
    if pooling == "last":
        return parts[:, -1]
    if pooling == "max":
        return parts.max(1)
    words = tokens[..., 2]
    share = (words >= 0 if pooling == "avg_all" else words > 0).sum(2)[..., None]
    total = np.maximum(share.sum(1), 1)
    return ((parts.astype(np.float64) * share).sum(1) / total).astype(np.float32)


_CUTS: LRU[BlockCuts] = LRU(
    8, 2**30, lambda tables: bytes_of_modules(table.backbone.module for table in tables)
)


def text_cuts_of(backbone: Backbone) -> BlockCuts:
    """Where a network for text can be cut; worked out once for each of the last few."""
    return _CUTS.get((backbone.fingerprint, backbone.name), lambda: BlockCuts(backbone))
