"""Networks that are given as modules: what is taken for their codes, compared with their own
output, and what is said where that is a guess or cannot be."""

from __future__ import annotations

import pickle
import warnings
from itertools import count

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torchvision import models

from sktransfer import CNNCodes, FineTuneClassifier, Preprocessing
from sktransfer.exceptions import (
    BackboneError,
    BackboneWarning,
    EngineError,
    LayerError,
    PreprocessingError,
    TracingError,
)
from sktransfer.networks._layers import trace_cuts
from sktransfer.networks._load import load_backbone

FACTS = {"image_size": 32, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
CALLS = count()
QUICK = {"max_epochs": 1, "random_state": 0, "engine": "torch", "cache": None}


@pytest.fixture(scope="module")
def X(sample):
    return sample.data[:5]


@pytest.fixture(scope="module")
def images(X):
    """The same as the networks see them."""
    return (torch.tensor(X).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25


@pytest.fixture(autouse=True)
def weights():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def codes_of(network, X, *, quiet=True, **params):
    """Codes, without a warning unless one is expected."""
    params = {"engine": "torch", "cache": None, "preprocessing": FACTS, **params}
    with warnings.catch_warnings():
        warnings.simplefilter("error" if quiet else "ignore", BackboneWarning)
        return CNNCodes(network, **params).fit_transform(X)


def small_vgg(*last):
    """A VGG of four layers, with other classifiers."""
    vgg = models.VGG(
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 12, 3),
                      nn.ReLU(), nn.MaxPool2d(2))
    )  # fmt: skip
    vgg.avgpool = nn.AdaptiveAvgPool2d(4)
    layers = (nn.Linear(192, 40), nn.ReLU(), nn.Dropout(), nn.Linear(40, 30), nn.ReLU(),
              nn.Dropout(), nn.Linear(30, 10))  # fmt: skip
    vgg.classifier = nn.Sequential(*(layers if not last else layers[: last[0]]))
    return vgg.eval()


class Embedding(nn.Module):
    """A trunk without norms and one linear layer behind it."""

    def __init__(self, width, name="layer", behind=None):
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU())
        setattr(self, name, nn.Linear(16, width))
        self.name, self.behind = name, behind
        self.eval()

    def forward(self, x):
        x = getattr(self, self.name)(self.trunk(x).mean((2, 3)))
        return x if self.behind is None else self.behind(x)


WITHOUT_CLASSIFIER = {
    "vgg up to fc7": lambda: small_vgg(6),
    "vgg up to fc7 without its activation": lambda: small_vgg(5),
    "vgg up to fc6": lambda: small_vgg(3),
    "vgg with nothing behind the grid": lambda: small_vgg(0),
    "features of a vgg and a pool": lambda: nn.Sequential(
        small_vgg().features, nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ),
    "normalized embedding": lambda: Embedding(10, behind=functional.normalize),
    "embedding divided by its length": lambda: Embedding(
        10, behind=lambda x: x / x.norm(dim=1, keepdim=True)
    ),
    "hash code": lambda: Embedding(12, behind=torch.tanh),
    "embedding by name": lambda: Embedding(10, name="embedding"),
    "projection by name": lambda: Embedding(10, name="projector"),
    "linear layer and norm": lambda: nn.Sequential(Embedding(10), nn.BatchNorm1d(10)),
    "resnet without fc": lambda: with_fc(nn.Identity()),
    "timm without classifier": lambda: timm.create_model("vgg11", num_classes=0),
    "squeezenet without classifier": lambda: squeezenet_body(),
}


def with_fc(fc):
    net = models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1])
    net.fc = fc
    return net.eval()


