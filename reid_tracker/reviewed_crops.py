"""From tracks to training: a set of crops of the identities of one's own video, after a review.

The set is one folder per identity and `crops.csv` (path, identity, camera), which training and evaluation read.
"""

import csv
import io
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from reid_tracker.errors import UserError
from reid_tracker.exchange.replay import frames_for
from reid_tracker.exchange.tracks import Tracks, read_results
from reid_tracker.inputs import Inputs
from reid_tracker.ownership import claim
from reid_tracker.reading import parse_json, read_table, read_text
from reid_tracker.tracking import costs
from reid_tracker.video.annotate import clip_boxes
from reid_tracker.video.frames import Source
from reid_tracker.video.sources import open_source
from reid_tracker.writing import check_writable, without_quote, write_whole

LIST = "crops.csv"
UNNAMED = re.compile(r"\d{6,}")
# What shows a person: seen by the detector, nearly whole in the picture, and not behind another.
LEAST_CONFIDENCE, LEAST_INSIDE, MOST_COVERED = 0.5, 0.9, 0.15
# Someone who walks one body height changes as much as someone who stands for so many seconds.
STANDING_SECONDS = 10.0
_GREY_SIZE = (64, 128)  # at which sharpness is compared


def export_crops(
    results: Path | str,
    video: Path | str,
    output: Path | str,
    *,
    review: Path | str | None = None,
    per_identity: int = 30,
    min_height: float = 48,
    camera: int = -1,
    overwrite: bool = False,
    same_people: bool = False,
) -> dict[str, int]:
    """Cut out varied, uncovered, sharp crops of each identity of a run.

    Parameters
    ----------
    results : path
        What `track` wrote of the video: MOTChallenge text, or JSON lines (.jsonl).
    video : path
        The video, or whatever else `open_source` opens.
    output : path
        Folder of the set, which only this user may read; other videos' crops may be there already, and equal names
        are the same identity.
        A number without a name that another video has too becomes ``<video>_<number>``.
    review : path, optional
        A CSV with the columns identity, decision and optionally name, or a JSON list of such objects. The decision is
        "keep", "drop", or "merge-into N"; a name is what an identity is called from now on. Who is not in it is kept.
    per_identity : int
        Crops of each identity at most.
    min_height : float
        Lower boxes are left out, px.
    camera : int
        Number of the camera; -1 = unknown, then retrieval may compare all crops.
    overwrite : bool
        Replace the crops of this video that the set has already.
    same_people : bool
        Equal numbers are the same people too: the videos were tracked with one gallery.

    Returns
    -------
    dict
        Crops written, by identity.

    Raises
    ------
    UserError
        If a file is missing or not what it should be, the review contradicts itself, the set has this video's
        crops already, or a crop would be written over a file that is not the set's.
    """
    output = Path(output).expanduser()
    check_writable(output / LIST)
    inputs = Inputs({"results": [results], "video": [video], "review": [review]})
    # The set's list is its record: other videos' crops stay, and the list is written anew with them.
    is_new = not output.exists()
    with claim([output / LIST], inputs, overwrite=True):
        if is_new:
            with suppress(OSError):  # where the file system knows of no modes
                output.chmod(0o700)  # its folders bear people's names
        return _export_crops(
            Path(results), video, output, review, per_identity, min_height, camera, overwrite, same_people
        )


