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
        Name of a network; see :func:`sktransfer.list_backbones`. ``"torchvision:"``,
        ``"timm:"``, ``"packaged:"`` and ``"hf-hub:"`` before the name restrict the search to
        one source. A module is copied, never changed, and needs `preprocessing` unless it is a
        network of timm.""")
    weights: str | os.PathLike[str] | enum.Enum | None = param(
        default="default", valid=[str, os.PathLike, enum.Enum, None],
        type="str, enum member, path or None", doc="""
        ``"default"``, the name of a set of weights such as ``"IMAGENET1K_V2"``, one of
        torchvision's weights objects, a local ``.pth``, ``.pt`` or ``.safetensors`` file, or None
        for random weights (always the same ones), for comparisons and tests.""")
    preprocessing: Any = param(  # see as_preprocessing
        default=None, valid="no_validation",
        type='Preprocessing, dict, transforms or "default"', doc="""
        Size, crop, mean, standard deviation and interpolation; needed only if they are not known
        for the weights. ``weights.transforms()`` of torchvision's weights is accepted as well.
        ``"default"`` takes those of the network's default weights.""")


@parameters
class ImageInput:
    """What the numbers of images mean, and how images are made to fit the network."""

    image_size: int | tuple[int, int] | None = param(
        default=None, valid=[_COUNT, tuple, list, None], type="int or (int, int)", doc="""
        Height and width of the network's input in pixels; None is the size it was trained with.""")
    resize: str = param(default="pad", choices=("pad", "squash", "crop"), doc="""
        How an image that is not square is resized: by padding it with the mean colour, by changing
        its aspect ratio, or by cropping the centre, as the transforms that come with weights do. On
        square images the three differ only in `crop_pct`.""")
    crop_pct: float | None = param(
        default=None, valid=[Interval(Real, 0, 1, closed="right"), None], type="float", doc="""
        With ``resize="crop"``: the fraction of the shorter side that is kept, in (0, 1]. None is
        the value that comes with the weights, such as 0.875.""")
    image_shape: tuple[int, ...] | Literal["row"] | None = param(
        default=None, valid=[tuple, list, StrOptions({"row"}), None],
        type='tuple of int or "row"', doc="""
        Shape of an image in flattened rows: (h, w), (h, w, 3) or (3, h, w). None infers it if the
        length of a row is a square or three times a square; the similarity of neighbouring pixels
        decides between (h, w, 3) and (3, h, w). ``"row"`` takes a row as an image of height 1.""")
    value_range: Literal["auto"] | tuple[float, float] = param(
        default="auto", valid=[StrOptions({"auto"}), tuple, list],
        type='"auto" or (float, float)', doc="""
        The values of black and white in arrays, and in files and PIL images of more than 8 bits,
        such as (0, 4095) for 12 bits in 16-bit PNG or TIFF files; 8-bit files need none. ``"auto"``
        looks at all arrays together: the range of uint8 and integers is 0 to 255; that of floats
        within 0 and 1 is 0 to 1, and that of floats within 0 and 255 that reach 128 is 0 to 255;
        anything else is an error. The range of files is 0 to the largest value of their type. There
        is a warning if images then look nearly black. With a tuple, values outside the range are
        clipped, with a warning.""")


@parameters
class DenseInput:
    """The same where something is said of every place of an image."""

    image_size: int | tuple[int, int] | None = changed(ImageInput, "image_size",
        default=None, doc="""
        Height and width of the network's input in pixels, of any size. None is the median height
        and width of the images of `fit`, reduced so that the longer side has at most 512 pixels, or
        enlarged to the size that the network was trained with. Predictions always have the size of
        each image; small objects need a larger size.""")
    resize: str = param(default="pad", choices=("pad", "squash"), doc="""
        How an image of another aspect ratio is resized: by padding it with the mean colour, or by
        changing its aspect ratio.""")
    value_range: Literal["auto"] | tuple[float, float] = changed(
        ImageInput, "value_range", default="auto")


