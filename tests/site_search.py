"""What the search box of the built site finds, without a browser.

The rules and weights are those of Sphinx's ``searchtools.js``: titles, entries of the index, names
of objects, and words of the text, each with a score.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import snowballstemmer

# searchtools.js: Scorer
NAME, PART_OF_NAME, PRIORITY = 11, 6, {0: 15, 1: 5, 2: -5}
TITLE, PART_OF_TITLE, TERM, PART_OF_TERM = 15, 7, 5, 2


Hit = tuple[float, str, int]  # score, what the list of results shows, page


class SiteSearch:
    """The index of a built site."""

    def __init__(self, html: Path):
        text = (html / "searchindex.js").read_text()
        self.index = json.loads(text.removeprefix("Search.setIndex(").rstrip().removesuffix(")"))
        stopwords = (html / "_static" / "language_data.js").read_text()
        # new Set(["a", "about", ...])
        listed = re.search(r"stopwords = (?:new Set\()?\[(.*?)\]", stopwords, re.DOTALL)
        self.stopwords = set(re.findall(r'"(\w+)"', listed.group(1)))
        self.stem = snowballstemmer.stemmer("english").stemWord

    def __call__(self, query: str) -> list[str]:
        """Pages, the best first."""
        low = query.lower().strip()
        words = re.findall(r"\w+", low)
        terms = {
            self.stem(word) for word in words if word not in self.stopwords and not word.isdecimal()
        }
        found, minor = self._titles(low), []
        for entry, places in self.index["indexentries"].items():
            if low in entry and len(low) >= len(entry) / 2:
                score = _rounded(100 * len(low) / len(entry))
                for page, _, is_main in places:
                    (found if is_main else minor).append((score, self._title(page), page))
        for word in dict.fromkeys(words):
            found += self._objects(word, set(words))
        found += self._terms(terms)
        ranked = _ranked(found) + _ranked(minor)  # entries that are not main ones come last
        return list(dict.fromkeys(self.index["docnames"][page] for _, _, page in ranked))

    def _title(self, page: int) -> str:
        return str(self.index["titles"][page])

    def _titles(self, low: str) -> list[Hit]:
        found = []
        for title, places in self.index["alltitles"].items():
            if low in title.lower().strip() and len(low) >= len(title) / 2:
                score = _rounded(TITLE * len(low) / len(title))
                for page, _ in places:
                    of_page = self._title(page)
                    found.append((score + (of_page == title), of_page, page))
        return found

    def _objects(self, word: str, words: set[str]) -> list[Hit]:
        found = []
        for prefix, members in self.index["objects"].items():
            for page, kind, priority, _, name in members:
                full = f"{prefix}.{name}" if prefix else name
                last = full.lower().rpartition(".")[2]
                if word not in full.lower():
                    continue
                noun = self.index["objnames"][str(kind)][2]
                about = f"{prefix} {name} {noun} {self._title(page)}".lower()
                if any(other not in about for other in words - {word}):
                    continue
                exact = word in (full.lower(), last)
                score = NAME if exact else PART_OF_NAME * (word in last)
                found.append((score + PRIORITY.get(priority, 0), full, page))
        return found

    def _terms(self, terms: set[str]) -> list[Hit]:
        scores: dict[int, dict[str, int]] = {}
        for word in terms:
            for table, whole, part in (
                (self.index["terms"], TERM, PART_OF_TERM),
                (self.index["titleterms"], TITLE, PART_OF_TITLE),
            ):
                if word in table:
                    matches = [(table[word], whole)]
                elif len(word) > 2:
                    matches = [(pages, part) for term, pages in table.items() if word in term]
                else:
                    matches = []
                for pages, score in matches:
                    for page in [pages] if isinstance(pages, int) else pages:
                        scores.setdefault(page, {})[word] = score
        long = sum(len(word) > 2 for word in terms)
        return [
            (max(by_word.values()), self._title(page), page)
            for page, by_word in scores.items()
            if len(by_word) in (len(terms), long)
        ]


def _ranked(hits: list[Hit]) -> list[Hit]:
    """By score, then by the alphabet, then the last first."""
    last_first = hits[::-1]
    return sorted(last_first, key=lambda hit: (-hit[0], hit[1].lower()))


def _rounded(value: float) -> int:
    return int(value + 0.5)  # as Math.round does
