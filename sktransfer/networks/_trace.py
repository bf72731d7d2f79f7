"""The graph of a network with the shape of every value in it."""

from __future__ import annotations

import builtins
import copy
import inspect
import operator
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, is_dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves
from torchvision.models.feature_extraction import NodePathTracer

from ..exceptions import BackboneError, TracingError, shown
from ._spec import reason_of

__all__ = [
    "HOOKS",
    "Entry",
    "Head",
    "ReadsValues",
    "ShapeTracer",
    "TracedNetwork",
    "cut_nodes",
    "find_head",
    "follow",
    "functions_to_keep",
    "is_faithful",
    "is_passive",
    "is_passive_module",
    "is_plain",
    "module_of",
    "referred",
    "replace_module",
    "restored",
    "retrace_shapes",
    "running",
    "trace",
    "tracing",
    "weight_dimensions",
]


# What arguments that take images are called, where they are not the first.
_IMAGES = "pixel_values"
_ENTRY = "network"


@dataclass
class TracedNetwork:
    """A network as a list of operations.

    Attributes
    ----------
    module : torch.fx.GraphModule
        The network; its parameters are those of the traced module, not copies.
    names : dict of Node to str
        Qualified name of each operation: the module path, with the name of the
        operation where a module holds more than one (``layer1.0.add``).
    shapes : dict of Node to tuple of int
        Shape of each operation that gives one tensor, for one image.
    data : set of Node
        Operations whose result is computed from the pixels. Sizes read from the
        input and constants such as a class token are not data.
    outputs : dict of str to Node
        The tensors that the network gives, by their place in what it returns: ``""`` where
        it returns a tensor, ``"0"`` or ``"features"`` in a tuple or a dict.
    n_channels : int
        Of the images it takes.
    n_prefix_tokens : int
        Class and register tokens that a vision transformer puts before its patches.
    whole : str
        Why the graph could not be followed; the network is then one operation. Empty if it was.
    """

    module: fx.GraphModule
    names: dict[fx.Node, str]
    shapes: dict[fx.Node, tuple[int, ...]]
    data: set[fx.Node]
    outputs: dict[str, fx.Node] = field(default_factory=dict)
    n_channels: int = 3
    n_prefix_tokens: int = 0
    whole: str = ""

    @property
    def nodes(self) -> list[fx.Node]:
        return list(self.module.graph.nodes)

    @property
    def input(self) -> fx.Node:
        """The images."""
        return next(node for node in self.module.graph.nodes if node.op == "placeholder")

    def parameters_of(self, node: fx.Node) -> list[str]:
        """Names of the parameters that an operation reads."""
        path = str(node.target)
        if node.op == "call_module":
            own = self.module.get_submodule(path).named_parameters()
            return [f"{path}.{name}" for name, _ in own]
        if node.op == "get_attr" and path in dict(self.module.named_parameters()):
            return [path]
        return []


def trace(
    module: nn.Module,
    image_size: tuple[int, int],
    n_channels: int = 3,
    *,
    usual_size: tuple[int, int] | None = None,
    whole: str = "",
) -> TracedNetwork:
    """Follow a network symbolically and work out the shape of every value.

    Parameters
    ----------
    module : torch.nn.Module
        In eval mode; it is not changed.
    image_size : tuple of int
        Height and width of its input in pixels.
    n_channels : int, default=3
        Of its input.
    usual_size : tuple of int, default=None
        Height and width that it was trained with, to tell why it cannot be run.
    whole : str, default=""
        Why the network is to be taken as one operation; empty to follow it.

    Returns
    -------
    TracedNetwork
        One operation, the whole network, where its Python code cannot be followed.

    Raises
    ------
    TracingError
        If the network's Python code branches on values of its input.
    BackboneError
        If it cannot be run on images of this shape.
    """
    keyword = _images_of(module)
    entry = Entry(module, keyword)
    image = torch.empty(1, n_channels, *image_size, device="meta")
    if not whole:
        try:
            traced, names, assumed = _follow(entry, tuple(image.shape[1:]))
            network = TracedNetwork(traced, names, {}, set(), n_channels=n_channels)
            network = _recorded(network, image)
            if assumed and not _takes_one_as_several(network, entry, image_size):
                whole = "it computes something else for one image than for several"
        except BackboneError:
            raise
        except ReadsValues as error:
            raise TracingError(_values_are_read(module, error)) from error
        except Exception as error:
            whole = reason_of(error)
    if whole:
        try:
            network = _recorded(_as_one(entry, n_channels, whole), image)
        except BackboneError:
            raise
        except Exception as error:
            takes_usual = usual_size != image_size and _takes(module, keyword, image, usual_size)
            raise BackboneError(_cannot_run(module, image, error, takes_usual)) from error
    network.n_prefix_tokens = _prefix_tokens(module)
    return network


def follow(module: nn.Module) -> tuple[fx.GraphModule, dict[fx.Node, str]]:
    """The operations of a module and their names, whatever the shape of its images.

    What Python code computes on the way (settings, closures, global names, hooks of modules that
    are entered) is in the graph as constants.

    Raises
    ------
    TracingError
        If the module's Python code cannot be followed, or branches on shapes.
    """
    try:
        return _follow(Entry(module, _images_of(module)), None)[:2]
    except Exception as error:
        raise TracingError(
            f"{type(module).__name__} cannot be followed by torch.fx: {reason_of(error)}."
        ) from error