def _export_crops(
    results: Path,
    video: Path | str,
    output: Path,
    review: Path | str | None,
    per_identity: int,
    min_height: float,
    camera: int,
    overwrite: bool,
    same_people: bool,
) -> dict[str, int]:
    """`export_crops`, with the set to itself."""
    source = open_source(video)
    if not source.has_pixels:
        raise UserError(f"{video}: has no pictures to cut crops from.")
    tracks = read_results(results)
    names = _names(np.unique(tracks.identity), Path(review) if review else None)
    _check_apart(names, tracks)
    known = _read_list(output / LIST)
    own = re.compile(re.escape(source.name) + r"_\d{6,}\.jpg")
    earlier = {row["path"] for row in known if own.fullmatch(Path(row["path"]).name)}
    if earlier and not overwrite:
        raise UserError(f"{output}: holds crops of {source.name} already; name a new folder, or give --overwrite.")
    known = [row for row in known if row["path"] not in earlier]
    if not same_people:
        names = _apart(names, {row["identity"] for row in known}, source.name)
    earlier = {each for each in earlier if (output / each).resolve().is_relative_to(output.resolve())}
    best = best_crops(source, tracks, names, per_identity, min_height)
    crops = {(Path(name) / f"{source.name}_{number:06d}.jpg").as_posix(): (name, data) for name, number, data in best}
    foreign = next((each for each in crops if each not in earlier and os.path.lexists(output / each)), None)
    if foreign is not None:
        raise UserError(f"{output / foreign}: is there already and not in {LIST}; name a new folder.")
    written: dict[str, int] = {}
    new: list[Path] = []
    try:
        for path, (name, data) in crops.items():
            write_whole(output / path, data, private=True)
            new += [output / path] if path not in earlier else []
            known.append({"path": path, "identity": name, "camera": str(camera)})
            written[name] = written.get(name, 0) + 1
        if written:
            _write_list(output / LIST, known)
    except BaseException:
        for file in new:  # not in the list: the next run would take them for another program's
            file.unlink(missing_ok=True)
        raise
    if written:
        for path in earlier - crops.keys():
            (output / path).unlink(missing_ok=True)
    if not written:
        raise UserError(f"{results}: no one in it is shown well enough for a crop; lower --min-height.")
    return written


def best_crops(
    source: Source, tracks: Tracks, names: dict[int, str], per_identity: int, min_height: float
) -> list[tuple[str, int, bytes]]:
    """Choose varied, uncovered, sharp crops of people.

    Parameters
    ----------
    source : Source
        With pictures.
    tracks : Tracks
        Of the source.
    names : dict of int to str
        Of the identities that are wanted; equal names are one person.
    per_identity : int
        Crops of each name at most.
    min_height : float
        Lower boxes are left out, px.

    Returns
    -------
    list of (str, int, bytes)
        Name, number of the frame from 1, and JPEG; by name and time.
    """
    frame, identity, xyxy = tracks.frame, tracks.identity, tracks.xyxy.astype(np.float32)
    fit = _fit(frame, xyxy, tracks.confidence, min_height, source.width, source.height)
    fit &= np.isin(identity, list(names))
    bins = _bins(
        np.array([names.get(each, "") for each in identity.tolist()]), frame, xyxy, fit, per_identity, source.frame_rate
    )
    best: dict[tuple[str, int], tuple[float, int, bytes]] = {}
    rows_of = np.split(np.arange(len(frame)), np.flatnonzero(np.diff(frame)) + 1)
    wanted = {int(frame[rows[0]]): rows[fit[rows]] for rows in rows_of if len(rows) and fit[rows].any()}
    for picture in frames_for(tracks, source):
        for row in wanted.get(picture.index + 1, ()):
            left, top, right, bottom = (
                clip_boxes(xyxy[row : row + 1], source.width, source.height)[0][0].round().astype(int)
            )
            assert picture.image is not None
            crop = picture.image[top:bottom, left:right]
            place, sharp = (names[int(identity[row])], int(bins[row])), sharpness(crop)
            if place not in best or sharp > best[place][0]:
                jpeg = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
                best[place] = (sharp, int(frame[row]), jpeg)
    return [(name, number, data) for (name, _), (_, number, data) in sorted(best.items())]


