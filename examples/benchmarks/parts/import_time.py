"""Seconds that an import takes in a new process, median (smallest–largest)."""

import subprocess
import sys

import numpy as np

from shared.tables import std, table

IMPORTS = ["numpy", "sktransfer", "torch"]
CODE = """
import sys, time
start = time.perf_counter()
import {name}
print(time.perf_counter() - start, "torch" in sys.modules)
"""


def run(settings):
    """One table."""
    seconds = {name: [] for name in IMPORTS}
    loads_torch = {}
    for turn in range(settings.repeats + 1):
        for name in IMPORTS:
            words = [sys.executable, "-c", CODE.format(name=name)]
            answer = subprocess.run(words, capture_output=True, text=True, check=True)
            taken, loads_torch[name] = answer.stdout.split()
            if turn:  # the first one fills the system's file cache
                seconds[name].append(float(taken))
    if loads_torch["sktransfer"] != "False":
        raise RuntimeError("import sktransfer imports torch")
    torch = np.array(seconds["torch"])
    yield table(
        ["import", "seconds", "share of import torch", "imports torch"],
        [
            [name, std(seconds[name], 3), std(seconds[name] / torch, 3), loads_torch[name]]
            for name in IMPORTS
        ],
    )
