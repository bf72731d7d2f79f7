"""Runs the code of the pages, and keeps what each block prints and draws.

Blocks that begin with three backticks and ``python`` run in order, in one namespace for each page,
in an empty folder with a folder ``photos`` of small images. Those that need what is not there, such
as several GPUs or files of one's own, begin with ``py`` or ``text`` and are only shown. Kept are
the standard output, warnings of sktransfer, the value of a last expression, and figures.

``tests/test_docs.py`` runs pages by `run_page`. While the site is built, `code_outputs` starts this
file as a process beside Sphinx, for all pages whose text, or the package, has changed::

    python docs/_ext/page_code.py FOLDER_OF_RESULTS PAGE ...
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

DOCS = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Output:
    """What a block has left: text, HTML of its last value, and names of figures."""

    code: str
    text: str = ""
    html: str = ""
    figures: list[str] = field(default_factory=list)


def write_photos(folder: Path, per_class: int = 12) -> None:
    """Images of three classes as files, one folder a class, as people have them."""
    from PIL import Image

    from sktransfer.datasets import load_cifar10_sample

    sample = load_cifar10_sample()
    for label in ("cat", "ship", "truck"):
        (folder / label).mkdir(parents=True)
        number = list(sample.target_names).index(label)
        for index in (sample.target == number).nonzero()[0][:per_class]:
            Image.fromarray(sample.data[index]).save(folder / label / f"{index}.png")


def run_page(page: Path, figures: Path | None = None) -> list[Output]:
    """Runs the blocks of a page in the current folder.

    Parameters
    ----------
    page : Path
        A page in Markdown.
    figures : Path or None
        Folder for what the blocks draw; None keeps nothing.
    """
    # A page does not see what is only in this module; pickles of its classes need a name.
    names: dict[str, object] = {"__name__": "__main__"}
    text = page.read_text()
    outputs = []
    for match in BLOCK.finditer(text):
        output = Output(match.group(1))
        # Blank lines in front, so that a traceback shows the line of the page.
        tree = ast.parse("\n" * text[: match.start(1)].count("\n") + output.code, str(page))
        with _caught(output):
            value, of_a_call = _run(tree, str(page), names)
        _show(value, of_a_call, output)
        _keep_figures(output, figures, f"{page.stem}_{len(outputs)}")
        outputs.append(output)
    return outputs


def _run(tree: ast.Module, page: str, names: dict[str, object]) -> tuple[object, bool]:
    """Runs a block; the value of a last expression, and whether it is that of a call."""
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, page, "exec"), names)
    if not isinstance(last, ast.Expr):
        return None, False
    value = eval(compile(ast.Expression(last.value), page, "eval"), names)
    return value, isinstance(last.value, ast.Call)


@contextlib.contextmanager
def _caught(output: Output) -> Iterator[None]:
    from sktransfer.exceptions import SktransferWarning

    printed = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("always", SktransferWarning)
        show = warnings.showwarning

        def showwarning(message, category, *args, **kwargs):
            if issubclass(category, SktransferWarning):
                printed.write(f"{category.__name__}: {message}\n")
            else:
                show(message, category, *args, **kwargs)

        warnings.showwarning = showwarning
        with contextlib.redirect_stdout(printed):
            yield
    here = os.getcwd()
    output.text = printed.getvalue().replace(here + os.sep, "").replace(here, ".")


def _show(value: object, of_a_call: bool, output: Output) -> None:
    """Values that say something: not what `fit`, `plot` or `dump` return besides their work."""
    from sklearn.base import BaseEstimator

    if value is None or isinstance(value, (BaseEstimator, type)):
        return
    html = value._repr_html_() if hasattr(value, "_repr_html_") else None
    if html:
        output.html = str(html)
    elif not of_a_call and " at 0x" not in repr(value):
        output.text += repr(value) + "\n"


def _keep_figures(output: Output, folder: Path | None, name: str) -> None:
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return
    for number in pyplot.get_fignums() if folder else []:
        output.figures.append(f"{name}_{number}.png")
        pyplot.figure(number).savefig(folder / output.figures[-1], dpi=80, bbox_inches="tight")
    pyplot.close("all")


# The process beside Sphinx.


def name_of(page: Path) -> str:
    """A page in the names of files of results."""
    return page.relative_to(DOCS).with_suffix("").as_posix().replace("/", "-")


def pages_with_code() -> list[Path]:
    """Pages of the docs that have blocks to run."""
    found = [*DOCS.glob("*.md"), *DOCS.glob("[!_]*/*.md")]
    return [page for page in sorted(found) if BLOCK.search(page.read_text())]


def run_into(results: Path, page: Path) -> None:
    """Runs a page in an empty folder, and writes its file of results when it is done."""
    began = time.perf_counter()
    with contextlib.suppress(ImportError):
        import pandas

        # Tables are as wide as a page, rather than as the terminal that is not there.
        pandas.set_option("display.width", 100, "display.max_columns", 20)
        pandas.set_option("display.max_colwidth", 60)
    figures = results / name_of(page)
    figures.mkdir(parents=True, exist_ok=True)
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            write_photos(Path("photos"))
            found["outputs"] = [asdict(one) for one in run_page(page, figures)]
        except Exception:
            found["error"] = traceback.format_exc()
        finally:
            os.chdir(DOCS)
    found["seconds"] = round(time.perf_counter() - began, 1)
    found["seconds_of_cores"] = round(sum(os.times()[:4]), 1)
    _write(results, page, found)


def _write(results: Path, page: Path, found: dict[str, object]) -> None:
    part = results / f"{name_of(page)}.part"
    part.write_text(json.dumps(found))
    part.replace(results / f"{name_of(page)}.json")  # whole, for who waits for it


def main(results: Path, pages: list[Path]) -> None:
    """Runs pages one after the other, each in a process of its own.

    Settings, registered networks and the cache of one page are not there in the next, and a page
    that takes its process with it leaves an error. The imports are made once, before the forks; no
    thread has been started by then.
    """
    import torchvision  # noqa: F401

    import sktransfer.selection  # noqa: F401

    fork = multiprocessing.get_context("fork" if hasattr(os, "fork") else "spawn")
    for page in pages:
        process = fork.Process(target=run_into, args=(results, page))
        process.start()
        process.join()
        if process.exitcode:
            _write(results, page, {"error": f"the process ended with code {process.exitcode}"})


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), [Path(one).absolute() for one in sys.argv[2:]])
