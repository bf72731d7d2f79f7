"""FineTuneDetector: finds what was planted, and is an estimator like the others."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, cross_val_score, learning_curve
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes

from sktransfer import FineTuneDetector
from sktransfer.exceptions import InputError, SktransferWarning
from sktransfer.finetune._augment import Geometry
from sktransfer.finetune._boxes import BoxTarget, ObjectBoxes
from sktransfer.finetune._net import _Steps
from sktransfer.finetune._rows import rows_of
from sktransfer.inputs import as_images
from sktransfer.metrics import ap50_scorer, average_precision_boxes
from sktransfer.networks import dense_preparation, load_backbone

SQUARE, BAR = "square", "bar"


def scenes(n, size=(64, 96), seed=0, empty=()):
    """Noise with a bright square and a red bar each, and where these are."""
    random = np.random.default_rng(seed)
    X = random.integers(0, 90, (n, *size, 3)).astype(np.uint8)
    y = []
    for number, image in enumerate(X):
        if number in empty:
            y.append([])
            continue
        x1, y1 = (int(random.integers(0, side - 24)) for side in (size[1] // 2, size[0]))
        image[y1 : y1 + 24, x1 : x1 + 24] = 250
        left, top = size[1] - 16, int(random.integers(0, size[0] - 36))
        image[top : top + 36, left : left + 12] = (220, 30, 30)
        boxes = [[x1, y1, x1 + 24, y1 + 24], [left, top, left + 12, top + 36]]
        y.append({"boxes": boxes, "labels": [SQUARE, BAR]})
    return X, y


def made(**others):
    given = {"image_size": (64, 96), "max_epochs": 16, "lr": 4e-3, "engine": "torch"}
    return FineTuneDetector(**{**given, "random_state": 0, **others})


@pytest.fixture(scope="module")
def data():
    return scenes(12, empty=(3,))


@pytest.fixture(scope="module")
def fitted(data):
    return made().fit(*data)


def best(found, label):
    own = found["labels"] == label
    return found["boxes"][own][0], found["scores"][own][0]


def test_planted_objects_are_found(fitted):
    X, y = scenes(6, seed=1)
    found = fitted.predict(X)
    assert found.dtype == object and found.shape == (6,)
    for one, truth in zip(found, y, strict=True):
        assert sorted(one) == ["boxes", "labels", "scores"]
        assert one["boxes"].dtype == one["scores"].dtype == np.float32
        assert (np.diff(one["scores"]) <= 0).all() and (one["scores"] >= 0.05).all()
        for box, label in zip(truth["boxes"], truth["labels"], strict=True):
            np.testing.assert_allclose(best(one, label)[0], box, atol=5)
    assert fitted.score(X, y) == average_precision_boxes(y, found) > 0.9
    assert ap50_scorer(fitted, X, y) == fitted.score(X, y)


def test_an_image_without_boxes_counts(fitted, data):
    X, y = scenes(4, seed=2, empty=(0, 1))
    found = fitted.predict(X)
    assert max(one["scores"].max(initial=0) for one in found[:2]) < 0.5 < best(found[2], BAR)[1]
    assert 0.9 < fitted.score(X, y) <= 1.0


def test_it_is_an_estimator(fitted, data):
    assert fitted.classes_.tolist() == [BAR, SQUARE]
    assert not is_classifier(fitted)
    assert clone(fitted).get_params() == fitted.get_params()
    assert fitted.image_size_ == (64, 96)
    assert fitted.transform(data[0][:2]).shape == (2, len(fitted.get_feature_names_out()))
    assert [one.learns for one in fitted.layers_][-1] and fitted.n_iter_ == 16


def test_a_pickle_is_small_and_says_the_same(fitted, data):
    bytes_ = pickle.dumps(fitted)
    assert len(bytes_) < 4e6
    for one, other in zip(
        pickle.loads(bytes_).predict(data[0][:3]), fitted.predict(data[0][:3]), strict=True
    ):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_answers_have_the_pixels_of_each_image(fitted):
    """Larger, smaller and turned images, with bars or not."""
    X, _ = scenes(1, seed=3)
    one = fitted.predict(X)[0]
    large = np.asarray(Image.fromarray(X[0]).resize((192, 128), Image.Resampling.NEAREST))
    wide = np.zeros((64, 200, 3), np.uint8)
    wide[:, 50:146] = X[0]
    found = fitted.predict([large, wide])
    np.testing.assert_allclose(best(found[0], SQUARE)[0] / 2, best(one, SQUARE)[0], atol=3)
    assert (found[1]["boxes"] >= 0).all()
    assert (found[1]["boxes"] <= [200, 64, 200, 64]).all()


def test_boxes_are_meant_upright(fitted, tmp_path):
    """A file that says that it is turned is what it is as an upright array."""
    X, y = scenes(1, seed=4)
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees to the right
    Image.fromarray(np.rot90(X[0])).save(file, "PNG", exif=exif)
    from_file, upright = fitted.predict([file.getvalue(), X[0]])
    for name in upright:
        np.testing.assert_array_equal(from_file[name], upright[name])
    lying = made(max_epochs=1).fit([file.getvalue()], y)
    standing = made(max_epochs=1).fit(X, y)
    assert lying.history_[0]["train_loss"] == standing.history_[0]["train_loss"]


def test_thresholds_hold(fitted, data):
    X = data[0][:4]
    some = clone(fitted)
    some.__dict__.update({k: v for k, v in vars(fitted).items() if k not in some.get_params()})
    some.set_params(score_threshold=0.3)
    assert all((one["scores"] > 0.3).all() for one in some.predict(X))
    some.set_params(score_threshold=0.0, max_detections=5)
    assert all(len(one["scores"]) == 5 for one in some.predict(X))
    assert best(some.predict(X)[0], BAR)[1] == best(fitted.predict(X)[0], BAR)[1]


@pytest.mark.parametrize("kind", ["arrays", "tensors", "tv_tensors", "series"])
def test_boxes_in_any_form_give_the_same(data, kind):
    X, y = data[0][:3], data[1][:3]
    plain = made(max_epochs=1).fit(X, y)
    if kind == "arrays":
        other = [{k: np.array(v) for k, v in one.items()} for one in y]
    elif kind == "series":
        other = pytest.importorskip("pandas").Series(y, index=[5, 1, 2])
    else:
        other = []
        for one in y:
            boxes = torch.tensor(one["boxes"], dtype=torch.float32)
            if kind == "tv_tensors":
                boxes = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
                boxes = BoundingBoxes(boxes, format="XYWH", canvas_size=(64, 96))
            other.append({"boxes": boxes, "labels": one["labels"]})
    again = made(max_epochs=1).fit(X, other)
    assert again.history_[0]["train_loss"] == plain.history_[0]["train_loss"]


def test_one_class_needs_no_labels(data):
    X, y = data
    boxes = [one["boxes"][:1] if one else [] for one in y]
    detector = made().fit(X, boxes)
    assert detector.classes_.tolist() == [0]
    assert detector.score(X, boxes) > 0.9
    found = detector.predict(X[:1])[0]
    assert found["labels"][0] == 0


def test_what_is_wrong_is_said_before_the_first_epoch(data):
    X, y = data
    with pytest.raises(InputError, match="at least one box, got 2 images without any"):
        made().fit(X[:2], [[], []])
    with pytest.raises(InputError, match=r"box 0 of y\[1\].*96×64"):
        made().fit(X[:2], [[[0, 0, 5, 5]], [[70, 3, 100, 20]]])
    with pytest.raises(InputError, match=r"for each of 2 images.*got 3"):
        made().fit(X[:2], y[:3])
    detector = made(max_epochs=0).fit(X, y)
    with pytest.raises(InputError, match="'star', which is none of the classes"):
        detector.partial_fit(X[:1], [{"boxes": [[0, 0, 9, 9]], "labels": ["star"]}])
    with pytest.raises(InputError, match="none of the classes"):
        made().fit(X, y, validation_data=(X[:1], [{"boxes": [[0, 0, 9, 9]], "labels": ["star"]}]))


def test_partial_fit_and_warm_start_continue(data):
    X, y = data
    detector = made(max_epochs=2).partial_fit(X[:6], y[:6], classes=[SQUARE, BAR, "star"])
    assert detector.classes_.tolist() == [BAR, SQUARE, "star"]
    detector.partial_fit(X[6:], y[6:])
    assert detector.n_iter_ == 2
    detector.set_params(warm_start=True).fit(X, y)
    assert detector.n_iter_ == 4
    losses = detector.history_[:, "train_loss"]
    assert losses[-1] < losses[0]


def test_augmented_boxes_move_with_the_image():
    """By counting pixels: what is bright is what the box holds."""
    corners, numbers = np.array([[4.0, 6, 14, 26], [30, 0, 40, 8]]), np.array([1, 0])
    target = BoxTarget(corners, numbers, 3)
    picture = np.zeros((40, 50), np.uint8)
    picture[6:26, 4:14] = 255
    mirrored = Geometry(True, 50, 5, 3, 40, 30)
    moved = target.moved(mirrored)
    seen = np.asarray(mirrored(Image.fromarray(picture)))
    rows, columns = np.nonzero(seen)
    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert moved.corners[0].tolist() == expected and moved.numbers.tolist() == [1, 0]
    gone = target.moved(Geometry(False, 50, 0, 6, 50, 30))
    np.testing.assert_array_equal(gone.corners, [[4, 0, 14, 20], [30, 0, 40, 2]])
    assert len(target.moved(Geometry(False, 50, 0, 7, 50, 30)).corners) == 1  # an eighth is left
    given = target.for_transform(40, 50)
    turned = v2.RandomHorizontalFlip(1.0)(given)
    back = target.from_transform(turned, 40, 50)
    np.testing.assert_array_equal(back.corners, [[36, 6, 46, 26], [10, 0, 20, 8]])
    with pytest.raises(ValueError, match='a dict of "boxes"'):
        target.from_transform(given["boxes"], 40, 50)


def test_the_loss_of_an_image_is_its_own(data):
    """It does not hang on what else is in the batch; the mean is torchvision's but for a factor."""
    X, y = data
    detector = made(max_epochs=0).fit(X, y)
    task, model = detector._fitted.task, detector._load_model()
    prefix = detector._frozen_pass(detector._fitted, ["cpu"])
    x = rows_of(as_images(X), prefix, np.float32).take(np.arange(len(X)))
    target = torch.from_numpy(task.encode(y, as_images(X)))
    with torch.no_grad():
        out = model.module(x)
        together = task.losses(out, target)
        alone = torch.cat([task.losses(out[i : i + 1], target[i : i + 1]) for i in range(len(X))])
    torch.testing.assert_close(together, alone)
    assert 0 < float(together.mean()) < task.guess() and together[3] < 0.1


