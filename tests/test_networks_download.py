"""Downloads, from a server on this machine that stands in for the ones on the web."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from sktransfer.exceptions import WeightsMismatchError, WeightsUnavailableError
from sktransfer.networks import load_backbone
from sktransfer.networks._download import TIMEOUT, _wait_for_others, cached_download, digest_in_name
from sktransfer.networks._load import CACHE
from sktransfer.networks._weights import read_state


class Web:
    """A web server: `files` by path, `asked` for what, and `cut` bytes that get lost."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.cut = 0
        handler = type("Handler", (_Handler,), {"web": self})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


class _Handler(http.server.BaseHTTPRequestHandler):
    web: Web

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.do_GET(head=True)

    def do_GET(self, head=False):
        self.web.asked.append(f"{self.command} {self.path}")
        content = self.web.files.get(self.path)
        self.send_response(200 if content is not None else 404)
        content = content or b""
        self.send_header("Content-Length", str(len(content)))
        # What the hub says beside: the name of the content, and of the commit.
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()
        if not head:
            self.wfile.write(content[: len(content) - self.web.cut])


@pytest.fixture
def web():
    web = Web()
    yield web
    web.server.shutdown()
    web.server.server_close()


@pytest.fixture(autouse=True)
def clean(tmp_path, monkeypatch):
    """No file and no network is left of another test, and no proxy stands in the way."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    CACHE.clear()


@pytest.fixture
def published(web, tmp_path, monkeypatch):
    """SqueezeNet's published weights, which are random ones and lie on the server."""
    torch.manual_seed(3)
    torch.save(models.squeezenet1_1().state_dict(), tmp_path / "net.pth")
    content = (tmp_path / "net.pth").read_bytes()
    name = f"squeezenet1_1-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    web.files[f"/models/{name}"] = content
    entry = models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    monkeypatch.setattr(entry.value, "url", f"{web.url}/models/{name}")
    return name


def cached(tmp_path):
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_torchvision_weights_are_fetched_once(web, published, tmp_path, capfd):
    found = load_backbone("squeezenet1_1")
    own = models.squeezenet1_1().eval()
    own.load_state_dict(torch.load(tmp_path / "net.pth", weights_only=True))
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(found.module(images), own(images))
    assert found.weights == "IMAGENET1K_V1" and found.portable
    assert found.preprocessing.image_size == (224, 224)
    assert cached(tmp_path) == [published]
    CACHE.clear()
    again = load_backbone("squeezenet1_1", weights="SqueezeNet1_1_Weights.IMAGENET1K_V1")
    assert again.fingerprint == found.fingerprint and len(web.asked) == 1
    assert capfd.readouterr() == ("", "")
    by_object = load_backbone("squeezenet1_1", weights=models.SqueezeNet1_1_Weights.DEFAULT)
    assert by_object.module is again.module


def test_progress_is_shown_when_asked_for(published, capfd):
    load_backbone("squeezenet1_1", verbose=1)
    assert published in capfd.readouterr().err


def test_files_are_as_others_may_read_them(published, tmp_path):
    """As any other file of the user: a cache may be shared."""
    load_backbone("squeezenet1_1")
    (tmp_path / "plain").touch()
    path = tmp_path / "torch" / "hub" / "checkpoints" / published
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_another_file_than_asked_for(web, published, tmp_path):
    web.files[f"/models/{published}"] += b"x"
    with pytest.raises(WeightsMismatchError, match=r"must start with .* Nothing was kept"):
        load_backbone("squeezenet1_1")
    assert cached(tmp_path) == []


def test_truncated_download(web, published, tmp_path):
    web.cut = 1000
    with pytest.raises(WeightsUnavailableError, match=r"only \d+ of \d+ bytes came"):
        load_backbone("squeezenet1_1")
    assert cached(tmp_path) == []
    web.cut = 0
    assert load_backbone("squeezenet1_1").weights == "IMAGENET1K_V1"


def test_damaged_cache(published, tmp_path):
    load_backbone("squeezenet1_1")
    CACHE.clear()
    path = tmp_path / "torch" / "hub" / "checkpoints" / published
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsMismatchError, match="Delete it") as caught:
        load_backbone("squeezenet1_1")
    assert str(path) in str(caught.value)


def test_file_that_is_gone(web, published, tmp_path):
    web.files.clear()
    with pytest.raises(WeightsUnavailableError, match="Not Found") as caught:
        load_backbone("squeezenet1_1")
    assert f"{web.url}/models/{published}" in str(caught.value)