def _follow(
    entry: Entry, image_shape: tuple[int, ...] | None
) -> tuple[fx.GraphModule, dict[fx.Node, str], bool]:
    """As `follow`, and whether a branch was taken that is one for several images only."""
    from timm.models import get_notrace_modules

    tracer = ShapeTracer(
        image_shape,
        leaf_modules=list(get_notrace_modules()),
        autowrap_functions=functions_to_keep(),
    )
    graph = tracer.trace(entry)
    root = _root_of(graph, entry)
    # A GraphModule is born in training mode and would bring the shared children along.
    traced = fx.GraphModule(root, graph, type(entry.network).__name__)
    traced.train(entry.network.training)
    names = {
        node: "" if name == _ENTRY else name.removeprefix(f"{_ENTRY}.")
        for node, name in tracer.node_to_qualname.items()
        if name is not None
    }
    return traced, names, tracer.assumed


def _root_of(graph: fx.Graph, entry: Entry) -> nn.Module:
    """What the paths in a graph lead from: the network, so that weights have their own names."""
    if any(node.target == _ENTRY for node in graph.nodes):  # the network is one layer of torch
        return entry
    # Constants that the tracer found are not to become attributes of the network itself.
    root = copy.copy(entry.network)
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            path = str(node.target)
            if path.startswith(f"{_ENTRY}."):
                node.target = path.removeprefix(f"{_ENTRY}.")
            else:
                setattr(root, path, getattr(entry, path))
    return root


def _as_one(entry: Entry, n_channels: int, reason: str) -> TracedNetwork:
    """A graph with the network as its only operation."""
    graph = fx.Graph()
    pixels = graph.placeholder("image")
    keyword = entry._keyword
    call = graph.call_module(_ENTRY, () if keyword else (pixels,))
    if keyword:
        call.kwargs = {keyword: pixels}
    graph.output(call)
    name = type(entry.network).__name__
    traced = fx.GraphModule({_ENTRY: entry.network}, graph, name).eval()
    return TracedNetwork(traced, {}, {}, set(), n_channels=n_channels, whole=reason)


def _images_of(module: nn.Module) -> str | None:
    """The argument that takes images, by name; None is the first.

    Raises
    ------
    BackboneError
        If the network needs more than images.
    """
    try:
        parameters = inspect.signature(module.forward).parameters
    except (TypeError, ValueError):
        return None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    takes = [name for name, one in parameters.items() if one.kind in positional]
    various = any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in parameters.values())
    keyword = _IMAGES if _IMAGES in parameters and takes[:1] != [_IMAGES] else None
    images = keyword or (takes[0] if takes else None)
    needed = [
        name
        for name, one in parameters.items()
        if name != images
        and one.default is inspect.Parameter.empty
        and one.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    ]
    name = type(module).__name__
    if needed:
        raise BackboneError(
            f"forward of {name} needs {', '.join(needed)} besides the images, but a backbone is "
            "called with images alone. Give these arguments a default, or wrap the network in a "
            "module whose forward takes only images."
        )
    if images is None and not various:
        raise BackboneError(f"forward of {name} must take images as its first argument.")
    return keyword


def _takes(
    module: nn.Module, keyword: str | None, image: torch.Tensor, size: tuple[int, int] | None
) -> bool:
    """Whether a network can be run on images of another size."""
    if size is None:
        return False
    try:
        _run(Entry(module, keyword), torch.zeros(1, image.shape[1], *size))
    except Exception:
        return False
    return True


def _cannot_run(
    module: nn.Module, image: torch.Tensor, error: BaseException, takes_usual: bool
) -> str:
    name, height, width = type(module).__name__, *image.shape[2:]
    if takes_usual:
        return (
            f"{name} cannot take images of {height}×{width} pixels: {reason_of(error)}. "
            "Leave image_size=None for the size it was trained with."
        )
    return (
        f"{name} cannot be run on images alone, a tensor of shape {tuple(image.shape)}: "
        f"{reason_of(error)}. preprocessing= must say the size and the channels it was trained "
        "with, and its forward must take images and give a tensor, not a loss."
    )


def _values_are_read(module: nn.Module, error: BaseException) -> str:
    """What to say of a network whose code looks at pixels, with the line that does."""
    places = [Path(torch.__file__).parent, Path(__file__).parent]
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(place in Path(frame.filename).parents for place in places)
        and "torchvision/models/feature_extraction" not in Path(frame.filename).as_posix()
    ]
    where = ""
    if own and (last := own[-1]).line:
        where = f": {shown(last.line)!r} ({shown(Path(last.filename).name)}, line {last.lineno})"
    return (
        f"{type(module).__name__} branches on values of its input, or computes with them in "
        f"Python{where}, so an image's codes would depend on the images beside it. Write it with "
        "tensor operations such as torch.where; torch.fx.wrap() hides a function that only checks."
    )


