"""Every parameter of every estimator, declared once: name, default, valid values, documentation.

An estimator is made of groups::

    @parameters
    class CNNCodes(TransformerMixin, General, LayerCache, BatchCompute, ImageInput, Codes, Network,
                   BaseEstimator):
        \"\"\"Summary, and all sections but Parameters.\"\"\"

The decorator makes the constructor, `_parameter_constraints` for scikit-learn's validation, and the
section Parameters of the docstring. The parameters of the last group come first, as in any
dataclass. A group is also a type for what is passed down: a function that needs `lr` and `warmup`
takes a `Training`, which every estimator that trains is.

This module imports nothing of the other rooms, so that each of them may use the groups.
"""

from __future__ import annotations

import enum
import inspect
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal, TypeVar, dataclass_transform

from ._sklearn import HasMethods, Integral, Interval, Real, StrOptions

__all__ = [
    "STRATEGIES",
    "TEXT_STRATEGIES",
    "Activations",
    "Augmentation",
    "BatchCompute",
    "Cache",
    "Checkpointing",
    "ClassifierLoss",
    "Codes",
    "Compute",
    "DenseAugmentation",
    "DenseInput",
    "DenseTail",
    "Detection",
    "Ending",
    "General",
    "ImageInput",
    "ImageTail",
    "LayerCache",
    "Network",
    "Tail",
    "TextCodesParameters",
    "TextCompute",
    "TextInput",
    "TextLayer",
    "TextNetwork",
    "TextPairs",
    "TextPooling",
    "TextTraining",
    "TextTrials",
    "TokenCodesParameters",
    "Training",
    "Trials",
    "param",
    "parameters",
    "values_of",
]

Class = TypeVar("Class", bound=type)


def param(
    *,
    doc: str,
    default: Any = MISSING,
    choices: Sequence[str] = (),
    valid: Any = (),
    type: str = "",
    kw_only: bool = True,
) -> Any:
    """Declare a parameter.

    Parameters
    ----------
    doc : str
    default : object
        None is given for what every call must name.
    choices : sequence of str
        Names that it may be.
    valid : list or "no_validation"
        What else it may be, as in scikit-learn's `_parameter_constraints`.
    type : str
        The same in numpydoc's words.
    kw_only : bool
    """
    named = ", ".join(f'"{one}"' for one in choices)
    facts = {
        "valid": [StrOptions(set(choices)), *valid] if choices else valid,
        "type": " or ".join(filter(None, [named and f"{{{named}}}", type])),
        "doc": inspect.cleandoc(doc),
    }
    return field(default=default, kw_only=kw_only, metadata=facts)


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(param,))
def parameters(cls: Class) -> Class:
    """Make a group, or an estimator, of the parameters that a class and its bases declare.

    The docstring gets the section Parameters, and behind its own attributes those that the
    docstrings of bases have.
    """
    made: Any = dataclass(kw_only=True, eq=False, repr=False)(cls)  # the same class
    made._parameter_constraints = {one.name: one.metadata["valid"] for one in fields(made)}
    for name in set(made._parameter_constraints) & set(vars(made)):
        delattr(made, name)  # the default, which pages of classes would list as an attribute
    made.__doc__ = _documentation(made)
    return cls


def changed(
    group: Any, name: str, *, default: Any, doc: str | None = None, choices: Sequence[str] = ()
) -> Any:
    """Declare a parameter of a group again, with another default, text, or names it may be."""
    (facts,) = (dict(one.metadata) for one in fields(group) if one.name == name)
    if doc is not None:
        facts["doc"] = inspect.cleandoc(doc)
    if choices:
        facts |= param(doc=facts["doc"], choices=choices).metadata
    return field(default=default, kw_only=True, metadata=facts)


def values_of(holder: Any, *groups: Any) -> dict[str, Any]:
    """The values of all parameters of some groups."""
    return {one.name: getattr(holder, one.name) for group in groups for one in fields(group)}


def _documentation(cls: Any) -> str:
    """The docstring of a class with its parameters, and with the attributes of its bases."""
    attributes: dict[str, str] = {}
    for one in cls.__mro__:
        for name, text in _entries(_sections(one.__doc__).get("Attributes", "")):
            attributes.setdefault(name, text)
    sections = _sections(cls.__doc__) | {
        "Parameters": "\n".join(_described(one) for one in _in_order(cls)),
        "Attributes": "\n".join(attributes.values()),
    }
    order = dict.fromkeys(["", "Parameters", "Attributes", *sections])
    return "\n\n".join(
        f"{title}\n{'-' * len(title)}\n{sections[title]}".strip()
        for title in order
        if sections[title]
    )


