"""OpenVINO against torch: conversions, what is remembered of them, and many networks."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import types
import warnings

import numpy as np
import pytest
import torch
from common import relative
from torch import nn

from sktransfer import CNNCodes
from sktransfer._optional import import_openvino
from sktransfer.compute import _convert
from sktransfer.compute import _engine as _make
from sktransfer.compute import _openvino as _conversions
from sktransfer.exceptions import EngineError, EngineWarning

if importlib.util.find_spec("openvino") is None:
    pytest.skip("openvino is not installed", allow_module_level=True)
openvino = import_openvino()


def _version_of(package):
    return tuple(int(part) for part in package.__version__.split(".")[:2])


@pytest.fixture(autouse=True)
def nothing_converted(monkeypatch, tmp_path):
    monkeypatch.setenv("SKTRANSFER_CACHE", str(tmp_path))
    _make._engines.clear()
    _make._starts.cache_clear()


def test_auto_takes_it_and_gives_the_codes_of_torch(sample, tmp_path, monkeypatch):
    X = sample.data[:20]
    expected = CNNCodes(image_size=96, engine="torch", cache=None).fit_transform(X)
    assert not list(tmp_path.rglob("*.xml"))
    codes = CNNCodes(image_size=96, cache=None)
    assert relative(codes.fit_transform(X), expected) < 1e-5
    assert list(tmp_path.rglob("*.xml")) and list(tmp_path.rglob("*.bin"))
    # Another process neither converts nor probes again.
    monkeypatch.setattr(_convert, "convert", None)
    _make._engines.clear()
    assert relative(codes.fit_transform(X), expected) < 1e-5


def test_auto_is_torch_where_it_is_not_installed(sample, monkeypatch, tmp_path):
    find = importlib.util.find_spec
    hidden = lambda name: None if name == "openvino" else find(name)  # noqa: E731
    monkeypatch.setattr("sktransfer.compute._engine.find_spec", hidden)
    CNNCodes(image_size=32, cache=None).fit_transform(sample.data[:2])
    assert not list(tmp_path.rglob("*.xml"))
    with pytest.raises(EngineError, match=r"sktransfer\[openvino\]"):
        CNNCodes(image_size=32, engine="openvino", cache=None).fit_transform(sample.data[:2])


def test_a_damaged_conversion_is_made_again(sample, tmp_path):
    codes = CNNCodes(image_size=64, engine="openvino", cache=None)
    expected = codes.fit_transform(sample.data[:4])
    for path in tmp_path.rglob("*.xml"):
        path.write_text("<net")
    _make._engines.clear()
    np.testing.assert_allclose(codes.transform(sample.data[:4]), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("suffix", [".xml", ".bin", ".sha256"])
@pytest.mark.parametrize(
    "damage", ["flip", "cut", "empty", "zeros", "gone", "link", "pipe", "folder"]
)
def test_what_is_damaged_on_disk_is_not_believed(suffix, damage, tmp_path, monkeypatch):
    """Whichever bit it is: the pair of files must be what was written, to be taken."""
    network = small_network()
    expected = codes_of(network)
    (path,) = tmp_path.rglob(f"*{suffix}")
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "flip":
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    elif damage == "link":
        (tmp_path / "elsewhere").write_bytes(content)
        path.symlink_to(tmp_path / "elsewhere")
    elif damage == "pipe":
        os.mkfifo(path)
    elif damage == "folder":
        path.mkdir()
    elif damage != "gone":
        short = {"cut": content[:-1], "empty": b"", "zeros": bytes(len(content))}[damage]
        path.write_bytes(short)
    np.testing.assert_array_equal(codes_of(network), expected)
    if damage == "folder":
        return  # it is converted each time
    if damage == "link":
        assert (tmp_path / "elsewhere").read_bytes() == content
    # What was converted again lies there again, and is believed.
    assert path.is_file() and not path.is_symlink()
    monkeypatch.setattr(_convert, "convert", None)
    np.testing.assert_array_equal(codes_of(network), expected)
    assert not list(tmp_path.rglob("draft-*"))


def test_conversions_that_were_exchanged_are_not_believed(tmp_path):
    first, second = small_network(), small_network(seed=1)
    expected = codes_of(first)
    own = sorted(tmp_path.rglob("openvino/*"))
    other = codes_of(second)
    theirs = sorted(set(tmp_path.rglob("openvino/*")) - set(own))
    for mine, place in zip(own, theirs, strict=True):
        mine.replace(place)
    np.testing.assert_array_equal(codes_of(second), other)
    np.testing.assert_array_equal(codes_of(first), expected)


@pytest.mark.parametrize("place", ["file", "read-only", "nowhere"])
def test_where_nothing_can_be_kept_it_is_converted_each_time(place, tmp_path, monkeypatch):
    expected = codes_of(small_network())
    if place == "file":
        (tmp_path / "file").touch()
        monkeypatch.setenv("SKTRANSFER_CACHE", str(tmp_path / "file"))
    elif place == "read-only":  # also for the administrator, whom permissions do not stop
        monkeypatch.setattr("tempfile.mkdtemp", no_space)
        monkeypatch.setenv("SKTRANSFER_CACHE", str(tmp_path / "other"))
    else:
        monkeypatch.setattr(_conversions, "cache_folder", lambda: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(codes_of(small_network()), expected)


def no_space(*_, **__):
    raise OSError(28, "No space left on device")


PASSING = [MemoryError("Unable to allocate"), OSError(28, "No space left on device"),
           RuntimeError("can't start new thread"), RuntimeError(), ValueError("x\ny")]  # fmt: skip


@pytest.mark.parametrize("error", PASSING, ids=repr)
@pytest.mark.parametrize("where", ["torch.jit.trace", "sktransfer.compute._openvino._compile"])
def test_what_may_pass_is_not_remembered(error, where, tmp_path, monkeypatch):
    network = small_network()

    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(where, fail)
        with pytest.warns(EngineWarning, match="Continuing with torch") as said:
            found = codes_of(network)
    assert len(said) == 1 and not list(tmp_path.rglob("*.txt"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(codes_of(network), found, rtol=1e-4, atol=1e-5)
    assert list(tmp_path.rglob("*.xml"))


def test_an_interruption_is_not_remembered(tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("torch.jit.trace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            codes_of(small_network())
    assert not list(tmp_path.rglob("openvino/*"))


class Unconvertible(nn.Module):
    """With an operation that OpenVINO has no rule for."""

    def __init__(self):
        super().__init__()
        self.convolution, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x):
        maps = self.convolution(x).mean((2, 3))
        return self.head(torch.special.bessel_j0(maps))


def test_what_openvino_says_it_cannot_is_remembered_by_these_versions(tmp_path, monkeypatch):
    network = Unconvertible()
    with pytest.warns(EngineWarning, match=r"No conversion rule found.*bessel_j0.*with torch"):
        expected = codes_of(network)
    (note,) = tmp_path.rglob("*.txt")
    versions = f"openvino {openvino.__version__}, torch {torch.__version__}"
    assert note.read_text().startswith(versions + "\n")
    with monkeypatch.context() as patch:
        patch.setattr(_convert, "convert", None)
        with pytest.warns(EngineWarning, match=f"try it again, delete {note}"):
            np.testing.assert_array_equal(codes_of(network), expected)
    tried = []
    convert = _convert.convert
    monkeypatch.setattr(_convert, "convert", lambda *args: tried.append(1) or convert(*args))
    for content in ["openvino 0, torch 0\nx", "no versions", b"\xff\xfe", b""]:
        note.write_bytes(content.encode() if isinstance(content, str) else content)
        with pytest.warns(EngineWarning, match="No conversion rule found"):
            codes_of(network)
    assert len(tried) == 4


@pytest.mark.parametrize("error", [ImportError("no lib"), RuntimeError("no home"), OSError(2, "x")])
def test_where_it_cannot_be_imported_torch_is_taken(error, monkeypatch, tmp_path):
    def broken():
        raise error

    monkeypatch.setattr(_make, "import_openvino", broken)
    with pytest.warns(EngineWarning, match=r"cannot be imported .*Continuing with torch") as said:
        first = codes_of(small_network())
        codes_of(small_network(seed=1))
    assert len(said) == 1  # it is the same for all networks
    np.testing.assert_array_equal(codes_of(small_network(), engine="torch"), first)


def small_network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)
    )


def codes_of(network, engine="auto"):
    """Codes by an engine that is made again."""
    _make._engines.clear()
    facts = {"image_size": 32, "mean": 0.5, "std": 0.5}
    X = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    return CNNCodes(network, preprocessing=facts, engine=engine, cache=None).fit_transform(X)


ALONE = """
import os, sys
asked = []
def note(event, args):
    if event in ("socket.getaddrinfo", "socket.connect", "socket.sendto", "socket.gethostbyname"):
        asked.append((event, str(args[-1] if event != "socket.getaddrinfo" else args[0])))
