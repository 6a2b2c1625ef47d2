"""What is left of tracking when the camera is bad: the same sequence corrupted in every way, beside itself clean.

All conditions are tracked side by side, so that each frame is decoded once. Two modes: end to end, the detector sees
the corrupted frame; with boxes given, only appearance does, and what a better detector could save is left out.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from reid_tracker.config import TrackConfig
from reid_tracker.detection.detector import Detector
from reid_tracker.errors import UserError
from reid_tracker.evaluation.corruptions import SEVERITIES
from reid_tracker.evaluation.mot import evaluate_mot
from reid_tracker.evaluation.video_corruptions import BLUR_AND_LIGHT, VIDEO_CORRUPTIONS, VideoCorruption
from reid_tracker.motchallenge import CONFIDENCE, FRAME, HEIGHT, LEFT, TOP, read_rows
from reid_tracker.pipeline.follow import Follower
from reid_tracker.pipeline.models import Models
from reid_tracker.results import RunSummary
from reid_tracker.tracking.tracker import Tracker
from reid_tracker.video.frames import Frame
from reid_tracker.video.settling import Settling
from reid_tracker.video.sinks import MotSink
from reid_tracker.video.sources import open_source
from reid_tracker.writing import write_whole

FIGURES = ("HOTA", "IDF1", "IDSW")


def evaluate_robustness(
    sequence: str | Path,
    truth: str | Path | None = None,
    config: TrackConfig | None = None,
    kinds: Sequence[str] = tuple(VIDEO_CORRUPTIONS),
    severities: Sequence[int] = SEVERITIES,
    progress: Callable[[int, int | None], None] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Track a sequence under each corruption and severity, and clean.

    Parameters
    ----------
    sequence : path
        A MOTChallenge sequence folder with pixels, or a video.
    truth : path, optional
        Its gt.txt; default: the sequence folder's own.
    config : TrackConfig, optional
        All settings; with ``detector.recorded`` the boxes of the clean frames are given in every condition, without
        their vectors, and move with the picture when the camera shakes.
    kinds, severities : sequence
        Of `VIDEO_CORRUPTIONS`, of 1 to 5.
    progress : callable, optional
        Called with the frames done and the frames in all, if known.
    seed : int
        Decides what the kinds leave open.

    Returns
    -------
    dict
        ``clean``: HOTA, IDF1 (0..1) and IDSW; ``corruptions``: for each kind and severity (as text) the same and
        `kept`, IDF1 as a share of the clean one; ``blur_and_light``: for each severity the mean of `kept` over the
        kinds of blur and light that were measured; `mode`, `frames`.

    Raises
    ------
    UserError
        If something given cannot be used or the sequence has no pixels.
    """
    config, sequence = config or TrackConfig(), Path(sequence)
    source = open_source(sequence, **config.source.frames())
    if not source.has_pixels:
        raise UserError(f"{sequence}: it has no pictures that could be corrupted; name one with pixels.")
    file = Path(truth) if truth else sequence / "gt" / "gt.txt"
    rows = read_rows(file)
    if not len(rows) or rows.shape[1] <= CONFIDENCE:
        raise UserError(f"{file}: truth needs rows of 7 columns: frame,id,left,top,width,height,flag.")
    models = Models(config, None, None)
    detector = models.detector_for(sequence, source)
    fixed = config.detector.recorded is not None
    detector_of_boxes: Any = _WithoutVectors(detector) if fixed else detector
    embedder, statistics = models.embedder_for(detector_of_boxes, source)
    height = float(np.median(rows[:, HEIGHT]))
    parts = file.resolve().parts  # the names of the folders above say whose rules hold
    conditions = [("clean", 1), *((kind, severity) for kind in kinds for severity in severities)]
    frames = 0
    with tempfile.TemporaryDirectory() as work:
        trackers = [
            _Run(
                VideoCorruption(kind, severity, height, seed),
                Follower(
                    source,
                    embedder,
                    Tracker(config.tracker, source.frame_rate, statistics),
                    None,
                    config,
                    RunSummary(source.name),
                ),
                config,
                Path(work) / str(place) / Path(*parts[-5:-2]),
            )
            for place, (kind, severity) in enumerate(conditions)
        ]
        for position, frame in enumerate(source):
            for each in trackers:
                if each.corruption.keeps(position):
                    each.step(frame, detector_of_boxes, fixed)
            frames = position + 1
            if progress is not None:
                progress(frames, source.frame_count)
        clean, *corrupted = (each.figures(rows) for each in trackers)
    table: dict[str, dict[str, dict[str, float]]] = {kind: {} for kind in kinds}
    for each, figures in zip(trackers[1:], corrupted, strict=True):
        kept = figures["IDF1"] / clean["IDF1"] if clean["IDF1"] else float("nan")
        table[each.corruption.kind][str(each.corruption.severity)] = {**figures, "kept": kept}
    bad = [kind for kind in kinds if kind in BLUR_AND_LIGHT]
    return {
        "sequence": source.name,
        "mode": "boxes given" if fixed else "end to end",
        "frames": frames,
        "clean": clean,
        "corruptions": table,
        "blur_and_light": {
            str(severity): float(np.mean([table[kind][str(severity)]["kept"] for kind in bad]))
            for severity in severities
            if bad
        },
    }