def test_small_objects_take_a_finer_level():
    backbone = load_backbone("efficientnet_lite0")
    X = np.zeros((2, 64, 64, 3), np.uint8)
    images = as_images(X)
    preparation = dense_preparation(backbone, images, image_size=64)
    for side, finest in ((10, 4), (24, 8)):
        y = [[[5, 5, 5 + side, 5 + side]], []]
        assert ObjectBoxes.of(y, images, preparation, None, "y")[0].finest == finest
    detector = made(max_epochs=0).fit(X, [[[5, 5, 15, 15]], []])
    assert detector._load_model().taps[0].name == "blocks.1"
    detector = made(max_epochs=0, layers=["blocks.2", "blocks"]).fit(X, [[[5, 5, 15, 15]], []])
    assert [one.name for one in detector._load_model().taps] == ["blocks.2", "blocks"]


def test_early_stopping_has_each_class_on_both_sides(data):
    X, y = data
    task = made(max_epochs=0).fit(X, y)._fitted.task
    labels = [BAR if i in (2, 7) else SQUARE for i in range(12)]
    rare = [{"boxes": [[0, 0, 9, 9]], "labels": [one]} for one in labels]
    for seed in range(5):
        sides = task.split(task.encode(rare, as_images(X)), None, 0.25, seed)
        assert all(len({2, 7} & set(side)) == 1 for side in sides)


