"""The plain network: pixels in, logits and probabilities out, and nothing of scikit-learn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import interpolate

__all__ = [
    "LINKS",
    "ImageNetwork",
    "MapScores",
    "Maps",
    "Pixels",
    "Resize",
    "Rows",
    "TracedNetwork",
    "Tuned",
    "UnitRows",
    "Vote",
    "affine",
    "check_floats",
    "probabilities_of",
]

# What makes probabilities of logits, in the order in which they are tried.
LINKS = ("softmax", "sigmoid", "sigmoid_over_sum", "clip_over_sum")


def probabilities_of(logits: torch.Tensor, link: str) -> torch.Tensor:
    """Probabilities (n, n_classes, ...) of logits of that shape, by one of `LINKS`."""
    if link == "softmax":
        return torch.softmax(logits, 1)
    if link == "sigmoid":
        return torch.sigmoid(logits)
    if link == "sigmoid_over_sum":
        shares = torch.sigmoid(logits)
        return shares / shares.sum(1, keepdim=True)
    if link == "clip_over_sum":
        shares = ((logits + 1) / 2).clamp(0.0, 1.0)
        total = shares.sum(1, keepdim=True)
        # Where no class is likely, all are alike.
        alike = torch.full_like(shares, 1.0 / shares.shape[1])
        return torch.where(total > 0, shares / total.clamp(min=1e-12), alike)
    raise RuntimeError("The estimator gives no probabilities, so neither does this network.")


def check_floats(images: torch.Tensor) -> None:
    """Refuse floats that are not from 0 to 1, but for rounding.

    Raises
    ------
    RuntimeError
        If some are below or above, or NaN.
    """
    if images.is_floating_point() and images.numel() > 0:
        low, high = float(images.min()), float(images.max())
        if not (low >= -1e-3 and high <= 1.001):
            raise RuntimeError(
                f"Images of floats must be from 0 to 1, got {low} to {high}. Divide bytes by "
                "255, do not standardise channels, and clip what resizing made larger."
            )


class ImageNetwork(nn.Module):
    """A plain network from images to what an estimator says of them.

    What it takes are images as the network sees them, upright and in RGB: uint8 (n, 3, h, w) or
    (n, h, w, 3) from 0 to 255, or floats (n, 3, h, w) from 0 to 1, with the height and width of
    ``preprocessing["image_size"]``. Networks for grey images take 1 channel in the place of 3. It
    computes in float32, in eval mode, without gradients.

    Parameters
    ----------
    pixels : torch.nn.Module
        From images to normalised pixels.
    codes : torch.nn.Module
        From normalised pixels to codes.
    head : torch.nn.Module
        From codes to the outputs.
    facts : dict
        What is told of it, as plain values; becomes the attributes below.

    Attributes
    ----------
    kind : {"codes", "classes", "tags", "values", "masks"}
        What the outputs are.
    link : {"softmax", "sigmoid", "sigmoid_over_sum", "clip_over_sum", "none"}
        What makes probabilities of logits: softmax over the classes; a sigmoid each; a sigmoid
        each (or a line from 0 at -1 to 1 at 1), divided by their sum.
    classes_ : list
        Labels in the order of the outputs; of tags their names or numbers; empty for others.
    preprocessing : dict
        ``image_size`` (height, width), ``n_channels``, ``mean`` and ``std`` of the channels for
        pixels from 0 to 1, ``resize`` ("crop", "squash" or "pad"), ``resize_size`` (of "crop"
        alone: what the image is scaled to cover), ``interpolation`` and ``background`` (of "pad",
        0 to 255).
    facts : dict
        All of this, and name, weights, fingerprint and layers of the network.
    """

    def __init__(
        self, pixels: nn.Module, codes: nn.Module, head: nn.Module, facts: dict[str, Any]
    ):
        super().__init__()
        self.pixels, self.codes, self.head = pixels, codes, head
        self.facts, self.preprocessing = facts, facts["preprocessing"]
        self.kind: str = facts["kind"]
        self.link: str = facts["link"]
        self.classes_ = list(facts["classes"])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, values or codes of images.

        Parameters
        ----------
        images : Tensor
            As above.

        Returns
        -------
        Tensor, float32
            Logits (n, n_classes), the largest of which is the answer, also of two classes; logits
            of tags, which are there above 0; values (n, n_outputs) in the units of `y`; codes as
            `transform` gives them; logits of masks (n, n_classes, h, w).

        Raises
        ------
        RuntimeError
            If the images are of another shape, or floats that are not from 0 to 1.
        """
        if not (torch.jit.is_tracing() or torch.compiler.is_compiling()):
            check_floats(images)
        return self.head(self.codes(self.pixels(images)))

    def predict_proba(self, images: torch.Tensor) -> torch.Tensor:
        """Probabilities of the classes, of each tag, or of the classes of each pixel.

        Parameters
        ----------
        images : Tensor
            As above.

        Returns
        -------
        Tensor of the shape of the logits, float32

        Raises
        ------
        RuntimeError
            If the estimator gives no probabilities.
        """
        return probabilities_of(self(images), self.link)


