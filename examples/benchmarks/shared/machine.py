"""Where the figures come from."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ["torch", "torchvision", "timm", "openvino", "scikit-learn", "Pillow", "numpy", "skorch"]
PEERS = ["embetter", "img2vec_pytorch", "thingsvision", "Orange3-ImageAnalytics"]
FLAGS = ["avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16"]


def describe():
    """Cores, what the processor can do, and versions."""
    have = [f"{name} {found}" for name in PACKAGES + PEERS if (found := version_of(name))]
    lines = [
        f"{available_cores()} cores, {processor()}; of {', '.join(FLAGS)}: "
        f"{', '.join(flags()) or 'none, or not known'}",
        f"Python {platform.python_version()}, {', '.join(have)}",
    ]
    return "\n".join(f"- {line}" for line in lines + gpu())


def version_of(package):
    """Version of a package, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def available_cores():
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _cpuinfo(field):
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(field)), "")


def processor():
    """Its name, as far as the system tells."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def flags():
    """Which wide and low-precision instructions there are."""
    present = set(_cpuinfo("flags").split())
    return [flag for flag in FLAGS if flag in present]


def gpu():
    """A line for the graphics card, if torch sees one."""
    import torch

    return [torch.cuda.get_device_name(0)] if torch.cuda.is_available() else []