@pytest.mark.slow
@pytest.mark.parametrize("trainable", [1, "all"])
def test_stages_are_trained_too(data, trainable):
    detector = made(trainable=trainable, max_epochs=12).fit(*data)
    X, y = scenes(4, seed=5)
    assert detector.score(X, y) > 0.8
    trained = [one.learns for one in detector.layers_]
    assert all(trained) if trainable == "all" else trained[-2:] == [True, True] and not trained[0]
    assert pickle.loads(pickle.dumps(detector)).score(X, y) == detector.score(X, y)


@pytest.mark.slow
@pytest.mark.parametrize("augment", ["light", "auto", v2.RandomHorizontalFlip()])
def test_it_learns_from_images_that_are_changed(data, augment):
    detector = made(augment=augment).fit(*data)
    assert detector.augment_views_ == 4
    X, y = scenes(4, seed=5)
    assert detector.score(X, y) > 0.8


@pytest.mark.slow
def test_searches_need_no_wrapper(data):
    X, y = data
    quick = made(max_epochs=8)
    assert cross_val_score(quick, X, y, cv=2).shape == (2,)
    search = GridSearchCV(quick, {"lr": [1e-5, 3e-3]}, cv=2, scoring=ap50_scorer).fit(list(X), y)
    assert search.best_params_ == {"lr": 3e-3}
    _, _, scores = learning_curve(quick, X, y, cv=2, train_sizes=[0.5, 1.0])
    assert scores.shape == (2, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "timm:vit_tiny_patch16_224"])
