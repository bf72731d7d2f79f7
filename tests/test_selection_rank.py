"""Which network: one pass each, rows for what fails, random weights last."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from sktransfer import CNNCodes, advise, rank_backbones
from sktransfer.exceptions import BackboneError, ImageError, ImageSkippedWarning, LayerError
from sktransfer.networks import load_backbone
from sktransfer.selection import cv_score, h_score, leep_score, logme_score
from sktransfer.selection._features import pass_over, source_probabilities

LITE = "efficientnet_lite0"
DIGITS = {"image_shape": (8, 8), "value_range": (0, 16), "image_size": 96}
EVERY = ["logme", "h_score", "leep", "nce", "transrate", "cv"]


@pytest.fixture(scope="module")
def labelled(sample):
    return sample.data[:60], sample.target[:60] % 3


def test_one_pass_for_each_network_whatever_the_metrics(labelled, passes):
    X, y = labelled
    networks = {"real": LITE, "random": CNNCodes(LITE, weights=None, image_size=32)}
    ranking = rank_backbones(X, y, networks, metric=EVERY, image_size=32)
    assert passes["images"] == 2 * len(X)
    assert [row.name for row in ranking.rows] == ["real", "random"]
    assert all(np.isfinite(list(row.scores.values())).all() for row in ranking.rows)
    again = rank_backbones(X, y, networks, metric="cv", image_size=32)
    codes = CNNCodes(LITE, image_size=32).fit_transform(X)
    CNNCodes(LITE, image_size=32, layer="blocks.4").fit_transform(X)
    assert passes["images"] == 2 * len(X)
    last = rank_backbones(X, y, networks, metric=EVERY, image_size=32, depth=False)
    assert passes["images"] == 2 * len(X)
    row = ranking.rows[0]
    assert last.rows[0].scores["logme"] == pytest.approx(logme_score(codes, y))
    assert last.rows[0].scores["cv"] == pytest.approx(cv_score(codes, y))
    assert row.scores["cv"] == again.rows[0].score
    assert row.images_per_second == again.rows[0].images_per_second > 0
    assert last.rows[0].width == 1280 and row.layer == "blocks.5" and row.width == 192
    module = load_backbone(LITE).module
    assert row.n_parameters == sum(p.numel() for p in module.parameters())
    assert row.megabytes == pytest.approx(18.8, abs=0.3)  # its file has 18.7


@pytest.mark.parametrize(
    "metric", ["logme", "nce", "leep", pytest.param("cv", marks=pytest.mark.slow)]
)
def test_random_weights_rank_last(sample, metric):
    X, y = sample.data[:150], sample.target[:150]
    networks = {"random": CNNCodes(LITE, weights=None, image_size=64), LITE: LITE}
    ranking = rank_backbones(X, y, networks, metric=metric, image_size=64, accuracy=False)
    assert ranking.best_ == LITE


def test_the_accuracy_of_the_layer_that_ranks_stands_beside_the_score(labelled, passes):
    X, y = labelled
    ranking = rank_backbones(X, y, [LITE], image_size=32)
    row = ranking.rows[0]
    seen = pass_over(CNNCodes(LITE, image_size=32), X)
    assert row.accuracy == pytest.approx(cv_score(seen.layers[row.layer], y))
    assert list(ranking.table.columns)[:3] == ["name", "score", "accuracy"]
    assert f"{row.accuracy:.3f}" in repr(ranking) and passes["images"] == len(X)
    without = rank_backbones(X, y, [LITE], image_size=32, accuracy=False)
    assert "accuracy" not in without.table and np.isnan(without.rows[0].accuracy)
    lonely = rank_backbones(X, np.r_[9, y[1:]], [LITE], image_size=32)
    assert np.isnan(lonely.rows[0].accuracy) and np.isfinite(lonely.rows[0].score)
    values = rank_backbones(X, y + np.linspace(0, 0.5, 60), [LITE], image_size=32)
    assert list(values.table.columns)[2] == "R²" and values.rows[0].accuracy < 1


def test_a_network_counts_as_much_as_its_best_layer(labelled):
    X, y = labelled
    ranking = rank_backbones(X, y, LITE, metric=["cv", "logme", "h_score"], image_size=32)
    seen = pass_over(CNNCodes(LITE, image_size=32), X)
    row = ranking.rows[0]
    by_layer = {name: cv_score(codes, y) for name, codes in seen.layers.items()}
    assert row.scores["cv"] == max(by_layer.values()) == by_layer[row.layer]
    assert row.scores["logme"] == max(logme_score(codes, y) for codes in seen.layers.values())
    assert row.scores["h_score"] == h_score(seen.layers["global_pool"], y)
    own = rank_backbones(X, y, CNNCodes(LITE, layer="blocks.2", image_size=32)).rows[0]
    assert own.layer == "blocks.2"
    assert own.score == pytest.approx(logme_score(seen.layers["blocks.2"], y))


@pytest.mark.slow
def test_random_weights_rank_last_also_where_the_last_layer_is_poor():
    """On the digits the last layer of random weights beats that of the pretrained ones."""
    X, y = load_digits(return_X_y=True)
    networks = {"random": CNNCodes(LITE, weights=None, **DIGITS), LITE: CNNCodes(LITE, **DIGITS)}
    assert rank_backbones(X[:300], y[:300], networks, accuracy=False).best_ == LITE


def test_a_network_that_cannot_be_had_is_a_row_that_says_why(labelled, passes, tmp_path):
    networks = ["efficientnet_light0", CNNCodes(LITE, weights=tmp_path / "no.pth"), LITE]
    ranking = rank_backbones(*labelled, networks, image_size=32)
    assert ranking.best_ == LITE
    assert "UnknownBackboneError" in ranking.rows[1].error
    assert "no.pth" in ranking.rows[2].error
    assert np.isnan(ranking.rows[1].score)
    assert "no.pth" in repr(ranking) and "no.pth" in ranking._repr_html_()
    # The table stays narrow: what went wrong stands beneath it.
    table, beneath = repr(ranking).splitlines()[:4], repr(ranking).splitlines()[4:]
    assert max(map(len, table)) < 120 and len(beneath) >= 2
    assert set(ranking.errors) == {row.name for row in ranking.rows[1:]}
    assert ranking.table["error"].tolist() == [
        "", "unknown name (see .errors)", "weights not found (see .errors)"]  # fmt: skip
    with pytest.raises(BackboneError, match="none of the networks could be loaded:\n  nothing"):
        rank_backbones(*labelled, ["nothing"])


def test_the_table_is_sorted_and_gives_estimators(labelled):
    pytest.importorskip("pandas")
    networks = {"a": CNNCodes(LITE, weights=None, image_size=32), "b": LITE}
    ranking = rank_backbones(*labelled, networks, metric=["cv", "logme"], image_size=32)
    table = ranking.table
    assert list(table["name"]) == ["b", "a"]
    assert list(table.columns) == ["name", "score", "logme", "layer", "width", "parameters",
                                   "images_per_second", "megabytes", "error"]  # fmt: skip
    assert table["score"].is_monotonic_decreasing
    codes = ranking.codes()
    assert (codes.backbone, codes.weights) == (LITE, "default")
    rows = codes.fit_transform(labelled[0])
    assert rows.shape[1] == table["width"][0]
    layer = CNNCodes(LITE, layer=table["layer"][0], image_size=32)
    np.testing.assert_array_equal(rows, layer.fit_transform(labelled[0]))
    assert ranking.codes("a").weights is None
    with pytest.raises(ValueError, match="name must be one of"):
        ranking.codes("c")
    ax = ranking.plot()
    assert "second" in ax.get_xlabel() and ax.get_ylabel().startswith("cv") and ax.get_title()
    assert {one.get_text().split()[0] for one in ax.texts} == {"a", "b"}
    known = [row for row in ranking.rows if not np.isnan(row.images_per_second)]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [(d.get_xdata()[0], d.get_ydata()[0]) for d in dots] == [
        (row.images_per_second, row.score) for row in known
    ]
    slow = replace(ranking, rows=tuple(replace(r, images_per_second=np.nan) for r in ranking.rows))
    ax = slow.plot()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    (dots,) = ax.lines
    np.testing.assert_array_equal(dots.get_xdata(), table["score"][::-1])
    probed = replace(
        ranking, measure="average_precision",
        rows=tuple(replace(r, accuracy=0.5, images_per_second=7.0) for r in ranking.rows),
    )  # fmt: skip
    ax = probed.plot()
    assert ax.get_ylabel().startswith("average precision of a linear probe")
    assert {dot.get_ydata()[0] for dot in ax.lines} == {0.5}
    half = replace(ranking, rows=(slow.rows[0], replace(ranking.rows[1], images_per_second=9.0)))
    assert "b (speed unknown)" in [one.get_text() for one in half.plot().texts]


def test_the_transformer_has_the_layer_that_was_scored():
    """Of scanned digits an earlier layer tells more than the last."""
    X, y = load_digits(return_X_y=True)
    ranking = rank_backbones(X[:120], y[:120], [LITE], metric="cv", **DIGITS)
    (row,) = ranking.rows
    assert ranking.codes().layer == row.layer != "global_pool"
    rows = ranking.codes().fit_transform(X[:120])
    assert rows.shape == (120, row.width)
    assert cv_score(rows, y[:120]) == pytest.approx(row.score)
    assert rank_backbones(X[:120], y[:120], [LITE], depth=False, **DIGITS).codes().layer is None


@pytest.mark.parametrize("function", [rank_backbones, advise])
def test_misspelt_parameters_are_those_of_the_function(labelled, function):
    with pytest.raises(TypeError, match=rf"{function.__name__}\(\) got 'image_sise'.*'image_s"):
        function(*labelled, image_sise=32)


def test_outputs_of_the_own_classifier_are_those_of_the_network(sample):
    X = sample.data[:5]
    for name in (LITE, "resnet18", "mobilenet_v2"):
        codes = CNNCodes(name, weights="default" if name == LITE else None, image_size=64,
                         engine="torch")  # fmt: skip
        seen = pass_over(codes, X, outputs=True)
        captured = []
        module = load_backbone(name, weights=codes.weights).module
        table = codes._cut(codes._load())
        first = table.network.nodes[0]
        assert first.op == "placeholder"
        # The same pixels through the whole network, as torch runs it.
        from sktransfer.inputs import as_images

        fitted = codes.fit(X)
        pixels = np.stack([fitted._fitted.preparation(as_images(X).open(i))
                           for i in range(5)])  # fmt: skip
        facts = fitted.backbone_.preprocessing
        x = (torch.from_numpy(pixels).float() / 255 - torch.tensor(facts.mean)) / torch.tensor(
            facts.std
        )
        with torch.no_grad():
            captured = torch.softmax(module(x.permute(0, 3, 1, 2)), 1).numpy()
        np.testing.assert_allclose(seen.probabilities, captured, rtol=2e-3, atol=1e-6)


def test_where_the_classifier_is_not_linear_the_row_says_so(labelled):
    codes = CNNCodes("squeezenet1_1", weights=None, image_size=64)
    table = codes._cut(codes._load())
    with pytest.raises(
        LayerError, match=r"not one linear layer behind the codes, but .*classifier"
    ):
        source_probabilities(table, np.zeros((2, 512)))
    networks = {"s": CNNCodes("squeezenet1_1", weights=None, image_size=64)}
    row = rank_backbones(*labelled, networks, metric=["logme", "leep"]).rows[0]
    assert np.isfinite(row.score) and np.isnan(row.scores["leep"])
    assert "not one linear layer" in row.error


def test_leep_is_that_of_the_probabilities(labelled):
    X, y = labelled
    row = rank_backbones(X, y, [LITE], metric="leep", image_size=32).rows[0]
    seen = pass_over(CNNCodes(LITE, image_size=32), X, outputs=True)
    assert row.score == pytest.approx(leep_score(seen.probabilities, y))


def test_regression_and_functions(labelled):
    X, y = labelled
    values = y + np.random.default_rng(0).normal(size=len(y)) / 10

    def width(codes, y):
        return codes.shape[1]

    row = rank_backbones(X, values, [LITE], metric=["cv", "logme", width], image_size=32).rows[0]
    assert row.scores["width"] == 1280
    assert row.scores["cv"] < 1
    with pytest.raises(ValueError, match="defined for classes only"):
        rank_backbones(X, values, [LITE], metric="leep", image_size=32)


def test_images_that_cannot_be_read(labelled, tmp_path, passes):
    X, y = labelled
    paths = []
    for number, image in enumerate(X):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        paths.append(tmp_path / f"{number}.png")
    paths[7].write_bytes(b"no image")
    with pytest.raises(ImageError, match="image 7"):
        rank_backbones(paths, y, [LITE], image_size=32)
    with pytest.warns(ImageSkippedWarning, match="1 of 60 images could not be read"):
        ranking = rank_backbones(paths, y, [LITE], image_size=32, on_error="nan")
    rest = np.delete(np.arange(60), 7)
    expected = rank_backbones(X[rest], y[rest], [LITE], image_size=32)
    assert ranking.rows[0].score == pytest.approx(expected.rows[0].score, rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": np.zeros(60)}, "at least 2 classes"),
        ({"y": np.arange(60)}, "at least 2 images"),
        ({"y": np.arange(59) % 2}, "one entry for each of 60"),
        ({"y": np.r_[9, np.arange(59) % 2], "metric": "cv"}, "these have one"),
        ({"metric": "accuracy"}, "metric must be of logme"),
        ({"metric": "log_mee"}, "Did you mean 'logme'"),
        ({"metric": []}, "empty list"),
        ({"backbones": []}, "at least one network"),
        ({"backbones": [LITE, LITE]}, "twice"),
        ({"regression": "yes"}, "regression must be"),
    ],
)
def test_bad_input_is_told_before_the_first_pass(labelled, passes, change, message):
    X, y = labelled
    given = {"X": X, "y": y, "backbones": [LITE], "image_size": 32, **change}
    with pytest.raises(ValueError, match=message):
        rank_backbones(**given)
    assert passes["images"] == 0


@pytest.mark.parametrize(
    ("function", "wrong", "meant"),
    [
        (rank_backbones, "metrics", "metric"),
        (rank_backbones, "backbone", "backbones"),
        (rank_backbones, "batchsize", "batch_size"),
        (advise, "backbones", "backbone"),
    ],
)
def test_a_misspelt_keyword_names_the_nearest(labelled, function, wrong, meant):
    with pytest.raises(TypeError, match=f"{function.__name__}.* got '{wrong}'.* mean '{meant}'"):
        function(*labelled, **{wrong: "logme"})
