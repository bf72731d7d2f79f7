"""
A folder of images
=======================

Images usually lie in one folder per class. ``load_image_folder`` lists them, ``CNNCodes``
reads the files, a cross-validated search chooses the classifier's hyper-parameter, and joblib
saves the result.
"""

# %%
# A folder to work with
# ---------------------
# For the sake of the example, some images of the sample are written as files. One of them
# is damaged on purpose.
import tempfile
from pathlib import Path

import joblib
import matplotlib.pyplot as plt
from PIL import Image
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from sktransfer import CNNCodes, load_image_folder
from sktransfer.datasets import load_cifar10_sample
from sktransfer.inspection import ImageGridDisplay

sample = load_cifar10_sample()
scratch = tempfile.TemporaryDirectory()
root = Path(scratch.name) / "photos"
for number in range(300):
    name = sample.target_names[sample.target[number]]
    (root / name).mkdir(parents=True, exist_ok=True)
    Image.fromarray(sample.data[number]).save(root / name / f"{number:04d}.png")
(root / "cat" / "damaged.jpg").write_text("this is no image")

# %%
# Listing the folder
# ------------------
# Nothing is opened yet, unless ``verify=True`` asks for it; then bad files are skipped, with
# the reason.
import warnings

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    photos = load_image_folder(root, verify=True)
print(len(photos.data), "images of", ", ".join(photos.target_names))
print("skipped:", [(Path(path).name, reason) for path, reason in photos.skipped])
ImageGridDisplay.from_images(photos, n_images=20)

# %%
# A search with cross-validation
# ------------------------------
# Three values of C and five folds are 16 fits, but each image goes through the network once:
# ``CNNCodes`` keeps what it has computed.

pipe = Pipeline(
    [
        ("cnn", CNNCodes(image_size=96)),
        ("scale", StandardScaler()),
        ("svm", LinearSVC()),
    ]
)
search = GridSearchCV(pipe, {"svm__C": [1e-4, 1e-3, 1e-2]}, cv=5)
search.fit(photos.data, photos.target)
print("best:", search.best_params_, f"accuracy {search.best_score_:.3f}")

# %%
# Saving and loading
# ------------------
# The file refers to the network's weights by name and hash instead of holding a copy.

path = Path(scratch.name) / "model.joblib"
joblib.dump(search.best_estimator_, path)
print(f"model.joblib has {path.stat().st_size / 1e3:.0f} kB")
model = joblib.load(path)
print("predicted:", photos.target_names[model.predict(photos.data[:1])[0]])

# %%
# How accuracy depends on C
# -------------------------

figure, axes = plt.subplots()
axes.errorbar(
    [1e-4, 1e-3, 1e-2],
    search.cv_results_["mean_test_score"],
    search.cv_results_["std_test_score"],
    marker="o",
)
axes.set(xscale="log", xlabel="C", ylabel="accuracy, mean and std of 5 folds")
scratch.cleanup()