def squeezenet_body():
    net = models.squeezenet1_1()
    return nn.Sequential(net.features[:6], nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize("name", WITHOUT_CLASSIFIER)
def test_the_output_of_a_network_without_a_classifier_is_its_code(name, X, images):
    network = WITHOUT_CLASSIFIER[name]().eval()
    expected = network(images)
    for layer in (None, "output", -1):
        found = codes_of(network, X, layer=layer)
        assert found.shape == expected.shape, layer
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_maps_without_a_classifier_are_pooled(X, images):
    features = small_vgg().features
    expected = features(images)
    np.testing.assert_allclose(codes_of(features, X), expected.mean((2, 3)), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(codes_of(features, X, pooling=None), expected, rtol=1e-3, atol=1e-5)


def test_a_usual_width_of_embeddings_is_taken_for_one_and_told(X, images):
    network = Embedding(128)
    with pytest.warns(BackboneWarning, match=r"128 outputs.*layer=\"output\" says so"):
        found = CNNCodes(network, preprocessing=FACTS, engine="torch").fit_transform(X)
    np.testing.assert_allclose(found, network(images), rtol=1e-3, atol=1e-4)
    codes_of(network, X, layer="output")  # nothing is to be guessed


WITH_CLASSIFIER = {
    "vgg": (small_vgg, lambda net, x: net.classifier[:-1](net.avgpool(net.features(x)).flatten(1))),
    "fc": (lambda: Embedding(7, name="fc"), lambda net, x: net.trunk(x).mean((2, 3))),
    "probabilities": (
        lambda: Embedding(7, name="head", behind=lambda x: x.softmax(1)),
        lambda net, x: net.trunk(x).mean((2, 3)),
    ),
    "squeezenet": (models.squeezenet1_1, lambda net, x: net.features(x).mean((2, 3))),
    "timm": (
        lambda: timm.create_model("resnet10t", num_classes=7),
        lambda net, x: net.forward_head(net.forward_features(x), pre_logits=True),
    ),
}


class Within(nn.Module):
    """A network that is a part of another, under any name."""

    def __init__(self, part, network):
        super().__init__()
        setattr(self, part, network)
        self.part = part

    def forward(self, x):
        return getattr(self, self.part)(x)


WORDS = ["ensemble", "member", "assembled", "project", "embedder", "bottleneck", "hashing",
         "latentnet"]  # fmt: skip


@pytest.mark.parametrize("part", WORDS)
@pytest.mark.parametrize("name", ["fc", "classifier", "head"])
def test_a_classifier_is_one_whatever_it_is_a_part_of(part, name, X, images):
    inner = Embedding(10, name)
    expected = inner.trunk(images).mean((2, 3))
    np.testing.assert_allclose(codes_of(Within(part, inner), X), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["embedding", "to_latent", "proj_head", "embeddingLayer", "hash_2", "bottleneck"]
)
@pytest.mark.parametrize("part", ["head", "model"])
def test_an_embedding_is_one_whatever_it_is_a_part_of(part, name, X, images):
    network = Within(part, Embedding(10, name))
    np.testing.assert_allclose(codes_of(network, X), network(images), rtol=1e-3, atol=1e-4)
    deep = Within("trunk", nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1)))
    inner = nn.Sequential(deep, nn.Flatten(), Within(name, nn.Sequential(nn.Linear(4, 10))))
    np.testing.assert_allclose(codes_of(inner, X), inner(images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("width", [64, 96, 128, 256])
def test_a_name_tells_more_than_a_number_of_classes(width, X, images):
    network = with_fc(nn.Linear(512, width))
    assert codes_of(network, X).shape[1] == 512
    assert codes_of(network, X, layer="output").shape[1] == width
    network = timm.create_model("resnet10t", num_classes=width).eval()
    expected = network.forward_head(network.forward_features(images), pre_logits=True)
    np.testing.assert_allclose(codes_of(network, X), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", WITH_CLASSIFIER)
def test_the_code_of_a_classifier_is_what_comes_before_it(name, X, images):
    build, before = WITH_CLASSIFIER[name]
    network = build().eval()
    expected, output = before(network, images), network(images)
    np.testing.assert_allclose(codes_of(network, X), expected, rtol=1e-3, atol=1e-4)
    found = codes_of(network, X, layer="output")
    np.testing.assert_allclose(found, output, rtol=1e-3, atol=1e-4)
    layers = CNNCodes(network, preprocessing=FACTS).list_layers()
    assert [layer.name for layer in layers].index("output") == len(layers) - 1
    assert layers[-1].shape == tuple(output.shape[1:])


def test_a_guess_is_told_once_and_can_be_confirmed(X):
    network = Embedding(5)
    with pytest.warns(BackboneWarning, match=r"'layer', is a linear layer.*of shape \(16,\)"):
        guessed = CNNCodes(network, preprocessing=FACTS, engine="torch").fit_transform(X)
    for layer in ("pre_logits", None):
        np.testing.assert_array_equal(codes_of(network, X, layer=layer), guessed)


class Several(nn.Module):
    """Gives more than one tensor, in a container."""

    def __init__(self, container):
        super().__init__()
        self.conv, self.fc, self.other = nn.Conv2d(3, 8, 3), nn.Linear(8, 5), nn.Linear(8, 2)
        self.container = container

    def forward(self, x):
        map_ = torch.relu(self.conv(x))
        rows = map_.mean((2, 3))
        logits = self.fc(rows)
        return {
            "logits and features": (logits, rows),
            "features and map": [map_, logits, None],
            "dict": {"logits": logits, "features": rows},
            "probabilities": (logits, logits.softmax(1)),
            "two classifiers": {"first": logits, "second": self.other(rows)},
            "one in a dict": {"out": logits},
        }[self.container]


@pytest.mark.parametrize(
    "container",
    ["logits and features", "features and map", "dict", "probabilities", "two classifiers",
     "one in a dict"],
)  # fmt: skip
def test_features_beside_logits_are_the_code(container, X, images):
    network = Several(container).eval()
    expected = torch.relu(network.conv(images)).mean((2, 3))
    np.testing.assert_allclose(codes_of(network, X, quiet=False), expected, rtol=1e-3, atol=1e-5)


def test_each_of_several_tensors_has_a_name(X, images):
    network = Several("dict").eval()
    codes = CNNCodes(network, preprocessing=FACTS, engine="torch", cache=None)
    assert {"output.logits", "output.features"} <= {layer.name for layer in codes.list_layers()}
    found = codes.set_params(layer=["output.logits", "output.features"]).fit_transform(X)
    expected = network(images)
    expected = torch.cat([expected["logits"], expected["features"]], dim=1)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(LayerError, match=r"several tensors.*output\.logits \(5,\)"):
        codes.set_params(layer="output").fit(X)


class Options(Embedding):
    """Flags, and control flow that looks at shapes and options alone."""

    def forward(self, x, flag=True, targets=None, *more, return_features=False, **options):
        if targets is not None:
            return functional.cross_entropy(super().forward(x), targets)
        assert x.shape[1] == 3 and x.dim() == 4, x.shape
        assert isinstance(x, torch.Tensor)
        if x.shape[2] < 32:
            x = functional.interpolate(x, size=32)
        for one in more:
            x = x + one
        n, channels, height, width = x.shape
        if height != width or len(x.shape) != 4 or options.get("mask"):
            raise ValueError("must be square")
        x = x.reshape(len(x), channels, -1).reshape(x.size(0), channels, height, width)
        for _ in range(int(x.shape[3]) // 16):
            x = x + 0.0
        x = super().forward(x) if flag else x
        return x if not return_features else (x, n)


class OneAlone(Embedding):
    """Treats one image alone in another way, to the same end."""

    def forward(self, x):
        if x.shape[0] == 1:
            return super().forward(torch.cat([x, x]))[:1]
        return super().forward(x)


@pytest.mark.parametrize("build", [Options, OneAlone])
def test_defaults_and_shapes_are_known(build, X, images):
    network = build(5, name="fc")
    expected = network.trunk(images).mean((2, 3))
    np.testing.assert_allclose(codes_of(network, X), expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(codes_of(network, X[:1]), expected[:1], rtol=1e-3, atol=1e-5)


class Loop(Embedding):
    """Takes its images one by one, which torch.fx cannot follow."""

    def forward(self, x):
        return torch.cat([super(Loop, self).forward(one[None]) for one in x])


class Arrays(Embedding):
    def forward(self, x):
        return super().forward(torch.from_numpy(np.clip(x.numpy(), -1, 1)))


@pytest.mark.parametrize("build", [Loop, Arrays])
def test_what_cannot_be_followed_is_run_as_a_whole(build, X, images):
    network = build(5)
    codes = CNNCodes(network, preprocessing=FACTS, engine="torch", cache=None)
    assert [layer.name for layer in codes.list_layers()] == ["output"]
    with pytest.warns(BackboneWarning, match="can only be run as a whole"):
        found = codes.fit_transform(X)
    np.testing.assert_allclose(found, network(images), rtol=1e-3, atol=1e-5)
    with pytest.raises(LayerError, match=r"no layer before its classifier.*layer=\"output\" gives"):
        codes_of(network, X, layer="pre_logits")


def test_models_of_transformers(X, images):
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        image_size=32, patch_size=16, num_labels=3,
    )  # fmt: skip
    body = transformers.ViTModel(config).eval()
    expected = body(images)
    np.testing.assert_allclose(
        codes_of(body, X), expected.pooler_output, rtol=1e-3, atol=1e-5
    )
    np.testing.assert_allclose(
        codes_of(body, X, layer="output.last_hidden_state", pooling="token"),
        expected.last_hidden_state[:, 0],
        rtol=1e-3,
        atol=1e-4,
    )
    classifier = transformers.ViTForImageClassification(config).eval()
    expected = classifier.vit(images).last_hidden_state[:, 0]
    np.testing.assert_allclose(codes_of(classifier, X), expected, rtol=1e-3, atol=1e-4)


class Wrong(Embedding):
    """What cannot be a backbone."""

    def __init__(self, how):
        super().__init__(5)
        self.how = how
        if how == "mask":
            self.forward = self.masked

    def masked(self, x, mask):
        return super().forward(x)

    def forward(self, x, targets=None):
        out = super().forward(x)
        if self.how == "values":
            return out if x.mean() > 0 else -out
        if self.how == "number":
            return out / float(x.max())
        if self.how == "loss":
            return functional.cross_entropy(out, targets)
        if self.how == "mean":
            return out.mean()
        if self.how == "dict":
            return super().forward(x["image"])
        return str(out)


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("values", TracingError, r"branches on values.*return out if x.mean\(\) > 0 .*, line \d"),
        ("number", TracingError, r"computes with them in Python: 'return out / float"),
        ("mask", BackboneError, "needs mask besides the images"),
        ("loss", BackboneError, "cannot be run on images alone.*'target'.*not a loss"),
        ("mean", BackboneError, "a row for each image, gave a single number"),
        ("dict", BackboneError, "cannot be run on images alone"),
        ("text", BackboneError, "gave str"),
    ],
)
def test_what_cannot_be_a_backbone_says_why(how, error, message, X):
    with pytest.raises(error, match=message) as caught:
        codes_of(Wrong(how), X)
    assert "image_size=None" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1 and "tlparse" not in str(caught.value)


def test_only_what_is_about_the_size_is_said_to_be(X):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 30 * 30, 4))
    with pytest.raises(BackboneError, match=r"cannot take images of 48×48.*image_size=None"):
        codes_of(network, X, image_size=48)
    with pytest.raises(BackboneError, match=r"shape \(1, 3, 48, 48\).*must say the size"):
        codes_of(network, X, preprocessing={**FACTS, "image_size": 48})


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
        lambda: Embedding(5, name="fc", behind=lambda x: functional.dropout(x, 0.5)),
        lambda: Embedding(6, name="fc", behind=lambda x: x / x.abs().amax().item()),
        lambda: Embedding(6, name="fc", behind=lambda x: x + torch.randn(1)),
        lambda: Embedding(6, name="fc", behind=lambda x: x * np.random.rand()),
        lambda: Embedding(6, name="fc", behind=lambda x: x + next(CALLS)),
    ],
)
def test_codes_that_are_not_repeatable_are_told(build):
    with pytest.warns(BackboneWarning, match="not repeatable"):
        CNNCodes(build().eval(), preprocessing=FACTS).list_layers()


