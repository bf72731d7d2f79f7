"""What `augment=` may give, and which transforms share views: those that do the same."""

from __future__ import annotations

import importlib
import os
import random
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.model_selection import GridSearchCV
from torchvision.transforms import v2

from sktransfer import FineTuneClassifier
from sktransfer._content import Untellable, digest_of
from sktransfer.exceptions import TrainingError
from sktransfer.finetune._augment import Augmented, check_augment, make_augment
from sktransfer.inputs import as_images

QUICK = {"trainable": 1, "image_size": 32, "max_epochs": 2, "augment_views": 2, "random_state": 0}
FLOATS = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
IMAGENET = v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture(scope="module")
def images(sample):
    return as_images(sample.data[:6])


def pixels(images, transform, index=2, view=1):
    return Augmented(images, make_augment(transform), view).open(index).pixels()


class Gamma:
    """A parameter that its repr does not show."""

    def __init__(self, gamma):
        self.gamma = gamma

    def __repr__(self):
        return "Gamma()"

    def __call__(self, image):
        return image.point(lambda value: round(255 * (value / 255) ** self.gamma))


def turned_by(steps):
    return lambda image: image.rotate(90 * steps)


def mirrored(image):
    return image.transpose(0)


def blank(image):
    return image.point(lambda _: 0)


PAIRS = {
    "functions under one repr": (v2.Lambda(lambda i: mirrored(i)), v2.Lambda(lambda i: blank(i))),
    "a hidden parameter": (Gamma(1), Gamma(9)),
    "closures": (turned_by(0), turned_by(2)),
    "in a list": (v2.Compose([turned_by(0)]), v2.Compose([turned_by(2)])),
    "methods": (Gamma(1).__call__, Gamma(9).__call__),
}


@pytest.mark.parametrize("name", PAIRS)
def test_transforms_that_differ_have_keys_that_differ(images, name):
    one, other = PAIRS[name]
    assert make_augment(one).key == make_augment(one).key != make_augment(other).key
    assert (pixels(images, one) != pixels(images, other)).any()


def test_transforms_that_differ_share_no_views(sample):
    X, y = sample.data[:20], sample.target[:20] % 2
    one, other = (
        FineTuneClassifier(**QUICK, augment=transform).fit(X, y).predict_proba(X)
        for transform in PAIRS["functions under one repr"]
    )
    assert np.abs(one - other).max() > 1e-3


@pytest.mark.slow
def test_a_search_tells_transforms_apart_and_shares_what_is_the_same(sample, passes):
    X, y = sample.data[:16], sample.target[:16] % 2
    clf = FineTuneClassifier(**QUICK, head_init="random")
    candidates = {"augment": [v2.Lambda(mirrored), v2.Lambda(blank), v2.Lambda(mirrored)]}
    GridSearchCV(clf, candidates, cv=2, refit=False).fit(X, y)
    # The images as they are once, and once for each of two transforms.
    assert passes["images"] == 3 * 16


def test_what_cannot_be_told_is_computed_anew_and_kept_nowhere(sample, passes):
    X, y = sample.data[:16], sample.target[:16] % 2
    lock = threading.Lock()  # no content that could be compared

    def locked(image):
        with lock:
            return image.transpose(0)

    assert make_augment(locked).key is None
    clf = FineTuneClassifier(**QUICK, augment=locked, head_init="random")
    once = clf.fit(X, y).predict_proba(X)
    n = passes["images"]
    np.testing.assert_array_equal(clf.fit(X, y).predict_proba(X), once)
    assert passes["images"] == n + 16


