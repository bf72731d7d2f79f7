"""Many JPEG files of 300×400 pixels, efficientnet_lite0 at 224 px in float32: images/s and memory
of CNNCodes without a store and of a plain loop (Pillow, transforms of torchvision, batches of 32
under inference_mode), which takes fewer images. Memory is that of the process at its highest, less
what it had after the first 64 images, and less the codes."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from shared.images import as_files
from shared.tables import table

HEAD = """
import json, resource, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
paths = sorted(map(str, Path(sys.argv[2]).iterdir()))[: int(sys.argv[3])]
size = int(sys.argv[4])
"""
WAYS = {
    "CNNCodes": """
from sktransfer import CNNCodes
codes = CNNCodes(image_size=size, resize="crop", cache=None).fit(paths[:2])
run = codes.transform
""",
    "plain loop": """
import numpy as np, torch
from PIL import Image
from shared.networks import load_network
network = load_network("efficientnet_lite0", size)
transform = network.transform(False)
def run(paths):
    found = []
    with torch.inference_mode():
        for start in range(0, len(paths), 32):
            some = paths[start : start + 32]
            images = [transform(Image.open(one).convert("RGB")) for one in some]
            found.append(network.module(torch.stack(images)).numpy())
    return np.concatenate(found)
""",
}
TAIL = """
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
run(paths[:64])
before, start = peak(), time.perf_counter()
found = run(paths)
seconds = time.perf_counter() - start
print("+++", json.dumps([len(paths) / seconds, peak() - before - found.nbytes / 2**20]))
"""


def run(settings):
    """One table."""
    rows, many = [], settings.many_files
    with tempfile.TemporaryDirectory() as folder:
        as_files(folder, many, 400, 300)
        for name, number in (("plain loop", many // 16), ("CNNCodes", many)):
            words = [sys.executable, "-c", HEAD + WAYS[name] + TAIL, str(Path(__file__).parents[1]),
                     folder, str(number), str(settings.size)]  # fmt: skip
            told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
            rate, memory = json.loads(told.rsplit("+++", 1)[1])
            rows.append([name, f"{number:,}", f"{rate:.0f}", f"{memory:.0f}"])
    yield table(["way", "images", "images/s", "MB beside the codes"], rows)
