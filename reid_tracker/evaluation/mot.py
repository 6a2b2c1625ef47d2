"""Evaluate tracking results in MOTChallenge format: HOTA, CLEAR and identity figures equal to TrackEval's.

Before anything is counted, results are prepared as MOTChallenge prescribes:

1. In each frame results are matched one to one with all truth boxes, of any class, at IoU >= 0.5. A result matched with
   a distractor (classes 2, 7, 8, 12: person on a vehicle, static person, distractor, reflection; on MOT20 also class 6,
   other vehicles) is dropped: finding it is neither right nor wrong.
2. Of the truth, the pedestrians (class 1) whose flag (column 7) is not 0 stay.

Truth without classes (MOT15, DanceTrack, SportsMOT) skips step 1 and keeps every box whose flag is not 0.
"""

import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from reid_tracker.errors import UserError
from reid_tracker.evaluation.clear import clear_figures, clear_tally
from reid_tracker.evaluation.hota import hota_figures, hota_tally
from reid_tracker.evaluation.identity import identity_figures, identity_tally
from reid_tracker.evaluation.overlap import EPSILON, MATCH_IOU, Overlaps, assign_each_frame, find_overlaps
from reid_tracker.motchallenge import (
    CLASS,
    CONFIDENCE,
    FRAME,
    FURTHEST,
    HEIGHT,
    IDENTITY,
    LEFT,
    MOST,
    WIDTH,
    read_rows,
    read_sequence_info,
)
from reid_tracker.writing import csv_table, write_whole

logger = logging.getLogger(__name__)

Figures = dict[str, dict[str, float]]

COMBINED = "COMBINED_SEQ"
# What a table on a screen shows.
SUMMARY_FIGURES = ("HOTA", "DetA", "AssA", "MOTA", "IDF1", "IDSW", "CLR_FP", "CLR_FN", "MT", "ML", "Frag")

GUESSED = "MOT17"
MOST_BOXES = 10_000  # in a frame
PEDESTRIAN = 1
CLASSES = range(1, 14)
# Classes that a result may cover unpunished; None where the truth has no classes.
DISTRACTORS: dict[str, tuple[int, ...] | None] = {
    "MOT15": None,
    "MOT16": (2, 7, 8, 12),
    "MOT17": (2, 7, 8, 12),
    "MOT20": (2, 6, 7, 8, 12),
    "DanceTrack": None,
    "SportsMOT": None,
}


def evaluate_mot(
    truth: str | Path,
    results: str | Path,
    benchmark: str | None = None,
    engine: Literal["native", "motmetrics"] = "native",
    sequences: Sequence[str] | None = None,
) -> Figures:
    """Compute HOTA, CLEAR and identity figures, per sequence and of all sequences together.

    Parameters
    ----------
    truth : str or Path
        A folder of sequences, ``<sequence>/gt/gt.txt`` and ``<sequence>/seqinfo.ini``, or one such sequence folder.
    results : str or Path
        A folder with ``<sequence>.txt`` for each sequence (other files in it are not looked at), or, for one sequence,
        its file.
    benchmark : str, optional
        Whose rules to prepare the results by: MOT15, MOT16, MOT17, MOT20, DanceTrack or SportsMOT. Without it, for each
        sequence: MOT15's when column 8 of its truth holds no classes (MOT15 has world coordinates there); else those of
        the benchmark that the sequence folder, its parent or the parent of that is named after; else MOT17's.
    engine : {"native", "motmetrics"}
        "native" gives TrackEval's figures; "motmetrics" gives CLEAR and identity figures by py-motmetrics as a second
        opinion on the same prepared data: `reid_tracker.evaluation.motmetrics_engine` says where the two differ.
    sequences : sequence of str, optional
        Evaluate only these. Without it every sequence of the truth must have a result.

    Returns
    -------
    dict
        ``{sequence: {figure: value}, "COMBINED_SEQ": {figure: value}}``, figures named and scaled (0 to 1) as TrackEval
        does. Combined figures are those of all boxes together, not means over the sequences.

    Raises
    ------
    UserError
        If something is missing, or a file holds what cannot be evaluated; the message names file, frame and fix.

    Examples
    --------
    >>> figures = evaluate_mot("MOT17/train", "runs/results")  # doctest: +SKIP
    >>> figures["COMBINED_SEQ"]["HOTA"]  # doctest: +SKIP
    0.6289
    """
    if engine not in ("native", "motmetrics"):
        raise UserError(f"{engine}: no such engine; give native or motmetrics.")
    if benchmark is not None:
        names = {name.lower(): name for name in DISTRACTORS}
        if benchmark.lower() not in names:
            raise UserError(f"{benchmark}: no such benchmark; give one of {', '.join(DISTRACTORS)}.")
        benchmark = names[benchmark.lower()]
    files = _pair_files(Path(truth), Path(results), sequences)
    prepared = {folder.name: prepare(folder, file, benchmark) for folder, file in files.items()}
    if engine == "motmetrics":
        from reid_tracker.evaluation.motmetrics_engine import motmetrics_figures  # it imports pandas: slow

        return motmetrics_figures(prepared, COMBINED)
    tallies = {name: _tally(data) for name, data in prepared.items()}
    tallies[COMBINED] = {name: sum(tally[name] for tally in tallies.values()) for name in next(iter(tallies.values()))}
    return {name: _figures(tally) for name, tally in tallies.items()}


