"""Latency and requests per second of examples/serve_fastapi.py on loopback.

    python examples/benchmarks/serve.py [--requests 200] [--clients 1 4 16] [--size 640 480]

The server is a process of its own on this machine; clients are threads here that each send JPEG
images, one after the other, all of them different. Computing one image in one thread without HTTP
stands beside it. A linear probe on efficientnet_lite0 at 224 px.
"""

import argparse
import io
import os
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import joblib
import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import CNNCodes, warm_up
from sktransfer.datasets import load_cifar10_sample

EXAMPLES = Path(__file__).parents[1]


def made_up(n, size):
    """JPEG files of different images."""
    draw, files = np.random.default_rng(0), []
    for _ in range(n):
        coarse = draw.integers(0, 256, (24, 32, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(file, "JPEG")
        files.append(file.getvalue())
    return files


def start(model):
    """A server, and its address once it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "serve_fastapi:app", "--app-dir", str(EXAMPLES),
               "--port", str(port), "--log-level", "warning"]  # fmt: skip
    server = subprocess.Popen(command, env={**os.environ, "MODEL": model})
    address = f"http://127.0.0.1:{port}"
    for _ in range(600):
        if server.poll() is not None:
            raise SystemExit("the server ended; its error is above")
        try:
            httpx.get(f"{address}/health", trust_env=False)
            return server, address
        except httpx.TransportError:
            time.sleep(0.1)
    server.kill()
    raise SystemExit("the server did not answer within a minute")


def told(name, seconds, total):
    """A row of the table."""
    middle, slow = np.percentile(seconds, [50, 95]) * 1000
    print(f"{name:<22}{middle:>10.1f}{slow:>10.1f}{len(seconds) / total:>14.1f}", flush=True)


def measure(address, files, n_clients):
    """Seconds of each request, and of all together, from so many clients at a time."""

    def ask(own):
        seconds = []
        with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
            for file in own:
                began = time.perf_counter()
                client.post("/predict", files={"file": file}).raise_for_status()
                seconds.append(time.perf_counter() - began)
        return seconds

    shares = [files[number::n_clients] for number in range(n_clients)]
    began = time.perf_counter()
    with ThreadPoolExecutor(n_clients) as pool:
        found = list(pool.map(ask, shares))
    return np.concatenate(found), time.perf_counter() - began


def main():
    """Fit, serve, ask, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--size", type=int, nargs=2, default=[640, 480])
    parser.add_argument("--image-size", type=int, default=224)
    args = parser.parse_args()
    X, y = load_cifar10_sample(return_X_y=True)
    codes = CNNCodes(image_size=args.image_size, cache=None)
    pipe = make_pipeline(codes, StandardScaler(), LogisticRegression()).fit(X[:100], y[:100])
    files = made_up(args.requests, args.size)
    print(f"{'milliseconds':<22}{'median':>10}{'95%':>10}{'requests/s':>14}")
    warm_up(pipe)
    seconds, began = [], time.perf_counter()
    for file in files:
        one = time.perf_counter()
        pipe.predict_proba([file])
        seconds.append(time.perf_counter() - one)
    told("predict_proba, no HTTP", np.array(seconds), time.perf_counter() - began)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.joblib")
        joblib.dump(pipe, path)
        server, address = start(path)
        try:
            first = time.perf_counter()
            measure(address, files[:1], 1)
            print(f"first request after the start: {1000 * (time.perf_counter() - first):.0f} ms")
            for n_clients in args.clients:
                told(f"{n_clients} clients", *measure(address, files, n_clients))
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
