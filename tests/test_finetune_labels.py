"""Labels of every kind, and what is said of labels and parameters that cannot be learnt from."""

from __future__ import annotations

import enum
import os
from decimal import Decimal
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.utils.class_weight import compute_class_weight

from sktransfer import (
    AutoTransferClassifier,
    FineTuneClassifier,
    FineTuneRegressor,
    advise,
    rank_backbones,
)
from sktransfer.exceptions import ImageError, LayerError
from sktransfer.finetune._targets import class_weights

QUICK = {"image_size": 32, "max_epochs": 1, "trainable": "head", "random_state": 0}


def classifier(**changes):
    return FineTuneClassifier(**{**QUICK, **changes})


@pytest.fixture(scope="module")
def X(sample):
    return sample.data[:24]


@pytest.mark.parametrize(
    "classes",
    [
        ["cat", "dog", "ship"],
        [5, 7, 11],
        [-1, 0, 1],
        [1.0, 2.0, 4.0],
        [False, True],
        ["no", "yes"],
    ],
    ids=repr,
)
def test_labels_of_every_kind_come_back(X, classes):
    y = np.array(classes)[np.arange(24) % len(classes)]
    clf = classifier(lr=0.1, max_epochs=10).fit(X, y)
    np.testing.assert_array_equal(clf.classes_, classes)
    assert clf.classes_.dtype == y.dtype and clf.predict(X).dtype == y.dtype
    assert clf.score(X, y) > 0.9
    scores, shares = clf.decision_function(X), clf.predict_proba(X)
    assert scores.shape == ((24,) if len(classes) == 2 else (24, len(classes)))
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(np.exp(clf.predict_log_proba(X)), shares, rtol=1e-9)
    best = (scores > 0).astype(int) if len(classes) == 2 else scores.argmax(axis=1)
    np.testing.assert_array_equal(clf.classes_[best], clf.predict(X))
    np.testing.assert_array_equal(clf.classes_[shares.argmax(axis=1)], clf.predict(X))


