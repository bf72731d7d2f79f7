"""Saliency is what definitions, plain loops and hooks say, and finds what was planted."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import (
    CNNCodes,
    FineTuneClassifier,
    FineTuneRegressor,
    FineTuneTextClassifier,
)
from sktransfer.exceptions import LayerError, TextError
from sktransfer.inspection import SaliencyDisplay
from sktransfer.selection import LinearTags
from sktransfer.store import open_store

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
SMALL = {"backbone": "resnet18", "weights": None, "image_size": 64}


@pytest.fixture(autouse=True)
def close():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@pytest.fixture(scope="module")
def scenes():
    """Noise, with a bright square in one of four corners that says by its colour what it is."""
    rng = np.random.default_rng(0)
    X = rng.integers(90, 160, (30, 64, 64, 3)).astype(np.uint8)
    y = np.array(["red", "green"] * 15)
    corners = rng.integers(0, 2, (30, 2)) * 40
    for image, label, (row, column) in zip(X, y, corners, strict=True):
        square = image[row : row + 24, column : column + 24]
        square[...] = (255, 0, 0) if label == "red" else (0, 255, 0)
    return X, y, corners


def inside(saliency: np.ndarray, corner: np.ndarray) -> float:
    """Share of what speaks for the target that is on the square."""
    row, column = corner
    positive = saliency.clip(min=0)
    return positive[row : row + 24, column : column + 24].sum() / positive.sum()


# Grad-CAM.


@pytest.mark.parametrize("between", [[], [StandardScaler(), PCA(10)]])
def test_the_map_of_a_linear_model_adds_up_to_its_score(scenes, between):
    X, y, _ = scenes
    pipe = make_pipeline(CNNCodes(**SMALL), *copy.deepcopy(between), LogisticRegression())
    pipe.fit(X, y)
    display = SaliencyDisplay.from_estimator(pipe, X[:4])
    assert (display.method, display.layer, display.unit) == ("gradcam", "layer4", "score")
    assert display.targets == pipe.predict(X[:4]).tolist()
    sign = np.where(np.array(display.targets) == pipe.classes_[1], 1, -1)
    at_zero = pipe[1:].decision_function(np.zeros((1, 512)))
    np.testing.assert_allclose(display.scores, sign * pipe.decision_function(X[:4]), rtol=1e-4)
    expected = sign * (pipe.decision_function(X[:4]) - at_zero)
    np.testing.assert_allclose(display.maps.sum((1, 2)), expected, rtol=1e-3)
    other = SaliencyDisplay.from_estimator(pipe, X[:4], target="red")
    red = np.array(display.targets) == "red"
    np.testing.assert_allclose(other.maps[red], display.maps[red])
    np.testing.assert_allclose(other.maps[~red], -display.maps[~red], rtol=1e-4, atol=1e-5)


def by_hooks(network, layer, score, pixels):
    """Grad-CAM as its authors define it, on a plain network."""
    kept = []
    with_hook = network.get_submodule(layer).register_forward_hook(
        lambda module, args, output: kept.append(output)
    )
    score(network(pixels)).backward(inputs=kept)
    with_hook.remove()
    (values,) = kept
    weights = values.grad.mean((2, 3), keepdim=True)
    return (weights * values).sum(1)[0].detach().numpy()


def pixels_of(estimator, image):
    facts = estimator.backbone_.preprocessing
    scaled = torch.tensor(image).permute(2, 0, 1)[None] / 255
    mean, std = (torch.tensor(one).view(1, 3, 1, 1) for one in (facts.mean, facts.std))
    return ((scaled - mean) / std).requires_grad_()


@pytest.mark.parametrize("layer", ["layer4", "layer2"])
def test_codes_agree_with_hooks(scenes, layer):
    X, y, _ = scenes
    pipe = make_pipeline(CNNCodes(**SMALL, normalize="l2"), LogisticRegression()).fit(X, y)
    display = SaliencyDisplay.from_estimator(pipe, X[:2], layer=layer, target="red")
    network = copy.deepcopy(pipe[0]._load_network().module).eval()
    network.fc = torch.nn.Identity()
    coef = torch.from_numpy(pipe[-1].coef_[0]).float()
    for image, found in zip(X[:2], display.maps, strict=True):
        expected = by_hooks(
            network, layer, lambda codes: (codes[0] / codes[0].norm()) @ coef,
            pixels_of(pipe[0], image),
        )  # fmt: skip
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("trainable", ["head", 1, "all"])
@pytest.mark.parametrize("layer", ["layer4", "layer2"])
def test_fine_tuned_networks_agree_with_hooks(scenes, trainable, layer):
    X, y, _ = scenes
    clf = FineTuneClassifier(**SMALL, trainable=trainable, max_epochs=1, random_state=0)
    clf.fit(X[:16], y[:16])
    display = SaliencyDisplay.from_estimator(clf, X[:1], layer=layer, target="green")
    assert display.layer == layer
    # The pretrained network with what was trained in its place.
    network = copy.deepcopy(clf._load_network().module).eval()
    state = clf.net_.module_.state_dict()
    trained = {k.removeprefix("tail."): v for k, v in state.items() if k.startswith("tail.")}
    assert not network.load_state_dict(trained, strict=False).unexpected_keys
    network.fc = copy.deepcopy(clf.net_.module_.head).eval()
    column = clf.classes_.tolist().index("green")
    expected = by_hooks(network, layer, lambda out: out[0, column], pixels_of(clf, X[0]))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(display.maps[0], expected, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.slow
def test_places_of_a_transformer_are_a_grid(scenes):
    X, y, _ = scenes
    codes = CNNCodes("vit_tiny_patch16_224", weights=None)
    pipe = make_pipeline(codes, StandardScaler(), LogisticRegression()).fit(X[:8], y[:8])
    display = SaliencyDisplay.from_estimator(pipe, X[:1], target="red")
    # The class token is read at the end: what the last block makes of patches decides nothing.
    assert display.layer == "blocks.10" and display.maps.shape == (1, 14, 14)
    network = copy.deepcopy(pipe[0]._load_network().module).eval()
    kept = []
    network.blocks[10].register_forward_hook(lambda module, args, output: kept.append(output))
    picture = Image.fromarray(X[0]).resize((224, 224), Image.Resampling.BICUBIC)
    coef = torch.from_numpy(pipe[-1].coef_[0] / pipe[1].scale_).float()
    codes = network.forward_head(
        network.forward_features(pixels_of(pipe[0], np.asarray(picture))), pre_logits=True
    )
    (codes[0] @ coef).backward(inputs=kept)
    weights = kept[0].grad[0, 1:].mean(0)
    expected = (kept[0][0, 1:] @ weights).view(14, 14).detach().numpy()
    assert np.corrcoef(display.maps[0].ravel(), expected.ravel())[0, 1] > 0.999


def test_what_decides_is_found(scenes):
    X, y, corners = scenes
    plain = np.random.default_rng(1).integers(90, 160, (16, 64, 64, 3)).astype(np.uint8)
    codes = CNNCodes("efficientnet_lite0", image_size=96)
    pipe = make_pipeline(codes, StandardScaler(), LogisticRegression())
    pipe.fit(np.concatenate([X[:24], plain]), [*y[:24], *["none"] * 16])
    assert pipe.score(X[24:], y[24:]) == 1
    by_map = SaliencyDisplay.from_estimator(pipe, X[24:30])
    covered = SaliencyDisplay.from_estimator(pipe, X[24:26], method="occlusion", patch=0.4)
    assert covered.unit == "probability"
    # The square is a seventh of the image, and less than two of 4 x 4 places.
    assert np.mean([*map(inside, by_map.saliency, corners[24:30])]) > 0.25
    for found, (row, column) in zip(covered.saliency, corners[24:26], strict=True):
        top, left = np.unravel_index(found.argmax(), found.shape)
        assert row <= top < row + 24 and column <= left < column + 24
        assert found.max() > 0.5  # without the square it is another class


def test_numbers_in_their_own_units(scenes):
    X, y, _ = scenes
    target = 100.0 * (y == "red") + np.linspace(0, 1, 30)
    reg = FineTuneRegressor(**SMALL, trainable="head", max_epochs=1, random_state=0).fit(X, target)
    pipe = make_pipeline(CNNCodes(**SMALL), StandardScaler(), Ridge()).fit(X, target)
    for model in (reg, pipe):
        display = SaliencyDisplay.from_estimator(model, X[:2])
        values = model.predict(X[:2])
        assert display.unit == "value"
        np.testing.assert_allclose(display.scores, values, rtol=1e-6)
        # Maps add up to the value but for one number.
        sums = display.maps.sum((1, 2))
        assert sums[1] - sums[0] == pytest.approx(values[1] - values[0], rel=1e-3)
    pipe.fit(X, np.stack([target, -target], axis=1))
    with pytest.raises(ValueError, match="which of 2 outputs"):
        SaliencyDisplay.from_estimator(pipe, X[:2])
    one, other = (SaliencyDisplay.from_estimator(pipe, X[:1], target=i).maps for i in (0, 1))
    np.testing.assert_allclose(one, -other, rtol=1e-3, atol=1e-3)


def test_each_tag_has_its_map(scenes):
    X, y, _ = scenes
    tags = np.stack([y == "red", y == "green", np.arange(30) % 3 == 0], axis=1).astype(int)
    tuned = FineTuneClassifier(**SMALL, trainable="head", max_epochs=1).fit(X, tags)
    pipe = make_pipeline(CNNCodes(**SMALL), StandardScaler(), LinearTags()).fit(X, tags)
    for model in (tuned, pipe):
        display = SaliencyDisplay.from_estimator(model, X[:2], target=[2, 0])
        assert display.method == "gradcam" and display.targets == [2, 0]
        probable = SaliencyDisplay.from_estimator(model, X[:2])
        assert probable.targets == model.predict_proba(X[:2]).argmax(1).tolist()


def test_maps_are_as_large_as_their_images_and_zero_where_nothing_is_seen(scenes):
    X, y, _ = scenes
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, size).astype(np.uint8) for size in [(50, 100, 3), (90, 64, 3)]]
    for resize in ("pad", "crop"):
        codes = CNNCodes(**SMALL, resize=resize)
        pipe = make_pipeline(codes, LogisticRegression()).fit(X, y)
        display = SaliencyDisplay.from_estimator(pipe, images)
        assert [one.shape for one in display.saliency] == [(50, 100), (90, 64)]
        cut_away = display.saliency[0][:, [0, -1]]
        assert (cut_away == 0).all() if resize == "crop" else (cut_away != 0).any()


def test_layers_that_are_none(scenes):
    X, y, _ = scenes
    pipe = make_pipeline(CNNCodes(**SMALL, layer="layer3"), LogisticRegression()).fit(X, y)
    assert SaliencyDisplay.from_estimator(pipe, X[:1]).layer == "layer3"
    with pytest.raises(LayerError, match="before what the scores are made of"):
        SaliencyDisplay.from_estimator(pipe, X[:1], layer="layer4")
    several = CNNCodes(**SMALL, layer=["layer2", "layer4"])
    pipe = make_pipeline(several, LogisticRegression()).fit(X, y)
    display = SaliencyDisplay.from_estimator(pipe, X[:1], target="green")
    codes = pipe[0].transform(X[:1])[:, 128:]  # of layer4
    sign = 1 if pipe.classes_[1] == "green" else -1
    part = sign * codes @ pipe[-1].coef_[0, 128:]
    assert display.maps.sum() == pytest.approx(part[0], rel=1e-3)


def test_what_cannot_be_derived_is_covered_instead(scenes):
    X, y, _ = scenes
    pipe = make_pipeline(CNNCodes(**SMALL), RandomForestClassifier(20, random_state=0)).fit(X, y)
    assert SaliencyDisplay.from_estimator(pipe, X[:1], patch=0.5).method == "occlusion"
    with pytest.raises(ValueError, match=r"RandomForestClassifier\. Take method=\"occlusion\""):
        SaliencyDisplay.from_estimator(pipe, X[:1], method="gradcam")
    with pytest.raises(ValueError, match="needs a FineTuneClassifier"):
        SaliencyDisplay.from_estimator(KNeighborsClassifier(), X[:1], method="gradcam")
    with pytest.raises(ValueError, match=r"target= must be of .*got 'blue'"):
        SaliencyDisplay.from_estimator(pipe, X[:1], target="blue")
    with pytest.raises(ValueError, match="one for each of 1, got 2"):
        SaliencyDisplay.from_estimator(pipe, X[:1], target=["red", "red"])
    tagged = SaliencyDisplay.from_estimator(
        pipe, X, n_images=2, target=list(y), patch=0.5, method="occlusion"
    )
    assert tagged.targets == y[:2].tolist()
    with pytest.raises(NotFittedError):
        SaliencyDisplay.from_estimator(clone(pipe), X[:1])
    with pytest.raises(ValueError, match="method= must be"):
        SaliencyDisplay.from_estimator(pipe, X[:1], method="lime")


# Occlusion.


class MeanOfPlace:
    """Says how bright the pixel (5, 9) is."""

    def __init__(self, look):
        self.look = look

    def predict(self, X):
        return np.array([np.asarray(self.look(one), float)[5, 9].mean() for one in X])

    def __sklearn_tags__(self):
        from sklearn.utils import RegressorTags, Tags, TargetTags

        return Tags("regressor", TargetTags(required=True), regressor_tags=RegressorTags())


@pytest.mark.parametrize(
    ("make", "look"),
    [
        (lambda X: X, lambda one: one),
        (lambda X: X / 255, lambda one: one),
        (lambda X: X.transpose(0, 3, 1, 2).copy(), lambda one: one.transpose(1, 2, 0)),
        (lambda X: X[..., 0], lambda one: one),
        (lambda X: X[..., 0].reshape(2, -1), lambda one: one.reshape(24, 24)),
        (lambda X: [Image.fromarray(one) for one in X], lambda one: one),
    ],
    ids=["uint8", "float", "channels_first", "grey", "rows", "pil"],
)
def test_covering_is_a_plain_loop(make, look):
    X = np.random.default_rng(1).integers(0, 256, (2, 24, 24, 3)).astype(np.uint8)
    given = make(X)
    model = MeanOfPlace(look)
    display = SaliencyDisplay.from_estimator(model, given, patch=0.25, overlap=0.5)
    one = np.asarray(look(given[0]), float)
    mean = one.mean((0, 1))
    mean = mean if getattr(given, "dtype", np.uint8) == np.float64 else np.rint(mean)
    loss = np.mean(one[5, 9] - mean)
    lost, times = np.zeros((24, 24)), np.zeros((24, 24))
    for top in range(0, 19, 3):
        for left in range(0, 19, 3):
            hit = top <= 5 < top + 6 and left <= 9 < left + 6
            lost[top : top + 6, left : left + 6] += loss * hit
            times[top : top + 6, left : left + 6] += 1
    np.testing.assert_allclose(display.saliency[0], lost / times, rtol=1e-9, atol=1e-12)
    assert display.scores[0] == pytest.approx(np.mean(one[5, 9]))


def test_a_column_stays_a_column_and_nothing_is_kept(scenes, tmp_path):
    pandas = pytest.importorskip("pandas")
    X, y, _ = scenes
    paths = []
    for index, image in enumerate(X[:12]):
        paths.append(str(tmp_path / f"{index}.png"))
        Image.fromarray(image).save(paths[-1])
    frame = pandas.DataFrame({"file": paths})
    codes = CNNCodes(**SMALL, cache=tmp_path / "cache")
    pipe = make_pipeline(codes, StandardScaler(), LogisticRegression()).fit(frame, y[:12])
    before = open_store(tmp_path / "cache").info().rows
    display = SaliencyDisplay.from_estimator(pipe, frame[:1], method="occlusion", patch=0.5)
    assert display.saliency[0].shape == (64, 64)
    assert open_store(tmp_path / "cache").info().rows == before
    assert pipe[0].cache == tmp_path / "cache"


# Words.


def test_words_that_decide():
    texts = ["a good film", "good good  play", "bad film", "a bad play"] * 3
    y = np.array([1, 1, 0, 0] * 3)
    pipe = make_pipeline(CountVectorizer(), LogisticRegression()).fit(texts, y)
    display = SaliencyDisplay.from_estimator(
        pipe, ["a good film,\n though long"], method="words", display_labels={1: "liked"}
    )
    assert display.items[0] == ["a", "good", "film,", "though", "long"]
    whole = pipe.predict_proba(["a good film though long"])[0, 1]
    without = pipe.predict_proba(["a film though long"])[0, 1]
    assert display.saliency[0][1] == pytest.approx(whole - without)
    assert display.saliency[0].argmax() == 1
    assert display.axes_[0].get_title().startswith("liked: probability 0.")
    assert len(display.axes_[0].texts) == 5
    asked = {"method": "words", "display_labels": ["disliked", "liked"]}
    named = SaliencyDisplay.from_estimator(pipe, ["a good film"], target="disliked", **asked)
    assert named.targets == [0] and named.saliency[0][1] < 0
    told = r"must be of \[0, 1\] or \['disliked', 'liked'\], got 'bad'"
    with pytest.raises(ValueError, match=told):
        SaliencyDisplay.from_estimator(pipe, ["a good film"], target="bad", **asked)
    single = SaliencyDisplay.from_estimator(pipe, ["good"], method="words")
    assert single.saliency[0][0] > 0
    with pytest.raises(TextError, match="text 1: holds white space"):
        SaliencyDisplay.from_estimator(pipe, ["good", " "], method="words")


@pytest.mark.slow
def test_networks_for_text_are_asked_for_words():
    texts = ["a wonderful film", "a terrible film", "wonderful acting", "terrible acting"] * 4
    y = np.array(["good", "bad"] * 8)
    clf = FineTuneTextClassifier(trainable="head", max_epochs=1, random_state=0).fit(texts, y)
    display = SaliencyDisplay.from_estimator(clf, ["we saw a wonderful film today"])
    assert display.method == "words" and display.targets == ["good"]
    assert display.items[0][display.saliency[0].argmax()] == "wonderful"


# What is drawn.


def test_what_is_drawn():
    values = np.linspace(-2, 3, 12).reshape(3, 4)
    display = SaliencyDisplay(
        items=[np.zeros((3, 4, 3), np.uint8)] * 5, saliency=[values] * 4 + [0 * values],
        targets=[1] * 5, scores=np.full(5, 0.256), unit="score", method="gradcam", layer="layer4",
    ).plot(display_labels=["zero", "one"])  # fmt: skip
    assert len(display.axes_) == 5 and "layer4" in display.figure_._suptitle.get_text()
    assert display.axes_[0].get_title() == "one: score 0.26"
    image, layer = (one.get_array() for one in display.axes_[0].images)
    assert image.shape == (3, 4) and layer.shape == (3, 4, 4)
    np.testing.assert_allclose(layer[..., 3], 0.6 * values.clip(min=0) / 3)
    assert (layer[..., 2] == 0).all()
    display.plot(negative=True)
    blue = display.axes_[0].images[1].get_array()[..., 2] > 0
    np.testing.assert_array_equal(blue, values < 0)
    axes = matplotlib.pyplot.subplots(1, 5)[1]
    assert display.plot(axes).figure_ is axes[0].figure
    with pytest.raises(ValueError, match="axes= must hold one for each of 5, got 4"):
        display.plot(axes[:4])
