"""A fitted estimator as one plain network."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import VotingClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from torch import nn

from ..codes import CNNCodes, PixelClassifier
from ..exceptions import ExportError
from ..finetune import FineTuneClassifier, FineTuneRegressor, FineTuneSegmenter
from ..inputs import ImagePreparation
from ..networks import Layer, cuts_of
from ._linear import Head, head_of_steps, link_of, two_columns
from ._network import ImageNetwork, Maps, MapScores, Pixels, Resize, Rows, Tuned, Vote, affine

__all__ = ["to_torch"]

# Labels that JSON can hold; others are told as text.
_PLAIN = (str, int, float, bool)
_TAKEN = (
    "CNNCodes, FineTuneClassifier, FineTuneRegressor, FineTuneSegmenter, PixelClassifier, a "
    "Pipeline of CNNCodes, affine steps and a linear model, or a soft vote of such"
)


@dataclass(frozen=True, eq=False)
class Read:
    """What is read of a network: from normalised pixels to codes, and what is told of it.

    Attributes
    ----------
    module : torch.nn.Module
    preparation : ImagePreparation
    info : BackboneInfo
    layers : tuple of str
    pooling : str or None
    """

    module: nn.Module
    preparation: ImagePreparation
    info: Any
    layers: tuple[str, ...]
    pooling: str | None


def to_torch(estimator: Any, *, resize: bool = False) -> ImageNetwork:
    """Make one plain PyTorch network of a fitted estimator, from images to logits.

    What it computes is what the estimator computes of the same pixels in float32, to about 1e-6:
    its probabilities are those of `predict_proba`. It holds no labels of training data and no
    codes, and needs nothing of scikit-learn; saved by :func:`export` it runs without sktransfer.

    Parameters
    ----------
    estimator : estimator
        Fitted: :class:`CNNCodes`, :class:`FineTuneClassifier` (of labels or tags),
        :class:`FineTuneRegressor`, :class:`FineTuneSegmenter`, :class:`PixelClassifier` with a
        linear classifier; or a Pipeline of CNNCodes, steps that are affine (scalers, PCA, a choice
        of columns, LDA) or a Normalizer, and a linear model: LogisticRegression, LinearSVC,
        RidgeClassifier, SGDClassifier, LinearDiscriminantAnalysis, one of these in
        OneVsRestClassifier or MultiOutputClassifier, LinearTags, or a linear regression. Whatever
        answers as a matrix does is taken. Or a soft vote of such, scikit-learn's VotingClassifier,
        of networks that see images in the same way. Of a search or an
        :class:`AutoTransferClassifier`, its best.
    resize : bool, default=False
        Whether the network takes images of any size, those of a batch of one, and resizes them
        itself, instead of images of the size that it sees.

    Returns
    -------
    network : ImageNetwork
        A copy, on the CPU, in eval mode; `network(images)` gives logits (n, n_classes), values or
        codes, `network.predict_proba(images)` probabilities. ``network.classes_`` and
        ``network.preprocessing`` say what these are of, and what images must be.

    Raises
    ------
    ExportError
        If a part of it is neither a network nor affine, such as a kernel or trees; if it takes
        texts, or gives boxes; if members of a vote see images differently.
    sklearn.exceptions.NotFittedError
        If it is not fitted.

    See Also
    --------
    export : The same as a file: TorchScript, ONNX, OpenVINO, safetensors.

    Examples
    --------
    >>> import torch
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sktransfer import CNNCodes, to_torch
    >>> from sktransfer.datasets import load_cifar10_sample
    >>> X, y = load_cifar10_sample(return_X_y=True)
    >>> pipe = make_pipeline(CNNCodes(image_size=32), StandardScaler(), LogisticRegression())
    >>> network = to_torch(pipe.fit(X[:60], y[:60]))
    >>> probabilities = network.predict_proba(torch.from_numpy(X[:5]))
    >>> probabilities.shape
    torch.Size([5, 10])
    >>> bool(abs(probabilities.numpy() - pipe.predict_proba(X[:5])).max() < 1e-2)
    True
    """
    check_is_fitted(estimator)
    first, *steps = _flat(estimator)
    read, head = _read(first, steps)
    if head.kind == "tags":  # as the command line names them
        head = replace(head, classes=list(getattr(estimator, "tag_names_", head.classes)))
    facts = _facts(read, head)
    resizing: nn.Module = nn.Identity()
    if resize:
        if facts["preprocessing"]["interpolation"] not in ("bilinear", "bicubic"):
            raise ExportError(
                "resize=True needs a network whose images are resized by a bilinear or bicubic "
                f"filter, got {facts['preprocessing']['interpolation']!r}. Resize images before."
            )
        resizing = Resize(facts["preprocessing"])
    pixels = Pixels(facts["preprocessing"], resizing)
    network = ImageNetwork(pixels, read.module, head.module, facts)
    return network.eval().requires_grad_(False)


def _flat(estimator: Any) -> list[Any]:
    """The steps of pipelines in pipelines, and of what a search found best."""
    estimator = getattr(estimator, "best_estimator_", estimator)
    if not isinstance(estimator, Pipeline):
        return [estimator]
    steps = [step for _, step in estimator.steps if step is not None and step != "passthrough"]
    return [one for step in steps for one in _flat(step)]


def _read(first: Any, steps: Sequence[Any]) -> tuple[Read, Head]:
    if isinstance(first, CNNCodes):
        read = _of_codes(first)
        return read, _head(steps, read) if steps else _IDENTITY
    if isinstance(first, (FineTuneClassifier, FineTuneRegressor)):
        read, head = _of_tuned(first)
        return read, _head(steps, read) if steps else head
    if steps:
        raise ExportError(
            f"A pipeline must begin with CNNCodes or a fine-tuned network, got "
            f"{type(first).__name__}."
        )
    if isinstance(first, FineTuneSegmenter):
        return _of_segmenter(first)
    if isinstance(first, PixelClassifier):
        return _of_pixels(first)
    if isinstance(first, VotingClassifier):
        return _of_vote(first)
    raise ExportError(f"The estimator must be a fitted {_TAKEN}, got {type(first).__name__}.")


def _head(steps: Sequence[Any], read: Read) -> Head:
    with warnings.catch_warnings():
        # Steps that were fitted on data frames miss the names of columns.
        warnings.filterwarnings("ignore", "X does not have valid feature names")
        return head_of_steps(steps, _rows_of(read))


_IDENTITY = Head(nn.Identity(), "codes", "none", [])


def _rows_of(read: Read) -> np.ndarray:
    """Codes of made-up images: noise of several grains and gradients, of which no two are alike."""
    height, width, channels = read.preparation.shape
    draw = np.random.default_rng(0)
    pixels = []
    for grain in (1, 2, 4, 8, 16, 32) * 2:
        size = -(-height // grain), -(-width // grain), channels
        noise = draw.uniform(-1.5, 1.5, size).repeat(grain, 0).repeat(grain, 1)[:height, :width]
        begin, end = draw.uniform(-1, 1, 2)
        ramp = np.linspace(begin, end, width)[None, :, None]
        pixels.append(noise * draw.uniform(0.2, 1.0) + ramp)
    batch = torch.from_numpy(np.stack(pixels).astype(np.float32)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        rows: np.ndarray = read.module.eval()(batch).numpy()
    return rows


# What estimators read of their networks.


def _of_codes(codes: CNNCodes) -> Read:
    frozen, fitted = codes._frozen(), codes._fitted
    network = _plain(frozen.network.prefix(frozen.layers, frozen.pooling))
    return Read(
        Rows(network, fitted.normalize), fitted.preparation, codes.backbone_, fitted.layers,
        fitted.pooling,
    )  # fmt: skip


def _of_tuned(estimator: Any) -> tuple[Read, Head]:
    model, task = estimator._load_model(), estimator._fitted.task
    layers, pooling = model.frozen
    frozen = _plain(model.table.prefix(layers, pooling)) if layers else None
    module = copy.deepcopy(model.module).cpu()
    tuned = Tuned(frozen, _without_adapters(module.tail), module.pool)
    read = Read(
        tuned, estimator._fitted.preparation, estimator.backbone_, (model.cut.end.name,),
        model.pooling,
    )  # fmt: skip
    head = _plain_head(module.head)
    if task.kind == "values":
        head = _scaled(head, task.scale, task.center)
        return read, Head(head, "values", "none", [])
    if task.kind == "tags":
        names = list(task.names or ()) or task.classes.tolist()
        return read, Head(head, "tags", "sigmoid", names)
    return read, Head(head, "classes", "softmax", task.classes.tolist())


def _of_segmenter(estimator: FineTuneSegmenter) -> tuple[Read, Head]:
    model, fitted = estimator._load_model(), estimator._fitted
    layers, pooling = model.frozen
    frozen = _plain(model.table.prefix(layers, pooling)) if layers else None
    module = copy.deepcopy(model.module).cpu()
    n_frozen = len(model.cut.frozen_taps)
    tail = _without_adapters(module.tail) if model.cut.trained_taps else None
    maps = Maps(frozen, tail, n_frozen, [_view(one) for one in model.taps])
    read = Read(
        maps, fitted.preparation, estimator.backbone_, tuple(one.name for one in model.taps), None
    )
    return read, Head(module.head, "masks", "softmax", estimator.classes_.tolist())


def _of_pixels(estimator: PixelClassifier) -> tuple[Read, Head]:
    fitted = estimator._fitted
    scores: Any = estimator._scores
    if fitted.texture is not None or not hasattr(scores, "coef"):
        what = "texture=" if fitted.texture is not None else type(estimator.estimator_).__name__
        raise ExportError(
            "A PixelClassifier must have a linear classifier and texture=False to become a "
            f"network, but {what} is no matrix times the maps. FineTuneSegmenter always is one."
        )
    network, size = estimator._load_network(), estimator.image_size_
    cuts = cuts_of(network, size)
    layers = [cuts.resolve(name) for name in fitted.layers]
    prefix = _plain(cuts.prefix(layers, None))
    coef, intercept = two_columns(scores.coef.T).T, two_columns(scores.intercept[None])[0]
    head = MapScores(coef, intercept, [layer.n_channels for layer in layers], size)
    maps = Maps(prefix, None, len(layers), [_view(one) for one in layers])
    read = Read(maps, fitted.preparation, estimator.backbone_, fitted.layers, None)
    some = np.random.default_rng(0).normal(size=(20, len(scores.coef)))
    link = link_of(scores.last, some, two_columns(some))
    if link is None:
        raise ExportError(
            f"The probabilities of {type(scores.last).__name__} are no function of its scores that "
            "is known here. Take a LogisticRegression, as PixelClassifier does by default."
        )
    return read, Head(head, "masks", link, estimator.classes_.tolist())


def _of_vote(vote: VotingClassifier) -> tuple[Read, Head]:
    """Networks side by side behind the same pixels."""
    names = [name for name, one in vote.estimators if one not in (None, "drop")]
    if vote.voting != "soft":
        raise ExportError(
            f"A vote must be of probabilities to become a network, got voting={vote.voting!r}: "
            'take VotingClassifier(..., voting="soft").'
        )
    found = [_read(first, steps) for first, *steps in map(_flat, vote.estimators_)]
    own = [read for read, _ in found]
    for name, (read, head) in zip(names, found, strict=True):
        if head.kind != "classes" or head.link == "none":
            raise ExportError(f"Members of a vote must give probabilities, but {name!r} does not.")
        if (read.preparation, read.info.preprocessing) != (
            own[0].preparation, own[0].info.preprocessing,
        ):  # fmt: skip
            raise ExportError(
                f"Members of a vote must see images in the same way, but {names[0]!r} and {name!r} "
                "differ in size, resize or standardisation. Export them one by one."
            )
    weights = np.ones(len(found)) if vote.weights is None else np.array(vote._weights_not_none)
    networks = [nn.Sequential(read.module, head.module) for read, head in found]
    shares = (weights / weights.sum()).tolist()
    module = Vote(networks, [head.link for _, head in found], shares)
    layers = tuple(" + ".join(read.layers) for read in own)
    read = Read(module, own[0].preparation, own[0].info, layers, own[0].pooling)
    return read, Head(nn.Identity(), "classes", "softmax", vote.classes_.tolist())


def _view(layer: Layer) -> Any:
    return (layer.n_prefix_tokens, layer.grid) if layer.kind == "tokens" else None


# Plain modules of those that were trained.


def _plain(frozen: Any) -> nn.Module:
    """A copy of a frozen part that takes normalised pixels."""
    return copy.deepcopy(frozen.prefix).cpu().eval()


def _without_adapters(tail: nn.Module) -> nn.Module:
    """Low-rank matrices added to the weights beside which they were trained; no hooks of ours."""
    for name, module in list(tail.named_modules()):
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            ours = [key for key, hook in hooks.items() if hook.__module__.startswith("sktransfer")]
            for key in ours:
                del hooks[key]
        if hasattr(module, "merge") and hasattr(module, "get_base_layer"):
            module.merge()
            parent, _, own = name.rpartition(".")
            setattr(tail.get_submodule(parent), own, module.get_base_layer())
    return tail


def _plain_head(head: nn.Module) -> nn.Module:
    """The head of a fine-tuned network without what matters in training alone."""
    if not isinstance(head, nn.Sequential):
        return head
    kept: list[nn.Module] = []
    by = 1.0
    for module in head:
        if isinstance(module, nn.Dropout):
            continue
        if hasattr(module, "by"):
            by *= float(module.by)  # type: ignore[arg-type]
            continue
        if isinstance(module, nn.Linear) and by != 1.0:
            with torch.no_grad():
                module.weight.mul_(by)
            by = 1.0
        kept.append(module)
    return nn.Sequential(*kept)


def _scaled(head: nn.Module, scale: np.ndarray, center: np.ndarray) -> nn.Module:
    """A head whose outputs are in the units of targets."""
    return nn.Sequential(head, affine(np.diag(scale), center))


def _facts(read: Read, head: Head) -> dict[str, Any]:
    """What is told of a network, as plain values that JSON can hold."""
    from .. import __version__

    to, of_weights = read.preparation, read.info.preprocessing
    return {
        "made_by": f"sktransfer {__version__}",
        "kind": head.kind,
        "link": head.link,
        "classes": [one if isinstance(one, _PLAIN) else str(one) for one in head.classes],
        "preprocessing": {
            "image_size": list(to.image_size),
            "n_channels": to.n_channels,
            "mean": [float(one) for one in of_weights.mean],
            "std": [float(one) for one in of_weights.std],
            "resize": to.resize,
            **({"resize_size": list(to.resize_size)} if to.resize == "crop" else {}),
            "interpolation": to.interpolation,
            "background": list(to.background),
        },
        "network": {
            "name": read.info.name,
            "source": read.info.source,
            "weights": read.info.weights,
            "fingerprint": read.info.fingerprint,
            "layers": list(read.layers),
            "pooling": read.pooling,
        },
    }
