"""Puts what the code of pages prints and draws below each block: see `page_code`, which runs it."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from docutils import nodes
from page_code import BLOCK, DOCS, name_of, pages_with_code
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

import sktransfer

logger = logging.getLogger(__name__)
RESULTS = DOCS / "generated" / "page_code"


def _digests(pages: list[Path]) -> dict[str, str]:
    """What decides the outputs of each page: its text, and the package."""
    package = Path(sktransfer.__file__).parent
    files = [*sorted(package.rglob("*.py")), *sorted(Path(__file__).parent.glob("*.py"))]
    base = hashlib.sha256(b"".join(file.read_bytes() for file in files))
    found = {}
    for page in pages:
        digest = base.copy()
        digest.update(page.read_bytes())
        found[name_of(page)] = digest.hexdigest()
    return found


def start(app: Sphinx) -> None:
    """Starts the process that runs pages whose text, or the package, has changed."""
    app.page_code = app.page_code_changed = None
    if not _runs(app):
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    known = RESULTS / "digests.json"
    before = json.loads(known.read_text()) if known.exists() else {}
    now = _digests(pages_with_code())
    changed = [page for page in pages_with_code() if _is_new(page, before, now)]
    for page in changed:
        (RESULTS / f"{name_of(page)}.json").unlink(missing_ok=True)
    known.write_text(json.dumps(now))
    app.page_code_changed = {page.relative_to(DOCS).with_suffix("").as_posix() for page in changed}
    if changed:
        environment = {**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"}
        app.page_code = subprocess.Popen(
            [sys.executable, str(DOCS / "_ext" / "page_code.py"), str(RESULTS), *map(str, changed)],
            env=environment,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # so that it can be ended with the page that it runs
        )
        atexit.register(stop, app, None)


def _runs(app: Sphinx) -> bool:
    """The switch of the gallery, ``-D plot_gallery=0``, holds for pages too."""
    return str(app.config.plot_gallery).lower() not in ("0", "false")


def _is_new(page: Path, before: dict[str, str], now: dict[str, str]) -> bool:
    name = name_of(page)
    result = RESULTS / f"{name}.json"
    return before.get(name) != now[name] or not result.exists() or "error" in _read(result)


def _read(result: Path) -> dict:
    found: dict = json.loads(result.read_text())
    return found


def changed_pages(app: Sphinx, env, added, changed, removed) -> list[str]:
    """Pages that must be read again, since their outputs are others."""
    return sorted((app.page_code_changed or set()) & env.found_docs)


def _results_of(app: Sphinx, page: Path) -> dict:
    """Waits for the results of a page."""
    result = RESULTS / f"{name_of(page)}.json"
    while not result.exists():
        if app.page_code is None or app.page_code.poll() is not None:
            if result.exists():
                break
            raise ExtensionError(f"{page} was not run: the process that runs pages has ended.")
        time.sleep(0.2)
    return _read(result)


class AddOutputs(SphinxTransform):
    """Puts outputs below the blocks of a page."""

    default_priority = 400

    def apply(self, **kwargs: object) -> None:
        """Called by Sphinx for each page."""
        page = Path(self.env.doc2path(self.env.docname))
        if not _runs(self.app) or page.suffix != ".md":
            return
        if not BLOCK.search(page.read_text()):
            return
        found = _results_of(self.app, page)
        if "error" in found:
            logger.warning("the code of this page fails:\n%s", found["error"], location=str(page))
            return
        blocks = iter(list(self.document.findall(nodes.literal_block)))
        for number, output in enumerate(found["outputs"]):
            code = output["code"].rstrip()
            block = next((one for one in blocks if one.astext().rstrip() == code), None)
            if block is None:
                lines = code.splitlines()
                message = "block %d is not in the page as it was run, and begins %r"
                logger.warning(message, number, lines[0], location=str(page))
                return
            shown = self._nodes(output, name_of(page))
            if shown:
                place = block.parent.index(block) + 1
                block.parent.insert(place, nodes.container("", *shown, classes=["output"]))

    def _nodes(self, output: dict, name: str) -> list[nodes.Node]:
        shown: list[nodes.Node] = []
        if output["text"].strip():
            shown.append(nodes.literal_block("", output["text"].rstrip(), language="none"))
        if output["html"]:
            html = f'<div class="html-output">{output["html"]}</div>'
            shown.append(nodes.raw("", html, format="html"))
        for figure in output["figures"]:
            # Without a leading slash a path begins at the page.
            address = f"/{(RESULTS / name / figure).relative_to(DOCS).as_posix()}"
            shown.append(nodes.image(uri=address, alt="What the code above draws"))
        return shown


def stop(app: Sphinx, error: Exception | None) -> None:
    """Ends the process, and that of its page, if the build has ended before it."""
    if app.page_code is not None and app.page_code.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(app.page_code.pid, signal.SIGKILL)
        app.page_code.wait()


def setup(app: Sphinx) -> dict[str, object]:
    """Called by Sphinx."""
    # Before the gallery, which runs its scripts in this process meanwhile.
    app.connect("builder-inited", start, priority=100)
    app.connect("env-get-outdated", changed_pages)
    app.connect("build-finished", stop)
    app.add_transform(AddOutputs)
    return {"version": "1", "parallel_read_safe": False}
