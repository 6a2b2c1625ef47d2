"""Tracks to and from annotation tools: CVAT (video 1.1), COCO, Label Studio, YOLO labels with identities; and tables.

What is read is told by its ending and content (`read_tracks`); what is written is named (`FORMATS`).
"""

import io
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

import numpy as np

from reid_tracker.errors import UserError
from reid_tracker.exchange.tracks import PERSON, Tracks, read_results
from reid_tracker.inputs import Inputs
from reid_tracker.motchallenge import MOST_FRAMES, format_row
from reid_tracker.ownership import claim, source_marks
from reid_tracker.reading import parse_json, read_text
from reid_tracker.video.frames import Source
from reid_tracker.video.sources import open_source
from reid_tracker.writing import csv_table, write_whole


@dataclass(frozen=True, slots=True)
class Video:
    """What a format asks of the video: its name, size in px (0 unknown), frames a second, and length in frames."""

    name: str = "video"
    width: int = 0
    height: int = 0
    frame_rate: float = 25.0
    frames: int = 0

    @classmethod
    def of(cls, source: Source) -> "Video":
        """Take it from an opened source."""
        return cls(source.name, source.width, source.height, source.frame_rate, source.frame_count or 0)


def convert(
    source: Path | str,
    output: Path | str,
    to: str,
    video: Path | str | None = None,
    overwrite: bool = False,
) -> int:
    """Write tracks in another format.

    Parameters
    ----------
    source : path
        What `track` wrote (.txt, .jsonl), or what one of `FORMATS` looks like: CVAT's XML, JSON of COCO or Label
        Studio, a folder of YOLO labels.
    output : path
        The file, or the folder for those of `FOLDERS`; only this user may read it.
    to : str
        One of `FORMATS` or `FOLDERS`.
    video : path, optional
        The video; formats that give boxes as shares of the picture need it.
    overwrite : bool
        Replace a file that another program wrote.

    Returns
    -------
    int
        How many boxes were written.

    Raises
    ------
    UserError
        If something is missing, not what it should be, or would be written over.
    """
    source, output = Path(source), Path(output).expanduser()
    if to not in (*FORMATS, *FOLDERS):
        raise UserError(f"--to {to}: there are {', '.join((*FORMATS, *FOLDERS))}.")
    about = Video.of(open_source(video)) if video is not None else Video(source.stem)
    tracks = read_tracks(source, about)
    untold = np.isnan(tracks.seconds)
    if video is not None and untold.any():
        tracks = replace(tracks, seconds=np.where(untold, (tracks.frame - 1) / about.frame_rate, tracks.seconds))
    if to in SIZED and not about.width:
        raise UserError(f"--to {to}: needs the size of the picture; name the video with --video.")
    if to in INSIDE and about.width:
        tracks = tracks.within(about.width, about.height)
    inputs = Inputs({"tracks": [source], "video": [video]})
    files, folders = ([], [output]) if to in FOLDERS else ([output], [])
    with claim(files, inputs, source_marks(source), overwrite, folders, private=True) as claimed:
        if to in FOLDERS:
            place = claimed.begin(output)
            for name, text in FOLDERS[to](tracks, about):
                write_whole(place / name, text.encode("utf-8", "replace"), private=True)
        else:
            claimed.write(output, FORMATS[to](tracks, about))
        claimed.complete()
    return len(tracks)


def read_tracks(path: Path | str, video: Video | None = None) -> Tracks:
    """Read tracks of any of these formats, told by the file's ending and content; parameters as for `convert`."""
    path, video = Path(path), video or Video()
    if path.is_dir():
        return _read_yolo(path, video)
    if path.suffix.lower() == ".xml":
        return _read_cvat(path, video)
    if path.suffix.lower() == ".json":
        return _read_json(path, video)
    return read_results(path)


def _each_identity(tracks: Tracks) -> Iterator[tuple[int, np.ndarray]]:
    """Each identity with its rows in the order of frames."""
    for number in np.unique(tracks.identity).tolist():
        yield number, np.flatnonzero(tracks.identity == number)


def _once_a_frame(tracks: Tracks, rows: np.ndarray) -> np.ndarray:
    """One row a frame, of two the surer one: annotation tools hold one box of a track in a frame."""
    surest = rows[np.lexsort((-tracks.confidence[rows], tracks.frame[rows]))]
    return surest[np.unique(tracks.frame[surest], return_index=True)[1]]


def _write_mot(tracks: Tracks, video: Video) -> bytes:
    rows = zip(tracks.frame.tolist(), tracks.identity.tolist(), tracks.xyxy, tracks.confidence.tolist(), strict=True)
    return "".join(format_row(*row) for row in rows).encode()


