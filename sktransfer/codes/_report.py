"""What became of codes that were written to a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..exceptions import ImageError

__all__ = ["TransformReport"]


@dataclass(frozen=True, repr=False)
class TransformReport:
    """What `CNNCodes.transform_to` did.

    Attributes
    ----------
    path : Path
        The file, in NumPy's own format.
    shape : tuple of int
        Rows, and numbers in each.
    dtype : numpy.dtype
        Of the numbers.
    n_new : int
        Rows that this call wrote.
    n_known : int
        Rows that an earlier call had written.
    skipped : tuple of ImageError
        Photographs that could not be read, whose rows are NaN: each with its ``index``, its
        path as ``source``, and the ``cause``.
    seconds : float
        What this call took.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    n_new: int
    n_known: int
    skipped: tuple[ImageError, ...]
    seconds: float

    @property
    def images_per_second(self) -> float:
        """Photographs settled by this call, known ones among them, for each second."""
        return self.shape[0] / self.seconds

    def load(self) -> np.ndarray:
        """Map the file into memory; what is not looked at is not read.

        Returns
        -------
        codes : memmap of shape (n_samples, n_features)
            Read-only.
        """
        codes: np.ndarray = np.load(self.path, mmap_mode="r")
        return codes

    def __repr__(self) -> str:
        size = " × ".join(f"{side:,}" for side in self.shape)
        lines = [
            f"{self.path}: {size} {self.dtype}",
            f"  {self.n_new:,} rows new, {self.n_known:,} known, {len(self.skipped):,} skipped; "
            f"{self.seconds:.1f} s, {self.images_per_second:,.0f} images/s",
            *(f"  skipped {error}" for error in self.skipped[:10]),
        ]
        if len(self.skipped) > 10:
            lines.append(f"  … and {len(self.skipped) - 10:,} more")
        return "\n".join(lines)
