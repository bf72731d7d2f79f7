"""How many items really went through a network: for tests, and for whoever wonders."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["ComputedCounter", "count", "count_computed"]


class ComputedCounter:
    """What :func:`count_computed` counts; the numbers grow while it is open.

    Attributes
    ----------
    n_items : int
        Items that went through a network, each as often as it did.
    n_batches : int
        Batches that they went through in.
    """

    def __init__(self) -> None:
        self.n_items = self.n_batches = 0
        self._lock = threading.Lock()

    def _add(self, n_items: int) -> None:
        with self._lock:
            self.n_items += n_items
            self.n_batches += 1

    def __repr__(self) -> str:
        return f"<{self.n_items} items in {self.n_batches} batches>"


# Replaced, never changed: whoever counts a batch needs no lock to read it.
_open: tuple[ComputedCounter, ...] = ()
_changing = threading.Lock()


@contextmanager
def count_computed() -> Iterator[ComputedCounter]:
    """Count the items that go through a frozen network in this process, in any of its threads.

    What comes from the cache is not counted; neither is what is done behind the frozen part, in
    training.

    Yields
    ------
    counter : ComputedCounter
        With ``n_items`` and ``n_batches``.

    Examples
    --------
    >>> from sktransfer import CNNCodes, count_computed
    >>> from sktransfer.datasets import load_cifar10_sample
    >>> X, y = load_cifar10_sample(return_X_y=True)
    >>> codes = CNNCodes(image_size=32).fit(X[:10])
    >>> with count_computed() as counter:
    ...     rows = codes.transform(X[:10])
    ...     again = codes.transform(X[:10])
    >>> counter.n_items
    10
    """
    global _open
    counter = ComputedCounter()
    with _changing:
        _open = (*_open, counter)
    try:
        yield counter
    finally:
        with _changing:
            _open = tuple(one for one in _open if one is not counter)


def count(n_items: int) -> None:
    """Note that a batch went through a network."""
    for counter in _open:
        counter._add(n_items)
