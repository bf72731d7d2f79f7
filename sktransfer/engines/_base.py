"""What every engine does: 8-bit pixels in, codes of several layers out."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

__all__ = ["Engine"]


class Engine(ABC):
    """A frozen network on a device.

    Attributes
    ----------
    name : str
        Such as ``"torch-cpu"``; part of the address of codes in the store, because the
        engines' last digits differ.
    precision : {"float32", "bfloat16", "float16"}
        What it computes in; codes are float32 always.
    batch_size : int
        Images that go through together unless another number is asked for.
    """

    name: str
    precision: str
    batch_size: int

    @abstractmethod
    def run(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        """Compute the codes of one batch; may be called from several threads at once.

        Parameters
        ----------
        pixels : ndarray of shape (n, height, width, 3), uint8
            RGB; (n, height, width, 1) for a network that sees grey.

        Returns
        -------
        tuple of ndarray, float32
            One array for each layer of the frozen network, with n rows.
        """