def test_two_classes_differ_by_the_log_odds(X):
    clf = classifier().fit(X, np.arange(24) % 2)
    shares = clf.predict_proba(X)
    np.testing.assert_allclose(
        clf.decision_function(X), np.log(shares[:, 1] / shares[:, 0]), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("init", ["random", "linear_probe"])
def test_the_pretrained_output_layer_is_never_kept(X, init):
    """A thousand classes, as many as the network was trained on."""

    clf = classifier(head_init=init, max_epochs=0)
    clf.partial_fit(X, 40 * np.arange(24), classes=np.arange(1000))
    assert clf.decision_function(X).shape == (24, 1000)
    old = clf._load_network().module.get_submodule("classifier").weight
    new = clf.net_.module_.head[-1].weight
    assert new.shape == old.shape
    assert not torch.isclose(new, old.to(new.device), atol=1e-6).all(dim=1).any()
    assert set(clf.predict(X)) <= set(range(1000))


def test_classes_seen_by_a_later_call_alone(X):
    y = np.array(["a", "b", "c"])[np.arange(24) % 3]
    clf = classifier(lr=0.1, batch_size=4)
    few = y != "c"
    clf.partial_fit(X[few], y[few], classes=["a", "b", "c"])
    assert clf.predict_proba(X).shape == (24, 3)
    for _ in range(10):
        clf.partial_fit(X, y)
    assert clf.score(X, y) > 0.8
    with pytest.raises(ValueError, match=r"must hold the classes .* got 'd' for sample 1"):
        clf.partial_fit(X[:3], ["a", "d", "c"])


class Colour(enum.Enum):
    RED, BLUE = range(2)


class Animal(str, enum.Enum):  # noqa: UP042 - its str is "Animal.CAT", unlike that of StrEnum
    CAT = "cat"
    COW = "cow"


@pytest.mark.parametrize("kind", [list, tuple])
def test_members_of_text_enums_stay_what_they_are(X, kind):
    y = kind([Animal.CAT, Animal.COW] * 12)
    clf = classifier(lr=0.1, max_epochs=10).fit(X, y)
    assert clf.classes_.tolist() == [Animal.CAT, Animal.COW]
    assert all(type(one) is Animal for one in clf.predict(X))
    right = np.mean([one == other for one, other in zip(clf.predict(X), y, strict=True)])
    assert clf.score(X, y) == right > 0.9
    clf.partial_fit(X, y, classes=kind(Animal))
    auto = AutoTransferClassifier(strategies=["probe"], image_size=32, cv=2).fit(X, y)
    right = np.mean([one == other for one, other in zip(auto.predict(X), y, strict=True)])
    assert auto.score(X, y) == right > 0  # the text of members would score 0


MASKED = np.arange(24) % 24 == 5


@pytest.mark.parametrize("form", ["labels", "a list", "targets", "weights"])
def test_what_is_masked_is_missing(X, form, passes):
    y = np.ma.array(np.arange(24) % 2, mask=MASKED)
    with pytest.raises(ValueError, match="5") as caught:
        if form == "weights":
            classifier().fit(X, y.data, sample_weight=np.ma.array(np.ones(24), mask=MASKED))
        elif form == "targets":
            FineTuneRegressor(**QUICK).fit(X, y.astype(float))
        else:
            classifier().fit(X, list(y) if form == "a list" else y)
    assert "sample 5" in str(caught.value)
    assert passes["images"] == 0


def test_nothing_masked_is_an_array_like_others(X):
    labels = np.arange(24) % 2
    clf = classifier().fit(X, np.ma.array(labels), sample_weight=np.ma.array(np.ones(24)))
    other = classifier().fit(X, labels, sample_weight=np.ones(24))
    np.testing.assert_array_equal(clf.predict_proba(X), other.predict_proba(X))


BAD_LABELS = {
    "one class": (np.ones(24), {}, "at least 2 classes, got 1 class: 1.0"),
    "too few": (np.arange(23) % 2, {}, "24 samples and 23 labels"),
    "none": (None, {}, "y must be labels"),
    "NaN": (np.array([np.nan, *range(23)]), {}, "is NaN for 1, first for sample 0"),
    "None": (np.array(["a", None] * 12, object), {}, "is None for 12, first for sample 1"),
    "numbers": (np.arange(24) / 7, {}, "Unknown label type"),
    "a lonely class": (
        np.array(["a"] * 12 + ["b"] * 11 + ["lonely"]),
        {"early_stopping": True},
        r"class 'lonely' has one sample \(sample 23\)",
    ),
    "weights of no class": (
        np.arange(24) % 2,
        {"class_weight": {"a": 1, "b": 2}},
        "class_weight",
    ),
    "weights all zero": (np.arange(24) % 2, {"class_weight": {0: 0.0, 1: 0.0}}, "class_weight"),
    "weights below zero": (np.arange(24) % 2, {"class_weight": {0: -1.0, 1: 1.0}}, "class_weight"),
    "several labels": (np.full((24, 3), 2), {}, r"shape \(24, 3\).*MultiOutputClassifier"),
    "lists of labels": ([["a"], ["a", "b"]] * 12, {}, "lists of labels.*MultiLabelBinarizer"),
    "sets of labels": ([{"a"}, set()] * 12, {}, "lists of labels"),
    "mixed kinds": (["a", 1] * 12, {}, r"str \('a' for sample 0\) and int \(1 for sample 1\)"),
    "mixed kinds, objects": (np.array(["a", 1] * 12, object), {}, "labels of one kind"),
    "bool and int": ([True, 2] * 12, {}, "labels of one kind"),
    "NaN among texts": (["a", float("nan")] * 12, {}, "is NaN for 12, first for sample 1"),
    "NA": ([pd.NA, "a"] * 12, {}, "is <NA> for 12, first for sample 0"),
    "NaT": (np.array(["2026", "NaT"] * 12, "M8[D]"), {}, "must hold a label"),
    "infinity": (np.array([np.inf, 1.0] * 12), {}, "infinity"),
    "bytes": ([b"a", b"b"] * 12, {}, "bytes"),
    "things": ([object(), object()] * 12, {}, "label"),
    "intervals": (pd.cut(np.arange(24), 2), {}, r"plain labels.*Interval.*\[str\(label\)"),
    "periods": (pd.period_range("2026", periods=2, freq="Y").repeat(12), {}, "labels.*Period"),
    "decimals": ([Decimal(1), Decimal(2)] * 12, {}, r"plain.*Decimal.*\[str\(label\)"),
    "enums": ([Colour.RED, Colour.BLUE] * 12, {}, r"plain.*Colour.*\[str\(label\)"),
    "a set": ({"a", "b"}, {}, "^y must be a list or an array with one .*got set"),
    "a generator": ((i % 2 for i in range(24)), {}, "^y must be a list .*got generator"),
    "a map": (map(str, range(24)), {}, "^y must be a list .*got map"),
    "a dict": ({0: 1}, {}, "^y must be a list .*got dict"),
    "values of a dict": ({0: 1}.values(), {}, "^y must be a list .*got dict_values"),
    "one number": (3, {}, "1d array"),
    "a text": ("a" * 24, {}, "1d array"),
}


@pytest.mark.parametrize("name", BAD_LABELS)
def test_labels_that_cannot_be_learnt_from(X, name, passes):
    y, changes, message = BAD_LABELS[name]
    clf = classifier(**changes)
    with pytest.raises(ValueError, match=message) as caught:
        clf.fit(X, y)
    assert "\n" not in str(caught.value)
    assert passes["images"] == 0
    assert set(vars(clf)) == set(clf.get_params())


@pytest.mark.parametrize(
    "weight",
    [[1.0] * 23, [-1.0] + [1.0] * 23, [np.nan] * 24, [np.inf] * 24, [0.0] * 24, ["a"] * 24,
     "balanced", np.ones((24, 2)), [None] * 24, [1e300] * 24, [1e-300] * 24],
    ids=lambda weight: repr(weight)[:15],
)  # fmt: skip
def test_weights_that_are_none(X, weight, passes):
    with pytest.raises(ValueError, match="sample_weight must be a finite number from 0"):
        classifier().fit(X, np.arange(24) % 2, sample_weight=weight)
    assert passes["images"] == 0


@pytest.mark.parametrize("kind", [set, iter, dict.fromkeys], ids=["set", "iterator", "dict"])
def test_classes_that_are_no_list(X, kind, passes):
    message = "^classes must be a list or an array of all labels"
    with pytest.raises(ValueError, match=message):
        classifier().partial_fit(X[:2], ["cat", "dog"], classes=kind(["cat", "dog"]))
    with pytest.raises(ValueError, match=r"^y must be a list or an array with one"):
        FineTuneRegressor(**QUICK).fit(X[:2], kind([1.0, 2.0]))
    assert passes["images"] == 0
    clf = classifier(max_epochs=0).fit(X[:2], ["cat", "dog"])
    with pytest.raises(ValueError, match=message):
        clf.partial_fit(X[:2], ["cat", "dog"], classes=kind(["cat", "dog"]))


WEIGHTS_OF_CLASSES = {
    "zero where the other is not": (
        {0: 1, 1: 0}, np.arange(24) % 2, "class_weight times sample_weight .*0 for every sample"
    ),
    "too large": ({0: 1, 1: 1e38}, None, "class_weight must be .*float32.*1e.38"),
    "a large product": ({0: 1, 1: 1e20}, [1e20] * 24, "class_weight times sample.*1e.40"),
    "beyond float64": ({0: 1, 1: 1e300}, [1e29] * 24, "class_weight times sample.*inf"),
    "text": ({0: 1, 1: "a"}, None, "class_weight must be a dict of a number.* 'a' for the class 1"),
    "a number as text": ({0: "2", 1: 1}, None, "got '2' for the class 0"),
    "NaN": ({0: 1, 1: np.nan}, None, "got nan for the class 1"),
    "nothing": ({0: 1, 1: None}, None, "got None for the class 1"),
    "another label": ({0: 1, "1": 2}, None, r"'1', .*none of the classes \[0, 1\]. Did you mean 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", WEIGHTS_OF_CLASSES)
def test_weights_of_classes_that_cannot_be_summed(X, name, passes):
    class_weight, sample_weight, message = WEIGHTS_OF_CLASSES[name]
    clf = classifier(class_weight=class_weight)
    with pytest.raises(ValueError, match=message):
        clf.fit(X, np.arange(24) % 2, sample_weight=sample_weight)
    assert passes["images"] == 0
    assert set(vars(clf)) == set(clf.get_params())


def test_weights_by_label_are_those_of_scikit_learn():
    classes, numbers = np.array(["cat", "dog", "eel"]), np.array([0, 1, 2, 0])
    every = {"cat": 2, "dog": np.float32(0.5), "eel": True, "newt": 3}
    for given in (every, {"dog": 3}, {}):
        expected = compute_class_weight(given, classes=classes, y=classes[numbers])
        np.testing.assert_array_equal(class_weights(given, classes, numbers), expected)
    with pytest.raises(ValueError, match=r"'dgo', which is none of .*Did you mean 'dog'"):
        class_weights({"cat": 1, "dgo": 2}, classes, numbers)


LABELS_EVERYWHERE = {
    "NaN": ([0.0, 1.0] * 11 + [np.nan, 1.0], "is (nan|NaN) for 1, first for (sample|image) 22"),
    "None": (["a", "b"] * 11 + [None, "a"], "is None for 1, first for sample 22"),
    "mixed": (["a", "b"] * 11 + [3, "a"], r"str \('a' for sample 0\) and int \(3 for sample 22\)"),
    "several": (np.full((24, 2), 2), "MultiOutputClassifier"),
    "lists": ([["a", "b"], ["a"]] * 12, "MultiLabelBinarizer"),
}


@pytest.mark.parametrize("name", LABELS_EVERYWHERE)
def test_labels_are_told_the_same_everywhere(X, name, passes):
    y, message = LABELS_EVERYWHERE[name]
    auto = AutoTransferClassifier(strategies=["probe"], image_size=32)
    for call in (auto.fit, advise, partial(rank_backbones, backbones=["efficientnet_lite0"])):
        with pytest.raises(ValueError, match=message):
            call(X, y)
    assert passes["images"] == 0


def test_targets_of_regression_that_cannot_be_learnt_from(X):
    reg = FineTuneRegressor(**QUICK)
    for y, message in (
        (np.array([np.nan] + [1.0] * 23), "NaN"),
        (np.array([np.inf] + [1.0] * 23), "infinity"),
        (np.array([1.0] * 23 + [None], object), "NaN, first for sample 23"),
        (["a"] * 24, "must be numbers to be predicted"),
        (np.ones((24, 2, 2)), "must be numbers to be predicted"),
        ([1j] * 24, "Complex"),
        (1e307 * np.arange(17.0).repeat(2)[:24], "variance"),
        (np.arange(23.0), "24 samples and 23"),
        (None, "y must be numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            reg.fit(X, y)
    assert set(vars(reg)) == set(reg.get_params())


@pytest.mark.parametrize(
    "changes",
    [
        {"lr": 0.0},
        {"lr": -1e-3},
        {"lr": float("nan")},
        {"lr": float("inf")},
        {"batch_size": 0},
        {"max_epochs": -1},
        {"backbone_lr_factor": -0.1},
        {"layer_decay": 0.0},
        {"layer_decay": 1.1},
        {"dropout": 1.0},
        {"label_smoothing": 1.0},
        {"weight_decay": -1.0},
        {"warmup": 1.0},
        {"amp": "half"},
        {"validation_fraction": 0.0},
        {"validation_fraction": 1.0},
        {"patience": 0},
        {"augment_views": 0},
        {"optimizer": "adamax"},
        {"schedule": "exponential"},
        {"head": "deep"},
        {"batchnorm": "eval"},
        {"trainable": -1},
        {"trainable": 99},
        {"trainable": True},
        {"image_size": 0},
        {"n_jobs": 0},
    ],
    ids=lambda changes: "{}={!r}".format(*next(iter(changes.items()))),
)
def test_parameters_out_of_range(X, changes, passes):
    clf = classifier(**changes)
    name, value = next(iter(changes.items()))
    with pytest.raises(ValueError, match=name) as caught:
        clf.fit(X, np.arange(24) % 2)
    assert str(value) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert passes["images"] == 0
    assert set(vars(clf)) == set(clf.get_params())


@pytest.mark.parametrize(
    ("trainable", "nearest"),
    [("block.6", r"blocks\.6"), (["conv_haed"], "conv_head"), ("blocks.9.*", r"blocks\.")],
)
def test_names_of_no_layer_name_the_nearest(X, trainable, nearest):
    clf = classifier(trainable=trainable)
    with pytest.raises(LayerError, match=rf"matches no layer .*{nearest}") as caught:
        clf.fit(X, np.arange(24) % 2)
    assert "\n" not in str(caught.value)
    assert set(vars(clf)) == set(clf.get_params())


@pytest.mark.parametrize("trainable", ["head", 1, "all"])
@pytest.mark.parametrize("cache_activations", ["auto", False])
def test_an_unreadable_image_is_named(X, tmp_path, trainable, cache_activations):
    paths = []
    for number, image in enumerate(X[:6]):
        paths.append(os.fspath(tmp_path / f"{number}.png"))
        Image.fromarray(image).save(paths[-1])
    (tmp_path / "4.png").write_bytes(b"no image")
    clf = classifier(trainable=trainable, cache_activations=cache_activations)
    with pytest.raises(ImageError, match=r"image 4 \(.*4\.png\)") as caught:
        clf.fit(paths, np.arange(6) % 2)
    assert caught.value.index == 4 and "Fix or remove the file" in str(caught.value)
    assert set(vars(clf)) == set(clf.get_params())
    with pytest.raises(ImageError, match=r"image 4: is missing \(None\).*Fix or remove the image"):
        clf.fit([*X[:4], None, X[5]], np.arange(6) % 2)


def test_an_unreadable_image_behind_a_split_is_named(X, tmp_path):
    """Its number is that of the whole input, not that of the part it was put in."""
    paths = []
    for number, image in enumerate(X[:12]):
        paths.append(os.fspath(tmp_path / f"{number}.png"))
        Image.fromarray(image).save(paths[-1])
    y = np.arange(12) % 2
    for bad in (3, 8, 11):
        (tmp_path / f"{bad}.png").write_bytes(b"no image")
        for trainable in ("head", "all"):
            with pytest.raises(ImageError, match=rf"image {bad} \(.*{bad}\.png\)") as caught:
                classifier(trainable=trainable, early_stopping=True, validation_fraction=0.4).fit(
                    paths, y
                )
            assert caught.value.index == bad
        Image.fromarray(X[bad]).save(paths[bad])
