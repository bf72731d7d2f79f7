"""A fit that was killed ends as one that was not; and checkpoints are of one fit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from sklearn.model_selection import cross_val_score

from sktransfer import FineTuneClassifier
from sktransfer.exceptions import CheckpointError, CheckpointWarning
from sktransfer.finetune._signature import digest_of

# Everything that draws numbers or remembers something between epochs.
STATEFUL = {
    "trainable": 1, "image_size": 32, "max_epochs": 6, "batch_size": 8, "mixup": 0.2, "ema": 0.9,
    "dropout": 0.2, "early_stopping": True, "validation_fraction": 0.2, "augment": "light",
    "random_state": 3, "unfreeze_every": 2, "l2_sp": 0.01,
}  # fmt: skip
SERVER = """
import os, sys, time
import numpy as np
from sktransfer import FineTuneClassifier
from sktransfer.datasets import load_cifar10_sample
from sktransfer.finetune._net import _Steps

folder, cache, result, parameters = sys.argv[1:]
X, y = load_cifar10_sample(return_X_y=True)
clf = FineTuneClassifier(checkpoint_dir=folder, cache=cache, **eval(parameters))
plain = _Steps.train_step_single

def step(self, batch, **kwargs):
    time.sleep(0.02)
    return plain(self, batch, **kwargs)

