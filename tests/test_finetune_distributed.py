"""Two processes that share each batch learn what one learns."""

from __future__ import annotations

import pickle
import socket
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from skorch.callbacks import GradientNormClipping

from sktransfer import FineTuneClassifier
from sktransfer.finetune import EMA, Mixup

pytest.importorskip("accelerate")

# Uneven parts, a last batch of one image, weights, mixing, clipping, a pull: everything
# that is not a plain mean over the batch.
HARD = {
    "trainable": 2, "image_size": 32, "max_epochs": 2, "batch_size": 7, "random_state": 0,
    "lr": 1e-2, "callbacks": [Mixup(0.3), EMA(0.9), GradientNormClipping(0.5)], "l2_sp": 0.1,
    "class_weight": "balanced", "augment": "light", "optimizer": "sgd", "early_stopping": True,
    "validation_fraction": 0.3, "patience": 50, "device": "cpu",
    "amp": "float32",  # parts of a batch round otherwise in bfloat16
}  # fmt: skip
SCRIPT = """
import os, pickle, sys
import numpy as np
from sktransfer import FineTuneClassifier
from sktransfer.datasets import load_cifar10_sample

folder, wrong = sys.argv[1:]
with open(f"{folder}/parameters", "rb") as file:
    parameters = pickle.load(file)
X, y = load_cifar10_sample(return_X_y=True)
X, y, weight = X[:42], y[:42] % 3, 1.0 + np.arange(42) % 4
rank = int(os.environ["RANK"])
if wrong == "wrong" and rank == 1:
    y = y[::-1]
clf = FineTuneClassifier(distributed=True, verbose=1, **parameters)
clf.fit(X, y, sample_weight=weight)
np.savez(f"{folder}/{rank}.npz", loss=clf.history_[:, "train_loss"],
         valid=clf.history_[:, "valid_loss"], accuracy=clf.history_[:, "train_acc"],
         **clf._load_model().learnt())
"""


def launch(folder, parameters, n_processes=2, wrong=""):
    script = folder / "script.py"
    script.write_text(SCRIPT)
    (folder / "parameters").write_bytes(pickle.dumps(parameters))
    return torchrun(script, str(folder), wrong, n_processes=n_processes)


