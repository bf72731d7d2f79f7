"""What can be measured of images without a network."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from ..compute import worker_pool
from ..exceptions import ImageError
from ..inputs import OR_NAN, Images, unreadable
from ._examples import images_of

__all__ = ["facts_of", "image_facts"]


# Light, colour and sharpness are those of the image as it is seen at this size.
_SIDE = 512
# ITU-R BT.601, section 2.5.1; whole numbers, so that grey stays what it is to the last bit.
_LUMA = np.array([299, 587, 114], np.float32)


def image_facts(
    X: Any, *, value_range: Any = "auto", on_error: str = "nan"
) -> dict[str, np.ndarray]:
    """Measure the size, light, colour and sharpness of images.

    Images are upright 8-bit RGB, as :class:`~sktransfer.CNNCodes` reads them. What is larger is
    shrunk until its longer side is 512 pixels before light, colour and sharpness are measured: what
    is blurred at the size of the file alone is not blurred. Light is the luma, 0.299 R + 0.587 G +
    0.114 B [1]_, from 0, black, to 1, white.

    Parameters
    ----------
    X : array, list or table of images
        As :class:`~sktransfer.CNNCodes` takes them: arrays, paths, bytes, PIL images.
    value_range : (low, high) or "auto", default="auto"
        What black and white are in arrays, as for :class:`~sktransfer.CNNCodes`.
    on_error : {"nan", "raise"}, default="nan"
        What becomes of images that cannot be read: NaN in each row of theirs, with the cause under
        ``"error"``, or an :class:`~sktransfer.exceptions.ImageError`.

    Returns
    -------
    facts : dict of str to ndarray of shape (n_images,)
        ``pandas.DataFrame(image_facts(X))`` is a table. Numbers are float64:

        height, width
            In pixels, upright.
        n_channels
            As stored: 1 is grey, 3 colour, 2 and 4 the same with transparency; 4 also CMYK.
        n_bytes
            Of the file; NaN for what is no file.
        brightness
            Mean of the luma, 0 to 1.
        darkest, brightest
            Its 1st and 99th percentiles. An image whose brightest pixels are dark is too dark; one
            whose darkest are bright is too bright.
        contrast
            Standard deviation of the luma, 0 to 0.5 [2]_.
        colourfulness
            As M in [3]_, with channels from 0 to 255: 0 is grey, 15 slightly, 33 moderately, 59
            quite and 109 extremely colourful.
        sharpness
            Variance of the Laplacian (the four neighbours less four times the pixel, borders
            mirrored) of the luma from 0 to 255 [4]_; it is low where an image is blurred, and where
            there is little to see.

        and two of str (object):

        format
            Of the file, as Pillow names it, such as ``"JPEG"``; empty for what is no file.
        error
            Why an image cannot be read; empty where it can.

    Raises
    ------
    InputError
        If `X` is not a collection of images.
    ImageError
        If an image cannot be read and ``on_error="raise"``; names it, and says how many there are.

    See Also
    --------
    ImageGridDisplay : To look at the images.

    References
    ----------
    .. [1] Recommendation ITU-R BT.601-7 (2011), section 2.5.1.
    .. [2] E. Peli (1990). Contrast in complex images. Journal of the Optical Society of America A
       7(10), section 2 (root mean square).
    .. [3] D. Hasler, S. Süsstrunk (2003). Measuring colourfulness in natural images. Human Vision
       and Electronic Imaging VIII, section 7 and table 2.
    .. [4] J. L. Pech-Pacheco et al. (2000). Diatom autofocusing in brightfield microscopy: a
       comparative study. ICPR, section 2.4.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.inspection import image_facts
    >>> X = np.zeros((2, 30, 40, 3), np.uint8)
    >>> X[1, :, 20:] = 255
    >>> facts = image_facts(X)
    >>> facts["brightness"].tolist(), facts["contrast"].tolist()
    ([0.0, 0.5], [0.0, 0.5])
    """
    if on_error not in ("nan", "raise"):
        raise ValueError(f"on_error= must be 'nan' or 'raise', got {on_error!r}.")
    return facts_of(images_of(X, value_range), on_error)


def facts_of(images: Images, on_error: str = "nan") -> dict[str, np.ndarray]:
    """What :func:`image_facts` measures, of images as an input was read."""
    found = list(worker_pool().map(partial(_facts_of, images), range(len(images))))
    images.tell()
    errors = [one for one in found if isinstance(one, ImageError)]
    if errors and on_error == "raise":
        raise unreadable(errors, OR_NAN) from errors[0]
    facts: dict[str, np.ndarray] = {}
    for name, empty in _EMPTY.items():
        values = [empty if isinstance(one, ImageError) else one[name] for one in found]
        facts[name] = np.array(values, object if empty == "" else np.float64)
    causes = [one.cause if isinstance(one, ImageError) else "" for one in found]
    facts["error"] = np.array(causes, object)
    return facts


def _facts_of(images: Images, index: int) -> dict[str, Any] | ImageError:
    try:
        opened = images.open(index)
        stored, pixels = opened.stored(), opened.pixels()
    except ImageError as error:
        return error
    height, width = pixels.shape[:2]
    pixels = _seen(pixels)
    luma = pixels.astype(np.float32) @ _LUMA / np.float32(255_000)
    darkest, brightest = np.percentile(luma, [1, 99])
    laplacian = 255 * ndimage.laplace(luma, mode="mirror")
    return {
        "height": height,
        "width": width,
        "format": stored.format,
        "n_channels": stored.n_channels,
        "n_bytes": np.nan if stored.n_bytes is None else stored.n_bytes,
        "brightness": luma.mean(dtype=np.float64),
        "darkest": darkest,
        "brightest": brightest,
        "contrast": luma.std(dtype=np.float64),
        "colourfulness": _colourfulness(pixels),
        "sharpness": laplacian.var(dtype=np.float64),
    }


_NAN = float("nan")
_EMPTY: dict[str, Any] = {
    "height": _NAN, "width": _NAN, "format": "", "n_channels": _NAN, "n_bytes": _NAN,
    "brightness": _NAN, "darkest": _NAN, "brightest": _NAN, "contrast": _NAN,
    "colourfulness": _NAN, "sharpness": _NAN,
}  # fmt: skip


def _colourfulness(pixels: np.ndarray) -> float:
    red, green, blue = np.moveaxis(pixels.astype(np.float32), 2, 0)
    opponents = np.stack([red - green, (red + green) / 2 - blue]).reshape(2, -1)
    spread = np.linalg.norm(opponents.std(axis=1, dtype=np.float64))
    return float(spread + 0.3 * np.linalg.norm(opponents.mean(axis=1, dtype=np.float64)))


def _seen(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    scale = _SIDE / max(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
