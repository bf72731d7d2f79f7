"""What `find_issues` found: a table, numbers to drop, and pictures."""

from __future__ import annotations

import html
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .._files import atomic_write
from .._optional import import_optional, import_pyplot
from ..exceptions import ItemError, did_you_mean, shown
from ..inputs import data_uri

__all__ = ["KINDS", "Issue", "Issues"]

# In the order in which they are told.
KINDS = (
    *("unreadable", "duplicate", "near duplicate", "conflict", "leak", "label", "outlier"),
    *("dark", "bright", "blank", "blurred", "odd size", "odd aspect ratio", "greyscale"),
)

# Thumbnails of a page: examples of each kind of issue, and pixels of their longer side.
_EXAMPLES, _SIDE = 6, 112


@dataclass(frozen=True)
class Issue:
    """Something odd about one item.

    Parameters
    ----------
    index : int
        Number of the item.
    issue : str
        What kind of issue: "unreadable", "duplicate", "near duplicate", "conflict", "leak",
        "label", "outlier" or a fact about the image.
    score : float
        How sure or how strong it is, from 0 to 1.
    related : int or None
        Another item that it is about: the one that is kept, or stands on the other side.
    action : str
        What was found and what to do, a sentence.
    """

    index: int
    issue: str
    score: float
    related: int | None
    action: str