@pytest.mark.parametrize("trainable", ["head", "all"])
@pytest.mark.parametrize("build", [lambda: small_vgg(6), lambda: Loop(5), lambda: Several("dict")])
def test_fine_tuning_puts_its_head_on_the_code(build, trainable, sample):
    X, y = sample.data[:12], sample.target[:12] % 2
    network = build().eval()
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", BackboneWarning)
        clf = FineTuneClassifier(network, preprocessing=FACTS, trainable=trainable, **QUICK)
        clf.fit(X, y)
        again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    codes = codes_of(network, X, quiet=False)
    assert clf.transform(X).shape == codes.shape
    if trainable == "head":
        np.testing.assert_allclose(clf.transform(X), codes, rtol=1e-3, atol=1e-4)


def grey_network():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    ).eval()


@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize("mean", [(0.5,), 0.5, (0.5, 0.5, 0.5)])
def test_a_network_of_one_channel_sees_grey(engine, mean, X):
    if engine == "openvino":
        pytest.importorskip("openvino")
    network = grey_network()
    facts = {"image_size": 32, "mean": mean, "std": 0.25}
    grey = np.stack([np.asarray(Image.fromarray(one).convert("L")) for one in X])
    expected = network[:-1](((torch.tensor(grey)[:, None] / 255) - 0.5) / 0.25)
    for given in (X, grey):
        found = codes_of(
            network, given, layer="pre_logits", preprocessing=facts, engine=engine
        )
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("size", [(90, 60), (20, 40)])
@pytest.mark.parametrize("resize", ["pad", "squash", "crop"])
def test_grey_images_are_framed_as_pillow_frames_them(size, resize, sample):
    """The same as an image whose three channels are its luminance."""
    from sktransfer.inputs import ImagePreparation

    picture = Image.fromarray(sample.data[3]).resize(size)
    grey = ImagePreparation((32, 32), resize, (36, 36), "bilinear", (100,))
    colour = ImagePreparation((32, 32), resize, (36, 36), "bilinear", (100, 100, 100))
    found = grey.of(picture)
    expected = colour.of(picture.convert("L").convert("RGB"))
    assert found.shape == (32, 32, 1) and found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected[..., :1])


