"""Issues in images and texts: planted ones are found, others are not, whatever else is given."""

from __future__ import annotations

import io

import numpy as np
import pandas
import pytest
from PIL import Image, ImageFilter
from scipy.stats import spearmanr
from sklearn.datasets import load_sample_images
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import CNNCodes, TextCodes, find_issues
from sktransfer.exceptions import InputError
from sktransfer.inspection import image_facts
from sktransfer.inspection._copies import Pair, find_copies
from sktransfer.inspection._nearest import nearest, unit_rows
from sktransfer.inspection._odd_images import odd_images
from sktransfer.inspection._outliers import outliers
from sktransfer.inspection._same_image import compare, thumbnail
from sktransfer.inspection._same_text import likeness
from sktransfer.selection._kinds import LABELS, TAGS

CODES = {"image_size": 64}
N = 40


def encoded(picture, quality=95):
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return file.getvalue()


def photographs(n=12, size=(150, 120)):
    """Parts of two photographs, of which none overlap; those with the most to see come first."""
    parts = [whole[top : top + size[1], left : left + size[0]]
             for whole in load_sample_images().images
             for top in range(0, 360, 120) for left in range(0, 600, 150)]  # fmt: skip
    detail = [np.abs(np.diff(part.astype(float), axis=0)).mean() for part in parts]
    return [Image.fromarray(parts[at]) for at in np.argsort(detail)[::-1][:n]]