def _prefix_tokens(module: Any) -> int:
    """timm says how many there are; torchvision's VisionTransformer has a class token alone."""
    if hasattr(module, "num_prefix_tokens"):
        return int(module.num_prefix_tokens)
    if hasattr(module, "class_token"):
        return 1
    # As transformers has them, in a module of embeddings.
    names = {"cls_token": 0, "distillation_token": 0, "register_tokens": 0}
    for part in module.modules():
        if type(part).__module__.startswith("transformers."):
            for name in names:
                tokens = getattr(part, name, None)
                if isinstance(tokens, torch.Tensor) and tokens.ndim == 3:
                    names[name] = tokens.shape[1]
    return sum(names.values())


def retrace_shapes(network: TracedNetwork, image_size: tuple[int, int]) -> TracedNetwork:
    """Work the shapes out again after the graph was changed."""
    return _recorded(network, torch.empty(1, network.n_channels, *image_size, device="meta"))


def _recorded(network: TracedNetwork, image: torch.Tensor) -> TracedNetwork:
    """Note shapes, what is computed from pixels, and the tensors that come out."""
    record, value = _record(network, image)
    if record.changes and not network.whole and _order_in_place(network, record):
        record, value = _record(network, image)
    network.shapes = record.shapes
    if not network.outputs:
        network.outputs = dict(_outputs(network, value))
        record.holds_tensors |= set(network.outputs.values())
    else:  # some of them may have been replaced
        nodes = _argument_nodes(network)
        network.outputs = dict(zip(network.outputs, nodes, strict=True))
    network.data = _data_nodes(network.module, record.holds_tensors)
    return network


