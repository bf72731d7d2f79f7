"""Which pixels, or which words, an answer hangs on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.pipeline import Pipeline

from ..codes import TextCodes
from ..exceptions import shown
from ..finetune import FineTuneTextClassifier, FineTuneTextRegressor
from ..inputs import as_texts
from ._answers import Answers, answers_of
from ._examples import Names, cells, first_of, items_of, name_of_label, names_of_classes, title_of
from ._gradcam import GradCAM, NoMaps
from ._occlusion import leave_words_out, occlude_images, without_cache, words_of

__all__ = ["SaliencyDisplay"]


METHODS = ("auto", "gradcam", "occlusion", "words")
_TITLES = {"gradcam": "Grad-CAM", "occlusion": "occlusion", "words": "words left out"}
# Characters in a line of a text, and the size of one in inches.
_LINE, _CHARACTER, _HEIGHT = 72, 0.079, 0.28


class SaliencyDisplay:
    """Images with the pixels, or texts with the words, that speak for a prediction.

    Make it with :meth:`from_estimator`.

    Parameters
    ----------
    items : list
        What is shown: images (height, width, 3), uint8, or of each text its words.
    saliency : list of ndarray
        How much each pixel (height, width), or each word (n_words,), speaks for the target, or,
        where it is negative, against it.
    targets : list
        What is asked about, for each item.
    scores : ndarray of shape (n_items,)
        What the estimator says of the target.
    unit : {"probability", "score", "value"}
        What the scores are.
    method : {"gradcam", "occlusion", "words"}
        How it was found.
    layer : str or None, default=None
        The layer of the maps of Grad-CAM.
    maps : ndarray of shape (n_images, h, w) or None, default=None
        Those maps, before they were enlarged.
    classes : sequence or None, default=None
        All labels in their order, which lists of names are of.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
    axes_ : ndarray of matplotlib.axes.Axes, shape (n_items,)

    See Also
    --------
    WorstErrorsDisplay : Which images are worth a look.

    Notes
    -----
    A map shows where the network looks, not whether it is right to do so, and it is as fine as the
    layer is: 7 x 7 places of an image of 224 pixels at the end of most networks.

    References
    ----------
    .. [1] R. R. Selvaraju et al. (2017). Grad-CAM: Visual explanations from deep networks via
       gradient-based localization. ICCV. Section 3.
    .. [2] B. Zhou et al. (2016). Learning deep features for discriminative localization. CVPR.
       Section 2.
    .. [3] M. D. Zeiler, R. Fergus (2014). Visualizing and understanding convolutional networks.
       ECCV. Section 4.2.
    .. [4] J. Li, W. Monroe, D. Jurafsky (2016). Understanding neural networks through
       representation erasure. arXiv:1612.08220. Section 3.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sktransfer import CNNCodes
    >>> from sktransfer.datasets import load_cifar10_sample
    >>> from sktransfer.inspection import SaliencyDisplay
    >>> X, y = load_cifar10_sample(return_X_y=True)
    >>> pipe = make_pipeline(CNNCodes(image_size=96), LogisticRegression()).fit(X[:60], y[:60])
    >>> display = SaliencyDisplay.from_estimator(pipe, X[60:62])
    >>> display.method, display.saliency[0].shape
    ('gradcam', (32, 32))
    """

    def __init__(
        self,
        *,
        items: Sequence[Any],
        saliency: Sequence[np.ndarray],
        targets: Sequence[Any],
        scores: np.ndarray,
        unit: str,
        method: str,
        layer: str | None = None,
        maps: np.ndarray | None = None,
        classes: Sequence[Any] | None = None,
    ):
        self.items, self.saliency, self.targets = items, saliency, targets
        self.scores, self.unit, self.method = scores, unit, method
        self.layer, self.maps, self.classes = layer, maps, classes

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        n_images: int = 12,
        method: str = "auto",
        target: Any = None,
        layer: str | int | None = None,
        patch: float = 0.2,
        overlap: float = 0.5,
        value_range: Any = "auto",
        axes: Any = None,
        alpha: float = 0.6,
        negative: bool = False,
        display_labels: Names = None,
    ) -> SaliencyDisplay:
        """Ask which pixels or words of some items decide, and draw them.

        Parameters
        ----------
        estimator : object
            Fitted, with `predict`. For images any that takes them; for texts likewise.
        X : images or texts
            As `estimator` takes them.
        n_images : int, default=12
            How many images, or texts, are asked about and drawn at most: the first.
        method : {"auto", "gradcam", "occlusion", "words"}, default="auto"
            gradcam
                Grad-CAM, in one pass forward and one back: FineTuneClassifier,
                FineTuneRegressor, and pipelines of CNNCodes with a linear model behind any steps
                that scale or rotate (StandardScaler, PCA). Where codes are means over a map, as by
                default, it is exact: the sum of `maps` is the score but for its intercept.
            occlusion
                What the score loses where a square covers the image: any estimator, a hundred
                predictions for each image.
            words
                What the score loses without a word: any estimator of texts, a prediction for
                each word.
            auto
                "words" for networks for text, "gradcam" where it is possible, else "occlusion".
        target : object, default=None
            The label, or the number of a tag or output, that is asked about, or what
            `display_labels` calls it; or a list with one for each item of `X`. None is the most
            probable of each.
        layer : str, int or None, default=None
            The layer of Grad-CAM, as `list_layers()` of the estimator names it; its output must be
            a map. None is the last one on whose places the score hangs. Earlier layers give finer
            maps, and less to the point.
        patch : float, default=0.2
            Side of the square of "occlusion", as a share of the longer side of the image.
        overlap : float, default=0.5
            By what share of the square its places overlap.
        value_range : (low, high) or "auto", default="auto"
            What black and white are in arrays, where the estimator does not know itself.
        axes : array of matplotlib Axes, default=None
            One for each item; None makes a figure.
        alpha, negative, display_labels : object
            As :meth:`plot` has them.

        Returns
        -------
        display : SaliencyDisplay

        Raises
        ------
        ValueError
            If `method` cannot look into this estimator, or there is no such `target`.
        LayerError
            If `layer` gives no map of an image.
        ImageError
            If an image cannot be read.
        """
        if method not in METHODS:
            raise ValueError(f"method= must be one of {METHODS}, got {shown(repr(method))}.")
        if not 0 < patch <= 1 or not 0 <= overlap < 1:
            raise ValueError(
                "patch= must be within 0 and 1, and overlap= at least 0 and less than 1, "
                f"got {patch} and {overlap}."
            )
        some = first_of(X, n_images)
        if some is not X and np.ndim(target) == 1 and len(target) == len(X):
            target = target[:n_images]
        X = some
        if method == "words" or (method == "auto" and _is_for_texts(estimator)):
            display = cls._of_words(estimator, X, target, display_labels)
        else:
            display = cls._of_images(
                estimator, X, method, target, layer, patch, overlap, value_range, display_labels
            )
        return display.plot(axes, alpha=alpha, negative=negative, display_labels=display_labels)

    @classmethod
    def _of_images(
        cls, estimator: Any, X: Any, method: str, target: Any, layer: Any, patch: float,
        overlap: float, value_range: Any, display_labels: Names,
    ) -> SaliencyDisplay:  # fmt: skip
        images = items_of(estimator, X, value_range)
        pixels = [images.open(index).pixels() for index in range(len(images))]
        if method in ("auto", "gradcam"):
            try:
                cam = GradCAM.of(estimator, X)
            except NoMaps:
                if method == "gradcam" or layer is not None:
                    raise
            else:
                told = cam.answers(X)
                columns = told.columns(target, _names(told, display_labels))
                maps, found = cam.maps(X, columns, layer)
                preparation = cam.estimator._fitted.preparation
                saliency = [
                    _enlarged(one, preparation, own.shape[:2])
                    for one, own in zip(maps, pixels, strict=True)
                ]
                return cls._of(
                    pixels, saliency, told, columns, method="gradcam", layer=found.name, maps=maps
                )
        answers = answers_of(without_cache(estimator))
        told = answers(X)
        columns = told.columns(target, _names(told, display_labels))
        scores = told.scores[np.arange(len(columns)), columns]
        saliency = occlude_images(
            answers, X, images, columns, scores, patch=patch, overlap=overlap
        )
        return cls._of(pixels, saliency, told, columns, method="occlusion")

    @classmethod
    def _of_words(
        cls, estimator: Any, X: Any, target: Any, display_labels: Names
    ) -> SaliencyDisplay:
        texts = as_texts(X)
        raw = [texts.raw(index) for index in range(len(texts))]
        spans = [words_of(text) for text in raw]
        answers = answers_of(without_cache(estimator))
        told = answers(X)
        columns = told.columns(target, _names(told, display_labels))
        saliency = [
            leave_words_out(answers, X, text, places, int(column), float(row[column]))
            for text, places, column, row in zip(raw, spans, columns, told.scores, strict=True)
        ]
        words = [
            [text[start:stop] for start, stop in places]
            for text, places in zip(raw, spans, strict=True)
        ]
        return cls._of(words, saliency, told, columns, method="words")

    @classmethod
    def _of(
        cls, items: Any, saliency: Any, told: Answers, columns: np.ndarray, **others: Any
    ) -> SaliencyDisplay:
        return cls(
            items=items,
            saliency=saliency,
            targets=[told.targets[int(column)] for column in columns],
            scores=told.scores[np.arange(len(columns)), columns],
            unit=told.unit,
            classes=told.targets,
            **others,
        )

    def plot(
        self,
        axes: Any = None,
        *,
        alpha: float = 0.6,
        negative: bool = False,
        display_labels: Names = None,
    ) -> SaliencyDisplay:
        """Draw the items; what speaks for the target is red.

        Each item has its own scale: the strongest colour is its largest value.

        Parameters
        ----------
        axes : array of matplotlib Axes, default=None
            One for each item; None makes a figure.
        alpha : float, default=0.6
            How much of an image the strongest colour covers, 0 to 1.
        negative : bool, default=False
            Whether to draw in blue what speaks against the target. In texts it always is.
        display_labels : dict or sequence, default=None
            Names of labels: by label, or a list in the order of the classes.

        Returns
        -------
        self : object

        Raises
        ------
        ImportError
            If matplotlib is missing (the extra ``plot``).
        ValueError
            If there are not as many axes as items, or names as classes.
        """
        if self.classes is not None:
            display_labels = names_of_classes(display_labels, self.classes)
        words = self.method == "words"
        size = (2.6, 2.9)
        if words:
            lines = max(_lines(one) for one in self.items)
            size = (_LINE * _CHARACTER, _HEIGHT * lines + 0.5)
        self.axes_ = cells(
            axes, len(self.items), type(self).__name__, columns=1 if words else 4, size=size
        )
        self.figure_ = self.axes_[0].figure
        at = "" if self.layer is None else f" at {self.layer}"
        over = "text" if words else "image"
        title = f"Evidence for what stands over each {over}\n({_TITLES[self.method]}{at})"
        title_of(self.figure_, axes, title)
        draw = _draw_words if words else _draw_pixels
        each = zip(self.axes_, self.items, self.saliency, self.targets, self.scores, strict=True)
        for ax, item, saliency, target, score in each:
            draw(ax, item, saliency, alpha, negative)
            ax.set(xticks=[], yticks=[])
            name = name_of_label(target, display_labels)
            ax.set_title(f"{name}: {self.unit} {score:.2f}", fontsize="medium")
        return self


def _is_for_texts(estimator: Any) -> bool:
    estimator = getattr(estimator, "best_estimator_", estimator)
    if isinstance(estimator, Pipeline):
        return isinstance(estimator[0], TextCodes)
    return isinstance(estimator, (FineTuneTextClassifier, FineTuneTextRegressor))


def _enlarged(found: np.ndarray, preparation: Any, size: tuple[int, int]) -> np.ndarray:
    """A map as large as its image; 0 where the network does not see it."""
    from torch.nn.functional import interpolate

    seen = torch.from_numpy(np.ascontiguousarray(found))[None, None]
    seen = interpolate(seen, preparation.image_size, mode="bilinear", align_corners=False)[0]
    return preparation.placement(size, whole=False).scores(seen)[0].numpy()


def _names(told: Answers, display_labels: Names) -> list[str]:
    """What targets are called, which asks about them as well as they themselves."""
    if display_labels is None:
        return []
    names = names_of_classes(display_labels, told.targets)
    return [name_of_label(target, names) for target in told.targets]


def _draw_pixels(
    ax: Any, image: np.ndarray, saliency: np.ndarray, alpha: float, negative: bool
) -> None:
    # In grey, so that the colours are those of the map alone.
    ax.imshow(np.dot(image, [0.299, 0.587, 0.114]), cmap="gray", vmin=0, vmax=255)
    ax.imshow(_coloured(saliency if negative else saliency.clip(min=0), alpha))


def _coloured(values: np.ndarray, alpha: float) -> np.ndarray:
    """Red for what is positive, blue for what is negative, the stronger the less transparent."""
    largest = np.abs(values).max()
    share = values / largest if largest > 0 else values
    layer = np.zeros((*values.shape, 4))
    layer[values > 0, 0] = 1
    layer[values < 0, 2] = 1
    layer[..., 3] = alpha * np.abs(share)
    return layer


def _lines(words: Sequence[str]) -> int:
    return _places(words)[-1][1] + 1


def _places(words: Sequence[str]) -> list[tuple[int, int]]:
    """Column and line of each word."""
    places, column, line = [], 0, 0
    for word in words:
        if column and column + len(word) > _LINE:
            column, line = 0, line + 1
        places.append((column, line))
        column += len(word) + 1
    return places


def _draw_words(
    ax: Any, words: Sequence[str], saliency: np.ndarray, alpha: float, negative: bool
) -> None:
    places = _places(words)
    colours = _coloured(saliency, alpha)
    for word, (column, line), colour in zip(words, places, colours, strict=True):
        box = {"facecolor": tuple(colour), "edgecolor": "none", "pad": 1.5}
        ax.text(column, line, word, family="monospace", fontsize=9, va="center", bbox=box)
    ax.set(xlim=(-1, _LINE + 1), ylim=(places[-1][1] + 0.7, -0.7))
    ax.set_frame_on(False)