@parameters
class Compute:
    """Where and in what a frozen network is computed."""

    device: str | Sequence[str] = param(
        default="auto", valid=[str, HasMethods(["type", "index"]), list, tuple],
        type="str or list of str", doc="""
        ``"auto"`` is cuda, then mps, then cpu; or any name that torch knows. With several, such as
        ``["cuda:0", "cuda:1"]``, each batch of a frozen network goes to a free device; training
        uses the first.""")
    precision: str = param(
        default="auto", choices=("auto", "float32", "bfloat16", "float16"), doc="""
        The precision in which a frozen network is computed; codes are always float32. ``"auto"`` is
        the fastest whose codes stay within 1% of float32 (relative L2 norm): float16 on CUDA,
        float32 elsewhere. On a CPU bfloat16 can be twice as fast or more; codes differ by about 6%,
        without a measurable effect on a linear classifier.""")
    engine: str = param(default="auto", choices=("auto", "torch", "openvino"), doc="""
        The library that runs a frozen network. ``"auto"`` is OpenVINO on a CPU if it is installed
        (the extra ``openvino``), else torch. OpenVINO converts a network once, in some seconds; a
        network that it cannot convert, or computes differently by more than 1e-3, runs on torch
        with a warning.""")
    n_jobs: int | None = param(default=None, valid=[*_JOBS, None], type="int", doc="""
        Number of batches that a frozen network processes at the same time on the CPU, each on one
        core. None is all cores that this process may use.""")


@parameters
class Cache:
    """Where what was computed is kept."""

    cache: Any = param(
        default="memory", valid=[str, os.PathLike, HasMethods(["get_many", "put_many"]), None],
        type='"memory", path, Store or None', doc="""
        Where the outputs of frozen networks are kept so that no image goes through the same network
        twice: in memory, shared by all estimators of the process and bounded
        (:func:`sktransfer.set_config`, 512 MB), or in a folder shared by processes and runs. The
        key is the content of the image, not its name.""")


