"""Images in a page of HTML."""

from __future__ import annotations

import base64
import io

from PIL import Image

__all__ = ["data_uri"]


def data_uri(picture: Image.Image) -> str:
    """What the `src` of an ``<img>`` holds instead of an address: the image itself, as JPEG."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