def _in_order(cls: Any) -> list[Any]:
    """The fields of a class in the order of its constructor."""
    return sorted(fields(cls), key=lambda one: one.kw_only)


def _described(one: Any) -> str:
    text = one.metadata["doc"].replace("\n", "\n    ")
    default = ""
    if one.default is not MISSING:
        shown = f'"{one.default}"' if isinstance(one.default, str) else repr(one.default)
        default = f", default={shown}"
    return f"{one.name} : {one.metadata['type']}{default}\n    {text}"


def _sections(doc: str | None) -> dict[str, str]:
    """The text of a docstring by the titles of its sections; that of "" stands before them."""
    parts = re.split(r"(?:^|\n\n)([A-Z][A-Za-z ]+)\n-{3,}\n", inspect.cleandoc(doc or ""))
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def _entries(section: str) -> list[tuple[str, str]]:
    """Names and whole entries of a section such as Attributes."""
    return [(one.partition(" :")[0], one) for one in re.split(r"\n(?=\S)", section) if one]


# Valid values that several parameters share.
_COUNT = Interval(Integral, 1, None, closed="left")
# As joblib has it: 0 means nothing.
_JOBS = (Interval(Integral, 1, None, closed="left"), Interval(Integral, None, -1, closed="right"))
_POSITIVE = Interval(Real, 0, None, closed="neither")
_NOT_NEGATIVE = Interval(Real, 0, None, closed="left")
_SHARE = Interval(Real, 0, 1, closed="left")


# What all estimators have in common: a network, images, and how and where codes are computed.


@parameters
class Network:
    """Which network it is."""

    backbone: Any = param(
        default="efficientnet_lite0", valid=[str, HasMethods(["forward", "state_dict"])],
        kw_only=False, type="str or torch.nn.Module", doc="""
        Name of a network; see :func:`sktransfer.list_backbones`. ``"torchvision:"``, ``"timm:"``,
        ``"packaged:"`` and ``"hf-hub:"`` before the name say where to look. A module is copied,
        never changed, and needs `preprocessing` unless it is timm's.""")
    weights: str | os.PathLike[str] | enum.Enum | None = param(
        default="default", valid=[str, os.PathLike, enum.Enum, None],
        type="str, enum member, path or None", doc="""
        ``"default"``, the name of a set of weights such as ``"IMAGENET1K_V2"``, one of
        torchvision's weights objects, a local ``.pth``, ``.pt`` or ``.safetensors`` file, or None
        for random weights (always the same ones), which serve comparisons and tests.""")
    preprocessing: Any = param(  # see as_preprocessing
        default=None, valid="no_validation",
        type='Preprocessing, dict, transforms or "default"', doc="""
        Size, crop, mean, standard deviation and interpolation; needed only where weights do not
        tell. ``weights.transforms()`` of torchvision's weights is taken as well. ``"default"``
        takes those of the network's default weights.""")


@parameters
class ImageInput:
    """What the numbers of images mean, and how images are made to fit the network."""

    image_size: int | tuple[int, int] | None = param(
        default=None, valid=[_COUNT, tuple, list, None], type="int or (int, int)", doc="""
        Height and width in pixels that the network sees; None is the size it was trained with.""")
    resize: str = param(default="pad", choices=("pad", "squash", "crop"), doc="""
        How an image that is not square is made so: with bars of the mean colour, by changing its
        proportions, or by cutting out the middle, as the transforms that come with weights do. On
        square images the three differ only in `crop_pct`.""")
    crop_pct: float | None = param(
        default=None, valid=[Interval(Real, 0, 1, closed="right"), None], type="float", doc="""
        With ``resize="crop"``: the part of the shorter side that is kept, in (0, 1]. None is what
        the weights come with, such as 0.875.""")
    image_shape: tuple[int, ...] | Literal["row"] | None = param(
        default=None, valid=[tuple, list, StrOptions({"row"}), None],
        type='tuple of int or "row"', doc="""
        Shape of an image in flattened rows: (h, w), (h, w, 3) or (3, h, w). None infers it where
        the length of a row is a square or three times a square, of which neighbours that resemble
        each other tell (h, w, 3) from (3, h, w); ``"row"`` takes a row as an image of height 1.""")
    value_range: Literal["auto"] | tuple[float, float] = param(
        default="auto", valid=[StrOptions({"auto"}), tuple, list],
        type='"auto" or (float, float)', doc="""
        The numbers that mean black and white in arrays, and in files and PIL images of more than 8
        bits, such as (0, 4095) for 12 bits in 16-bit PNG or TIFF files; files of 8 bits need none.
        ``"auto"`` tells by all arrays together: uint8 and integers are 0 to 255; floats within 0 to
        1 are that, floats within 0 to 255 that reach 128 are that; anything else is an error. Files
        are 0 to the largest value of their type. A warning is given where images look nearly black
        so. With a tuple, values beyond are clipped with a warning.""")