sys.addaudithook(note)
if "homeless" in sys.argv:
    import pwd
    def unknown(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")
    pwd.getpwuid = unknown
import numpy as np
from sktransfer import CNNCodes
X = np.zeros((2, 32, 32, 3), np.uint8)
codes = CNNCodes(image_size=32, engine=sys.argv[1], cache=None).fit_transform(X)
print(codes.shape, asked, "openvino" in sys.modules, "openvino_telemetry" in sys.modules)
"""


def alone(tmp_path, *arguments, **changed):
    """Codes by a process of its own, with a home that is empty; what it printed and said."""
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME")}
    environment = {k: v for k, v in {**environment, **changed}.items() if v is not None}
    command = [sys.executable, "-c", ALONE, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=200, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


@pytest.mark.slow
def test_nothing_is_told_to_anybody(tmp_path):
    """openvino asks for a server when it is imported, and writes to the home folder."""
    home = tmp_path / "home"
    home.mkdir()
    said = alone(tmp_path, "openvino", HOME=str(home), SKTRANSFER_CACHE=None)
    assert said == ("(2, 1280) [] True False", "")
    assert [path.name for path in home.iterdir()] == [".cache"]
    assert [path.name for path in (home / ".cache").iterdir()] == ["sktransfer"]


@pytest.mark.slow
def test_a_user_without_a_home(tmp_path):
    """As with a user id that the system does not know, in many containers."""
    said = alone(tmp_path, "auto", "homeless", SKTRANSFER_CACHE=None)
    assert said == ("(2, 1280) [] True False", "")
    assert list(tmp_path.iterdir()) == []  # nor in a folder called ~


def test_users_may_have_its_telemetry_themselves(monkeypatch):
    """What was imported before stays as it is."""
    import sktransfer._optional as optional

    own = types.ModuleType("openvino_telemetry")
    monkeypatch.setitem(sys.modules, "openvino_telemetry", own)
    monkeypatch.delitem(sys.modules, "openvino")
    seen = []

    def importing(name):
        seen.append(sys.modules["openvino_telemetry"])
        raise RuntimeError("stop here")

    monkeypatch.setattr(optional.importlib, "import_module", importing)
    with pytest.raises(RuntimeError):
        import_openvino()
    assert seen == [None] and sys.modules["openvino_telemetry"] is own


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SKTRANSFER_CACHE": "/a"}, "/a/openvino"),
        ({"SKTRANSFER_CACHE": "~/a", "HOME": "/h"}, "/h/a/openvino"),
        ({"SKTRANSFER_CACHE": "", "HOME": "/h"}, "/h/.cache/sktransfer/openvino"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/sktransfer/openvino"),
        ({"XDG_CACHE_HOME": "relative"}, "None"),
        ({"XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/sktransfer/openvino"),
    ],
)
def test_where_conversions_are_kept(variables, expected, monkeypatch):
    for name in ("SKTRANSFER_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(_conversions.cache_folder()) == expected


def test_it_does_not_share_rows_with_torch(sample, passes):
    X = sample.data[:4]
    CNNCodes(image_size=64, engine="openvino").fit_transform(X)
    CNNCodes(image_size=64, engine="torch").fit_transform(X)
    assert passes["images"] == 2 * len(X)


@pytest.mark.parametrize("engine", ["auto", "openvino"])
def test_what_it_computes_differently_runs_on_torch(sample, monkeypatch, engine):
    monkeypatch.setattr("sktransfer.compute._convert._TOLERANCE", 0.0)
    X = sample.data[:4]
    codes = CNNCodes(image_size=72, engine=engine, cache=None)
    with pytest.warns(EngineWarning, match=r"differ by .*Continuing with torch"):
        found = codes.fit_transform(X)
    expected = CNNCodes(image_size=72, engine="torch", cache=None).fit_transform(X)
    np.testing.assert_array_equal(found, expected)
    # Said once; remembered by the next process, which does not try again but says so too.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        codes.transform(X)
    monkeypatch.setattr(_convert, "convert", None)
    _make._engines.clear()
    with pytest.warns(EngineWarning, match="Continuing with torch"):
        codes.transform(X)


def test_what_it_cannot_convert_runs_on_torch(sample, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no such operation\nand more")

    monkeypatch.setattr("torch.jit.trace", fail)
    with pytest.warns(EngineWarning, match=r"cannot convert the network: no such operation\. Con"):
        codes = CNNCodes(image_size=40, cache=None).fit_transform(sample.data[:2])
    assert np.isfinite(codes).all()


@pytest.mark.slow
def test_a_wrong_conversion_is_found_in_bfloat16_too(sample, monkeypatch):
    """Though bfloat16 itself is further from float32 than the probe allows."""
    X = sample.data[:4]
    codes = CNNCodes(image_size=48, precision="bfloat16", engine="openvino", cache=None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = codes.fit_transform(X)
    exact = CNNCodes(image_size=48, engine="torch", cache=None).fit_transform(X)
    assert relative(found, exact) < 0.2
    monkeypatch.setattr("sktransfer.compute._convert._TOLERANCE", 0.0)
    with pytest.warns(EngineWarning, match="differ by"):
        codes.set_params(image_size=56).fit_transform(X)


def test_what_it_cannot_be_combined_with(sample):
    codes = CNNCodes(engine="openvino", compile=True, cache=None).fit(sample.data[:1])
    with pytest.raises(EngineError, match="compile=True is torch's"):
        codes.transform(sample.data[:1])


NETWORKS = [
    ("alexnet", 96),
    ("convnext_tiny", 64),
    ("densenet121", 64),
    ("efficientnet_lite0", 96),
    ("googlenet", 96),
    ("inception_v3", 128),
    ("mobilenet_v2", 96),
    ("mobilenet_v3_small", 96),
    ("regnet_y_400mf", 64),
    ("resnet18", 96),
    ("resnet50", 64),
    ("shufflenet_v2_x1_0", 64),
    ("squeezenet1_1", 96),
    ("swin_t", 64),
    ("vgg11_bn", 64),
    ("vit_b_16", 224),
    ("timm:vit_small_patch14_reg4_dinov2", 98),
    ("timm:tf_efficientnetv2_s", 64),
    ("timm:nf_resnet50", 64),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), NETWORKS)
def test_networks_of_every_family(sample, name, size):
    """Within 1e-3 of torch: converted, or run by torch after all, and then it was said."""
    X = sample.data[:8]
    parameters = {"weights": None, "image_size": size, "cache": None, "preprocessing": "default"}
    expected = CNNCodes(name, engine="torch", **parameters).fit_transform(X)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = CNNCodes(name, engine="auto", **parameters).fit_transform(X)
    told = [str(one.message) for one in said if "Continuing with torch" in str(one.message)]
    print(name, relative(found, expected), told)
    assert relative(found, expected) < 1e-3


TWO_AT_ONCE = """
import os, sys, threading
import numpy as np
from sktransfer._optional import import_openvino
openvino = import_openvino()
from sktransfer.compute._openvino import OpenVinoEngine
sys.setswitchinterval(1e-5)
engine = OpenVinoEngine(openvino.Core().read_model(sys.argv[1]), "float32")
pixels, start = np.zeros((1, 4), np.float32), threading.Barrier(2)
def run():
    start.wait()
    engine.run(pixels)
threads = [threading.Thread(target=run, daemon=True) for _ in range(2)]
[thread.start() for thread in threads]
[thread.join(20) for thread in threads]
print(sum(thread.is_alive() for thread in threads), flush=True)
os._exit(0)
"""


@pytest.mark.slow  # ten processes: without the precaution about every second one hangs
def test_first_passes_of_two_threads_do_not_wait_for_each_other(tmp_path):
    ops = pytest.importorskip("openvino.opset13")
    row = ops.parameter([-1, 4], np.float32)
    path = tmp_path / "model.xml"
    openvino.save_model(openvino.Model([ops.relu(row)], [row]), path)
    command = [sys.executable, "-c", TWO_AT_ONCE, os.fspath(path)]
    for _ in range(10):
        child = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert child.stdout == "0\n", child.stderr


ERRORS_OF_OPENVINO = {
    "Exception from src/inference/src/cpp/core.cpp:117:\n"
    "Exception from src/plugins/intel_cpu/src/config.cpp:266:\n"
    "Wrong value f99 for property key INFERENCE_PRECISION_HINT.\n\n": (
        "Wrong value f99 for property key INFERENCE_PRECISION_HINT"
    ),
    "Check 'data_rank.compatible(filters_rank)' failed at src/core/convolution.hpp:299:\n"
    "While validating node 'opset1::Convolution' with friendly_name 'conv':\n"
    "Data batch and filters rank do not match.\n": "Data batch and filters rank do not match",
    "Exception from src/core.cpp:1:": "Exception from src/core.cpp:1",
    "no memory": "no memory",
}


@pytest.mark.parametrize("text", ERRORS_OF_OPENVINO)
def test_what_an_error_says_is_not_where_it_is(text):
    assert _conversions.first_line(RuntimeError(text)) == ERRORS_OF_OPENVINO[text]


def test_what_cannot_be_compiled_is_said_in_a_sentence(sample, monkeypatch):
    if _version_of(openvino) < (2025,):
        pytest.skip("this version of OpenVINO takes any precision")
    monkeypatch.setitem(_conversions._HINTS, "float32", "f99")
    with pytest.warns(EngineWarning, match=r"^OpenVINO cannot compile the network: Wrong value f"):
        codes = CNNCodes(image_size=44, cache=None).fit_transform(sample.data[:2])
    assert np.isfinite(codes).all()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
def test_a_forked_process_leaves_the_engines_of_its_parent_alone(sample):
    """To end one waits for its threads, which the child does not have: it crashed or hung."""
    script = """
import multiprocessing, os, warnings
import numpy as np
from sktransfer import CNNCodes

warnings.simplefilter("ignore")
X = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)