def _record(network: TracedNetwork, image: torch.Tensor) -> tuple[_ShapeRecorder, Any]:
    """A run for one image without memory or arithmetic, where it can be done so."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not network.whole:
            try:
                recorder = _ShapeRecorder(network.module, copy.deepcopy(network.module).to("meta"))
                return recorder, recorder.run(image)
            except Exception:
                pass  # what the network makes of numbers, it may not make without them
        recorder = _ShapeRecorder(network.module, network.module)
        return recorder, recorder.run(torch.zeros(image.shape))


class _ShapeRecorder(fx.Interpreter):
    """Runs a graph, or a copy of it, and notes what each operation gives."""

    def __init__(self, original: fx.GraphModule, module: fx.GraphModule):
        super().__init__(module)
        # The copy's nodes stand in the same order as the original's.
        copied: Any = self.module.graph
        self._original = dict(zip(copied.nodes, original.graph.nodes, strict=True))
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}
        self.holds_tensors: set[fx.Node] = set()
        # Operations that work in place, with the results still to be read that they change:
        # whether it is what they give.
        self.changes: dict[fx.Node, dict[fx.Node, bool]] = {}

    def run_node(self, n: fx.Node) -> Any:
        taken = [leaf for leaf in _leaves([self.env[one] for one in n.all_input_nodes])
                 if isinstance(leaf, torch.Tensor)]  # fmt: skip
        before = [_version(tensor) for tensor in taken]
        result = super().run_node(n)
        changed = {
            _storage(one) for one, was in zip(taken, before, strict=True) if _version(one) != was
        } - {None}
        if changed:
            self.changes[self._original[n]] = {
                self._original[other]: value is result
                for other, value in self.env.items()
                if any(_storage(leaf) in changed for leaf in _leaves(value))
            }
        if isinstance(result, torch.Tensor):
            self.shapes[self._original[n]] = tuple(result.shape)
        if any(isinstance(leaf, torch.Tensor) for leaf in _leaves(result)):
            self.holds_tensors.add(self._original[n])
        return result


def _version(tensor: torch.Tensor) -> int:
    """How often a tensor, or what it is a view of, was changed in place."""
    return 0 if tensor.is_inference() else tensor._version


def _storage(value: Any) -> int | None:
    """What tensors have in common that are views of each other."""
    try:
        return value.untyped_storage()._cdata if isinstance(value, torch.Tensor) else None
    except (NotImplementedError, RuntimeError):  # sparse tensors have none
        return None


def _changed(value: Any, change: Any) -> Any:
    """A value after an operation that changed it in place."""
    return value


def _order_in_place(network: TracedNetwork, record: _ShapeRecorder) -> bool:
    """Let what reads a value after it was changed in place depend on that change; whether any did.

    A graph is cut, and its unused operations left out, by who reads whose result. That of
    ``h.relu_()``, written as a statement, is read by nobody.
    """
    position = {node: i for i, node in enumerate(network.nodes)}
    stand_ins: dict[fx.Node, list[fx.Node]] = {}
    is_new = False
    for change, values in record.changes.items():
        for value, is_given in values.items():
            known = stand_ins.setdefault(value, [value])
            behind = _behind(change)
            readers = [
                (one, reader)
                for one in known
                for reader in one.users
                if position[reader] > position[change]
                and reader not in behind
                and (reader in record.holds_tensors or reader in record.changes)
            ]
            if not readers:
                continue
            stand_in, is_new = change, True
            if not is_given:
                with network.module.graph.inserting_after(change):
                    stand_in = network.module.graph.call_function(_changed, (value, change))
                position[stand_in] = position[change]
                if change in network.names:
                    network.names[stand_in] = network.names[change]
            for one, reader in readers:
                reader.replace_input_with(one, stand_in)
            if stand_in not in known:
                known.append(stand_in)
    if is_new:
        network.module.recompile()
    return is_new


def _behind(node: fx.Node) -> set[fx.Node]:
    """Operations that need the result of one."""
    found: set[fx.Node] = set()
    waiting = [node]
    while waiting:
        for user in waiting.pop().users:
            if user not in found:
                found.add(user)
                waiting.append(user)
    return found


def _leaves(value: Any) -> list[Any]:
    return [one for part in tree_leaves(value) for _, one in tensors_of(part)]


def tensors_of(value: Any) -> Iterator[tuple[tuple[Any, ...], torch.Tensor]]:
    """The tensors in what a network returns, each with the keys that lead to it."""
    if isinstance(value, torch.Tensor):
        yield (), value
        return
    for key, part in _parts(value):
        for keys, tensor in tensors_of(part):
            yield (key, *keys), tensor


def _parts(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return list(zip(value._fields, value, strict=True))
    if isinstance(value, (tuple, list)):
        return list(enumerate(value))
    if is_dataclass(value) and not isinstance(value, type):
        return [(one.name, getattr(value, one.name)) for one in fields(value)]
    return []


def _outputs(network: TracedNetwork, value: Any) -> Iterator[tuple[str, fx.Node]]:
    """Nodes of the tensors that come out; the graph is changed to give them side by side."""
    graph = network.module.graph
    end = next(node for node in graph.nodes if node.op == "output")
    found = []
    with graph.inserting_before(end):
        for keys, tensor in tensors_of(value):
            if not tensor.ndim or len(tensor) != 1:  # not one row for each image
                continue
            node = _taken(graph, end.args[0], value, keys)
            network.shapes[node] = tuple(tensor.shape)
            found.append((".".join(map(str, keys)), node))
    if not found:
        raise BackboneError(
            f"{network.module._get_name()} must give a tensor with a row for each image, gave "
            f"{_described(value)} for one image."
        )
    if not isinstance(end.args[0], fx.Node) or len(found) > 1 or found[0][0]:
        end.args = (tuple(node for _, node in found),)
        network.module.recompile()
    yield from found


def _described(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}" if value.ndim else "a single number"
    return type(value).__name__


def _taken(graph: fx.Graph, argument: Any, value: Any, keys: tuple[Any, ...]) -> fx.Node:
    """The node of one tensor within what is returned."""
    for key in keys:
        named = not isinstance(value, Mapping) and isinstance(key, str)
        if isinstance(argument, fx.Node):
            # A call that makes the container need not be undone to have what is in it.
            inside = argument.kwargs if is_dataclass(value) else argument.args
            made = argument.target is type(value)
            if made and named and is_dataclass(value) and key in inside:
                argument = inside[key]
            else:
                take = getattr if named else operator.getitem
                argument = graph.call_function(take, (argument, key))
        else:
            argument = getattr(argument, key) if named else argument[key]
        value = dict(_parts(value))[key]
    return argument


def _argument_nodes(network: TracedNetwork) -> list[fx.Node]:
    end = next(node for node in network.module.graph.nodes if node.op == "output")
    found: list[fx.Node] = []
    fx.node.map_arg(end.args, lambda node: found.append(node))
    return found


def _data_nodes(module: fx.GraphModule, holds_tensors: set[fx.Node]) -> set[fx.Node]:
    """Follow the pixels through tensors and tuples of tensors, not through sizes."""
    data: set[fx.Node] = set()
    for node in module.graph.nodes:
        fed = node.op == "placeholder" or any(source in data for source in node.all_input_nodes)
        if fed and node.op != "output" and node in holds_tensors:
            data.add(node)
    return data


def is_faithful(network: TracedNetwork, module: nn.Module, image_size: tuple[int, int]) -> str:
    """Compare a graph with the network that it was made of, on noise.

    Returns
    -------
    str
        Empty if they agree; ``"graph"`` if the graph computes something else, ``"batch"`` if an
        image's output depends on the images beside it or on chance.
    """
    images, entry = _noise(network, image_size), Entry(module, _images_of(module))
    try:
        with restored(module):
            found = _run(network.module, images)
            # A maximum over both is that of one of them alone, so both are looked at.
            alone = [_run(entry, image, seed=i) for i, image in enumerate(images.split(1), start=1)]
            if all(_agree([one[i : i + 1] for one in found], own) for i, own in enumerate(alone)):
                return ""
            return "batch" if _agree(found, _run(entry, images)) else "graph"
    except Exception:  # what cannot be run here says so where it is to be run
        return ""


def _takes_one_as_several(
    network: TracedNetwork, entry: Entry, image_size: tuple[int, int]
) -> bool:
    """Whether a graph that was made for several images is right for one."""
    images = _noise(network, image_size)
    try:
        return all(_agree(_run(network.module, x), _run(entry, x)) for x in (images[:1], images))
    except Exception:
        return False


def _noise(network: TracedNetwork, image_size: tuple[int, int]) -> torch.Tensor:
    """Two images, with values of different size."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn((2, network.n_channels, *image_size), generator=generator)
    return images * torch.tensor([0.5, 2.0]).view(2, 1, 1, 1)