@parameters
class DenseInput:
    """The same where something is said of every place of an image."""

    image_size: int | tuple[int, int] | None = changed(ImageInput, "image_size",
        default=None, doc="""
        Height and width in pixels that the network sees, of any size. None is the median height and
        width of the images of `fit`, reduced so that the longer side has at most 512 pixels, or
        enlarged to those that the network was trained with. The answers always have the size of
        each image; small things need a larger size.""")
    resize: str = param(default="pad", choices=("pad", "squash"), doc="""
        How an image of other proportions is made to fit: with bars of the mean colour, or by
        changing its proportions.""")
    value_range: Literal["auto"] | tuple[float, float] = changed(
        ImageInput, "value_range", default="auto")


@parameters
class Compute:
    """Where and in what a frozen network is computed."""

    device: str | Sequence[str] = param(
        default="auto", valid=[str, HasMethods(["type", "index"]), list, tuple],
        type="str or list of str", doc="""
        ``"auto"`` is cuda, then mps, then cpu; any name that torch knows. Of several, such as
        ``["cuda:0", "cuda:1"]``, each batch of a frozen network goes to one that is free; training
        takes the first.""")
    precision: str = param(
        default="auto", choices=("auto", "float32", "bfloat16", "float16"), doc="""
        What a frozen network computes in; codes are float32 always. ``"auto"`` is the fastest whose
        codes stay within 1% of float32 (relative L2 norm): float16 on CUDA, float32 elsewhere. On a
        CPU bfloat16 is up to twice as fast or more, and about 6% off, which costs a linear
        classifier nothing that could be measured.""")
    engine: str = param(default="auto", choices=("auto", "torch", "openvino"), doc="""
        What runs a frozen network. ``"auto"`` is OpenVINO on a CPU where it is installed (the extra
        ``openvino``), torch elsewhere. OpenVINO converts a network once, in about a second; a
        network that it cannot convert, or computes differently by more than 1e-3, runs on torch
        with a warning.""")
    n_jobs: int | None = param(default=None, valid=[*_JOBS, None], type="int", doc="""
        Batches that are read and computed by a frozen network at the same time on the CPU, each on
        one core. None is all cores that this process may use.""")


@parameters
class Cache:
    """Where what was computed is kept."""

    cache: Any = param(
        default="memory", valid=[str, os.PathLike, HasMethods(["get_many", "put_many"]), None],
        type='"memory", path, Store or None', doc="""
        Where the outputs of frozen networks are kept so that no image goes through the same network
        twice: in memory, shared by all estimators of the process and bounded
        (:func:`sktransfer.set_config`, 512 MB), or in a folder shared by processes and runs.
        The key is the content of the image, not its name.""")


@parameters
class General:
    """What is said and saved."""

    bundle_weights: bool = param(default=False, valid=["boolean"], type="bool", doc="""
        Whether a pickle holds the pretrained weights even where they can be loaded by name.""")
    verbose: int = param(default=0, valid=["verbose"], type="int", doc="""
        1 shows progress: a bar over images, or a line for each epoch or trial.""")


# The same for texts.


