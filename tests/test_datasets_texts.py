"""The sentences and addresses that ship, and how they are drawn."""

from __future__ import annotations

import gzip
import hashlib
import html
import io
import re
import sys
import tarfile
from collections import Counter
from importlib.metadata import requires
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from sktransfer.datasets import load_addresses_sample, load_film_sentences_sample
from sktransfer.datasets._make_text_samples import make_addresses, make_film_sentences

# Of the tables, as they were checked against the sources.
FILM_SHA256 = "e97a341afaffbb987f4fc23d1dd81d4c7a5e78fa8931eb41fda65dcadb12e0f3"
ADDRESSES_SHA256 = "1183141e4bbafda230e22218f866a1e811a55d5d1a4e29a0586798db18506e01"


@pytest.fixture(scope="module")
def film():
    return load_film_sentences_sample()


@pytest.fixture(scope="module")
def addresses():
    return load_addresses_sample()


@pytest.mark.parametrize(
    ("load", "sha256", "most"),
    [
        (load_film_sentences_sample, FILM_SHA256, 120_000),
        (load_addresses_sample, ADDRESSES_SHA256, 70_000),
    ],
)
def test_samples_are_small_and_what_was_checked_against_the_sources(load, sha256, most):
    path = Path(load().filename)
    assert path.stat().st_size < most
    assert hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest() == sha256


@pytest.mark.parametrize(
    ("load", "authors"),
    [
        (load_film_sentences_sample, ["Hutto", "Gilbert", "2014", "Pang", "Lee", "2005"]),
        (load_addresses_sample, ["DataMade", "Gregg", "usaddress", "Atlanta Journal Constitution"]),
    ],
)
def test_samples_say_where_they_come_from(load, authors):
    described = load().DESCR
    for text in (described, load.__doc__):
        assert "MIT licence" in text or "Licence: MIT" in text
        assert all(author in text for author in authors)
    # Which the licence asks for in all copies.
    assert "Copyright (c)" in described and 'THE SOFTWARE IS PROVIDED "AS IS"' in described


# ---------------------------------------------------------------- sentences


def test_sentences_and_ratings_agree_with_classes(film):
    assert film.data.shape == (2000,) and film.data.dtype == object
    assert all(type(sentence) is str for sentence in film.data)
    assert film.ratings.dtype == np.float64 and film.target.dtype == np.int64
    assert np.abs(film.ratings).max() <= 4 and not (film.ratings == 0).any()
    np.testing.assert_array_equal(film.target_names[film.target] == "positive", film.ratings > 0)
    assert np.bincount(film.target).tolist() == [1000, 1000]
    assert 380 < film.target[:800].sum() < 420  # sorted ones would have 0 or 800


def test_sentences_are_whole_and_different(film):
    words = [tuple(re.findall(r"\w+", sentence.lower())) for sentence in film.data]
    assert len(set(words)) == 2000 and min(map(len, words)) > 0
    assert len(set(film.source_indices)) == 2000
    assert film.source_indices.min() >= 0 and film.source_indices.max() < 10_605
    assert max(len(sentence.split()) for sentence in film.data) == 48
    for sentence in film.data:
        assert sentence == " ".join(sentence.split()) == html.unescape(sentence)
        # Characters that stand where others were lost, and UTF-8 that was read as Latin-1.
        assert not re.search("[\ufffd\x00-\x1f\x7f-\x9f]|[ÃÂâ][^a-z]|\\w\\?\\w", sentence)


def test_words_tell_classes_and_ratings_better_than_chance_and_far_from_perfectly(film):
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    accuracy = cross_val_score(make_pipeline(words, LinearSVC()), film.data, film.target, cv=5)
    assert 0.66 < accuracy.mean() < 0.76
    score = {"scoring": "neg_mean_absolute_error", "cv": 5}
    error = -cross_val_score(make_pipeline(words, Ridge()), film.data, film.ratings, **score).mean()
    constant = -cross_val_score(DummyRegressor(), film.data, film.ratings, **score).mean()
    assert error < 0.93 * constant


def test_sentences_as_X_y_are_fresh(film):
    X, y = load_film_sentences_sample(return_X_y=True)
    np.testing.assert_array_equal(X, film.data)
    np.testing.assert_array_equal(y, film.target)
    X[:], y[:] = "", 0
    assert load_film_sentences_sample().data[0] and load_film_sentences_sample().target.any()


def test_sentences_as_frame(film):
    bunch = load_film_sentences_sample(as_frame=True)
    assert bunch.frame.columns.tolist() == ["sentence", "target", "rating"]
    for name, column in [("data", "sentence"), ("target", "target"), ("ratings", "rating")]:
        pd.testing.assert_series_equal(bunch[name], bunch.frame[column])
        assert bunch[name].tolist() == film[name].tolist()
    X, y = load_film_sentences_sample(return_X_y=True, as_frame=True)
    pd.testing.assert_series_equal(X, bunch.data)
    pd.testing.assert_series_equal(y, bunch.target)