def _truth_files(tracks: Tracks, video: Video) -> Iterator[tuple[str, str]]:
    """A MOTChallenge sequence whose ground truth these are, for `evaluate mot --truth`."""
    frames = max(video.frames, int(tracks.frame.max(initial=0)), 1)
    about = {
        "name": video.name,
        "imDir": "img1",
        "frameRate": f"{video.frame_rate:g}",
        "seqLength": frames,
        "imWidth": video.width,
        "imHeight": video.height,
        "imExt": ".jpg",
    }
    yield "seqinfo.ini", "[Sequence]\n" + "".join(f"{name}={value}\n" for name, value in about.items())
    counted = replace(tracks, confidence=np.ones(len(tracks)))  # 0 there leaves a box out
    yield "gt/gt.txt", _write_mot(counted, video).decode()


def _write_csv(tracks: Tracks, video: Video) -> bytes:
    columns = tracks.columns()
    if np.isnan(tracks.seconds).any():
        columns["seconds"] = [None if np.isnan(each) else each for each in tracks.seconds.tolist()]  # an empty cell
    return csv_table(columns, zip(*(np.asarray(each).tolist() for each in columns.values()), strict=True))


def _write_parquet(tracks: Tracks, video: Video) -> bytes:
    import polars

    file = io.BytesIO()
    polars.DataFrame(tracks.columns()).write_parquet(file)
    return file.getvalue()


def _write_cvat(tracks: Tracks, video: Video) -> bytes:
    """CVAT for video 1.1: a track an identity, a keyframe a frame, "outside" from where it is out of sight."""
    labels = "".join(
        f"<label><name>{_escaped(each)}</name><attributes><attribute><name>identity</name><mutable>False</mutable>"
        "<input_type>number</input_type><default_value>0</default_value><values>0\n1000000000\n1</values></attribute>"
        "</attributes></label>"
        for each in sorted(set(tracks.label))
    )
    size = f"<original_size><width>{video.width}</width><height>{video.height}</height></original_size>"
    frames = max(video.frames, int(tracks.frame.max(initial=0)))
    task = f"<size>{frames}</size><mode>interpolation</mode><labels>{labels}</labels>{size if video.width else ''}"
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        f"<annotations><version>1.1</version><meta><task>{task}</task></meta>",
    ]
    for place, (number, rows) in enumerate(_each_identity(tracks)):
        rows = _once_a_frame(tracks, rows)
        lines.append(f'<track id="{place}" label={quoteattr(_plain(tracks.label[rows[0]]))} source="auto">')
        lines.append(f'<attribute name="identity">{number}</attribute>')
        for row, following in pairwise([*rows.tolist(), None]):
            frame = int(tracks.frame[row]) - 1
            lines.append(_cvat_box(frame, tracks.xyxy[row], outside=False, occluded=tracks.confidence[row] == 0))
            if (following is None and frame + 1 < frames) or (
                following is not None and tracks.frame[following] > frame + 2
            ):
                lines.append(_cvat_box(frame + 1, tracks.xyxy[row], outside=True, occluded=False))
        lines.append("</track>")
    return "\n".join([*lines, "</annotations>", ""]).encode()


def _cvat_box(frame: int, xyxy: np.ndarray, outside: bool, occluded: bool) -> str:
    corners = " ".join(
        f'{name}="{value:.2f}"' for name, value in zip(("xtl", "ytl", "xbr", "ybr"), xyxy.tolist(), strict=True)
    )
    flags = f'keyframe="1" outside="{int(outside)}" occluded="{int(occluded)}" z_order="0"'
    return f'<box frame="{frame}" {flags} {corners}/>'


def _plain(text: str) -> str:
    """A label without what no XML may hold."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)


def _escaped(text: str) -> str:
    return quoteattr(_plain(text))[1:-1]


def _read_cvat(path: Path, video: Video) -> Tracks:
    """CVAT writes every frame of a track, those between keyframes too; an identity it does not know is a track's id."""
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        root = fromstring(read_text(path).encode())
        if root.tag != "annotations":
            raise UserError(f"{path}: not CVAT's 'for video 1.1' (no <annotations>).")
        rows = []
        for track in root.iter("track"):
            told = next((each.text for each in track.iter("attribute") if each.get("name") == "identity"), None)
            identity = int(told) if told else int(track.attrib["id"]) + 1
            for box in track.iter("box"):
                if box.get("outside") != "1":
                    corners = [float(box.attrib[name]) for name in ("xtl", "ytl", "xbr", "ybr")]
                    rows.append([int(box.attrib["frame"]) + 1, identity, *corners, 1.0, track.get("label")])
    except (ElementTree.ParseError, DefusedXmlException, KeyError, ValueError) as error:
        raise UserError(f"{path}: not CVAT's 'for video 1.1' ({error}).") from error
    return Tracks.from_rows(rows, path)