def codes(sizes):
    for size in sizes:
        CNNCodes(image_size=size, engine="openvino", cache=None).fit_transform(X)
    return sizes


codes([32, 40, 48, 56])  # as many as are kept
with multiprocessing.get_context("fork").Pool(1) as pool:
    print(pool.apply_async(codes, [[32, 40, 64, 72, 80]]).get(timeout=250))
"""
    words = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[32, 40, 64, 72, 80]\n"


@pytest.mark.parametrize("shape", [(5,), (3, 4)])
@pytest.mark.parametrize("more", [{}, {"n": 2}, {"dim": 0}, {"n": 0}])
def test_differences_by_known_operations_are_those_of_torch(shape, more):
    x = torch.arange(torch.tensor(shape).prod().item()).reshape(shape) ** 2
    ends = {"prepend": x[..., :1] - 1, "append": x[..., -1:]} if "dim" not in more else {}
    for y in (x, x % 2 == 0):
        for given in (more, {**more, **{name: one.to(y.dtype) for name, one in ends.items()}}):
            found = _convert._diff(y, **given)
            assert torch.equal(found, torch.diff(y, **given)), given


@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
def test_decoders_are_converted(kind, tmp_path):
    """They look for several texts in one row by an operation that OpenVINO has no rule for."""
    if _version_of(torch) < (2, 6):
        pytest.skip("the tracer of this version of torch cannot follow them")
    pytest.importorskip("transformers")
    from networks_for_text import small_model, small_tokenizer, words

    from sktransfer import TextCodes

    small_model(kind).save_pretrained(tmp_path / "net")
    small_tokenizer().save(str(tmp_path / "net" / "tokenizer.json"))
    texts = [words(3 + seed % 5, seed=seed) for seed in range(12)]
    codes = TextCodes(tmp_path / "net", engine="torch", precision="float32", cache=None)
    expected = codes.fit_transform(texts)
    with warnings.catch_warnings():
        warnings.simplefilter("error", EngineWarning)
        found = codes.set_params(engine="openvino").fit_transform(texts)
    assert relative(found, expected) < 1e-5
