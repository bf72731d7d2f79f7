"""Scores of masks and boxes are those of the libraries of the field, and of plain loops."""

from __future__ import annotations

import io
import pickle
import time
from contextlib import redirect_stdout

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import jaccard_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import Pipeline

from sktransfer.exceptions import InputError
from sktransfer.metrics import (
    ap50_scorer,
    ap_coco_scorer,
    average_precision_boxes,
    mean_iou_score,
    mean_iou_scorer,
)

# Masks.


@pytest.fixture
def masks():
    """Masks of different sizes of classes 0, 7 and 255, and others that are mostly the same."""
    rng = np.random.default_rng(0)
    sizes = [(5, 8), (7, 4), (6, 6)]
    truth = [rng.choice([0, 7, 255], size).astype(np.uint8) for size in sizes]
    return truth, [
        np.where(rng.random(one.shape) < 0.6, one, rng.choice([0, 7, 255], one.shape))
        for one in truth
    ]


def pooled(masks):
    return np.concatenate([np.asarray(one).ravel() for one in masks])


@pytest.mark.parametrize("average", ["macro", "micro", "weighted", None])
def test_mean_iou_is_the_jaccard_score_of_all_pixels(masks, average):
    found = mean_iou_score(*masks, average=average)
    np.testing.assert_allclose(found, jaccard_score(*map(pooled, masks), average=average))


@pytest.mark.parametrize("labels", [[7], [255, 0], [7, 0, 255]])
def test_mean_iou_of_some_classes(masks, labels):
    found = mean_iou_score(*masks, labels=labels, average=None)
    expected = jaccard_score(*map(pooled, masks), labels=labels, average=None)
    np.testing.assert_allclose(found, expected)


def test_mean_iou_is_that_of_torchmetrics():
    metrics = pytest.importorskip("torchmetrics")
    rng = np.random.default_rng(1)
    truth, predicted = rng.integers(0, 4, (2, 6, 9, 11))
    other = metrics.JaccardIndex("multiclass", num_classes=4, average="none")
    expected = other(torch.from_numpy(predicted), torch.from_numpy(truth)).numpy()
    np.testing.assert_allclose(mean_iou_score(truth, predicted, average=None), expected, rtol=1e-6)


def test_weights_of_images_repeat_them(masks):
    truth, predicted = masks
    found = mean_iou_score(truth, predicted, sample_weight=[1, 2, 0])
    assert found == mean_iou_score([truth[i] for i in (0, 1, 1)], [predicted[i] for i in (0, 1, 1)])


def test_a_class_that_is_nowhere_is_left_out(masks):
    found = mean_iou_score(*masks, labels=[0, 7, 99, 255], average=None)
    assert np.isnan(found[2]) and np.isfinite(found[[0, 1, 3]]).all()
    assert mean_iou_score(*masks, labels=[0, 7, 99, 255]) == mean_iou_score(*masks)
    assert mean_iou_score([[[0, 0]]], [[[0, 0]]]) == 1, "no class 1 that would count as 0"


def test_a_class_that_is_in_the_prediction_alone_counts():
    assert mean_iou_score([[[0, 0]]], [[[0, 1]]]) == pytest.approx((0.5 + 0) / 2)


@pytest.mark.parametrize("form", ["value", "nan"])
def test_pixels_that_nobody_labelled_are_left_out(masks, form):
    truth, predicted = masks
    keep = pooled(truth) != 0
    expected = jaccard_score(
        pooled(truth)[keep], pooled(predicted)[keep], labels=[7, 255], average=None
    )
    if form == "nan":
        given, unlabeled = [np.where(one == 0, np.nan, one) for one in truth], None
    else:
        given, unlabeled = truth, 0
    found = mean_iou_score(given, predicted, unlabeled=unlabeled, labels=[7, 255], average=None)
    np.testing.assert_allclose(found, expected)


