"""What was noted of networks that can be cut: where codes are found and made needs no network.

To load a network, to follow it and to find its layers takes a second or two in a new process, and
what comes of it are some names and shapes. They are noted in the folder for conversions, so that
an estimator that was loaded from disk, whose codes are in a store or whose conversion is on disk,
answers without the network; it is loaded as soon as anything more is asked of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, cast

from .. import config
from .._files import atomic_write, open_regular
from .._lazy import torch_build
from .._lru import LRU
from ._cut import Cuttable, Layer
from ._info import BackboneInfo

__all__ = ["noted_cuts"]


_LONGEST = 10_000_000  # bytes of a note
# A note that was wrong would be wrong in every process: it holds for these alone.
_PACKAGES = ("timm", "torchvision", "einops")
_cuts: LRU[Any] = LRU(8)


def noted_cuts(info: BackboneInfo, image_size: tuple[int, int]) -> Cuttable:
    """Where the network of a fit can be cut, without the network where it was noted before.

    Parameters
    ----------
    info : BackboneInfo
        Of a network that name and weights suffice to load.
    image_size : tuple of int

    Returns
    -------
    Cuttable
    """
    key = (repr(info), image_size, config.cache_folder())
    return cast(Cuttable, _cuts.get(key, lambda: _noted(info, image_size)))


def _noted(info: BackboneInfo, image_size: tuple[int, int]) -> Any:
    def load() -> Cuttable:
        from ._layers import cuts_of  # with torch

        return cuts_of(info.load(), image_size)

    folder = config.cache_folder()
    if folder is None:
        return load()
    key = hashlib.sha256(repr((info, image_size, _versions())).encode()).hexdigest()[:32]
    path = folder / "layers" / f"{key}.json"
    if (note := _read(path)) is not None:
        return NotedCuts(note, load)
    cuts = load()
    if not cuts.private:
        _write(path, Note.of(cuts))
    return cuts


@cache
def _versions() -> tuple[str, ...]:
    """What decides how a network is built, followed and named."""
    source = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        source.update(file.read_bytes())
    return torch_build().__version__, source.hexdigest(), *map(_version_of, _PACKAGES)


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


@dataclass(frozen=True)
class Note:
    """The plain facts about a network that can be cut.

    Attributes
    ----------
    name, identity : str
        As those of `Cuttable`.
    every : list of Layer
        All its cut points.
    nameable, apart : list of int
        Numbers of those in `every` that are nameable, and that keep items apart.
    """

    name: str
    identity: str
    every: list[Layer]
    nameable: list[int]
    apart: list[int]

    @classmethod
    def of(cls, cuts: Cuttable) -> Note:
        every = cuts.every()
        return cls(
            name=cuts.name,
            identity=cuts.identity,
            every=every,
            nameable=[every.index(layer) for layer in cuts.nameable()],
            apart=[i for i, layer in enumerate(every) if cuts.keeps_items_apart(layer)],
        )


def _write(path: Path, note: Note) -> None:
    """Keep a note, if there is room for it and the right to write."""
    content = json.dumps(asdict(note))
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as draft:
            draft.write_text(f"{_digest(content)}\n{content}", "utf-8")


def _read(path: Path) -> Note | None:
    """A note as it was written; None where there is none, or it is damaged."""
    try:
        with open_regular(path, follow=False) as file:
            digest, _, content = file.read(_LONGEST).decode("utf-8").partition("\n")
        if digest != _digest(content):
            return None
        facts = json.loads(content)
        every = [Layer(**{name: _plain(value) for name, value in layer.items()})
                 for layer in facts.pop("every")]  # fmt: skip
        return Note(every=every, **facts)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class NotedCuts:
    """A network that can be cut (`Cuttable`) as it was noted; loaded when more is asked of it.

    Parameters
    ----------
    note : Note
    load : callable
        Gives the network itself.
    """

    private = False

    def __init__(self, note: Note, load: Callable[[], Cuttable]):
        self.name, self.identity, self._note = note.name, note.identity, note
        self._load = load

    @cached_property
    def _real(self) -> Cuttable:
        return self._load()

    def resolve(self, layer: str | int | None) -> Layer:
        """Find a layer by the name that `Layer` has; any other way asks the network."""
        named = (one for one in self._note.every if one.name == layer)
        return next(named, None) or self._real.resolve(layer)

    def every(self) -> list[Layer]:
        """All cut points, from the input to the output."""
        return list(self._note.every)

    def nameable(self) -> list[Layer]:
        """The numbered layers, and all cut points behind the last of them."""
        return [self._note.every[number] for number in self._note.nameable]

    def keeps_items_apart(self, layer: Layer) -> bool:
        """Whether the first axis of a layer is that of the items alone."""
        return layer in self._apart

    @cached_property
    def _apart(self) -> set[Layer]:
        return {self._note.every[number] for number in self._note.apart}

    def merge(self, pooling: str | None) -> None:
        """An image is seen as a whole."""
        return

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._real, name)