@parameters
class TextNetwork:
    """Which network for text it is."""

    backbone: Any = param(
        default="minilm_l6",
        valid=[str, os.PathLike, HasMethods(["forward", "state_dict"])],
        kw_only=False, type="str, path or transformers.PreTrainedModel", doc="""
        ``"minilm_l6"``, which comes with the extra ``text`` (22.7 million weights, English); a
        folder as ``save_pretrained`` or sentence-transformers writes it;
        ``"hf-hub:organisation/name"``; or a model of transformers, which is copied, never
        changed.""")
    weights: str | None = param(default="default", valid=[str, None], type="str or None", doc="""
        ``"default"``, or None for random weights (always the same ones), which serve comparisons
        and tests.""")
    tokenizer: Any = param(default=None, valid="no_validation",
        type="tokenizer, path or None", doc="""
        A fast tokenizer of transformers, one of the package tokenizers, or the path of a
        ``tokenizer.json``. None is the one that comes with the network; a model needs one.""")


@parameters
class TextInput:
    """How texts are read."""

    max_tokens: int | None = param(default=None, valid=[_COUNT, None], type="int", doc="""
        Tokens that the network reads at a time, special ones included. None is what the network was
        trained with.""")
    long_texts: str = param(
        default="windows", choices=("windows", "head", "head_tail", "error"), doc="""
        What becomes of a text of more tokens: it is read in windows that cover all of it; or its
        beginning alone is, or a quarter of `max_tokens` from its beginning and the rest from its
        end, with one warning that says how many texts and what share of all tokens that is; or it
        is an error.""")
    stride: float = param(default=0.25, valid=[_SHARE], type="float", doc="""
        Share of a window that the next one covers as well, in [0, 1). Each token counts once.""")
    prompt: str | None = param(default=None, valid=[str, None], type="str", doc="""
        Put before each text, such as ``"query: "``. None is what the folder of the network says,
        which for most is nothing.""")


@parameters
class TextCompute(Compute):
    """The same for texts, batch by batch."""

    batch_tokens: int | Literal["auto"] = param(
        default="auto", valid=[_COUNT, StrOptions({"auto"})], type='int or "auto"', doc="""
        Tokens that go through the network together, of texts of one length, so that nothing is
        filled up and the code of a text does not hang on its batch. ``"auto"`` is 768 on CPUs, what
        their caches hold, and 32,768 on GPUs.""")
    on_error: str = param(default="raise", choices=("raise", "nan"), doc="""
        What a text that is missing, empty or no text does: an error that names it, or a row of NaN
        and one warning that lists them all. Either way the codes computed so far are kept.""")


@parameters
class TextPooling:
    """What is made of the tokens of a text."""

    pooling: str = param(
        default="auto", choices=("auto", "avg", "avg_all", "max", "token", "last"), doc="""
        What is made of the tokens of a text: the mean of all but the special ones, of all, their
        maximum, the first (``[CLS]``), or the last, as decoders have it. ``"auto"`` is how a folder
        of sentence-transformers says that its network was trained to be pooled, else ``"avg"``.""")


@parameters
class TextPairs:
    """What a text is."""

    pairs: bool = param(default=False, valid=["boolean"], type="bool", doc="""
        Whether an item is two texts, in two columns of a data frame or array or as pairs in a list,
        that the network reads together, as for entailment.""")


@parameters
class TextLayer:
    """Where a network for text is cut."""

    layer: str | int | Sequence[str | int] | None = param(
        default=None, valid=[str, Integral, list, tuple, None],
        type="str, int, list of str or int, or None", doc="""
        Where to cut: ``"embeddings"``, ``"block.1"`` … as :meth:`list_layers` names them; None or
        -1 is the last block, -2 the one before it. Middle blocks often tell more of tone, names and
        grammar, the last of the topic. Of a list, the codes stand side by side; they come from one
        pass. Later blocks are not computed.""")
    normalize: str | None = param(
        default=None, choices=("l2", "power"), valid=[None], type="None", doc="""
        ``"l2"`` scales each row to length 1, as sentence-transformers does for most of its
        networks; ``"power"`` takes signed square roots first.""")


@parameters
class TextCodesParameters(TextPooling, TextLayer):
    """Which codes are taken from a network for text."""


@parameters
class TokenCodesParameters(TextLayer):
    """Which codes of words are taken from a network for text."""

    layer: str | int | Sequence[str | int] | None = param(
        default="auto", valid=[str, Integral, list, tuple, None],
        type='"auto", str, int, list of str or int, or None', doc="""
        Where to cut: ``"embeddings"``, ``"block.1"`` … as :meth:`list_layers` names them; None or
        -1 is the last block, -2 the one before it. ``"auto"`` is the one in the middle, since
        the last tell less of names and grammar. Of a list, the codes stand side by
        side; they come from one pass. Later blocks are not computed.""")
    words: str = param(default="avg", choices=("avg", "first", "last"), doc="""
        What is made of the tokens that the tokenizer splits a word into: their mean, the first or
        the last.""")


