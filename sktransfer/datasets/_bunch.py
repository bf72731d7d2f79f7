"""What loaders of images return: a Bunch that shows what is in it."""

from __future__ import annotations

import html
from collections import Counter
from typing import Any

import numpy as np
from PIL import Image
from sklearn.utils import Bunch, check_random_state

from ..exceptions import ImageError
from ..inputs import as_images, data_uri

__all__ = ["ImageBunch"]


# Images that a notebook shows, how large, and classes of which the number is told.
_N_SHOWN, _SIDE, _N_COUNTED = 12, 96, 30


class ImageBunch(Bunch):
    """Images and what is known of them; a notebook shows some, and how many each class has.

    Of `data`, the images, some are read when it is shown; `target` and `target_names` are taken
    into account where they are there.
    """

    def __repr__(self) -> str:
        return f"{self._head()}: {', '.join(self)}"

    def _repr_html_(self) -> str:
        labels = self._labels()
        shown = check_random_state(0).permutation(len(self.data))
        if labels is not None:
            shown = _in_turn(shown, labels)
        cells = []
        for index in shown[:_N_SHOWN]:
            title = f"image {index}" if labels is None else str(labels[index])
            cells.append(_cell(self.data, int(index), title))
        grid = f'<div style="display:flex;flex-wrap:wrap">{"".join(cells)}</div>'
        return f"<div><p>{self._head()}</p>{grid}{_counts(labels)}</div>"

    def _head(self) -> str:
        labels = self._labels()
        classes = "" if labels is None else f" of {len(set(labels))} classes"
        return f"{len(self.data)} images{classes}"

    def _labels(self) -> list[Any] | None:
        """The name of the class of each image; None where images have no one class."""
        target, names = self.get("target"), self.get("target_names")
        if target is None or np.ndim(target) != 1 or np.asarray(target).dtype.kind == "f":
            return None
        if names is None or np.asarray(target).dtype.kind not in "iu":
            found = np.asarray(target).tolist()
            return found if all(isinstance(one, (str, int, bool)) for one in found) else None
        return np.asarray(names)[np.asarray(target)].tolist()


def _in_turn(lots: np.ndarray, labels: list[Any]) -> list[int]:
    """Some of each class: all first ones, then all second ones."""
    seen: Counter[Any] = Counter()
    turns = {}
    for one in lots:
        turns[int(one)] = seen[labels[one]]
        seen[labels[one]] += 1
    return sorted(turns, key=lambda one: (turns[one], str(labels[one])))


def _cell(data: Any, index: int, title: str) -> str:
    try:
        image = as_images(data[index : index + 1]).open(0).picture()
    except ImageError:
        inside = f'<div style="width:{_SIDE}px;height:{_SIDE}px">cannot be read</div>'
    else:
        image.thumbnail((_SIDE, _SIDE), Image.Resampling.BILINEAR)
        inside = f'<img src="{data_uri(image)}">'
    name = html.escape(title)
    return f'<div style="margin:4px;font-size:small"><div>{name}</div>{inside}</div>'


def _counts(labels: list[Any] | None) -> str:
    if labels is None:
        return ""
    counts = sorted(Counter(labels).items(), key=lambda pair: str(pair[0]))
    rows = [
        f"<tr><td>{html.escape(str(label))}</td><td>{n}</td></tr>"
        for label, n in counts[:_N_COUNTED]
    ]
    if len(counts) > _N_COUNTED:
        rows.append(f"<tr><td>… {len(counts) - _N_COUNTED} more classes</td><td></td></tr>")
    return f"<table><tr><th>class</th><th>images</th></tr>{''.join(rows)}</table>"