def test_all_forms_of_masks_give_one_score(masks, tmp_path):
    truth, predicted = masks
    files = []
    for number, one in enumerate(truth):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(one).save(files[-1])
    names = np.array(["sky", "road", "car"])
    words = [[names[np.searchsorted([0, 7, 255], m)] for m in side] for side in masks]
    expected = mean_iou_score(truth, predicted)
    for other in (
        mean_iou_score(files, predicted),
        mean_iou_score(pd.Series(truth, index=[5, 1, 2]), pd.DataFrame({"m": predicted})),
        mean_iou_score([torch.from_numpy(one) for one in truth], predicted),
        mean_iou_score(*words),
    ):
        assert other == pytest.approx(expected)


def test_whether_there_is_something_as_bools():
    truth = np.array([[[True, False], [False, False]]])
    assert mean_iou_score(truth, truth.astype(int)) == 1


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        (lambda t, p: (t, p[:2]), {}, "y_pred must hold a mask for each of 3 images, got 2"),
        (lambda t, p: (t, [one.T for one in p]), {}, "mask 0 of y_true has 5×8"),
        (lambda t, p: (t, [one.astype(str) for one in p]), {}, "one kind"),
        (lambda t, p: (t, p), {"labels": [1, 1]}, "different labels"),
        (lambda t, p: (t, p), {"sample_weight": [1, 2]}, "for each of 3 images"),
        (lambda t, p: (t, p), {"average": "samples"}, r'must be "macro", "micro", "weighted"'),
    ],
)
def test_masks_that_do_not_fit_are_named(masks, change, options, says):
    with pytest.raises(ValueError, match=says):
        mean_iou_score(*change(*masks), **options)


def test_without_a_labelled_pixel_there_is_no_score():
    with pytest.warns(UndefinedMetricWarning, match="no labelled pixel"):
        assert np.isnan(mean_iou_score([[[0, 0]]], [[[0, 0]]], unlabeled=0, labels=[1]))


# Boxes.


def scene(rng, n_images=12, n_classes=3, most=8, whole=True, scores=None):
    """Boxes with some that overlap, and predictions: some near, some anywhere, some missing."""
    truth, predicted = [], []
    for _ in range(n_images):
        k = rng.integers(0, most)
        corner = rng.uniform(0, 60, (k, 2))
        boxes = np.hstack([corner, corner + rng.uniform(3, 30, (k, 2))])
        labels = rng.integers(0, n_classes, k)
        repeat = rng.integers(0, max(k, 1), rng.integers(0, 2 * most) if k else 0)
        near = boxes[repeat] + rng.normal(0, 2, (len(repeat), 4))
        extra = rng.uniform(0, 60, (rng.integers(0, 3), 2))
        near = np.vstack([near, np.hstack([extra, extra + 9])])
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        own = np.append(labels[repeat], rng.integers(0, n_classes, len(extra)))
        own = np.where(rng.random(len(own)) < 0.85, own, rng.integers(0, n_classes, len(own)))
        points = rng.random(len(own)) if scores is None else rng.choice(scores, len(own))
        if whole:
            boxes, near = boxes.round(), near.round()
        truth.append({"boxes": boxes, "labels": labels})
        predicted.append({"boxes": near, "labels": own, "scores": points})
    return truth, predicted