@pytest.mark.parametrize("trainable", ["head", 1, "all"])
def test_fine_tuning_of_one_channel(trainable, sample):
    X, y = sample.data[:12], sample.target[:12] % 2
    facts = {"image_size": 32, "mean": (0.5,), "std": (0.25,)}
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), grey_network()[1:4])
    with torch.enable_grad():
        clf = FineTuneClassifier(
            network, preprocessing=facts, trainable=trainable, augment="auto", **QUICK
        ).fit(X, y)
    assert pickle.loads(pickle.dumps(clf)).predict(X).shape == (12,)


@pytest.mark.parametrize("n", [2, 4, 5])
def test_other_numbers_of_channels_are_refused(n):
    with pytest.raises(BackboneError, match=f"takes images of {n} channels.*3 .RGB. or 1 .grey."):
        CNNCodes(nn.Conv2d(n, 4, 3), preprocessing=FACTS).list_layers()
    facts = {**FACTS, "mean": (0.4, 0.5, 0.6)}
    with pytest.raises(PreprocessingError, match=r"1 channel, so mean and std .* have 1 number"):
        CNNCodes(grey_network(), preprocessing=facts).list_layers()


def test_networks_for_volumes_are_refused():
    with pytest.raises(BackboneError, match="Conv3d, but images have two dimensions"):
        CNNCodes(nn.Conv3d(3, 4, 3), preprocessing=FACTS).list_layers()