class TracedNetwork(nn.Module):
    """The same where the network was traced: what asks for dtype and shape is code, and scripted.

    Parameters
    ----------
    pixels : torch.nn.Module
    network : torch.nn.Module
        From normalised pixels to outputs.
    facts : dict
    """

    def __init__(self, pixels: nn.Module, network: nn.Module, facts: dict[str, Any]):
        super().__init__()
        self.pixels, self.network = pixels, network
        self.kind: str = facts["kind"]
        self.link: str = facts["link"]
        self.classes_ = list(facts["classes"])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        check_floats(images)
        return self.network(self.pixels(images))

    @torch.jit.export
    def predict_proba(self, images: torch.Tensor) -> torch.Tensor:
        return probabilities_of(self.forward(images), self.link)


class Pixels(nn.Module):
    """Images as a network takes them: floats (n, channels, h, w), with channels standardised.

    Parameters
    ----------
    preprocessing : dict
        As `ImageNetwork.preprocessing`.
    resize : torch.nn.Module
        Makes images of the size of the network; an identity where they must have it.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, preprocessing: dict[str, Any], resize: nn.Module):
        super().__init__()
        self.resize = resize
        self.height, self.width = preprocessing["image_size"]
        self.n_channels: int = preprocessing["n_channels"]
        mean, std = (torch.tensor(preprocessing[name]) for name in ("mean", "std"))
        self.register_buffer("scale", (1 / std).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", (-mean / std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.ndim != 4:
            raise RuntimeError("Images must have four axes, (n, channels, h, w).")
        if images.shape[1] != self.n_channels and images.shape[3] == self.n_channels:
            images = images.permute(0, 3, 1, 2)
        images = self.resize(images)
        if images.shape[1] != self.n_channels or (
            images.shape[2] != self.height or images.shape[3] != self.width
        ):
            raise RuntimeError(
                f"Images must be (n, {self.n_channels}, {self.height}, {self.width}), got "
                f"{list(images.shape)}."
            )
        pixels = images.to(self.scale.dtype)
        if images.dtype == torch.uint8:
            pixels = pixels / 255
        return pixels * self.scale + self.shift


# From normalised pixels to codes.


class Rows(nn.Module):
    """Codes of some layers side by side, or the map of one.

    Parameters
    ----------
    network : torch.nn.Module
        Normalised pixels to a tuple, the codes of each layer.
    normalize : {"l2", "power"} or None
        As in `CNNCodes`.
    """

    def __init__(self, network: nn.Module, normalize: str | None):
        super().__init__()
        self.network, self.normalize = network, normalize

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        found = self.network(pixels)
        rows = found[0] if len(found) == 1 else torch.cat(list(found), 1)
        if self.normalize is None:
            return rows
        if self.normalize == "power":
            rows = torch.sign(rows) * torch.sqrt(torch.abs(rows))
        flat = rows.flatten(1)
        lengths = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
        return (flat / torch.where(lengths > 0, lengths, torch.ones_like(lengths))).view_as(rows)


class Tuned(nn.Module):
    """Codes of a network that was fine-tuned.

    Parameters
    ----------
    network : torch.nn.Module or None
        What is frozen: normalised pixels to a tuple of one; None where nothing is.
    tail, pool : torch.nn.Module
        What follows, and what makes rows of it.
    """

    def __init__(self, network: nn.Module | None, tail: nn.Module, pool: nn.Module):
        super().__init__()
        self.network, self.tail, self.pool = network, tail, pool

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        activations = pixels if self.network is None else self.network(pixels)[0]
        return self.pool(self.tail(activations))


class Maps(nn.Module):
    """Maps of several layers, from fine to coarse, as a list.

    Parameters
    ----------
    network : torch.nn.Module or None
        What is frozen: normalised pixels to a tuple; None where nothing is.
    tail : torch.nn.Module or None
        Gives, of the last of them, the maps that are trained; None where all are frozen.
    n_frozen : int
        How many maps are of the frozen part.
    views : list of (int, (int, int)) or None, one for each map
        For tokens, how many there are before the patches, and rows and columns of these.
    """

    def __init__(
        self, network: nn.Module | None, tail: nn.Module | None, n_frozen: int, views: list[Any]
    ):
        super().__init__()
        self.network, self.tail, self.n_frozen, self.views = network, tail, n_frozen, views

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        values = [pixels] if self.network is None else list(self.network(pixels))
        found = values[: self.n_frozen]
        if self.tail is not None:
            behind = self.tail(values[-1])
            found = [*found, *(behind if isinstance(behind, tuple) else [behind])]
        return [_as_map(one, view) for one, view in zip(found, self.views, strict=True)]


def _as_map(values: torch.Tensor, view: Any) -> torch.Tensor:
    if view is None:
        return values
    n_before, grid = view
    return values[:, n_before:].transpose(1, 2).unflatten(2, grid)


class Vote(nn.Module):
    """Logarithms of the mean of what several networks say of the same pixels.

    Parameters
    ----------
    networks : sequence of torch.nn.Module
        Normalised pixels to logits (n, n_classes).
    links : sequence of str
        What makes probabilities of the logits of each, of `LINKS`.
    shares : sequence of float
        How much each counts; they add up to 1.
    """

    def __init__(
        self, networks: Sequence[nn.Module], links: Sequence[str], shares: Sequence[float]
    ):
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.links, self.shares = list(links), list(shares)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        parts = [
            share * probabilities_of(network(pixels), link)
            for network, link, share in zip(self.networks, self.links, self.shares, strict=True)
        ]
        total = torch.stack(parts).sum(0)
        return torch.log(total.clamp(min=torch.finfo(total.dtype).tiny))


# From codes to outputs.


def affine(weight: np.ndarray, bias: np.ndarray) -> nn.Linear:
    """A matrix (n_outputs, n_codes) and a shift (n_outputs,) as a layer.

    All in one: the difference of pooled codes and a centre is what some compilers get wrong.
    """
    with torch.device("meta"):
        layer = nn.Linear(weight.shape[1], weight.shape[0])
    for name, value in (("weight", weight), ("bias", bias)):
        tensor = torch.from_numpy(np.ascontiguousarray(value, np.float32))
        setattr(layer, name, nn.Parameter(tensor, requires_grad=False))
    return layer


class UnitRows(nn.Module):
    """Rows of length 1, as scikit-learn's Normalizer makes them.

    Parameters
    ----------
    norm : {"l2", "l1", "max"}
    """

    def __init__(self, norm: str):
        super().__init__()
        self.norm = norm

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if self.norm == "l2":
            lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        elif self.norm == "l1":
            lengths = rows.abs().sum(1, keepdim=True)
        else:
            lengths = rows.abs().amax(1, keepdim=True)
        return rows / torch.where(lengths > 0, lengths, torch.ones_like(lengths))


class MapScores(nn.Module):
    """A linear classifier of the places of several maps, whose scores are enlarged and added.

    Parameters
    ----------
    coef : ndarray of shape (n_classes, channels of all maps)
    intercept : ndarray of shape (n_classes,)
    widths : sequence of int
        Channels of each map.
    size : tuple of int
        Height and width of the result.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(
        self, coef: np.ndarray, intercept: np.ndarray, widths: Sequence[int], size: tuple[int, int]
    ):
        super().__init__()
        self.widths, self.size = list(widths), size
        for name, value in (("weight", coef), ("bias", intercept)):
            tensor = torch.from_numpy(np.ascontiguousarray(value, np.float32))
            self.register_parameter(name, nn.Parameter(tensor, requires_grad=False))

    def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
        scores = self.bias.view(1, -1, 1, 1)
        for one, coef in zip(maps, self.weight.split(self.widths, 1), strict=True):
            own = nn.functional.conv2d(one, coef[:, :, None, None])
            scores = scores + interpolate(own, self.size, mode="bilinear", align_corners=False)
        return scores


