"""One network on one draw: what was advised, and what every strategy tells of the test."""

import json
from dataclasses import asdict, dataclass

import numpy as np
from sklearn.base import clone

from shared.strategies import advised_name, member_names, strategies
from sktransfer import CNNCodes, advise


@dataclass
class Judged:
    """A line of the file of results."""

    data: str
    draw: int
    network: str
    scenario: str
    advised: str
    layer: str
    resize: str
    expected: float
    scores: dict
    n_test: int
    hits: dict  # of each strategy a bit for each test image, in hexadecimal

    def right(self, strategy):
        """Whether each test image was told."""
        bits = np.frombuffer(bytes.fromhex(self.hits[strategy]), dtype=np.uint8)
        return np.unpackbits(bits)[: self.n_test].astype(bool)

    def accuracy(self, strategy):
        return float(self.right(strategy).mean())


def judge(held, label, codes, scores, *, partly, wholly, epochs):
    """Fit every strategy."""
    advice = advise(held.X, held.y, codes, fine_tune="auto" if partly else False)
    framed = CNNCodes(**{**codes.get_params(deep=False), "resize": advice.resize})
    asked = strategies(framed, advice, partly=partly, wholly=wholly)
    name = advised_name(advice)
    votes = member_names(advice) if name == "vote" else []
    advised = [one for _, one in advice.estimator.estimators] if votes else [advice.estimator]
    for key, estimator in zip(votes or [name], advised, strict=True):
        asked.setdefault(key, estimator)
    said = {}
    for key, estimator in asked.items():
        estimator = clone(estimator)
        if key.startswith("fine-tune"):
            estimator.set_params(max_epochs=epochs)
        said[key] = estimator.fit(held.X, held.y).predict_proba(held.X_test)
    if votes:  # as VotingClassifier has it
        said["vote"] = np.mean([said[key] for key in votes], axis=0)
    classes = np.unique(held.y)
    right = {key: classes[one.argmax(axis=1)] == held.y_test for key, one in said.items()}
    hits = {key: np.packbits(one).tobytes().hex() for key, one in right.items()}
    tuned = name.startswith("fine-tune")
    end = advice.estimator.layer or "" if tuned else advice.layer
    return Judged(
        held.name, held.draw, label, advice.scenario, name, end, advice.resize,
        advice.expected_accuracy, scores, len(held.y_test), hits,
    )  # fmt: skip


def save(path, judged):
    with open(path, "a") as file:
        file.write(json.dumps(asdict(judged)) + "\n")


def load(path):
    """The results that are there; none where there is no file."""
    try:
        with open(path) as file:
            return [Judged(**json.loads(line)) for line in file]
    except FileNotFoundError:
        return []