@parameters
class General:
    """What is said and saved."""

    bundle_weights: bool = param(default=False, valid=["boolean"], type="bool", doc="""
        Whether a pickle holds the pretrained weights even where they can be loaded by name.""")
    verbose: int = param(default=0, valid=["verbose"], type="int", doc="""
        1 shows progress: a bar for images, or a line for each epoch or trial.""")


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
        ``"default"``, or None for random weights (always the same ones), for comparisons and
        tests.""")
    tokenizer: Any = param(default=None, valid="no_validation",
        type="tokenizer, path or None", doc="""
        A fast tokenizer of transformers, one of the package tokenizers, or the path of a
        ``tokenizer.json``. None is the one that comes with the network; a model needs one.""")


@parameters
class TextInput:
    """How texts are read."""

    max_tokens: int | None = param(default=None, valid=[_COUNT, None], type="int", doc="""
        Maximum number of tokens that the network reads at a time, special tokens included. None is
        the number it was trained with.""")
    long_texts: str = param(
        default="windows", choices=("windows", "head", "head_tail", "error"), doc="""
        How a text with more tokens is read: in windows that cover all of it; only its beginning; a
        quarter of `max_tokens` from its beginning and the rest from its end; or it is an error. For
        the second and third, one warning gives the number of texts and the fraction of tokens that
        are dropped.""")
    stride: float = param(default=0.25, valid=[_SHARE], type="float", doc="""
        Fraction of a window that the next one covers as well, in [0, 1). Each token counts
        once.""")
    prompt: str | None = param(default=None, valid=[str, None], type="str", doc="""
        Put before each text, such as ``"query: "``. None is the prompt given in the folder of the
        network, which most do not have.""")


@parameters
class TextCompute(Compute):
    """The same for texts, batch by batch."""

    batch_tokens: int | Literal["auto"] = param(
        default="auto", valid=[_COUNT, StrOptions({"auto"})], type='int or "auto"', doc="""
        Number of tokens in a batch, of texts of equal length, so that nothing is padded and the
        code of a text does not depend on its batch. ``"auto"`` is 768 on CPUs, which fits into
        their caches, and 32,768 on GPUs.""")
    on_error: str = param(default="raise", choices=("raise", "nan"), doc="""
        For a text that is missing, empty or not a text: raise an error that names it, or return a
        row of NaN with one warning that lists them all. Either way the codes computed so far are
        kept.""")


@parameters
class TextPooling:
    """What is made of the tokens of a text."""

    pooling: str = param(
        default="auto", choices=("auto", "avg", "avg_all", "max", "token", "last"), doc="""
        How the tokens of a text are reduced to one row: the mean of all but the special tokens, the
        mean of all, their maximum, the first (``[CLS]``), or the last, as for decoders. ``"auto"``
        is the pooling given in a folder of sentence-transformers, else ``"avg"``.""")


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
        -1 is the last block, -2 the one before it. Middle blocks are often better for tone, names
        and grammar, the last for topics. With a list, the codes are concatenated; they come from
        one pass. Later blocks are not computed.""")
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
        -1 is the last block, -2 the one before it. ``"auto"`` is the middle block, since the last
        blocks are worse for names and grammar. With a list, the codes are concatenated; they come
        from one pass. Later blocks are not computed.""")
    words: str = param(default="avg", choices=("avg", "first", "last"), doc="""
        How the tokens of a word are reduced to one row: their mean, the first or the last.""")


# CNNCodes.


@parameters
class Codes:
    """Which codes are taken from a network."""

    layer: str | int | Sequence[str | int] | None = param(
        default=None, valid=[str, Integral, list, tuple, None],
        type="str, int, list of str or int, or None", doc="""
        Where to cut. None is the layer before the classifier, or the output of a network that has
        none; a name is one of :meth:`list_layers`, such as ``"output"``, the output of the network
        itself; -1 is the default, -2 the cut point before it. Earlier layers are more generic,
        later ones more specific to the images the network was trained on. With a list, the codes
        are concatenated; they come from one pass. Later layers are not computed.""")
    pooling: str | None = param(
        default="avg", choices=("avg", "max", "gem", "token", "flatten"), valid=[None],
        type="None", doc="""
        How a map (channels, height, width) is reduced to a row: its mean, maximum or generalised
        mean (power 3), the class token of a vision transformer, all its numbers, or None for the
        map itself. Layers whose output is a row already are not pooled.""")
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
        Whether to compile the network with :func:`torch.compile`; implies the engine torch.
        Compilation takes ten seconds or more in each process, so it pays only for many thousand
        images.""")
    batch_size: int | Literal["auto"] = param(
        default="auto", valid=[_COUNT, StrOptions({"auto"})], type='int or "auto"', doc="""
        Number of images in a batch.""")
    on_error: str = param(default="raise", choices=("raise", "nan"), doc="""
        For an image that cannot be read: raise an error that names it, or return a row of NaN with
        one warning that lists them all. Either way the codes computed so far are kept.""")


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
        Where the network ends, as in :class:`sktransfer.CNNCodes`; later layers are dropped. None
        is the layer before the classifier. For images unlike those the network was trained on an
        earlier layer may be a better start.""")


@parameters
class Tail:
    """The tail of a network that is trained behind a frozen prefix, and its head."""

    trainable: str | int | Sequence[str] = param(
        default=2, valid=[str, Integral, list, tuple],
        type='{"head", "all"}, int, str or list of str', doc="""
        What is trained besides the new head: nothing ("head"), this number of stages at the end,
        all layers, or the layers of these names, also with ``*`` and ``?``.""")
    method: str = param(default="full", choices=("full", "bitfit", "lora"), doc="""
        "full" trains all weights of the trainable layers, "bitfit" only their biases, and "lora"
        small matrices beside linear layers and convolutions (the extra ``lora``).""")
    head: str | Callable[[int, int], Any] = param(
        default="linear", choices=("linear", "mlp"), valid=[callable], type="callable", doc="""
        The new output layer; "mlp" has a hidden layer of 512. A callable takes the numbers of
        inputs and outputs and returns a module.""")
    head_init: str = param(default="linear_probe", choices=("linear_probe", "random"), doc="""
        "linear_probe" starts from a convex fit on the codes of the pretrained network, so that a
        random head does not distort good weights.""")
    dropout: float = param(default=0.0, valid=[_SHARE], type="float", doc="""
        Fraction of the head's inputs that are set to zero in training, in [0, 1).""")