# CNNCodes.


@parameters
class Codes:
    """Which codes are taken from a network."""

    layer: str | int | Sequence[str | int] | None = param(
        default=None, valid=[str, Integral, list, tuple, None],
        type="str, int, list of str or int, or None", doc="""
        Where to cut. None is the layer before the classifier, or the output of a network that has
        none; a name is one of :meth:`list_layers`, such as ``"output"``, what the network itself
        gives; -1 is the default, -2 the cut point before it. Earlier layers are more generic, later
        ones more specific to the images the network was trained on. Of a list, the codes stand side
        by side; they come from one pass. Later layers are not computed.""")
    pooling: str | None = param(
        default="avg", choices=("avg", "max", "gem", "token", "flatten"), valid=[None],
        type="None", doc="""
        What is made of a map of (channels, height, width): its mean, maximum or generalised mean
        (power 3), the class token of a vision transformer, all its numbers as a row, or the map
        itself. Layers that are rows already are not pooled.""")
    normalize: str | None = param(
        default=None, choices=("l2", "power"), valid=[None], type="None", doc="""
        ``"l2"`` scales each row to length 1; ``"power"`` takes signed square roots first [3]_.""")


@parameters
class BatchCompute(Compute):
    """The same, batch by batch."""

    precision: str = changed(Compute, "precision",
        default="auto", choices=("auto", "float32", "bfloat16", "float16", "int8"), doc="""
        What a frozen network computes in; codes are float32 always. ``"auto"`` is the fastest whose
        codes stay within 1% of float32 (relative L2 norm): float16 on CUDA, float32 elsewhere. On a
        CPU bfloat16 is up to twice as fast or more, and about 6% off, which costs a linear
        classifier nothing that could be measured. ``"int8"`` is for CPUs alone (the extra
        ``int8``): `fit` converts the network to 8 bits by 300 of its images, evenly taken, which
        takes some ten seconds and is kept; the codes are others than those of float32, and hang
        on these images, so folds of a cross-validation do not share them. See
        :doc:`/how_to/go_faster`.""")
    compile: bool = param(default=False, valid=["boolean"], type="bool", doc="""
        Whether torch compiles the network first; implies the engine torch. Takes some ten seconds
        or more in each process, so it is for many thousand images.""")
    batch_size: int | Literal["auto"] = param(
        default="auto", valid=[_COUNT, StrOptions({"auto"})], type='int or "auto"', doc="""
        Images that go through the network together.""")
    on_error: str = param(default="raise", choices=("raise", "nan"), doc="""
        What an image that cannot be read does: an error that names it, or a row of NaN and one
        warning that lists them all. Either way the codes computed so far are kept.""")


@parameters
class LayerCache(Cache):
    """The same, for several layers."""

    cache_layers: str = param(default="auto", choices=("auto", "asked", "all"), doc="""
        Which layers a pass computes and keeps in the cache. ``"asked"``: those of `layer`, and
        nothing behind them. ``"auto"``: the same, but all layers of an image of which the cache
        knows another layer of the same network already, so that a search over any number of layers
        costs two passes, unless all layers are more than the cache may hold. ``"all"``: all, so
        that it costs one. Maps of images that are not pooled to a row each are kept as asked.""")


# Estimators that train.


@parameters
class Ending:
    """Where a network that is trained ends."""

    layer: str | int | None = param(
        default=None, valid=[str, Integral, None], type="str or int", doc="""
        Where the network ends, as in :class:`sktransfer.CNNCodes`; what is behind it is left out.
        None is the layer before the classifier. For images unlike those the network was trained on
        an earlier one may be the better start.""")