@dataclass(frozen=True, eq=False, repr=False)
class Issues:
    """What was found in some images or texts.

    Parameters
    ----------
    found : tuple of Issue
        By kind of issue, of each the surest first.
    drop : ndarray of int
        Items to leave out, in order, as ``np.delete`` takes them: those that cannot be read, and
        of items that are one all but one.
    notes : tuple of str
        Sentences on what was not looked for, and why.
    items : Images or Texts
        What was looked at.
    label_quality : ndarray of shape (n_items,) or None
        How probable the given label of each item is to the probe that was fitted without it, from
        0 to 1; of tags the least probable one. NaN where it was not checked; None where no label
        was.

    Attributes
    ----------
    frame : pandas.DataFrame
        The same as `to_frame` gives.
    """

    found: tuple[Issue, ...]
    drop: np.ndarray
    notes: tuple[str, ...] = ()
    items: Any = field(default=())
    label_quality: np.ndarray | None = None

    @property
    def counts(self) -> dict[str, int]:
        """How many issues there are of each kind."""
        counts: dict[str, int] = {}
        for one in self.found:
            counts[one.issue] = counts.get(one.issue, 0) + 1
        return counts

    def indices(self, issue: str) -> np.ndarray:
        """Items with one kind of issue.

        Parameters
        ----------
        issue : str
            Such as "label".

        Returns
        -------
        indices : ndarray of int
            The surest first, each once.

        Raises
        ------
        ValueError
            If there is no such kind.
        """
        if issue not in KINDS:
            raise ValueError(
                f"issue must be one of {', '.join(KINDS)}, got {shown(repr(issue))}. "
                f"{did_you_mean(str(issue), KINDS)}".rstrip()
            )
        own = dict.fromkeys(one.index for one in self.found if one.issue == issue)
        return np.array(list(own), dtype=np.int64)

    def ranked_labels(self) -> np.ndarray:
        """Items whose labels were checked, the least probable label first.

        Only those at the beginning that are surely wrong are issues. Looking through this order
        until several in a row are right finds more of the others.

        Returns
        -------
        indices : ndarray of int
            In the order of `label_quality`.

        Raises
        ------
        ValueError
            If no label was checked: `notes` say why.
        """
        if self.label_quality is None:
            raise ValueError(
                f"No label was checked. {' '.join(self.notes) or 'Pass labels as y.'}"
            )
        order = np.argsort(self.label_quality, kind="stable")
        return order[~np.isnan(self.label_quality[order])]

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Save the page that a notebook shows, with its thumbnails, as one file.

        Parameters
        ----------
        path : str or path
            Where, such as "issues.html".

        Raises
        ------
        OSError
            If it cannot be written. What was there before stays.
        """
        page = f"<!doctype html><meta charset='utf-8'>{self._repr_html_()}\n"
        with atomic_write(Path(path).absolute()) as draft:
            draft.write_text(page, encoding="utf-8")

    def to_frame(self) -> Any:
        """All issues as a table.

        Returns
        -------
        frame : pandas.DataFrame
            With the columns "index", "path" (or "text"), "issue", "score", "related" (another
            item, or missing) and "action", what was found and what to do.
        """
        pandas = import_optional("pandas", "Issues.to_frame", "plot")
        column = "path" if self._are_images else "text"
        return pandas.DataFrame(
            {
                "index": np.array([one.index for one in self.found], dtype=np.int64),
                column: [self._source(one.index) for one in self.found],
                "issue": [one.issue for one in self.found],
                "score": np.array([one.score for one in self.found], dtype=np.float64),
                "related": pandas.array([one.related for one in self.found], dtype="Int64"),
                "action": [one.action for one in self.found],
            }
        )

    @property
    def frame(self) -> Any:
        """All issues as a table."""
        return self.to_frame()

    def plot(self, n_examples: int = _EXAMPLES, figure: Any = None) -> Any:
        """Show images with issues, a row for each kind.

        Parameters
        ----------
        n_examples : int, default=6
            At most so many of each kind, the surest first.
        figure : matplotlib.figure.Figure, default=None
            Where to draw; None makes one.

        Returns
        -------
        figure : matplotlib.figure.Figure

        Raises
        ------
        ValueError
            If nothing was found that can be shown, or the items are texts.
        """
        if not self._are_images:
            raise ValueError("plot shows images: take to_frame() for texts.")
        if n_examples < 1:
            raise ValueError(f"n_examples= must be at least 1, got {n_examples}.")
        rows = {issue: some for issue, some in self._examples(n_examples) if some}
        if not rows:
            raise ValueError("No image with an issue can be shown: counts tells what was found.")
        plt = import_pyplot("Issues.plot")
        width = max(map(len, rows.values()))
        if figure is None:
            size = (2.2 * width, 1.9 * len(rows))
            figure = plt.figure(figsize=size, layout="constrained")
        axes = figure.subplots(len(rows), width, squeeze=False)
        for ax in axes.flat:
            ax.axis("off")
        for row, (issue, some) in zip(axes, rows.items(), strict=True):
            for ax, (one, picture) in zip(row, some, strict=False):
                ax.imshow(picture)
                title = str(one.index) if one.related is None else f"{one.index} | {one.related}"
                ax.set_title(f"{issue}: {title}", fontsize="small")
        return figure

    def __repr__(self) -> str:
        noun = f"{getattr(self.items, 'noun', 'item')}s"
        lines = [f"{len(self.found):,} issue(s) in {len(self.items):,} {noun}"]
        lines += [f"  {issue + ':':20s}{n:6,}" for issue, n in self.counts.items()]
        if len(self.drop):
            lines.append(f"drop: {len(self.drop):,} {noun}, {_some(self.drop)}")
        return "\n".join([*lines, *(f"  - {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        """The summary with examples of each kind: thumbnails of at most 112 pixels, or texts."""
        parts = [f"<pre>{html.escape(repr(self))}</pre>"]
        if not self._are_images:
            return parts[0] + self._html_of_texts()
        for issue, some in self._examples(_EXAMPLES):
            cells = "".join(
                f'<td style="text-align:center;vertical-align:top;max-width:16em">'
                f'<img src="{data_uri(picture)}"><br><small>{self._named(one.index)}'
                f"{html.escape(self._told(one))}{self._beside(one)}</small></td>"
                for one, picture in some
            )
            n = self.counts[issue]
            told = f"{issue}, {len(some)} of {n:,}" if len(some) < n else issue
            if cells:
                parts.append(f"<b>{html.escape(told)}</b><table><tr>{cells}</tr></table>")
            else:  # of what cannot be read there is no picture
                lines = (f"<li>{self._named(one.index)}{html.escape(self._told(one))}</li>"
                         for one in self.found if one.issue == issue)  # fmt: skip
                parts.append(f"<b>{html.escape(issue)}</b><ul>{''.join(lines)}</ul>")
        return "".join(parts)

    @property
    def _are_images(self) -> bool:
        return getattr(self.items, "noun", "image") == "image"

    def _source(self, index: int) -> str | None:
        if self._are_images:
            return self.items.source(index)
        try:
            return str(self.items.raw(index))
        except ItemError:
            return None

    def _named(self, index: int) -> str:
        """The name of the file, with its folder, and the whole path under the mouse."""
        if (source := self._source(index)) is None:
            return ""
        path = Path(source)
        name = html.escape(str(Path(path.parent.name, path.name)))
        return f'<span title="{html.escape(source, quote=True)}">{name}</span><br>'

    def _beside(self, one: Issue) -> str:
        """The name of the other file of two."""
        if one.related is None or not (named := self._named(one.related)):
            return ""
        return f"<br>beside {named.removesuffix('<br>')}"

    def _told(self, one: Issue) -> str:
        return f"{one.index}: {shown(one.action)}"

    def _html_of_texts(self) -> str:
        rows = []
        for issue in self.counts:
            for one in self._first(issue, _EXAMPLES):
                cells = (issue, str(one.index), shown(self._source(one.index) or ""), one.action)
                rows.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
        return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>" if rows else ""

    def _first(self, issue: str, n: int) -> Sequence[Issue]:
        return [one for one in self.found if one.issue == issue][:n]

    def _examples(self, n: int) -> Iterator[tuple[str, list[tuple[Issue, Image.Image]]]]:
        """Some issues of each kind, each with a picture of the item and of the related one."""
        for issue in self.counts:
            pictures = ((one, self._picture(one)) for one in self._first(issue, n))
            yield issue, [(one, picture) for one, picture in pictures if picture is not None]

    def _picture(self, one: Issue) -> Image.Image | None:
        numbers = [one.index] if one.related is None else [one.index, one.related]
        small = []
        for number in numbers:
            try:
                small.append(self.items.open(number).picture())
            except ItemError:
                return None
            small[-1].thumbnail((_SIDE, _SIDE))
        width = sum(part.width for part in small) + 4 * (len(small) - 1)
        picture = Image.new("RGB", (width, max(part.height for part in small)), "white")
        left = 0
        for part in small:
            picture.paste(part, (left, 0))
            left += part.width + 4
        return picture


def _some(numbers: np.ndarray) -> str:
    return f"{numbers[:10].tolist()}{' …' if len(numbers) > 10 else ''}"
