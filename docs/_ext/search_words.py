"""Words that people search for, and the page that answers each of them.

The search of a built site ranks titles, entries of the index and words of the text. A main entry of
the index that is what was typed beats all else, so each word of ``search_words.yaml`` becomes one,
on its page.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.errors import ConfigError
from sphinx.transforms import SphinxTransform


def read_words(folder: Path) -> dict[str, list[str]]:
    """The words of each page, in lower case as the search compares them."""
    text = (folder / "search_words.yaml").read_text()
    names = re.findall(r"^([\w/]+):", text, re.MULTILINE)
    if len(set(names)) < len(names):  # YAML itself would take the last
        raise ConfigError(f"search_words.yaml names pages twice: {sorted(names)}.")
    pages = yaml.safe_load(text)
    return {page: [str(word).lower() for word in words] for page, words in pages.items()}


def _check(app: Sphinx) -> None:
    seen: dict[str, str] = {}
    for page, words in read_words(Path(app.srcdir)).items():
        if not any((Path(app.srcdir) / f"{page}{end}").is_file() for end in (".md", ".rst")):
            raise ConfigError(f"search_words.yaml: there is no page {page!r}.")
        for word in words:
            if word in seen:
                raise ConfigError(f"search_words.yaml: {word!r} is at {seen[word]} and at {page}.")
            seen[word] = page


class AddEntries(SphinxTransform):
    """Puts the entries of a page into it, before Sphinx collects them."""

    default_priority = 500

    def apply(self, **kwargs: object) -> None:
        """Called by Sphinx for each page."""
        # A glossary makes main entries of its terms, which would tie with those of the pages.
        for node in self.document.findall(addnodes.index):
            node["entries"] = [(*entry[:3], "", entry[4]) for entry in node["entries"]]
        words = read_words(Path(self.app.srcdir)).get(self.env.docname, [])
        section = next(self.document.findall(nodes.section), None)
        if words and section is not None:
            entries = [("single", word, section["ids"][0], "main", None) for word in words]
            section.insert(1, addnodes.index(entries=entries))


def setup(app: Sphinx) -> dict[str, object]:
    """Called by Sphinx."""
    app.connect("builder-inited", _check)
    app.add_transform(AddEntries)
    return {"version": "1", "parallel_read_safe": True}