def _tally(data: Overlaps) -> dict[str, Any]:
    """Count in one sequence all that the figures are computed from; tallies of sequences add up."""
    sizes = {
        "Dets": len(data.result_frame),
        "GT_Dets": len(data.truth_frame),
        "IDs": data.result_identity.max(initial=-1) + 1,
        "GT_IDs": data.truth_identity.max(initial=-1) + 1,
    }
    return hota_tally(data) | clear_tally(data) | identity_tally(data) | sizes


def _figures(tally: dict[str, Any]) -> dict[str, float]:
    sizes = {name: float(tally[name]) for name in ("Dets", "GT_Dets", "IDs", "GT_IDs")}
    return hota_figures(tally) | clear_figures(tally) | identity_figures(tally) | sizes


def _pair_files(truth: Path, results: Path, sequences: Sequence[str] | None) -> dict[Path, Path]:
    """Find the result file of each sequence folder."""
    if not truth.is_dir():
        raise UserError(f"{truth}: no such folder; truth is a folder with <sequence>/gt/gt.txt.")
    alone = (truth / "gt" / "gt.txt").is_file()
    folders = [truth.resolve()] if alone else sorted(path.parent.parent for path in truth.glob("*/gt/gt.txt"))
    known = {folder.name: folder for folder in folders}
    if not known:
        raise UserError(f"{truth}: no <sequence>/gt/gt.txt in there; truth is laid out like a MOTChallenge release.")
    if sequences is not None:
        if unknown := [name for name in sequences if name not in known]:
            raise UserError(f"{truth}: no sequence {', '.join(unknown)} there; it has {', '.join(known)}.")
        known = {name: known[name] for name in sequences}
    if not known:
        raise UserError("No sequence is chosen; name at least one.")
    if results.is_file():
        if len(known) > 1:
            raise UserError(
                f"{results}: one file, but the truth has {len(known)} sequences; give a folder of <sequence>.txt "
                "files, or the truth of one sequence."
            )
        return dict.fromkeys(known.values(), results)
    if not results.is_dir():
        raise UserError(f"{results}: no such file or folder; results are a folder of <sequence>.txt files.")
    if (results / "data").is_dir() and not any((results / f"{name}.txt").is_file() for name in known):
        results = results / "data"  # as TrackEval's trackers lie
    files = {folder: results / f"{name}.txt" for name, folder in known.items()}
    if missing := [file.name for file in files.values() if not file.is_file()]:
        raise UserError(
            f"{results}: no result file {', '.join(missing)}; add what is missing (an empty file says that nothing was "
            "found), or choose the sequences to evaluate (--sequence)."
        )
    return files


def prepare(folder: Path, result: Path, benchmark: str | None = None) -> Overlaps:
    """Read a sequence and its result, check both, and prepare them by the rules of the benchmark.

    Parameters
    ----------
    folder : Path
        The sequence: ``gt/gt.txt`` and ``seqinfo.ini``.
    result : Path
        Its result file.
    benchmark : str, optional
        A key of `DISTRACTORS`; found out when not given (see `evaluate_mot`).

    Raises
    ------
    UserError
        If a file is missing or holds what cannot be evaluated.
    """
    length = read_sequence_info(folder).length
    truth_file = folder / "gt" / "gt.txt"
    truth = _read_checked(truth_file, length)
    rows = _read_checked(result, length)
    if truth.shape[1] <= CONFIDENCE:
        raise UserError(
            f"{truth_file}: {truth.shape[1]} columns; truth needs a 7th, the flag: 0 for boxes to leave out."
        )
    _refuse(
        truth,
        truth[:, CONFIDENCE] % 1 != 0,
        truth_file,
        "has a fraction in column 7, as a detector's confidence; write the truth's flag there, 1 for boxes that count "
        "and 0 for those to leave out",
    )
    has_classes = truth.shape[1] > CLASS and bool(np.isin(truth[:, CLASS], CLASSES).all())
    named = _detect_benchmark(folder, has_classes)
    distractors = DISTRACTORS[benchmark or named or GUESSED]
    flat = (rows[:, WIDTH] <= 0) | (rows[:, HEIGHT] <= 0)
    _refuse(rows, flat, result, "has no width or height; leave such boxes out")
    if distractors is not None:
        if not has_classes:
            raise UserError(f"{truth_file}: column 8 holds no {benchmark} classes (1 to 13); give benchmark MOT15.")
        if rows.shape[1] > CLASS:
            other = rows[:, CLASS] > PEDESTRIAN
            _refuse(rows, other, result, "is of another class than 1, pedestrian (column 8); leave other classes out")

    overlaps = find_overlaps(
        *(truth[:, FRAME].astype(np.int64) - 1, truth[:, IDENTITY].astype(np.int64), truth[:, LEFT : LEFT + 4]),
        *(rows[:, FRAME].astype(np.int64) - 1, rows[:, IDENTITY].astype(np.int64), rows[:, LEFT : LEFT + 4]),
    )
    keep_truth = truth[:, CONFIDENCE] != 0
    keep_result = np.ones(len(rows), bool)
    if distractors is not None:
        near = np.flatnonzero(overlaps.iou >= MATCH_IOU - EPSILON)
        matches = assign_each_frame(overlaps, near, overlaps.iou[near])
        unpunished = np.isin(truth[overlaps.pair_truth[matches], CLASS], distractors)
        keep_result[overlaps.pair_result[matches[unpunished]]] = False
        keep_truth &= truth[:, CLASS] == PEDESTRIAN
    if len(truth) and not keep_truth.any() and not (benchmark or named):
        raise UserError(
            f"{truth_file}: none of its {len(truth)} boxes counts, by flag (column 7) or class (column 8). Write 1 for "
            "what counts, or give benchmark MOT15, which knows no classes."
        )
    left_out = np.count_nonzero(truth[:, CONFIDENCE] != 0) - np.count_nonzero(keep_truth)
    if left_out and not (benchmark or named):
        logger.warning(
            "%s: taken for %s's; %d boxes of other classes than 1 (column 8) are left out. Give --benchmark MOT15 to "
            "count every class.",
            truth_file,
            GUESSED,
            left_out,
        )
    return overlaps.select(keep_truth, keep_result)