class Resize(nn.Module):
    """Images of one size, whatever it is, made to fit the network.

    Antialiased, by torch, on the grid that sktransfer resizes on. Bytes come within two levels of
    what it makes of the same image; floats are not rounded to levels.

    Parameters
    ----------
    preprocessing : dict
        As `ImageNetwork.preprocessing`.
    """

    background: torch.Tensor

    def __init__(self, preprocessing: dict[str, Any]):
        super().__init__()
        self.height, self.width = preprocessing["image_size"]
        cover = preprocessing.get("resize_size", preprocessing["image_size"])
        self.cover_height, self.cover_width = cover
        self.how: str = preprocessing["resize"]
        self.mode: str = preprocessing["interpolation"]
        background = torch.tensor(preprocessing["background"], dtype=torch.float32)
        self.register_buffer("background", background.view(1, -1, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        n, n_channels, old_height, old_width = images.shape
        if images.dtype == torch.uint8 and images.is_cuda:  # bytes are resized on CPUs alone
            images = images.to(torch.float32) / 255
        height, width = self.scaled(old_height, old_width)
        if height != old_height or width != old_width:
            images = interpolate(images, [height, width], mode=self.mode, antialias=True)
            if images.dtype != torch.uint8:
                images = images.clamp(0.0, 1.0)
        if self.how == "pad":
            color = self.background if images.dtype == torch.uint8 else self.background / 255
            canvas = color.to(images.dtype).expand(n, n_channels, self.height, self.width).clone()
            top, left = (self.height - height) // 2, (self.width - width) // 2
            canvas[:, :, top : top + height, left : left + width] = images
            return canvas
        # In TorchScript `round` gives a float.
        top = int(round((height - self.height) / 2))  # noqa: RUF046
        left = int(round((width - self.width) / 2))  # noqa: RUF046
        if top < 0 or left < 0:  # a crop larger than the image has black bars
            below, behind = self.height - height + top, self.width - width + left
            bars = [max(0, -left), max(0, behind), max(0, -top), max(0, below)]
            images = nn.functional.pad(images, bars)
            top, left = max(0, top), max(0, left)
        return images[:, :, top : top + self.height, left : left + self.width]

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """Height and width to which the whole image is resized."""
        if self.how == "squash":
            return self.height, self.width
        if self.how == "pad":
            scale = min(self.height / height, self.width / width)
            return (
                max(1, min(self.height, int(round(height * scale)))),  # noqa: RUF046
                max(1, min(self.width, int(round(width * scale)))),  # noqa: RUF046
            )
        if height * self.cover_width >= width * self.cover_height:
            return max(self.cover_width * height // width, self.cover_height), self.cover_width
        return self.cover_height, max(self.cover_height * width // height, self.cover_width)
