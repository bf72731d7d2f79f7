"""The built site: what its search finds, what its reference holds, what its pages show.

``SKTRANSFER_SITE`` names a site that is built already, as ``.ci/run`` does; otherwise one is built
here without running any code of pages and examples, and tests of outputs are left out.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sktransfer
from sktransfer import exceptions

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
ROOMS = "codes datasets deploy finetune inspection metrics selection testing".split()
BUILT = os.environ.get("SKTRANSFER_SITE")
on_a_built_site = pytest.mark.skipif(
    not BUILT, reason="SKTRANSFER_SITE names no site that was built with all outputs"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of a built site."""
    if BUILT:
        return Path(BUILT)
    pytest.importorskip("sphinx_gallery")
    folder = tmp_path_factory.mktemp("site")
    for part in ("docs", "examples"):  # builds write beside their sources
        ignored = shutil.ignore_patterns("generated", "auto_examples", "_build", "__pycache__")
        shutil.copytree(ROOT / part, folder / part, ignore=ignored)
    shutil.copy(ROOT / "CHANGELOG.md", folder)  # a page includes it
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-D", "plot_gallery=0", "docs", "html"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "html"


# The sources.


def test_every_public_name_is_in_the_reference():
    listed = set(re.findall(r"^   ([\w.]+)$", _text(REFERENCE.glob("*.md")), re.MULTILINE))
    listed = {name.rpartition(".")[2] for name in listed}
    told = _text(REFERENCE.glob("*.md"))
    for home in [sktransfer, *(importlib.import_module(f"sktransfer.{room}") for room in ROOMS)]:
        for name in home.__all__:
            assert name in listed or f"{name}`" in told or name == "__version__", name


def test_every_error_and_warning_is_explained():
    rows = re.findall(
        r"^\| \{py:exc\}`~sktransfer\.exceptions\.(\w+)` \| (.+?) \| ?(.*) \|$",
        (REFERENCE / "errors.md").read_text(),
        re.MULTILINE,
    )
    assert sorted(name for name, _, _ in rows) == sorted(
        set(exceptions.__all__) - {"SktransferError", "SktransferWarning"}
    )
    for name, meaning, remedy in rows:
        assert remedy or meaning.startswith("base of"), name


def _text(pages):
    return "\n".join(page.read_text() for page in pages)


# The site.

QUERIES = {
    "tutorial/install": ["install", "installation", "Windows", "conda"],
    "how_to/feed_images": ["load images", "csv", "data frame", "DICOM", "pytorch dataset"],
    "how_to/bad_images": ["corrupt", "corrupt images", "damaged images"],
    "how_to/clean": ["duplicates", "mislabelled", "mislabeled", "label noise", "leakage"],
    "how_to/groups": ["GroupKFold"],
    "how_to/many_images": ["out of memory", "memory"],
    "how_to/choose_network": ["offline", "timm", "pretrained models", "ResNet", "DINOv2"],
    "how_to/which_network": ["model selection"],
    "how_to/choose_layer": ["earlier layer", "pooling"],
    "how_to/own_network": ["custom model"],
    "how_to/search_cheaply": ["cross-validation", "grid search", "hyperparameter", "n_jobs"],
    "how_to/fine_tune": [
        "learning rate", "freeze layers", "freeze", "batch size", "epochs", "overfitting",
        "augmentation", "early stopping", "imbalanced", "class weights", "regression",
        "fine-tuning",
    ],
    "how_to/texts": ["embeddings of texts", "text embeddings", "BERT", "sentence embeddings"],
    "how_to/words": ["named entity recognition", "NER"],
    "how_to/several_tags": ["multi-label", "multilabel"],
    "how_to/masks": ["segmentation"],
    "how_to/boxes": ["object detection", "YOLO", "bounding box"],
    "how_to/look": ["Grad-CAM", "explain", "saliency", "t-SNE", "similar images"],
    "how_to/save_and_load": ["save", "joblib", "pickle", "reproducible"],
    "how_to/export": ["export", "ONNX", "TorchScript", "mobile"],
    "how_to/serve": ["deploy", "FastAPI", "production", "latency", "docker"],
    "how_to/command_line": ["command line", "CLI"],
    "how_to/go_faster": ["GPU", "speed", "OpenVINO", "mixed precision", "slow"],
    "how_to/many_machines": ["dask", "cluster"],
    "how_to/resume_training": ["checkpoint", "resume"],
    "explanation/cnn_codes": ["embedding", "embeddings", "feature extraction", "deep features"],
    "explanation/comparison": ["fastai", "alternatives"],
    "explanation/resize": ["crop", "resize", "aspect ratio"],
    "explanation/store": ["cache"],
    "reference/errors": ["errors", "warnings"],
}  # fmt: skip
CLASSES = {
    name: "generated/sktransfer." + name
    for name in ("CNNCodes", "FineTuneClassifier", "find_issues", "to_torch", "advise")
}


