"""The settings of `reid-tracker track`, and what other commands share of them."""

from typing import Any, Literal

from pydantic import Field

from reid_tracker.config.groups import Settings, setting
from reid_tracker.motchallenge import MOST_FRAMES, RATES


class SourceSettings(Settings):
    """Which frames are taken."""

    fps: float | None = setting(
        None, "Frames per second; overrides the container's own clock.", ge=RATES[0], le=RATES[1]
    )
    clock: str | None = setting(
        None,
        "When the video began, for the times in a report: 2026-11-29 14:00:05, or file = as the container says; null = "
        "not known.",
    )
    start: str | int | None = setting(None, "First frame: a number from 1, or a time such as 12.5s or 1:30.")
    end: str | int | None = setting(None, "Last frame, the same way; it is included.")
    stride: int = setting(
        1, "Take every n-th frame. Raising it is faster but people move further between frames.", ge=1, le=MOST_FRAMES
    )
    roi: str | None = setting(
        None, 'Polygon "x1,y1 x2,y2 x3,y3 ..." in px: only detections whose foot point is inside are tracked.'
    )
    resume: str | None = setting(
        None, "State that an earlier run saved: this video follows on that one, with its identities."
    )

    def frames(self) -> dict[str, Any]:
        """What `open_source` takes."""
        return self.model_dump(include={"fps", "start", "end", "stride"})


class DetectorSettings(Settings):
    """Where boxes come from."""

    model: str | None = setting(
        None, "A YOLO that ultralytics loads: a path, or a name that ultralytics downloads; null = the bundled one."
    )
    recorded: str | None = setting(
        None,
        "Recorded detections instead of a network: a MOT det.txt or an .npz; {source} and {name} stand for each "
        "source's path and name.",
    )
    classes: list[str | int] | None = setting(
        None, "Class names or numbers to track; null = person where the model knows one, otherwise all."
    )
    confidence: float = setting(0.1, "Boxes below this are never seen by the tracker.", ge=0, le=1)
    image_size: int | None = setting(None, "Longer side the network sees, px; null = chosen for each video.", ge=32)
    speed: Literal["auto", "fast", "accurate"] = setting(
        "auto", "Sizes to choose from: up to the model's own (fast), 1.5 times (auto) or four times that (accurate)."
    )


class EmbedderSettings(Settings):
    """Where appearance comes from."""

    model: str | None = setting(None, "Appearance network (.safetensors, .onnx, .xml); null = the bundled one.")
    enabled: bool = setting(True, "false = motion only: faster, but identities break at long occlusions and crossings.")
    refresh_seconds: float = setting(
        0.5,
        "People who are certain by motion alone get a new embedding only after so long; 0 = in each frame. Higher is "
        "faster where people stand apart.",
        ge=0,
    )


class TrackerSettings(Settings):
    """How detections become identities. Costs run from 0 (certain) to 1 (impossible)."""

    high_confidence: float = setting(
        0.35, "Boxes from here on are matched first. Lower catches dim people, but false boxes disturb.", ge=0, le=1
    )
    low_confidence: float = setting(
        0.1, "Boxes down to here may carry on a track that nothing better matched (occluded people).", ge=0, le=1
    )
    new_confidence: float = setting(
        0.65, "A new person needs a box at least this sure. Raise it against false identities.", ge=0, le=1
    )
    confirm_sightings: int = setting(
        3, "Sightings in a row before a new person is reported. Raise it against false identities.", ge=1
    )
    lost_seconds: float = setting(
        3.0, "How long someone out of sight is looked for. Longer survives more but risks a stranger's match.", ge=0
    )
    motion_limit: float = setting(
        0.8,
        "Largest cost of a match: 1 - IoU, mixed with the distance of appearance where there is a vector. Raise it for "
        "fast motion or low frame rates; lower it when strangers swap.",
        gt=0,
        le=1,
    )
    appearance_weight: float = setting(
        0.5, "Share of appearance in the fused cost; the rest is motion. Raise it for a strong network.", ge=0, le=1
    )
    memory_seconds: float = setting(
        600.0, "How long someone who left is remembered; only appearance can bring them back. 0 = not at all.", ge=0
    )
    return_false_match_rate: float = setting(
        0.01,
        "Share of strangers who may be taken for someone who left. Raise it (0.05) to recognise more returns; lower it "
        "(0.0001) where a wrong number is worse than a new one.",
        gt=0,
        lt=1,
    )
    return_seconds: float = setting(
        15.0,
        "How long after being seen whole a newcomer may still turn out to be someone known: the longer, the more are, "
        "and the later their number may change. The gallery enrols no one before.",
        ge=0,
    )
    class_agnostic: bool = setting(
        False, "true = classes play no part in matching; else only a box in its very place may be of another class."
    )
    camera_motion: bool = setting(
        True,
        "true = follow the camera's own motion (hand-held, panning): some ms a frame, 1 to 2 while it stands.",
    )


class CountSettings(Settings):
    """Who passes where, by their feet; each identity is counted once, and every passage too."""

    lines: list[str] = setting([], 'Lines "NAME=x1,y1 x2,y2" in px. Seen from the first point, in is to the left.')
    zones: list[str] = setting([], 'Zones "NAME=x1,y1 x2,y2 x3,y3 ..." in px.')
    places: str | None = setting(None, "File of lines and zones, as reid-tracker places writes it.")
    loitering_seconds: float | None = setting(
        None, "People who stay in a zone for longer are said to loiter, in <name>_counts.json.", gt=0
    )


