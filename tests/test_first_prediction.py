"""What a new process imports: nothing that it does not need. Modules are counted, not seconds."""

from __future__ import annotations

import json
import subprocess
import sys

import joblib
import numpy as np
import pytest
import torch
from common import relative
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import CNNCodes
from sktransfer._lazy import torch_build
from sktransfer.compute import _engine, available_cores
from sktransfer.inputs import _shrink
from sktransfer.networks import _noted
from sktransfer.networks._load import CACHE

PREDICT = """
import sys, json, joblib, numpy as np
model = joblib.load(sys.argv[1])
rows = model.predict_proba(np.load(sys.argv[2]))
print(json.dumps([rows.tolist(), sorted(sys.modules)]))
"""
HEAVY = ["torch", "timm", "torchvision", "torch._dynamo", "torch._inductor", "sympy", "triton",
         "transformers", "skorch", "matplotlib", "huggingface_hub"]  # fmt: skip


def imported_by(code, *words):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def own_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("SKTRANSFER_CACHE", str(tmp_path / "cache"))
    # What this process has made before would not be written into the folder.
    _noted._cuts.clear()
    _engine._engines.clear()
    return tmp_path / "cache"


def test_a_prediction_imports_no_network_library(sample, own_folder, tmp_path):
    """Once it was computed: the conversion and the layers are on disk."""
    pytest.importorskip("openvino")
    X = sample.data[:6]
    pipe = make_pipeline(CNNCodes(image_size=64, cache=None), StandardScaler(),
                         LogisticRegression()).fit(X, [0, 1] * 3)  # fmt: skip
    expected = pipe.predict_proba(X)
    joblib.dump(pipe, tmp_path / "pipe.joblib")
    np.save(tmp_path / "X.npy", X)
    found, modules = imported_by(PREDICT, tmp_path / "pipe.joblib", tmp_path / "X.npy")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert [name for name in HEAVY if name in modules] == []
    # Nor do photographs, of which the first ones are shrunk without torch.
    photos = [str(tmp_path / f"{i}.png") for i in range(2)]
    for path in photos:
        Image.fromarray(np.random.default_rng(len(path)).integers(0, 256, (150, 190, 3),
                                                                  np.uint8)).save(path)  # fmt: skip
    np.save(tmp_path / "photos.npy", photos)
    expected_of_photos = pipe.predict_proba(photos)
    found, modules = imported_by(PREDICT, tmp_path / "pipe.joblib", tmp_path / "photos.npy")
    np.testing.assert_allclose(found, expected_of_photos, rtol=1e-5, atol=1e-6)
    assert [name for name in HEAVY if name in modules] == []
    code = (
        "import sys, json\n"
        "from sktransfer.cli import main\n"
        "try:\n"
        "    main(['predict', *sys.argv[1:]])\n"
        "except SystemExit as end:\n"
        "    assert not end.code\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    answers = tmp_path / "answers.jsonl"
    modules = imported_by(code, tmp_path / "pipe.joblib", *photos, "-o", answers)
    labels = [json.loads(line)["label"] for line in answers.read_text().splitlines()]
    assert labels == [int(row.argmax()) for row in expected_of_photos]
    assert [name for name in HEAVY if name in modules] == []
    # Where nothing is on disk it is done again, and comes to the same.
    for path in own_folder.rglob("*.*"):
        path.unlink()
    found, modules = imported_by(PREDICT, tmp_path / "pipe.joblib", tmp_path / "X.npy")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert "timm" in modules


def loads(monkeypatch):
    """Names of the networks that are loaded."""
    names = []
    real = _noted.BackboneInfo.load
    monkeypatch.setattr(
        _noted.BackboneInfo, "load", lambda self: (names.append(self.name), real(self))[1]
    )
    return names


def test_layers_are_noted_once_and_say_the_same(sample, own_folder, monkeypatch):
    names = loads(monkeypatch)
    X = sample.data[:3]
    codes = CNNCodes(image_size=32, engine="torch").fit(X)
    real = codes._frozen().network
    assert names == ["efficientnet_lite0"] and len(list(own_folder.rglob("*.json"))) == 1
    # What this process has made before would not be written into the folder.
    _noted._cuts.clear()
    _engine._engines.clear()
    noted = codes._frozen().network
    assert type(noted) is not type(real) and names == ["efficientnet_lite0"]
    assert (noted.name, noted.identity, noted.private) == (real.name, real.identity, False)
    assert noted.every() == real.every() and noted.nameable() == real.nameable()
    for layer in real.every():
        assert noted.resolve(layer.name) == layer
        assert noted.keeps_items_apart(layer) == real.keeps_items_apart(layer)
    assert names == ["efficientnet_lite0"]
    # What asks for more has the network itself.
    assert noted.resolve(-1) == real.resolve(-1) and noted.stages() == real.stages()
    assert names == ["efficientnet_lite0"] * 2


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone", "folder"])
def test_a_damaged_note_is_not_believed(damage, sample, own_folder):
    X = sample.data[:3]
    codes = CNNCodes(image_size=32, engine="torch", cache=None).fit(X)
    expected = codes.transform(X)
    (path,) = own_folder.rglob("*.json")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "gone":
        half = bytes(content[: len(content) // 2])
        path.write_bytes({"flip": bytes(content), "cut": half, "empty": b""}[damage])
    # What this process has made before would not be written into the folder.
    _noted._cuts.clear()
    _engine._engines.clear()
    np.testing.assert_array_equal(codes.transform(X), expected)


def test_another_version_of_a_library_notes_again(sample, own_folder, monkeypatch):
    X = sample.data[:3]
    codes = CNNCodes(image_size=32, engine="torch", cache=None).fit(X)
    codes.transform(X)
    # What this process has made before would not be written into the folder.
    _noted._cuts.clear()
    _engine._engines.clear()
    before = _noted._versions()
    monkeypatch.setattr(_noted, "_versions", lambda: (*before[:-1], "99"))
    codes.transform(X)
    assert len(list(own_folder.rglob("*.json"))) == 2


def test_an_estimator_that_is_fitted_again_has_its_new_network(sample, own_folder):
    """The first one's note does not hold on to it."""
    X = sample.data[:3]
    first = CNNCodes(image_size=32, engine="torch", cache=None).fit(X)
    expected = first.transform(X)
    again = CNNCodes(image_size=32, engine="torch", cache=None).fit(X)
    # What this process has made before would not be written into the folder.
    _noted._cuts.clear()
    _engine._engines.clear()
    again.transform(X)
    again.set_params(backbone="resnet10t", weights=None).fit(X)
    CACHE.clear()
    assert again.transform(X).shape != expected.shape
    assert relative(first.transform(X), expected) < 1e-6


def test_importing_and_asking_for_help_import_nothing_heavy():
    """Neither torch nor scikit-learn, scipy, numpy or pandas."""
    code = "import sys, json, sktransfer; print(json.dumps(sorted(sys.modules)))"
    heavy = {"torch", "sklearn", "scipy", "numpy", "pandas", "PIL", "joblib", "timm", "openvino"}
    assert not heavy & set(imported_by(code))
    ask = (
        "import sys, json, io, contextlib\n"
        "from sktransfer.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()) as told:\n"
        "    try:\n"
        "        main(['--help'])\n"
        "    except SystemExit as end:\n"
        "        assert not end.code\n"
        "assert 'advise' in told.getvalue()\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    assert not heavy & set(imported_by(ask))


def test_a_service_that_is_warmed_up_has_torch_for_photographs(sample, own_folder, tmp_path):
    pytest.importorskip("openvino")
    pipe = make_pipeline(CNNCodes(image_size=32, cache=None), LogisticRegression())
    joblib.dump(pipe.fit(sample.data[:6], [0, 1] * 3), tmp_path / "pipe.joblib")
    code = (
        "import sys, json, joblib; from sktransfer import warm_up; "
        "model = joblib.load(sys.argv[1]); before = 'torch' in sys.modules; warm_up(model);"
        "print(json.dumps([before, 'torch' in sys.modules]))"
    )
    assert imported_by(code, tmp_path / "pipe.joblib") == [False, True]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_images_are_shrunk_without_torch_as_with_it(interpolation, monkeypatch):
    """To the last bit, on noise and on black and white, whose sums leave 8 bits."""
    rng = np.random.default_rng(0)
    cases = []
    for number in range(80):
        height, width = (int(n) for n in rng.integers(3, 500, 2))
        size = int(rng.integers(1, height)), int(rng.integers(1, width))
        shape = (height, width, 3) if number % 2 else (height, width)
        pixels = rng.integers(0, 256, shape, np.uint8)
        cases.append((pixels if number % 3 else (pixels > 127) * np.uint8(255), size))
    expected = [_shrink.shrink(*one, interpolation) for one in cases]
    asked = []
    monkeypatch.setattr(_shrink, "loaded_torch", lambda: asked.append(1))
    monkeypatch.setattr(_shrink, "_FEW", 10**9)
    for one, wanted in zip(cases, expected, strict=True):
        np.testing.assert_array_equal(_shrink.shrink(*one, interpolation), wanted)
    assert len(asked) == len(cases)


def test_what_is_said_of_torch_without_it():
    code = (
        "import sys, json; from sktransfer._lazy import torch_build; "
        "from sktransfer.compute import available_cores, resolve_devices; "
        "told = [torch_build().__version__, available_cores(), str(resolve_devices('auto')[0])];"
        "print(json.dumps([told, 'torch' in sys.modules]))"
    )
    told, imported = imported_by(code)
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    gpu = next((name for name, here in found.items() if here), "")
    # This process may be one of several, each of which has its share of the cores.
    assert told[0] == torch.__version__ == torch_build().__version__ and told[2] == (gpu or "cpu")
    assert told[1] == available_cores() and imported == bool(gpu)


@pytest.mark.parametrize("environment", [{}, {"OMP_NUM_THREADS": "1"}, {"MKL_NUM_THREADS": "1"},
                                         {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "1"},
                                         {"OMP_NUM_THREADS": "x"}])  # fmt: skip
def test_cores_are_as_many_without_torch(environment, monkeypatch):
    """As torch would compute on."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    code = (
        "import json; from sktransfer.compute import available_cores; before = available_cores();"
        "import torch; print(json.dumps([before, available_cores()]))"
    )
    before, after = imported_by(code)
    assert before == after
