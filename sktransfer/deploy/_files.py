"""A plain network as a file that runs without sktransfer; believed only once it has run."""

from __future__ import annotations

import inspect
import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from .._files import draft_folder
from .._optional import import_openvino, import_optional
from ..compute import openvino_graph
from ..exceptions import ExportError, shown
from ..networks import running, tracing
from ._network import ImageNetwork, TracedNetwork, probabilities_of
from ._to_torch import to_torch

__all__ = ["export"]

# How far a file's outputs may be from the network's, of their size: another order of sums.
_TOLERANCE = 1e-3
_OPSET = 17
_KEY = "sktransfer"

Outputs = tuple[np.ndarray, ...]
Runner = Callable[[np.ndarray], Outputs]


def export(estimator: Any, path: str | os.PathLike[str], *, resize: bool = False) -> Path:
    """Write a fitted estimator as a file that runs without sktransfer and scikit-learn.

    What is written is :func:`to_torch` of the estimator, in the format of the ending. Files that
    can be run are run, on made-up images, one and three at a time, and compared with the network
    before they take their place: there is the right file, or none. All take batches of any
    length, of float32 images (n, 3, h, w) from 0 to 1 called ``images``, and give ``logits`` and
    ``probabilities``, ``values``, or ``codes``. All hold what `network.facts` of
    :func:`to_torch` says: classes, preprocessing, network and layers.

    Parameters
    ----------
    estimator : estimator
        As :func:`to_torch` takes it.
    path : str or path
        Its ending is the format:

        - ``.pt``, ``.ts``: TorchScript, for ``torch.jit.load`` in Python and C++. Takes uint8
          as well; has `predict_proba`; the facts are its extra file ``sktransfer.json``.
        - ``.onnx``: for onnxruntime and many others; the facts are in `metadata_props`. Needs the
          extra ``onnx``.
        - ``.xml``: for OpenVINO, with the weights in a ``.bin`` beside; the facts are in `rt_info`.
          Compile it with ``{"INFERENCE_PRECISION_HINT": "f32"}``, as the check does: such a hint
          cannot be in the file, and without it processors that have bfloat16 round to that. Needs
          the extra ``openvino``.
        - ``.safetensors``: weights by the names of the network's own parameters, after
          ``network.``, and those of the head, after ``head.``; the facts are in a ``.json`` beside
          and in the metadata.
    resize : bool, default=False
        As in :func:`to_torch`; for TorchScript alone.

    Returns
    -------
    path : Path
        What was written.

    Raises
    ------
    ExportError
        If the ending is another, the estimator cannot become a plain network, the format cannot
        hold it, or the file computes something else. Nothing is left then.
    ImportError
        If a package that the format needs is missing.
    OSError
        If the file cannot be written.

    See Also
    --------
    to_torch : The same as a module.

    Examples
    --------
    >>> import tempfile, torch
    >>> from sktransfer import FineTuneClassifier, export
    >>> from sktransfer.datasets import load_cifar10_sample
    >>> X, y = load_cifar10_sample(return_X_y=True)
    >>> clf = FineTuneClassifier(image_size=32, max_epochs=1, random_state=0).fit(X[:60], y[:60])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     network = torch.jit.load(export(clf, folder + "/model.pt"))
    >>> network.predict_proba(torch.from_numpy(X[:5])).shape
    torch.Size([5, 10])
    """
    path = Path(path)
    write = _WRITERS.get(path.suffix.lower())
    if write is None:
        raise ExportError(f"The path must end in {', '.join(_WRITERS)}, got {shown(str(path))}.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder {shown(str(path.parent))} must exist; make it first.")
    if resize and write is not _write_torchscript:
        raise ExportError(
            f"resize=True is for TorchScript (.pt, .ts) alone, got {shown(path.name)}. Resize "
            "images before they come, as network.preprocessing of to_torch says."
        )
    for module in _NEEDS.get(path.suffix.lower(), ()):
        import_optional(module, f"export to {path.suffix}", "onnx")
    network = to_torch(estimator, resize=resize)
    with draft_folder(path.parent) as folder:
        written = write(network, folder / path.name)
        new = folder / "new"
        new.touch()  # with the mode that files have here; some writers let nobody else read
        for one in written:  # the file itself is the last
            os.chmod(one, new.stat().st_mode)
            os.replace(one, path.parent / one.name)
    return path