def small_codes(n, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def X(sample):
    return sample.data[:N]


@pytest.fixture(scope="module")
def rows(X):
    return CNNCodes(**CODES, cache=None).fit_transform(X)


# Two images that are one.


WAYS = {
    "encoded": lambda one: Image.open(io.BytesIO(encoded(one, 60))),
    "resized": lambda one: one.resize((105, 84)),
    "squashed": lambda one: one.resize((96, 96)),
    "cropped": lambda one: one.crop((15, 4, 15 + 128, 4 + 102)),
    "mirrored": lambda one: one.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "darkened": lambda one: Image.fromarray((np.asarray(one) * 0.4).astype(np.uint8)),
    "grey": lambda one: one.convert("L").convert("RGB"),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_image_is_told_from_all_others_however_it_was_changed(way):
    originals = photographs()
    small = [thumbnail(np.asarray(one)) for one in originals]
    for number, original in enumerate(originals[:6]):
        changed = thumbnail(np.asarray(WAYS[way](original)))
        scores = [compare(changed, other).score for other in small]
        assert np.argmax(scores) == number and scores[number] > 0.85, scores
        assert max(np.delete(scores, number)) < 0.5
        match = compare(small[number], changed)
        assert match.score == pytest.approx(scores[number], abs=0.15)
        assert match.mirrored == (way == "mirrored")
        assert match.share == pytest.approx(0.725 if way == "cropped" else 1, abs=0.08)


def test_images_without_texture_are_one_if_they_are_of_one_grey():
    dark, bright = (thumbnail(np.full((40, 60, 3), value, np.uint8)) for value in (20, 200))
    assert compare(dark, dark).score == 1
    assert compare(dark, bright).score == 0
    assert compare(dark, thumbnail(np.asarray(photographs(1)[0]))).score == 0


def test_the_same_composition_with_another_part_is_another_image():
    one = np.asarray(photographs(1)[0]).copy()
    other = one.copy()
    other[40:80, 50:100] = np.asarray(photographs(2)[1])[40:80, 50:100]
    assert compare(thumbnail(one), thumbnail(other)).score < 0.7


def test_digits_of_a_few_pixels_are_not_copies_of_each_other():
    from sklearn.datasets import load_digits

    small = [thumbnail(np.repeat((one * 15.9).astype(np.uint8)[..., None], 3, axis=2))
             for one in load_digits(n_class=2).images[:6]]  # fmt: skip
    assert all(compare(a, b).score == 0 for n, a in enumerate(small) for b in small[:n])
    assert compare(small[0], small[0]).score > 0.99


# Parts.


@pytest.mark.parametrize("n", [1, 2, 7, 50])
def test_nearest_rows_are_those_of_a_plain_loop(monkeypatch, n):
    monkeypatch.setattr("sktransfer.inspection._nearest._BLOCK", 3 * n)
    rows = unit_rows(small_codes(n))
    numbers, similarities = nearest(rows, 5)
    assert numbers.shape == (n, min(5, n - 1))
    for index, row in enumerate(rows):
        others = np.delete(np.arange(n), index)
        order = others[np.argsort(-(rows[others] @ row), kind="stable")][:5]
        np.testing.assert_array_equal(numbers[index], order)
        np.testing.assert_allclose(similarities[index], rows[order] @ row, rtol=1e-5, atol=1e-6)


def test_outliers_are_far_from_all_and_copies_hide_none():
    codes = np.random.default_rng(0).normal(size=(60, 16)) * 0.3 + 1
    codes[:4] *= -1  # on the other side, and one of them twice
    codes[3] = codes[2]
    owners = np.arange(60)
    owners[3] = 2
    found, scores = outliers(*nearest(unit_rows(codes), 20), owners)
    assert sorted(found) == [0, 1, 2, 3]
    assert ((scores > 0.5) & (scores < 1)).all() and (np.diff(scores) <= 0).all()
    assert not len(outliers(*nearest(unit_rows(codes[4:]), 20), owners[4:])[0])


def test_a_dozen_that_are_alike_do_not_hide_one_another():
    """Of their twenty nearest nine are far off."""
    codes = np.random.default_rng(0).normal(size=(200, 32)) * 0.3 + 1
    codes[:12] -= 2  # twelve on the other side
    found, _ = outliers(*nearest(unit_rows(codes), 30), np.arange(200))
    assert set(range(12)) <= set(found) and len(found) <= 12 + 5


def test_copies_are_linked_through_others():
    class Numbers:
        def pair(self, one, other):
            return Pair(one, other, 0.9, "") if abs(one - other) == 1 else None

    rows = unit_rows(small_codes(5))
    digests = np.array([0, 1, 2, 3, 4, 4])
    readable = np.array([True] * 6)
    copies = find_copies(Numbers(), digests, readable, np.arange(5), nearest(rows, 4))
    assert [group.tolist() for group in copies.groups()] == [[0, 1, 2, 3, 4, 5]]
    assert [(pair.one, pair.other) for pair in copies.exact] == [(4, 5)]


def test_texts_are_compared_by_runs_of_letters():
    assert likeness("A  good film!", "a good film") == 1
    assert likeness("!!", "??") == 0
    # "abcdef" has 2 runs of five, "abcdeg" too, and one is in both.
    assert likeness("abcdef", "abcdeg") == pytest.approx(1 / 3)


def test_doubts_are_the_suspects_with_what_they_seem_to_be():
    answers = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.95, 0.05]])
    (doubt,) = LABELS.doubts(answers, np.array(["a", "a", "b", "b"]))
    assert (doubt.index, doubt.given, doubt.seems) == (3, "b", "a")
    assert doubt.score == pytest.approx(1 - 0.05 / 0.95)
    wrong, _ = LABELS.suspects(answers, np.array(["a", "a", "b", "b"]))
    assert wrong.tolist() == [3]


def test_doubts_of_tags_are_those_of_two_classes_each():
    target = np.array([[1, 0.0], [1, np.nan], [0, 0], [0, 0]])
    answers = np.array([[0.9, 0.5], [0.02, 0.5], [0.1, 0.5], [0.1, 0.5]])
    (doubt,) = TAGS.doubts(answers, target)  # the second tag has one answer only
    assert (doubt.index, doubt.given, doubt.seems) == (1, "tag 0", "no tag 0")


def test_images_that_stand_out_are_told_by_what():
    usual = [np.asarray(one) for one in photographs(14)]
    photo = usual[0]
    blurred = photographs(1)[0].filter(ImageFilter.GaussianBlur(3))
    odd = {
        "dark": photo // 5,
        "bright": 220 + photo // 8,
        "blank": np.full_like(photo, 128),
        "blurred": np.asarray(blurred),
        "odd size": np.tile(photo, (4, 4, 1)),
        "odd aspect ratio": np.tile(photo, (1, 4, 1)),
        "greyscale": np.repeat(photo[..., 1:2], 3, axis=2),
    }
    found = {}
    for one in odd_images(image_facts([*usual, *odd.values()])):
        assert 0 < one.score <= 1 and one.action.startswith("Look at it: ")
        found.setdefault(one.issue, []).append(one.index)
    # What is blank has no colour either.
    assert found.pop("greyscale") == [16, 20]
    assert found == {name: [14 + at] for at, name in enumerate(odd) if name != "greyscale"}
    grey = [odd["greyscale"]] * 10 + usual
    assert not any(one.issue == "greyscale" for one in odd_images(image_facts(grey)))
    only = image_facts([odd["blank"], b"no image"])
    assert {(one.index, one.issue) for one in odd_images(only)} == {(0, "blank")}