def quantized(how):
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    ).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.ao import quantization

        if how == "dynamic":
            return quantization.quantize_dynamic(net, {nn.Linear}, dtype=torch.qint8)
        net.qconfig = quantization.get_default_qconfig("qnnpack")
        prepared = quantization.prepare(net)
        if how == "prepared":
            return prepared
        prepared(torch.zeros(1, 3, 8, 8))
        return quantization.convert(prepared)


@pytest.mark.parametrize("how", ["dynamic", "prepared", "static"])
def test_quantized_networks_are_refused_by_name(how, X):
    if how != "dynamic":
        torch.backends.quantized.engine = torch.backends.quantized.supported_engines[-1]
    with pytest.raises(BackboneError, match=r"is quantized.*float32"):
        codes_of(quantized(how), X)


@pytest.mark.slow
def test_networks_of_timm_tell_their_preprocessing(X):
    network = timm.create_model("resnet10t")
    facts = timm.data.resolve_model_data_config(network)
    found = CNNCodes(network).fit(X).backbone_.preprocessing
    assert found.image_size == facts["input_size"][1:] and found.crop_pct == facts["crop_pct"]
    assert (found.mean, found.std) == (facts["mean"], facts["std"])
    assert found.interpolation == facts["interpolation"]
    given = CNNCodes(network, preprocessing=FACTS).fit(X).backbone_.preprocessing
    assert given.mean == FACTS["mean"]
    sized = timm.create_model("vit_tiny_patch16_224", img_size=96)
    assert CNNCodes(sized).fit(X).image_size_ == (96, 96)
    with pytest.raises(PreprocessingError, match=r"does not tell.*weights.transforms\(\)"):
        CNNCodes(small_vgg()).fit(X)


