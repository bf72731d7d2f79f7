"""What is frozen is computed once, and the result is the same as without keeping it."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from sktransfer import FineTuneClassifier
from sktransfer.exceptions import ImageError
from sktransfer.finetune._activations import BatchIterator, Examples, Views, choose_storage
from sktransfer.finetune._augment import Augmented, make_augment
from sktransfer.inputs import as_images


def fitted(sample, **parameters):
    common = {"trainable": 1, "image_size": 32, "max_epochs": 3, "random_state": 0}
    clf = FineTuneClassifier(**common, **parameters)
    return clf.fit(sample.data[:40], sample.target[:40])


def weights(clf):
    return {name: value.detach().numpy() for name, value in clf.net_.module_.named_parameters()}


@pytest.mark.parametrize("augment", [None, "auto"])
def test_the_same_with_and_without_keeping(sample, augment):
    common = {"augment": augment, "augment_views": 2, "engine": "torch", "cache": None}
    kept = weights(fitted(sample, cache_activations="memory", **common))
    on_disk = weights(fitted(sample, cache_activations="disk", **common))
    anew = weights(fitted(sample, cache_activations=False, **common))
    for name, value in kept.items():
        np.testing.assert_array_equal(on_disk[name], value)
        np.testing.assert_allclose(anew[name], value, atol=1e-5, rtol=1e-5)


def test_epochs_folds_and_candidates_share_one_pass(sample, passes):
    X, y = sample.data[:40], sample.target[:40]
    for lr in (1e-3, 1e-2):
        for part in (slice(0, 30), slice(10, 40)):
            FineTuneClassifier(trainable=1, image_size=32, max_epochs=3, lr=lr, random_state=0).fit(
                X[part], y[part]
            )
    # Once to the cut, and once to the codes that the head starts from.
    assert passes["images"] == 2 * len(X)


def test_views_cost_a_pass_each_and_no_more(sample, passes):
    fitted(sample, augment="light", augment_views=2, head_init="random")
    # Mirroring leaves half of the second views as they are, but under a key of their own.
    assert passes["images"] == 2 * 40
    fitted(sample, augment="light", augment_views=2, head_init="random", lr=1e-4)
    assert passes["images"] == 2 * 40


def test_half_precision_takes_half_the_room_and_is_near(sample):
    exact = fitted(sample).predict_proba(sample.data[40:80])
    rough = fitted(sample, activation_dtype="float16").predict_proba(sample.data[40:80])
    assert 0 < np.abs(exact - rough).max() < 0.05


def test_views_of_a_image_are_always_the_same(sample):
    images, augment = as_images(sample.data[:6]), make_augment("auto")
    again, other = Augmented(images, augment, 1), Augmented(images, augment, 2)
    first = [Augmented(images, augment, 1).open(i) for i in range(6)]
    for i, opened in enumerate(first):
        np.testing.assert_array_equal(opened.pixels(), again.open(i).pixels())
        assert opened.digest == again.open(i).digest != other.open(i).digest
    assert any((one.pixels() != other.open(i).pixels()).any() for i, one in enumerate(first))
    plain = Augmented(images, augment, 0).open(3)
    np.testing.assert_array_equal(plain.pixels(), sample.data[3])


def test_torchvisions_transforms_draw_from_the_image(sample):
    from torchvision.transforms import v2

    recipe = v2.Compose([v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()])
    images = as_images(sample.data[:4])
    one, two = (Augmented(images, make_augment(recipe), 1) for _ in range(2))
    changed = [one.open(i).pixels() for i in range(4)]
    for i, pixels in enumerate(changed):
        np.testing.assert_array_equal(pixels, two.open(i).pixels())
    assert any((pixels != sample.data[i]).any() for i, pixels in enumerate(changed))


def test_where_views_are_kept(monkeypatch):
    monkeypatch.setattr("sktransfer.finetune._activations.free_memory", lambda: 400)
    ask = {"from_pixels": False, "epochs": 10, "asked": "auto", "views": None}
    assert choose_storage(20, augmented=True, **ask).n_views == 4
    assert choose_storage(40, augmented=True, **ask).where == "memory"
    assert choose_storage(40, augmented=True, **ask).n_views == 2
    assert choose_storage(200, augmented=False, **ask).where == "disk"
    fresh = choose_storage(20, augmented=True, **{**ask, "from_pixels": True})
    assert (fresh.where, fresh.n_views) == ("nowhere", 10)


def test_an_image_that_cannot_be_read_is_named(sample, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    X = [*sample.data[:9], str(tmp_path / "bad.jpg")]
    for trainable in (1, "all"):
        with pytest.raises(ImageError, match=r"image 9 \(.*bad\.jpg\)"):
            FineTuneClassifier(trainable=trainable, image_size=32, cache=None).fit(X, [0, 1] * 5)


def test_batches_from_disk_are_read_while_others_are_learnt_from(sample, monkeypatch):
    """Three ahead of the one in use, in another thread; the same batches in the same order."""
    rows = np.arange(40.0, dtype=np.float32)
    read, arrived = [], threading.Semaphore(0)

    class Kept(Views):
        def __init__(self, where):
            self._where, self.sizes = where, None

        def __len__(self):
            return len(rows)

        def batch(self, view, numbers):
            read.append(threading.current_thread())
            arrived.release()
            return torch.from_numpy(rows[numbers])

        def targets(self, view, numbers):
            return None

    def iterator(where):
        examples = Examples(Kept(where), np.arange(40), None)
        return BatchIterator(examples, 4, torch.Generator().manual_seed(0))

    expected = [x.tolist() for x, _ in iterator("memory")]
    assert {thread.name for thread in read} == {threading.current_thread().name}
    read.clear()
    arrived = threading.Semaphore(0)
    batches = iter(iterator("disk"))
    found = []
    for n_read in (1, 5, 6, 7, 8, 9, 10, 10, 10, 10):
        found.append(next(batches)[0].tolist())
        while len(read) < n_read:
            assert arrived.acquire(timeout=60)
        assert len(read) == n_read
    assert next(batches, None) is None
    assert found == expected
    assert read[0] is threading.current_thread() and threading.current_thread() not in read[1:]
    # What nobody wants any more is not read, and the thread ends.
    read.clear()
    batches = iter(iterator("disk"))
    next(batches), next(batches)
    batches.close()
    assert len(read) <= 5 and not read[-1].is_alive()