def by_coco(truth, predicted, n_classes):
    """AP of each class at 0.5, and over all thresholds, by COCO's own code."""
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")

    def wide(boxes):
        return np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])

    annotations, results = [], []
    for image, one in enumerate(truth):
        for box, label in zip(wide(one["boxes"]), one["labels"], strict=True):
            annotations.append(
                {"id": len(annotations) + 1, "image_id": image, "category_id": int(label) + 1,
                 "bbox": box.tolist(), "area": box[2] * box[3], "iscrowd": 0}
            )  # fmt: skip
    for image, one in enumerate(predicted):
        for box, label, score in zip(
            wide(one["boxes"]), one["labels"], one["scores"], strict=True
        ):
            results.append({"image_id": image, "category_id": int(label) + 1,
                            "bbox": box.tolist(), "score": float(score)})  # fmt: skip
    with redirect_stdout(io.StringIO()):
        own = coco.COCO()
        own.dataset = {
            "images": [{"id": image} for image in range(len(truth))],
            "annotations": annotations,
            "categories": [{"id": k + 1} for k in range(n_classes)],
        }
        own.createIndex()
        judge = evaluation.COCOeval(own, own.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
    found = judge.eval["precision"][..., 0, 2].copy()  # thresholds, recalls, classes
    found[found == -1] = np.nan
    return found[0].mean(axis=0), found.mean(axis=(0, 1))


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("scores", [None, [0.25, 0.5, 0.75]])
@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_coco(seed, whole, scores):
    rng = np.random.default_rng(seed)
    truth, predicted = scene(rng, n_classes=4, whole=whole, scores=scores)
    of_one, of_all = by_coco(truth, predicted, 4)
    options = {"labels": range(4), "average": None}
    np.testing.assert_allclose(average_precision_boxes(truth, predicted, **options), of_one)
    found = average_precision_boxes(truth, predicted, iou="coco", **options)
    np.testing.assert_allclose(found, of_all)


def test_average_precision_of_crowds_is_that_of_coco():
    """More than a hundred predictions of a class in an image, most of them for few boxes."""
    rng = np.random.default_rng(0)
    truth, predicted = scene(rng, n_images=3, n_classes=2, most=180, whole=True)
    of_one, of_all = by_coco(truth, predicted, 2)
    assert max(len(one["boxes"]) for one in predicted) > 200
    found = average_precision_boxes(truth, predicted, average=None)
    np.testing.assert_allclose(found, of_one)
    found = average_precision_boxes(truth, predicted, average=None, iou="coco")
    np.testing.assert_allclose(found, of_all)


def test_overlaps_at_a_threshold_and_ties_are_those_of_coco():
    truth = [{"boxes": np.array([[0, 0, 10, 10], [0, 0, 10, 10], [20, 0, 30, 10.0]]),
              "labels": np.zeros(3, int)}]  # fmt: skip
    predicted = [
        {
            # exactly 0.5 of two boxes that are the same; again; 0.75; without area; exactly a box
            "boxes": np.array([[0, 0, 5, 10], [0, 5, 10, 10], [20, 0, 27.5, 10], [20, 0, 20, 10],
                               [20, 0, 30, 10.0]]),
            "labels": np.zeros(5, int),
            "scores": np.array([0.9, 0.9, 0.8, 0.7, 0.6]),
        }
    ]  # fmt: skip
    of_one, of_all = by_coco(truth, predicted, 1)
    assert average_precision_boxes(truth, predicted) == pytest.approx(of_one[0])
    assert average_precision_boxes(truth, predicted, iou="coco") == pytest.approx(of_all[0])
    assert of_one[0] == pytest.approx(1)


def test_average_precision_is_that_of_torchmetrics():
    detection = pytest.importorskip("torchmetrics.detection")
    truth, predicted = scene(np.random.default_rng(7), whole=False)
    as_tensors = [
        [{key: torch.from_numpy(np.asarray(value)) for key, value in one.items()} for one in side]
        for side in (truth, predicted)
    ]
    for one in as_tensors[1]:
        one["scores"], one["boxes"] = one["scores"].float(), one["boxes"].float()
    for one in as_tensors[0]:
        one["boxes"] = one["boxes"].float()
    other = detection.MeanAveragePrecision(class_metrics=True)
    other.update(as_tensors[1], as_tensors[0])
    expected = other.compute()
    assert average_precision_boxes(*as_tensors) == pytest.approx(float(expected["map_50"]))
    found = average_precision_boxes(*as_tensors, iou="coco", average=None)
    np.testing.assert_allclose(found, expected["map_per_class"].numpy(), rtol=1e-5)


def by_loops(truth, predicted, label, iou):
    """Average precision of one class, as the page of COCO tells it."""
    rows = [(-score, image, place)
            for image, one in enumerate(predicted)
            for place, (own, score) in enumerate(zip(one["labels"], one["scores"], strict=True))
            if own == label]  # fmt: skip
    taken, hits = set(), []
    for _, image, place in sorted(rows):
        box, best, at = predicted[image]["boxes"][place], iou, None
        for other, (theirs, own) in enumerate(
            zip(truth[image]["boxes"], truth[image]["labels"], strict=True)
        ):
            wide = min(box[2], theirs[2]) - max(box[0], theirs[0])
            high = min(box[3], theirs[3]) - max(box[1], theirs[1])
            both = max(wide, 0) * max(high, 0)
            areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, theirs)]
            covered = both / (sum(areas) - both)
            if own == label and (image, other) not in taken and covered >= best:
                best, at = covered, (image, other)
        hits.append(at is not None)
        taken |= {at}
    n = sum(int((one["labels"] == label).sum()) for one in truth)
    points = [(sum(hits[: k + 1]) / n, sum(hits[: k + 1]) / (k + 1)) for k in range(len(hits))]
    at = np.linspace(0, 1, 101)
    return float(np.mean([max([p for r, p in points if r >= one], default=0) for one in at]))