class _Answers(nn.Module):
    """All that a network says of images, as a tuple."""

    def __init__(self, network: ImageNetwork):
        super().__init__()
        self.network = network
        self.eval()  # exporters put all back into the mode that this one has

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = self.network(images)
        if self.network.link == "none":
            return (outputs,)
        return outputs, probabilities_of(outputs, self.network.link)


def _names(network: ImageNetwork) -> list[str]:
    if network.kind in ("codes", "values"):
        return [network.kind]
    return ["logits"] if network.link == "none" else ["logits", "probabilities"]


def _probes(network: ImageNetwork, n: int) -> torch.Tensor:
    """Made-up images: noise, and gradients."""
    shape = (n, network.preprocessing["n_channels"], *network.preprocessing["image_size"])
    draw = torch.Generator().manual_seed(n)
    ramp = torch.linspace(0, 1, shape[-1]).expand(shape)
    return ramp * 0.5 + torch.rand(shape, generator=draw) * 0.5


@contextmanager
def _followed() -> Iterator[None]:
    """While a network is followed by an exporter, which says much of what is constant here."""
    with tracing(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        yield


def _check(network: ImageNetwork, run: Runner, what: str) -> None:
    """Refuse a file whose outputs are others than the network's.

    Raises
    ------
    ExportError
        If one output of one and of three images differs by more than 1e-3 of the largest.
    """
    answers = _Answers(network)
    for n in (1, 3):
        images = _probes(network, n)
        with running(), torch.inference_mode():
            expected = [one.numpy() for one in answers(images)]
        try:
            found = run(images.numpy())
        except Exception as error:  # each runtime has its own
            reason = str(error).strip().splitlines()
            told = reason[0] if reason else type(error).__name__
            raise ExportError(
                f"{what} cannot run what was written, for a batch of {n}: {told}"
            ) from error
        for name, own, other in zip(_names(network), expected, found, strict=True):
            ok = own.shape == other.shape
            apart = np.abs(own - other).max() / max(1.0, np.abs(own).max()) if ok else np.inf
            if not apart <= _TOLERANCE:
                raise ExportError(
                    f"{what} must compute what the network does, but its {name} of {n} images "
                    f"differ by {apart:.1e}; at most {_TOLERANCE:.0e} are allowed. Export to "
                    "another format, such as .pt."
                )


# The formats: each writes a network to a draft, checks it, and tells the files, the main one last.


def _write_torchscript(network: ImageNetwork, draft: Path) -> list[Path]:
    # The network itself is followed; around it code is kept, which asks for dtype and shape.
    inner = nn.Sequential(network.codes, network.head)
    with _followed():
        images = network.pixels(_probes(network, 2))
        traced = torch.jit.trace(inner.eval(), images, check_trace=False)
        outer = TracedNetwork(network.pixels, traced, network.facts).eval()
        scripted: Any = torch.jit.script(outer)
        facts = json.dumps(network.facts).encode()
        scripted.save(str(draft), _extra_files={f"{_KEY}.json": facts})
        loaded: Any = torch.jit.load(str(draft))

    def run(images: np.ndarray) -> Outputs:
        with torch.inference_mode():
            given = torch.from_numpy(images)
            calls = [loaded] if network.link == "none" else [loaded, loaded.predict_proba]
            return tuple(call(given).numpy() for call in calls)

    _check(network, run, "TorchScript")
    return [draft]


def _write_onnx(network: ImageNetwork, draft: Path) -> list[Path]:
    onnx = import_optional("onnx", "export to .onnx", "onnx")
    runtime = import_optional("onnxruntime", "export to .onnx", "onnx")
    _to_onnx(network, draft)
    model = onnx.load(str(draft))
    facts = {_KEY: network.facts, **network.facts}
    for key, value in facts.items():
        text = value if isinstance(value, str) else json.dumps(value)
        model.metadata_props.add(key=key, value=text)
    onnx.save(model, str(draft))
    session = runtime.InferenceSession(str(draft), providers=["CPUExecutionProvider"])
    _check(network, lambda images: tuple(session.run(None, {"images": images})), "onnxruntime")
    return [draft]


def _to_onnx(network: ImageNetwork, draft: Path) -> None:
    """By the exporter that follows one pass, in seconds; by the newer one if that fails."""
    example, names = _probes(network, 2), _names(network)
    axes: Any = {name: {0: "n"} for name in ("images", *names)}
    common = {"input_names": ["images"], "output_names": names, "opset_version": _OPSET}
    knows = "dynamo" in inspect.signature(torch.onnx.export).parameters
    kinds: list[dict[str, Any]] = [{"dynamic_axes": axes, **({"dynamo": False} if knows else {})}]
    if knows:
        batch = torch.export.Dim("n")
        kinds.append({"dynamo": True, "dynamic_shapes": ({0: batch},), "verbose": False,
                      "external_data": False, "opset_version": 18})  # fmt: skip
    failed: list[Exception] = []
    for kind in kinds:
        try:
            with _followed():
                torch.onnx.export(_Answers(network), (example,), str(draft), **{**common, **kind})
            return
        except Exception as error:
            failed.append(error)
    reason = str(failed[0]).strip().splitlines() or [type(failed[0]).__name__]
    raise ExportError(f"The network cannot be written as ONNX: {reason[0]}") from failed[0]


def _write_openvino(network: ImageNetwork, draft: Path) -> list[Path]:
    try:
        openvino = import_openvino()
    except ImportError as error:
        raise ImportError(
            'export to .xml needs the package openvino: pip install "sktransfer[openvino]".'
        ) from error
    example = _probes(network, 2)
    model = openvino_graph(_Answers(network), example, [-1, *example.shape[1:]])
    model.inputs[0].get_tensor().set_names({"images"})
    for output, name in zip(model.outputs, _names(network), strict=True):
        output.get_tensor().set_names({name})
    for key, value in network.facts.items():
        text = value if isinstance(value, str) else json.dumps(value)
        model.set_rt_info(text, [_KEY, key])
    openvino.save_model(model, str(draft), compress_to_fp16=False)
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(draft), "CPU", options)

    def run(images: np.ndarray) -> Outputs:
        results = compiled([images])
        return tuple(np.array(results[i]) for i in range(len(results)))

    _check(network, run, "OpenVINO")
    return [draft.with_suffix(".bin"), draft]


