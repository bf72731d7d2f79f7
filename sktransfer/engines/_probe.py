"""Whether two engines compute the same."""

from __future__ import annotations

import numpy as np

from ..exceptions import EngineError
from ._base import Engine

__all__ = ["check_agreement"]

_TOLERANCE = 1e-3


def check_agreement(engine: Engine, reference: Engine, shape: tuple[int, int, int]) -> None:
    """Compare codes on a probe batch: gradients and noise.

    Parameters
    ----------
    engine, reference : Engine
    shape : tuple of int
        Height, width and channels of an image.

    Raises
    ------
    EngineError
        If the codes of a layer differ by more than 1e-3 (relative L2 norm).
    """
    probe = _probe(shape)
    for found, expected in zip(engine.run(probe), reference.run(probe), strict=True):
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


def _probe(shape: tuple[int, int, int]) -> np.ndarray:
    ramp = np.linspace(0, 255, int(np.prod(shape))).reshape(shape)
    noise = np.random.default_rng(0).integers(0, 256, shape)
    # Three, since it was two images that a conversion was made for.
    return np.stack([ramp, noise, ramp[::-1]]).astype(np.uint8)
