"""
A service for images
====================

Takes an uploaded image and answers with its label and probabilities::

    pip install fastapi uvicorn python-multipart
    MODEL=model.joblib uvicorn serve_fastapi:app --app-dir examples
    curl -F "file=@cat.jpg" http://127.0.0.1:8000/predict

The model is what joblib saved: a pipeline of CNNCodes, or a fine-tuned network.
"""

import os

import joblib
from fastapi import FastAPI, HTTPException, UploadFile
from PIL import Image

from sktransfer import set_config, warm_up
from sktransfer.exceptions import ItemError

MAX_BYTES = 20_000_000
MAX_PIXELS = 50_000_000


def load_model(path):
    """Load a fitted estimator for a service: warm, and without a cache that grows."""
    model = joblib.load(path)
    caches = [name for name in model.get_params() if name.split("__")[-1] == "cache"]
    model.set_params(**dict.fromkeys(caches))  # cache=None: an image seldom comes twice
    return warm_up(model)


def make_app(model):
    """A service around one fitted classifier, which all requests share."""
    app = FastAPI()

    @app.get("/health")
    def health():
        return {"classes": model.classes_.tolist()}

    # Not async: each request gets a thread, and others are answered while this one computes.
    @app.post("/predict")
    def predict(file: UploadFile):
        if file.size is None or file.size > MAX_BYTES:
            raise HTTPException(413, f"The file must have at most {MAX_BYTES} bytes.")
        try:
            shares = model.predict_proba([file.file])[0]
        except ItemError as error:  # no image, or a damaged one
            # The cause alone: the message names an argument of ours.
            raise HTTPException(422, f"The file cannot be used: {error.cause}.") from error
        found = dict(zip(map(str, model.classes_), map(float, shares), strict=True))
        return {"label": max(found, key=found.get), "probabilities": found}

    return app


if "MODEL" in os.environ:
    set_config(cache_memory=0)  # also where set_params does not reach: in votes and searches
    # A small PNG file may hold very many pixels. Pillow refuses images of more than twice this.
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2
    app = make_app(load_model(os.environ["MODEL"]))
