"""Fitted estimators as plain networks and as files: what they compute without scikit-learn."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import VarianceThreshold
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, PowerTransformer, StandardScaler
from sklearn.svm import SVC, LinearSVC

import sktransfer
from sktransfer import (
    CNNCodes,
    FineTuneClassifier,
    FineTuneRegressor,
    FineTuneSegmenter,
    PixelClassifier,
    TextCodes,
    export,
    to_torch,
)
from sktransfer.deploy import _files
from sktransfer.exceptions import ExportError
from sktransfer.inputs import as_images

# As the plain network computes: in float32, and with nothing to resize.
PLAIN = {"image_size": 32, "resize": "squash", "engine": "torch", "precision": "float32"}
RANDOM = {"weights": None, "preprocessing": "default"}
VIT = "timm:vit_tiny_patch16_224"


def codes(**params):
    return CNNCodes("resnet18", **RANDOM, **{**PLAIN, **params})


@pytest.fixture(scope="module")
def three(sample):
    """Images with one label of three."""
    return sample.data[:40], np.array(["cat", "dog", "owl"])[sample.target[:40] % 3]


@pytest.fixture(scope="module")
def pixels(three):
    """The images as the network takes them."""
    return torch.from_numpy(three[0])


@pytest.fixture(scope="module")
def fitted(three):
    return make_pipeline(codes(), StandardScaler(), LogisticRegression()).fit(*three)


@pytest.mark.parametrize(
    "params",
    [{}, {"pooling": "gem", "normalize": "l2"}, {"pooling": "flatten", "normalize": "power"},
     {"layer": ["layer3", "layer4"]}, {"layer": "layer3", "pooling": None}],
    ids=str,
)  # fmt: skip
def test_codes(three, pixels, params):
    own = codes(**params).fit(three[0])
    network = to_torch(own)
    assert network.kind == "codes"
    expected = own.transform(three[0])
    found = network(pixels).numpy()
    assert found.shape == expected.shape
    # Near 0 square roots make much of the last digit.
    close = 1e-4 if params.get("normalize") == "power" else 1e-5
    np.testing.assert_allclose(found, expected, atol=close * abs(expected).max())
    with pytest.raises(RuntimeError, match="no probabilities"):
        network.predict_proba(pixels)


PROBABILITIES = [
    [StandardScaler(), LogisticRegression()],
    [LinearDiscriminantAnalysis()],
    [PCA(10, whiten=True), LogisticRegression()],
    [Normalizer("l1"), MinMaxScaler(), LogisticRegression()],
    [VarianceThreshold(), LinearDiscriminantAnalysis(n_components=2), LogisticRegression()],
    [StandardScaler(), SGDClassifier(loss="log_loss", alpha=0.1, random_state=0)],
    [StandardScaler(), SGDClassifier(loss="modified_huber", random_state=0)],
    [StandardScaler(), OneVsRestClassifier(LogisticRegression())],
]


@pytest.mark.parametrize(
    "steps, n_classes",
    [pytest.param(steps, 3, marks=pytest.mark.slow if number in (1, 2, 4) else [])
     for number, steps in enumerate(PROBABILITIES)]
    + [pytest.param(steps, 2, marks=[] if number in (1, 6) else pytest.mark.slow)
       for number, steps in enumerate(PROBABILITIES)],
    ids=str,
)  # fmt: skip
def test_probabilities_of_pipelines(three, pixels, steps, n_classes):
    X, y = three
    y = y if n_classes == 3 else y == "dog"
    steps = [PCA(1) if isinstance(one, LinearDiscriminantAnalysis) and one is not steps[-1]
             and n_classes == 2 else one for one in steps]  # fmt: skip
    pipe = make_pipeline(codes(), *steps).fit(X, y)
    network = to_torch(pipe)
    np.testing.assert_allclose(network.predict_proba(pixels), pipe.predict_proba(X), atol=1e-5)
    found = np.asarray(network.classes_)[network(pixels).argmax(1)]
    np.testing.assert_array_equal(found, pipe.predict(X))


@pytest.mark.parametrize("model", [LinearSVC(), RidgeClassifier()], ids=str)
def test_models_without_probabilities(three, pixels, model):
    X, y = three
    pipe = make_pipeline(codes(), StandardScaler(), model).fit(X, y)
    network = to_torch(pipe)
    scores = pipe.decision_function(X)
    np.testing.assert_allclose(network(pixels), scores, atol=1e-5 * abs(scores).max())
    assert network.link == "none" and network.classes_ == ["cat", "dog", "owl"]


def test_two_classes_of_a_support_vector_machine(three, pixels):
    X, y = three
    pipe = make_pipeline(codes(), SVC(kernel="linear")).fit(X, y == "dog")
    logits = to_torch(pipe)(pixels).numpy()
    expected = pipe.decision_function(X)
    np.testing.assert_allclose(logits[:, 1] - logits[:, 0], expected, atol=1e-4)


@pytest.mark.parametrize("wrapper", [OneVsRestClassifier, MultiOutputClassifier])
def test_tags_of_pipelines(three, pixels, wrapper):
    X, y = three
    tags = np.stack([y == "cat", y != "owl"], axis=1).astype(int)
    pipe = make_pipeline(codes(), StandardScaler(), wrapper(LogisticRegression())).fit(X, tags)
    network = to_torch(pipe)
    expected = pipe.predict_proba(X)
    if isinstance(expected, list):
        expected = np.column_stack([one[:, 1] for one in expected])
    assert network.kind == "tags"
    np.testing.assert_allclose(network.predict_proba(pixels), expected, atol=1e-5)


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_values_of_pipelines(three, pixels, n_outputs):
    X = three[0]
    y = X.mean(axis=(1, 2))[:, :n_outputs].squeeze()
    pipe = make_pipeline(codes(), StandardScaler(), Ridge()).fit(X, y)
    found = to_torch(pipe)(pixels).numpy()
    assert found.shape == (len(X), n_outputs)
    np.testing.assert_allclose(found.squeeze(), pipe.predict(X), rtol=1e-4)


def test_what_a_search_found_best(three, pixels):
    X, y = three
    pipe = make_pipeline(codes(), make_pipeline(StandardScaler(), LogisticRegression()))
    search = GridSearchCV(pipe, {"cnncodes__layer": ["layer3", "layer4"]}, cv=2).fit(X, y)
    network = to_torch(search)
    np.testing.assert_allclose(network.predict_proba(pixels), search.predict_proba(X), atol=1e-5)
    assert network.facts["network"]["layers"] == [search.best_params_["cnncodes__layer"]]


TUNED = [
    {"backbone": "resnet18", "trainable": "head"},
    {"backbone": "resnet18", "trainable": "head", "head": "mlp"},
    pytest.param({"backbone": "resnet18", "trainable": "all", "batchnorm": "train"},
                 marks=pytest.mark.slow),
    {"backbone": "resnet18", "trainable": 1, "layer": "layer3"},
    pytest.param({"backbone": "efficientnet_lite0", "trainable": 1, "dropout": 0.3},
                 marks=pytest.mark.slow),
    pytest.param({"backbone": "efficientnet_lite0", "trainable": 1, "method": "lora"},
                 marks=pytest.mark.slow),
    pytest.param({"backbone": VIT, "trainable": 1}, marks=pytest.mark.slow),
    pytest.param({"backbone": VIT, "trainable": 1, "method": "lora"}, marks=pytest.mark.slow),
]  # fmt: skip


@pytest.mark.parametrize("params", TUNED, ids=str)
def test_fine_tuned(three, pixels, params):
    if params.get("method") == "lora":
        pytest.importorskip("peft")
    X, y = three
    common = {**PLAIN, **RANDOM, "max_epochs": 1, "random_state": 0, "lr": 1e-4}
    clf = FineTuneClassifier(**common, **params).fit(X, y)
    network = to_torch(clf)
    np.testing.assert_allclose(network.predict_proba(pixels), clf.predict_proba(X), atol=1e-5)
    assert network.classes_ == ["cat", "dog", "owl"]
    assert not any(p.requires_grad for p in network.parameters())
    assert not any("lora" in name for name in network.state_dict())


def vote_of(**other):
    """A probe and a fine-tuned network that see images alike, unless told otherwise."""
    common = {**PLAIN, **RANDOM, "backbone": "resnet18", "max_epochs": 1, "random_state": 0}
    probe = make_pipeline(codes(layer="layer3"), StandardScaler(), LogisticRegression(C=0.1))
    tuned = FineTuneClassifier(**{**common, "lr": 1e-4, "trainable": 1, **other})
    return VotingClassifier([("probe", probe), ("tuned", tuned)], voting="soft")


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("weights", [None, [1, 3]], ids=str)
def test_a_vote(three, pixels, tmp_path, weights):
    X, y = three
    vote = vote_of().set_params(weights=weights).fit(X, y)
    network = to_torch(vote)
    expected = vote.predict_proba(X)
    np.testing.assert_allclose(network.predict_proba(pixels), expected, atol=1e-5)
    labels = np.array(network.classes_)[network(pixels).argmax(1)]
    np.testing.assert_array_equal(labels, vote.predict(X))
    assert network.facts["network"]["layers"] == ["layer3", "avgpool"]
    for ending in READERS if weights else (".safetensors",):
        if ending == ".onnx":
            pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
        path = export(vote, tmp_path / f"model{ending}")
        (new := tmp_path / "new").touch()
        assert path.stat().st_mode == new.stat().st_mode
        if ending in READERS:
            images = np.ascontiguousarray((X[:3] / np.float32(255)).transpose(0, 3, 1, 2))
            _, probabilities = READERS[ending](str(path))[0](images)
            np.testing.assert_allclose(probabilities, expected[:3], atol=1e-5)


@pytest.mark.parametrize(
    "other, message",
    [({"image_size": 64}, "'probe' and 'tuned' differ"),
     ({"resize": "crop"}, "'probe' and 'tuned' differ"), ({}, "got voting='hard'")],
    ids=str,
)  # fmt: skip
def test_votes_that_are_refused(three, other, message):
    vote = vote_of(**other)
    if not other:
        vote.set_params(voting="hard")
    with pytest.raises(ExportError, match=message):
        to_torch(vote.fit(*three))


def test_fine_tuned_tags_and_values(three, pixels):
    import pandas as pd

    X, y = three
    common = {**PLAIN, **RANDOM, "max_epochs": 1, "random_state": 0, "lr": 1e-4}
    tags = pd.DataFrame({"cat": y == "cat", "pet": y != "owl"}).astype(int)
    clf = FineTuneClassifier("resnet18", **common).fit(X, tags)
    network = to_torch(clf)
    assert network.classes_ == ["cat", "pet"]
    np.testing.assert_allclose(network.predict_proba(pixels), clf.predict_proba(X), atol=1e-5)
    values = X.mean(axis=(1, 2))[:, :2] * 10 + 5
    reg = FineTuneRegressor("resnet18", **common).fit(X, values)
    expected = reg.predict(X)
    np.testing.assert_allclose(to_torch(reg)(pixels), expected, atol=1e-5 * abs(expected).max())
    behind = make_pipeline(clf, LogisticRegression())
    behind.steps[1][1].fit(clf.transform(X), y)
    expected = behind.predict_proba(X)
    np.testing.assert_allclose(to_torch(behind).predict_proba(pixels), expected, atol=1e-5)


@pytest.mark.parametrize("backbone", ["resnet18", pytest.param(VIT, marks=pytest.mark.slow)])
def test_masks(three, pixels, backbone):
    X = three[0][:10]
    y = np.where(X[..., 0] > X[..., 2], "warm", "cold")
    common = {**PLAIN, **RANDOM, "backbone": backbone, "random_state": 0}
    tuned = FineTuneSegmenter(**common, trainable=1, max_epochs=1)
    for estimator in (tuned, PixelClassifier(**common)):
        estimator.fit(X, y)
        network = to_torch(estimator)
        found = network.predict_proba(pixels[:10]).permute(0, 2, 3, 1)
        np.testing.assert_allclose(found, estimator.predict_proba(X), atol=1e-5)
        assert network.kind == "masks" and network.classes_ == ["cold", "warm"]


def test_what_images_may_be(fitted, pixels):
    network = to_torch(fitted)
    expected = network(pixels)
    planes = pixels.permute(0, 3, 1, 2)
    for same in (planes, planes.float() / 255):
        torch.testing.assert_close(network(same), expected)
    for bad in (planes[0], planes[..., :20], planes[:, :2]):
        with pytest.raises(RuntimeError, match="Images must"):
            network(bad)


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore::torch.jit.TracerWarning")
def test_users_may_trace_it_themselves(fitted, pixels):
    network = to_torch(fitted)
    traced = torch.jit.trace(network, pixels[:2])
    torch.testing.assert_close(traced(pixels), network(pixels))


def test_steps_that_know_names_of_columns(three, pixels, recwarn):
    X, y = three
    pipe = make_pipeline(codes(), StandardScaler(), LogisticRegression())
    pipe.set_output(transform="pandas").fit(X, y)
    network = to_torch(pipe)
    assert not recwarn.list
    np.testing.assert_allclose(network.predict_proba(pixels), pipe.predict_proba(X), atol=1e-5)


def test_what_is_told(fitted):
    network = to_torch(fitted)
    known = fitted[0].backbone_.preprocessing
    told = network.preprocessing
    assert told["image_size"] == [32, 32] and told["resize"] == "squash"
    assert told["mean"] == list(known.mean) and told["std"] == list(known.std)
    assert network.facts["network"]["name"] == "resnet18"
    assert network.facts["network"]["layers"] == fitted[0].layers_
    assert json.loads(json.dumps(network.facts)) == network.facts


def test_a_network_is_a_copy(fitted, pixels):
    network = to_torch(fitted)
    expected = network(pixels)
    with torch.no_grad():
        for parameter in to_torch(fitted).parameters():
            parameter.zero_()
    torch.testing.assert_close(to_torch(fitted)(pixels), expected)


REFUSED = [
    (make_pipeline(codes(), KNeighborsClassifier()), "linear model.*KNeighborsClassifier"),
    (make_pipeline(codes(), SVC()), "linear model.*SVC"),
    (make_pipeline(codes(), PCA(5), PowerTransformer(), Ridge()), "PowerTransformer and Ridge"),
    (make_pipeline(codes(), MinMaxScaler(clip=True), LogisticRegression()), "MinMaxScaler"),
    (make_pipeline(codes(), PCA(5), PowerTransformer()), "PCA and PowerTransformer is not"),
    (make_pipeline(StandardScaler(), LogisticRegression()), "begin with CNNCodes"),
    (LogisticRegression(), "got LogisticRegression"),
]


@pytest.mark.parametrize("estimator, message", REFUSED, ids=[one[1] for one in REFUSED])
def test_what_is_no_network_is_refused(three, estimator, message):
    X, y = three
    if "PowerTransformer" in message:
        y = np.arange(len(X), dtype=float)
    first = estimator[0] if hasattr(estimator, "steps") else estimator
    X = X if isinstance(first, CNNCodes) else X.reshape(len(X), -1)
    with pytest.raises(ExportError, match=message):
        to_torch(estimator.fit(X, y))


def test_texts_and_what_is_not_fitted_are_refused(three):
    with pytest.raises(NotFittedError):
        to_torch(codes())
    pytest.importorskip("transformers")
    with pytest.raises(ExportError, match="got TextCodes"):
        to_torch(TextCodes().fit(["a text"]))


@pytest.mark.parametrize("resize", ["squash", "pad", "crop"])
def test_resizing_within(images, resize):
    """Bytes are resized as the estimator resizes them, within a level."""
    own = codes(resize=resize, image_size=64).fit(images)
    network = to_torch(own, resize=True)
    for image in images:
        image = image.copy()  # torch wants to be allowed to write
        seen = own._fitted.preparation.of(Image.fromarray(image)).astype(int)
        found = network.pixels.resize(torch.from_numpy(image).permute(2, 0, 1)[None])
        apart = abs(found[0].permute(1, 2, 0).numpy().astype(int) - seen)
        assert apart.max() <= 2 and (apart > 0).mean() < 0.02
        floats = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
        apart = abs(network.pixels.resize(floats)[0].permute(1, 2, 0).numpy() * 255 - seen)
        assert apart.max() < 4


@pytest.mark.parametrize("resize", ["squash", "pad", "crop"])
@pytest.mark.parametrize("size", [(90, 61), (33, 150), (20, 24)], ids=str)
def test_images_are_prepared_as_the_page_does_it(images, resize, size):
    """With Pillow and the facts alone; upright, and on white."""
    page = (Path(__file__).parents[1] / "docs/how_to/export.md").read_text()
    (block,) = re.findall(r"^(from PIL.*?^def prepare.*?)^\n\nImage", page, re.M | re.S)
    exec(block, names := {"np": np})
    own = codes(resize=resize, image_size=64).fit(images)
    facts = to_torch(own).preprocessing
    assert ("resize_size" in facts) == (resize == "crop")
    drawn = np.random.default_rng(0).integers(0, 256, (*size, 4), np.uint8).repeat(3, 0)
    turned = Image.Exif()
    turned[0x0112] = 6
    files = [io.BytesIO() for _ in range(3)]
    Image.fromarray(drawn[..., :3]).save(files[0], "PNG")
    Image.fromarray(drawn).save(files[1], "PNG")
    Image.fromarray(drawn[..., :3]).save(files[2], "PNG", exif=turned)
    for number, one in enumerate(files):
        found = names["prepare"](one, facts)
        assert found.shape == (1, 3, 64, 64) and found.dtype == np.float32
        seen = own._fitted.preparation(as_images(files).open(number))
        apart = np.abs(found[0].transpose(1, 2, 0) * 255 - np.asarray(seen, float))
        assert apart.max() <= 2 and apart.mean() < 0.25


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_floats_beyond_0_and_1_are_refused(fitted, three, tmp_path):
    network = to_torch(fitted)
    floats = torch.from_numpy(three[0][:2]).permute(0, 3, 1, 2) / 255
    for one in (network, torch.jit.load(export(fitted, tmp_path / "model.pt"))):
        one(floats)
        for bad in (floats * 255, floats - 0.5, floats * float("nan")):
            with pytest.raises((RuntimeError, torch.jit.Error), match="must be from 0 to 1, got"):
                one(bad)


# Files.


def run_torchscript(path):
    extra = {"sktransfer.json": ""}
    network = torch.jit.load(path, _extra_files=extra)

    def run(images):
        images = torch.from_numpy(images)
        return network(images).numpy(), network.predict_proba(images).numpy()

    return run, json.loads(extra["sktransfer.json"])


def run_onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    run = lambda images: session.run(["logits", "probabilities"], {"images": images})  # noqa: E731
    return run, json.loads(facts["sktransfer"])


def run_openvino(path):
    openvino = pytest.importorskip("openvino")
    core = openvino.Core()
    model = core.read_model(path)
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(images):
        found = compiled({"images": images})
        return found["logits"], found["probabilities"]

    info = model.get_rt_info()["sktransfer"]
    facts = {key: info[key].value for key in ("classes", "preprocessing")}
    return run, {key: json.loads(value) for key, value in facts.items()}


READERS = {".pt": run_torchscript, ".onnx": run_onnx, ".xml": run_openvino}


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("ending", READERS)
def test_files_compute_what_the_estimator_does(fitted, three, tmp_path, ending):
    if ending == ".onnx":
        pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    path = export(fitted, tmp_path / f"model{ending}")
    run, facts = READERS[ending](str(path))
    X, _ = three
    for n in (1, 5, 40):
        images = np.ascontiguousarray((X[:n] / np.float32(255)).transpose(0, 3, 1, 2))
        logits, probabilities = run(images)
        np.testing.assert_allclose(probabilities, fitted.predict_proba(X[:n]), atol=1e-5)
        labels = np.array(["cat", "dog", "owl"])[np.asarray(logits).argmax(axis=1)]
        np.testing.assert_array_equal(labels, fitted.predict(X[:n]))
    network = to_torch(fitted)
    assert facts["classes"] == ["cat", "dog", "owl"]
    assert facts["preprocessing"] == network.preprocessing
    beside = {".xml": {"model.bin"}}.get(ending, set())
    assert {one.name for one in tmp_path.iterdir()} == {path.name} | beside


def test_weights_by_the_names_of_the_network(three, tmp_path):
    """They load into the network as timm or torchvision builds it."""
    from torchvision.models import resnet18

    X, y = three
    common = {**PLAIN, **RANDOM, "max_epochs": 1, "random_state": 0}
    clf = FineTuneClassifier("resnet18", trainable=1, **common).fit(X, y)
    path = export(clf, tmp_path / "model.safetensors")
    with safe_open(path, "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}
        facts = json.loads(file.metadata()["sktransfer"])
    assert facts == json.loads((tmp_path / "model.json").read_text())
    bare = resnet18(num_classes=3)
    own = {name.removeprefix("network."): one for name, one in weights.items()
           if name.startswith("network.")}  # fmt: skip
    (name,) = [name for name in weights if name.startswith("head") and name.endswith("weight")]
    own["fc.weight"], own["fc.bias"] = weights[name], weights[name.replace("weight", "bias")]
    bare.load_state_dict(own)
    told = facts["preprocessing"]
    mean, std = (torch.tensor(told[name])[:, None, None] for name in ("mean", "std"))
    images = torch.from_numpy(X).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        found = bare.eval()((images - mean) / std).softmax(1)
    np.testing.assert_allclose(found, clf.predict_proba(X), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["efficientnet_lite0", VIT])
@pytest.mark.parametrize("ending", [".pt", ".onnx", ".xml", ".safetensors"])
def test_other_networks_and_tasks_as_files(three, tmp_path, backbone, ending):
    X, y = three
    common = {**PLAIN, **RANDOM, "backbone": backbone, "random_state": 0}
    masks = np.where(X[..., 0] > X[..., 2], "warm", "cold")
    tuned = {"max_epochs": 1, "trainable": 1}
    for number, (estimator, target) in enumerate([
        (CNNCodes(**{**PLAIN, **RANDOM}, backbone=backbone), None),
        (FineTuneClassifier(**common, **tuned), y),
        (FineTuneSegmenter(**common, **tuned), masks),
    ]):  # fmt: skip
        assert export(estimator.fit(X, target), tmp_path / f"{number}{ending}").exists()


@pytest.mark.slow
def test_a_file_runs_where_there_is_no_sktransfer(fitted, three, tmp_path):
    X, _ = three
    np.save(tmp_path / "X.npy", X)
    path = export(fitted, tmp_path / "model.pt", resize=True)
    script = f"""
        import sys
        sys.modules["sktransfer"] = sys.modules["sklearn"] = sys.modules["timm"] = None
        import numpy as np, torch
        network = torch.jit.load({str(path)!r})
        X = torch.from_numpy(np.load({str(tmp_path / "X.npy")!r}))
        np.save({str(tmp_path / "out.npy")!r}, network.predict_proba(X).numpy())
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), fitted.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize("ending", [pytest.param(".onnx", marks=pytest.mark.slow), ".xml"])
def test_a_file_that_computes_something_else_is_not_left(fitted, tmp_path, monkeypatch, ending):
    """The exporter is given another network than the one that its file is compared with."""
    if ending == ".onnx":
        pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    else:
        pytest.importorskip("openvino")
    (tmp_path / f"model{ending}").write_text("older")
    answers = _files._Answers

    class Other(answers):
        def forward(self, images):
            return tuple(one * 1.01 for one in super().forward(images))

    made = iter([Other, answers])
    monkeypatch.setattr(_files, "_Answers", lambda network: next(made)(network))
    with pytest.raises(ExportError, match="must compute what the network does"):
        export(fitted, tmp_path / f"model{ending}")
    assert [one.read_text() for one in tmp_path.iterdir()] == ["older"]


def test_paths_that_are_refused(fitted, tmp_path, monkeypatch):
    with pytest.raises(ExportError, match=r"must end in \.pt.*got.*model\.h5"):
        export(fitted, tmp_path / "model.h5")
    with pytest.raises(FileNotFoundError, match="must exist"):
        export(fitted, tmp_path / "nowhere" / "model.pt")
    with pytest.raises(ExportError, match="TorchScript"):
        export(fitted, tmp_path / "model.safetensors", resize=True)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"sktransfer\[onnx\]"):
        export(fitted, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
    assert sktransfer.export is export
