"""
Texts in, a classifier out
==========================

The main job for texts: some hundred labelled sentences, a pretrained language model, and a linear
classifier from scikit-learn. The sentences are a sample of film reviews that ships with sktransfer,
and the network comes with the extra ``text``, so this runs offline.
"""

# %%
# Eight hundred sentences to learn from, four hundred to be judged by
# -------------------------------------------------------------------
import matplotlib.pyplot as plt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from sktransfer import TextCodes, count_computed
from sktransfer.datasets import load_film_sentences_sample

film = load_film_sentences_sample()
labels = film.target_names[film.target]
learn, test, y_learn, y_test = train_test_split(
    film.data, labels, train_size=800, test_size=400, stratify=labels, random_state=0
)
print(learn[0], "->", y_learn[0])

# %%
# A pipeline like any other
# -------------------------
# ``TextCodes`` turns a text into 384 numbers, the mean of what the network makes of its tokens.
# Middle blocks tell more of tone than the last one, which was trained to tell topics: the search
# tries all seven layers. Each text goes through the network once, whatever the layers, values of C
# and folds.

pipe = Pipeline(
    [
        ("text", TextCodes(cache_layers="all")),
        ("scale", StandardScaler()),
        ("svm", LinearSVC()),
    ]
)
layers = ["embeddings", *(f"block.{i}" for i in range(1, 7))]
search = GridSearchCV(pipe, {"text__layer": layers, "svm__C": [1e-4, 1e-3, 1e-2]}, cv=3)
with count_computed() as counter:
    search.fit(learn, y_learn)
print(f"{counter.n_items} texts went through the network for {len(learn)} texts to learn from")
print("best:", search.best_params_)
accuracy = search.score(test, y_test)
print(f"test accuracy {accuracy:.3f}")

# %%
# The honest comparison: a bag of words
# -------------------------------------

words = Pipeline(
    [
        ("tfidf", TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)),
        ("svm", LinearSVC(C=0.3)),
    ]
)
words_accuracy = words.fit(learn, y_learn).score(test, y_test)
print(f"test accuracy of TF-IDF and the same classifier {words_accuracy:.3f}")

# %%
# Which layer
# -----------

results = search.cv_results_
best_of = {
    layer: max(
        score
        for score, one in zip(results["mean_test_score"], results["param_text__layer"])
        if one == layer
    )
    for layer in layers
}
figure, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
ax.plot(layers, list(best_of.values()), marker="o", label="codes of this layer")
ax.set_ylabel("accuracy in cross-validation")
ax.legend()
figure.savefig("texts.png", dpi=120)
print("accuracy by layer is in texts.png")