@parameters
class ImageTail(Tail):
    """The same of a network for images."""

    batchnorm: str = param(default="frozen", choices=("frozen", "train"), doc="""
        Whether trained batch norms keep the pretrained statistics or use those of the batches.
        Frozen ones always keep them.""")


@parameters
class DenseTail(ImageTail):
    """The same where the head takes maps of several layers."""

    layers: Sequence[str | int] | str | int | None = param(
        default=None, valid=[str, Integral, list, tuple, None],
        type="str, int, list of str or int, or None", doc="""
        Layers whose maps are the input of the head, by name or number as in
        :class:`sktransfer.CNNCodes`. None is the last layer of each resolution. Layers behind the
        last of them are dropped.""")


@parameters
class Training:
    """How it is trained."""

    lr: float = param(default=2e-3, valid=[_POSITIVE], type="float", doc="""
        Learning rate of the head, whose inputs are divided by the square root of their number.""")
    backbone_lr_factor: float = param(default=0.1, valid=[_NOT_NEGATIVE], type="float", doc="""
        Factor between the learning rate of pretrained layers and `lr`; 0 freezes them.""")
    layer_decay: float = param(
        default=1.0, valid=[Interval(Real, 0, 1, closed="right")], type="float", doc="""
        Factor between the learning rate of each stage and that of the stage after it, in (0,
        1].""")
    optimizer: Any = param(
        default="adamw", choices=("adamw", "sgd"), valid=[callable], type="class", doc="""
        "sgd" has Nesterov momentum 0.9. Or any optimizer class of torch; its parameters are set by
        `net_params`.""")
    weight_decay: float = param(default=1e-2, valid=[_NOT_NEGATIVE], type="float", doc="""
        Weight decay of the optimizer, not applied to biases and norms.""")
    l2_sp: float = param(default=0.0, valid=[_NOT_NEGATIVE], type="float", doc="""
        Strength of an L2 penalty on the distance from the pretrained weights.""")
    schedule: Any = param(  # see check_training
        default="cosine", valid="no_validation",
        type='{"cosine", "constant", "step"} or skorch LRScheduler', doc="""
        Learning rates over the batches of a fit; "step" falls to a tenth after two thirds.""")
    warmup: float = param(default=0.3, valid=[_SHARE], type="float", doc="""
        Fraction of the steps in which learning rates rise from zero, in [0, 1).""")
    amp: str = param(default="auto", choices=("auto", "float32", "bfloat16", "float16"), doc="""
        Precision of training (automatic mixed precision). "auto" is bfloat16 on GPUs and CPUs that
        have instructions for it, float16 on other GPUs, and else float32; a linear head alone is
        trained in float32 on CPUs. Weights are float32 always; in float16 the loss is scaled.
        Predictions are in float32. Take "float32" for the same results, but for the last digits, on
        CPUs of every kind.""")
    max_epochs: int = param(
        default=10, valid=[Interval(Integral, 0, None, closed="left")], type="int", doc="""
        Number of epochs, that is passes over all samples.""")
    batch_size: int = param(default=32, valid=[_COUNT], type="int", doc="""
        Number of samples in a step.""")
    early_stopping: bool = param(default=False, valid=["boolean"], type="bool", doc="""
        Whether to hold out `validation_fraction` of the samples to find the best epoch, and
        then to train again on all samples for that number of epochs, as with
        ``max_epochs=best_epoch_``: up to twice the time. The last epoch is the best, unless its
        validation loss is higher than the lowest by a paired t-test over the samples and its
        accuracy is not higher. With `validation_data`, a `schedule` of your own, or callbacks
        that monitor validation, there is no second training: the weights of the best epoch are
        restored. `partial_fit` ignores it.""")
    validation_fraction: float = param(
        default=0.1, valid=[Interval(Real, 0, 1, closed="neither")], type="float", doc="""
        Fraction of the samples that `early_stopping` holds out, in (0, 1), stratified by class.
        There is a warning for fewer than 100 samples, which can seldom tell one epoch from
        another.""")
    patience: int = param(default=5, valid=[_COUNT], type="int", doc="""
        Training ends after this number of epochs in a row that are worse than the best, not
        counting those of `warmup`.""")
    warm_start: bool = param(default=False, valid=["boolean"], type="bool", doc="""
        Whether `fit` continues from the weights of the previous fit, with the present learning
        rates and other parameters of training; the architecture does not change.""")
    distributed: bool = param(default=False, valid=["boolean"], type="bool", doc="""
        Whether processes started by accelerate or torchrun share each batch (the extra
        ``distributed``).""")
    callbacks: Sequence[Any] | None = param(
        default=None, valid=[list, tuple, None], type="list of skorch.callbacks.Callback", doc="""
        Additional callbacks, or pairs of a name and a callback: :class:`~sktransfer.finetune.EMA`,
        :class:`~sktransfer.finetune.Mixup` and :class:`~sktransfer.finetune.GradualUnfreeze`, those
        of skorch, such as ``GradientNormClipping(1.0)``, and your own.""")
    net_params: dict[str, Any] | None = param(default=None, valid=[dict, None], type="dict", doc="""
        Additional parameters of the skorch net, such as ``{"optimizer__betas": (0.9, 0.95)}``.""")
    random_state: Any = param(
        default=None, valid=["random_state"], type="int, RandomState or None", doc="""
        Controls the shuffling of samples, random heads, dropout and mixup. Pass an int for
        reproducible results.""")