class _WithoutVectors:
    """Recorded boxes; the vectors beside them are those of clean frames."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    def detect(self, frame: Frame) -> Any:
        detections = self._detector.detect(frame)
        detections.data.pop("embedding", None)
        return detections


class _Run:
    """One condition: what is seen, and what is said of it, as `track` writes it, in a folder of its own."""

    def __init__(self, corruption: VideoCorruption, follower: Follower, config: TrackConfig, folder: Path) -> None:
        self.corruption, self._follower, output = corruption, follower, config.output
        self._times: dict[int, float] = {}
        self._folder, self._result = folder, folder / "result.txt"
        sink = MotSink(self._result)
        self._sink = Settling(sink, output.bridge_seconds, output.smooth_boxes, lead_in_seconds=output.lead_in_seconds)

    def step(self, frame: Frame, detector: Detector, fixed: bool) -> None:
        """Track one frame; boxes that are given were found on the clean one."""
        assert frame.image is not None
        number, time = frame.index + 1, frame.timestamp
        self._times[number] = time
        corrupted = Frame(self.corruption.apply(frame.image, frame.index, time), frame.index, time)
        detections = detector.detect(corrupted)
        if fixed:
            detections.xyxy = (detections.xyxy + np.tile(self.corruption.shift(time), 2)).astype(np.float32)
        self._sink.write(self._follower.follow(corrupted, detections))

    def figures(self, truth: np.ndarray) -> dict[str, float]:
        """Figures on the frames seen, the truth where the picture was."""
        self._sink.close()
        write_truth(self._folder, truth, self._times, self.corruption)
        figures = evaluate_mot(self._folder, self._result)[self._folder.name]
        return {name: figures[name] for name in FIGURES}


def write_truth(folder: Path, truth: np.ndarray, times: dict[int, float], corruption: VideoCorruption) -> None:
    """Write the truth of the frames that were seen, moved as they were, as a sequence folder.

    Parameters
    ----------
    folder : Path
        It is made, with gt/gt.txt and seqinfo.ini.
    truth : ndarray [R, C]
        Rows of a gt.txt.
    times : dict
        Time in s of each frame seen, by its number from 1.
    corruption : VideoCorruption
        What moved them.
    """
    rows = truth[np.isin(truth[:, FRAME], list(times))].copy()
    if len(rows):
        rows[:, [LEFT, TOP]] += [corruption.shift(times[int(number)]) for number in rows[:, FRAME]]
    (folder / "gt").mkdir(parents=True)
    np.savetxt(folder / "gt" / "gt.txt", rows, delimiter=",", fmt="%.10g")
    info = f"[Sequence]\nname={folder.name}\nframeRate=1\nseqLength={max(times)}\n"
    (folder / "seqinfo.ini").write_text(info, encoding="utf-8")


def draw_robustness(figures: dict[str, Any], path: Path) -> None:
    """Draw the share of the clean IDF1 kept, a group of bars for each kind, a bar for each severity (PNG).

    Raises
    ------
    UserError
        If the file cannot be written.
    """
    table = figures["corruptions"]
    bars = [(kind, severity, cell["kept"]) for kind, row in table.items() for severity, cell in row.items()]
    left, width, thick, gap, top = 190, 600, 16, 14, 50
    picture = np.full((top + len(bars) * thick + len(table) * gap + 20, left + width + 60, 3), 255, dtype=np.uint8)

    def write(text: str, x: int, y: int) -> None:
        cv2.putText(picture, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (40, 40, 40), 1, cv2.LINE_AA)

    write(f"IDF1 kept of clean, {figures['sequence']}, {figures['mode']}", 10, 20)
    for tenth in range(0, 11, 2):
        x = left + width * tenth // 10
        cv2.line(picture, (x, top - 6), (x, picture.shape[0] - 10), (220, 220, 220), 1)
        write(f"{10 * tenth} %", x - 14, top - 10)
    y, before = top, ""
    for kind, severity, kept in bars:
        if kind != before:
            y += gap if before else 0
            write(kind, 10, y + thick)
        before = kind
        end = left + int(width * min(np.nan_to_num(kept), 1.05))
        shade = 60 + 30 * (5 - int(severity))
        cv2.rectangle(picture, (left, y + 1), (end, y + thick - 2), (200, shade + 30, shade), cv2.FILLED)
        write(severity, left - 20, y + thick - 3)
        y += thick
    write_whole(path, cv2.imencode(".png", picture)[1].tobytes())