def _run(module: nn.Module, images: torch.Tensor, seed: int = 0) -> list[torch.Tensor]:
    """The tensors that come out with a row for each image."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        found = (tensor for _, tensor in tensors_of(module(images.clone())))
        return [tensor for tensor in found if tensor.ndim and len(tensor) == len(images)]


def _agree(found: list[torch.Tensor], expected: list[torch.Tensor]) -> bool:
    if [one.shape for one in found] != [one.shape for one in expected]:
        return False
    for one, other in zip(found, expected, strict=True):
        one, other = (torch.nan_to_num(t.detach().double().flatten()) for t in (one, other))
        if not float((one - other).norm()) <= 1e-3 * max(float(other.norm()), 1e-12):
            return False
    return True


# Where a network can be cut into a prefix and a tail, and what of it is its classifier.
#
# A cut point is an operation after which it alone is alive: everything that follows needs
# nothing of the image but this one tensor. Inside a residual block the shortcut is alive as
# well, so a block can be cut only behind its sum; that holds for every family of networks,
# and no table of layers is needed.


_PASSIVE_MODULES = (nn.Dropout, nn.Dropout2d, nn.Identity, nn.Flatten)
_PASSIVE_FUNCTIONS = {"flatten", "dropout", "contiguous", "_assert", "squeeze", "reshape", "view"}


def cut_nodes(network: TracedNetwork) -> list[fx.Node]:
    """Operations after which exactly one tensor is alive, in order of computation."""
    nodes = network.nodes
    last_use = _last_uses(network)
    cuts: list[fx.Node] = []
    alive: set[fx.Node] = set()
    for position, node in enumerate(nodes):
        if node in network.data:
            alive.add(node)
        alive = {other for other in alive if last_use.get(other, -1) > position}
        if len(alive) == 1:
            (only,) = alive
            if only in network.shapes and only.op != "placeholder" and only not in cuts[-1:]:
                cuts.append(only)
    return cuts


def _last_uses(network: TracedNetwork) -> dict[fx.Node, int]:
    """Where each operation's result is read last; of the image, where more is than its size."""
    position = {node: i for i, node in enumerate(network.nodes)}
    last: dict[fx.Node, int] = {}
    for node in network.nodes:
        users = [one for one in node.users if node.op != "placeholder" or one in network.data]
        if users:
            last[node] = max(position[user] for user in users)
    return last


@dataclass(frozen=True)
class Head:
    """What of a network is taken for its classifier.

    Attributes
    ----------
    nodes : tuple of Node
        Its layers with weights, in order; empty if there is none, and the network's output is
        its code.
    guess : str
        The reason that was no more than likely; empty where there is no doubt.
    """

    nodes: tuple[fx.Node, ...] = ()
    guess: str = ""


# Names of layers by which people and libraries tell what they are, as parts of a path.
_CLASSIFIERS = re.compile(r"^fc(\d+|_.*)?$|classif|^cls|head|logit|^pred|^last_linear$", re.I)
_EMBEDDINGS = {
    "emb", "embed", "embeds", "embedding", "embeddings", "embedder", "proj", "project",
    "projection", "projections", "projector", "latent", "latents", "hash", "hashes", "hashing",
    "neck", "bottleneck",
}  # fmt: skip
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
# Parts of a path that say nothing of what a layer is for.
_PLACES = {"weight", "kernel", "linear", "lin", "dense", "layer", "layers"}
# What makes another thing of outputs than scores of classes.
_ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Hardswish, nn.Tanh, nn.Hardtanh, nn.Softplus,
)  # fmt: skip
_ACTIVATING = {
    "relu", "relu_", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "hardswish",
    "tanh", "tanh_", "hardtanh", "softplus",
}  # fmt: skip
_NORMALIZING = {"normalize", "norm", "vector_norm"}
_LINEAR = {"linear", "matmul", "mm", "addmm", "einsum", "__matmul__"}


def find_head(network: TracedNetwork, module: Any, *, published: bool) -> Head:
    """Tell the classifier of a network from the layers of an embedding.

    Parameters
    ----------
    network : TracedNetwork
    module : torch.nn.Module
        What it was traced from.
    published : bool
        Whether it is a network by name, which was trained to classify.

    Notes
    -----
    timm's networks say what their classifier is. In other modules it is what the output is
    made of last, if that is linear layers, whose output is a row of numbers with no activation
    but softmax or sigmoid behind. It is taken for an embedding where its own name holds such a
    word as "emb" or "proj", or where no name tells and the number of outputs is a usual
    width of embeddings and of hardly any set of classes: 2ⁿ or 3·2ⁿ, from 64 on.
    """
    if _says_it_has_none(module):
        return Head()
    nodes = _last_layers(network)
    if published or not nodes:
        return Head(tuple(nodes))
    names = [network.names.get(node, "") for node in nodes]
    known = hasattr(module, "get_classifier")
    if not known and not all(_scores(node, network) for node in nodes):
        return Head()
    if not known and any(map(_named_embedding, names)):
        return Head()
    if known or all(map(_named_so, names)):
        return Head(tuple(nodes))
    width = max(network.shapes[node][-1] for node in network.outputs.values())
    if _is_width(width):
        return Head((), f"has {width} outputs, a usual width of embeddings")
    return Head(tuple(nodes), "is a linear layer whose name does not say what it is for")


def _says_it_has_none(module: Any) -> bool:
    """Whether timm's way of telling says that the classifier was taken away."""
    try:
        classifier = module.get_classifier() if hasattr(module, "get_classifier") else module
    except Exception:
        return False
    several = classifier if isinstance(classifier, (tuple, list)) else (classifier,)
    return all(one is None or type(one) is nn.Identity for one in several)


