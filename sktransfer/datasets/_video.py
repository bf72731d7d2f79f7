"""Frames of videos, with their times and the video that each is of."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.utils import Bunch

from sktransfer._files import atomic_write
from sktransfer._optional import import_optional
from sktransfer.exceptions import InputError, SktransferWarning, shown
from sktransfer.inputs import name_of

# Seconds by which times of frames may be rounded.
_ROUNDED = 1e-6


def load_video_frames(
    videos: Any,
    *,
    every: float | None = 1.0,
    start: float = 0.0,
    end: float | None = None,
    folder: str | os.PathLike[str] | None = None,
    on_bad: str = "raise",
) -> Bunch:
    """Take frames out of videos, evenly over time.

    It needs PyAV: ``pip install "sktransfer[video]"``.

    Parameters
    ----------
    videos : path or list of paths
        Files that FFmpeg reads.
    every : float or None, default=1.0
        Seconds between two frames: of each such step the first frame is taken. None is all frames.
    start, end : float, default=0.0 and None
        Seconds of each video from which on, and before which, frames are taken; None is its end.
    folder : path, default=None
        Where frames are written as PNG files, in a folder for each video, and `data` holds their
        paths. None keeps them in memory, 3 bytes a pixel: 6 MB for each frame of 1920×1080.
    on_bad : {"raise", "drop"}, default="raise"
        What a video does that cannot be read to its end: an error, or what could be read of it is
        taken, with a warning.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        With the following attributes.

        data : ndarray of object, shape (n_frames,)
            Arrays (height, width, 3) of uint8, turned as players turn them, or the paths of files.
        timestamps : ndarray of float64, shape (n_frames,)
            Seconds from the beginning of the video.
        groups : ndarray of int64, shape (n_frames,)
            The number of the video, for :class:`~sklearn.model_selection.GroupKFold`: frames of
            one video belong together.
        videos : list of str
            The paths of the videos.
        skipped : list of (str, str)
            Videos that could not be read to their end, and why.
        DESCR : str
            What was found.

    Raises
    ------
    InputError
        A ValueError: a file is missing, holds no video or cannot be read to its end, or there is no
        frame between `start` and `end`.
    ImportError
        If PyAV is not installed.

    Examples
    --------
    >>> from sktransfer import load_video_frames
    >>> clips = load_video_frames(["a.mp4", "b.mp4"], every=0.5)  # doctest: +SKIP
    >>> codes = CNNCodes().fit_transform(clips.data)  # doctest: +SKIP
    """
    paths = _paths(videos)
    _check_times(every, start, end)
    if on_bad not in ("raise", "drop"):
        raise InputError(f'on_bad must be "raise" or "drop", got {shown(repr(on_bad))}.')
    import_optional("av", "load_video_frames", "video")
    folders = None if folder is None else _folders(Path(folder), paths)
    data: list[Any] = []
    times: list[float] = []
    groups: list[int] = []
    skipped: list[tuple[str, str]] = []
    for number, path in enumerate(paths):
        before = len(data)
        try:
            for time, frame in _frames(path, every, start, end):
                times.append(time)
                groups.append(number)
                data.append(frame if folders is None else _written(frame, folders[number], time))
        except InputError as error:
            if on_bad == "raise":
                raise
            skipped.append((path, str(error)))
            continue
        if len(data) == before and on_bad == "raise":
            raise InputError(f"{shown(path)} must have frames from {start} s on, but has none.")
    if not data:
        raise InputError(
            f"videos must have at least one frame; {skipped[0][1]}" if skipped
            else f"videos must have frames from {start} s on, but have none."
        )  # fmt: skip
    if skipped:
        warnings.warn(
            f"{len(skipped)} of {len(paths)} videos could not be read to their end; the first: "
            f"{skipped[0][1]} The attribute `skipped` of the Bunch lists them all.",
            SktransferWarning,
            stacklevel=2,
        )
    found = np.empty(len(data), object)
    found[:] = data
    return Bunch(
        data=found, timestamps=np.array(times), groups=np.array(groups, np.int64), videos=paths,
        skipped=skipped, DESCR=f"{len(found)} frames of {len(set(groups))} videos",
    )  # fmt: skip


def _paths(videos: Any) -> list[str]:
    if isinstance(videos, (str, os.PathLike)):
        videos = [videos]
    if not hasattr(videos, "__iter__") or isinstance(videos, (bytes, dict)):
        raise InputError(f"videos must be a path or a list of paths, got {name_of(videos)}.")
    paths = []
    for number, one in enumerate(videos):
        if not isinstance(one, (str, os.PathLike)):
            raise InputError(f"videos must be paths, got {name_of(one)} as number {number}.")
        path = os.path.abspath(os.path.expanduser(os.fsdecode(one)))
        if not os.path.isfile(path):
            what = "is a folder" if os.path.isdir(path) else "is not there"
            raise InputError(f"videos must be files, but number {number}, {shown(path)}, {what}.")
        paths.append(path)
    if not paths:
        raise InputError("videos must name at least one file, got none.")
    return paths


def _check_times(every: float | None, start: float, end: float | None) -> None:
    if every is not None and not (every > 0 and math.isfinite(every)):
        raise InputError(f"every must be seconds above 0, or None, got {shown(repr(every))}.")
    if not start >= 0:
        raise InputError(f"start must be seconds, at least 0, got {shown(repr(start))}.")
    if end is not None and not end > start:
        raise InputError(f"end must be seconds after start, got {shown(repr(end))}.")


def _frames(
    path: str, every: float | None, start: float, end: float | None
) -> Iterator[tuple[float, np.ndarray]]:
    """Times and pixels of the frames of one video that are asked for."""
    import av

    at = None
    try:
        with av.open(path) as container:
            if not container.streams.video:
                raise InputError(f"{shown(path)} must be a video, but has no pictures in it.")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            first, due = None, start
            for number, frame in enumerate(container.decode(stream)):
                time = frame.time if frame.time is not None else _time_of(number, stream)
                first = time if first is None else first
                at = time - first
                if end is not None and at >= end - _ROUNDED:
                    break
                if at >= due - _ROUNDED:
                    yield at, _upright(frame)
                    if every is not None:
                        due = start + every * (math.floor((at - start) / every + _ROUNDED) + 1)
    except av.error.FFmpegError as error:
        when = "cannot be read" if at is None else f"cannot be read after {at:.2f} s"
        raise InputError(
            f"{shown(path)} {when}: {shown(error.strerror or error)}. Fix or remove the file, or "
            'take what can be read with on_bad="drop".'
        ) from error


def _time_of(number: int, stream: Any) -> float:
    """Of a frame of a stream that tells no times, as raw ones."""
    return number / float(stream.average_rate or stream.base_rate or 25)


def _upright(frame: Any) -> np.ndarray:
    """Pixels of a frame, turned as the video says: phones film on their side."""
    pixels = frame.to_ndarray(format="rgb24")
    turns = round(getattr(frame, "rotation", 0) / 90)  # counterclockwise, as np.rot90
    return np.ascontiguousarray(np.rot90(pixels, turns))


def _folders(folder: Path, paths: list[str]) -> list[Path]:
    """A folder for the frames of each video, called like it."""
    stems = [Path(path).stem for path in paths]
    names = [stem if stems.count(stem) == 1 else f"{stem}-{number}"
             for number, stem in enumerate(stems)]  # fmt: skip
    found = [folder.expanduser().absolute() / name for name in names]
    for one in found:
        one.mkdir(parents=True, exist_ok=True)
    return found


def _written(frame: np.ndarray, folder: Path, time: float) -> str:
    path = folder / f"{time:011.3f}.png"
    with atomic_write(path) as draft:
        Image.fromarray(frame).save(draft, compress_level=1)
    return str(path)