_Steps.train_step_single = step
print("ready", flush=True)
clf.fit(X[:60], y[:60] % 2)
np.savez(result + ".partial.npz", **clf._model.learnt())
os.replace(result + ".partial.npz", result)
"""


@pytest.fixture(scope="module")
def forty(sample):
    return sample.data[:40], sample.target[:40] % 2


def learnt(clf):
    return clf._model.learnt()


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


class Dies(Exception):
    pass


def dies_after(monkeypatch, n_steps):
    """Every fit stops dead after so many steps."""
    from sktransfer.finetune._net import _Steps

    plain, left = _Steps.train_step_single, [n_steps]

    def step(self, batch, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise Dies
        return plain(self, batch, **kwargs)

    monkeypatch.setattr(_Steps, "train_step_single", step)


@pytest.mark.parametrize("n_steps", [1, 9, 14])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_goes_on(forty, tmp_path, monkeypatch, n_steps, optimizer):
    parameters = {**STATEFUL, "optimizer": optimizer, "max_epochs": 4}
    whole = FineTuneClassifier(**parameters).fit(*forty)
    clf = FineTuneClassifier(**parameters, checkpoint_dir=tmp_path)
    with monkeypatch.context() as patch:
        dies_after(patch, n_steps)
        with pytest.raises(Dies):
            clf.fit(*forty)
    # Four steps an epoch: what was learnt in whole epochs is not learnt again.
    before = n_steps // 4
    with monkeypatch.context() as patch:
        dies_after(patch, 4 * (4 - before))
        again = FineTuneClassifier(**parameters, checkpoint_dir=tmp_path).fit(*forty)
    assert_equal(learnt(again), learnt(whole))
    assert again.n_iter_ == whole.n_iter_ == 4
    for column in ("train_loss", "valid_loss", "lr head", "valid_loss_best"):
        assert again.history_[:, column] == whole.history_[:, column]


def test_a_finished_fit_returns_at_once(forty, tmp_path, monkeypatch):
    clf = FineTuneClassifier(**STATEFUL, checkpoint_dir=tmp_path).fit(*forty)
    dies_after(monkeypatch, 0)
    again = FineTuneClassifier(**STATEFUL, checkpoint_dir=tmp_path).fit(*forty)
    assert_equal(learnt(again), learnt(clf))
    assert again.history_[:, "train_loss"] == clf.history_[:, "train_loss"]
    np.testing.assert_array_equal(again.predict_proba(forty[0]), clf.predict_proba(forty[0]))


def test_early_stopping_ends_the_same(forty, tmp_path, monkeypatch):
    parameters = {**STATEFUL, "lr": 0.3, "patience": 2, "max_epochs": 10, "unfreeze_every": None}
    whole = FineTuneClassifier(**parameters).fit(*forty)
    assert whole.n_iter_ < 10
    with monkeypatch.context() as patch:
        dies_after(patch, 4 * (whole.n_iter_ - 1) + 2)
        with pytest.raises(Dies):
            FineTuneClassifier(**parameters, checkpoint_dir=tmp_path).fit(*forty)
    again = FineTuneClassifier(**parameters, checkpoint_dir=tmp_path).fit(*forty)
    assert_equal(learnt(again), learnt(whole))
    assert again.n_iter_ == whole.n_iter_


def test_without_a_seed_the_fit_keeps_its_own(forty, tmp_path, monkeypatch):
    parameters = {**STATEFUL, "random_state": None, "max_epochs": 2}
    with monkeypatch.context() as patch:
        dies_after(patch, 5)
        with pytest.raises(Dies):
            FineTuneClassifier(**parameters, checkpoint_dir=tmp_path).fit(*forty)
    (file,) = tmp_path.glob("*.pt")
    seed = torch.load(file, weights_only=True)["seed"]
    clf = FineTuneClassifier(**parameters, checkpoint_dir=tmp_path).fit(*forty)
    assert clf._fitted.design.seed == seed


@pytest.mark.parametrize("what", ["lr", "photograph", "label", "sample_weight"])
def test_another_fit_is_an_error(forty, tmp_path, what):
    X, y = forty[0].copy(), forty[1].copy()
    clf = FineTuneClassifier(**{**STATEFUL, "max_epochs": 1}, checkpoint_dir=tmp_path).fit(X, y)
    before = learnt(clf)
    weight = None
    if what == "lr":
        clf.set_params(lr=3e-3)
    elif what == "photograph":
        X[7, 3, 3, 0] ^= 1
    elif what == "label":
        y[7] = 1 - y[7]
    else:
        weight = np.arange(40) + 1.0
    with pytest.raises(CheckpointError, match=r"of another fit.*\{fit\}"):
        FineTuneClassifier(**clf.get_params()).fit(X, y, sample_weight=weight)
    again = FineTuneClassifier(**{**STATEFUL, "max_epochs": 1}, checkpoint_dir=tmp_path)
    assert_equal(learnt(again.fit(*forty)), before)


def test_each_fold_has_a_folder_of_its_own(forty, tmp_path):
    clf = FineTuneClassifier(
        trainable="head", image_size=32, max_epochs=1, checkpoint_dir=tmp_path / "{fit}"
    )
    cross_val_score(clf, *forty, cv=3, error_score="raise")
    assert len(list(tmp_path.iterdir())) == 3
    assert len(list(tmp_path.glob("*/*.pt"))) == 3


@pytest.mark.parametrize("keep", [1, 3])
def test_as_many_files_as_asked(forty, tmp_path, keep):
    parameters = {**STATEFUL, "max_epochs": 5, "keep_checkpoints": keep}
    FineTuneClassifier(**parameters, checkpoint_dir=tmp_path).fit(*forty)
    assert len(list(tmp_path.glob("*.pt"))) == keep
    assert not list(tmp_path.glob("*.partial"))


def test_a_damaged_file_is_named(forty, tmp_path):
    clf = FineTuneClassifier(**{**STATEFUL, "max_epochs": 1}, checkpoint_dir=tmp_path).fit(*forty)
    (file,) = tmp_path.glob("*.pt")
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"epoch-000001-finished\.pt cannot be read.*Delete"):
        clf.fit(*forty)


def test_files_hold_no_code(forty, tmp_path):
    """A pickle that would run something is an error and runs nothing."""
    clf = FineTuneClassifier(**{**STATEFUL, "max_epochs": 1}, checkpoint_dir=tmp_path).fit(*forty)
    (file,) = tmp_path.glob("*.pt")

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    torch.save({"format": 1, "evil": Evil()}, file)
    with pytest.raises(CheckpointError, match="cannot be read"):
        clf.fit(*forty)
    assert not (tmp_path / "ran").exists()


def test_a_full_disk_does_not_end_the_fit(forty, tmp_path, monkeypatch):
    parameters = {**STATEFUL, "max_epochs": 2}
    whole = FineTuneClassifier(**parameters).fit(*forty)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(CheckpointWarning, match="No space left"):
        clf = FineTuneClassifier(**parameters, checkpoint_dir=tmp_path).fit(*forty)
    assert_equal(learnt(clf), learnt(whole))
    assert not list(tmp_path.glob("epoch*"))


def test_two_fits_do_not_write_into_one_folder(forty, tmp_path):
    from filelock import FileLock

    with FileLock(tmp_path / ".lock"), pytest.raises(CheckpointError, match="at this moment"):
        FineTuneClassifier(**STATEFUL, checkpoint_dir=tmp_path).fit(*forty)


def test_ctrl_c_is_not_the_end_of_a_fit(forty, tmp_path, monkeypatch):
    """skorch would end as if the fit were done."""
    from sktransfer.finetune._net import _Steps

    parameters = {**STATEFUL, "max_epochs": 3}
    whole = FineTuneClassifier(**parameters).fit(*forty)

    def interrupt(self, batch, **kwargs):
        if len(self.history) == 2:
            raise KeyboardInterrupt
        return plain(self, batch, **kwargs)

    plain = _Steps.train_step_single
    with monkeypatch.context() as patch:
        patch.setattr(_Steps, "train_step_single", interrupt)
        with pytest.raises(KeyboardInterrupt):
            FineTuneClassifier(**parameters, checkpoint_dir=tmp_path).fit(*forty)
    again = FineTuneClassifier(**parameters, checkpoint_dir=tmp_path).fit(*forty)
    assert_equal(learnt(again), learnt(whole))


@pytest.mark.slow
def test_digest_is_the_same_in_every_process():
    """Also of functions, sets and objects whose repr is an address."""
    script = (
        "from skorch.callbacks import GradientNormClipping; from torch.optim import SGD;"
        "from sktransfer.finetune._signature import digest_of;"
        "print(digest_of([{'a', 'b', 'c'}, GradientNormClipping(2), SGD, lambda x: x + 1, 1.0]))"
    )
    made = {
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
        ).stdout
        for seed in (1, 2)
    }  # fmt: skip
    assert len(made) == 1
    different = [1, 1.0, "1", True, [1], (1,), {1: 1}, np.ones(1), lambda x: x + 1, lambda x: x + 2]
    assert len({digest_of(one) for one in different}) == len(different)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs kill -9")
def test_killed(sample, tmp_path):
    """kill -9 at random moments, until it finishes."""
    parameters = {**STATEFUL, "max_epochs": 8, "patience": 50}
    draw = random.Random(seed := int.from_bytes(os.urandom(3)))
    result = tmp_path / "result.npz"
    arguments = [str(tmp_path / "checkpoints"), str(tmp_path / "cache"), str(result)]
    command = [sys.executable, "-c", SERVER, *arguments, repr(parameters)]
    # Bits are those of a number of threads, and clusters of other tests leave theirs behind.
    number, plain = str(torch.get_num_threads()), dict(os.environ)
    threads = {**plain, "OMP_NUM_THREADS": number, "MKL_NUM_THREADS": number}
    kills = 0
    while not result.exists():
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=threads) as child:
            assert child.stdout.readline() == "ready\n"
            end = time.monotonic() + (draw.uniform(0.2, 3) if kills < 5 else 300)
            while child.poll() is None and time.monotonic() < end:
                time.sleep(0.01)
            if child.poll() is None:
                child.send_signal(signal.SIGKILL)
                kills += 1
            else:
                assert child.returncode == 0
    whole = FineTuneClassifier(**parameters).fit(sample.data[:60], sample.target[:60] % 2)
    print(f"{kills} kills, seed {seed}")
    assert kills > 1, f"it was over too early: seed {seed}"
    with np.load(result) as got:
        assert_equal(dict(got), learnt(whole))
