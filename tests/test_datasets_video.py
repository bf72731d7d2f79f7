"""Frames of videos that PyAV has written, and data sets of torch."""

from __future__ import annotations

import pickle
import struct

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from sktransfer import CNNCodes, load_torch_dataset, load_video_frames
from sktransfer.exceptions import ImageError, InputError, SktransferWarning
from sktransfer.inputs import as_images

av = pytest.importorskip("av")


def film(path, n=20, rate=10, size=(48, 32), turned=False):
    """A video whose frame i is grey 10 * i, but for a white corner at the top left."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.bit_rate = 4_000_000
        for number in range(n):
            pixels = np.full((size[1], size[0], 3), 10 * number, np.uint8)
            pixels[:8, :8] = 255
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    if turned:  # the matrix of the track, as phones write it that are held upright
        plain = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
        quarter = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
        content = path.read_bytes()
        at = content.index(plain, content.index(b"tkhd"))
        path.write_bytes(content[:at] + quarter + content[at + len(quarter):])
    return path


def greys(frames):
    return [round(float(np.median(frame)) / 10) for frame in frames]


def test_frames_by_time(tmp_path):
    paths = [film(tmp_path / "a.mp4"), film(tmp_path / "b.mp4", n=5)]
    found = load_video_frames(paths, every=0.5)
    assert greys(found.data) == [0, 5, 10, 15, 0]
    np.testing.assert_allclose(found.timestamps, [0, 0.5, 1, 1.5, 0], atol=1e-6)
    assert found.groups.tolist() == [0, 0, 0, 0, 1] and found.videos == [str(p) for p in paths]
    assert found.data[0].shape == (32, 48, 3) and found.data[0].dtype == np.uint8
    some = load_video_frames(paths[0], every=0.25, start=0.3, end=1.05)
    assert greys(some.data) == [3, 6, 8]  # from 0.3, 0.55 and 0.8 on
    assert len(load_video_frames(paths[0], every=None).data) == 20


def test_frames_are_written_and_turned_as_players_turn_them(tmp_path):
    path = film(tmp_path / "phone.mp4", n=3, turned=True)
    found = load_video_frames([path, path], every=None, folder=tmp_path / "frames")
    assert found.data[0].endswith("phone-0/0000000.000.png") and len(found.data) == 6
    frame = np.asarray(Image.open(found.data[1]))
    assert frame.shape == (48, 32, 3)  # a quarter clockwise: top left is top right
    assert frame[:6, -6:].min() > 200 and frame[:6, :6].max() < 60
    codes = CNNCodes(image_size=32).fit_transform(found.data)
    np.testing.assert_array_equal(codes[:3], codes[3:])


def test_videos_that_cannot_be_read(tmp_path):
    good = film(tmp_path / "a.mp4", n=5)
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(good.read_bytes()[:200])
    with pytest.raises(InputError, match=r"bad\.mp4 cannot be read: .*on_bad="):
        load_video_frames([good, bad])
    with pytest.warns(SktransferWarning, match="1 of 2 videos"):
        found = load_video_frames([good, bad], on_bad="drop")
    assert len(found.data) == 1 and found.skipped[0][0] == str(bad)
    for videos, options, message in (
        (tmp_path / "none.mp4", {}, "number 0, .*none.mp4, is not there"),
        (tmp_path, {}, "is a folder"),
        (good, {"every": 0}, "every must be seconds above 0"),
        (good, {"start": 9}, "must have frames from 9 s on"),
        (good, {"start": 2, "end": 1}, "end must be"),
        ([], {}, "at least one file"),
        (3, {}, "a path or a list of paths"),
    ):
        with pytest.raises(InputError, match=message):
            load_video_frames(videos, **options)


# ---------------------------------------------------------------- data sets of torch


class Pictures(Dataset):
    """Counts what is read."""

    classes = ("cat", "dog")

    def __init__(self, images, labels, make=None, broken=()):
        self.images, self.targets, self.reads, self.broken = images, labels, [], broken
        self.make = make

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.reads.append(index)
        if index in self.broken:
            raise OSError("damaged")
        pair = Image.fromarray(self.images[index]), int(self.targets[index])
        return self.make(*pair) if self.make else pair


@pytest.fixture
def pictures(labelled):
    X, y = labelled
    return Pictures(X[:24], y[:24])


def test_a_data_set_is_read_one_at_a_time_and_gives_the_codes_of_its_images(pictures):
    images = as_images(pictures)
    assert pictures.reads == [0] and len(images) == 24
    codes = CNNCodes(image_size=32).fit(pictures.images)
    np.testing.assert_array_equal(codes.transform(pictures), codes.transform(pictures.images))
    assert sorted(set(pictures.reads)) == list(range(24))
    by_name = Pictures(pictures.images, pictures.targets,
                       lambda image, label: {"label": label, "image": image})  # fmt: skip
    np.testing.assert_array_equal(codes.transform(by_name), codes.transform(pictures))


def test_tensors_of_a_data_set_are_looked_at_for_their_range(labelled):
    X, y = labelled
    floats = torch.tensor(X[:8]).permute(0, 3, 1, 2) / 255
    codes = CNNCodes(image_size=32).fit(floats)
    pairs = TensorDataset(floats, torch.tensor(y[:8]))
    np.testing.assert_array_equal(codes.transform(pairs), codes.transform(floats))
    with pytest.raises(ValueError, match="from -2 to 2"):
        codes.transform(TensorDataset(floats * 4 - 2))


def test_data_sets_are_taken_apart_by_scikit_learn(pictures):
    part = Subset(ConcatDataset([pictures, pictures]), list(range(40, 8, -1)))
    X, y = load_torch_dataset(part, return_X_y=True)
    assert len(pictures.reads) == 4  # the first image and some labels
    np.testing.assert_array_equal(y, np.tile(pictures.targets, 2)[40:8:-1])
    model = make_pipeline(CNNCodes(image_size=32), LogisticRegression(C=1e-3))
    whole = cross_val_score(model, np.tile(pictures.images, (2, 1, 1, 1))[40:8:-1], y, cv=2)
    np.testing.assert_array_equal(cross_val_score(model, X, y, cv=2), whole)
    named = load_torch_dataset(pictures, target_as="name")
    assert named.target[:3].tolist() == [("cat", "dog")[i] for i in pictures.targets[:3]]
    copy = pickle.loads(pickle.dumps(named.data[:2]))
    assert copy[1].load().size == (32, 32)


def test_labels_that_a_transform_changes_are_read(pictures):
    changed = Pictures(pictures.images, pictures.targets, lambda image, label: (image, 1 - label))
    np.testing.assert_array_equal(load_torch_dataset(changed).target, 1 - pictures.targets)
    alone = Pictures(pictures.images, pictures.targets, lambda image, label: image)
    alone.targets = alone.targets[:3]
    assert load_torch_dataset(alone, labels=False).target is None


def test_bad_data_sets(pictures):
    broken = Pictures(pictures.images, pictures.targets, broken=(5,))
    with pytest.raises(ImageError, match=r"image 5.*cannot read it: OSError: damaged"):
        CNNCodes(image_size=32).fit_transform(broken)
    with pytest.warns(match="1 of 24 images"):
        codes = CNNCodes(image_size=32, on_error="nan").fit_transform(broken)
    assert np.isnan(codes).all(axis=1).tolist() == [i == 5 for i in range(24)]
    mixed = Pictures(pictures.images, range(24),
                     lambda image, label: np.asarray(image) if label == 3 else image)  # fmt: skip
    with pytest.raises(ImageError, match=r"image 3.*of one kind"):
        CNNCodes(image_size=32).fit_transform(mixed)
    with pytest.raises(InputError, match="must be an image, or a tuple"):
        as_images(TensorDataset(torch.tensor([1.0]), torch.tensor([2])))
    with pytest.raises(InputError, match="empty data set"):
        as_images(Subset(pictures, []))
    with pytest.raises(InputError, match="of a DataLoader pass its dataset"):
        load_torch_dataset([1, 2])
