"""Seconds in a new process: from joblib.load to the first prediction of a linear probe whose
conversion is on disk, importing torch and scikit-learn alone, and the command line's help. Median
(smallest–largest), Python's own start included; beside it what was imported."""

import os
import subprocess
import sys
import tempfile
import time

import joblib
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from shared.tables import std, table
from sktransfer import CNNCodes

PREDICT = "import sys, joblib, numpy\njoblib.load(sys.argv[1]).predict(numpy.load(sys.argv[2]))\n"
WAYS = {
    "python -c pass": "",
    "import torch, sklearn.pipeline": "import torch, sklearn.pipeline, sklearn.linear_model\n",
    "joblib.load and predict": PREDICT,
    "import sktransfer": "import sktransfer\n",
    "sktransfer --help": "import sys; sys.argv = ['sktransfer', '--help']\n"
    "from sktransfer.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n",
}
LOOKED_FOR = ["torch", "sklearn", "pandas", "openvino", "timm", "torchvision", "torch._dynamo"]
TELL = f"import sys\nprint('+++', *(one for one in {LOOKED_FOR} if one in sys.modules))\n"


def run(settings):
    """One table."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        model, images = os.path.join(folder, "model.joblib"), os.path.join(folder, "images.npy")
        X = np.random.default_rng(0).integers(
            0, 256, (8, settings.size, settings.size, 3), np.uint8
        )
        codes = CNNCodes(image_size=settings.size, cache=None)
        pipe = make_pipeline(codes, StandardScaler(), LogisticRegression()).fit(X, [0, 1] * 4)
        pipe.predict(X)
        joblib.dump(pipe, model)
        np.save(images, X[:1])
        for name, code in WAYS.items():
            seconds = []
            for turn in range(settings.repeats + 1):
                words = [sys.executable, "-c", code + TELL, model, images]
                start = time.perf_counter()
                told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
                if turn:  # the first one fills the system's file cache
                    seconds.append(time.perf_counter() - start)
            rows.append([name, std(seconds, 2), told.rsplit("+++", 1)[1].strip() or "–"])
    yield table(["in a new process", "seconds", "of what is looked for, imported"], rows)