@parameters
class Tail:
    """The tail of a network that is trained behind a frozen prefix, and its head."""

    trainable: str | int | Sequence[str] = param(
        default=2, valid=[str, Integral, list, tuple],
        type='{"head", "all"}, int, str or list of str', doc="""
        What is trained besides the new head, which always is: nothing ("head"), the last so many
        stages, everything, or the layers of these names, also with ``*`` and ``?``.""")
    method: str = param(default="full", choices=("full", "bitfit", "lora"), doc="""
        "bitfit" trains only the biases of what is trainable; "lora" puts small matrices beside
        linear layers and convolutions (the extra ``lora``).""")
    head: str | Callable[[int, int], Any] = param(
        default="linear", choices=("linear", "mlp"), valid=[callable], type="callable", doc="""
        The new output layer; "mlp" has a hidden layer of 512. A callable takes the numbers of
        inputs and outputs and gives a module.""")
    head_init: str = param(default="linear_probe", choices=("linear_probe", "random"), doc="""
        "linear_probe" starts from a convex fit on the codes of the pretrained network, so that a
        random head does not distort good weights.""")
    dropout: float = param(default=0.0, valid=[_SHARE], type="float", doc="""
        Share of the head's inputs that are left out in training, in [0, 1).""")


@parameters
class ImageTail(Tail):
    """The same of a network for images."""

    batchnorm: str = param(default="frozen", choices=("frozen", "train"), doc="""
        Whether batch norms that are trained keep the pretrained statistics or follow the batches.
        What is frozen keeps them always.""")


@parameters
class DenseTail(ImageTail):
    """The same where the head takes maps of several layers."""

    layers: Sequence[str | int] | str | int | None = param(
        default=None, valid=[str, Integral, list, tuple, None],
        type="str, int, list of str or int, or None", doc="""
        Layers whose maps the head takes, by name or number as in :class:`sktransfer.CNNCodes`. None
        is the last layer of each resolution. What is behind the last of them is left out.""")


@parameters
class Training:
    """How it is trained."""

    lr: float = param(default=2e-3, valid=[_POSITIVE], type="float", doc="""
        Learning rate of the head, whose inputs are divided by the root of their number.""")
    backbone_lr_factor: float = param(default=0.1, valid=[_NOT_NEGATIVE], type="float", doc="""
        By which the learning rate of pretrained layers is smaller; 0 freezes them.""")
    layer_decay: float = param(
        default=1.0, valid=[Interval(Real, 0, 1, closed="right")], type="float", doc="""
        By which the learning rate of each stage is smaller than that of the stage after it, in (0,
        1].""")
    optimizer: Any = param(
        default="adamw", choices=("adamw", "sgd"), valid=[callable], type="class", doc="""
        "sgd" has Nesterov momentum 0.9. Any class of torch's kind; parameters by `net_params`.""")
    weight_decay: float = param(default=1e-2, valid=[_NOT_NEGATIVE], type="float", doc="""
        Not applied to biases and norms.""")
    l2_sp: float = param(default=0.0, valid=[_NOT_NEGATIVE], type="float", doc="""
        Pull towards the pretrained weights instead of towards zero.""")
    schedule: Any = param(  # see check_training
        default="cosine", valid="no_validation",
        type='{"cosine", "constant", "step"} or skorch LRScheduler', doc="""
        Learning rates over the batches of a fit; "step" falls to a tenth after two thirds.""")
    warmup: float = param(default=0.3, valid=[_SHARE], type="float", doc="""
        Share of the steps in which learning rates rise from zero, in [0, 1).""")
    amp: str = param(default="auto", choices=("auto", "float32", "bfloat16", "float16"), doc="""
        What is trained computes in (automatic mixed precision). "auto" is bfloat16 on GPUs and CPUs
        that have instructions for it, float16 on other GPUs, and else float32; a linear head alone
        is trained in float32 on CPUs. Weights are float32 always; in float16 the loss is scaled.
        Predictions are in float32. Take "float32" for the same results, but for the last digits,
        on CPUs of every kind.""")
    max_epochs: int = param(
        default=10, valid=[Interval(Integral, 0, None, closed="left")], type="int", doc="""
        Times that every sample is trained on.""")
    batch_size: int = param(default=32, valid=[_COUNT], type="int", doc="""
        Samples in a step.""")
    early_stopping: bool = param(default=False, valid=["boolean"], type="bool", doc="""
        Hold `validation_fraction` out to find the best epoch, and then train again on all samples
        for so many epochs, as with ``max_epochs=best_epoch_``: up to twice the time. The best is
        the last epoch, unless its loss on what is held out is higher than the lowest by a paired
        t-test over the samples, and its accuracy not. With `validation_data`, a `schedule` of your
        own, or callbacks that monitor validation nothing is trained again: the weights of the best
        epoch come back. `partial_fit` takes no notice of it.""")
    validation_fraction: float = param(
        default=0.1, valid=[Interval(Real, 0, 1, closed="neither")], type="float", doc="""
        What `early_stopping` holds out, in (0, 1); classes keep their shares. A warning is given
        where that is fewer than 100 samples: so few seldom tell one epoch from another.""")
    patience: int = param(default=5, valid=[_COUNT], type="int", doc="""
        After so many epochs in a row that are worse than the best, those of `warmup` not counted,
        training ends.""")
    warm_start: bool = param(default=False, valid=["boolean"], type="bool", doc="""
        Whether `fit` continues from what was trained before, with learning rates and all else of
        training as the parameters say now; the network stays as it was built.""")
    distributed: bool = param(default=False, valid=["boolean"], type="bool", doc="""
        Whether processes that accelerate or torchrun started share each batch (the extra
        ``distributed``).""")
    callbacks: Sequence[Any] | None = param(
        default=None, valid=[list, tuple, None], type="list of skorch.callbacks.Callback", doc="""
        More callbacks of the net, or pairs of a name and a callback:
        :class:`~sktransfer.finetune.EMA`, :class:`~sktransfer.finetune.Mixup` and
        :class:`~sktransfer.finetune.GradualUnfreeze`, skorch's own, such as
        ``GradientNormClipping(1.0)``, and yours.""")
    net_params: dict[str, Any] | None = param(default=None, valid=[dict, None], type="dict", doc="""
        More parameters of the net, such as ``{"optimizer__betas": (0.9, 0.95)}``.""")
    random_state: Any = param(
        default=None, valid=["random_state"], type="int, RandomState or None", doc="""
        Draws the order of batches, random heads, dropout and mixing.""")


