"""A fit that was killed ends as one that was not; and checkpoints are of one fit."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from common import assert_equal, learnt
from sklearn.model_selection import cross_val_score

from sktransfer import FineTuneClassifier
from sktransfer.exceptions import CheckpointError, CheckpointWarning
from sktransfer.finetune import EMA, GradualUnfreeze, Mixup
from sktransfer.finetune._checkpoints import _read, _write, digest_of

# Everything that draws numbers or remembers something between epochs.
STATEFUL = {
    "trainable": 1, "image_size": 32, "max_epochs": 6, "batch_size": 8,
    "dropout": 0.2, "early_stopping": True, "validation_fraction": 0.2, "augment": "light",
    "random_state": 3, "l2_sp": 0.01,
    "callbacks": [Mixup(0.2), EMA(0.9), ("gradual", GradualUnfreeze(2))],
}  # fmt: skip
SERVER = """
import os, sys, time
import numpy as np
from sktransfer import FineTuneClassifier
from sktransfer.datasets import load_cifar10_sample
from sktransfer.finetune import EMA, GradualUnfreeze, Mixup
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
np.savez(result + ".partial.npz", **clf._load_model().learnt())
os.replace(result + ".partial.npz", result)
"""


# One epoch of a head.
SHORT = {
    **STATEFUL, "max_epochs": 1, "trainable": "head", "augment": None, "l2_sp": 0.0,
    "callbacks": [Mixup(0.2), EMA(0.9)],
}  # fmt: skip


@pytest.fixture(scope="module")
def finished_fit(forty, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    FineTuneClassifier(**SHORT, checkpoint_dir=folder).fit(*forty)
    return folder


@pytest.fixture
def finished(finished_fit, tmp_path):
    """The checkpoints of a fit that is done, for each test again."""
    return shutil.copytree(finished_fit, tmp_path / "finished")


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


@pytest.mark.parametrize(
    ("optimizer", "n_steps"), [("adamw", 1), ("sgd", 9), ("adamw", 14), ("sgd", 16), ("adamw", 23)]
)
def test_goes_on(forty, tmp_path, monkeypatch, n_steps, optimizer):
    """Also where it was killed when all images were trained on after some had been held out."""
    parameters = {**STATEFUL, "optimizer": optimizer, "max_epochs": 4}
    whole = FineTuneClassifier(**parameters).fit(*forty)
    clf = FineTuneClassifier(**parameters, checkpoint_dir=tmp_path)
    with monkeypatch.context() as patch:
        dies_after(patch, n_steps)
        with pytest.raises(Dies):
            clf.fit(*forty)
    # Four steps an epoch, then five: what was learnt in whole epochs is not learnt again.
    assert whole.best_epoch_ >= 2
    steps = [*range(0, 16, 4), *range(16, 16 + 5 * whole.best_epoch_, 5)]
    with monkeypatch.context() as patch:
        dies_after(patch, 16 + 5 * whole.best_epoch_ - max(n for n in steps if n <= n_steps))
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


@pytest.mark.slow
def test_early_stopping_ends_the_same(forty, tmp_path, monkeypatch):
    parameters = {**STATEFUL, "lr": 0.3, "patience": 2, "max_epochs": 40}
    parameters["callbacks"] = SHORT["callbacks"]
    whole = FineTuneClassifier(**parameters).fit(*forty)
    assert whole.n_iter_ < 40
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


CHANGES = {
    "lr": ({"lr": 3e-3}, "lr was 0.002 and is 0.003"),
    "two parameters": (
        {"lr": 3e-3, "dropout": 0.3},
        "dropout was 0.2 and is 0.3; lr was 0.002 and is 0.003",
    ),
    "a callback": (
        {"callbacks": [Mixup(0.3), EMA(0.9)]},
        r"callbacks was \[Mixup\(alpha=0.2\), EMA\(decay=0.9\)\] and is \[Mixup\(alpha=0.3\)",
    ),
    "the optimizer": ({"optimizer": type("SGD", (torch.optim.SGD,), {})}, "optimizer was 'adamw'"),
    "the seed": ({"random_state": 4}, "random_state was 3 and is 4"),
    "an image": ({}, "X differs"),
    "fewer images": ({}, "X was 40 images and is 39 images; y was 40 targets"),
    "a label": ({}, "y differs"),
    "weights": ({}, "sample_weight was not given and is 40 weights"),
    "validation": ({}, "X of validation_data was not there and is 2 images"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_another_fit_is_an_error_that_names_what_differs(finished, forty, what):
    changes, message = CHANGES[what]
    X, y, more = forty[0].copy(), forty[1].copy(), {}
    if what == "an image":
        X[7, 3, 3, 0] ^= 1
    elif what == "fewer images":
        X, y = X[1:], y[1:]
    elif what == "a label":
        y[7] = 1 - y[7]
    elif what == "weights":
        more["sample_weight"] = np.arange(40) + 1.0
    elif what == "validation":
        more["validation_data"] = (X[:2], y[:2])
    clf = FineTuneClassifier(**{**SHORT, **changes}, checkpoint_dir=finished)
    with pytest.raises(CheckpointError, match=rf"of another fit: .*{message}.*\{{fit\}}") as caught:
        clf.fit(X, y, **more)
    assert len(str(caught.value)) < 2000 and "\n" not in str(caught.value)
    assert set(vars(clf)) == set(clf.get_params())


def test_functions_are_told_by_what_they_do(forty, tmp_path):
    """Two heads of one name, and one that cannot be told from others."""

    def head_of(width):
        return lambda n_inputs, n_outputs: torch.nn.Sequential(
            torch.nn.Linear(n_inputs, width), torch.nn.Linear(width, n_outputs)
        )

    clf = FineTuneClassifier(**{**SHORT, "head": head_of(3)}, checkpoint_dir=tmp_path).fit(*forty)
    assert learnt(clf)["head.0.weight"].shape[0] == 3
    FineTuneClassifier(**{**SHORT, "head": head_of(3)}, checkpoint_dir=tmp_path).fit(*forty)
    with pytest.raises(CheckpointError, match="another fit: head"):
        FineTuneClassifier(**{**SHORT, "head": head_of(4)}, checkpoint_dir=tmp_path).fit(*forty)
    lock = threading.Lock()
    locked = {**SHORT, "head": lambda a, b: torch.nn.Linear(a, b) if lock else None}
    with pytest.raises(CheckpointError, match="compared after a restart, but head holds lock"):
        FineTuneClassifier(**locked, checkpoint_dir=tmp_path).fit(*forty)


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


def test_every_damage_is_seen(finished, tmp_path):
    """Flipped bits, bytes cut off, put in, zeroed and swapped; nowhere another error than ours."""
    whole = next(finished.glob("*.pt")).read_bytes()
    draw, file = random.Random(0), tmp_path / "epoch-000001.pt"
    for number in range(300):
        data = bytearray(whole)
        at, size = draw.randrange(len(data)), draw.randrange(1, 2000)
        kind = number % 6
        if kind < 2:
            data[at if kind else len(data) - draw.randrange(1, 200)] ^= 1 << draw.randrange(8)
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            data[at:at] = draw.randbytes(size)
        elif kind == 4:
            del data[at : at + size]
        else:
            data[at : at + size] = draw.randbytes(len(data[at : at + size]))
        file.write_bytes(data)
        with pytest.raises(CheckpointError, match=r"epoch-000001\.pt cannot be read") as caught:
            _read(file)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 2000
    file.write_bytes(whole)
    assert torch.load(file, weights_only=True)["done"] == _read(file)["done"]


def test_a_damaged_file_alone_is_named(finished, forty):
    (file,) = finished.glob("*.pt")
    file.write_bytes(file.read_bytes()[:1000])
    clf = FineTuneClassifier(**SHORT, checkpoint_dir=finished)
    with pytest.raises(CheckpointError, match=rf"{file.name} cannot be read.*Delete"):
        clf.fit(*forty)
    assert set(vars(clf)) == set(clf.get_params())


def test_a_damaged_file_is_set_aside_where_there_is_an_earlier_one(forty, tmp_path):
    parameters = {**SHORT, "max_epochs": 3, "keep_checkpoints": 3, "checkpoint_dir": tmp_path}
    whole = FineTuneClassifier(**parameters).fit(*forty)
    # Three epochs that are validated, and three in which all images are trained on.
    last = tmp_path / "epoch-000006-finished.pt"
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 1
    last.write_bytes(data)
    with pytest.warns(CheckpointWarning, match=rf"{last.name} cannot .* resumes from epoch-000006"):
        again = FineTuneClassifier(**parameters).fit(*forty)
    assert_equal(learnt(again), learnt(whole))
    assert (tmp_path / f"{last.name}.damaged").read_bytes() == data


def test_a_damaged_file_takes_a_name_that_is_free(finished, forty):
    (file,) = finished.glob("*.pt")
    earlier = finished / "epoch-000001.pt"
    shutil.copy(file, earlier)
    file.write_bytes(b"damaged")
    taken = finished / f"{file.name}.damaged"
    taken.mkdir()
    with pytest.warns(CheckpointWarning, match=rf"renamed to {file.name}\.damaged-2;"):
        FineTuneClassifier(**SHORT, checkpoint_dir=finished).fit(*forty)
    assert taken.is_dir()
    assert (finished / f"{file.name}.damaged-2").read_bytes() == b"damaged"


@pytest.mark.parametrize("folder", ["", " "])
def test_an_empty_path_is_no_folder(forty, tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    clf = FineTuneClassifier(**SHORT, checkpoint_dir=folder)
    with pytest.raises(CheckpointError, match="checkpoint_dir must be the path of a folder"):
        clf.fit(*forty)
    assert not list(tmp_path.iterdir())


CRAFTED = {
    "no weights": lambda s: s.update(weights={}),
    "one missing": lambda s: s["weights"].pop("head.2.bias"),
    "another name": lambda s: s["weights"].update(more=torch.ones(2)),
    "another shape": lambda s: s["weights"].update({"head.2.bias": torch.ones(3)}),
    "another type": lambda s: s["weights"].update({"head.2.bias": torch.ones(2).double()}),
    "no tensor": lambda s: s["weights"].update({"head.2.bias": 3}),
    "moments": lambda s: s["optimizer"]["state"][0].update(exp_avg=torch.ones(5)),
    "groups": lambda s: s["optimizer"]["param_groups"].pop(),
    "no optimizer": lambda s: s.pop("optimizer"),
    "history": lambda s: s.update(history="[{"),
    "no rows": lambda s: s.update(history="[1]"),
    "mixing": lambda s: s.update(mixing='{"bit_generator": "none"}'),
    "torch": lambda s: s.update(torch=torch.ones(3)),
    "order": lambda s: s.update(order=torch.ones(3)),
    "format": lambda s: s.update(format=1),
    "done": lambda s: s.update(done="1"),
    "less than nothing done": lambda s: s.update(done=-1),
    "more done than there was": lambda s: s.update(done=10**6),
    "no number": lambda s: s.update(done=True),
    "a seed below zero": lambda s: s.update(seed=-1),
    "a large seed": lambda s: s.update(seed=2**70),
    "views": lambda s: s.update(n_views=-3),
    "no views": lambda s: s.update(n_views=0),
    "facts": lambda s: s.update(facts={"lr": 3}, signature="another"),
    "watched": lambda s: s.update(watched="[{"),
    "no best epoch": lambda s: s.pop("best_epoch"),
    "a best epoch that was none": lambda s: s.update(best_epoch=2),
}


@pytest.mark.parametrize("what", CRAFTED)
def test_whole_files_that_do_not_fit_are_named(finished, forty, what):
    (file,) = finished.glob("*.pt")
    state = _read(file)
    CRAFTED[what](state)
    file.unlink()
    _write(file, state)
    clf = FineTuneClassifier(**SHORT, checkpoint_dir=finished)
    message = rf"{file.name} (cannot be read|does not fit).*Delete"
    with pytest.raises(CheckpointError, match=message):
        clf.fit(*forty)
    assert set(vars(clf)) == set(clf.get_params())


@pytest.mark.skipif(sys.platform == "win32", reason="needs links and pipes")
@pytest.mark.parametrize("name", ["epoch-000001.pt", "epoch-000001.partial", ".lock"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_links_and_pipes_in_the_place_of_files(forty, tmp_path, name, kind):
    victim, folder = tmp_path / "victim", tmp_path / "checkpoints"
    victim.write_text("precious")
    folder.mkdir()
    (folder / name).symlink_to(victim) if kind == "link" else os.mkfifo(folder / name)
    clf = FineTuneClassifier(**SHORT, checkpoint_dir=folder)
    if name.endswith("partial"):
        clf.fit(*forty)
    else:
        with pytest.raises(CheckpointError, match=rf"{name} must be a plain file"):
            clf.fit(*forty)
    assert victim.read_text() == "precious"


def test_files_hold_no_code(finished, forty):
    """A pickle that would run something is an error and runs nothing."""
    (file,) = finished.glob("*.pt")

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {finished}/ran",)

    clf = FineTuneClassifier(**SHORT, checkpoint_dir=finished)
    for write in (torch.save, lambda state, path: _write(path, state)):
        file.unlink()
        write({"format": 2, "evil": Evil()}, file)
        with pytest.raises(CheckpointError, match="cannot be read"):
            clf.fit(*forty)
    assert not (finished / "ran").exists()


@pytest.mark.slow
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


@pytest.mark.slow
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
        "from sktransfer.finetune._checkpoints import digest_of;"
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


def test_a_user_without_a_home(homeless, sample):
    clf = FineTuneClassifier(image_size=32, max_epochs=1, trainable="head", checkpoint_dir="~/fits")
    with pytest.raises(CheckpointError, match="no such home folder; write the whole path"):
        clf.fit(sample.data[:8], sample.target[:8] % 2)