# All of it.


def test_planted_copies_are_found_and_nothing_else(X):
    originals = photographs(12)
    planted = [encoded(WAYS[way](originals[n])) for n, way in enumerate(WAYS)]
    found = find_issues([*map(encoded, originals), *planted], facts=False, **CODES)
    kept = dict(zip(range(12, 12 + len(WAYS)), range(len(WAYS)), strict=True))
    near = {one.index: one.related for one in found.found if one.issue == "near duplicate"}
    assert near == kept
    assert found.drop.tolist() == list(kept)
    told = {one.index: one.action for one in found.found}
    for number, way in enumerate(WAYS):
        if way in ("cropped", "mirrored"):
            assert way in told[12 + number]


def test_a_mirrored_image_is_found_among_small_ones_and_outliers_are_few(X, rows):
    more = np.concatenate([X, X[:2], X[2:3, :, ::-1]])
    found = find_issues(more, **CODES)
    assert found.indices("duplicate").tolist() == [40, 41]
    assert found.indices("near duplicate").tolist() == [42]
    assert found.drop.tolist() == [40, 41, 42]
    assert len(found.indices("outlier")) <= 3
    assert np.delete(more, found.drop, axis=0).shape == X.shape


def test_unreadable_items_are_told_with_their_cause_and_path(tmp_path):
    paths = []
    for number, one in enumerate(photographs(4)):
        paths.append(tmp_path / f"{number}.jpg")
        one.save(paths[-1])
    paths[1].write_bytes(b"no image")
    paths[3] = tmp_path / "gone.jpg"
    found = find_issues(paths, facts=False, **CODES)
    frame = found.to_frame()
    assert frame["index"].tolist() == [1, 3] == found.drop.tolist()
    assert frame["path"].tolist() == [str(paths[1]), str(paths[3])]
    assert frame["action"].str.startswith("Fix or remove it: ").all()
    assert frame["related"].isna().all() and (frame["issue"] == "unreadable").all()


def test_images_none_of_which_can_be_read_and_texts(tmp_path):
    gone = [str(tmp_path / f"my cat {number}.jpg") for number in range(3)]
    found = find_issues(gone, [0, 1, 0], **CODES)
    assert found.counts == {"unreadable": 3} and found.drop.tolist() == [0, 1, 2]
    assert "None of 3 images can be read." in found.notes
    for texts in (["a warm film", "dull", "what a mess."], np.array(["so dull", "a film"])):
        with pytest.raises(InputError, match=r"backbone=TextCodes\(\)"):
            find_issues(texts, **CODES)
        with pytest.raises(InputError, match=r"must be images.*got texts"):
            image_facts(texts)


