"""Peak memory of a process that computes the codes of small JPEG files at 32 px, without a store:
its largest resident size, less what it had with the network ready, less the output."""

import subprocess
import sys
import tempfile

from shared.images import as_files
from shared.tables import table

UNIQUE = 500
CODE = """
import resource, sys
from pathlib import Path
from sktransfer import CNNCodes

STATUS = Path("/proc/self/status")

def now(field):
    lines = STATUS.read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

def largest():
    # VmHWM is of this program alone; ru_maxrss starts with the size of the process that began it.
    if STATUS.exists():
        return now("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

def start_anew():
    # Loading takes more than running: without this, its peak would hide what comes after.
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return now("VmRSS")
    except OSError:
        return largest()

paths = Path(sys.argv[1]).read_text().splitlines()
codes = CNNCodes("resnet18", weights=None, image_size=32, cache=None, device="cpu").fit(paths[:1])
codes.transform(paths[:64])
before = start_anew()
out = codes.transform(paths)
print(before, largest(), out.nbytes)
"""


def run(settings):
    """One table."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        paths = many_files(folder, max(settings.paths))
        for number in settings.paths:
            listed = f"{folder}/paths.txt"
            with open(listed, "w") as file:
                file.write("\n".join(paths[:number]))
            words = [sys.executable, "-c", CODE, listed]
            answer = subprocess.run(words, capture_output=True, text=True, check=True)
            before, peak, output = (int(word) / 2**20 for word in answer.stdout.split())
            rows.append([number, *(f"{value:.0f}" for value in (before, peak, output)),
                         f"{peak - before - output:.0f}"])  # fmt: skip
    yield table(["paths", "network ready, MB", "peak, MB", "output, MB", "beyond it, MB"], rows)


def many_files(folder, number):
    """Paths of small JPEG files; beyond 500 their content comes again."""
    files = as_files(folder, min(number, UNIQUE), 96, 72).items
    contents = [open(path, "rb").read() for path in files]
    for index in range(len(files), number):
        files.append(f"{folder}/{index:05d}.jpg")
        with open(files[-1], "wb") as file:
            file.write(contents[index % len(contents)])
    return files
