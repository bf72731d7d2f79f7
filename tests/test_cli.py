"""The command line: commands by their arguments, what they write, and how they fail."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
from PIL import Image
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, f1_score, r2_score
from sklearn.pipeline import make_pipeline

from sktransfer import AutoTransferClassifier, CNNCodes, FineTuneClassifier, cli
from sktransfer.cli import main
from sktransfer.codes import _base

SMALL = ["--image-size", "32"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory, labelled):
    """Twelve images of two classes to train on, eight to test with."""
    root = tmp_path_factory.mktemp("set")
    for number, (pixels, label) in enumerate(zip(*labelled, strict=True)):
        if number >= 40:
            break
        part = "train" if number < 28 else "test"
        path = root / part / ("animal" if label else "vehicle") / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


@pytest.fixture(scope="module")
def model(photos, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "model.joblib"
    assert main(["train", str(photos), "-o", str(path), *SMALL]) == 0
    return path


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_what_train_wrote_is_a_plain_estimator_that_predicts_names(photos, model):
    pipe = joblib.load(model)
    assert [name for name, _ in pipe.steps] == ["codes", "scale", "classify"]
    assert pipe.classes_.tolist() == ["animal", "vehicle"]
    files = sorted(map(str, (photos / "train").rglob("*.png")))
    names = [file.split("/")[-2] for file in files]
    assert np.mean(pipe.predict(files) == names) > 0.9


def test_train_tells_its_accuracy_and_takes_a_table(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = sorted((photos / "train").rglob("*.png"))
    lines = ["name,kind,set", *(f"{p.relative_to(photos)},{p.parent.name},train" for p in paths),
             "gone.png,animal,train"]  # fmt: skip
    (tmp_path / "t.csv").write_text("\n".join(lines))
    asked = ["train", "t.csv", "-o", "m.joblib", "--file-column", "name", "--root", str(photos),
             "--split-column", "set", *SMALL]  # fmt: skip
    assert main([*asked, "--label-column", "kind"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("accuracy ") and "(5 folds)" in out
    assert "warning: 1 rows of" in err and "gone.png" in err and "wrote " in err
    assert joblib.load("m.joblib").classes_.tolist() == ["animal", "vehicle"]
    with pytest.raises(SystemExit):
        main([*asked, "--label-column", "kid"])
    assert "Did you mean 'kind'" in capsys.readouterr().err


@pytest.mark.parametrize("strategy", ["fine-tune", "auto"])
def test_other_strategies(photos, tmp_path, strategy, capsys):
    path = tmp_path / "m.joblib"
    more = {"fine-tune": ["--epochs", "1"], "auto": ["--time", "0"]}[strategy]
    assert main(["train", str(photos), "-o", str(path), "--strategy", strategy, *more, *SMALL]) == 0
    model = joblib.load(path)
    assert not isinstance(model, AutoTransferClassifier)
    assert isinstance(model, FineTuneClassifier) == (strategy == "fine-tune")
    one = str(next((photos / "test").rglob("*.png")))
    assert set(model.predict([one])) <= {"animal", "vehicle"}
    out = capsys.readouterr().out
    assert ("score not measured" in out) == (strategy == "fine-tune")


def test_predict_with_a_bad_image_and_a_threshold(photos, model, tmp_path, capsys):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    files = sorted(map(str, (photos / "test").rglob("*.png")))
    table = tmp_path / "table.csv"
    asked = ["predict", str(model), files[0], str(bad), *files[1:]]
    assert main([*asked, "-o", str(table), "--threshold", "0.7", "--probabilities"]) == 1
    assert f"error: {bad}: " in capsys.readouterr().err
    rows = rows_of(table)
    assert [row["file"] for row in rows] == [files[0], str(bad), *files[1:]]
    assert rows[1]["error"] and "on_error" not in rows[1]["error"]
    assert not rows[1]["label"] and not rows[1]["probability"]
    pipe = joblib.load(model)
    said, proba = pipe.predict(files), pipe.predict_proba(files)
    for row, label, numbers in zip([rows[0], *rows[2:]], said, proba, strict=True):
        assert row["label"] == (label if numbers.max() >= 0.7 else "")
        assert float(row["p_vehicle"]) == pytest.approx(numbers[1], abs=1e-5)
    assert main(["predict", str(model), str(photos / "test"), "-o", str(tmp_path / "a.jsonl")]) == 0
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert len(lines) == len(files) and lines[0]["label"] in ("animal", "vehicle")
    assert lines[0]["error"] is None
    assert main(["predict", str(model), files[0]]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "file,label,probability,error"


def test_evaluate_is_what_scikit_learn_says(photos, model, tmp_path, capsys):
    table, figure = tmp_path / "scores.csv", tmp_path / "confusion.png"
    assert main(["evaluate", str(model), str(photos), "-o", str(table), "-o", str(figure)]) == 0
    files = sorted(map(str, (photos / "test").rglob("*.png")))
    true = np.array([file.split("/")[-2] for file in files])
    accuracy = joblib.load(model).score(files, true)
    out = capsys.readouterr().out
    assert out.startswith(f"accuracy {accuracy:.3f} of 12 images") and "precision" in out
    rows = {row["class"]: row for row in rows_of(table)}
    assert float(rows["accuracy"]["f1"]) == pytest.approx(accuracy)
    assert rows["animal"]["images"] == str(int((true == "animal").sum()))
    assert Image.open(figure).size[0] > 100
    assert main(["evaluate", str(model), str(photos), "--part", "train"]) == 0


def test_codes_say_which_file_a_row_is_of_and_are_not_computed_again(photos, tmp_path, passes):
    target = tmp_path / "codes.npy"
    asked = ["codes", str(photos / "test"), "-o", str(target), *SMALL]
    assert main(asked) == 0 and main([*asked, "--cache", str(tmp_path / "store")]) == 0
    rows = rows_of(tmp_path / "codes.csv")
    assert [row["row"] for row in rows] == [str(n) for n in range(12)] and passes["images"] == 12
    expected = CNNCodes(image_size=32).fit_transform([row["file"] for row in rows])
    np.testing.assert_allclose(np.load(target), expected, rtol=1e-5, atol=1e-5)


def test_issues_between_parts_and_bad_images(photos, tmp_path, capsys):
    from shutil import copy, copytree

    root = copytree(photos, tmp_path / "set")
    first = min((root / "train" / "animal").iterdir())
    copy(first, root / "test" / "animal" / "copy.png")
    (root / "train" / "vehicle" / "bad.png").write_bytes(b"no image")
    table, page = tmp_path / "i.csv", tmp_path / "i.html"
    assert main(["issues", str(root), "-o", str(table), "-o", str(page), *SMALL]) == 0
    rows = rows_of(table)
    kinds = {(row["issue"], row["file"].split("/")[-1]) for row in rows}
    assert ("unreadable", "bad.png") in kinds
    assert {name for kind, name in kinds if kind == "leak"} & {"copy.png", first.name}
    told, out = page.read_text(), capsys.readouterr().out
    assert "animal/copy.png" in told and "vehicle/bad.png" in told and "<img" in told
    assert "beside <span title=" in told
    assert "issue(s) in 42 images" in out and "bad.png" in out.split("drop: ")[1]
    (copied,) = [row for row in rows if row["issue"] == "duplicate"]
    assert copied["action"].endswith(f"and image {copied['related']} is kept.")
    drop = {row["file"].split("/")[-1] for row in rows if row["drop"] == "True"}
    assert "bad.png" in drop and len(drop & {"copy.png", first.name}) == 1
    flat = tmp_path / "i.jsonl"
    asked = ["issues", str(root / "test" / "animal"), "--no-labels", "-o", str(flat), *SMALL]
    assert main(asked) == 0 and flat.exists()


def test_what_export_wrote_gives_the_same_probabilities(photos, model, tmp_path):
    import torch

    path = tmp_path / "model.pt"
    assert main(["export", str(model), "-o", str(path)]) == 0
    pixels = np.array(Image.open(next((photos / "test").rglob("*.png"))))[None]
    found = torch.jit.load(str(path)).predict_proba(torch.from_numpy(pixels))
    np.testing.assert_allclose(found, joblib.load(model).predict_proba(pixels), atol=1e-4)


@pytest.mark.slow
def test_advise_as_text_json_and_figure(photos, tmp_path, capsys):
    for name in ("a.txt", "a.json", "a.png"):
        assert main(["advise", str(photos), "-o", str(tmp_path / name), *SMALL]) == 0
    out = capsys.readouterr().out
    assert (tmp_path / "a.txt").read_text() in out
    assert json.loads((tmp_path / "a.json").read_text())["network"] == "efficientnet_lite0"
    assert Image.open(tmp_path / "a.png").size[0] > 300


def test_messages_are_in_the_words_of_the_command_line():
    files = [f"{n}.jpg" for n in range(9)]
    told = "3 label(s) look wrong to a probe: images [2, 0, 1]. Look at them: plot_suspects(X, y)."
    assert cli._in_our_words(cli._naming_files(told, files)) == (
        "3 label(s) look wrong to a probe: images 2.jpg, 0.jpg, 1.jpg. Look at them."
    )
    assert cli._naming_files("images [22, 22], image 7", files) == "images [22, 22], image 7.jpg"
    skipped = "the first: line 3 no file. The attribute `skipped` of the Bunch lists them all."
    assert cli._in_our_words(skipped) == "the first: line 3 no file."


def test_networks(tmp_path, capsys):
    assert main(["networks", "--source", "packaged"]) == 0
    assert "efficientnet_lite0\n" in capsys.readouterr().out
    assert main(["networks", "resnet18", "-o", str(tmp_path / "n.txt")]) == 0
    assert (tmp_path / "n.txt").read_text() == "resnet18\ntimm:resnet18\n"
    assert main(["networks", "nothing"]) == 1


@pytest.mark.parametrize(("arguments", "told"), [
    ([], "required: COMMAND"),
    (["paint"], "invalid choice: 'paint'"),
    (["train", "x"], "-o/--output"),
    (["train", "x", "-o", "model.pkl"], "must end in .joblib"),
    (["train", "x", "-o", "nowhere/model.joblib"], "in a folder that does not exist"),
    (["train", "x", "-o", "m.joblib", "--time", "5"], "--time is for --strategy auto"),
    (["train", "x", "-o", "m.joblib", "--image-size", "0"], "above 0"),
    (["predict", "m", "f", "--threshold", "2"], "between 0 and 1"),
    (["train", "x", "-o", "m.joblib", "--imagesize", "64"], "Did you mean '--image-size'"),
    (["train", "nowhere.csv", "-o", "m.joblib"], "there is nothing at nowhere.csv"),
    (["predict", "none.joblib", "a.png"], "there is none at none.joblib"),
    (["train", "SET", "-o", "m.joblib", "--part", "valid"], "no folder of the part valid"),
    (["issues", "SET", "--part", "valid"], "no folder of the part valid"),
    (["train", "SET", "-o", "m.joblib", "--network", "resnett18"], "resnet18"),
    (["codes", "SET", "-o", "c.npy", "--layer", "blocks.55"], "blocks.5"),
    (["train", "t.csv", "-o", "m.joblib"], "--file-column must name the column of paths"),
    (["train", "t.csv", "-o", "m.joblib", "--file-column", "wher"], "Did you mean 'where'?"),
    (["issues", "t.csv", "--file-column", "where", "--part", "test"], "needs --split-column"),
])  # fmt: skip
def test_wrong_arguments_are_code_2(arguments, told, capsys, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("where,label\na.png,cat\n")
    arguments = [str(photos) if one == "SET" else one for one in arguments]
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_what_is_wrong_with_data_or_a_model_is_code_1_in_one_line(photos, model, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.joblib").write_text("nothing")
    (tmp_path / "one" / "cat").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(tmp_path / "one" / "cat" / "a.png")
    np.save(tmp_path / "codes.npy", np.zeros((3, 2)))
    joblib.dump({"a": 1}, tmp_path / "dict.joblib")
    (tmp_path / "model.onnx").write_text("graph")
    (tmp_path / "gone.csv").write_text("file,label\na.png,cat\nb.png,dog\n")
    texts = make_pipeline(CountVectorizer(), LogisticRegression()).fit(["good", "bad"], [1, 0])
    joblib.dump(texts, tmp_path / "text.joblib")
    new = str(tmp_path / "new.joblib")
    for arguments, told in (
        (["train", str(tmp_path / "empty"), "-o", new], "no images were found"),
        (["train", str(tmp_path / "one"), "-o", new], "at least two classes, got only cat"),
        (["codes", str(photos), "-o", str(tmp_path / "codes.npy"), *SMALL], "--overwrite"),
        (["predict", str(tmp_path / "no.joblib"), "a.png"], "cannot be loaded as a model"),
        (["predict", str(tmp_path / "model.onnx"), "a.png"], "is what sktransfer export writes"),
        (["predict", str(tmp_path / "text.joblib"), "a.png"], "Pipeline takes texts"),
        (["predict", str(model), str(tmp_path / "empty")], f"The folder {tmp_path / 'empty'} must"),
        (["train", str(tmp_path / "gone.csv"), "-o", new], "pass --root, the folder"),
        (["predict", str(tmp_path / "dict.joblib"), "a.png"], "or a regressor, got a dict"),
    ):
        assert main(arguments) == 1, arguments
        lines = capsys.readouterr().err.splitlines()
        assert lines[-1].startswith(f"sktransfer {arguments[0]}: error: ") and told in lines[-1]
    assert not (tmp_path / "new.joblib").exists()
    with pytest.raises(ValueError, match="must hold a classifier"):
        main(["predict", str(tmp_path / "dict.joblib"), "a.png", "--debug"])


def test_logs_have_a_line_a_minute(monkeypatch, capsys):
    clock = [0.0]
    monkeypatch.setattr(_base.time, "monotonic", lambda: clock[0])
    from sktransfer import config_context

    with config_context(progress="lines"), _base.progress_over(300, "Codes", "image", 0) as bar:
        for _ in range(300):
            clock[0] += 1
            bar.update()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5 and lines[0] == "Codes: 60 of 300 images, about 4 min left"


def test_help_has_examples_and_imports_nothing_heavy(photos, model):
    script = (
        "import sys\nfrom sktransfer.cli import main\n"
        "for words in (['--help'], *([one, '--help'] for one in 'issues advise train predict "
        "evaluate codes export networks'.split())):\n"
        "    try: main(words)\n"
        "    except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'sklearn', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    run = [sys.executable, "-c", script]
    found = subprocess.run(run, capture_output=True, text=True, check=True)
    assert found.stdout.count("examples:\n") == 8
    one = str(next((photos / "test").rglob("*.png")))
    run = [sys.executable, "-m", "sktransfer", "predict", str(model), one, "missing.png"]
    found = subprocess.run(run, capture_output=True, text=True, check=False)
    assert found.returncode == 1 and one in found.stdout
    assert "Traceback" not in found.stderr and "error: missing.png" in found.stderr


def test_warnings_of_the_process_are_as_before(capsys):
    before = warnings.showwarning
    main(["networks", "--source", "packaged"])
    assert warnings.showwarning is before


# Several tags an image, and values.


@pytest.fixture(scope="module")
def tagged(photos, labelled, tmp_path_factory):
    """A table of the same images with two tags, of which one cell is empty, and a value."""
    path = tmp_path_factory.mktemp("tables") / "tags.csv"
    lines = ["file,part,animal,bright,words,mean"]
    for file in sorted(photos.rglob("*.png")):
        mean = np.asarray(Image.open(file)).mean()
        animal, bright = int(file.parent.name == "animal"), int(mean > 115)
        words = "|".join(name for name, is_so in (("animal", animal), ("bright", bright)) if is_so)
        part = file.relative_to(photos).parts[0]
        cell = "" if file.name.startswith("00") else animal
        lines.append(f"{file},{part},{cell},{bright},{words},{mean:.3f}")
    path.write_text("\n".join(lines))
    return path


def as_numbers(cells):
    return np.array([float(cell) if cell else np.nan for cell in cells])


def test_several_tags_an_image(tagged, tmp_path, capsys):
    model, table = tmp_path / "m.joblib", tmp_path / "t.csv"
    asked = [*SMALL, "--split-column", "part"]
    tags = ["--tag-columns", "animal", "bright"]
    assert main(["train", str(tagged), "-o", str(model), *asked, *tags]) == 0
    assert capsys.readouterr().out.startswith("average precision ")
    pipe = joblib.load(model)
    assert pipe.tag_names_ == ["animal", "bright"]
    some = [row for row in rows_of(tagged) if row["part"] == "test"]
    files = [row["file"] for row in some]
    likely = pipe.predict_proba(files)
    assert main(["predict", str(model), *files, "-o", str(table), "--probabilities"]) == 0
    for row, numbers in zip(rows_of(table), likely, strict=True):
        there = [name for name, p in zip(pipe.tag_names_, numbers, strict=True) if p >= 0.5]
        assert row["tags"] == "|".join(there)
        assert float(row["p_bright"]) == pytest.approx(numbers[1], abs=1e-5)
    lines = tmp_path / "t.jsonl"
    assert main(["predict", str(model), files[0], "-o", str(lines), "--threshold", "0"]) == 0
    assert json.loads(lines.read_text())["tags"] == ["animal", "bright"]
    evaluated = ["evaluate", str(model), str(tagged), *asked[2:], "-o", str(table)]
    assert main([*evaluated, *tags, "-o", str(tmp_path / "curves.png")]) == 0
    for row, numbers in zip(rows_of(table), likely.T, strict=True):
        true = as_numbers([one[row["tag"]] for one in some])
        known = ~np.isnan(true)
        found = average_precision_score(true[known], numbers[known])
        assert float(row["average_precision"]) == pytest.approx(found)
        assert float(row["f1"]) == pytest.approx(f1_score(true[known], numbers[known] >= 0.5))
    assert Image.open(tmp_path / "curves.png").size[0] > 100
    first = rows_of(table)
    # In any order, and by names; of a table in which a tag is nowhere, too.
    assert main([*evaluated, "--tag-columns", "bright", "animal"]) == 0
    assert rows_of(table) == first
    assert main([*evaluated, "--tag-columns", "words"]) == 0
    assert rows_of(table)[1] == first[1]
    bare = tmp_path / "bare.csv"
    bare.write_text(tagged.read_text().replace("animal|bright", "animal").replace("bright,", ","))
    named = ["evaluate", str(model), str(bare), *asked[2:], "-o", str(table)]
    assert main([*named, "--tag-columns", "words"]) == 0
    assert [row["average_precision"] != "" for row in rows_of(table)] == [True, False]
    for columns, message in (
        (["--value-column", "mean"], "predicts tags, but the images are read with values"),
        (["--tag-columns", "bright"], "--tag-columns lacks animal"),
    ):
        with pytest.raises(SystemExit):
            main([*evaluated, *columns])
        assert message in capsys.readouterr().err
    assert main(["export", str(model), "-o", str(tmp_path / "tags.pt")]) == 0


def test_one_column_of_names_of_tags_and_other_strategies(tagged, tmp_path, capsys):
    model = tmp_path / "m.joblib"
    asked = ["train", str(tagged), "-o", str(model), *SMALL, "--tag-columns", "words"]
    assert main([*asked, "--strategy", "auto", "--time", "0"]) == 0
    assert joblib.load(model).tag_names_ == ["animal", "bright"]
    assert main([*asked, "--strategy", "fine-tune", "--epochs", "1"]) == 0
    file = rows_of(tagged)[0]["file"]
    capsys.readouterr()
    assert main(["predict", str(model), file]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "file,tags,error"
    assert main(["advise", str(tagged), *SMALL, "--tag-columns", "words"]) == 0
    assert "(average precision)" in capsys.readouterr().out
    assert main(["issues", str(tagged), *SMALL, "--tag-columns", "animal", "bright"]) == 0


@pytest.mark.parametrize("strategy", ["probe", "fine-tune"])
def test_values(tagged, tmp_path, strategy, capsys):
    model, table = tmp_path / "m.joblib", tmp_path / "t.csv"
    column = ["--value-column", "mean"]
    epochs = ["--epochs", "1"] if strategy == "fine-tune" else []
    asked = ["train", str(tagged), "-o", str(model), *SMALL, *column, "--strategy", strategy]
    assert main([*asked, *epochs]) == 0
    assert capsys.readouterr().out.startswith("R² " if strategy == "probe" else "score not")
    rows = rows_of(tagged)
    files, true = [row["file"] for row in rows], as_numbers([row["mean"] for row in rows])
    said = joblib.load(model).predict(files)
    assert main(["predict", str(model), *files, "-o", str(table)]) == 0
    found = as_numbers([row["value"] for row in rows_of(table)])
    np.testing.assert_allclose(found, said, rtol=1e-5)
    figure = tmp_path / "values.png"
    asked = ["evaluate", str(model), str(tagged), *column, "-o", str(table), "-o", str(figure)]
    assert main(asked) == 0
    (row,) = rows_of(table)
    assert float(row["r2"]) == pytest.approx(r2_score(true, said), abs=1e-5)
    assert Image.open(figure).size[0] > 100


def test_columns_that_do_not_go_together(photos, tagged, tmp_path, capsys):
    model = ["-o", str(tmp_path / "m.joblib"), *SMALL]
    for asked, message in (
        ([str(photos), "--value-column", "mean"], "--value-column is of a CSV file"),
        ([str(photos), "--tag-columns", "a", "b"], "--tag-columns is of a CSV file"),
        ([str(tagged), "--value-column", "mean", "--tag-columns", "bright"], "not allowed with"),
        ([str(tagged), "--value-column", "mean", "--strategy", "auto"], "labels and tags"),
        ([str(tagged), "--label-column", "animal", "--no-vote"], "--strategy advised and auto"),
        ([str(tagged), "--tag-columns", "bright", "words"], "'words' holds"),
        ([str(tagged), "--value-column", "meen"], "Did you mean 'mean'"),
        ([str(tagged), "--tag-columns", "brihgt", "animal"], "Did you mean 'bright'"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["train", *asked, *model])
        assert caught.value.code == 2
        assert message in capsys.readouterr().err, asked


def test_what_is_advised_is_trained(tagged, tmp_path, capsys):
    model, column = tmp_path / "m.joblib", ["--value-column", "mean"]
    asked = ["train", str(tagged), "-o", str(model), *SMALL, *column]
    assert main([*asked, "--strategy", "advised"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Scenario:") and "Reasons" not in out
    pipe = joblib.load(model)
    rows = rows_of(tagged)
    true = as_numbers([row["mean"] for row in rows])
    assert r2_score(true, pipe.predict([row["file"] for row in rows])) > 0.5
    text, page = tmp_path / "a.txt", tmp_path / "a.json"
    advised = ["advise", str(tagged), *SMALL, *column, "-o", str(text), "-o", str(page)]
    assert main(advised) == 0
    assert json.loads(page.read_text())["measure"] == "R²" and "Reasons:" in text.read_text()


def test_one_column_of_zeros_and_ones_is_one_tag(tagged, tmp_path, capsys):
    model = tmp_path / "m.joblib"
    asked = ["train", str(tagged), "-o", str(model), *SMALL, "--tag-columns", "bright"]
    assert main(asked) == 0
    assert joblib.load(model).tag_names_ == ["bright"]
    assert "with 1 tags" in capsys.readouterr().err


def test_files_are_named_as_they_were_given(photos, model, tmp_path, monkeypatch):
    """Relative where the folder or table was."""
    monkeypatch.chdir(photos)
    assert main(["predict", str(model), "test", "-o", str(tmp_path / "a.csv")]) == 0
    files = {str(file) for file in Path("test").rglob("*.png")}
    assert {row["file"] for row in rows_of(tmp_path / "a.csv")} == files
    assert main(["issues", "train", "-o", str(tmp_path / "b.csv"), *SMALL]) == 0
    assert main(["evaluate", str(model), "test", "-o", str(tmp_path / "c.csv")]) == 0
    wrong = rows_of(tmp_path / "b.csv")
    assert all(Path(row["file"]).exists() and row["file"].startswith("train/") for row in wrong)


def test_wrong_arguments_are_told_in_a_line(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", "photos", "--strategy", "best"])
    assert caught.value.code == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("sktransfer train: error: argument --strategy: invalid choice: 'best'")
    assert second == "sktransfer train --help tells what it takes."


def test_issues_of_tags_name_them(tagged, tmp_path):
    table = tmp_path / "found.csv"
    asked = ["issues", str(tagged), "--tag-columns", "animal", "bright", *SMALL, "-o", str(table)]
    assert main(asked) == 0
    told = [row["action"] for row in rows_of(table) if row["issue"] == "label"]
    assert all("tag animal" in one or "tag bright" in one for one in told)


def test_issues_of_a_table_are_told_by_its_rows(tagged, tmp_path, capsys):
    """Also where the rows of a part come after those of another."""
    rows = rows_of(tagged)
    rows.insert(0, {**rows[-1], "part": "train"})  # an image of the test part twice, by a copy
    copy = tmp_path / "copy.png"
    copy.write_bytes(Path(rows[-1]["file"]).read_bytes())
    rows[0]["file"] = str(copy)
    table = tmp_path / "all.csv"
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in reversed(rows))]
    table.write_text("\n".join(lines))
    found = tmp_path / "found.csv"
    asked = ["issues", str(table), "--label-column", "bright", "--split-column", "part", *SMALL]
    assert main([*asked, "-o", str(found)]) == 0
    files = [row["file"] for row in reversed(rows)]
    told = rows_of(found)
    assert any(row["issue"] in ("duplicate", "leak") for row in told)
    assert all(files[int(row["index"])] == row["file"] for row in told)


@pytest.fixture
def slides(tmp_path, labelled):
    """A table of thirty images of six slides, with values up to 4095 in files of 16 bits."""
    lines = ["file,label,slide"]
    for number, (pixels, label) in enumerate(zip(*labelled, strict=True)):
        if number >= 30:
            break
        path = tmp_path / f"{number:02d}.png"
        Image.fromarray(pixels.mean(2).astype(np.uint16) * 16).save(path)
        lines.append(f"{path.name},{label},{number // 5}")
    (tmp_path / "slides.csv").write_text("\n".join(lines))
    return tmp_path / "slides.csv"


RANGE = ["--value-range", "0", "4095"]


@pytest.mark.parametrize("command", ["advise", "train", "train auto"])
def test_groups_of_a_table_are_in_one_fold(command, slides, tmp_path, monkeypatch):
    from sktransfer.selection._kinds import LABELS

    seen, real = [], type(LABELS).make_splits

    def watch(self, target, cv, groups=None):
        splits = real(self, target, cv, groups)
        seen.append((len(target), splits))
        return splits

    monkeypatch.setattr(type(LABELS).__mro__[1], "make_splits", watch)
    words = [command.split()[0], str(slides), "--group-column", "slide", *RANGE, *SMALL]
    if command != "advise":
        words += ["-o", str(tmp_path / "m.joblib")]
    if "auto" in command:
        words += ["--strategy", "auto", "--time", "0"]
    assert main(words) == 0
    checked = [splits for n, splits in seen if n == 30]
    assert checked
    for learn, test in (fold for splits in checked for fold in splits):
        assert not set(learn // 5) & set(test // 5)


def test_groups_are_of_tables(photos, capsys):
    with pytest.raises(SystemExit):
        main(["advise", str(photos), "--group-column", "slide", *SMALL])
    assert "--group-column is of a CSV file" in capsys.readouterr().err


def test_files_of_more_than_8_bits_have_their_range(slides, tmp_path, capsys):
    model, other = tmp_path / "model.joblib", tmp_path / "codes.npy"
    assert main(["train", str(slides), "-o", str(model), *RANGE, *SMALL]) == 0
    codes = joblib.load(model).named_steps["codes"]
    assert codes.value_range == (0.0, 4095.0)
    assert main(["codes", str(slides.parent), "-o", str(other), *RANGE, *SMALL]) == 0
    files = sorted(map(str, slides.parent.glob("*.png")))
    np.testing.assert_allclose(np.load(other), codes.transform(files), rtol=1e-5, atol=1e-6)
    capsys.readouterr()
    assert main(["codes", str(slides.parent), "-o", str(other), "--value-range", "9", "9",
                 *SMALL]) != 0  # fmt: skip
    told = capsys.readouterr().err
    assert "--value-range must be two finite numbers with BLACK < WHITE, got 9.0 9.0" in told


def test_copies_are_in_one_fold_of_the_accuracy_that_train_prints(photos, tmp_path, monkeypatch):
    """Every image is there twice: a random split would find most of them again."""
    for file in sorted(photos.rglob("train/*/*.png")):
        folder = tmp_path / "twice" / file.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        for copy in "ab":
            (folder / f"{file.stem}{copy}.png").write_bytes(file.read_bytes())
    from sktransfer import cli

    folds, real = [], cli.__dict__["_accuracy"]

    def watch(model, known):
        from sktransfer.selection._kinds import Kind

        made = Kind.make_splits

        def splits(self, *args, **kwargs):
            folds.append((known.X, made(self, *args, **kwargs)))
            return folds[-1][1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Kind, "make_splits", splits)
            return real(model, known)

    monkeypatch.setattr(cli, "_accuracy", watch)
    words = ["train", str(tmp_path / "twice"), "-o", str(tmp_path / "m.joblib"), *SMALL]
    assert main(words) == 0
    ((files, splits),) = folds
    names = np.array([Path(file).stem[:-1] for file in files])
    for learn, test in splits:
        assert not set(names[learn]) & set(names[test])


def test_classes_that_read_texts_are_where_their_names_say():
    """The command line knows them by name."""
    from sklearn.feature_extraction import text

    import sktransfer
    from sktransfer.cli import _READ_TEXTS

    own = {name for name in sktransfer.__all__ if name in _READ_TEXTS}
    assert own | {name for name in _READ_TEXTS if hasattr(text, name)} == _READ_TEXTS
    for name in _READ_TEXTS:
        home = getattr(sktransfer if name in own else text, name).__module__
        assert home.startswith(("sktransfer.", "sklearn."))