def torchrun(script, *words, n_processes=2):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", str(n_processes),
                "--master_addr", "127.0.0.1", "--master_port", port]  # fmt: skip
    return subprocess.run(
        [sys.executable, *launcher, str(script), *words],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def data(sample):
    return sample.data[:42], sample.target[:42] % 3, 1.0 + np.arange(42) % 4


def assert_like_one(folder, clf):
    first, second = (np.load(folder / f"{rank}.npz") for rank in (0, 1))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    for name, value in clf._load_model().learnt().items():
        np.testing.assert_allclose(first[name], value, atol=1e-5, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(first["loss"], clf.history_[:, "train_loss"], rtol=1e-5)
    np.testing.assert_allclose(first["valid"], clf.history_[:, "valid_loss"], rtol=1e-5)
    np.testing.assert_array_equal(first["accuracy"], clf.history_[:, "train_acc"])


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(data, tmp_path):
    X, y, weight = data
    done = launch(tmp_path, {**HARD, "checkpoint_dir": str(tmp_path / "checkpoints")})
    assert done.returncode == 0, done.stderr[-3000:]
    clf = FineTuneClassifier(**HARD).fit(X, y, sample_weight=weight)
    assert_like_one(tmp_path, clf)
    # One process prints and writes.
    assert done.stdout.count("valid_loss") == 1
    (file,) = (tmp_path / "checkpoints").glob("*.pt")
    # Two epochs that were validated, and two of all images.
    assert file.name == "epoch-000004-finished.pt"
    # Both take the finished fit from there.
    again = launch(tmp_path, {**HARD, "checkpoint_dir": str(tmp_path / "checkpoints")})
    assert again.returncode == 0, again.stderr[-3000:]
    assert_like_one(tmp_path, clf)


@pytest.mark.slow
def test_processes_with_other_labels_stop(tmp_path):
    done = launch(tmp_path, HARD, wrong="wrong")
    assert done.returncode != 0
    assert "must have the same targets" in done.stderr


def test_one_process_is_an_ordinary_fit(data):
    X, y, weight = data
    parameters = {**HARD, "trainable": "head"}
    alone = FineTuneClassifier(**parameters).fit(X, y, sample_weight=weight)
    clf = FineTuneClassifier(**parameters, distributed=True).fit(X, y, sample_weight=weight)
    for name, value in alone._load_model().learnt().items():
        np.testing.assert_array_equal(clf._load_model().learnt()[name], value)


def test_without_accelerate_the_extra_is_named(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ImportError, match=r"sktransfer\[distributed\]"):
        FineTuneClassifier(distributed=True).fit(*data[:2])


@pytest.mark.slow
def test_the_example_runs_in_two_processes(tmp_path, sample):
    example = Path(__file__).parents[1] / "examples" / "several_gpus.py"
    small = [
        "--device",
        "cpu",
        "--images",
        "40",
        "--image-size",
        "32",
        "--amp",
        "float32",
    ]
    done = torchrun(example, *small, "--save", str(tmp_path / "together.joblib"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("accuracy") == 1, "the first process alone"
    alone = [sys.executable, str(example), *small, "--save", str(tmp_path / "alone.joblib")]
    subprocess.run(alone, check=True, capture_output=True, timeout=300)
    together, one = (joblib.load(tmp_path / f"{name}.joblib") for name in ("together", "alone"))
    X = sample.data[40:60]
    # Adam takes whole steps also where a gradient is little more than rounding.
    np.testing.assert_allclose(together.predict_proba(X), one.predict_proba(X), atol=3e-3)


# Texts, whose parts of a batch have other lengths, and of words other numbers of places.
TEXTS_SCRIPT = """
import os, pickle, sys
import numpy as np
import sktransfer

folder = sys.argv[1]
with open(f"{folder}/given", "rb") as file:
    name, parameters, X, y = pickle.load(file)
clf = getattr(sktransfer, name)(distributed=True, **parameters).fit(X, y)
np.savez(f"{folder}/{os.environ['RANK']}.npz", **clf._load_model().learnt())
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["FineTuneTextClassifier", "FineTuneTokenLabeller"])
def test_processes_share_batches_of_texts(name, tmp_path):
    from networks_for_text import small_model, small_tokenizer, words

    import sktransfer

    small_model().save_pretrained(tmp_path)
    small_tokenizer().save(str(tmp_path / "tokenizer.json"))
    texts = [words(2 + 7 * (seed % 9), seed=seed) for seed in range(21)]
    X, y = texts, [seed % 3 for seed in range(21)]
    if name == "FineTuneTokenLabeller":
        X = [text.split() for text in texts]
        y = [[int(word[1:]) % 2 for word in one] for one in X]
    parameters = {
        "backbone": str(tmp_path), "trainable": 2, "batch_size": 5, "max_epochs": 2, "lr": 1e-2,
        "random_state": 0, "device": "cpu", "amp": "float32", "engine": "torch",
    }  # fmt: skip
    (tmp_path / "given").write_bytes(pickle.dumps((name, parameters, X, y)))
    (tmp_path / "script.py").write_text(TEXTS_SCRIPT)
    done = torchrun(tmp_path / "script.py", str(tmp_path))
    assert done.returncode == 0, done.stderr[-2000:]
    alone = getattr(sktransfer, name)(**parameters).fit(X, y)
    first, second = (np.load(tmp_path / f"{rank}.npz") for rank in (0, 1))
    for key, value in alone._load_model().learnt().items():
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)
        np.testing.assert_allclose(first[key], value, atol=1e-4, err_msg=key)
