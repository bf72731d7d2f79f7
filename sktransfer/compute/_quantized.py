"""Networks in 8 bits: converted once, by some of the images given to `fit`."""

from __future__ import annotations

import hashlib
import logging
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from .._lru import LRU
from .._optional import import_nncf, import_openvino
from ..exceptions import EngineError, ItemError
from ..inputs import Items, Preparation, unreadable
from ..networks import Cuttable, Layer
from ._base import Device
from ._openvino import Conversion, OpenVinoEngine, first_line, model_of
from ._threads import worker_pool

__all__ = ["Quantized", "calibration_rows", "int8_engine", "quantize"]


# Raised when the same images would give another conversion.
_RULES = 2
# Convolutions at the beginning stay in float32, three at most, as long as they have a tenth of the
# multiplications: the three of efficientnet_lite0 make a third of the error and take a tenth of the
# time, while three of resnet18 would take half of it.
_FIRST, _SHARE = 3, 0.1
# Images by which the ranges of activations are found; NNCF's own default.
_IMAGES = 300

_conversions: LRU[Quantized] = LRU(4)


@dataclass(frozen=True)
class Quantized:
    """A network up to some layers, converted to 8 bits by some images.

    It is kept whole where an estimator is kept, pickles included: a fifth or so of the weights in
    float32, by which the codes are the same wherever it is loaded.

    Attributes
    ----------
    key : str
        Digest of the network, the layers, the preparation, the images in their order, and the
        versions of what converted it. It is part of the keys of codes: those by other images
        are other codes.
    topology, weights : ndarray of uint8
        OpenVINO's pair of files; the first is compressed.
    """

    key: str
    topology: np.ndarray = field(compare=False, repr=False)
    weights: np.ndarray = field(compare=False, repr=False)

    @classmethod
    def of(cls, key: str, graph: bytes, weights: bytes) -> Quantized:
        """Take the content of the two files."""
        packed = np.frombuffer(zlib.compress(graph), np.uint8)
        return cls(key, packed, np.frombuffer(weights, np.uint8))

    @property
    def precision(self) -> str:
        """What the codes are computed in, for the keys of the store."""
        return f"int8-{self.key}"

    def model(self) -> Any:
        """OpenVINO's graph."""
        return model_of(zlib.decompress(self.topology.tobytes()), self.weights)


def int8_engine(
    quantized: Quantized | None, devices: Sequence[Device], *, few: bool = False
) -> OpenVinoEngine:
    """The engine of a conversion.

    Raises
    ------
    EngineError
        If OpenVINO cannot compute it; nothing else can.
    """
    check_int8(quantized, devices)
    assert quantized is not None  # noqa: S101  (for mypy; it was checked)
    try:
        return OpenVinoEngine(quantized.model(), quantized.precision, few=few)
    except RuntimeError as error:
        raise EngineError(
            f"OpenVINO cannot load the network in 8 bits ({first_line(error)}). Fit again with the "
            "version of openvino that is installed here."
        ) from error


def check_int8(
    quantized: Quantized | None,
    devices: Sequence[Device],
    *,
    engine: str = "auto",
    compile: bool = False,
    fitted: bool = True,
) -> None:
    """Check that 8 bits are possible.

    Parameters
    ----------
    quantized : Quantized or None
    devices : sequence of Device
    engine, compile : object
        As in `CNNCodes`.
    fitted : bool
        Whether there must be a conversion already.

    Raises
    ------
    EngineError
        If not.
    """
    what = (
        f"device={str(devices[0])!r}" if devices[0].type != "cpu"
        else 'engine="torch"' if engine == "torch"
        else "compile=True, which is torch's" if compile
        else ""
    )  # fmt: skip
    if what:
        raise EngineError(
            f'precision="int8" is computed by OpenVINO on a CPU, got {what}. Take device="cpu", '
            'engine="auto" and compile=False, or another precision.'
        )
    try:
        import_openvino()
    except ImportError as error:
        raise EngineError(
            'precision="int8" needs the package openvino: pip install "sktransfer[int8]".'
        ) from error
    if fitted and quantized is None:
        raise EngineError(
            'precision="int8" needs the conversion that fit makes by its images, but the '
            "estimator was fitted with another precision. Call fit again."
        )


def calibration_rows(n_items: int) -> np.ndarray:
    """Numbers of the images that a network is converted by: 300, evenly over all."""
    return np.unique(np.linspace(0, n_items - 1, min(n_items, _IMAGES)).round().astype(int))