def test_the_digest_is_of_what_a_value_does():
    def by(steps=1):
        return lambda image: image.rotate(steps)

    assert digest_of(by(1)) == digest_of(by(1)) != digest_of(by(2))
    assert digest_of(lambda i, k=1: i) != digest_of(lambda i, k=2: i)
    assert digest_of(lambda i: i.a) != digest_of(lambda i: i.b)
    assert digest_of({1: [2.0]}) == digest_of({1: [2.0]}) != digest_of({1: [2]})
    assert digest_of(torch.ones(2)) != digest_of(torch.ones(2, dtype=torch.float64))
    assert digest_of(np.frombuffer(b"ab", "u1")) != digest_of(np.frombuffer(b"ac", "u1"))
    circle = [1]
    circle.append(circle)
    assert digest_of(circle) != digest_of([1, [1, [1]]])
    different = [1, 1.0, True, "1", b"1", [1], (1,), {1}, {1: 1}, None, np.ones(1), Gamma, Gamma(1)]
    assert len({digest_of(one) for one in different}) == len(different)
    for one in (threading.Lock(), (i for i in ""), np.frompyfunc(lambda x: x, 1, 1), sys.stdout):
        with pytest.raises(Untellable):
            digest_of([one])


class Forgets:
    """Its pickle leaves out what it computes with."""

    def __init__(self, degrees):
        self.degrees = degrees

    def __getstate__(self):
        return {}

    def __call__(self, image):
        return image.rotate(self.degrees)


def test_what_a_pickle_leaves_out_counts():
    assert digest_of(Forgets(10)) == digest_of(Forgets(10)) != digest_of(Forgets(20))


@pytest.mark.parametrize(
    "transform",
    [
        lambda image: image.rotate(globals()["STEP"]),
        lambda image: image.rotate(eval("STEP")),
        lambda image: image.rotate(int(open("step.txt").read())),
        lambda image: image.rotate(int(Path("step.txt").read_text())),
        lambda image: image.rotate(int(os.environ["STEP"])),
        lambda image: image.rotate(vars(image)["step"]),
    ],
)
def test_views_of_what_depends_on_files_and_names_are_not_kept(transform):
    assert make_augment(transform).key is None


def test_code_of_a_module_of_ones_own_counts(tmp_path, monkeypatch):
    """The name of a function stays when its file is edited between two runs."""
    plain = """
STRENGTH = 1
def helped(image): return image
def transform(image): return helped(image).rotate(STRENGTH)
class Transform:
    def __call__(self, image):
        import own_transforms
        return own_transforms.helped(image)
"""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = []
    for more in ("", "STRENGTH = 2", "", "def helped(image): return image.rotate(9)"):
        (tmp_path / "own_transforms.py").write_text(plain + more)
        sys.modules.pop("own_transforms", None)
        importlib.invalidate_caches()
        own = importlib.import_module("own_transforms")
        made.append((digest_of(own.transform), digest_of(own.Transform())))
    (function, transform), strength, same, helped = made
    assert same == (function, transform)
    assert function != strength[0] and function != helped[0] and transform != helped[1]
    own.helped = mirrored  # and what was set since the file was read
    assert digest_of(own.transform) != helped[0]


class Jitters:
    """Draws from every generator there is, and counts its calls."""

    def __init__(self):
        self.numpy, self.legacy = np.random.default_rng(0), np.random.RandomState(0)
        self.python, self.torch = random.Random(0), torch.Generator()
        self.calls = 0

    def __call__(self, image):
        self.calls += 1
        draws = [
            self.numpy.random(), self.legacy.rand(), self.python.random(),
            float(torch.rand((), generator=self.torch)), np.random.rand(), random.random(),
            float(torch.rand(())),
        ]  # fmt: skip
        return image.rotate(self.calls + 50 * sum(draws))