def _write_coco(tracks: Tracks, video: Video) -> bytes:
    """COCO: an image a frame, annotations with ``track_id``; of a known video also frames without people."""
    labels = sorted(set(tracks.label)) or [PERSON]
    images = [
        {
            "id": number,
            "file_name": f"frame_{number - 1:06d}.jpg",
            "width": video.width,
            "height": video.height,
            "frame_index": number - 1,
        }
        for number in np.union1d(tracks.frame, np.arange(1, video.frames + 1)).tolist()
    ]
    sizes = np.hstack([tracks.xyxy[:, :2], tracks.xyxy[:, 2:] - tracks.xyxy[:, :2]]).round(2)
    annotations = [
        {
            "id": row + 1,
            "image_id": int(tracks.frame[row]),
            "category_id": labels.index(tracks.label[row]) + 1,
            "bbox": sizes[row].tolist(),
            "area": round(float(sizes[row, 2] * sizes[row, 3]), 2),
            "iscrowd": 0,
            "track_id": int(tracks.identity[row]),
            "score": round(float(tracks.confidence[row]), 4),
        }
        for row in range(len(tracks))
    ]
    categories = [{"id": place, "name": name} for place, name in enumerate(labels, 1)]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories}).encode()


def _read_json(path: Path, video: Video) -> Tracks:
    """COCO's is an object with annotations, Label Studio's a list of tasks (or one)."""
    try:
        content = parse_json(read_text(path))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}).") from error
    try:
        if isinstance(content, dict) and "images" in content:
            return Tracks.from_rows(list(_coco_rows(content)), path)
        return Tracks.from_rows(list(_label_studio_rows(content, video, path)), path)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise UserError(f"{path}: neither COCO with track_id nor Label Studio's video boxes ({error!r}).") from error


def _coco_rows(content: dict[str, Any]) -> Iterator[list[Any]]:
    labels = {each["id"]: each["name"] for each in content["categories"]}
    frames = {}
    for place, image in enumerate(sorted(content["images"], key=lambda each: each["id"])):
        numbers = re.findall(r"\d+", Path(str(image.get("file_name", ""))).stem)
        frames[image["id"]] = image.get("frame_index", int(numbers[-1]) if numbers else place) + 1
    if frames and min(frames.values()) > 1 and not any("frame_index" in each for each in content["images"]):
        frames = {number: frame - 1 for number, frame in frames.items()}  # files that count from 1
    for each in content["annotations"]:
        told = each.get("track_id", (each.get("attributes") or {}).get("track_id"))
        if told is None:
            raise KeyError("track_id")
        left, top, width, height = each["bbox"]
        corners = (left, top, left + width, top + height)
        yield [frames[each["image_id"]], told, *corners, each.get("score", 1.0), labels[each["category_id"]]]


def _write_label_studio(tracks: Tracks, video: Video) -> bytes:
    """One task with a prediction: a region an identity, boxes in percent, switched off where it is out of sight."""
    regions = []
    share = np.array([video.width, video.height] * 2, dtype=np.float64) / 100
    for number, rows in _each_identity(tracks):
        rows = _once_a_frame(tracks, rows)
        sequence = []
        for row, following in pairwise([*rows.tolist(), None]):
            x1, y1, x2, y2 = (tracks.xyxy[row] / share).round(4).tolist()
            goes_on = following is not None and tracks.frame[following] == tracks.frame[row] + 1
            sequence.append(
                {
                    "frame": int(tracks.frame[row]),
                    "time": round((int(tracks.frame[row]) - 1) / video.frame_rate, 4),
                    "enabled": bool(goes_on),
                    "x": x1,
                    "y": y1,
                    "width": round(x2 - x1, 4),
                    "height": round(y2 - y1, 4),
                    "rotation": 0,
                }
            )
        value = {
            "framesCount": max(video.frames, int(tracks.frame.max(initial=0))),
            "sequence": sequence,
            "labels": [tracks.label[rows[0]]],
        }
        about = {"id": str(number), "type": "videorectangle", "from_name": "box", "to_name": "video"}
        regions.append({**about, "origin": "prediction", "value": value})
    task = {"data": {"video": video.name}, "predictions": [{"model_version": "reid-tracker", "result": regions}]}
    return json.dumps([task]).encode()