def _detect_benchmark(folder: Path, has_classes: bool) -> str | None:
    """Tell the benchmark from what the sequence and the two folders above are called, and from the truth itself."""
    if not has_classes:
        return "MOT15"
    for part in reversed(folder.resolve().parts[-3:]):
        for name in DISTRACTORS:
            if re.search(rf"{name}(?!\d)", part, re.IGNORECASE):  # not MOT20 in "2DMOT2015"
                return name
    return None


def _read_checked(path: Path, length: int) -> np.ndarray:
    """Read a truth or result file, ordered by frame, and refuse what no figure can be computed from."""
    rows = read_rows(path)
    rows = rows[np.argsort(rows[:, FRAME], kind="stable")]
    finite = np.isfinite(rows[:, : CONFIDENCE + 1]).all(axis=1)
    _refuse(rows, ~finite, path, "is not finite; write numbers in the first 7 columns")
    names = rows[:, [FRAME, IDENTITY]]
    counted = (names % 1 == 0) & (np.abs(names) < MOST)
    _refuse(
        rows, ~counted.all(axis=1), path, "is no whole number that counts; write frame and identity as whole numbers"
    )
    beyond = (np.abs(rows[:, LEFT : LEFT + 4]) > FURTHEST).any(axis=1)
    _refuse(rows, beyond, path, "has a box that lies beyond any picture; write left, top, width and height in pixels")
    outside = (rows[:, FRAME] < 1) | (rows[:, FRAME] > length)
    _refuse(
        rows, outside, path, f"is not in the sequence; number frames from 1 to the seqLength in seqinfo.ini, {length}"
    )
    frames, counts = np.unique(rows[:, FRAME], return_counts=True)
    if counts.max(initial=0) > MOST_BOXES:
        frame = frames[counts.argmax()]
        raise UserError(f"{path}: {counts.max()} boxes in frame {frame:.12g}; more than {MOST_BOXES} are no picture's.")
    order = np.lexsort(names.T[::-1])
    repeated = np.zeros(len(rows), bool)
    repeated[order[1:]] = (np.diff(names[order], axis=0) == 0).all(axis=1)
    _refuse(rows, repeated, path, "is there twice; give each identity one box a frame, and each person an identity")
    return rows


def _refuse(rows: np.ndarray, bad: np.ndarray, path: Path, problem: str) -> None:
    """Raise a UserError that names the first bad row, if there is one."""
    if bad.any():
        frame, identity = rows[np.argmax(bad), [FRAME, IDENTITY]]
        raise UserError(f"{path}: identity {identity:.12g} in frame {frame:.12g} {problem}.")


def write_json(figures: Figures, path: str | Path) -> None:
    """Write figures as ``{sequence: {figure: value}}``, in one step, so that no half file is ever there.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    write_whole(path, (json.dumps(figures, indent=2) + "\n").encode())


def write_csv(figures: Figures, path: str | Path) -> None:
    """Write figures as one row a sequence under a row of names, in one step, so that no half file is ever there.

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    columns = ("sequence", *next(iter(figures.values())))
    write_whole(path, csv_table(columns, ([name, *values.values()] for name, values in figures.items())))