def quantize(
    network: Cuttable,
    layers: Sequence[Layer],
    pooling: str | None,
    preparation: Preparation,
    items: Items,
) -> Quantized:
    """Convert a network up to some layers to 8 bits, or find the conversion made before.

    Parameters
    ----------
    network : Cuttable
    layers : sequence of Layer
    pooling : str or None
    preparation : Preparation
    items : Items
        At most 300 of them are taken (`calibration_rows`); those that cannot be read are left out.

    Raises
    ------
    ImportError
        If NNCF is not installed, and there is no conversion yet.
    ItemError
        If none of the items can be read.
    EngineError
        If OpenVINO cannot convert the network.
    """
    arrays, digests = _sample(items, preparation)
    openvino, nncf = import_openvino(), _nncf()
    names = tuple(layer.name for layer in layers)
    versions = (_RULES, openvino.__version__.split("-")[0], nncf.__version__)
    facts = (network.identity, names, pooling, preparation.key, versions, digests)
    key = hashlib.sha256(repr(facts).encode()).hexdigest()[:32]

    def make() -> Quantized:
        kept = Conversion(None if network.private else f"int8-{key}")
        if (parts := kept.parts()) is not None:
            return Quantized.of(key, *(part.tobytes() for part in parts))
        from ._convert import convert  # with torch

        model = convert(network.prefix(list(layers), pooling), preparation.probes())
        graph, weights = _bytes_of(_in_8_bits(model, arrays))
        quantized = Quantized.of(key, graph, weights)
        kept.save(quantized.model())
        return quantized

    return _conversions.get(key, make)


def _sample(items: Items, preparation: Preparation) -> tuple[list[np.ndarray], list[str]]:
    """What the network is to be shown, and digests of it."""

    def one(row: int) -> tuple[np.ndarray, str] | ItemError:
        try:
            item = items.open(row)
            return preparation(item)[None], item.digest.hex()
        except ItemError as error:
            return error

    found = list(worker_pool().map(one, calibration_rows(len(items)).tolist()))
    good = [each for each in found if not isinstance(each, ItemError)]
    if not good:
        errors = [each for each in found if isinstance(each, ItemError)]
        if errors:
            raise unreadable(errors) from errors[0]
        raise EngineError('precision="int8" needs images in fit to convert the network by, got 0.')
    return [array for array, _ in good], [digest for _, digest in good]


def _nncf() -> Any:
    return import_nncf('precision="int8"')


def _in_8_bits(model: Any, arrays: list[np.ndarray]) -> Any:
    """Weights and activations in 8 bits, ranges of which are seen in some images.

    References: B. Jacob et al. (2018). Quantization and training of neural networks for efficient
    integer-arithmetic-only inference. CVPR. M. Nagel et al. (2019). Data-free quantization through
    weight equalization and bias correction. ICCV.
    """
    nncf = _nncf()
    from nncf.common.logging import track_progress
    from nncf.quantization.advanced_parameters import OverflowFix
    from rich.progress import Progress

    def silent(*args: Any, **options: Any) -> Any:
        return Progress(*args, **{**options, "disable": True})

    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with patch.object(track_progress, "Progress", silent):
            return nncf.quantize(
                model,
                nncf.Dataset(arrays),
                subset_size=len(arrays),
                ignored_scope=nncf.IgnoredScope(names=_first_convolutions(model)),
                # Processors without VNNI add up two products in 16 bits: weights of 7 bits cannot
                # overflow there, and give the same codes on all.
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    overflow_fix=OverflowFix.ENABLE
                ),
            )
    except Exception as error:  # of whatever kind: it has many, and nothing else can do it
        raise EngineError(
            f"The network could not be converted to 8 bits ({first_line(error)}). Take "
            'precision="float32" or "bfloat16".'
        ) from error
    finally:
        logger.setLevel(level)


def _first_convolutions(model: Any) -> list[str]:
    """Names of those that stay in floats; none of a network that has no more than a few."""
    kinds = ("Convolution", "GroupConvolution")
    found = [one for one in model.get_ordered_ops() if one.get_type_name() in kinds]
    if len(found) <= 2 * _FIRST:
        return []
    so_far = np.cumsum([_multiplications(one) for one in found])
    few = int((so_far <= _SHARE * so_far[-1]).sum())
    return [one.get_friendly_name() for one in found[: min(_FIRST, few)]]


def _multiplications(convolution: Any) -> float:
    """Of one image: each weight is used once in each place of the map."""
    height, width = convolution.output(0).partial_shape[2:]
    weights = convolution.input(1).get_partial_shape()
    return float(np.prod([side.get_length() for side in (height, width, *weights)], dtype=float))


def _bytes_of(model: Any) -> tuple[bytes, bytes]:
    """The content of the two files of a graph."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.xml"
        import_openvino().save_model(model, path, compress_to_fp16=False)
        return path.read_bytes(), path.with_suffix(".bin").read_bytes()