def _label_studio_rows(content: Any, video: Video, path: Path) -> Iterator[list[Any]]:
    if not video.width:
        raise UserError(f"{path}: Label Studio gives boxes as shares of the picture; name the video with --video.")
    tasks = content if isinstance(content, list) else [content]
    if len(tasks) != 1:
        raise UserError(f"{path}: holds {len(tasks)} tasks; export one video at a time.")
    share = np.array([video.width, video.height] * 2) / 100
    # What was reviewed takes precedence over what was predicted.
    made = tasks[0].get("annotations") or tasks[0]["predictions"]
    regions = [each for each in made[-1]["result"] if each["type"] == "videorectangle"]
    whole = all(str(each["id"]).isdecimal() for each in regions)  # a region drawn by hand has letters there
    for place, region in enumerate(regions, 1):
        identity = int(region["id"]) if whole else place
        label = (region["value"].get("labels") or [PERSON])[0]
        sequence = sorted(region["value"]["sequence"], key=lambda each: each["frame"])
        for one, following in pairwise([*sequence, None]):
            last = following["frame"] if following and one.get("enabled", True) else one["frame"] + 1
            begin = _corners(one)
            end = _corners(following) if following else begin
            if not 1 <= one["frame"] <= last <= (video.frames or MOST_FRAMES) + 1:
                raise UserError(f"{path}: frame {one['frame']} or {last - 1} is none of the video's.")
            for frame in range(one["frame"], last):
                part = (frame - one["frame"]) / max(last - one["frame"], 1)
                yield [frame, identity, *((begin + part * (end - begin)) * share).tolist(), 1.0, label]


def _corners(box: dict[str, Any]) -> np.ndarray:
    return np.array([box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"]], dtype=np.float64)


def _yolo_files(tracks: Tracks, video: Video) -> Iterator[tuple[str, str]]:
    """A file a frame, as ``yolo track save_txt save_conf``: class, centre, size (shares), confidence, identity."""
    labels = sorted(set(tracks.label)) or [PERSON]
    lines = defaultdict(list)
    share = np.array([video.width, video.height] * 2)
    centre, size = tracks.xyxy[:, :2] + tracks.xyxy[:, 2:], tracks.xyxy[:, 2:] - tracks.xyxy[:, :2]
    boxes = np.hstack([centre / 2, size]) / share
    for row in range(len(tracks)):
        box = " ".join(f"{value:.6f}" for value in boxes[row])
        lines[int(tracks.frame[row])].append(
            f"{labels.index(tracks.label[row])} {box} {tracks.confidence[row]:.4f} {tracks.identity[row]}\n"
        )
    for number, found in lines.items():
        yield f"{video.name}_{number}.txt", "".join(found)
    yield "classes.txt", "".join(f"{' '.join(name.split())}\n" for name in labels)  # a line each


def _read_yolo(folder: Path, video: Video) -> Tracks:
    if not video.width:
        raise UserError(f"{folder}: YOLO labels give boxes as shares of the picture; name the video with --video.")
    named = folder / "classes.txt"
    labels = read_text(named).rstrip("\n").split("\n") if named.is_file() else [PERSON]
    files = [each for each in sorted(folder.glob("*.txt")) if each != named]
    if not files:
        raise UserError(f"{folder}: no labels there; a file a frame, NAME_1.txt, is looked for.")
    rows = []
    for file in files:
        number = re.search(r"(\d+)$", file.stem)
        for line in read_text(file).splitlines():
            fields = line.split()
            if number is None or len(fields) not in (6, 7):
                raise UserError(f"{file}: not a frame's labels with identities (class x y w h [confidence] id).")
            try:
                kind, x, y, width, height = (float(each) for each in fields[:5])
                identity = float(fields[-1])
                if not (kind >= 0 and kind.is_integer() and identity.is_integer()):
                    raise ValueError
                left, top = (x - width / 2) * video.width, (y - height / 2) * video.height
                corners = (left, top, left + width * video.width, top + height * video.height)
                label = labels[int(kind)] if int(kind) < len(labels) else str(int(kind))
                confidence = float(fields[5]) if len(fields) == 7 else 1.0
                rows.append([int(number[1]), identity, *corners, confidence, label])
            except ValueError as error:
                raise UserError(f"{file}: {line.strip()[:80]!r} are no labels.") from error
    return Tracks.from_rows(rows, folder)


FORMATS: dict[str, Callable[[Tracks, Video], bytes]] = {
    "mot": _write_mot,
    "cvat": _write_cvat,
    "coco": _write_coco,
    "label-studio": _write_label_studio,
    "csv": _write_csv,
    "parquet": _write_parquet,
}
FOLDERS: dict[str, Callable[[Tracks, Video], Iterator[tuple[str, str]]]] = {
    "yolo": _yolo_files,
    "mot-truth": _truth_files,
}
SIZED = ("label-studio", "yolo", "mot-truth")  # which cannot be written without the size of the picture
INSIDE = ("cvat", "coco", "label-studio", "yolo")  # whose readers refuse or move boxes that go beyond the picture
