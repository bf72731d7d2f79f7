"""The code in README and in the pages of the docs runs, page by page, in an empty folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from sktransfer import get_config, set_config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def with_code(page: Path) -> bool:
    return bool(BLOCK.search(page.read_text()))


@pytest.fixture
def folder(tmp_path, monkeypatch, sample):
    """An empty folder with images in it, five of each of three classes."""
    for number in range(120):
        name = sample.target_names[sample.target[number]]
        target = tmp_path / "photos" / name
        if name in ("cat", "ship", "truck"):
            target.mkdir(parents=True, exist_ok=True)
            Image.fromarray(sample.data[number]).save(target / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    limit = get_config()["cache_memory"]
    yield tmp_path
    set_config(cache_memory=limit)  # a page shows how to change it


# Their code takes five seconds or more each.
LONG = {
    "which_network.md",
    "when_and_how_to_fine_tune.md",
    "how_many_images.md",
    "fine_tune.md",
    "fine_tune_text.md",
    "look.md",
    "search_cheaply.md",
    "resume_training.md",
    "many_machines.md",
    "advice_on_texts.md",
    "several_tags.md",
    "boxes.md",
    "clean.md",
    "masks.md",
    "words.md",
    "export.md",
    "choose_layer.md",
    "choose_network.md",
    "texts.md",
    "which_tool.md",
}


def pages():
    for page in filter(with_code, PAGES[1:]):  # README has a test of its own
        marks = [pytest.mark.slow] if page.name in LONG else []
        yield pytest.param(page, marks=marks, id=str(page.relative_to(ROOT)))


@pytest.mark.parametrize("page", list(pages()))
def test_code_of_page(page, folder):
    names: dict[str, object] = {"__name__": "__main__"}
    text = page.read_text()
    for match in BLOCK.finditer(text):
        line = text[: match.start(1)].count("\n")
        # Blank lines in front, so that a traceback shows the line of the page.
        exec(compile("\n" * line + match.group(1), str(page), "exec"), names)


def test_readme_prints_what_it_says(folder, capsys):
    text = (ROOT / "README.md").read_text()
    names: dict[str, object] = {"__name__": "__main__"}
    for block in BLOCK.findall(text):
        exec(block, names)
    expected = re.findall(r"^print\(.*\)  # (.+)$", text, re.MULTILINE)
    printed = capsys.readouterr().out.splitlines()
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
