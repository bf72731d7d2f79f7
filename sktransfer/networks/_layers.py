"""The layers of a network by name and number."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from weakref import WeakKeyDictionary

from torch import fx, nn

from .._lru import LRU
from ..exceptions import BackboneWarning, LayerError, did_you_mean, shown
from ._cut import Layer, NumberedLayers, Stage, pooled_shape
from ._fingerprint import fingerprint_of_graph, is_private, structure_of
from ._head import Head, cut_nodes, find_head, is_passive, is_passive_module, weight_dimensions
from ._load import bytes_of_modules
from ._sizes import fit_to_size, slide_fully_connected
from ._spec import Backbone
from ._split import FrozenNetwork, Normalization, check_tail, prefix_of, tail_of, tail_to
from ._trace import TracedNetwork, is_faithful, trace
from ._tracer import tracing

__all__ = ["OUTPUT", "TracedCuts", "cuts_of", "stages_of", "trace_cuts"]


_fingerprints: WeakKeyDictionary[fx.GraphModule, str] = WeakKeyDictionary()

OUTPUT, CODE_LAYER = "output", "pre_logits"
# Of several outputs, what makes a code by its name, the first that is there.
_EMBEDDINGS = (
    "features", "feature", "embedding", "embeddings", "embeds", "image_embeds", "pooler_output",
    "x_norm_clstoken", "last_hidden_state",
)  # fmt: skip


class TracedCuts(NumberedLayers):
    """A traced network as something that can be cut (`Cuttable`): at what its modules give.

    Parameters
    ----------
    network : TracedNetwork
    backbone : Backbone
        What was traced.
    image_size : tuple of int
        Height and width of the input in pixels.
    head : Head
        Its classifier.

    Attributes
    ----------
    layers : list of Layer
        Cut points that are the output of a module, in order; the last is the default, the
        layer before the classifier, or the output of a network without one. Other cut points
        are reached by name.
    outputs : list of Layer
        What the network gives: ``"output"``, or ``"output.<name>"`` of several tensors.
    """

    def __init__(
        self, network: TracedNetwork, backbone: Backbone, image_size: tuple[int, int], head: Head
    ):
        self.network, self.backbone, self.image_size = network, backbone, image_size
        self.name, self._head = backbone.name, head
        cuts = cut_nodes(network)
        given = {_output_name(key, network.outputs): node for key, node in network.outputs.items()}
        self._given = {name: node for name, node in given.items() if node.op != "placeholder"}
        same = _merge_passive(cuts, network, set(self._given.values()))
        same.update({node: node for node in self._given.values()})
        order = {node: i for i, node in enumerate(network.nodes)}
        self._nodes = sorted(set(same.values()), key=order.__getitem__)
        found, self._doubt = self._code_node(cuts, order)
        code = None if found is None else same[found]
        self._aliases = self._name_nodes(same, code)
        self._layers = {node: self._describe(node, code) for node in self._nodes}
        listed = {n for n, _ in network.module.named_modules()} | set(self._given)
        end = len(self._nodes) - 1 if code is None else self._nodes.index(code)
        self.layers = [
            self._layers[node]
            for i, node in enumerate(self._nodes)
            if i <= end and (node is code or self._layers[node].name in listed)
        ]
        self.has_default = code is not None
        self.outputs = list(dict.fromkeys(self._layers[node] for node in self._given.values()))

    def listed(self) -> list[Layer]:
        """The numbered layers, and what the network gives behind the last of them."""
        return [*self.layers, *(one for one in self.outputs if one not in self.layers)]

    def resolve(self, layer: str | int | None) -> Layer:
        """Find a layer by name or by number; None is the default.

        Raises
        ------
        LayerError
            If there is none; the message names the nearest.

        Warns
        -----
        BackboneWarning
            Once, where the default is a guess.
        """
        if isinstance(layer, str):
            return self._by_name(layer)
        if not self.has_default and layer in (None, -1):
            raise LayerError(self._no_default())
        if layer is None:
            if self._doubt:
                message, self._doubt = self._doubt, ""
                warnings.warn(message, BackboneWarning, stacklevel=2)
            return self.layers[-1]
        return self.numbered(layer)

    def _no_default(self) -> str:
        names = ", ".join(f"{one.name} {one.shape}" for one in self.outputs)
        if len(self.outputs) > 1:
            return (
                f"{self.name} gives several tensors. Name one as layer=: {shown(names, 800)}."
            )
        reason = f" ({self.network.whole})" if self.network.whole else ""
        return (
            f"{self.name} has no layer before its classifier at which it can be cut{reason}. "
            f'layer="{OUTPUT}" gives its output, {self.outputs[0].shape}.'
        )

    def up_to(self, layer: str | int | None) -> TracedCuts:
        """The same network, ending with a layer; None is the default.

        Raises
        ------
        LayerError
            As in `resolve`.
        """
        last = self.resolve(layer)
        if self.has_default and last is self.layers[-1]:
            return self
        order = self.every()
        before = order[: order.index(last)]
        shorter = copy.copy(self)
        shorter.layers = [*(one for one in self.layers if one in before), last]
        shorter.has_default = True
        vars(shorter).pop("_owned", None)  # by the stages of the longer one
        return shorter

    def every(self) -> list[Layer]:
        """All cut points, from the input to the output of the network."""
        return [self._layers[node] for node in self._nodes]

    def nameable(self) -> list[Layer]:
        """The numbered layers, and what is behind the last of them."""
        every = self.every()
        if not self.layers:
            return every
        return [*self.layers, *every[every.index(self.layers[-1]) + 1 :]]

    def keeps_items_apart(self, layer: Layer) -> bool:
        """Whether the first axis is that of the images, and not of their windows as well."""
        return layer in self._of_images

    @cached_property
    def _of_images(self) -> set[Layer]:
        shapes = self.network.shapes
        return {layer for node, layer in self._layers.items() if shapes[node][:1] == (1,)}

    def has(self, name: str) -> bool:
        """Whether the network can be cut behind a module."""
        return name in self._aliases

    def node(self, layer: Layer) -> fx.Node:
        """The operation whose output a layer is."""
        return next(node for node, other in self._layers.items() if other == layer)

    @property
    def identity(self) -> str:
        """The network as it was followed at an image size, and how its images are normalised."""
        return f"{self._fingerprint} {self.backbone.preprocessing!r}"

    @property
    def private(self) -> bool:
        """Whether the network cannot be told from another one."""
        return is_private(self._fingerprint)

    @property
    def _fingerprint(self) -> str:
        module = self.network.module
        if module not in _fingerprints:
            _fingerprints[module] = fingerprint_of_graph(
                self.backbone.fingerprint, self.backbone.module, module
            )
        return _fingerprints[module]

    def merge(self, pooling: str | None) -> None:
        """An image is seen as a whole."""
        return

    def prefix(self, layers: Sequence[Layer], pooling: str | None) -> FrozenNetwork:
        """What is before the last of some layers, as one module that gives codes of each.

        Parameters
        ----------
        layers : sequence of Layer
        pooling : {"avg", "max", "gem", "token", "flatten"} or None

        Returns
        -------
        FrozenNetwork
            In eval mode, without gradients; it shares the weights of the network.
        """
        facts = self.backbone.preprocessing
        taps = {self.node(layer): layer for layer in layers}
        return prefix_of(self.network, taps, pooling, Normalization(facts.mean, facts.std))

    def taps(self) -> list[Layer]:
        """Layers that give maps of an image: of each resolution the last that stages end with.

        Where all have one resolution, as in vision transformers, four of them, evenly spaced.

        Raises
        ------
        LayerError
            If no stage gives a map.
        """
        found: list[Layer] = []
        for stage in self.stages():
            end = stage.end
            if end.grid is None and self.has(stage.name):
                end = self.resolve(stage.name)
            if end.grid is not None and end in self.layers and end not in found:
                found.append(end)
        last = {layer.grid: layer for layer in found}
        if len(last) == 1:
            places = sorted({round(len(found) * part / 4) - 1 for part in range(1, 5)})
            return [found[place] for place in places if place >= 0]
        if not last:
            raise LayerError(f"{self.name} has no stage that gives a map of an image.")
        return list(last.values())

    def tail(self, start: Layer | None, ends: Sequence[Layer] = ()) -> nn.Module:
        """A copy of what is behind a layer, up to the default one, as a module of its own.

        Parameters
        ----------
        start : Layer or None
            Where the tail begins; None is the normalised pixels.
        ends : sequence of Layer
            Layers behind it, in order: of these the tail gives a tuple, what each of them gives
            as (channels, height, width) or (tokens, channels).

        Raises
        ------
        LayerError
            If the tail needs more of the prefix than this one tensor.
        """
        network, end = self.network, self.layers[-1]
        if start == end:
            return nn.Identity()
        begin = network.input if start is None else self.node(start)
        if ends:
            tail = tail_to(network, start, begin, {self.node(one): one for one in ends})
            wanted = [pooled_shape(one, None) for one in ends]
        else:
            tail = tail_of(network, start, begin, self.node(end))
            wanted = [end.shape]
        pixels = (network.n_channels, *self.image_size)
        shape = pixels if start is None else pooled_shape(start, None)
        # A network that could not be followed may not run without numbers.
        check_tail(tail, start, shape, wanted, numbers=bool(network.whole))
        return tail

    def stages(self) -> list[Stage]:
        """The stages up to the default layer, from the input."""
        return stages_of(self)

    def parameters(self) -> dict[str, nn.Parameter]:
        """All parameters of the network by name; nobody may change them."""
        return dict(self.network.module.named_parameters())

    def parameters_of(self, stage: Stage) -> list[str]:
        """Names of the parameters of a stage, in order of computation."""
        return self._owned[stage.end]

    @cached_property
    def _owned(self) -> dict[Layer, list[str]]:
        """Parameters by the end of the stage that uses them first."""
        ends = {self.node(stage.end): stage.end for stage in self.stages()}
        owned: dict[Layer, list[str]] = {end: [] for end in ends.values()}
        seen: set[str] = set()
        found: list[str] = []
        for node in self.network.nodes:
            names = [name for name in self.network.parameters_of(node) if name not in seen]
            found += names
            seen.update(names)
            if node in ends:
                owned[ends[node]] = found
                found = []
        return owned

    def cut_before(self, parameters: Collection[str]) -> Layer | None:
        """The last layer before all of some parameters; None is the pixels."""
        wanted, start = set(parameters), None
        by_node = {self.node(layer): layer for layer in self.layers}
        for node in self.network.nodes:
            if wanted & set(self.network.parameters_of(node)):
                return start
            start = by_node.get(node, start)
        return start

    def classifier(self) -> list[tuple[str, nn.Module | None]]:
        """Names and modules of what is behind the default layer and computes something."""
        network = self.network
        modules: dict[str, nn.Module] = dict(network.module.named_modules())
        behind = network.nodes[network.nodes.index(self.node(self.layers[-1])) + 1 : -1]
        return [
            (network.names.get(node) or str(node.target), modules.get(str(node.target)))
            for node in behind
            if not is_passive(node, modules)
        ]

    def _by_name(self, name: str) -> Layer:
        if name in self._aliases:
            return self._layers[self._aliases[name]]
        if name == OUTPUT or (name == CODE_LAYER and self.network.whole):
            raise LayerError(self._no_default())
        known = [layer.name for layer in self.listed()]
        hint = did_you_mean(name, self._aliases, cutoff=0.5)
        inside = any(n == name or n.startswith(name + ".") for n in self.network.names.values())
        reason = (
            "lies where more than one tensor is alive, as within a residual block"
            if inside
            else "is not a layer"
        )
        raise LayerError(
            f"layer={name!r} {reason} of {self.name}. {hint}"
            f"Cut points, from the input: {_shorten(known)}."
        )

    def _code_node(
        self, cuts: list[fx.Node], order: dict[fx.Node, int]
    ) -> tuple[fx.Node | None, str]:
        """Where the codes are taken from, and a warning where that is a guess."""
        given, network = self._given, self.network
        if not given:
            raise LayerError(f"{self.name} gives its images back and computes nothing.")
        if len(given) > 1:
            for name in _EMBEDDINGS:
                if (node := given.get(f"{OUTPUT}.{name}")) is not None:
                    return node, ""
            # One that others are made of, and of nothing else, such as features of logits.
            sources = [node for node in given.values() if _makes_another(node, network)]
            if sources:
                return max(sources, key=order.__getitem__), ""
        heads = self._head.nodes
        if not heads:
            if len(given) > 1:
                return None, ""
            (node,) = given.values()
            return node, self._warning(node, heads)
        before = [node for node in cuts if order[node] < order[heads[0]]]
        return (before[-1], self._warning(before[-1], heads)) if before else (None, "")

    def _warning(self, code: fx.Node, heads: Sequence[fx.Node]) -> str:
        """What to say where the default layer is a guess."""
        whole, guess = self.network.whole, self._head.guess
        if not whole and not guess:
            return ""
        shape = self.network.shapes[code][1:]
        if whole:
            return (
                f"{self.name} can only be run as a whole, since its Python code cannot be "
                f"followed ({whole}): codes are its output, of shape {shape}, and there are no "
                f'other layers. layer="{OUTPUT}" says that this is meant.'
            )
        if not heads:
            return (
                f"The last layer of {self.name} {guess}, so codes are its output, of shape "
                f'{shape}. If that is meant, layer="{OUTPUT}" says so; if it is a classifier, take '
                "an earlier layer, as list_layers() names them."
            )
        names = ", ".join(repr(self.network.names.get(node) or str(node)) for node in heads)
        return (
            f"The last layer of {self.name}, {names}, {guess}. It is taken for a classifier, "
            f'and codes are what comes before it, of shape {shape}. layer="{CODE_LAYER}" says that '
            f'this is meant; layer="{OUTPUT}" takes the output of the network instead.'
        )

    def _name_nodes(
        self, same: dict[fx.Node, fx.Node], code: fx.Node | None
    ) -> dict[str, fx.Node]:
        """Every name of a cut point: its own, and each module of which it is the last part."""
        last: dict[str, fx.Node] = {}
        for node in self.network.nodes:
            for name in _prefixes(self.network.names.get(node, "")):
                last[name] = node
        aliases = {name: same[node] for name, node in last.items() if node in same}
        if code is not None and not self.network.whole:  # what is before a classifier is unknown
            aliases.setdefault(CODE_LAYER, code)
        aliases.update(self._given)
        return aliases

    def _describe(self, node: fx.Node, code: fx.Node | None) -> Layer:
        modules = dict(self.network.module.named_modules())
        names = [name for name, other in self._aliases.items() if other is node]
        given = [name for name in names if name in self._given]
        of_modules = [n for n in names if n in modules and not is_passive_module(modules[n])]
        ways = given or of_modules or names or [node.name]
        best = min(ways, key=lambda name: (name.count("."), len(name)))
        if node is code and not of_modules and not given:
            best = CODE_LAYER
        self._aliases.setdefault(best, node)
        shape = self.network.shapes[node][1:]
        kind = _kind(shape, self.image_size)
        prefix = self._prefix_tokens(shape) if kind == "tokens" else 0
        is_token = kind == "vector" and self._is_token(node)
        grid = _grid(shape, kind, prefix, self.image_size)
        return Layer(best, shape, kind, prefix, is_token, grid)

    def _is_token(self, node: fx.Node) -> bool:
        """Whether a row comes from the first of some tokens."""
        network = self.network
        while network.n_prefix_tokens:
            sources = [source for source in node.all_input_nodes if source in network.data]
            if len(sources) != 1 or sources[0] not in network.shapes:
                return False
            if len(network.shapes[sources[0]]) == 3:
                return node.args[1:] in (((slice(None), 0),), (1, 0))  # x[:, 0], x.select(1, 0)
            (node,) = sources
        return False

    def _prefix_tokens(self, shape: tuple[int, ...]) -> int:
        shapes = (self.network.shapes[node][1:] for node in self._nodes)
        ((usual, _),) = Counter(s[0] for s in shapes if len(s) == 2).most_common(1)
        return self.network.n_prefix_tokens if shape[0] == usual else 0


def _prefixes(name: str) -> list[str]:
    parts = name.split(".") if name else []
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _output_name(key: str, outputs: dict[str, fx.Node]) -> str:
    return OUTPUT if len(outputs) == 1 or not key else f"{OUTPUT}.{key}"


def _makes_another(node: fx.Node, network: TracedNetwork) -> bool:
    """Whether weights make another output of one, and of the image in no other way."""
    return any(
        other is not node and _is_made_of(other, node, network)
        for other in network.outputs.values()
    )


def _is_made_of(output: fx.Node, source: fx.Node, network: TracedNetwork) -> bool:
    seen: set[fx.Node] = set()
    waiting = [output]
    while waiting:
        node = waiting.pop()
        if node is source or node in seen or node not in network.data:
            continue
        if node.op == "placeholder":
            return False
        seen.add(node)
        waiting += node.all_input_nodes
    return any(weight_dimensions(node, network) >= 2 for node in seen)


def _merge_passive(
    cuts: list[fx.Node], network: TracedNetwork, given: set[fx.Node]
) -> dict[fx.Node, fx.Node]:
    """Map each cut point to the one that stands for those with the same numbers: the first, or
    what the network gives."""
    modules: dict[str, nn.Module] = dict(network.module.named_modules())
    same: dict[fx.Node, fx.Node] = {}
    for node in cuts:
        sources = [source for source in node.all_input_nodes if source in same]
        if len(sources) == 1 and is_passive(node, modules):
            before = network.shapes[sources[0]]
            if _squeeze(before) == _squeeze(network.shapes[node]):
                same[node] = same[sources[0]]
                continue
        same[node] = node
    for node in given & same.keys():
        first = same[node]
        same.update({other: node for other, one in same.items() if one is first})
    return same


def _squeeze(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


def _kind(shape: tuple[int, ...], image_size: tuple[int, int]) -> str:
    if len(shape) == 3:
        aspect = image_size[0] / image_size[1]
        first = abs(shape[1] / shape[2] - aspect)
        last = abs(shape[0] / shape[1] - aspect)
        return "map_last" if last < first else "map"
    return {1: "vector", 2: "tokens"}.get(len(shape), "other")


def _grid(
    shape: tuple[int, ...], kind: str, n_prefix_tokens: int, image_size: tuple[int, int]
) -> tuple[int, int] | None:
    """Rows and columns of the places of a layer; of patches in proportion to the image."""
    if kind == "map":
        rows, columns = shape[1:]
    elif kind == "map_last":
        rows, columns = shape[:2]
    elif kind == "tokens":
        n = shape[0] - n_prefix_tokens
        rows = round((n * image_size[0] / image_size[1]) ** 0.5)
        columns = n // max(rows, 1)
        if rows * columns != n:
            return None
    else:
        return None
    return (rows, columns) if rows * columns > 1 else None


def _shorten(names: list[str]) -> str:
    if len(names) <= 40:
        return ", ".join(names)
    return ", ".join([*names[:20], "…", *names[-20:]])


# The stages of a network: what people mean by "the last two blocks", in any family.
#
# A stage is a child of the network, or of a container that spans several resolutions or nearly
# all of the weights, such as ``layer4`` of a ResNet or ``blocks.11`` of a vision transformer.
# What holds but one layer with weights is no stage of its own: it belongs to the stage after it,
# and at the end to the one before.


# A container with more than this share of the weights is the trunk, to be looked into.
_TRUNK = 0.9


@dataclass(frozen=True)
class _Unit:
    path: str
    n_layers: int  # with weights of two dimensions or more
    resolution: tuple[int, ...]


def stages_of(table: TracedCuts) -> list[Stage]:
    """The stages of a network up to the layer before its classifier, from the input."""
    if table.network.whole:
        return [Stage("network", None, table.layers[-1])]
    stages: list[Stage] = []
    start: Layer | None = None
    for units in _groups(list(_units(table)), table):
        main = max(units, key=lambda unit: unit.n_layers > 1 or unit.n_layers / 2)
        last = table.layers[-1] if units[-1].path == "" else table.resolve(units[-1].path)
        stages.append(Stage(main.path, start, last))
        start = last
    final = stages[-1]
    stages[-1] = Stage(final.name, final.start, table.layers[-1])
    return stages


def _groups(units: list[_Unit], table: TracedCuts) -> list[list[_Unit]]:
    """Put units together until they make a stage that ends where the network can be cut."""
    groups: list[list[_Unit]] = []
    open_group: list[_Unit] = []
    for unit in units:
        if _is_whole(open_group, table) and unit.resolution != open_group[-1].resolution:
            groups.append(open_group)
            open_group = []
        open_group.append(unit)
        if unit.n_layers > 1 and table.has(unit.path):
            groups.append(open_group)
            open_group = []
    if open_group and (_is_whole(open_group, table) or not groups):
        groups.append(open_group)
    elif open_group:
        groups[-1] += open_group
    return groups


def _is_whole(units: list[_Unit], table: TracedCuts) -> bool:
    return sum(unit.n_layers for unit in units) > 1 and table.has(units[-1].path)


def _units(table: TracedCuts) -> Iterator[_Unit]:
    network = table.network
    nodes = list(_until(table.node(table.layers[-1]), network.nodes))
    named = [node for node in nodes if node in network.data and network.names.get(node)]
    total = sum(_n_weights(table, node) for node in named)
    yield from _descend(table, named, 0, total)


def _descend(table: TracedCuts, nodes: list[fx.Node], depth: int, total: int) -> Iterator[_Unit]:
    names = table.network.names
    groups = [
        (path, list(group)) for path, group in groupby(nodes, lambda n: _head(names[n], depth))
    ]
    for path, group in groups:
        inner = [list(g) for _, g in groupby(group, lambda n: _head(names[n], depth + 1))]
        resolutions = {_resolution(table, part) for part in inner} - {()}
        share = sum(_n_weights(table, node) for node in group) / max(total, 1)
        if len(inner) > 1 and (len(resolutions) > 1 or share > _TRUNK):
            yield from _descend(table, group, depth + 1, total)
        else:
            layers = sum(weight_dimensions(node, table.network) >= 2 for node in group)
            yield _Unit(path, layers, _resolution(table, group))


def _head(name: str, depth: int) -> str:
    return ".".join(name.split(".")[: depth + 1])


def _resolution(table: TracedCuts, nodes: list[fx.Node]) -> tuple[int, ...]:
    """Height and width behind some operations; the number of tokens; () if there is neither."""
    for node in reversed(nodes):
        shape = table.network.shapes.get(node, ())[1:]
        if len(shape) == 3:
            return tuple(sorted(shape)[:2])
        if len(shape) == 2:
            return shape[:1]
    return ()


def _n_weights(table: TracedCuts, node: fx.Node) -> int:
    if node.op != "call_module":
        return 0
    module = table.network.module.get_submodule(str(node.target))
    return sum(weight.numel() for weight in module.parameters())


def _until(last: fx.Node, nodes: list[fx.Node]) -> Iterator[fx.Node]:
    for node in nodes:
        yield node
        if node is last:
            return


# From a network to its cut points.


_CUTS: LRU[TracedCuts] = LRU(
    8, 2**30, lambda tables: bytes_of_modules(table.network.module for table in tables)
)


def trace_cuts(backbone: Backbone, image_size: tuple[int, int]) -> TracedCuts:
    """Follow a network at an image size, and find where it can be cut."""
    facts, published = backbone.preprocessing, backbone.source not in ("module", "registered")
    with tracing():
        module = fit_to_size(backbone.module, image_size)
        follow = partial(trace, module, image_size, facts.n_channels, usual_size=facts.image_size)
        network = follow()
        if not published:
            differs = is_faithful(network, module, image_size)
            if differs == "graph":
                network = follow(whole="what torch.fx makes of it computes something else")
                # It may differ from itself as well: what Python code draws or counts is not seen.
                differs = is_faithful(network, module, image_size)
            if differs:
                warnings.warn(
                    f"{backbone.name} does not give an image the same output in every batch: it "
                    "draws random numbers, or lets the images of a batch change each other, as a "
                    "batch norm without running statistics does. Its codes are not repeatable.",
                    BackboneWarning,
                    stacklevel=2,
                )
        head = find_head(network, module, published=published)
        # Its own size says of a module what its grid of cells is for.
        if head.nodes and (published or image_size != facts.image_size):
            network = slide_fully_connected(network, image_size)
        return TracedCuts(network, backbone, image_size, head)


def cuts_of(backbone: Backbone, image_size: tuple[int, int]) -> TracedCuts:
    """Where a network can be cut at an image size; worked out once for each of the last few."""
    own = backbone.source in ("module", "registered")
    structure = structure_of(backbone.module) if own else None
    key = (backbone.fingerprint, backbone.name, structure, backbone.preprocessing, image_size)
    return _CUTS.get(key, lambda: trace_cuts(backbone, image_size))