@pytest.mark.parametrize("iou", [0.3, 0.5, 0.8])
def test_average_precision_is_that_of_plain_loops(iou):
    truth, predicted = scene(np.random.default_rng(3), n_classes=2)
    expected = [by_loops(truth, predicted, label, iou) for label in range(2)]
    found = average_precision_boxes(truth, predicted, iou=iou, average=None)
    np.testing.assert_allclose(found, expected)
    assert average_precision_boxes(truth, predicted, iou=iou) == pytest.approx(np.mean(expected))


def test_what_is_predicted_on_an_empty_image_is_wrong():
    truth = [np.array([[0, 0, 10, 10]]), []]
    right = {"boxes": [[0, 0, 10, 10]], "scores": [0.5]}
    assert average_precision_boxes(truth, [right, []]) == 1
    wrong = {"boxes": [[0, 0, 5, 5]], "scores": [0.9]}
    assert average_precision_boxes(truth, [right, wrong]) == pytest.approx(0.5)


def test_a_class_without_boxes_has_no_average_precision():
    truth = [{"boxes": [[0, 0, 9, 9]], "labels": ["cell"]}]
    found = [{"boxes": [[0, 0, 9, 9], [0, 0, 5, 5]], "labels": ["cell", "other"], "scores": [1, 1]}]
    np.testing.assert_array_equal(average_precision_boxes(truth, found, average=None), [1, np.nan])
    assert average_precision_boxes(truth, found) == 1
    with pytest.warns(UndefinedMetricWarning, match="no box of any class"):
        assert np.isnan(average_precision_boxes([[]], found))
    with pytest.warns(UndefinedMetricWarning):
        assert np.isnan(average_precision_boxes([[]], [[]]))
    assert average_precision_boxes(truth, [[]]) == 0
    far = [{"boxes": [[20, 20, 30, 30]], "labels": ["cell"], "scores": [1]}]
    assert average_precision_boxes(truth, far) == 0


def test_labels_of_any_kind_give_one_score():
    truth, predicted = scene(np.random.default_rng(5))
    expected = average_precision_boxes(truth, predicted, average=None)
    for names in (["a", "b", "c"], [3, 70, 255], [-1, 0, 4]):
        own = [[{**one, "labels": np.array(names)[one["labels"]]} for one in side]
               for side in (truth, predicted)]  # fmt: skip
        found = average_precision_boxes(*own, average=None)
        np.testing.assert_array_equal(found, expected)
        found = average_precision_boxes(*own, average=None, labels=names[::-1])
        np.testing.assert_array_equal(found, expected[::-1])


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        (lambda t, p: (t, p[:2]), {}, "each of 12 images"),
        (lambda t, p: (t, t), {}, r'must hold "scores" .* box 0 of y_pred\['),
        (lambda t, p: (t, [{**one, "labels": one["labels"].astype(str)} for one in p]), {},
         "one kind"),
        (lambda t, p: (t, p), {"iou": 1.5}, r'must be "coco" or a number in \(0, 1\]'),
        (lambda t, p: (t, p), {"iou": "voc"}, 'must be "coco"'),
        (lambda t, p: (t, p), {"iou": None}, 'must be "coco"'),
        (lambda t, p: (t, p), {"average": "micro"}, r'must be "macro" or None'),
        (lambda t, p: ([{**one, "boxes": one["boxes"][:, [2, 3, 0, 1]]} for one in t], p), {},
         "x1 <= x2 .* box 0 of y_true"),
    ],
)  # fmt: skip
def test_boxes_that_do_not_fit_are_named(change, options, says):
    with pytest.raises(ValueError, match=says):
        average_precision_boxes(*change(*scene(np.random.default_rng(0))), **options)


