"""Which file a table or an annotation means: paths that were written down somewhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from sktransfer.exceptions import InputError, shown


class PathIndex:
    """Finds paths by what is written of them: the whole path, or its end.

    Parameters
    ----------
    paths : sequence of str or path-like
    """

    def __init__(self, paths: Sequence[Any]):
        self.paths = paths
        self._exact: dict[str, int] = {}
        self._by_stem: dict[str, list[int]] = {}
        for index, path in enumerate(paths):
            self._exact.setdefault(str(path), index)
            self._by_stem.setdefault(_parts(path)[-1].rpartition(".")[0], []).append(index)
            self._by_stem.setdefault(_parts(path)[-1], []).append(index)

    def find(self, name: Any, *, any_extension: bool = False) -> int | None:
        """The number of the path that a name means, or None.

        Of the two one must be the end of the other: ``a/1.png`` is ``/data/a/1.png`` and
        ``1.png``, but not ``b/1.png``. `any_extension` takes ``1.jpg`` as well, if there is no
        other.

        Raises
        ------
        InputError
            If it may mean several.
        """
        if str(name) in self._exact:
            return self._exact[str(name)]
        parts = _parts(name)
        stem = parts[-1].rpartition(".")[0] or parts[-1]
        near = {*self._by_stem.get(stem, ()), *self._by_stem.get(parts[-1], ())}
        found = [one for one in sorted(near) if _is_end(parts, _parts(self.paths[one]))]
        if not found and any_extension:
            plain = [*parts[:-1], stem]
            found = [one for one in sorted(near) if _is_end(plain, self._without_extension(one))]
            found = found or [
                one for one in sorted(near)
                if _is_end(parts, self._without_extension(one))
            ]  # fmt: skip
        if len(found) > 1:
            raise InputError(
                f"{shown(name)} may be {shown(self.paths[found[0]])} or "
                f"{shown(self.paths[found[1]])}; write more of its path."
            )
        return found[0] if found else None

    def _without_extension(self, index: int) -> list[str]:
        parts = _parts(self.paths[index])
        return [*parts[:-1], parts[-1].rpartition(".")[0] or parts[-1]]


def _parts(path: Any) -> list[str]:
    """Parts of a path, also of one of Windows."""
    return [one for one in PurePosixPath(str(path).replace("\\", "/")).parts if one != "/"] or [""]


def _is_end(one: list[str], other: list[str]) -> bool:
    n = min(len(one), len(other))
    return one[-n:] == other[-n:]


def files_below(folder: str) -> Iterator[str]:
    """Paths of all files in a folder and those in it, sorted, but for hidden ones."""
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith((".", "__MACOSX")))
        yield from (os.path.join(at, one) for one in sorted(names) if not one.startswith("."))
