"""The code in README and in the pages of the docs runs, page by page, in an empty folder.

Pages whose code takes five seconds or more run when the site is built (``.ci/run`` does it), by the
same function: what they print and draw is shown there, and one that fails ends the build.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from sktransfer import get_config, set_config

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs" / "_ext"))

from page_code import pages_with_code, run_page, write_photos  # noqa: E402

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LONG = {
    "advice_on_texts", "boxes", "choose_layer", "choose_network", "clean", "export", "fine_tune",
    "fine_tune_text", "how_many_images", "look", "many_machines", "masks", "resume_training",
    "search_cheaply", "several_tags", "texts", "when_and_how_to_fine_tune", "which_network",
    "which_tool", "words",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder with images in it."""
    write_photos(tmp_path / "photos", per_class=5)
    monkeypatch.chdir(tmp_path)
    limit = get_config()["cache_memory"]
    yield tmp_path
    set_config(cache_memory=limit)  # a page shows how to change it


def pages():
    for page in pages_with_code():  # README has a test of its own
        if page.stem not in LONG:
            yield pytest.param(page, id=str(page.relative_to(ROOT)))


@pytest.mark.parametrize("page", list(pages()))
def test_code_of_page(page, folder):
    run_page(page)


def test_outputs_are_what_a_block_prints_and_draws(folder):
    page = folder / "page.md"
    page.write_text(
        "```python\nimport matplotlib.pyplot as plt\nprint(1 + 1)\n[2, 3]\n```\n"
        "```py\n1 / 0\n```\n"
        "```python\n_ = plt.plot([1, 2])\n```\n"
    )
    printed, drawn = run_page(page, folder)
    assert printed.text == "2\n[2, 3]\n" and not printed.figures
    assert drawn.text == "" and (folder / drawn.figures[0]).is_file()


def test_a_block_that_fails_names_the_line_of_the_page(folder):
    page = folder / "page.md"
    page.write_text("# Title\n\nText\n\n```python\nx = 1\n1 / 0\n```\n")
    with pytest.raises(ZeroDivisionError) as caught:
        run_page(page)
    assert caught.traceback[-1].lineno + 1 == 7


def test_readme_prints_what_it_says(folder):
    readme = ROOT / "README.md"
    text, outputs = readme.read_text(), run_page(readme)
    expected = re.findall(r"^print\(.*\)  # (.+)$", text, re.MULTILINE)
    printed = "".join(output.text for output in outputs).splitlines()
    assert len(printed) == len(expected)
    for line, comment in zip(printed, expected, strict=True):
        if re.fullmatch(r"[\d.]+", comment):  # an accuracy on 200 images
            assert float(line) == pytest.approx(float(comment), abs=0.02)
        else:
            assert line == comment


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
