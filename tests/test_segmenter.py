"""Networks that are fine-tuned to label pixels: where they start, what moves, what they refuse."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from torch import nn
from torchvision import transforms as v1
from torchvision.transforms import v2

from sktransfer import FineTuneSegmenter, PixelClassifier
from sktransfer.datasets import load_cifar10_sample
from sktransfer.exceptions import InputError, LayerError, SktransferWarning
from sktransfer.finetune import Mixup
from sktransfer.finetune._augment import Geometry, MovedTogether, make_augment
from sktransfer.finetune._masks import MaskTarget, MaskTask
from sktransfer.finetune._rows import MapBatch
from sktransfer.inputs import NO_LABEL, as_images
from sktransfer.metrics import mean_iou_score
from sktransfer.networks import image_preparation, load_backbone

SIZE = (24, 32)
PHOTOS = load_cifar10_sample()
# Four in a square: birds and so on, road vehicles, other ones.
KINDS = np.array([2, 1, 0, 0, 0, 0, 0, 0, 2, 1])[PHOTOS.target]
N = 6
X = PHOTOS.data[: 4 * N].reshape(N, 2, 2, 32, 32, 3).swapaxes(2, 3).reshape(N, 64, 64, 3)
Y = KINDS[: 4 * N].reshape(N, 2, 2).repeat(32, axis=1).repeat(32, axis=2)
GIVEN = {
    "image_size": SIZE, "random_state": 0, "max_epochs": 1, "trainable": 1, "batch_size": 4,
    "lr": 2e-3, "amp": "float32",
    "engine": "torch",  # converting networks takes longer than running them on these images
}  # fmt: skip


def made(**given):
    return FineTuneSegmenter(**{**GIVEN, **given})


@pytest.fixture(scope="module")
def fitted():
    return made(max_epochs=2).fit(X, Y)


# The start.


def sizes_and_scribbles():
    """Images of four sizes, most pixels of which nobody labelled."""
    images = [X[0], X[1][:50], X[2][:, 7:], X[3][5:40, 3:]]
    masks = [Y[0], Y[1][:50], Y[2][:, 7:], Y[3][5:40, 3:]]
    drawn = [np.random.default_rng(0).random(one.shape) < 0.1 for one in masks]
    return images, [np.where(some, one, 9) for some, one in zip(drawn, masks, strict=True)]


@pytest.mark.parametrize("case", ["three", "two", "scribbles"])
def test_a_linear_head_starts_where_a_pixel_classifier_ends(case):
    images, masks, given = X, Y, {"image_size": SIZE, "random_state": 3}
    if case == "two":
        masks = np.where(Y > 0, "vehicle", "animal")
    if case == "scribbles":
        images, masks = sizes_and_scribbles()
        given["unlabeled"] = 9
    pixels = PixelClassifier(**given).fit(images, masks)
    segmenter = FineTuneSegmenter(max_epochs=0, **given).fit(images, masks)
    assert segmenter.classes_.tolist() == pixels.classes_.tolist()
    found, expected = segmenter.predict(images), pixels.predict(images)
    for one, other in zip(found, expected, strict=True):
        assert np.array_equal(one, other)
    shares = segmenter.predict_proba(images)
    for one, other in zip(shares, pixels.predict_proba(images), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert segmenter.score(images, masks) == pixels.score(images, masks)


def test_class_weights_and_sample_weights_change_the_start():
    plain = made(max_epochs=0).fit(X, Y).predict_proba(X)
    assert np.array_equal(made(max_epochs=0).fit(X, Y, np.full(N, 2.0)).predict_proba(X), plain)
    heavy = made(max_epochs=0, class_weight={2: 20}).fit(X, Y).predict_proba(X)
    assert heavy[..., 2].mean() > plain[..., 2].mean() + 0.01
    of_one = made(max_epochs=0).fit(X, Y, np.eye(N)[0] + 1e-6).predict(X[:1])
    assert (of_one == Y[:1]).mean() > 0.9


# Training.


def maps_of(module, x, taps):
    """What a network of timm gives at some modules, by hooks."""
    kept = {}
    named = dict(module.named_modules())
    hooks = [
        named[name].register_forward_hook(lambda _, __, out, name=name: kept.update({name: out}))
        for name in taps
    ]
    module(x)
    for hook in hooks:
        hook.remove()
    return [kept[name] for name in taps]


@pytest.mark.parametrize(
    "trainable", [pytest.param("head", marks=pytest.mark.slow), 2, "all"]
)
def test_one_step_is_that_of_a_plain_loop(trainable):
    given = {
        "trainable": trainable, "optimizer": torch.optim.SGD, "weight_decay": 0.0, "lr": 1e-2,
        "schedule": "constant", "warmup": 0.0, "batch_size": N, "image_size": 64,
    }  # fmt: skip
    start = made(max_epochs=0, **given).fit(X, Y)
    end = made(max_epochs=1, **given).fit(X, Y)
    backbone = load_backbone("efficientnet_lite0")
    module = pickle.loads(pickle.dumps(backbone.module))
    head = start._load_model().module.head
    facts = backbone.preprocessing
    mean, std = (torch.tensor(one).view(1, 3, 1, 1) for one in (facts.mean, facts.std))
    x = (torch.from_numpy(X).permute(0, 3, 1, 2) / 255 - mean) / std
    for one in module.parameters():
        one.requires_grad_(True)
    taps = [one.name for one in start._load_model().taps]
    scores = head(maps_of(module.eval(), x, taps))
    nn.functional.cross_entropy(scores, torch.from_numpy(Y)).backward()
    learnt = end._load_model().module
    for name, before in head.named_parameters():
        after = dict(learnt.head.named_parameters())[name]
        torch.testing.assert_close(after, before - 1e-2 * before.grad, rtol=1e-4, atol=1e-6)
    own = dict(module.named_parameters())
    trained = {n: p for n, p in learnt.tail.named_parameters() if p.requires_grad}
    assert bool(trained) == (trainable != "head")
    for name, after in trained.items():
        expected = own[name] - 1e-3 * own[name].grad
        torch.testing.assert_close(after, expected, rtol=1e-3, atol=1e-6)


def test_it_learns(fitted):
    given = {"head_init": "random", "trainable": 2, "lr": 1e-2}
    start = made(**given, max_epochs=0).fit(X, Y)
    end = made(**given, max_epochs=8).fit(X, Y)
    assert end.history_[-1]["train_loss"] < end.history_[0]["train_loss"]
    assert end.score(X, Y) > start.score(X, Y)
    assert fitted.score(X, Y) == mean_iou_score(Y, fitted.predict(X))


def test_what_is_frozen_is_frozen(fitted):
    model = fitted._load_model()
    assert model.cut.trained_taps == model.taps[-1:]
    own = load_backbone("efficientnet_lite0").module.state_dict()
    learnt = {name for name, one in model.module.named_parameters() if one.requires_grad}
    for name, value in model.module.tail.state_dict().items():
        if f"tail.{name}" not in learnt and name in own:
            assert torch.equal(value, own[name]), name


@pytest.mark.parametrize(
    "given",
    [
        {"cache_activations": "disk"}, {"cache_activations": False}, {"cache": None},
        {"n_jobs": 1}, {"activation_dtype": "float16"},
    ],
)  # fmt: skip
def test_where_maps_are_held_changes_nothing(fitted, given):
    found = made(max_epochs=2, **given).fit(X, Y)
    tolerance = 2e-2 if "activation_dtype" in given else 0
    np.testing.assert_allclose(
        found.predict_proba(X[:2]), fitted.predict_proba(X[:2]), atol=tolerance
    )


@pytest.mark.slow
def test_vision_transformers_and_single_layers():
    given = {"weights": None, "image_size": (32, 48), "head_init": "random"}
    vit = made(backbone="timm:vit_tiny_patch16_224", **given)
    assert vit.fit(X, Y).predict(X).shape == Y.shape
    for layers, width in (("blocks.4", 112), (["blocks.4", "blocks.1"], 136)):
        model = made(layers=layers, head_init="random").fit(X, Y)
        assert model.transform(X[:2]).shape == (2, width)
    with pytest.raises(LayerError, match="give maps"):
        made(layers="global_pool").fit(X, Y)


# Losses.


def task(**given):
    to = image_preparation(load_backbone("efficientnet_lite0").preprocessing, image_size=4)
    given = {"loss": "cross_entropy", "unlabeled": None, **given}
    return MaskTask(**{"preparation": to, "classes": np.arange(3), **given})


def drawn(seed=0):
    random = torch.Generator().manual_seed(seed)
    out = torch.randn(2, 3, 4, 5, generator=random)
    target = torch.randint(-1, 2, (2, 4, 5), generator=random).to(torch.int16)
    return out, target


def test_losses_are_those_of_plain_loops():
    out, target = drawn()
    weights = np.array([1.0, 3.0, 0.5])
    found = task(loss="cross_entropy+dice", class_weight=weights).losses(out, target)
    shares = out.softmax(1).double().numpy()
    for image in range(2):
        total = mass = 0.0
        dices = []
        for label in (0, 1, 2):
            there = target[image].numpy() == label
            total -= weights[label] * np.log(shares[image, label][there]).sum()
            mass += weights[label] * there.sum()
            known = target[image].numpy() >= 0
            if there.any():
                both = 2 * shares[image, label][there].sum()
                dices.append(both / (shares[image, label][known].sum() + there.sum()))
        expected = total / mass + 1 - np.mean(dices)
        assert found[image].item() == pytest.approx(expected, rel=1e-5)


def test_pixels_that_nobody_labelled_count_nowhere():
    out, target = drawn()
    out.requires_grad_(True)
    for loss in ("cross_entropy", "cross_entropy+dice"):
        one = task(loss=loss)
        (gradient,) = torch.autograd.grad(one.losses(out, target).sum(), out)
        nothing = (target == NO_LABEL)[:, None].expand_as(gradient)
        assert not gradient[nothing].any()
        assert gradient[~nothing].any()
        blank = torch.full_like(target, NO_LABEL)
        assert one.losses(out, blank).tolist() == [0.0, 0.0]
    right, asked = one.hits(out, target)
    expected = (out.argmax(1) == target).sum((1, 2))
    assert right.tolist() == expected.tolist()
    assert asked.tolist() == (target >= 0).sum((1, 2)).tolist()


def test_balanced_weights_are_those_of_pixels():
    target = np.array([[[0, 0, 0, 0, 0, 1, -1, -1]]], np.int16)
    assert task().weighted("balanced", target).class_weight.tolist() == [0.6, 3.0, 1.0]
    assert task().weighted({1: 2}, target).class_weight.tolist() == [1.0, 2.0, 1.0]


# What moves.


def scene(place):
    """An image with a red square, and the mask of the square."""
    image = np.full((90, 120, 3), 60, np.uint8)
    top, left = place
    image[top : top + 30, left : left + 40] = (250, 20, 20)
    return image, (image[..., 0] > 200).astype(int)


MOVES = {
    "light": "light",
    "auto": "auto",
    "flip and crop": v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(80)]),
    "affine": v2.RandomAffine(25, translate=(0.2, 0.2), scale=(0.7, 1.2)),
    "resized": v2.RandomResizedCrop((70, 100), scale=(0.5, 1.0)),
    "own": lambda image, mask: (image.rotate(90, expand=True), mask.rot90(1)),
}


@pytest.mark.parametrize("name", MOVES)
def test_masks_move_with_their_images(name):
    pairs = [scene(place) for place in ((5, 5), (50, 70), (30, 10))]
    images = as_images([image for image, _ in pairs])
    facts = load_backbone("efficientnet_lite0").preprocessing
    to = image_preparation(facts, image_size=(96, 112))
    targets = MaskTask(
        preparation=to, classes=np.array([0, 1]), unlabeled=None, loss="cross_entropy"
    ).movable([mask for _, mask in pairs], images)
    augment = make_augment(MOVES[name], targets)
    seen = set()
    for view in range(1, 5):
        moved = MovedTogether(images, augment, view, targets)
        for number in range(3):
            pixels = to(moved.open(number)).astype(int)
            mask = moved.target(number, to)
            red = pixels[..., 0] - pixels[..., 1] > 100
            known = mask != NO_LABEL
            assert red[known].any() or not (mask == 1).any()
            assert (red == (mask == 1))[known].mean() > 0.97
            assert not red[~known].any() or red[~known].mean() < 0.05
            seen.add(mask.tobytes())
        again = MovedTogether(images, augment, view, targets)
        assert np.array_equal(again.target(0, to), moved.target(0, to))
    assert len(seen) > 3 or name in ("light", "own")
    plain = MovedTogether(images, augment, 0, targets)
    assert plain.open(0).digest == images.open(0).digest


def test_a_view_of_a_transform_is_of_its_mask_too():
    """It may look at the mask, as crops around an object do."""
    image, mask = scene((5, 5))
    images, classes = as_images([image]), np.array([0, 1])

    def moved(augment, labels):
        targets = task(classes=classes).movable([labels], images)
        return MovedTogether(images, make_augment(augment, targets), 1, targets).open(0).digest

    crop = v2.RandomCrop(40)
    assert moved(crop, mask) == moved(crop, mask) != moved(crop, 1 - mask)
    assert moved("auto", mask) == moved("auto", 1 - mask)


def test_what_is_cut_out_beyond_a_mask_has_no_label():
    numbers = np.arange(6, dtype=np.int16).reshape(2, 3)
    found = MaskTarget(numbers, 6).moved(Geometry(True, 3, -1, 1, 4, 3)).numbers
    none = NO_LABEL
    assert found.tolist() == [[none, 5, 4, 3], [none] * 4, [none] * 4]


@pytest.mark.parametrize(
    ("augment", "words"),
    [
        (lambda image: image, "takes the image alone"),
        (v1.RandomHorizontalFlip(), "takes the image alone"),
        (lambda image, mask: image, "give a pair"),
        (lambda image, mask: (image, mask[:9]), "as large as the image"),
        (lambda image, mask: (image, mask + 7), "numbers that it got"),
    ],
)
def test_augmentations_that_lose_the_mask_are_refused(augment, words):
    with pytest.raises(ValueError, match=words):
        made(augment=augment).fit(X, Y)


@pytest.mark.parametrize("given", [{}, {"cache_activations": "disk"}, {"trainable": "all"}])
def test_augmented_fits_are_the_same_again(given):
    given = {"max_epochs": 3, "augment": "auto", **given}
    one, other = (made(**given).fit(X[:4], Y[:4]) for _ in range(2))
    assert np.array_equal(one.predict_proba(X[:2]), other.predict_proba(X[:2]))
    assert one.augment_views_ == 3


# As an estimator.


def test_answers_have_the_size_of_each_image(fitted):
    sizes = [(64, 64), (33, 71), (5, 200), (1, 1)]
    images = [np.zeros((*size, 3), np.uint8) for size in sizes]
    assert [one.shape for one in fitted.predict(images)] == sizes
    assert [one.shape for one in fitted.predict_proba(images)] == [(*one, 3) for one in sizes]
    np.testing.assert_allclose(fitted.predict_proba(X[:2]).sum(-1), 1, rtol=1e-5)
    one = fitted.predict(X[:1])
    assert one.shape == (1, 64, 64) and one.dtype == Y.dtype


def test_one_image_and_one_label():
    assert made().fit(X[:1], Y[:1]).predict(X[:1]).shape == (1, 64, 64)
    with pytest.raises(InputError, match="at least two labels"):
        made().fit(X, np.ones_like(Y))
    with pytest.raises(InputError, match="mask 2 of y"):
        made().fit(X, [*Y[:2], Y[2][:9], *Y[3:]])


def test_scikit_learn_takes_it():
    scores = cross_val_score(made(max_epochs=0), X, Y, cv=2)
    assert scores.shape == (2,) and (scores > 0).all()
    search = GridSearchCV(made(), {"trainable": ["head", 1], "lr": [1e-3]}, cv=2).fit(X, list(Y))
    assert search.best_estimator_.predict(X).shape == Y.shape
    assert clone(made(head="fpn")).head == "fpn"


def test_pickles_are_small_and_whole(fitted):
    saved = pickle.dumps(made(trainable="head").fit(X, Y))
    assert len(saved) < 60_000
    again = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert again.make_net() is again.net_
    assert fitted.transform(X).shape == (N, len(fitted.get_feature_names_out()))


class Decoder(nn.Module):
    """Takes a list of maps, as decoders of segmentation libraries do."""

    def __init__(self, widths, strides, n_classes):
        super().__init__()
        self.strides = strides
        self.convs = nn.ModuleList(nn.Conv2d(width, n_classes, 3, padding=1) for width in widths)

    def forward(self, maps):
        size = maps[1].shape[2:]
        parts = [conv(one) for conv, one in zip(self.convs, maps, strict=True)]
        return sum(nn.functional.interpolate(one, size) for one in parts)


@pytest.mark.parametrize("head", [pytest.param("fpn", marks=pytest.mark.slow), Decoder])
def test_other_heads(head):
    segmenter = made(head=head, trainable=1, lr=1e-3, max_epochs=2, image_size=(35, 50)).fit(X, Y)
    assert segmenter.predict(X).shape == Y.shape
    # It was trained alone first, so that it begins better than by chance.
    assert segmenter.history_[0]["train_loss"] < np.log(3)
    if head is Decoder:
        assert segmenter._load_model().module.head.module.strides[:3] == [2, 4, 7]
    again = pickle.loads(pickle.dumps(segmenter))
    assert np.array_equal(again.predict(X), segmenter.predict(X))


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (nn.Conv2d(3, 3, 1), "got a module"),
        (lambda widths, strides: None, "must take these three"),
        (lambda *given: None, "give a torch.nn.Module"),
        (lambda *given: nn.Linear(3, 3), "takes a list of maps"),
        (lambda widths, strides, n: Decoder(widths, strides, n + 1), r"scores \(n, 3"),
    ],
)
def test_heads_that_do_not_fit_are_refused(head, words):
    with pytest.raises(ValueError, match=words):
        made(head=head).fit(X, Y)


def test_mixing_is_refused():
    with pytest.raises(ValueError, match="Mixup"):
        made(callbacks=[Mixup()]).fit(X, Y)


def test_early_stopping_holds_out_each_class():
    present = np.array([[1, 0, 1], [1, 1, 0], [1, 0, 0], [1, 0, 1], [1, 1, 0], [1, 0, 0]])
    target = np.where(present, np.arange(3), 0).reshape(6, 1, 3)
    for seed in range(5):
        train, held_out = task().split(target, None, 0.4, seed)
        assert sorted([*train, *held_out]) == list(range(6))
        assert task().present(target[held_out]).any(axis=0).all()
        assert task().present(target[train]).any(axis=0).all()
    with pytest.warns(SktransferWarning, match="held out"):
        segmenter = made(early_stopping=True, validation_fraction=0.25).fit(X, Y)
    assert segmenter.best_epoch_ == 1 and "valid_loss" in segmenter.history_[0]


def test_it_continues(tmp_path):
    part = made().partial_fit(X[:4], Y[:4], classes=[0, 1, 2, 5])
    part.partial_fit(X[4:], Y[4:])
    assert part.n_iter_ == 2 and part.classes_.tolist() == [0, 1, 2, 5]
    assert not (part.predict(X) == 5).any()
    with pytest.raises(InputError, match="none of the classes"):
        part.partial_fit(X, Y + 7)
    before = part.predict_proba(X[:2])
    part.unfreeze(2)
    np.testing.assert_allclose(part.predict_proba(X[:2]), before, atol=1e-4)
    part.partial_fit(X, Y)
    kept = made(max_epochs=2, checkpoint_dir=tmp_path).fit(X, Y)
    again = made(max_epochs=2, checkpoint_dir=tmp_path).fit(X, Y)
    assert np.array_equal(kept.predict_proba(X), again.predict_proba(X))
    assert len(again.history_) == 2


def test_batches_of_maps():
    batch = MapBatch((torch.arange(8).view(4, 2), torch.arange(4).view(4, 1, 1, 1)))
    assert len(batch) == 4 and batch.ndim == 4
    assert [one.tolist() for one in batch[1:3].maps] == [[[2, 3], [4, 5]], [[[[1]]], [[[2]]]]]
    assert len(batch[3]) == 1 and batch.to("cpu").maps[0].shape == (4, 2)


def test_few_steps_are_told():
    with pytest.warns(SktransferWarning, match="2 steps of training.* Take max_epochs=20 or more"):
        made(max_epochs=2).fit(X[:4], Y[:4])