@parameters
class ClassifierLoss:
    """The loss of a classifier."""

    class_weight: dict[Any, float] | list[dict[int, float]] | Literal["balanced"] | None = param(
        default=None, valid=[dict, list, StrOptions({"balanced"}), None],
        type='dict, list of dicts, "balanced" or None', doc="""
        Weights of the classes in the loss, by label; "balanced" makes them inversely
        proportional to their samples. Of several tags a sample, a dict such as {0: 1, 1: 5} for
        all tags, or a list of one for each; "balanced" balances each tag by itself.""")
    label_smoothing: float = param(
        default=0.0, valid=[Interval(Real, 0, 1, closed="left")], type="float", doc="""
        Share of the target that is spread over all classes, in [0, 1); of several tags over
        both answers for each.""")


@parameters
class Augmentation:
    """How images are changed from epoch to epoch."""

    augment: Any = param(
        default=None, valid=[StrOptions({"light", "auto"}), callable, None],
        type='{"light", "auto"}, callable or None', doc="""
        "light" mirrors; "auto" also shifts small images, crops large ones and changes colours; a
        transform of torchvision takes a PIL image.""")
    augment_views: int | None = param(default=None, valid=[_COUNT, None], type="int", doc="""
        Views of each image, of which every epoch draws the next; the first is the image itself.
        None is as many as epochs, at most 4 where something is frozen, and as memory and disk
        allow; `augment_views_` tells.""")


@parameters
class DenseAugmentation(Augmentation):
    """The same where something is said of every place, which moves with the image."""

    augment: Any = changed(Augmentation, "augment", default=None, doc="""
        "light" mirrors; "auto" also shifts small images, crops large ones and changes colours. Of
        ``torchvision.transforms.v2`` a transform as it is, or a function of (image, target) that
        gives both. What is said of an image moves with it.""")


@parameters
class Activations:
    """The activations that training starts from."""

    cache_activations: Literal["auto", "memory", "disk", False] = param(
        default="auto", choices=("auto", "memory", "disk"), valid=["boolean"], type="False", doc="""
        Where the output of the frozen part is held for the epochs of one fit; False computes it for
        every batch.""")
    activation_dtype: str = param(default="float32", choices=("float32", "float16"), doc="""
        What it is held in.""")


@parameters
class Checkpointing:
    """What a fit that is killed leaves behind."""

    checkpoint_dir: str | os.PathLike[str] | None = param(
        default=None, valid=[str, os.PathLike, None], type="path", doc="""
        Folder of checkpoints: a fit that was killed resumes from the last epoch. ``{fit}`` in the
        path stands for a hash of the fit, for searches.""")
    keep_checkpoints: int = param(default=1, valid=[_COUNT], type="int", doc="""
        Files that are kept there.""")