class ShownSettings(Settings):
    """How people are shown and written, in files and live."""

    private: bool = setting(True, "true = only this user may read what is written; false = as the umask says.")
    blur_people: bool = setting(False, "Blur everyone that the detector sees, in every picture.")
    smooth_boxes: bool = setting(
        True,
        "true = boxes without the detector's jitter, in files of recorded video smoothed from both sides; false = as "
        "detected.",
    )
    bridge_seconds: float = setting(
        1.0,
        "People missed for no longer than this are still shown and written, where expected, with confidence 0; less "
        "where people are hard to foresee. In files of recorded video they are on the straight line to where "
        "they are seen again. 0 = only what is detected.",
        ge=0,
    )
    trail_seconds: float = setting(2.0, "Length of the trail behind each person, s; 0 = none.", ge=0)


class OutputSettings(ShownSettings):
    """What is written. With nothing asked for: an annotated video and a MOT file."""

    folder: str = setting(
        "runs", "Results go to FOLDER/<source name>.*; or to a URL that fsspec opens: s3://bucket/results."
    )
    video: bool = setting(False, "Annotated H.264 video, <name>.mp4")
    mot: bool = setting(False, "MOTChallenge text, <name>.txt")
    jsonl: bool = setting(False, "JSON lines, one object a frame, <name>.jsonl")
    parquet: bool = setting(False, "A table of all boxes for data frames, <name>.parquet")
    crops: bool = setting(False, "Crops per identity, <name>_crops/<identity>/")
    report: bool = setting(
        False, "Who was there, when, how long, where: <name>_people.csv, <name>_visits.csv and <name>_report.html"
    )
    overwrite: bool = setting(
        False, "true = replace files that this program did not write, or wrote of another source; never an input."
    )
    lead_in_seconds: float = setting(
        1.0,
        "Files of recorded video show newcomers from their first weak boxes on, up to so long before the tracker was "
        "sure of them; 0 = not.",
        ge=0,
    )
    save_state: str | None = setting(None, "File for what the tracker knows after the last frame, to resume from.")


class RefineSettings(Settings):
    """Offline refinement of recorded video, with the future known."""

    enabled: bool = setting(False, "true = look back; the video is read a second time where pictures are written.")
    split_distance: float = setting(
        0.6,
        "Calibrated distance (0 same, 1 stranger) of the appearance before and after, from which a person is cut in "
        "two. Lower repairs more swaps and cuts more people.",
        gt=0,
    )
    link_limit: float = setting(
        0.3,
        "Largest cost (0 certain) at which two pieces become one person. Raise it to join more, also strangers.",
        ge=0,
    )
    link_seconds: float = setting(600.0, "Longest absence that is bridged; 0 = link nothing.", ge=0)
    refused: str | None = setting(
        None,
        'A report of an earlier run (<name>_refined.json, copied) in which joins were given "refused": true; these are '
        "not made again.",
    )
    fill_seconds: float = setting(2.0, "Longest gap that is filled in with a straight line; 0 = none.", ge=0)


class GallerySettings(Settings):
    """Identities that outlive the run."""

    where: str | None = setting(
        None, "Folder, or postgresql:// URL: people in it are recognised, new ones enrolled; null = none."
    )
    retention_days: float | None = setting(
        None, "People unseen by all runs for so long are forgotten before this one begins; null = never.", gt=0
    )
    save_seconds: float = setting(60.0, "How often a running video's people are saved: what a kill may lose.", gt=0)


class WorkerSettings(Settings):
    """Many sources at once, each a task of Ray (extra ray)."""

    count: int = setting(0, "Sources tracked at a time on this machine; 0 = one, in this process.", ge=0)
    ray: str | None = setting(
        None, "Address of a running Ray cluster, or auto; its nodes must see the same files. null = this machine."
    )
    threads: int = setting(0, "Processors of each worker; 0 = this machine's shared out, in a cluster one.", ge=0)
    gpus: float = setting(0.0, "GPUs of each worker; a fraction lets several share one.", ge=0)
    timeout: float | None = setting(None, "A source that takes longer is given up, s; null = never.", gt=0)
    again: bool = setting(False, "true = also what an earlier run with these settings has finished.")


class RunConfig(Settings):
    """What runs the networks, in every command that tracks."""

    device: str = setting("auto", "auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:1, mps")
    backend: Literal["auto", "torch", "onnx", "openvino"] = setting(
        "auto",
        "What runs the networks. auto = OpenVINO for the bundled ones on a CPU, for others what their file is for; "
        "onnx and openvino convert a checkpoint once.",
    )


class TrackConfig(RunConfig):
    """All settings of ``reid-tracker track``."""

    source: SourceSettings = Field(default_factory=SourceSettings, description="Which frames are taken.")
    detector: DetectorSettings = Field(default_factory=DetectorSettings, description="Where boxes come from.")
    embedder: EmbedderSettings = Field(default_factory=EmbedderSettings, description="Where appearance comes from.")
    tracker: TrackerSettings = Field(default_factory=TrackerSettings, description="How boxes become identities.")
    count: CountSettings = Field(default_factory=CountSettings, description="Who passes where; <name>_counts.json.")
    output: OutputSettings = Field(default_factory=OutputSettings, description="What is written.")
    refine: RefineSettings = Field(
        default_factory=RefineSettings,
        description="Offline refinement of recorded video, with the future known: <name>_refined.*",
    )
    gallery: GallerySettings = Field(default_factory=GallerySettings, description="Identities that outlive the run.")
    workers: WorkerSettings = Field(
        default_factory=WorkerSettings, description="Many sources at once, each a task of Ray (extra ray)."
    )