def _named_so(name: str) -> bool:
    return any(_CLASSIFIERS.search(part) for part in name.split("."))


def _named_embedding(name: str) -> bool:
    """Whether the last part of a path that says what a layer is for tells of an embedding."""
    parts = name.split(".")
    while len(parts) > 1 and (parts[-1].isdigit() or parts[-1].lower() in _PLACES):
        parts.pop()
    words = {word.lower() for word in _WORDS.findall(parts[-1])}
    return bool(words & _EMBEDDINGS)


def _is_width(n: int) -> bool:
    """2ⁿ or 3·2ⁿ, from 64 on."""
    odd = n // (n & -n) if n else 0
    return n >= 64 and odd in (1, 3)


def _last_layers(network: TracedNetwork) -> list[fx.Node]:
    """The layers with weights that make the output: one for most networks.

    Found by walking back from the output to the nearest operations with weights. Those that
    are a norm (one-dimensional weights) are left out: behind the trunk there is no classifier.
    """
    found: list[fx.Node] = []
    for node in _walk_back(network):
        if weight_dimensions(node, network) >= 2:
            found.append(node)
    order = {node: i for i, node in enumerate(network.nodes)}
    return sorted(found, key=order.__getitem__)


def _walk_back(network: TracedNetwork) -> list[fx.Node]:
    """Operations from the output back to the nearest ones with weights, these included."""
    output = next(node for node in network.nodes if node.op == "output")
    seen: dict[fx.Node, None] = {}
    waiting = [node for node in output.all_input_nodes if node in network.data]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen[node] = None
        if weight_dimensions(node, network) == 0:
            waiting.extend(n for n in node.all_input_nodes if n in network.data)
    return list(seen)


def _scores(node: fx.Node, network: TracedNetwork) -> bool:
    """Whether a layer can be one that gives scores of classes."""
    module = _module(node, network)
    behind = [other for other in _walk_back(network) if other is not node]
    if any(_is_named(other, _NORMALIZING) for other in behind):
        return False
    named = _named_so(network.names.get(node, ""))
    rows = all(_is_row(network.shapes.get(out, ())) for out in network.outputs.values())
    activated = any(
        _is_named(other, _ACTIVATING) or isinstance(_module(other, network), _ACTIVATIONS)
        for other in behind
    )
    if isinstance(module, nn.Conv2d):  # of every place, in front of a mean or of a mask
        pointwise = tuple(module.kernel_size) == (1, 1)
        return pointwise and (named or (rows and not activated))
    linear = isinstance(module, nn.Linear) or _is_named(node, _LINEAR)
    return linear and rows and not activated


def _module(node: fx.Node, network: TracedNetwork) -> nn.Module | None:
    return network.module.get_submodule(str(node.target)) if node.op == "call_module" else None


def _is_named(node: fx.Node, names: set[str]) -> bool:
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
    return name in names


def _is_row(shape: tuple[int, ...]) -> bool:
    """Whether one image's output is a row of numbers, perhaps with axes of length 1."""
    return sum(n > 1 for n in shape[1:]) <= 1


def weight_dimensions(node: fx.Node, network: TracedNetwork) -> int:
    """Most dimensions of the weights an operation uses; 0 if it has none."""
    if node.op == "call_module":
        module = network.module.get_submodule(str(node.target))
        return max((p.ndim for p in module.parameters()), default=0)
    computed = _is_named(node, _LINEAR)  # from weights, such as normalised ones
    constants = [
        source
        for source in node.all_input_nodes
        if source.op == "get_attr" or (computed and source not in network.data)
    ]
    return max((len(network.shapes.get(source, ())) for source in constants), default=0)