@parameters
class TextTraining(Training, Tail, Ending):
    """The same of a network for text, with defaults that serve a thousand sentences."""

    layer: str | int | None = changed(Ending, "layer", default=None, doc="""
        Where the network ends, as in :class:`sktransfer.TextCodes`, such as ``"block.4"``; later
        blocks are left out. None is the last block.""")
    trainable: str | int | Sequence[str] = changed(Tail, "trainable", default=4, doc="""
        What is trained besides the new head, which always is: nothing ("head"), the last so many
        blocks, everything, or the layers of these names, also with ``*`` and ``?``. The default is
        for networks of six blocks, such as minilm_l6; two thirds of the blocks gain nearly as much
        as all of them.""")
    method: str = changed(Tail, "method", default="full", doc="""
        "bitfit" trains only the biases of what is trainable; "lora" puts small matrices beside
        linear layers (the extra ``lora``).""")
    lr: float = changed(Training, "lr", default=1e-3)
    warmup: float = changed(Training, "warmup", default=0.1)
    max_epochs: int = changed(Training, "max_epochs", default=4)
    batch_size: int = changed(Training, "batch_size", default=16)


# FineTuneDetector.


@parameters
class Detection:
    """Which boxes are given, and defaults that serve a few hundred images."""

    head: str | Callable[[int, int], Any] = param(default="fcos", choices=("fcos",), doc="""
        A feature pyramid and the head of FCOS: 96 channels, 2 convolutions in each branch, 0.8
        million numbers.""")
    trainable: str | int | Sequence[str] = changed(Tail, "trainable", default="head")
    score_threshold: float = param(
        default=0.05, valid=[Interval(Real, 0, 1, closed="left")], type="float", doc="""
        The least score of a box that is given. Average precision wants a low one; to count or show
        objects leave out those below 0.3 or so afterwards.""")
    nms_threshold: float = param(
        default=0.6, valid=[Interval(Real, 0, 1, closed="right")], type="float", doc="""
        Of boxes of one label that overlap by more (intersection over union) only the one with the
        highest score is given.""")
    max_detections: int = param(default=100, valid=[_COUNT], type="int", doc="""
        Boxes of an image that are given at most, those with the highest scores.""")
    lr: float = changed(Training, "lr", default=2e-3, doc="""
        Learning rate of the head.""")
    warmup: float = changed(Training, "warmup", default=0.1)
    max_epochs: int = changed(Training, "max_epochs", default=20)
    batch_size: int = changed(Training, "batch_size", default=4, doc="""
        Images in a step. Many small steps find more than few large ones.""")


# AutoTransferClassifier and AutoTransferTextClassifier.

_DEARER = ("layers", "stacked", "fine-tune last", "fine-tune all", "vote")
STRATEGIES = ("probe", "resize", *_DEARER)
TEXT_STRATEGIES = ("bag of words", "probe", "long_texts", *_DEARER)


@parameters
class Trials:
    """What is tried."""

    time_budget: float | None = param(
        default=300.0, valid=[_NOT_NEGATIVE, None], type="float or None", doc="""
        Seconds that `fit` may take; None tries everything. What is exceeded is exceeded by an
        estimate that was wrong, or by the first strategy.""")
    strategies: Sequence[str] = param(
        default=STRATEGIES, valid=[list, tuple], type="sequence of str", doc="""
        What may be tried. "vote" is the mean of the probabilities of those that cannot be told
        apart, of labels alone.""")
    cv: int = param(
        default=3, valid=[Interval(Integral, 2, None, closed="left")], type="int", doc="""
        Folds; fewer where a class is smaller.""")
    max_epochs: int = param(default=10, valid=[_COUNT], type="int", doc="""
        Of fine-tuning.""")
    random_state: Any = param(
        default=None, valid=["random_state"], type="int, RandomState or None", doc="""
        Of fine-tuning.""")


@parameters
class TextTrials(Trials):
    """The same of texts."""

    strategies: Sequence[str] = changed(Trials, "strategies", default=TEXT_STRATEGIES)
    max_epochs: int = changed(Trials, "max_epochs", default=4)