@pytest.mark.parametrize("name", ["ResNet50_Weights.IMAGENET1K_V2", "Swin_T_Weights.DEFAULT"])
def test_transforms_of_weights_are_preprocessing(name, X):
    family, _, member = name.partition(".")
    transforms = getattr(models, family)[member].transforms()
    found = CNNCodes(small_vgg(), preprocessing=transforms).fit(X).backbone_.preprocessing
    assert found.image_size == (transforms.crop_size[0],) * 2
    assert found.resize_size() == (transforms.resize_size[0],) * 2
    assert list(found.mean) == transforms.mean and list(found.std) == transforms.std
    assert found.interpolation == transforms.interpolation.value


def test_a_compose_is_preprocessing():
    from torchvision import transforms as T

    from sktransfer.networks._spec import as_preprocessing

    mean, std = (0.1, 0.2, 0.3), (0.2, 0.2, 0.4)
    steps = [T.Resize(40), T.CenterCrop(32), T.ToTensor(), T.Normalize(mean, std)]
    assert as_preprocessing(T.Compose(steps)) == Preprocessing(32, mean, std, 0.8)
    config = {"input_size": (3, 32, 32), "mean": mean, "std": std, "crop_pct": 0.8}
    made = timm.data.create_transform(**config, interpolation="bilinear", is_training=False)
    found = as_preprocessing(made)
    assert found.image_size == (32, 32) and found.resize_size() == (40, 40)
    assert found.mean == pytest.approx(mean) and found.std == pytest.approx(std)
    with pytest.raises(PreprocessingError, match="got GaussianBlur too"):
        as_preprocessing(T.Compose([*steps, T.GaussianBlur(3)]))
    with pytest.raises(PreprocessingError, match="must be a Preprocessing"):
        as_preprocessing(T.ToTensor())


