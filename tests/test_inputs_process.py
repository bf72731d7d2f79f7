"""What Pillow was told in the main process holds in the workers that work for it."""

import multiprocessing
import pickle
import sys

import numpy as np
import pytest
from PIL import Image, ImageFile
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from sktransfer import AutoTransferClassifier, CNNCodes, FineTuneClassifier

PLUGIN = """
from PIL import Image, ImageFile

class Own(ImageFile.ImageFile):
    format = "OWN"

    def _open(self):
        self._mode, self._size = "L", (2, 2)
        self.tile = [("raw", (0, 0, 2, 2), 4, ("L", 0, 1))]

def accepts(prefix):
    return prefix.startswith(b"OWN")

def register():
    Image.register_open("OWN", Own, accepts)
    Image.register_extension("OWN", ".own")
"""
ESTIMATORS = [CNNCodes(cache=None), FineTuneClassifier(), AutoTransferClassifier()]


@pytest.fixture
def pillow(monkeypatch):
    """What is changed of Pillow is as it was after the test."""
    Image.init()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)
    for name in ("ID", "OPEN", "EXTENSION"):
        value = getattr(Image, name)
        monkeypatch.setattr(Image, name, type(value)(value))


@pytest.fixture
def plugin(pillow, tmp_path, monkeypatch):
    (tmp_path / "own_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    monkeypatch.delitem(sys.modules, "own_plugin", raising=False)
    import own_plugin

    own_plugin.register()
    return own_plugin


def forget():
    """As a worker that has just started."""
    Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = 1024**3 // 4 // 3, False
    if "OWN" in Image.OPEN:
        Image.ID.remove("OWN")
        del Image.OPEN["OWN"], Image.EXTENSION[".own"]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda one: type(one).__name__)
def test_estimators_take_settings_to_workers_and_nowhere_else(estimator, plugin, monkeypatch):
    Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = None, True
    data = pickle.dumps(estimator)
    told = estimator.__getstate__()
    assert not told["_settings_of_pillow"].__getstate__()  # nothing for what is no pickle
    forget()
    default = Image.MAX_IMAGE_PIXELS
    assert told.keys() - estimator.__getstate__().keys() == {"_settings_of_pillow"}
    assert not hasattr(pickle.loads(data), "_settings_of_pillow")
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES) == (default, False)
    assert "OWN" not in Image.OPEN
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: "the main process")
    loaded = pickle.loads(data)
    assert loaded.get_params().keys() == estimator.get_params().keys()
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES) == (None, True)
    assert Image.OPEN["OWN"] == (plugin.Own, plugin.accepts) and Image.EXTENSION[".own"] == "OWN"
    # another call, after the main process took it back
    forget_data = pickle.dumps(type(estimator)())
    Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = default, False
    plain_data = pickle.dumps(type(estimator)())
    Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES = None, True
    pickle.loads(plain_data)
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES) == (default, False)
    pickle.loads(forget_data)
    assert Image.MAX_IMAGE_PIXELS is None
    pickle.loads(plain_data)  # this process is left as it was


def test_openers_that_are_made_on_the_spot_do_not_hinder(pillow):
    class Local(ImageFile.ImageFile):
        pass

    Image.register_open("LOCAL", Local, lambda prefix: False)
    assert isinstance(pickle.loads(pickle.dumps(CNNCodes())), CNNCodes)


@pytest.mark.slow
def test_workers_of_joblib(plugin, tmp_path, fresh_workers):
    rng, paths = np.random.default_rng(0), []
    for number in range(8):
        paths.append(str(tmp_path / f"{number}.own"))
        (tmp_path / f"{number}.own").write_bytes(b"OWN\0" + rng.bytes(4))
    model = make_pipeline(CNNCodes(image_size=32, cache=None, engine="torch"), LogisticRegression())
    y = [0, 1] * 4
    serial = cross_val_score(model, paths, y, cv=2, error_score="raise")
    parallel = cross_val_score(model, paths, y, cv=2, n_jobs=2, error_score="raise")
    np.testing.assert_array_equal(parallel, serial)
    Image.MAX_IMAGE_PIXELS = 1
    with pytest.raises(ValueError, match="MAX_IMAGE_PIXELS"):
        cross_val_score(model, paths, y, cv=2, n_jobs=2, error_score="raise")
    Image.MAX_IMAGE_PIXELS = 1024**3 // 4 // 3
    parallel = cross_val_score(model, paths, y, cv=2, n_jobs=2, error_score="raise")
    np.testing.assert_array_equal(parallel, serial)