@parameters
class ClassifierLoss:
    """The loss of a classifier."""

    class_weight: dict[Any, float] | list[dict[int, float]] | Literal["balanced"] | None = param(
        default=None, valid=[dict, list, StrOptions({"balanced"}), None],
        type='dict, list of dicts, "balanced" or None', doc="""
        Weights of the classes in the loss, by label; "balanced" makes them inversely proportional
        to class frequencies. With several tags a sample, a dict such as {0: 1, 1: 5} applies to all
        tags, a list of dicts to one tag each; "balanced" balances each tag independently.""")
    label_smoothing: float = param(
        default=0.0, valid=[Interval(Real, 0, 1, closed="left")], type="float", doc="""
        Fraction of the target that is spread over all classes, in [0, 1); with several tags, over 0
        and 1 of each tag.""")


@parameters
class Augmentation:
    """How images are changed from epoch to epoch."""

    augment: Any = param(
        default=None, valid=[StrOptions({"light", "auto"}), callable, None],
        type='{"light", "auto"}, callable or None', doc="""
        "light" flips images; "auto" also shifts small images, crops large ones and changes colours.
        A callable, such as a transform of torchvision, takes a PIL image.""")
    augment_views: int | None = param(default=None, valid=[_COUNT, None], type="int", doc="""
        Number of views (augmented versions) of each image; each epoch takes the next one, and
        the first is the image itself. None is the number of epochs, but at most 4 if layers are
        frozen, and as many as memory and disk allow. A fitted estimator has the number as
        `augment_views_`.""")


@parameters
class DenseAugmentation(Augmentation):
    """The same where something is said of every place, which moves with the image."""

    augment: Any = changed(Augmentation, "augment", default=None, doc="""
        "light" flips images; "auto" also shifts small images, crops large ones and changes colours.
        Or a transform of ``torchvision.transforms.v2``, or a function of (image, target) that
        returns both. Masks and boxes are transformed with the image.""")


@parameters
class Activations:
    """The activations that training starts from."""

    cache_activations: Literal["auto", "memory", "disk", False] = param(
        default="auto", choices=("auto", "memory", "disk"), valid=["boolean"], type="False", doc="""
        Where the output of the frozen part is kept during a fit; False computes it again for every
        batch.""")
    activation_dtype: str = param(default="float32", choices=("float32", "float16"), doc="""
        The dtype in which it is kept.""")