@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize("on_error", ["raise", "nan"])
def test_codes_that_are_no_numbers_name_image_and_layer(engine, on_error, X):
    """Division by the darkest pixel: only an image with a black one is at fault."""
    if engine == "openvino":
        pytest.importorskip("openvino")

    class Inverse(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return self.conv(1 / x).mean((2, 3))

    facts = {"image_size": 32, "mean": 0.0, "std": 1.0}
    bright = np.maximum(X, 20)
    params = {"preprocessing": facts, "engine": engine, "on_error": on_error, "layer": "output"}
    codes = CNNCodes(Inverse(), **params, n_jobs=1, batch_size=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(codes.fit_transform(bright)).all()
        bright[3, 5, 5] = 0
        with pytest.raises(EngineError, match=r"image 3: .*'output' of inverse.* NaN or infinite"):
            codes.transform(bright)
        assert np.isfinite(codes.transform(bright[:3])).all()


@pytest.mark.slow
def test_tokens_of_a_default_layer(X):
    params = {"weights": None, "preprocessing": "default", "image_size": 32, "engine": "torch"}
    name = "timm:vit_tiny_patch16_224"
    expected = CNNCodes(name, **params).fit_transform(X)
    np.testing.assert_array_equal(
        CNNCodes(name, pooling="token", **params).fit_transform(X), expected
    )
    mean = timm.create_model("vit_tiny_patch16_224", global_pool="avg", img_size=32)
    for network in (mean, with_fc(nn.Linear(512, 10))):
        with pytest.raises(LayerError, match="class token"):
            codes_of(network, X, pooling="token")


def test_transforms_within_a_network_are_operations(X, images):
    from torchvision import transforms

    body = Embedding(5, name="fc")
    network = nn.Sequential(transforms.Normalize((0.1, 0.2, 0.3), (0.5, 0.5, 1.0)), body).eval()
    expected = body.trunk(network[0](images)).mean((2, 3))
    np.testing.assert_allclose(codes_of(network, X), expected, rtol=1e-3, atol=1e-5)


def test_the_classifier_of_a_mask_is_cut_off(X, images):
    class Mask(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
            self.classifier = nn.Conv2d(8, 21, 1)

        def forward(self, x):
            masks = self.classifier(self.trunk(x))
            return {"out": functional.interpolate(masks, x.shape[2:])}

    network = Mask().eval()
    expected = network.trunk(images)
    np.testing.assert_allclose(codes_of(network, X, pooling=None), expected, rtol=1e-3, atol=1e-5)
    found = codes_of(network, X, layer="output", pooling=None)
    np.testing.assert_allclose(found, network(images)["out"], rtol=1e-3, atol=1e-4)


def test_a_conversion_for_one_length_of_batch_is_refused():
    """A network that torch's tracer, but not torch.fx, takes for one of two images."""
    pytest.importorskip("openvino")
    from sktransfer.compute._convert import check_agreement

    class Engine:
        name = "torch-cpu"

        def run(self, pixels):
            return (pixels.reshape(len(pixels), -1)[:, :4].astype(np.float32),)

    class OfTwo(Engine):
        name = "openvino-cpu"

        def run(self, pixels):
            return (super().run(pixels)[0][:2],)

    probes = [np.zeros((n, 4, 4, 3), np.uint8) for n in (2, 3)]
    check_agreement(Engine(), Engine(), probes)
    with pytest.raises(EngineError, match=r"shape \(2, 4\) on a probe, but torch-cpu gives \(3, 4"):
        check_agreement(OfTwo(), Engine(), probes)


class _InPlace(nn.Module):
    """Changes what it computed, without a name for the result."""

    def __init__(self, change, before=None):
        super().__init__()
        self.c, self.emb, self.act = nn.Conv2d(3, 8, 3), nn.Linear(8, 24), nn.ReLU(inplace=True)
        self.change, self.before = change, before

    def forward(self, x):
        if self.before is not None:
            self.before(x)
        h = self.c(x)
        self.change(self, h)
        return self.emb(torch.tanh(h).mean((2, 3)))


IN_PLACE = {
    "method": lambda net, h: h.relu_(),
    "function": lambda net, h: functional.relu(h, inplace=True),
    "module": lambda net, h: net.act(h),
    "torch": lambda net, h: torch.relu_(h),
    "twice": lambda net, h: (h.relu_(), h.clamp_(0, 0.1)),
    "slice": lambda net, h: h[:, :4].mul_(3),
    "slices": lambda net, h: (h[:, :4].mul_(3), h.relu_(), h[:, 2:].add_(1)),
    "data": lambda net, h: h.data.mul_(3),
    "out": lambda net, h: torch.exp(h, out=h),
    "image": None,
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_what_is_changed_in_place_is_changed_in_codes_and_tails(name, X, images):
    change = IN_PLACE[name] or (lambda net, h: h.relu_())
    before = None if IN_PLACE[name] else (lambda x: x[:, 0].sub_(0.5))
    network = _InPlace(change, before).eval()
    expected = network(images.clone()).numpy()
    np.testing.assert_allclose(codes_of(network, X, quiet=False), expected, atol=1e-4)
    backbone = load_backbone(network, preprocessing=FACTS)
    table = trace_cuts(backbone, (32, 32))
    end = table.layers[-1]
    for start in table.layers[:-1]:
        given = table.prefix([start], None)(torch.tensor(X))[0]
        found = table.prefix([start, end], None)(torch.tensor(X))
        np.testing.assert_allclose(found[0], given, atol=1e-4)
        np.testing.assert_allclose(table.tail(start)(given.clone()), found[1], atol=1e-4)


class _Caching(nn.Module):
    """Keeps what it computes of its weights at the first image."""

    def __init__(self, keeps):
        super().__init__()
        self.c, self.emb = nn.Conv2d(3, 8, 3), nn.Linear(8, 24)
        self.keeps, self.kept, self.table, self.rows = keeps, None, {}, []

    def forward(self, x):
        h = self.c(x)
        if x.shape[2] < 3:
            return h
        if self.keeps == "attribute":
            if self.kept is None:
                self.kept = self.emb.weight.sum(0) * 2
            scale = self.kept
        elif self.keeps == "dict":
            if "scale" not in self.table:
                self.table["scale"] = self.emb.weight.sum(0) * 2
            scale = self.table["scale"]
        else:
            if not self.rows:
                self.rows.append(self.emb.weight.sum(0) * 2)
            scale = self.rows[0]
        return self.emb(h.mean((2, 3)) * scale)


@pytest.mark.parametrize("keeps", ["attribute", "dict", "list"])
def test_what_a_network_keeps_while_it_is_followed_is_not_kept(keeps, X, images):
    network = _Caching(keeps).eval()
    codes = codes_of(network, X)
    assert network.kept is None and not network.table and not network.rows
    np.testing.assert_allclose(codes, network(images).numpy(), atol=1e-4)
