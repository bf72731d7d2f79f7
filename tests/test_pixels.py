"""Masks by any classifier on the maps of several layers, held against plain loops."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import softmax
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    GroupKFold,
    KFold,
    cross_val_predict,
    cross_val_score,
    learning_curve,
)
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from torch.nn.functional import interpolate

from sktransfer import CNNCodes, PixelClassifier, count_computed
from sktransfer.codes import _pixels
from sktransfer.codes._pixels import LinearScores, _Rows
from sktransfer.codes._texture import texture_of
from sktransfer.exceptions import ImageError, InputError, SktransferWarning
from sktransfer.metrics import mean_iou_score

# Few steps suffice for what is compared.
pytestmark = pytest.mark.filterwarnings("ignore:lbfgs failed to converge")

SIZE = (50, 70)
SMALL = {
    "backbone": "resnet18", "weights": None, "random_state": 0, "pixels_per_image": 100,
    "engine": "torch",  # converting networks takes longer than running them on these images
}  # fmt: skip
# With an image size of its own.
SEEN = {**SMALL, "image_size": (64, 64)}


@pytest.fixture(scope="module")
def scenes(sample):
    """Images of 50 by 70 pixels with an object or two, and masks of these: 0, 7 and 255."""
    rng = np.random.default_rng(0)
    X = np.repeat(sample.data[100:106, :25].mean(1, dtype=int)[:, :, None], 70, axis=2)
    X = (np.resize(X.swapaxes(1, 2), (6, 70, 32, 3))[:, :, :25] // 2).swapaxes(1, 2)
    X = np.repeat(X, 2, axis=1).astype(np.uint8)
    y = np.zeros((6, *SIZE), np.uint8)
    for image, mask in zip(X, y, strict=True):
        for label, left in ((7, 2), (255, 36)):
            top, left = rng.integers(0, 18), left + rng.integers(0, 4)
            number = rng.integers(100)
            image[top : top + 32, left : left + 30] = sample.data[number][:, :30]
            if label == 7:
                image[top : top + 32, left : left + 30, 1:] //= 3
            mask[top : top + 32, left : left + 30] = label
    return X, y


def codes_of(X, fitted):
    """All maps enlarged to the size of the images, as rows: by other code than that on trial."""
    height, width = fitted.image_size_
    large = []
    for name in fitted.layers_:
        codes = CNNCodes(
            fitted.backbone, weights=fitted.weights, layer=name, pooling=None,
            image_size=fitted.image_size_, resize="squash",
        )  # fmt: skip
        maps = torch.from_numpy(codes.fit_transform(X))
        large.append(interpolate(maps, (height, width), mode="bilinear", align_corners=False))
    return torch.cat(large, 1).permute(0, 2, 3, 1).flatten(0, 2).numpy()


ANY = {
    "forest": RandomForestClassifier(10, random_state=0),
    "stack": StackingClassifier([("linear", LogisticRegression(max_iter=20))], cv=2),
    "boosting": HistGradientBoostingClassifier(max_iter=5, random_state=0),
    "kernel": SVC(),
    "no scores": NearestCentroid(),
    "default": None,
    "linear": make_pipeline(StandardScaler(), LinearSVC(max_iter=10_000)),
}


@pytest.mark.parametrize("name", ANY)
def test_every_pixel_gets_what_the_classifier_says_of_its_row(name, scenes):
    X, y = scenes
    pixels = PixelClassifier(ANY[name], **SMALL, image_size=SIZE).fit(X[:4], y[:4])
    assert isinstance(pixels._scores, LinearScores) == (name in ("default", "linear"))
    rows = codes_of(X[4:], pixels)
    found = pixels.predict(X[4:])
    assert found.shape == (2, *SIZE) and found.dtype == y.dtype
    agree = found.ravel() == pixels.estimator_.predict(rows)
    assert agree.mean() > (0.999 if name in ("default", "linear") else 0.998)
    if hasattr(pixels, "predict_proba"):
        shares = pixels.predict_proba(X[4:])
        assert shares.shape == (2, *SIZE, 3)
        expected = pixels.estimator_.predict_proba(rows).reshape(shares.shape)
        close = np.isclose(shares, expected, atol=1e-3).all(axis=3)
        assert close.mean() > 0.998
        np.testing.assert_allclose(shares.sum(3), 1, atol=1e-5)
        if not getattr(pixels._scores, "votes", False):  # of which the likeliest is what it says
            np.testing.assert_array_equal(pixels.classes_[shares.argmax(3)], found)


LINEAR = {
    "logistic": LogisticRegression(max_iter=50),
    "default": None,
    "margins": make_pipeline(StandardScaler(), LinearSVC(max_iter=10_000)),
    "components": make_pipeline(StandardScaler(), PCA(20), LogisticRegression()),
    "ridge": RidgeClassifier(),
}


@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize("name", LINEAR)
def test_linear_classifiers_give_the_same_map_by_map_and_row_by_row(name, labels, scenes):
    """Images of other sizes than what the network sees: what is enlarged is linear as well."""
    X, y = scenes
    y = y if labels == 3 else y > 0
    pixels = PixelClassifier(LINEAR[name], **SMALL, image_size=(64, 80)).fit(X[:4], y[:4])
    scores = pixels.decision_function(X[4:])
    assert scores.shape == (2, *SIZE, 3)[: 3 + (labels == 3)]
    expected = pixels.estimator_.decision_function(side_by_side(pixels, X[4:]))
    expected = expected.reshape(2, 64, 80, -1).transpose(0, 3, 1, 2)
    placed = [
        pixels._fitted.preparation.placement(SIZE).scores(torch.from_numpy(one).float())
        for one in expected
    ]
    expected = torch.stack(placed).permute(0, 2, 3, 1).numpy().reshape(scores.shape)
    np.testing.assert_allclose(scores, expected, atol=1e-5 * np.abs(expected).max() + 1e-5)
    if labels == 3:
        assert (pixels.classes_[expected.argmax(-1)] == pixels.predict(X[4:])).mean() > 0.999
    else:
        assert ((expected > 0) == pixels.predict(X[4:])).mean() > 0.999
    if hasattr(pixels, "predict_proba"):
        shares = pixels.predict_proba(X[4:])
        if labels == 2:
            expected = np.stack([np.zeros_like(expected), expected], axis=-1)
        np.testing.assert_allclose(shares, softmax(expected, axis=-1), atol=1e-5)


def side_by_side(pixels, X):
    """Rows of all places of what the network sees."""
    from sktransfer.networks import cuts_of

    cuts = cuts_of(pixels._load_network(), pixels.image_size_)
    layers = tuple(cuts.resolve(name) for name in pixels.layers_)
    maps = pixels._maps(cuts, layers, pixels._fitted.preparation, None)
    rows = [
        torch.cat([
            interpolate(torch.from_numpy(one)[None], pixels.image_size_, mode="bilinear")[0]
            for one in own
        ])
        for _, own in maps.each(pixels._items(X), range(len(X)))
    ]  # fmt: skip
    return torch.stack(rows).permute(0, 2, 3, 1).flatten(0, 2).numpy()


def test_rows_and_maps_agree_for_the_same_classifier(scenes):
    X, y = scenes
    pixels = PixelClassifier(**SEEN).fit(X[:4], y[:4])
    assert isinstance(pixels._scores, LinearScores)
    shares = pixels.predict_proba(X[4:])
    pixels._scores = _Rows(pixels.estimator_, votes=False)
    assert pixels.image_size_ == (64, 64)
    # Of rows the probabilities are enlarged, of maps the scores.
    np.testing.assert_allclose(shares, pixels.predict_proba(X[4:]), atol=0.1)
    on_grid = PixelClassifier(**SMALL, image_size=SIZE).fit(X[:4], y[:4])
    shares = on_grid.predict_proba(X[4:])
    on_grid._scores = _Rows(on_grid.estimator_, votes=False)
    np.testing.assert_allclose(shares, on_grid.predict_proba(X[4:]), atol=1e-4)


def test_codes_of_drawn_pixels_are_those_of_enlarged_maps(scenes):
    X, y = scenes
    pixels = PixelClassifier(**SMALL, image_size=SIZE)
    codes, labels, groups = pixels.pixel_codes(X[:3], y[:3])
    assert not hasattr(pixels, "backbone_"), "the table leaves the estimator as it is"
    assert codes.dtype == np.float32 and len(codes) == len(labels) == 300
    assert np.bincount(groups).tolist() == [100] * 3
    rows = codes_of(X[:3], pixels.fit(X[:3], y[:3]))
    for code, label, group in list(zip(codes, labels, groups, strict=True))[::10]:
        own = rows.reshape(3, -1, rows.shape[1])[group]
        near = np.abs(own - code).max(1).argmin()
        assert np.abs(own[near] - code).max() < 1e-3 * np.abs(code).max()
        assert y[group].ravel()[near] == label


def test_all_folds_and_candidates_cost_one_pass(scenes, passes):
    X, y = scenes
    pixels = PixelClassifier(LogisticRegression(max_iter=20), **SMALL, image_size=SIZE)
    search = GridSearchCV(pixels, {"estimator__C": [0.01, 1.0]}, cv=3, error_score="raise")
    search.fit(X, y)
    assert search.best_score_ > 0.4
    assert cross_val_score(pixels, list(X), list(y), cv=3, error_score="raise").shape == (3,)
    assert passes["images"] == len(X)


def test_scikit_learns_tools_take_masks_as_they_are(scenes):
    X, y = scenes
    pixels = PixelClassifier(**SEEN)
    groups = [0, 0, 1, 1, 2, 2]
    found = cross_val_score(pixels, X, y, groups=groups, cv=GroupKFold(3), error_score="raise")
    assert (found > 0.3).all()
    _, _, tested = learning_curve(
        pixels, X, y, train_sizes=[2, 4], cv=KFold(3, shuffle=True, random_state=0),
        error_score="raise",
    )  # fmt: skip
    assert tested.shape == (2, 3)
    assert cross_val_predict(pixels, X, y, cv=3).shape == y.shape


def test_scores_are_mean_iou_of_labelled_pixels(scenes):
    X, y = scenes
    pixels = PixelClassifier(**SEEN, unlabeled=7).fit(X[:4], y[:4])
    assert pixels.classes_.tolist() == [0, 255]
    found = pixels.predict(X[4:])
    assert pixels.score(X[4:], y[4:]) == mean_iou_score(y[4:], found, unlabeled=7)
    assert set(np.unique(found)) <= {0, 255}


def test_a_network_that_knows_images_finds_objects(scenes):
    X, y = scenes
    pixels = PixelClassifier(image_size=(96, 128), random_state=0).fit(X[:5], y[:5])
    assert pixels.score(X[5:], y[5:]) > 0.6


def test_images_of_different_sizes_have_masks_of_their_size(scenes):
    X, y = scenes
    sizes = [(50, 70), (31, 64), (50, 33), (200, 280)]
    images = [X[0], X[1][:31, :64], X[2][:, 30:63], X[3].repeat(4, 0).repeat(4, 1)]
    masks = [y[0], y[1][:31, :64], y[2][:, 30:63], y[3].repeat(4, 0).repeat(4, 1)]
    pixels = PixelClassifier(**SMALL, image_size=64).fit(images, masks)
    found = pixels.predict(images)
    assert found.dtype == object and [one.shape for one in found] == sizes
    shares = pixels.predict_proba(images)
    assert [one.shape for one in shares] == [(*size, 3) for size in sizes]
    for image, mask, share in zip(images, found, shares, strict=True):
        np.testing.assert_array_equal(pixels.predict([image])[0], mask)
        np.testing.assert_array_equal(pixels.classes_[share.argmax(2)], mask)
    assert pixels.score(images, masks) > 0.5


def test_labels_are_those_of_y(scenes):
    X, y = scenes
    plain = PixelClassifier(**SEEN).fit(X, y)
    names = np.array(["ground", "object", "sky"])[np.searchsorted([0, 7, 255], y)]
    named = PixelClassifier(**SEEN).fit(X, list(names))
    assert named.classes_.tolist() == ["ground", "object", "sky"]
    expected = named.classes_[np.searchsorted([0, 7, 255], plain.predict(X))]
    np.testing.assert_array_equal(named.predict(X), expected)
    two = PixelClassifier(**SEEN).fit(X, np.where(y == 7, 255, 0).astype(np.uint8)).predict(X)
    assert two.dtype == np.uint8 and np.unique(two).tolist() == [0, 255]
    truth = PixelClassifier(**SEEN).fit(X, y == 7).predict(X)
    np.testing.assert_array_equal(truth, two == 255)


def test_scribbles_and_images_without_any(scenes, passes):
    X, y = scenes
    scribbles = np.full(y.shape, -1)
    scribbles[:2, 20:24, ::3] = y[:2, 20:24, ::3]
    pixels = PixelClassifier(**SMALL, unlabeled=-1, image_size=SIZE)
    _, labels, groups = pixels.pixel_codes(X, scribbles)
    assert -1 not in labels and set(groups) == {0, 1}
    assert len(labels) == (scribbles != -1).sum()
    assert passes["images"] == 2, "nothing is computed of images that nobody labelled"
    pixels.fit(X, scribbles)
    assert pixels.score(X[:2], scribbles[:2]) > 0.9


def test_one_image_will_do(scenes):
    X, y = scenes
    pixels = PixelClassifier(**SEEN).fit(X[:1], y[:1])
    assert pixels.score(X[:1], y[:1]) > 0.7


def test_as_many_pixels_as_asked_for_are_drawn_the_same_each_time(scenes):
    X, y = scenes
    pixels = PixelClassifier(**SEEN)
    first, again = pixels.pixel_codes(X, y), clone(pixels).pixel_codes(X, y)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    other = clone(pixels).set_params(random_state=1).pixel_codes(X, y)[0]
    assert not np.array_equal(first[0], other)
    few = clone(pixels).set_params(pixels_per_image=1).pixel_codes(X, y)[2]
    assert np.bincount(few).tolist() == [3] * 6, "each class is seen"


@pytest.mark.parametrize("turned", [6, 3])
def test_images_and_masks_are_upright(turned, scenes, tmp_path):
    X, y = scenes
    exif = Image.Exif()
    exif[274] = turned
    files = []
    for number, image in enumerate(X):
        stored = np.rot90(image, 1) if turned == 6 else np.rot90(image, 2)
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(stored).save(files[-1], exif=exif)
    pixels = PixelClassifier(**SEEN).fit(X, y)
    again = PixelClassifier(**SEEN).fit(files, y)
    np.testing.assert_array_equal(again.predict(files), pixels.predict(X))


def test_frames_of_files(scenes, tmp_path):
    pd = pytest.importorskip("pandas")
    X, y = scenes
    frame = pd.DataFrame({
        "image": [str(tmp_path / f"{i}.png") for i in range(6)],
        "mask": [str(tmp_path / f"{i}_mask.png") for i in range(6)],
    })  # fmt: skip
    for i, (image, mask) in enumerate(zip(X, y, strict=True)):
        Image.fromarray(image).save(frame["image"][i])
        Image.fromarray(mask).save(frame["mask"][i])
    pixels = PixelClassifier(**SEEN).fit(frame[["image"]], frame["mask"])
    assert pixels.feature_names_in_.tolist() == ["image"]
    expected = PixelClassifier(**SEEN).fit(X, y).predict(X)
    np.testing.assert_array_equal(pixels.predict(frame[["image"]]), expected)


def test_what_cannot_be_read_is_named_and_the_estimator_stays_as_it_was(scenes, tmp_path):
    X, y = scenes
    pixels = PixelClassifier(**SEEN).fit(X, y)
    before = dict(vars(pixels))
    (tmp_path / "b.png").write_bytes(b"no image")
    files = [*map(Image.fromarray, X[:2]), tmp_path / "b.png"]
    with pytest.raises(ImageError, match=r"image 2 \(.*b.png\)"):
        pixels.fit(files, y[:3])
    with pytest.raises(ImageError, match=r"image 2 \(.*b.png\)"):
        pixels.predict(files)
    with pytest.raises(InputError, match=r"mask 2 of y \(.*b.png\)"):
        pixels.fit(X[:3], [*y[:2], tmp_path / "b.png"])
    with pytest.raises(InputError, match=r"mask 1 of y .* transposed"):
        pixels.fit(X[:2], [y[0], y[1].T])
    with pytest.raises(InputError, match=r"mask 1 of y .* transposed"):
        pixels.score(X[:2], [y[0], y[1].T])
    whole = Path(tmp_path / "c.jpg")
    Image.fromarray(X[2]).save(whole)
    whole.write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(ImageError, match=r"image 2 \(.*c.jpg\)"):
        pixels.predict([*X[:2], whole])
    assert vars(pixels) == before


@pytest.mark.parametrize(
    ("change", "params", "says"),
    [
        (lambda y: y * 0, {}, r"two labels, got only \[0\]"),
        (lambda y: y * 0, {"unlabeled": 0}, "two labels besides unlabeled=0, got none"),
        (lambda y: y[:3], {}, "for each of 6 images, got 3"),
        (lambda y: y[:, 0, 0], {}, "y must be"),
        (lambda y: y, {"estimator": LinearRegression()}, "must be a classifier"),
        (lambda y: y, {"texture": lambda image: image[:5]}, r"texture must give .*image 0"),
        (lambda y: y, {"texture": lambda image: image * np.nan}, "finite"),
        (lambda y: y, {"layers": ["layer4", "avgpool"]}, "no map|give a map"),
        (lambda y: y, {"layers": "nothing"}, "nothing"),
        (lambda y: y, {"resize": "crop"}, "resize"),
        (lambda y: y, {"pixels_per_image": 0}, "pixels_per_image"),
        (lambda y: y, {"estimator": 3}, "estimator"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, params, says, scenes):
    X, y = scenes
    pixels = PixelClassifier(**SEEN).set_params(**params)
    with pytest.raises(ValueError, match=says):
        pixels.fit(X, change(y))
    assert not hasattr(pixels, "backbone_")


def test_a_label_that_the_network_cannot_see_is_told_of(scenes):
    X, y = scenes
    y = y.copy()
    y[0, 0, 0] = 9
    with pytest.warns(SktransferWarning, match=r"\[9\] are so few .* larger image_size"):
        pixels = PixelClassifier(**SMALL, image_size=(16, 16)).fit(X, y)
    assert pixels.classes_.tolist() == [0, 7, 255]
    assert PixelClassifier(**SMALL, image_size=SIZE).fit(X, y).classes_.tolist() == [0, 7, 9, 255]


def test_pickles_are_small_and_say_the_same(scenes):
    X, y = scenes
    pixels = PixelClassifier(image_size=64, random_state=0).fit(X, y)
    data = pickle.dumps(pixels)
    assert len(data) < 100_000
    np.testing.assert_array_equal(pickle.loads(data).predict(X), pixels.predict(X))
    again = clone(pickle.loads(data)).fit(X, y)
    np.testing.assert_array_equal(again.predict(X), pixels.predict(X))
    whole = pickle.dumps(pixels.set_params(bundle_weights=True))
    assert len(whole) > 10_000_000


def test_parameters_that_are_set_later_change_no_answer(scenes):
    X, y = scenes
    pixels = PixelClassifier(**SEEN, texture=True).fit(X, y)
    before = pixels.predict(X)
    pixels.set_params(texture=False, layers=["layer1"], image_size=32, estimator=SVC())
    np.testing.assert_array_equal(pixels.predict(X), before)
    assert pixels.layers_ == ["layer1", "layer2", "layer3", "layer4"]


def test_probabilities_are_there_where_the_classifier_gives_them():
    assert hasattr(PixelClassifier(), "predict_proba")
    assert hasattr(PixelClassifier(KNeighborsClassifier()), "predict_proba")
    assert not hasattr(PixelClassifier(LinearSVC()), "predict_proba")
    assert hasattr(PixelClassifier(LinearSVC()), "decision_function")
    assert not hasattr(PixelClassifier(RandomForestClassifier()), "decision_function")


def test_thresholds_of_classifiers_are_kept(scenes):
    """Where the likelier class is not what is predicted, what is predicted counts."""
    X, y = scenes
    strict = FixedThresholdClassifier(LogisticRegression(max_iter=50), threshold=0.9)
    pixels = PixelClassifier(strict, **SMALL, image_size=SIZE).fit(X, y > 0)
    shares = pixels.predict_proba(X)[..., 1]
    near = np.abs(shares - 0.9) < 1e-3
    np.testing.assert_array_equal((shares > 0.9)[~near], pixels.predict(X)[~near])


def test_texture_stands_beside_the_codes(scenes):
    X, y = scenes
    plain = PixelClassifier(**SMALL, image_size=SIZE)
    codes, labels, _ = plain.pixel_codes(X, y)
    for texture, n in ((True, 27), (lambda image: image[..., :2], 2)):
        both, same, _ = clone(plain).set_params(texture=texture).pixel_codes(X, y)
        np.testing.assert_array_equal(both[:, : codes.shape[1]], codes)
        np.testing.assert_array_equal(labels, same)
        assert both.shape[1] == codes.shape[1] + n
    # Bars are no part of an image: no edge is found where they begin.
    sizes = []

    def seen(image):
        sizes.append(image.shape)
        return image / 255

    wide = PixelClassifier(**SMALL, image_size=70, texture=seen).fit(X, y)
    assert set(sizes) == {(50, 70, 3)}
    assert wide.predict(X).shape == y.shape


def test_texture_gives_as_many_features_of_every_image(scenes):
    X, y = scenes

    def unsteady(image):
        return image[..., : 1 + (image.mean() > limit)]

    limit = X[2].mean() - 1e-3
    where = [i for i in range(6) if X[i].mean() <= limit]
    bright = [i for i in range(6) if i not in where]
    pixels = PixelClassifier(**SMALL, image_size=SIZE, texture=unsteady)
    with pytest.raises(InputError, match=r"as many features .* image 1 it gives 1, of others 2"):
        pixels.fit(X[[bright[0], where[0]]], y[[bright[0], where[0]]])
    pixels.fit(X[bright], y[bright])
    with pytest.raises(InputError, match=r"as many features .* image 0 it gives 1, of others 2"):
        pixels.predict(X[where])


def test_texture_is_what_it_says():
    """Of a ramp the gradient is its slope; of a bright line across it one curvature is not 0."""
    ramp = np.broadcast_to(np.arange(0, 240, 4, dtype=np.uint8), (60, 60))[..., None].repeat(3, 2)
    found = texture_of(ramp)[20:40, 20:40]
    scales = (1, 2, 4)
    for number, scale in enumerate(scales):
        smooth, edge, ridges = np.split(found[..., 3 + 6 * number : 9 + 6 * number], [3, 4], axis=2)
        np.testing.assert_allclose(smooth, ramp[20:40, 20:40] / 255, atol=1e-4)
        np.testing.assert_allclose(edge, scale * 4 / 255, atol=1e-4)
        np.testing.assert_allclose(ridges, 0, atol=1e-3)
    line = np.zeros((61, 61, 3), np.uint8)
    line[30] = 255
    largest, smallest = texture_of(line)[30, 30, 3 + 12 + 4 : 3 + 12 + 6]  # of the scale 4
    assert largest == pytest.approx(0, abs=1e-6)
    # The second derivative of a Gaussian of that scale in the middle is -1 / (scale³ √2π).
    assert smallest == pytest.approx(-1 / (4 * np.sqrt(2 * np.pi)), rel=0.1)
    assert texture_of(line[:1, :1]).shape == (1, 1, 27)


def test_memory_holds_a_few_maps_at_a_time(scenes, monkeypatch):
    X, y = scenes
    pixels = PixelClassifier(RandomForestClassifier(5, random_state=0), **SEEN, texture=True)
    expected = pixels.fit(X, y).predict(X)
    monkeypatch.setattr(_pixels, "_CHUNK_BYTES", 1)
    monkeypatch.setattr(_pixels, "_CHUNK_ROWS", 100)
    monkeypatch.setattr(_pixels, "_AHEAD", 1)
    again = clone(pixels).set_params(cache=None, n_jobs=1).fit(X, y)
    np.testing.assert_array_equal(again.predict(X), expected)


def test_vision_transformers_give_maps_as_well(scenes):
    X, y = scenes
    vit = PixelClassifier(**SMALL | {"backbone": "timm:vit_tiny_patch16_224"}, image_size=64)
    vit.fit(X, y)
    assert vit.layers_ == ["blocks.2", "blocks.5", "blocks.8", "blocks"]
    assert vit.predict(X).shape == y.shape
    codes, _, _ = vit.pixel_codes(X, y)
    assert codes.shape[1] == 4 * 192
    one = clone(vit).set_params(layers="blocks.3").fit(X, y)
    assert one.predict(X).shape == y.shape and len(one.layers_) == 1


def test_layers_are_named_or_numbered(scenes):
    X, y = scenes
    two = PixelClassifier(**SEEN, layers=["layer1", "layer3"]).fit(X, y)
    assert two.layers_ == ["layer1", "layer3"]
    assert two.estimator_[-1].coef_.shape == (3, 64 + 256)


def test_engines_agree(scenes):
    pytest.importorskip("openvino")
    X, y = scenes
    by_torch, by_openvino = (
        PixelClassifier(**SEEN | {"engine": one}).fit(X[:4], y[:4]) for one in ("torch", "openvino")
    )
    shares = by_torch.predict_proba(X)
    np.testing.assert_allclose(shares, by_openvino.predict_proba(X), atol=0.02)


def test_what_predicts_values_is_refused_before_a_network_is_asked(scenes):
    X, y = scenes
    with count_computed() as count, pytest.raises(InputError, match="a classifier, got Ridge"):
        PixelClassifier(Ridge(), image_size=64, cache=None).fit(X[:2], y[:2])
    assert count.n_items == 0


def test_parameters_of_no_classifier_are_refused_with_a_way(scenes):
    with pytest.raises(InputError, match=r"estimator__C needs .* estimator__logisticregression__C"):
        PixelClassifier().set_params(estimator__C=1.0)
    pixels = PixelClassifier().set_params(estimator=LogisticRegression(), estimator__C=2.0)
    assert pixels.estimator.C == 2.0


def test_labels_that_were_not_there_in_fit_are_told(scenes):
    X, y = scenes
    pixels = PixelClassifier(image_size=64, random_state=0).fit(X[:3], y[:3])
    with pytest.warns(SktransferWarning, match=r"none of the labels .* \[0, 7, 255\], but"):
        assert pixels.score(X[3:], [one.astype(int) + 1000 for one in y[3:]]) == 0