def test_a_thousand_images_are_scored_in_a_moment():
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 400, (1000, 50, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(10, 60, corner.shape)], axis=2)
    near = boxes + rng.normal(0, 1.5, (1000, 50, 1))
    found = [{"boxes": one, "scores": rng.random(50)} for one in near]
    begin = time.process_time()
    assert 0.2 < average_precision_boxes(list(boxes), found, iou="coco") < 0.9
    assert time.process_time() - begin < 5, "0.5 s where nothing else runs"


# Scorers.


class Memory(BaseEstimator):
    """Answers what it was fitted on, as far as it knows; no classifier."""

    def __init__(self, shift=0):
        self.shift = shift

    def fit(self, X, y):
        self.answers_ = {int(x): one for x, one in zip(X, y, strict=True)}
        return self

    def predict(self, X):
        return [self.answer(self.answers_.get(int(x))) for x in X]


class MaskMemory(Memory):
    def answer(self, known):
        return np.full((2, 2), 9) if known is None else known + self.shift


class BoxMemory(Memory):
    def answer(self, known):
        if known is None:
            return []
        return {"boxes": known["boxes"] + self.shift, "labels": known["labels"],
                "scores": np.ones(len(known["labels"]))}  # fmt: skip


def test_scorers_work_in_scikit_learn_and_in_a_pickle():
    X = np.arange(6)
    masks = list(np.arange(24).reshape(6, 2, 2) % 2)
    for model, y, scorer in [
        (MaskMemory(), masks, mean_iou_scorer),
        (BoxMemory(), [{"boxes": [[0, 0, 9, 9]], "labels": [i % 2]} for i in X], ap50_scorer),
        (BoxMemory(), [{"boxes": [[0, 0, 9, 9]], "labels": ["a"]}] * 6, ap_coco_scorer),
    ]:
        if isinstance(model, BoxMemory):
            y = [{**one, "boxes": np.array(one["boxes"])} for one in y]
        scorer = pickle.loads(pickle.dumps(scorer))
        assert scorer(model.fit(X, y), X, y) == 1
        scores = cross_val_score(model, X, y, scoring=scorer, cv=KFold(3), error_score="raise")
        np.testing.assert_array_equal(scores, 0)  # folds it does not know
        every = [(np.arange(6), np.arange(6))]
        grid = {"shift": [9, 0]}
        search = GridSearchCV(model, grid, scoring=scorer, cv=every, error_score="raise").fit(X, y)
        assert search.best_params_ == {"shift": 0} and search.best_score_ == 1


def test_errors_are_of_the_library():
    with pytest.raises(InputError):
        mean_iou_score([[[0]]], [])


@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: Pipeline([("last", one)])])
def test_the_scorer_leaves_out_what_the_estimator_calls_unlabeled(wrap):
    truth, found = np.array([[[0, 1, 9], [9, 1, 0]]]), np.array([[[0, 1, 1], [0, 0, 0]]])

    class Says(ClassifierMixin, BaseEstimator):
        unlabeled = 9

        def __sklearn_is_fitted__(self):
            return True

        def fit(self, X, y):
            return self

        def predict(self, X):
            return found

    estimator, expected = wrap(Says()), mean_iou_score(truth, found, unlabeled=9)
    assert mean_iou_scorer(estimator, None, truth) == expected
    assert expected != mean_iou_score(truth, found)
    assert mean_iou_scorer(estimator, None, truth, unlabeled=None) == mean_iou_score(truth, found)
