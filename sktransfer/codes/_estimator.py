"""The transformer."""

from __future__ import annotations

import enum
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from .._sklearn import HasMethods, Integral, Interval, Real, StrOptions, fit_context
from ..compute import ENGINES, PRECISIONS
from ..inputs import RESIZES
from ..networks._fitted import KeepsNetwork, check_given
from ..networks._split import POOLINGS
from ._dask import is_lazy, look_at, transform_lazily
from ._frozen_pass import (
    FittedCodes,
    feature_names,
    fit_codes,
    images_of,
    transform_codes,
)
from ._to_file import TransformReport, stream_codes

__all__ = ["CNNCodes"]


class CNNCodes(KeepsNetwork, TransformerMixin, BaseEstimator):
    """Codes of a pretrained convolutional network as features for any estimator.

    A network trained on millions of photographs is cut before its last layer; what it makes
    of a photograph there, a row of some hundred to some thousand numbers, describes the
    photograph well enough that a linear classifier on top is hard to beat when labelled
    photographs are few [1]_ [2]_. Nothing is learnt in `fit`; labels are not used.

    Parameters
    ----------
    backbone : str or torch.nn.Module, default="efficientnet_lite0"
        Name of a network; see :func:`sktransfer.list_backbones`. ``"torchvision:"``,
        ``"timm:"``, ``"packaged:"`` and ``"hf-hub:"`` before the name say where to look. A
        module is copied, never changed, and needs `preprocessing` unless it is timm's.
    weights : str, enum member, path or None, default="default"
        ``"default"``, the name of a set of weights such as ``"IMAGENET1K_V2"``, one of
        torchvision's weights objects, a local ``.pth``, ``.pt`` or ``.safetensors`` file, or
        None for random weights (always the same ones), which serve comparisons and tests.
    layer : str, int, list of str or int, or None, default=None
        Where to cut. None is the layer before the classifier, or the output of a network
        that has none; a name is one of :meth:`list_layers`, such as ``"output"``, what the
        network itself gives; -1 is the default, -2 the cut point before it. Earlier layers
        are more generic, later ones more specific to the images the network was trained on.
        Of a list, the codes stand side by side; they come from one pass. Later layers are
        not computed.
    pooling : {"avg", "max", "gem", "token", "flatten"} or None, default="avg"
        What is made of a map of (channels, height, width): its mean, maximum or generalised
        mean (power 3), the class token of a vision transformer, all its numbers as a row,
        or the map itself. Layers that are rows already are not pooled.
    image_size : int or (int, int), default=None
        Height and width in pixels that the network sees; None is the size it was trained
        with.
    resize : {"pad", "squash", "crop"}, default="pad"
        How a photograph that is not square is made so: with bars of the mean colour, by
        changing its proportions, or by cutting out the middle, as the transforms that come
        with weights do. On square images the three differ only in `crop_pct`.
    crop_pct : float, default=None
        With ``resize="crop"``: the part of the shorter side that is kept, in (0, 1]. None is
        what the weights come with, such as 0.875.
    image_shape : tuple of int or "row", default=None
        Shape of an image in flattened rows: (h, w), (h, w, 3) or (3, h, w). None infers it
        where the length of a row is a square or three times a square, of which neighbours
        that resemble each other tell (h, w, 3) from (3, h, w); ``"row"`` takes a row as an
        image of height 1.
    value_range : "auto" or (float, float), default="auto"
        The numbers that mean black and white in arrays, and in files and PIL images of more
        than 8 bits, such as (0, 4095) for 12 bits in 16-bit PNG or TIFF files; files of 8 bits
        need none. ``"auto"`` tells by all arrays together: uint8 and integers are 0 to 255;
        floats within 0 to 1 are that, floats within 0 to 255 that reach 128 are that; anything
        else is an error. Files are 0 to the largest value of their type. What looks nearly
        black so is told in a warning. With a tuple, values beyond are clipped with a warning.
    preprocessing : Preprocessing, dict, transforms or "default", default=None
        Size, crop, mean, standard deviation and interpolation; needed only where weights do
        not tell. ``weights.transforms()`` of torchvision's weights is taken as well.
        ``"default"`` takes those of the network's default weights.
    normalize : {"l2", "power"} or None, default=None
        ``"l2"`` scales each row to length 1; ``"power"`` takes signed square roots first
        [3]_.
    device : str or list of str, default="auto"
        ``"auto"`` is cuda, then mps, then cpu; any name that torch knows. Of several, such as
        ``["cuda:0", "cuda:1"]``, each batch goes to one that is free.
    precision : {"auto", "float32", "bfloat16", "float16"}, default="auto"
        What the network computes in; codes are float32 always. ``"auto"`` is the fastest
        whose codes stay within 1% of float32 (relative L2 norm): float16 on CUDA, float32
        elsewhere. On a CPU bfloat16 is up to twice as fast or more, and about 6% off, which
        costs a linear classifier nothing that could be measured.
    engine : {"auto", "torch", "openvino"}, default="auto"
        What runs the network. ``"auto"`` is OpenVINO on a CPU where it is installed (the
        extra ``openvino``), torch elsewhere. OpenVINO converts a network once, in about a
        second; a network that it cannot convert, or computes differently by more than 1e-3,
        runs on torch with a warning.
    compile : bool, default=False
        Whether torch compiles the network first; implies the engine torch. Takes some ten
        seconds or more in each process, so it is for many thousand photographs.
    batch_size : int or "auto", default="auto"
        Photographs that go through the network together.
    n_jobs : int, default=None
        Batches that are read and computed at the same time on the CPU, each on one core.
        None is all cores that this process may use.
    cache : "memory", path, Store or None, default="memory"
        Where codes are kept so that no photograph goes through the same network twice:
        in memory, shared by all estimators of the process and bounded
        (:func:`sktransfer.set_config`, 512 MB), or in a folder shared by processes
        and runs. The key is the content of the photograph, not its name.
    cache_layers : {"auto", "asked", "all"}, default="auto"
        Which layers a pass computes and keeps in the cache. ``"asked"``: those of `layer`, and
        nothing behind them. ``"auto"``: the same, but all layers of an image of which the cache
        knows another layer of the same network already, so that a search over any number of
        layers costs two passes, unless all layers are more than the cache may hold. ``"all"``:
        all, so that it costs one. Layers that are not pooled to a row each are kept as asked.
    on_error : {"raise", "nan"}, default="raise"
        What an image that cannot be read does: an error that names it, or a row of NaN and
        one warning that lists them all. Either way the codes computed so far are kept.
    bundle_weights : bool, default=False
        Whether a pickle holds the weights even where they can be had again by name.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    backbone_ : BackboneInfo
        Name, source, weights, preprocessing and fingerprint of the network.
    layers_ : list of str
        The layers whose codes come out.
    image_size_ : tuple of int
        Height and width the network sees.
    code_shape_ : tuple of int
        Shape of the code of one photograph.
    n_features_in_ : int
        Number of columns, where the input is a table.
    feature_names_in_ : ndarray of str
        Their names, where they have names.

    See Also
    --------
    sktransfer.list_backbones : Names of networks.
    sktransfer.load_image_folder : Photographs in one folder per class.

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

    _fitted: FittedCodes
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "backbone": [str, HasMethods(["forward", "state_dict"])],
        "weights": [str, os.PathLike, enum.Enum, None],
        "layer": [str, Integral, list, tuple, None],
        "pooling": [StrOptions(set(POOLINGS)), None],
        "image_size": [Interval(Integral, 1, None, closed="left"), tuple, list, None],
        "resize": [StrOptions(set(RESIZES))],
        "crop_pct": [Interval(Real, 0, 1, closed="right"), None],
        "image_shape": [tuple, list, StrOptions({"row"}), None],
        "value_range": [StrOptions({"auto"}), tuple, list],
        "preprocessing": "no_validation",  # see as_preprocessing
        "normalize": [StrOptions({"l2", "power"}), None],
        "device": [str, HasMethods(["type", "index"]), list, tuple],
        "precision": [StrOptions({"auto", *PRECISIONS})],
        "engine": [StrOptions(set(ENGINES))],
        "compile": ["boolean"],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "n_jobs": [Integral, None],
        "cache": [str, os.PathLike, HasMethods(["get_many", "put_many"]), None],
        "cache_layers": [StrOptions({"auto", "asked", "all"})],
        "on_error": [StrOptions({"raise", "nan"})],
        "bundle_weights": ["boolean"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        backbone: Any = "efficientnet_lite0",
        *,
        weights: str | os.PathLike[str] | enum.Enum | None = "default",
        layer: str | int | Sequence[str | int] | None = None,
        pooling: str | None = "avg",
        image_size: int | tuple[int, int] | None = None,
        resize: str = "pad",
        crop_pct: float | None = None,
        image_shape: tuple[int, ...] | Literal["row"] | None = None,
        value_range: Literal["auto"] | tuple[float, float] = "auto",
        preprocessing: Any = None,
        normalize: str | None = None,
        device: str | Sequence[str] = "auto",
        precision: str = "auto",
        engine: str = "auto",
        compile: bool = False,
        batch_size: int | Literal["auto"] = "auto",
        n_jobs: int | None = None,
        cache: Any = "memory",
        cache_layers: str = "auto",
        on_error: str = "raise",
        bundle_weights: bool = False,
        verbose: int = 0,
    ):
        self.backbone = backbone
        self.weights = weights
        self.layer = layer
        self.pooling = pooling
        self.image_size = image_size
        self.resize = resize
        self.crop_pct = crop_pct
        self.image_shape = image_shape
        self.value_range = value_range
        self.preprocessing = preprocessing
        self.normalize = normalize
        self.device = device
        self.precision = precision
        self.engine = engine
        self.compile = compile
        self.batch_size = batch_size
        self.n_jobs = n_jobs
        self.cache = cache
        self.cache_layers = cache_layers
        self.on_error = on_error
        self.bundle_weights = bundle_weights
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None) -> Self:
        """Load the network and settle what the input looks like; no image is computed.

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
            If the network, its weights or its layer cannot be had.
        """
        if is_lazy(X):
            X = look_at(X, image_shape=self.image_shape, value_range=self.value_range)
        fit_codes(self, X)
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
        images = images_of(self, X)
        reading = self._fitted.reading
        if reading.float_range is None:
            reading = replace(reading, float_range=images.float_range)
            self._fitted = replace(self._fitted, reading=reading)
        return self

    def transform(self, X: Any) -> Any:
        """Compute the codes of images.

        Parameters
        ----------
        X : array, list or table of images
            As in `fit`.

        Returns
        -------
        codes : ndarray of shape (n_samples, n_features), float32
            (n_samples, *code_shape_) with ``pooling=None``. A lazy dask array where `X` is a
            dask array, bag, series or data frame; the lengths of its chunks are those of an
            array's, and not known (NaN) of other input.

        Raises
        ------
        ImageError
            If an image cannot be read, unless ``on_error="nan"``.
        """
        check_is_fitted(self, "backbone_")
        if is_lazy(X):
            return transform_lazily(self, X)
        return transform_codes(self, X)

    def transform_to(
        self,
        path: str | os.PathLike[str],
        X: Any,
        *,
        dtype: str = "float32",
        overwrite: bool = False,
    ) -> TransformReport:
        """Write the codes of images to a file: of more than memory holds, and resumably.

        Rows are in the file as soon as they are computed. After a kill, an error or a power
        cut the same call goes on where it was: no row that is there is computed again. Until
        all are there the file is called ``<path>.partial``. What it is of and which rows are
        done is kept beside it in ``<path>.journal``; without it the finished file is still
        the array, but cannot be added to.

        Parameters
        ----------
        path : str or path
            Ends in ``.npy``; to be read with ``numpy.load(path, mmap_mode="r")``.
        X : array, list or table of images
            As in `transform`. A photograph whose content has changed since its row was
            written, or that could not be read then, is computed anew.
        dtype : {"float32", "float16"}, default="float32"
            What the numbers are written as.
        overwrite : bool, default=False
            Whether a file may be replaced that is of another network, other parameters or
            other photographs, instead of an error. One that fits is gone on with, not
            begun anew.

        Returns
        -------
        report : TransformReport
            What is new, known and skipped, and how long it took.

        Raises
        ------
        ImageError
            If an image cannot be read, unless ``on_error="nan"``. Rows so far are kept.
        CodesFileError
            If the file is of something else, another process is writing it, or the disk is
            full.
        """
        check_is_fitted(self, "backbone_")
        return stream_codes(self, path, X, dtype=dtype, overwrite=overwrite)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names such as ``resnet18_layer4_avg_0``: network, layer, pooling, number.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Checked against the names seen in `fit`, otherwise not used.

        Returns
        -------
        names : ndarray of str objects, shape (n_features,)
        """
        check_is_fitted(self, "backbone_")
        return feature_names(self, input_features)

    def list_layers(self) -> list[Any]:
        """The cut points of the network, from the input to the codes, and its output.

        May be called before `fit`; loads the network. The output is the last, ``"output"``; of a
        network that gives several tensors each is there, as ``"output.<name>"``.

        Returns
        -------
        layers : list of Layer
            Each with its name and the shape of its output for one image.
        """
        from ._frozen_pass import table_of

        return table_of(self)[1].listed()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "backbone_")