def test_no_network(web, published, tmp_path):
    web.server.shutdown()
    web.server.server_close()
    start = time.monotonic()
    with pytest.raises(WeightsUnavailableError) as caught:
        load_backbone("squeezenet1_1")
    assert time.monotonic() - start < 5
    text = str(caught.value)
    for part in [web.url, str(tmp_path / "torch"), "weights=", "efficientnet_lite0"]:
        assert part in text
    # With the file from another machine it works.
    named = tmp_path / published
    (tmp_path / "net.pth").rename(named)
    assert load_backbone("squeezenet1_1", weights=named).weights == "IMAGENET1K_V1"


def test_a_network_that_swallows_packets(tmp_path, monkeypatch):
    """A server that takes the connection and never answers."""
    assert TIMEOUT <= 15
    monkeypatch.setattr("sktransfer.networks._download.TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/net-01234567.pth"
        with pytest.raises(WeightsUnavailableError, match="timed out"):
            cached_download(url, "a network")
    assert cached(tmp_path) == []


class Drip(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            for _ in range(200):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.02)


def test_a_download_that_drips(tmp_path, monkeypatch):
    """Each byte comes in time, and the whole would take a day."""
    monkeypatch.setattr("sktransfer.networks._download._WHILE", 0.3)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Drip) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        start = time.monotonic()
        with pytest.raises(WeightsUnavailableError, match=r"only \d+ bytes came in"):
            cached_download(f"http://127.0.0.1:{server.server_port}/net-01234567.pth", "a network")
        assert time.monotonic() - start < 3
        server.shutdown()
    assert cached(tmp_path) == []


PAGE = b"<!DOCTYPE html><html>Please log in</html>" * 30


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors", "net.tar"])
@pytest.mark.parametrize("content", [PAGE, b"", b"PK\3\4" + PAGE, b"\x10" + b"\0" * 7 + PAGE])
def test_files_without_a_digest_must_look_like_weights(web, tmp_path, name, content):
    web.files[f"/{name}"] = content
    with pytest.raises(WeightsMismatchError, match="something else than weights"):
        cached_download(f"{web.url}/{name}", "a network")
    assert cached(tmp_path) == []
    (tmp_path / "torch" / "hub" / "checkpoints" / name).write_bytes(content or PAGE)
    with pytest.raises(WeightsMismatchError, match=r"is not a file of weights.*Delete it"):
        cached_download(f"{web.url}/{name}", "a network")


def test_weights_without_a_digest_are_taken(web, tmp_path):
    state = {"weight": torch.zeros(3)}
    torch.save(state, tmp_path / "new.pth")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "net.safetensors")
    for name in ["new.pth", "old.pth", "net.safetensors"]:
        web.files[f"/{name}"] = (tmp_path / name).read_bytes()
        for _ in range(2):
            path = cached_download(f"{web.url}/{name}", "a network")
            assert torch.equal(read_state(path)["weight"], state["weight"])


def test_a_user_without_a_home(published, tmp_path, monkeypatch):
    """Weights are kept where nobody else may write, and not in a folder called ~."""
    monkeypatch.delenv("TORCH_HOME")
    monkeypatch.setattr("torch.hub.get_dir", lambda: "~/.cache/torch/hub")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert load_backbone("squeezenet1_1").weights == "IMAGENET1K_V1"
    (path,) = tmp_path.rglob(published)
    own = tmp_path / f"sktransfer-{os.getuid()}"
    assert own in path.parents and not (tmp_path / "~").exists()
    CACHE.clear()
    own.chmod(0o777)
    with pytest.raises(WeightsUnavailableError, match=r"others may write.*TORCH_HOME"):
        load_backbone("squeezenet1_1")


def test_another_process_that_has_come_to_a_halt(tmp_path, monkeypatch):
    """The hub's locks are waited for as long as something comes."""
    from filelock import FileLock
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("sktransfer.networks._download.STALLED", 1.5)
    locks = tmp_path / ".locks" / "models--me--net"
    locks.mkdir(parents=True)
    held = FileLock(locks / "abc.lock")
    with held, pytest.raises(TimeoutError, match=r"abc\.lock.*end that process"):
        _wait_for_others("me/net")
    _wait_for_others("me/net")


def test_cache_that_cannot_be_written(web, published, tmp_path):
    (tmp_path / "torch").write_text("a file where a folder should be")
    with pytest.raises(WeightsUnavailableError, match="torch"):
        load_backbone("squeezenet1_1")


@pytest.mark.parametrize(
    ("url", "digits"),
    [
        ("https://download.pytorch.org/models/mobilenet_v2-b0353104.pth", "b0353104"),
        ("https://x.org/mnasnet0.5_top1_67.823-3ffadce67e.pth", "3ffadce67e"),
        ("https://x.org/mobilenet-small.pth", None),
        ("https://x.org/net-2024.pth", None),
    ],
)
def test_digests_in_names(url, digits):
    assert digest_in_name(url) == digits