def test_views_do_not_hang_on_the_order_of_calls(images):
    own = Jitters()
    states = np.random.get_state()[1].copy(), random.getstate(), torch.get_rng_state()
    first = [pixels(images, own, index) for index in range(6)]
    augmented = Augmented(images, make_augment(own), 1)
    for index in (5, 0, 3, 3):
        np.testing.assert_array_equal(augmented.open(index).pixels(), first[index])
    assert augmented.open(0).digest == Augmented(images, make_augment(Jitters()), 1).open(0).digest
    assert len({digest_of(one) for one in first}) == 6
    assert (pixels(images, own, 3, view=2) != first[3]).any()
    assert own.calls == 0
    assert own.numpy.random() == np.random.default_rng(0).random()
    np.testing.assert_array_equal(np.random.get_state()[1], states[0])
    assert random.getstate() == states[1] and torch.get_rng_state().equal(states[2])


def test_generators_in_closures_are_drawn_from_the_image(images):
    generator = np.random.default_rng(3)

    def jitter(image):
        return image.rotate(360 * generator.random())

    one, again = (pixels(images, jitter, 1) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    assert (pixels(images, jitter, 1, view=2) != one).any()
    assert generator.random() == np.random.default_rng(3).random()


SAME = {
    "ToTensor": v2.Compose(FLOATS),
    "array": np.asarray,
    "floats": lambda i: np.asarray(i) / 255,
    "channels first": lambda i: np.asarray(i).transpose(2, 0, 1),
    "tensor, channels last": lambda i: torch.tensor(np.asarray(i)),
    "half": v2.Compose([*FLOATS, lambda t: t.half().requires_grad_()]),
    "bfloat16 of few levels": lambda i: (torch.tensor(np.asarray(i)) / 255).to(torch.float64),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_pixels_in_every_form(sample, images, name):
    check_augment(SAME[name], images)
    changed = pixels(images, SAME[name]).astype(int)
    assert np.abs(changed - sample.data[2]).max() <= (name == "half")


def test_grey_and_a_little_beyond(sample, images):
    grey = np.asarray(Image.fromarray(sample.data[2]).convert("L"))
    one = v2.Grayscale(1)
    for transform in (one, v2.Compose([one, *FLOATS]), lambda i: i.convert("L")):
        np.testing.assert_array_equal(pixels(images, transform), np.stack([grey] * 3, axis=2))
    high = pixels(images, lambda i: np.asarray(i) / 255 * 1.08 - 0.04)
    plain = np.clip(np.rint((sample.data[2] / 255 * 1.08 - 0.04) * 255), 0, 255)
    np.testing.assert_array_equal(high, plain)


REFUSED = {
    "Normalize": (v2.Compose([*FLOATS, IMAGENET]), "must not normalise.*-2.12 to 2.[0-9]+; leave"),
    "means of a half": (v2.Compose([*FLOATS, v2.Normalize([0.5], [0.5])]), "must not normalise"),
    "by chance": (v2.Compose([*FLOATS, v2.RandomApply([IMAGENET], 0.5)]), "must not normalise"),
    "array": (lambda i: np.asarray(i) / 127.5 - 1, "must not normalise"),
    "floats to 255": (lambda i: np.asarray(i, np.float32), "0 to 255; convert them to uint8"),
    "int64": (lambda i: np.asarray(i, np.int64), "gave int64"),
    "int tensor": (v2.Compose([v2.PILToTensor(), lambda t: t.long()]), "gave int64"),
    "bool": (lambda i: np.asarray(i) > 99, "gave bool"),
    "NaN": (lambda i: np.full((9, 9, 3), np.nan), "finite"),
    "mode F": (lambda i: i.convert("F"), "mode F"),
    "dict": (lambda i: {"image": np.asarray(i)}, r"dict.*\(image=np\.asarray\(image\)\)"),
    "None": (lambda i: None, "None: return the changed image"),
    "several": (v2.FiveCrop(16), "one image, gave a tuple of 5"),
    "batch": (v2.Compose([*FLOATS, lambda t: t[None]]), r"\(1, 3, 32, 32\)"),
    "nothing": (lambda i: np.zeros((0, 4, 3), "u1"), r"\(0, 4, 3\)"),
    "sparse": (v2.Compose([*FLOATS, lambda t: t.to_sparse()]), "sparse"),
    "erased by noise": (
        v2.Compose([*FLOATS, v2.RandomErasing(1.0, value="random")]), r"clamp to 0\.\.1"
    ),
    "an error without a text": (lambda i: next(iter(())), r"failed: StopIteration\.$"),
    "an error with a stop": (lambda i: Image.new("RGB", (0, 0)).crop().no, r"[^.]\.$"),
    "an error": (lambda i: i.no_such_method(), "augment= failed: AttributeError"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_image_is_refused_before_anything_long(sample, passes, name):
    transform, message = REFUSED[name]
    clf = FineTuneClassifier(**QUICK, augment=transform)
    with pytest.raises((TrainingError, ValueError), match=message) as caught:
        clf.fit(sample.data[:8], [0, 1] * 4)
    assert "augment=" in str(caught.value) and "\n" not in str(caught.value)
    assert passes["images"] == 0
    assert set(vars(clf)) == set(clf.get_params())


NEARLY_BLACK = {
    "scale forgotten": v2.Compose([*FLOATS, v2.ColorJitter(0.2), v2.ToDtype(torch.uint8)]),
    "divided twice": v2.Compose([*FLOATS, lambda t: t / 255]),
    "an array divided twice": lambda i: np.asarray(i) / 255.0 / 255.0,
}
DARKENED = {
    "jitter": v2.ColorJitter(0.9, 0.9, 0.9, 0.5),
    "erased": v2.Compose([*FLOATS, v2.RandomErasing(1.0, (0.9, 1.0))]),
    "solarized": v2.RandomSolarize(0, 1.0),
    "inverted": v2.RandomInvert(1.0),
    "very dark": lambda i: i.point(lambda value: value // 16),
    "black by chance": lambda i: i.point(lambda value: value * (random.random() < 0.3)),
    "a dark corner": lambda i: i.crop((0, 0, 1, 1)),
    "black": blank,
}


@pytest.mark.parametrize("name", NEARLY_BLACK)
def test_white_that_comes_out_nearly_black_is_refused(images, name):
    with pytest.raises(ValueError, match=r"augment= .*white came out as 1 of 255.*scale=True"):
        check_augment(NEARLY_BLACK[name], images)


@pytest.mark.parametrize("name", DARKENED)
def test_what_darkens_is_taken(images, name):
    check_augment(DARKENED[name], images)


def test_weights_transforms_are_refused(sample):
    from torchvision.models import ResNet18_Weights

    clf = FineTuneClassifier(**QUICK, augment=ResNet18_Weights.IMAGENET1K_V1.transforms())
    with pytest.raises(ValueError, match="must not normalise"):
        clf.fit(sample.data[:8], [0, 1] * 4)


@pytest.mark.slow
def test_every_view_is_looked_at(sample):
    """An image far from the first may be the first that shows it."""
    dark = np.full((32, 32, 3), 9, np.uint8)
    X = [*([dark] * 5), sample.data[0]]

    def normalises_what_is_bright(image):
        values = np.asarray(image) / 255
        return values * 3 if 0.1 < values.mean() < 0.45 else values

    for trainable in (1, "all"):
        changes = {"trainable": trainable, "augment": normalises_what_is_bright}
        clf = FineTuneClassifier(**{**QUICK, **changes})
        with pytest.raises(ValueError, match=r"image 5: augment= must not normalise"):
            clf.fit(X, [0, 1] * 3)


def test_what_cannot_be_told_draws_from_the_image_all_the_same(images):
    lock, generator = threading.Lock(), np.random.default_rng(0)

    def jitter(image):
        with lock:
            return image.rotate(360 * generator.random())

    views = [pixels(images, jitter, 1, view) for view in (1, 2, 1)]
    np.testing.assert_array_equal(views[0], views[2])
    assert (views[0] != views[1]).any()
