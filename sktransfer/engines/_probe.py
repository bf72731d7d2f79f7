"""Whether two engines compute the same."""

from __future__ import annotations

import numpy as np

from ..exceptions import EngineError
from ._base import Engine

__all__ = ["check_agreement"]

_TOLERANCE = 1e-3


def check_agreement(engine: Engine, reference: Engine, image_size: tuple[int, int]) -> None:
    """Compare codes on a probe batch: a gradient and noise.

    Raises
    ------
    EngineError
        If the codes of a layer differ by more than 1e-3 (relative L2 norm).
    """
    for found, expected in zip(
        engine.run(probe := _probe(image_size)), reference.run(probe), strict=True
    ):
        scale = np.linalg.norm(expected)
        error = np.linalg.norm(found - expected) / max(float(scale), 1e-12)
        if not error <= _TOLERANCE:
            raise EngineError(
                f"{engine.name} gives codes that differ by {error:.1e} from those of "
                f"{reference.name} on a probe; at most {_TOLERANCE:.0e} are allowed."
            )


def _probe(image_size: tuple[int, int]) -> np.ndarray:
    height, width = image_size
    ramp = np.linspace(0, 255, height * width * 3).reshape(height, width, 3)
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3))
    return np.stack([ramp.astype(np.uint8), noise.astype(np.uint8)])