@pytest.mark.slow
def test_the_search_finds_the_right_page_first(site):
    from site_search import SiteSearch

    search = SiteSearch(site)
    wanted = {query: page for page, queries in QUERIES.items() for query in queries} | CLASSES
    found = {query: (search(query) or [None])[0] for query in wanted}
    assert found == wanted


@pytest.mark.slow
def test_every_page_has_a_filled_sidebar(site):
    for page in site.rglob("*.html"):
        name = page.relative_to(site).as_posix()
        if name.startswith(("_", "search", "genindex", "py-modindex")) or name == "index.html":
            continue
        html = page.read_text()
        sidebar = re.search(r'class="bd-links[^"]*".*?</nav>', html, re.DOTALL)
        assert sidebar and sidebar.group().count("<a ") >= 1, name


@pytest.mark.slow
def test_every_method_of_ours_is_documented_in_full(site):
    n_methods = 0
    for name in sktransfer.__all__:
        thing = getattr(sktransfer, name)
        if name == "__version__":
            continue
        html = (site / "generated" / f"sktransfer.{name}.html").read_text()
        if not inspect.isclass(thing):
            assert f'id="sktransfer.{name}"' in html
            continue
        for method in dir(thing):
            home = next((one for one in thing.__mro__ if method in vars(one)), None)
            ours = home is not None and home.__module__.startswith("sktransfer")
            if method.startswith("_") or not ours or not callable(getattr(thing, method, None)):
                continue
            if re.fullmatch("set_.*_request", method):  # made by scikit-learn, documented there
                continue
            n_methods += 1
            assert f'id="sktransfer.{name}.{method}"' in html, f"{name}.{method}"
    assert n_methods > 100


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CNNCodes", "FineTuneClassifier", "advise", "find_issues"])
def test_the_reference_leads_to_examples_guides_and_the_source(site, name):
    html = (site / "generated" / f"sktransfer.{name}.html").read_text()
    assert "Examples using" in html and "auto_examples/" in html
    assert "Guides that use it" in html
    assert "_modules/sktransfer/" in html


@pytest.mark.slow
@on_a_built_site
def test_examples_have_pictures_of_their_own(site):
    from sphinx_gallery import glr_path_static

    empty = Path(glr_path_static(), "no_image.png").read_bytes()
    names = {example.stem for example in (ROOT / "examples").rglob("plot_*.py")}
    pictures = {
        picture.stem.removeprefix("sphx_glr_").removesuffix("_thumb"): picture.read_bytes()
        for picture in (site / "_images").glob("sphx_glr_plot_*_thumb.png")
    }
    assert set(pictures) == names
    assert len(set(pictures.values())) == len(names) and empty not in pictures.values()


@pytest.mark.slow
@on_a_built_site
def test_no_output_of_an_example_has_numbers_that_are_none(site):
    shown = r'class="(?:sphx-glr-script-out|output_subarea)[^"]*".*?(?:</pre>|</table>)'
    n_outputs = 0
    for page in site.glob("auto_examples/*/plot_*.html"):
        for output in re.findall(shown, page.read_text(), re.DOTALL):
            n_outputs += 1
            assert not re.search(r"\bnan\b", output, re.IGNORECASE), page.name
    assert n_outputs > 20


@pytest.mark.slow
@on_a_built_site
def test_pages_show_what_their_code_prints_and_draws(site):
    for folder in ("tutorial", "how_to"):
        for page in (ROOT / "docs" / folder).glob("*.md"):
            blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.M | re.S)
            if any("print(" in block for block in blocks):
                html = (site / folder / f"{page.stem}.html").read_text()
                assert 'class="output docutils container"' in html, page.name
    assert list((site / "_images").glob("look_*.png"))
