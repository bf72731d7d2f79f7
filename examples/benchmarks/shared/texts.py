"""Real text to measure with, from a folder that fetch_texts.py fills: each text once.

A set is a pair: texts (an array of str) with a class or rating each, or sentences (lists of words)
with a list of labels each, one for every word.
"""

import json
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

from shared.held_out import HeldOut


def film_ratings(folder):
    """Sentences of film reviews and their mean ratings, -4 to 4."""
    lines = _existing(folder, "film.tsv").read_text(encoding="utf-8").split("\n")[:-1]
    ratings, texts = zip(*(line.split("\t") for line in lines), strict=True)
    return _distinct(texts, np.array(ratings, dtype=float))


def film_sentiment(folder, beyond=0.0):
    """Those that are rated above `beyond`, and below minus that: "positive" or "negative"."""
    texts, ratings = film_ratings(folder)
    clear = np.abs(ratings) > beyond
    return texts[clear], np.where(ratings[clear] > 0, "positive", "negative")


def bbc_topics(folder):
    """News articles and their topics."""
    files = sorted(_existing(folder, "bbc").glob("*/*.txt"))
    return _distinct([_decoded(file.read_bytes()) for file in files],
                     np.array([file.parent.name for file in files]))  # fmt: skip


def addresses(folder):
    """Words of addresses in the United States, and what part of the address each is."""
    return _labelled_words(_existing(folder, "addresses.jsonl"))


def tweets(folder):
    """Words of tweets and their entities: "B-person" where one begins, "I-person", "O"."""
    return _labelled_words(_existing(folder, "tweets.jsonl"))


def held_out(name, texts, targets, draw, learn, test):
    """Draw so many texts to learn from and others to test on, by class where there are classes."""
    classes = targets if getattr(targets, "dtype", np.dtype(object)).kind == "U" else None
    sizes = {"train_size": learn, "test_size": test, "stratify": classes, "random_state": draw}
    X, X_test, y, y_test = train_test_split(texts, targets, **sizes)
    return HeldOut(f"{name}, {learn:,}", draw, X, y, X_test, y_test)


def _existing(folder, name):
    path = Path(folder) / name
    if not path.exists():
        raise SystemExit(f"{path} is not there; python examples/benchmarks/fetch_texts.py {folder}")
    return path


def _decoded(data):
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:  # one article of the BBC
        return data.decode("latin-1")


def _distinct(texts, targets):
    """Leave out what has the words of an earlier text: it would be learnt and tested."""
    places = _first_places([tuple(text.casefold().split()) for text in texts])
    return np.array(texts, dtype=object)[places], targets[places]


def _labelled_words(path):
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    sentences = [json.loads(line) for line in lines]
    words = [[word for word, _ in sentence] for sentence in sentences]
    labels = [[label for _, label in sentence] for sentence in sentences]
    places = _first_places([tuple(map(str.casefold, sentence)) for sentence in words])
    return [words[i] for i in places], [labels[i] for i in places]


def _first_places(keys):
    first = {}
    for place, key in enumerate(keys):
        first.setdefault(key, place)
    return list(first.values())