def test_labels_are_ranked_by_the_probability_that_was_held_out(X, rows):
    y = np.array([0, 1] * (N // 2), float)
    y[4] = np.nan
    found = find_issues(X, y, codes=rows)
    quality = found.label_quality
    assert np.flatnonzero(np.isnan(quality)).tolist() == [4]
    ranked = found.ranked_labels()
    assert sorted(ranked) == [n for n in range(N) if n != 4]
    assert (np.diff(quality[ranked]) >= 0).all()
    # A probe of its own, on folds of the same kind.
    known = ranked[ranked >= 0]
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    own = cross_val_predict(probe, rows[known], y[known], cv=5, method="predict_proba")
    given = own[np.arange(len(known)), y[known].astype(int)]
    assert spearmanr(given, quality[known]).statistic > 0.6
    with pytest.raises(ValueError, match="No label was checked"):
        find_issues(X, codes=rows).ranked_labels()
    few = find_issues(X, [*([0] * 36), *([1] * 4)], codes=rows)
    assert any("smallest class has 4 different images" in one for one in few.notes)
    with pytest.raises(ValueError, match="Did you mean 'duplicate'"):
        found.indices("dupplicate")


def test_wrong_labels_are_found_and_copies_do_not_vouch_for_them(labelled):
    X, y = labelled
    wrong = [3, 30, 60]
    flipped = y.copy()
    flipped[wrong] = 1 - flipped[wrong]
    # With copies in the training folds the probe would know the wrong labels by heart.
    more = np.concatenate([X, X[wrong], X[wrong]])
    labels = np.concatenate([flipped, flipped[wrong], flipped[wrong]])
    found = find_issues(more, labels, image_size=96)
    suspected = found.indices("label")
    assert len(set(wrong) & set(suspected)) >= 2 and len(suspected) < 15
    one = next(one for one in found.found if one.issue == "label")
    given = labels[one.index]
    assert one.action == f"Check the label: {given} seems to be {1 - given}."


def test_near_duplicates_with_different_labels_are_for_a_person_to_see(X, rows):
    more = np.concatenate([X, X[2:3, :, ::-1]])
    y = np.array(["cat"] * 20 + ["dog"] * 20 + ["cat"])
    assert find_issues(more, y, **CODES).drop.tolist() == [40]
    y[40] = "dog"
    found = find_issues(more, y, **CODES)
    assert not len(found.drop)
    (near,) = [one for one in found.found if one.issue == "near duplicate"]
    assert near.action.startswith("Look at both: ")
    (conflict,) = [one for one in found.found if one.issue == "conflict"]
    assert "which is nearly the same" in conflict.action and conflict.score == near.score


def test_copies_with_different_labels_are_conflicts_and_the_common_label_is_kept(X, rows):
    more = np.concatenate([X, X[:1], X[:1]])
    y = [*(["cat", "dog"] * (N // 2)), "dog", "dog"]
    found = find_issues(more, y, **CODES)
    (conflict,) = [one for one in found.found if one.issue == "conflict"]
    assert (conflict.index, conflict.related) == (0, 40)
    assert found.drop.tolist() == [0, 41]
    assert "cat here, but dog" in conflict.action


def test_leaks_across_sides_groups_and_folds(X):
    more = np.concatenate([X, X[:1], X[1:2, :, ::-1]])
    split = ["train"] * N + ["test", "train"]
    codes = CNNCodes(**CODES).fit_transform(more)

    def leaks(**given):
        found = find_issues(more, codes=codes, **given)
        return sorted((one.index, one.related) for one in found.found if one.issue == "leak")

    assert leaks() == []
    assert leaks(split=split) == [(40, 0)]
    groups = np.r_[np.arange(N), 0, N]  # 40 is of the group of 0, 41 is of its own
    assert [set(pair) for pair in leaks(groups=groups)] == [{1, 41}]
    tested = {index for pair in leaks(cv=GroupKFold(3), groups=groups) for index in pair}
    assert 0 not in tested and 40 not in tested
    order = np.r_[0, 40, np.arange(2, N), 1, 41]
    folds = [(order[2:], order[:2]), (order[:-2], order[-2:])]
    assert leaks(cv=folds) == []
    assert {index for pair in leaks(cv=KFold(6)) for index in pair} == {0, 1, 40, 41}


def test_missing_labels_are_left_out(X, rows):
    y = np.array([0.0, 1.0] * (N // 2))
    y[[0, 7]] = np.nan
    assert not {0, 7} & set(find_issues(X, y, codes=rows).indices("label"))
    names = [None if np.isnan(one) else f"class {one:.0f}" for one in y]
    plain = find_issues(X, y, codes=rows).indices("label").tolist()
    assert find_issues(X, names, codes=rows).indices("label").tolist() == plain
    assert not find_issues(X, [None] * N, codes=rows).counts.get("label")


@pytest.mark.parametrize(
    ("y", "note"),
    [
        (np.zeros(N, int), "at least 2 classes"),
        (np.arange(N), "at least 2"),
        (np.r_[np.zeros(20, int), np.ones(19, int), 2], "1 label(s) were not checked"),
        (np.linspace(0, 1, N), "Values were not checked"),
    ],
)
def test_labels_of_which_nothing_can_be_said_are_told_so(X, rows, y, note):
    assert any(note in one for one in find_issues(X, y, codes=rows).notes)


def test_tags_that_look_wrong_are_told_by_tag(labelled):
    X, y = labelled
    tags = np.stack([y, np.arange(len(y)) % 2], axis=1).astype(float)
    tags[5, 0] = 1 - tags[5, 0]
    tags[6, 0] = np.nan
    found = find_issues(X, tags, image_size=96)
    assert 5 in found.ranked_labels()[:8]
    assert 5 in found.indices("label") and 6 not in [
        one.index for one in found.found if "tag 0" in one.action
    ]
    table = pandas.DataFrame(tags, columns=["animal", "odd"])
    named = find_issues(X, table, image_size=96)
    actions = [one.action for one in found.found]
    assert [one.action for one in named.found] == [
        action.replace("tag 0", "tag animal").replace("tag 1", "tag odd") for action in actions
    ]


def test_a_few_items_and_copies_of_one(X, rows):
    assert find_issues(X[:1], **CODES).found == ()
    two = find_issues(X[:2], [0, 1], **CODES)
    assert two.found == () and len(two.notes) == 2
    same = find_issues(np.repeat(X[:1], 30, axis=0), [0, 1] * 15, **CODES)
    assert same.counts == {"duplicate": 29, "conflict": 15}
    assert len(same.drop) == 29
    with pytest.raises(InputError):
        find_issues(X[:0])


def test_wrong_lengths_and_parameters_are_refused(X, rows):
    with pytest.raises(InputError, match="y must have one entry for each of 40 images, got 39"):
        find_issues(X, [0] * 39)
    with pytest.raises(InputError, match="codes= must have one row"):
        find_issues(X, codes=rows[:5])
    with pytest.raises(InputError, match="first of item 2"):
        find_issues(X, codes=rows, split=["a", "b", None, *"a" * 37])
    with pytest.raises(ValueError, match="set image_size on it"):
        find_issues(X, backbone=CNNCodes(), image_size=32)
    with pytest.raises(TypeError, match="Did you mean 'pooling'"):
        find_issues(X, poling="avg")


def test_a_transformer_is_left_as_it_is(X):
    fitted = CNNCodes(**CODES).fit(X)
    before = vars(fitted).copy()
    one = find_issues(X, backbone=fitted)
    other = find_issues(X, backbone=CNNCodes(**CODES))
    assert one.found == other.found
    assert vars(fitted) == before


def test_the_page_and_the_figure_show_a_bounded_number_of_examples(X, rows, tmp_path):
    many = np.concatenate([X, X])
    found = find_issues(many, codes=np.concatenate([rows, rows]))
    page = found._repr_html_()
    assert 6 <= page.count("data:image/jpeg;base64,") <= 18
    assert "duplicate" in repr(found) and "drop: 40 images" in repr(found)
    found.to_html(tmp_path / "issues.html")
    assert page in (tmp_path / "issues.html").read_text(encoding="utf-8")
    figure = found.plot(n_examples=3)
    assert len([ax for ax in figure.axes if ax.images]) >= 3
    with pytest.raises(ValueError, match="can be shown"):
        find_issues(X[:1], **CODES).plot()


def test_texts_have_issues_too():
    texts = [
        "a warm film that moved the whole house to tears of joy",
        "dull and far too long for what it has to say",
        "the plot is a mess",
        "DULL, and far too long for what it has to say!",
        "the plot is a mess",
        None,
    ]
    found = find_issues(texts, [1, 0, 0, 1, 0, 1], backbone=TextCodes(), split=[0, 0, 0, 1, 0, 0])
    assert found.indices("unreadable").tolist() == [5]
    assert found.indices("duplicate").tolist() == [4]
    assert found.indices("near duplicate").tolist() == [3]  # the first is kept
    assert found.counts["conflict"] == found.counts["leak"] == 1
    assert "the plot is a mess" in found._repr_html_()
    assert found.to_frame().columns.tolist()[1] == "text"
    with pytest.raises(ValueError, match="plot shows images"):
        found.plot()