def test_every_published_file_of_torchvision_names_its_digest():
    for name in models.list_models(module=models):
        for entry in models.get_model_weights(name):
            assert digest_in_name(entry.url), entry.url


HUB = """
import json, sys, time
from sktransfer.networks import load_backbone
from sktransfer.networks._load import CACHE
for line in sys.stdin:
    CACHE.clear()
    start = time.monotonic()
    try:
        found = load_backbone(line.strip())
        told = [found.name, found.weights, found.fingerprint, found.preprocessing.image_size]
    except Exception as error:
        told = [type(error).__name__, str(error)]
    print(json.dumps([*told, time.monotonic() - start]), flush=True)
"""


@pytest.fixture
def ask_hub(web, tmp_path):
    """Load a network in a process whose hub is the server; gives what it told."""
    environment = {**os.environ, "HF_ENDPOINT": web.url, "HF_HOME": str(tmp_path / "hub")}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", HUB], env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def ask(name):
        process.stdin.write(f"{name}\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield ask
    process.stdin.close()
    process.wait(20)


def fill_hub(web, tmp_path):
    """Weights of one of timm's own networks, and a repository of somebody's."""
    import timm
    from safetensors.torch import save

    tag = next(iter(timm.list_pretrained("test_efficientnet.*")))
    web.files[f"/timm/{tag}/resolve/main/model.safetensors"] = save(
        timm.create_model("test_efficientnet").state_dict()
    )
    config = {
        "architecture": "test_efficientnet",
        "num_classes": 7,
        # A repository must not reach files of this machine.
        "model_args": {"checkpoint_path": str(tmp_path / "never"), "drop_rate": 0.1},
        "pretrained_cfg": {"input_size": [3, 96, 64], "mean": [0.1, 0.2, 0.3],
                           "std": [0.2, 0.2, 0.2], "crop_pct": 1.0},
    }  # fmt: skip
    own = timm.create_model("test_efficientnet", num_classes=7)
    torch.save(own.state_dict(), tmp_path / "own.bin")
    web.files["/me/net/resolve/main/config.json"] = json.dumps(config).encode()
    web.files["/me/net/resolve/main/pytorch_model.bin"] = (tmp_path / "own.bin").read_bytes()
    del config["pretrained_cfg"]["mean"]
    web.files["/me/silent/resolve/main/config.json"] = json.dumps(config).encode()
    web.files["/me/silent/resolve/main/pytorch_model.bin"] = (tmp_path / "own.bin").read_bytes()
    config["architecture"] = "never_heard_of"
    web.files["/me/other/resolve/main/config.json"] = json.dumps(config).encode()
    return tag


@pytest.mark.slow
def test_the_hub(web, tmp_path, ask_hub):
    tag = fill_hub(web, tmp_path)
    named, own = ask_hub(f"timm:{tag}"), ask_hub("hf-hub:me/net")
    assert named[:2] == tag.split(".") and named[3][0] == 160
    assert own[:2] == ["test_efficientnet", "default"] and own[3] == [96, 64]
    for name, kind, part in [
        ("hf-hub:me/silent", "PreprocessingError", "hf-hub:me/silent"),
        ("hf-hub:me/other", "UnknownBackboneError", "never_heard_of"),
        ("hf-hub:me/nothing", "WeightsUnavailableError", "config.json"),
        ("hf-hub:a/b/c", "WeightsUnavailableError", "organisation/name"),
    ]:
        found, text, _ = ask_hub(name)
        assert found == kind and part in text

    # The hub's own folder tells whose weights a file in it holds.
    (path,) = (tmp_path / "hub").glob(f"hub/models--timm--{tag}/snapshots/*/*.safetensors")
    by_file = load_backbone("timm:test_efficientnet", weights=path)
    assert by_file.fingerprint == named[2] and by_file.weights == named[1]

    # From then on without a network, and without waiting for one.
    web.server.shutdown()
    web.server.server_close()
    assert ask_hub(f"timm:{tag}")[:4] == named[:4] and ask_hub("hf-hub:me/net")[:4] == own[:4]
    kind, text, seconds = ask_hub("timm:resnet18")
    assert kind == "WeightsUnavailableError" and seconds < 5
    for part in ["timm/resnet18", web.url, str(tmp_path / "hub"), "efficientnet_lite0"]:
        assert part in text

    # A copy that was damaged is not believed.
    (blob,) = (tmp_path / "hub").glob(f"hub/models--timm--{tag}/blobs/*")
    blob.write_bytes(blob.read_bytes()[:-8])
    kind, text, _ = ask_hub(f"timm:{tag}")
    assert kind == "WeightsMismatchError" and f"Delete {blob}" in text


def test_hub_that_is_switched_off(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsUnavailableError, match="HF_HUB_OFFLINE is set"):
        load_backbone("timm:resnet18")