def is_passive(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether an operation hands its input on: same numbers, perhaps another shape."""
    if node.op == "call_module":
        return is_passive_module(modules[str(node.target)])
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
    return name in _PASSIVE_FUNCTIONS


def is_passive_module(module: nn.Module) -> bool:
    """Whether a module in eval mode hands its input on."""
    return isinstance(module, _PASSIVE_MODULES) and is_plain(module)


# Modules behind the operations of a graph.


# Where torch keeps what is called before and after a module.
HOOKS = ("_forward_pre_hooks", "_forward_hooks")


def is_plain(module: nn.Module) -> bool:
    """Whether a module computes what its class says: no hooks, no `forward` of its own.

    What is not plain may compute anything, whatever it is an instance of.
    """
    own = vars(module)
    return "forward" not in own and not any(own.get(hooks) for hooks in HOOKS)


def module_of(root: nn.Module, node: object) -> Any:
    """The module that an operation calls; None where it calls none."""
    if not isinstance(node, fx.Node) or node.op != "call_module":
        return None
    return root.get_submodule(str(node.target))


def replace_module(root: nn.Module, path: str, module: nn.Module) -> None:
    """Put another module in the place of one, by its path."""
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, module)


def referred(source: nn.Module, graph: fx.Graph) -> dict[str, Any]:
    """Modules, parameters and buffers of a network that a graph refers to, by path."""
    used: dict[str, Any] = {}
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            path = str(node.target)
            with suppress(AttributeError):  # a module that is new to the graph
                used[path] = reduce(getattr, path.split("."), source)
    return used


# Tracing and running keep out of each other's way.
#
# While torch.fx follows a network, it has ``torch.nn.Module.__call__`` replaced for the whole
# process; a network that another thread runs in that moment would be traced as well.


_changed_gate = threading.Condition()
_running = 0
_tracing = False


@contextmanager
def running() -> Iterator[None]:
    """Hold while a network runs; any number of threads may."""
    global _running
    with _changed_gate:
        _changed_gate.wait_for(lambda: not _tracing)
        _running += 1
    try:
        yield
    finally:
        with _changed_gate:
            _running -= 1
            _changed_gate.notify_all()


@contextmanager
def tracing() -> Iterator[None]:
    """Hold while a network is traced; nothing else runs or traces."""
    global _tracing
    with _changed_gate:
        _changed_gate.wait_for(lambda: not _tracing and not _running)
        _tracing = True
    try:
        yield
    finally:
        with _changed_gate:
            _tracing = False
            _changed_gate.notify_all()


# torch.fx's tracer, told the shapes: Python may ask for sizes, but not for values.
#
# torch.fx follows a network with stand-ins for its tensors, and gives up at the first ``if``,
# ``assert``, ``len()`` or ``int()`` that asks something of them. What these ask is mostly about
# shapes, which are known: they are worked out on the meta device, when they are first asked for,
# and for two batches of different length, since the number of images must decide nothing.


_LIBRARIES = ("torch", "torchvision", "timm")
_BATCHES = (1, 2)
# Modules that look at what their tensors are, and hold no weights.
_LEAVES = ("torchvision.transforms.", "einops.layers.")
# What turns a tensor's values into Python's or decides a shape by them.
_READS = {"item", "tolist", "numpy", "__bool__", "nonzero", "unique", "argwhere", "masked_select"}


class ReadsValues(Exception):
    """Python code wants to know the value of something that is computed from pixels."""


class AsksForBatch(Exception):
    """Python code wants to know how many images there are."""

    def __str__(self) -> str:
        return "it asks how many images there are"


def functions_to_keep() -> tuple[Callable[..., Any], ...]:
    """Functions that are operations of their own: timm's, and those of einops where it is used."""
    from timm.models import get_notrace_functions

    einops = sys.modules.get("einops")
    names = ("rearrange", "reduce", "repeat", "einsum")
    own = [getattr(einops, name) for name in names if hasattr(einops, name)]
    return (*get_notrace_functions(), *own)


@contextmanager
def restored(network: nn.Module) -> Iterator[None]:
    """Undo what a network's code keeps in its modules, such as a cache, while it is looked at."""
    places: list[Any] = []
    for module in network.modules():
        own = vars(module)
        places += [own, *(one for one in own.values() if isinstance(one, (dict, list)))]
    saved = [(place, copy.copy(place)) for place in places]
    try:
        yield
    finally:
        for place, before in saved:
            if not _holds_same(place, before):
                place.clear()
                (place.update if isinstance(place, dict) else place.extend)(before)


def _holds_same(place: Any, before: Any) -> bool:
    if isinstance(place, dict):
        return list(place) == list(before) and _holds_same(
            list(place.values()), list(before.values())
        )
    return len(place) == len(before) and all(map(operator.is_, place, before))


class Entry(nn.Module):
    """Calls a network as its users do: with images alone, so that defaults, hooks and a
    ``forward`` that was put on the instance are what they are for them.

    Parameters
    ----------
    network : torch.nn.Module
    keyword : str or None
        Name of the argument that takes images, where it is not the first.
    """

    def __init__(self, network: nn.Module, keyword: str | None = None):
        super().__init__()
        self.network, self._keyword = network, keyword

    def forward(self, image: Any) -> Any:
        if self._keyword is None:
            return self.network(image)
        return self.network(**{self._keyword: image})


class ShapeTracer(NodePathTracer):
    """Follows a network for images of one shape.

    Parameters
    ----------
    image_shape : tuple of int or None
        Channels, height and width; None answers no question.

    Attributes
    ----------
    assumed : bool
        Whether a branch was taken that one image alone would not have taken.
    """

    def __init__(self, image_shape: tuple[int, ...] | None, **options: Any):
        super().__init__(**options)
        self._image_shape = image_shape
        self._shapes: _Shapes | None = None
        self._working = self.assumed = False
        self._helped: list[tuple[dict[str, Any], str]] = []

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        """As torch.fx's; `root` is an `Entry`."""
        try:
            with restored(root.network):
                return super().trace(root, concrete_args)
        finally:
            for names, name in self._helped:
                del names[name]
            self._helped.clear()

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Value(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualname: str) -> bool:
        return type(m).__module__.startswith(_LEAVES) or super().is_leaf_module(m, module_qualname)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        if self._working:
            return forward(*args, **kwargs)
        self._help(m)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self._working:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        try:
            return self.answer(obj, bool)
        except AsksForBatch:
            self.assumed = True
            return bool(self._values(obj.node)[-1])

    def iter(self, obj: Any) -> Iterator[Any]:
        return iter([obj[i] for i in range(self.length(obj))])

    def answer(self, proxy: fx.Proxy, ask: Callable[[Any], Any]) -> Any:
        """What Python is told of a value that no pixel decides.

        Raises
        ------
        ReadsValues
            If pixels decide it.
        AsksForBatch
            If the number of images does.
        """
        values = self._values(proxy.node)
        if isinstance(values[0], torch.Tensor):
            raise ReadsValues
        return _same([ask(value) for value in values])

    def length(self, proxy: fx.Proxy) -> int:
        """``len()`` of a value."""
        return int(_same([len(value) for value in self._values(proxy.node)]))

    def _len(self, value: Any) -> Any:
        """``len()`` for a network's code: of a tensor it is the number of images, often."""
        if not isinstance(value, fx.Proxy):
            return len(value)
        is_tensor = isinstance(self._values(value.node)[0], torch.Tensor)
        return value.size(0) if is_tensor else self.length(value)

    def _isinstance(self, value: Any, kinds: Any) -> bool:
        if not isinstance(value, fx.Proxy):
            return isinstance(value, kinds)
        return bool(_same([isinstance(one, kinds) for one in self._values(value.node)]))

    def _help(self, module: nn.Module) -> None:
        """Have the code of a network find our ``len`` and ``isinstance`` before Python's."""
        code = inspect.unwrap(getattr(module.forward, "__func__", module.forward))
        names = getattr(code, "__globals__", None)
        if names is None or str(names.get("__name__")).split(".")[0] in _LIBRARIES:
            return
        for name, function in (("len", self._len), ("isinstance", self._isinstance)):
            if names.get(name, getattr(builtins, name)) is getattr(builtins, name):
                if name not in names:
                    self._helped.append((names, name))
                    names[name] = function

    def _values(self, node: fx.Node) -> tuple[Any, ...]:
        if self._image_shape is None:
            raise fx.proxy.TraceError("it asks for the shape of its images")
        was, self._working = self._working, True
        try:
            if self._shapes is None:
                self._shapes = _Shapes(self.root, self._image_shape)
            return self._shapes.of(node)
        finally:
            self._working = was


def _same(answers: list[Any]) -> Any:
    if answers[0] != answers[1]:
        raise AsksForBatch
    return answers[0]


class _Value(fx.Proxy):
    """A stand-in that Python may ask about sizes."""

    tracer: Any

    def __getattr__(self, k: str) -> Any:
        return _Attribute(self, k)

    def __len__(self) -> int:
        return self.tracer.length(self)

    def __index__(self) -> int:
        return self.tracer.answer(self, int)

    def __int__(self) -> int:
        return self.tracer.answer(self, int)

    def __float__(self) -> float:
        return self.tracer.answer(self, float)


class _Attribute(_Value, fx.proxy.Attribute):
    """An attribute of one, such as its shape."""


class _Shapes:
    """Values of a graph's nodes on the meta device, for each of two batches."""

    def __init__(self, root: nn.Module, image_shape: tuple[int, ...]):
        self._root = _without_numbers(root)
        self._images = tuple(torch.empty(n, *image_shape, device="meta") for n in _BATCHES)
        self._known: dict[fx.Node, tuple[Any, ...]] = {}

    def of(self, node: fx.Node) -> tuple[Any, ...]:
        waiting = [node]
        while waiting:
            missing = [n for n in waiting[-1].all_input_nodes if n not in self._known]
            if missing:
                waiting += missing
                continue
            one = waiting.pop()
            if one not in self._known:
                self._known[one] = self._compute(one)
        return self._known[node]

    def _compute(self, node: fx.Node) -> tuple[Any, ...]:
        try:
            with torch.no_grad():
                return tuple(self._run(node, batch) for batch in range(len(_BATCHES)))
        except Exception as error:
            if getattr(node.target, "__name__", node.target) in _READS:
                raise ReadsValues from error
            raise

    def _run(self, node: fx.Node, batch: int) -> Any:
        if node.op == "placeholder":
            return self._images[batch]
        if node.op == "get_attr":
            return reduce(getattr, str(node.target).split("."), self._root)
        args, kwargs = fx.node.map_arg(
            (node.args, node.kwargs), lambda other: self._known[other][batch]
        )
        if node.op == "call_module":
            return self._root.get_submodule(str(node.target))(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        call: Any = node.target
        return call(*args, **kwargs)


def _without_numbers(root: nn.Module) -> nn.Module:
    """A copy on the meta device, made without copying weights first."""
    tensors = [*root.parameters(), *root.buffers()]
    for module in root.modules():
        tensors += [one for one in vars(module).values() if isinstance(one, torch.Tensor)]
    # A stand-in that the network's code keeps is no part of it.
    memo: dict[int, Any] = {id(one): one for one in _stand_ins(root)}
    for tensor in tensors:
        empty = tensor.detach().to("meta")
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(empty, requires_grad=False) if is_parameter else empty
    return copy.deepcopy(root, memo)


def _stand_ins(root: nn.Module) -> Iterator[fx.Proxy]:
    """Those that are kept in modules, or in lists and dicts of them."""
    for module in root.modules():
        for value in vars(module).values():
            if isinstance(value, fx.Proxy):
                yield value
            elif isinstance(value, (dict, list)):
                inside = value.values() if isinstance(value, dict) else value
                yield from (one for one in inside if isinstance(one, fx.Proxy))
