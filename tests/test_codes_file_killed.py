"""kill -9 at random moments: nothing is missing in the end, and nothing was computed twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from sktransfer import CNNCodes

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and kill -9")
BATCH = 4

# One process imports torch; its children, one after the other, are killed. A child logs
# images when they go into the network, and again when they have come out of it.
SERVER = """
import json, os, random, signal, sys, time
from sktransfer import CNNCodes
from sktransfer.compute._torch import TorchEngine

place, log, seed, n_kills, *paths = sys.argv[1:]
draw = random.Random(int(seed))
codes = CNNCodes(image_size=32, cache=None, engine="torch", batch_size=4, n_jobs=2)
plain = TorchEngine.run

def run(self, pixels):
    os.write(sink, b"i" * len(pixels))
    time.sleep(0.02)
    outputs = plain(self, pixels)
    os.write(sink, b"o" * len(pixels))
    return outputs

TorchEngine.run = run
sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
kills = []
for turn in range(40):
    before = os.fstat(sink).st_size
    child = os.fork()
    if not child:
        # Not before: torch's own threads do not survive a fork.
        report = codes.fit(paths).transform_to(place, paths)
        print(json.dumps([report.n_new, report.n_known]), flush=True)
        os._exit(0)
    if len(kills) < int(n_kills):
        # Every third at any moment, the others when the network is at work.
        end = time.monotonic() + (draw.random() * 2 if turn % 3 == 0 else 60)
        while time.monotonic() < end and os.fstat(sink).st_size < before + 60:
            time.sleep(0.001)
        time.sleep(draw.random() * 0.05)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        kills.append(os.fstat(sink).st_size - before)
    else:
        break
print(json.dumps(kills))
"""


@pytest.fixture
def paths(sample, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(600):
        picture = Image.fromarray(sample.data[number % len(sample.data)])
        picture.putpixel((0, 0), (number % 256, number // 256, 0))
        picture.save(folder / f"{number:03}.png", compress_level=0)
    return sorted(map(str, folder.iterdir()))


@pytest.mark.slow
@pytest.mark.parametrize("n_kills", [2, 10])
def test_killed(paths, tmp_path, n_kills):
    paths = paths[: 60 * n_kills]  # more than are computed between two kills
    place, log = tmp_path / "codes.npy", tmp_path / "log"
    seed = str(int.from_bytes(os.urandom(3)))
    done = subprocess.run(
        [sys.executable, "-c", SERVER, str(place), str(log), seed, str(n_kills), *paths],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *_, last, kills = map(json.loads, done.stdout.splitlines())
    assert len(kills) == n_kills, f"it was over too early: seed {seed}"
    assert sum(last) == len(paths) and last[1] > 0

    expected = CNNCodes(image_size=32, cache=None, engine="torch").fit_transform(paths)
    np.testing.assert_allclose(np.load(place), expected, rtol=1e-5, atol=1e-6)
    assert not place.with_name("codes.npy.partial").exists()

    passes = log.read_bytes().count(b"i")
    # Each of two threads had one batch in hand and one that was done, but not yet in the file.
    in_flight = 4 * BATCH * sum(made > 0 for made in kills)
    print(f"{len(paths)} images, {passes} passes, {n_kills} kills, {in_flight} at most in flight")
    assert len(paths) <= passes <= len(paths) + in_flight
