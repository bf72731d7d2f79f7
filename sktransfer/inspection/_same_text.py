"""Whether two texts are one, but for case, punctuation and a few letters."""

from __future__ import annotations

import re

__all__ = ["SAME_TEXT", "likeness"]

# Share of the runs of letters that two texts must have in common.
SAME_TEXT = 0.8
_RUN = 5


def likeness(one: str, other: str) -> float:
    """How many of the runs of five letters of two texts both have: the Jaccard index [1]_.

    Parameters
    ----------
    one, other : str

    Returns
    -------
    share : float
        From 0 to 1; 1 for texts of the same words.

    References
    ----------
    .. [1] A. Z. Broder (1997). On the resemblance and containment of documents. Compression and
       Complexity of Sequences.
    """
    first, second = _plain(one), _plain(other)
    if first == second:
        return 1.0
    runs = [{text[at : at + _RUN] for at in range(max(1, len(text) - _RUN + 1))}
            for text in (first, second)]  # fmt: skip
    return len(runs[0] & runs[1]) / len(runs[0] | runs[1])


def _plain(text: str) -> str:
    """Its words alone; of a text without any, the text."""
    return " ".join(re.findall(r"\w+", text.casefold())) or text