def test_any_network_with_maps_will_do(data, name):
    X, y = data
    detector = made(backbone=name, weights=None, image_size=(96, 112), max_epochs=2).fit(X, y)
    assert len(detector.predict(X)) == 12


@pytest.mark.slow
def test_a_fit_that_was_killed_resumes(data, tmp_path, monkeypatch):
    plain, left = _Steps.train_step_single, [7]

    def step(self, batch, **others):
        left[0] -= 1
        if left[0] < 0:
            raise MemoryError
        return plain(self, batch, **others)

    X, y = data
    whole = made(max_epochs=3).fit(X, y)
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(_Steps, "train_step_single", step)
        made(max_epochs=3, checkpoint_dir=tmp_path).fit(X, y)
    assert list(tmp_path.glob("*.pt"))
    again = made(max_epochs=3, checkpoint_dir=tmp_path).fit(X, y)
    assert again.history_[:, "train_loss"] == whole.history_[:, "train_loss"]


def test_scores_name_what_is_wrong_with_y(fitted, data):
    X, y = data
    with pytest.raises(InputError, match=r"^y must hold an entry for each of 4 images.*, got 3"):
        fitted.score(X[:4], y[:3])
    with pytest.warns(SktransferWarning, match="none of the labels of fit"):
        assert fitted.score(X[:1], [{"boxes": [[0, 0, 9, 9]], "labels": ["none"]}]) == 0


def test_objects_that_are_too_small_to_be_seen_are_told():
    X = np.zeros((2, 64, 64, 3), np.uint8)
    with pytest.warns(SktransferWarning, match="smaller than 5 pixels .* larger image_size"):
        made(max_epochs=1, image_size=32).fit(X, [[[0, 0, 10, 10]], [[20, 20, 30, 30]]])
