"""Texture: colours, edges and ridges of an image at several scales, pixel by pixel."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

__all__ = ["texture_of"]


# Standard deviations of the Gaussians, in pixels.
_SCALES = (1, 2, 4, 8)
# Their kernels end at so many standard deviations.
_TRUNCATE = 3.0


def texture_of(image: np.ndarray) -> np.ndarray:
    """Features of every pixel that segment images of textures: those of Weka and ilastik.

    Parameters
    ----------
    image : ndarray of shape (height, width, channels), uint8

    Returns
    -------
    ndarray of shape (height, width, n_features), float32
        The colours, and of each scale: the colours smoothed by a Gaussian, and of their mean the
        length of the gradient and both eigenvalues of the Hessian matrix, times the scale and its
        square, so that all scales have numbers of one size.

    References
    ----------
    I. Arganda-Carreras et al. (2017). Trainable Weka Segmentation: a machine learning tool for
    microscopy pixel classification. Bioinformatics 33(15), supplement.

    T. Lindeberg (1998). Feature detection with automatic scale selection. International Journal of
    Computer Vision 30(2), section 4 (derivatives that do not depend on the scale).
    """
    colours = image.astype(np.float32) / 255
    parts = [colours]
    for scale in _SCALES:
        smooth = gaussian_filter(colours, (scale, scale, 0), truncate=_TRUNCATE)
        grey = np.pad(smooth.mean(axis=2), 1, mode="edge")  # at least two pixels, for a gradient
        down, right = np.gradient(grey)
        down_down, down_right = np.gradient(down)
        right_right = np.gradient(right, axis=1)
        middle = (down_down + right_right) / 2
        apart = np.hypot((down_down - right_right) / 2, down_right)
        found = [
            scale * np.hypot(down, right),
            scale**2 * (middle + apart),
            scale**2 * (middle - apart),
        ]
        parts += [smooth, np.stack(found, axis=2)[1:-1, 1:-1]]
    return np.concatenate(parts, axis=2, dtype=np.float32)
