"""The graph of a network with the shape of every value in it."""

from __future__ import annotations

import copy
import inspect
import operator
import traceback
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves

from ..exceptions import BackboneError, TracingError, shown
from ._spec import reason_of
from ._tracer import (
    Entry,
    ReadsValues,
    functions_to_keep,
    restored,
)

__all__ = [
    "TracedNetwork",
    "follow",
    "is_faithful",
    "retrace_shapes",
    "trace",
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

    from ._shape_tracer import ShapeTracer

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