def test_only_frames_need_pandas(film, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert load_film_sentences_sample().data.tolist() == film.data.tolist()
    with pytest.raises(ImportError, match=r"as_frame needs the package pandas: .*\[plot\]"):
        load_film_sentences_sample(as_frame=True)
    assert any(re.match("pandas.*plot", one) for one in requires("sktransfer"))


# ---------------------------------------------------------------- addresses


def test_every_word_of_an_address_has_a_label(addresses):
    assert len(addresses.data) == len(addresses.target) == 1487
    assert list(map(len, addresses.data)) == list(map(len, addresses.target))
    words = [word for address in addresses.data for word in address]
    labels = [label for address in addresses.target for label in address]
    assert len(words) == 10_548 and all(word.split() == [word] for word in words)
    assert addresses.target_names.tolist() == sorted(set(labels)) and len(set(labels)) == 29
    counts = Counter(labels)
    assert (counts["StreetName"], counts["ZipPlus4"]) == (1836, 2)
    for label, count in counts.items():
        assert f"{label} ({count})" in addresses.DESCR.replace("\n", " ")


def test_labels_of_addresses_are_not_shifted(addresses):
    """Words that show by themselves what they are."""
    pairs = [
        (word.strip(".,").lower(), label)
        for address, labels in zip(addresses.data, addresses.target, strict=True)
        for word, label in zip(address, labels, strict=True)
    ]
    codes = [label for word, label in pairs if re.fullmatch(r"\d{5}-\d{4}", word)]
    assert len(codes) > 100 and codes.count("ZipCode") > 0.98 * len(codes)
    for words, expected in [
        (("suite", "apt", "ste"), "OccupancyType"),
        (("il", "ca", "vt", "tx"), "StateName"),
        (("chicago",), "PlaceName"),
        (("street", "st", "avenue", "ave", "blvd"), "StreetNamePostType"),
    ]:
        found = [label for word, label in pairs if word in words]
        assert len(found) > 30 and found.count(expected) > 0.8 * len(found), words


def test_addresses_are_different_and_mixed(addresses):
    folded = {tuple(word.casefold() for word in address) for address in addresses.data}
    assert len(folded) == 1487
    source = addresses.source_indices
    assert len(set(source)) == 1487 and source.min() >= 0 and source.max() < 1513
    assert abs(np.corrcoef(source, np.arange(1487))[0, 1]) < 0.1


def test_addresses_as_X_y_are_fresh(addresses):
    X, y = load_addresses_sample(return_X_y=True)
    assert X == addresses.data and y == addresses.target
    X[0][0] = y[0][0] = "nothing"
    assert load_addresses_sample().data == addresses.data


# ---------------------------------------------------------------- how they are drawn


def packed(files):
    """An archive of files, as gzip compresses it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def drawn(make, archive, folder):
    """The rows that a maintainers' script writes, the same ones twice."""
    contents = []
    for name in ("a", "b"):
        (folder / name).mkdir()
        make(archive, folder / name)
        (path,) = (folder / name).iterdir()
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]
    return [line.split("\t") for line in gzip.decompress(contents[0]).decode().splitlines()]


def test_maintainers_script_draws_sentences_of_both_classes(tmp_path):
    ratings = [(-1) ** i * (i % 8 + 1) / 2 for i in range(2400)]
    sentences = [f"It is &amp; number{i}?s   film. Is it?" for i in range(2400)]
    ratings[7] = ratings[8] = 0.0
    sentences[13] = "IT IS, &amp; number1?s film... is it"  # the words of the second
    lines = [f"{i + 1}\t{ratings[i]}\t{sentences[i]}\r\n" for i in range(2400)]
    study = packed(
        {
            "study/movieReviewSnippets_GroundTruth.txt": "".join(lines).encode(),
            "study/._movieReviewSnippets_GroundTruth.txt": b"of macOS",
        }
    )
    source = packed({"v-1/additional_resources/hutto_ICWSM_2014.tar.gz": study, "v-1/LICENSE": b""})
    (tmp_path / "source.tar.gz").write_bytes(source)
    header, *rows = drawn(make_film_sentences, tmp_path / "source.tar.gz", tmp_path)
    assert header == ["source_index", "rating", "sentence"] and len(rows) == 2000
    for index, rating, sentence in rows:
        assert int(index) not in (7, 8, 13) and float(rating) == ratings[int(index)]
        assert sentence == f"It is & number{index}'s film. Is it?"
    assert sum(float(rating) > 0 for _, rating, _ in rows) == 1000
    assert len({index for index, _, _ in rows}) == 2000


def test_maintainers_script_keeps_an_address_once(tmp_path):
    xml = """<AddressCollection>
    <AddressString><Number>1</Number> <Street>Long &amp; Old</Street></AddressString>
    <AddressString><Number>2</Number> <Street>Long
    </Street></AddressString>
    <AddressString><Number>2</Number> <Place>LONG</Place></AddressString>
    <AddressString><Place>Ulm,</Place></AddressString></AddressCollection>"""
    files = {"u-1/training/labeled.xml": xml.encode(), "u-1/training/more.xml": b"<a/>"}
    (tmp_path / "source.tar.gz").write_bytes(packed(files))
    header, *rows = drawn(make_addresses, tmp_path / "source.tar.gz", tmp_path)
    assert header == ["source_index", "word", "label"]
    assert sorted(rows) == [
        ["0", "1", "Number"],
        ["0", "Long & Old", "Street"],
        ["1", "2", "Number"],
        ["1", "Long", "Street"],
        ["3", "Ulm,", "Place"],
    ]