def _write_safetensors(network: ImageNetwork, draft: Path) -> list[Path]:
    tensors = own_names(network)
    facts = json.dumps(network.facts)
    save_file(tensors, str(draft), metadata={_KEY: facts})
    loaded = load_file(str(draft))
    if not all(loaded[name].equal(value) for name, value in tensors.items()):
        raise ExportError("The weights must be in the file as they are in the network, but differ.")
    told = draft.with_suffix(".json")
    told.write_text(json.dumps(network.facts, indent=1), "utf-8")
    return [told, draft]


def own_names(network: ImageNetwork) -> dict[str, torch.Tensor]:
    """All weights, by the names that they have in the pretrained network, and those of the head."""
    found: dict[str, torch.Tensor] = {}
    for name, value in network.state_dict().items():
        for before in ("codes.network.", "codes.tail."):
            # What frozen and trained part both have, the trained one has as it is now.
            name = name.replace(before, "network.", 1) if name.startswith(before) else name
        found[name] = value.detach().clone().contiguous()
    return found


_WRITERS: dict[str, Callable[[ImageNetwork, Path], list[Path]]] = {
    ".pt": _write_torchscript,
    ".ts": _write_torchscript,
    ".onnx": _write_onnx,
    ".xml": _write_openvino,
    ".safetensors": _write_safetensors,
}
# Packages that a format needs, asked for before anything is computed.
_NEEDS = {".onnx": ("onnx", "onnxruntime")}