@parameters
class Checkpointing:
    """What a fit that is killed leaves behind."""

    checkpoint_dir: str | os.PathLike[str] | None = param(
        default=None, valid=[str, os.PathLike, None], type="path", doc="""
        Folder of checkpoints: a fit that was killed resumes from the last epoch. ``{fit}`` in the
        path stands for a hash of the fit, for searches.""")
    keep_checkpoints: int = param(default=1, valid=[_COUNT], type="int", doc="""
        Number of checkpoints to keep.""")


@parameters
class TextTraining(Training, Tail, Ending):
    """The same of a network for text, with defaults that serve a thousand sentences."""

    layer: str | int | None = changed(Ending, "layer", default=None, doc="""
        Where the network ends, as in :class:`sktransfer.TextCodes`, such as ``"block.4"``; later
        blocks are dropped. None is the last block.""")
    trainable: str | int | Sequence[str] = changed(Tail, "trainable", default=4, doc="""
        What is trained besides the new head: nothing ("head"), this number of blocks at the end,
        everything, or the layers of these names, also with ``*`` and ``?``. The default suits
        networks of six blocks, such as minilm_l6; training two thirds of the blocks gains nearly as
        much as training all.""")
    method: str = changed(Tail, "method", default="full", doc="""
        "full" trains all weights of the trainable layers, "bitfit" only their biases, and "lora"
        small matrices beside linear layers (the extra ``lora``).""")
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
        million parameters.""")
    trainable: str | int | Sequence[str] = changed(Tail, "trainable", default="head")
    score_threshold: float = param(
        default=0.05, valid=[Interval(Real, 0, 1, closed="left")], type="float", doc="""
        The lowest score of a predicted box. Average precision needs a low threshold; to count or
        show objects, drop boxes below about 0.3 afterwards.""")
    nms_threshold: float = param(
        default=0.6, valid=[Interval(Real, 0, 1, closed="right")], type="float", doc="""
        Of boxes with the same label that overlap by more than this intersection over union, only
        the one with the highest score is kept.""")
    max_detections: int = param(default=100, valid=[_COUNT], type="int", doc="""
        The maximum number of predicted boxes in an image, those with the highest scores.""")
    lr: float = changed(Training, "lr", default=2e-3, doc="""
        Learning rate of the head.""")
    warmup: float = changed(Training, "warmup", default=0.1)
    max_epochs: int = changed(Training, "max_epochs", default=20)
    batch_size: int = changed(Training, "batch_size", default=4, doc="""
        Number of images in a step. Many small steps find more objects than few large ones.""")


# AutoTransferClassifier and AutoTransferTextClassifier.

_DEARER = ("layers", "stacked", "fine-tune last", "fine-tune all", "vote")
STRATEGIES = ("probe", "resize", *_DEARER)
TEXT_STRATEGIES = ("bag of words", "probe", "long_texts", *_DEARER)


@parameters
class Trials:
    """What is tried."""

    time_budget: float | None = param(
        default=300.0, valid=[_NOT_NEGATIVE, None], type="float or None", doc="""
        Seconds that `fit` may take; None tries everything. It is exceeded only if an estimate was
        wrong, or by the first strategy.""")
    strategies: Sequence[str] = param(
        default=STRATEGIES, valid=[list, tuple], type="sequence of str", doc="""
        The strategies that may be tried. "vote" is the mean of the probabilities of those within a
        standard error of the best, for labels only.""")
    cv: Any = param(
        default=3, valid=["cv_object"], type="int, splitter or list of folds", doc="""
        Number of folds, fewer if a class is smaller; a splitter of scikit-learn, which gets the
        groups of `fit`, with copies of an item in one group; or pairs of train and test numbers,
        by which each item is tested once.""")
    max_epochs: int = param(default=10, valid=[_COUNT], type="int", doc="""
        Number of epochs of fine-tuning.""")
    random_state: Any = param(
        default=None, valid=["random_state"], type="int, RandomState or None", doc="""
        Controls the randomness of fine-tuning. Pass an int for reproducible results.""")


@parameters
class TextTrials(Trials):
    """The same of texts."""

    strategies: Sequence[str] = changed(Trials, "strategies", default=TEXT_STRATEGIES)
    max_epochs: int = changed(Trials, "max_epochs", default=4)