def sharpness(crop: np.ndarray) -> float:
    """How sharp a picture uint8 [h, w, 3] is: the variance of its Laplacian at a fixed size."""
    grey = cv2.cvtColor(cv2.resize(crop, _GREY_SIZE, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def _names(identities: np.ndarray, review: Path | None) -> dict[int, str]:
    """What each identity is called in the set; those dropped are not in it."""
    merged: dict[int, int] = {}
    names, dropped = {int(each): f"{each:06d}" for each in identities}, set()
    for row in _read_review(review) if review else ():
        try:
            identity = int(str(row["identity"]))  # 1.5 is nobody
            decision, _, other = str(row.get("decision") or "keep").strip().partition(" ")
            if decision == "merge-into":
                merged[identity] = int(other)
            elif decision == "drop":
                dropped.add(identity)
            elif decision != "keep":
                raise ValueError
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise UserError(
                f"{review}: {row} is no decision; write an identity and keep, drop or 'merge-into N'."
            ) from error
        for each in (identity, merged.get(identity, identity)):
            if each not in names:
                raise UserError(f"{review}: there is no identity {each} in the results.")
        if name := without_quote(str(row.get("name") or "").strip()):
            if name[0] == "." or set(name) & set('/\\:"\n'):
                raise UserError(
                    f"{review}: {name!r} cannot be a folder's name; leave out / \\ : quotation marks and a leading dot."
                )
            names[identity] = name
    result = {}
    for identity in names:
        target, steps = identity, 0
        while target in merged:
            target, steps = merged[target], steps + 1
            if steps > len(merged):
                raise UserError(f"{review}: identity {identity} is merged in a circle.")
        if target not in dropped and identity not in dropped:
            result[identity] = names[target]
    return result


def _check_apart(names: dict[int, str], tracks: Tracks) -> None:
    """Refuse one name for two who are in view at once: a network would learn that they are one person."""
    rows = np.flatnonzero(np.isin(tracks.identity, list(names)))
    called = np.array([names[each] for each in tracks.identity[rows].tolist()])
    order = np.lexsort((called, tracks.frame[rows]))
    rows, called = rows[order], called[order]
    same = (np.diff(tracks.frame[rows]) == 0) & (called[1:] == called[:-1])
    for first in np.flatnonzero(same & (np.diff(tracks.identity[rows]) != 0))[:1]:
        one, other = sorted(tracks.identity[rows[first : first + 2]].tolist())
        raise UserError(
            f"{one} and {other} are both {called[first]}, and in view at once in frame {tracks.frame[rows[first]]}; "
            "name them apart in the review."
        )


def _apart(names: dict[int, str], known: set[str], video: str) -> dict[int, str]:
    """Names that keep unnamed numbers apart from those of another video."""
    if not any(UNNAMED.fullmatch(name) and name in known for name in names.values()):
        return names
    return {each: f"{video}_{name}" if UNNAMED.fullmatch(name) else name for each, name in names.items()}


def _read_review(path: Path) -> list[dict[str, Any]]:
    if path.suffix.lower() != ".json":
        return read_table(path)[1]
    try:
        rows = parse_json(read_text(path))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}).") from error
    if not isinstance(rows, list):
        raise UserError(f"{path}: write a list of objects with identity, decision and name.")
    return rows


def _fit(
    frame: np.ndarray, xyxy: np.ndarray, confidence: np.ndarray, min_height: float, width: int, height: int
) -> np.ndarray:
    """Which boxes show a person well enough, by what the results alone say. bool [R]."""
    inside = np.clip(xyxy, 0, [width, height, width, height])
    whole = costs.area(inside) >= LEAST_INSIDE * costs.area(xyxy)
    fit: np.ndarray = whole & (confidence >= LEAST_CONFIDENCE) & (xyxy[:, 3] - xyxy[:, 1] >= min_height)
    for rows in np.split(np.arange(len(frame)), np.flatnonzero(np.diff(frame)) + 1):
        fit[rows] &= costs.coverage(xyxy[rows]) < MOST_COVERED
    return fit


def _bins(
    name: np.ndarray, frame: np.ndarray, xyxy: np.ndarray, fit: np.ndarray, count: int, frame_rate: float
) -> np.ndarray:
    """Divide each identity's fit boxes into ``count`` bins of equal change, by way walked and time passed. int [R].

    One crop of each is kept: who stands for minutes and then walks is not shown standing in nearly all of them.
    """
    bins = np.zeros(len(frame), dtype=np.int64)
    for each in np.unique(name[fit]):
        rows = np.flatnonzero(fit & (name == each))
        centre, height = (xyxy[rows, :2] + xyxy[rows, 2:]) / 2, xyxy[rows, 3] - xyxy[rows, 1]
        walked = np.hypot(*np.diff(centre, axis=0).T) / height[1:]
        # A jump (another visit, two merged) is one change, not a long way.
        change = np.minimum(walked, 1) + np.minimum(np.diff(frame[rows]) / frame_rate / STANDING_SECONDS, 1)
        progress = np.concatenate([[0], np.cumsum(change)])
        bins[rows] = np.minimum(progress / max(progress[-1], 1e-9) * count, count - 1)
    return bins


def _read_list(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    rows = read_table(path)[1]
    if any(set(row) != {"path", "identity", "camera"} for row in rows):
        raise UserError(f"{path}: not the list of a set of crops (path, identity, camera); name a new folder.")
    return rows


def _write_list(path: Path, rows: list[dict[str, str]]) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, ("path", "identity", "camera"), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_whole(path, text.getvalue().encode(), private=True)
