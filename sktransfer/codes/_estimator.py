"""The transformer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from sklearn.base import BaseEstimator

from .._parameters import (
    BatchCompute,
    Codes,
    General,
    ImageInput,
    LayerCache,
    Network,
    parameters,
)
from .._sklearn import check_columns, fit_context
from ..compute import (
    ComputeSettings,
    FrozenPass,
    SeenFrom,
    check_int8,
    normalized,
    quantize,
    resolve_devices,
)
from ..exceptions import InputError, LayerError
from ..inputs import ImagePreparation, Images, as_images
from ..networks import (
    NETWORK,
    Backbone,
    BackboneInfo,
    Cuttable,
    Layer,
    as_kept,
    check_given,
    given_of,
    image_preparation,
    noted_cuts,
)
from ..store import open_store
from ._base import FittedCodes, RowCodes
from ._dask import check_range_is_known, is_lazy, lazy_range_of, look_at

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["CNNCodes"]


# Parameters that decide what the codes are.
_OF_CODES = (*NETWORK, "layer", "pooling", "normalize")


@parameters
class CNNCodes(
    RowCodes,
    General,
    LayerCache,
    BatchCompute,
    ImageInput,
    Codes,
    Network,
    BaseEstimator,
):
    """Embeddings of images from a pretrained network (CNN codes), for any estimator.

    A network trained on millions of images is cut before its last layer; what it makes
    of an image there, a row of some hundred to some thousand numbers, describes the
    image well enough that a linear classifier on top is hard to beat when labelled
    images are few [1]_ [2]_. Nothing is learnt in `fit`; labels are not used.

    Attributes
    ----------
    image_size_ : tuple of int
        Height and width the network sees.

    See Also
    --------
    sktransfer.list_backbones : Names of networks.
    sktransfer.load_image_folder : Images in one folder per class.

    References
    ----------
    .. [1] J. Donahue et al. (2014). DeCAF: A deep convolutional activation feature for
       generic visual recognition. ICML.
    .. [2] A. S. Razavian et al. (2014). CNN features off-the-shelf: an astounding baseline
       for recognition. CVPR workshops.
    .. [3] F. Perronnin, J. Sánchez, T. Mensink (2010). Improving the Fisher kernel for
       large-scale image classification, section 3. ECCV.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sklearn.svm import LinearSVC
    >>> from sktransfer import CNNCodes
    >>> from sktransfer.datasets import load_cifar10_sample
    >>> X, y = load_cifar10_sample(return_X_y=True)
    >>> pipe = make_pipeline(CNNCodes(image_size=96), StandardScaler(), LinearSVC())
    >>> bool(pipe.fit(X[:60], y[:60]).score(X[:60], y[:60]) > 0.9)
    True
    """

    _title, _noun = "CNN codes", "image"

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Load the network and check what the input looks like; no image is computed.

        With ``precision="int8"`` 300 of the images, evenly taken, are: the network is converted by
        what it makes of them.

        Parameters
        ----------
        X : array, list or table of images
            Arrays (n, h, w, 3), (n, 3, h, w), (n, h, w), (n, h, w, 1 or 4), uint8 or float;
            lists of arrays of different sizes; paths, bytes or PIL images in a list, array,
            Series or one-column table; torch tensors; flattened rows. Of dask arrays, bags,
            series and data frames only what is needed is computed: nothing where the dtype or
            `value_range` tells what black and white are, the extremes of other floats, the
            first piece of a column or bag of paths.
        y : object, default=None
            Ignored.

        Returns
        -------
        self : object

        Raises
        ------
        InputError
            If `X` is not a collection of images.
        BackboneError
            If the network, its weights or its layer cannot be loaded.
        EngineError
            If ``precision="int8"`` is not possible here.
        ImportError
            If it is, but lacks the package that converts networks.
        """
        lazy = is_lazy(X)
        if lazy:
            X = look_at(X, image_shape=self.image_shape, value_range=self.value_range)
        images = as_images(X, image_shape=self.image_shape, value_range=self.value_range)
        devices = resolve_devices(self.device)
        if self.precision == "int8":
            check_int8(None, devices, engine=self.engine, compile=self.compile, fitted=False)
            if lazy:
                raise InputError(
                    'precision="int8" converts the network by images, but X is lazy. Call fit with '
                    "some hundred images in memory, then transform with the lazy ones."
                )
        open_store(self.cache)
        network = self._load()
        cuts = self._cut(network)
        layers = cuts.several(self.layer)
        if self.pooling is None and len(layers) > 1:
            raise LayerError(
                f"pooling=None gives maps, and those of several layers cannot stand side by side: "
                f"{[layer.name for layer in layers]}. Take one layer or another pooling."
            )
        preparation = self._prepare(network)
        frozen = FrozenPass(cuts, layers, preparation, self.pooling)
        fitted = FittedCodes(
            layers=tuple(layer.name for layer in layers),
            columns=frozen.columns,
            pooling=self.pooling,
            preparation=preparation,
            normalize=self.normalize,
            reading=images.reading,
            given=given_of(self, _OF_CODES),
            quantized=quantize(cuts, layers, self.pooling, preparation, images)
            if self.precision == "int8"
            else None,
        )
        check_columns(self, X, reset=True)
        self._fitted = fitted
        self._network = None if network.portable else network
        self.backbone_ = BackboneInfo.of(network, self.weights)
        self.layers_ = list(fitted.layers)
        self.image_size_ = preparation.image_size
        self.code_shape_ = frozen.shape
        return self

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Fit on the first piece of the images, and check that further pieces look like it.

        Nothing is learnt from images, so all that a further piece can add is what floats
        are, where there were none before.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.
        y : object, default=None
            Ignored.

        Returns
        -------
        self : object

        Raises
        ------
        InputError
            If `X` is not a collection of images, or of another look than the first piece, or
            if a parameter that decides what the codes are was changed since.
        BackboneError
            As `fit`, in the first call.
        """
        if not hasattr(self, "backbone_"):
            return self.fit(X, y)
        check_given(self, self._fitted.given, "fit")
        if is_lazy(X):
            X = look_at(X, image_shape=self.image_shape, value_range=self.value_range)
        images = self._items(X)
        reading = self._fitted.reading
        if reading.float_range is None:
            reading = replace(reading, float_range=images.float_range)
            self._fitted: FittedCodes = replace(self._fitted, reading=reading)
        return self

    # What the parameters come to.

    def _load(self) -> Backbone:
        """The network of the parameters."""
        from ..networks import load_backbone  # with torch

        return load_backbone(
            self.backbone,
            weights=self.weights,
            preprocessing=self.preprocessing,
            verbose=self.verbose,
        )

    def _cut(self, network: Backbone) -> Cuttable:
        from ..networks import cuts_of  # with torch

        return cuts_of(network, self._prepare(network).image_size)

    def _prepare(self, network: Backbone) -> ImagePreparation:
        return image_preparation(
            network.preprocessing,
            image_size=self.image_size,
            resize=self.resize,
            crop_pct=self.crop_pct,
        )

    # What a fitted transformer computes.

    def _fitted_cut(self, network: Backbone) -> tuple[Cuttable, ImagePreparation]:
        from ..networks import cuts_of  # with torch

        return cuts_of(network, self.image_size_), self._fitted.preparation

    def _known_cut(self) -> tuple[Cuttable, ImagePreparation]:
        if self._network is not None or self.backbone_.source == "registered":
            return self._fitted_cut(self._load_network())
        return noted_cuts(self.backbone_, self.image_size_), self._fitted.preparation

    def _cuts(self) -> tuple[Cuttable, Layer]:
        """The network of the fit, and the last of its layers that the codes are of."""
        frozen = self._frozen()
        order = frozen.network.every()
        return frozen.network, max(frozen.layers, key=order.index)

    def _seen_from(self, layer: Layer) -> SeenFrom:
        """The codes, as they are derived from what a layer gives.

        Codes of layers before it stand as zeros: they do not hang on it.
        """
        import torch

        frozen = self._frozen()
        order = frozen.network.every()
        tails = [
            self._tail(frozen.network, layer, end)
            if order.index(end) >= order.index(layer)
            else None
            for end in frozen.layers
        ]
        widths = [width for _, width in frozen.columns]

        def behind(activations: torch.Tensor) -> torch.Tensor:
            parts = [
                activations.new_zeros(len(activations), width)
                if tail is None
                else tail(activations).flatten(1)
                for tail, width in zip(tails, widths, strict=True)
            ]
            return normalized(torch.cat(parts, dim=1), self._fitted.normalize)

        return SeenFrom(layer, frozen.at([layer], None), lambda activations: activations, behind)

    def _tail(self, cuts: Cuttable, start: Layer, end: Layer) -> nn.Module:
        """What is between two layers, and behind it the pooling."""
        from torch import nn

        from ..networks import Pool

        if start == end:
            return Pool(self._fitted.pooling, as_kept(end))
        tail = cuts.up_to(end.name).tail(start)
        return nn.Sequential(tail, Pool(self._fitted.pooling, end)).eval()

    def _settings(self, **others: Any) -> ComputeSettings:
        size = None if self.batch_size == "auto" else self.batch_size
        return super()._settings(compile=self.compile, batch_size=size)

    def _items(self, X: Any) -> Images:
        check_columns(self, X, reset=False)
        return self._fitted.reading.items(X)

    def _items_of_piece(self, X: Any, float_range: Any, *, piece: bool) -> Images:
        reading = replace(self._fitted.reading, float_range=float_range)
        images = reading.items(X, piece=piece)
        check_range_is_known(images, float_range, reading.value_range)
        return images

    def _lazy_range(self, X: Any) -> Any:
        return lazy_range_of(X, self._fitted.reading)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
