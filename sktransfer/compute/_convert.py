"""Networks of torch as OpenVINO's graphs, found right before anybody uses them."""

from __future__ import annotations

import warnings
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import nn

from .._optional import import_openvino
from ..exceptions import EngineError
from ..networks import FrozenModule, tracing
from ._base import Engine
from ._openvino import InconvertibleError, OpenVinoEngine, first_line
from ._torch import TorchEngine

__all__ = ["check_agreement", "convert", "converted", "openvino_graph"]


def converted(network: FrozenModule, probes: list[np.ndarray]) -> Any:
    """Convert a frozen network, if OpenVINO computes the same as torch.

    Raises
    ------
    InconvertibleError
        If it cannot, or computes something else.
    EngineError
        If anything else went wrong.
    """
    model = convert(network, probes)
    # In float32 always: lower precisions differ by more than a wrong conversion may.
    engine = OpenVinoEngine(model, "float32")
    reference = TorchEngine(network, torch.device("cpu"), "float32")
    try:
        check_agreement(engine, reference, probes)
    except EngineError as error:
        raise InconvertibleError(str(error)) from error
    except RuntimeError as error:  # OpenVINO's own
        reason = first_line(error)
        raise EngineError(f"OpenVINO cannot run the network: {reason}.") from error
    return model


def convert(network: FrozenModule, probes: list[np.ndarray]) -> Any:
    """Convert a frozen network.

    Raises
    ------
    InconvertibleError
        If OpenVINO says that it cannot.
    EngineError
        If anything else went wrong.
    """
    example = torch.from_numpy(probes[0])
    return openvino_graph(network.folded(), example, _common_shape(probes))


def openvino_graph(network: nn.Module, example: torch.Tensor, shape: list[int]) -> Any:
    """The graph of a module; by the frontend itself, since ``convert_model`` takes four times as
    long, and forks processes that report its use to a server.

    Parameters
    ----------
    network : torch.nn.Module
        Takes one tensor.
    example : Tensor
        Such a one.
    shape : list of int
        Of all that are to be taken; -1 is any length.

    Raises
    ------
    InconvertibleError
        If OpenVINO says that it cannot.
    EngineError
        If anything else went wrong.
    """
    import_openvino()
    from openvino import frontend as kinds
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    try:
        with tracing(), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the tracer's, about constants
            with patch.object(torch, "diff", _diff):
                traced = torch.jit.trace(network, example, check_trace=False)
            frontend = kinds.FrontEndManager().load_by_framework("pytorch")
            decoder = TorchScriptPythonDecoder(traced, example_input=(example,))
            model = frontend.convert(frontend.load(decoder))
            model.reshape(shape)
            return model
    except (
        kinds.NotImplementedFailure,
        kinds.OpConversionFailure,
        kinds.OpValidationFailure,
    ) as error:
        raise InconvertibleError(
            f"OpenVINO cannot convert the network: {first_line(error)}."
        ) from error
    except Exception as error:  # what is not said to be for ever may pass: no memory, for one
        raise EngineError(f"OpenVINO cannot convert the network: {first_line(error)}.") from error


def _diff(
    x: torch.Tensor,
    n: int = 1,
    dim: int = -1,
    prepend: torch.Tensor | None = None,
    append: torch.Tensor | None = None,
) -> torch.Tensor:
    """`torch.diff` by operations that OpenVINO has rules for.

    All decoders of transformers call it, to look for several texts in one row.
    """
    if n == 0:
        return x
    x = torch.cat([one for one in (prepend, x, append) if one is not None], dim)
    for _ in range(n):
        length = x.shape[dim] - 1
        later, earlier = x.narrow(dim, 1, length), x.narrow(dim, 0, length)
        x = later != earlier if x.dtype == torch.bool else later - earlier
    return x


def _common_shape(probes: list[np.ndarray]) -> list[int]:
    """Lengths that all have; -1 for the number of items, and for lengths that differ."""
    lengths = zip(*(one.shape[1:] for one in probes), strict=True)
    return [-1, *(several[0] if len(set(several)) == 1 else -1 for several in lengths)]


# Whether two engines compute the same.


_TOLERANCE = 1e-3


def check_agreement(engine: Engine, reference: Engine, probes: list[np.ndarray]) -> None:
    """Compare codes of made-up items.

    Parameters
    ----------
    engine, reference : Engine
    probes : list of ndarray
        Batches of them.

    Raises
    ------
    EngineError
        If the codes of a layer differ by more than 1e-3 (relative L2 norm).
    """
    pairs = [
        pair
        for probe in probes
        for pair in zip(engine.run(probe), reference.run(probe), strict=True)
    ]
    for found, expected in pairs:
        if found.shape != expected.shape:
            raise EngineError(
                f"{engine.name} gives codes of shape {found.shape} on a probe, but "
                f"{reference.name} gives {expected.shape}."
            )
        if not np.isfinite(expected).all():
            # No sign of a wrong conversion: images that give such codes are refused with a name.
            numbers = np.isfinite(expected)
            found, expected = np.where(numbers, found, 0), np.where(numbers, expected, 0)
        scale = np.linalg.norm(expected)
        error = np.linalg.norm(found - expected) / max(float(scale), 1e-12)
        if not error <= _TOLERANCE:
            raise EngineError(
                f"{engine.name} gives codes that differ by {error:.1e} from those of "
                f"{reference.name} on a probe; at most {_TOLERANCE:.0e} are allowed."
            )
