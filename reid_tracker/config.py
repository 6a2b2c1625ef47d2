"""Every setting, its default and its meaning: the only source of defaults.

``reid-tracker config track`` writes them out as YAML; configs/*.yaml are that output. A file is read back with every
key checked: an unknown one is refused with the name of the nearest known one, an impossible value by name and reason.
"""

import difflib
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator

from reid_tracker.errors import UserError
from reid_tracker.reading import parse_yaml, read_text

S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """A group of settings: unknown names and impossible values are errors, also on assignment."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)
    _file: Path | None = PrivateAttr(None)

    @property
    def file(self) -> Path | None:
        """The file that `load` read them from: an input of the run, which its results must not overwrite."""
        return self._file

    def __eq__(self, other: object) -> bool:
        """Equal settings are equal wherever they were read from."""
        return type(self) is type(other) and self.__dict__ == other.__dict__


def setting(default: Any, description: str, **limits: Any) -> Any:
    """A setting with its comment."""
    return Field(default=default, description=description, **limits)


class SourceSettings(Settings):
    """Which frames are taken."""

    fps: float | None = setting(None, "Frames per second; overrides the container's own clock.", gt=0)
    clock: str | None = setting(
        None,
        "When the video began, for the times in a report: 2026-11-29 14:00:05, or file = as the container says; null = "
        "not known.",
    )
    start: str | int | None = setting(None, "First frame: a number from 1, or a time such as 12.5s or 1:30.")
    end: str | int | None = setting(None, "Last frame, the same way; it is included.")
    stride: int = setting(
        1, "Take every n-th frame. Raising it is faster but people move further between frames.", ge=1
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
        "auto", "Sizes to choose from: up to the model's own (fast), 1.5 times (auto) or twice that (accurate)."
    )


class EmbedderSettings(Settings):
    """Where appearance comes from."""

    model: str | None = setting(None, "Appearance network (.safetensors, .onnx, .xml); null = the bundled one.")
    enabled: bool = setting(True, "false = motion only: faster, but identities break at long occlusions and crossings.")
    refresh_seconds: float = setting(
        0.5,
        "Whom motion alone identifies with certainty is described again only after so long; 0 = in each frame. Higher "
        "is faster where people stand apart.",
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
    low_limit: float = setting(0.5, "The same for low-confidence boxes, whose place is less sure.", gt=0, le=1)
    appearance_weight: float = setting(
        0.5, "Share of appearance in the fused cost; the rest is motion. Raise it for a strong network.", ge=0, le=1
    )
    distant_appearance: float = setting(
        0.4,
        "Without overlap, appearance alone may match below this calibrated distance (0 same, 1 stranger).",
        ge=0,
        le=1,
    )
    walking_speed: float = setting(
        1.5, "Body heights a second: nobody is matched further away than this could carry them.", gt=0
    )
    occlusion: float = setting(
        0.3, "A crop covered more than this by a box in front of it does not change the appearance kept.", ge=0, le=1
    )
    appearance_momentum: float = setting(
        0.9, "Share of the old vector kept at each good sighting. Lower follows change of light faster.", ge=0, lt=1
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
        "and the later their number may change. The gallery enrols nobody before.",
        ge=0,
    )
    duplicate_iou: float = setting(
        0.6, "An unmatched box that overlaps a matched one this much is the same person, not a new one.", gt=0, le=1
    )
    class_agnostic: bool = setting(False, "true = a track may change its class (for detectors that waver).")
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
        None, "Whoever stays in a zone for longer is said to loiter, in <name>_counts.json.", gt=0
    )


class OutputSettings(Settings):
    """What is written. With nothing asked for: an annotated video and a MOT file."""

    folder: str = setting("runs", "Results go to FOLDER/<source name>.*")
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
    private: bool = setting(True, "true = only this user may read what is written; false = as the umask says.")
    blur_people: bool = setting(False, "Blur everyone that the detector sees, in the video.")
    save_state: str | None = setting(None, "File for what the tracker knows after the last frame, to resume from.")
    smooth_boxes: bool = setting(True, "true = boxes without the detector's jitter; false = as detected.")
    bridge_seconds: float = setting(
        1.0,
        "Whoever is missed for no longer than this is still shown and written, where expected, with confidence 0; less "
        "where people are hard to foresee; 0 = only what is detected.",
        ge=0,
    )
    trail_seconds: float = setting(2.0, "Length of the trail behind each person, s; 0 = none.", ge=0)


class RefineSettings(Settings):
    """Recorded video looked back on after the run, with the future known."""

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
    smooth_seconds: float = setting(
        0.1, "Width of the smoothing; 0 = none. Raise it to 0.3 where the camera stands still.", ge=0
    )


class GallerySettings(Settings):
    """Identities that outlive the run."""

    where: str | None = setting(
        None, "Folder, or URL of a Qdrant collection: people in it are recognised, new ones enrolled; null = none."
    )
    retention_days: float | None = setting(
        None, "Whoever no run has seen for so long is forgotten before this one begins; null = never.", gt=0
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
        description="Recorded video looked back on after the run, with the future known: <name>_refined.*",
    )
    gallery: GallerySettings = Field(default_factory=GallerySettings, description="Identities that outlive the run.")
    workers: WorkerSettings = Field(
        default_factory=WorkerSettings, description="Many sources at once, each a task of Ray (extra ray)."
    )


class CaptureSettings(Settings):
    """How cameras and streams are read."""

    timeout_seconds: float = setting(
        5.0, "Silence after which a stream is given up and tried again. Raise it for slow networks.", gt=0
    )
    retry_first_seconds: float = setting(
        0.25, "Wait before the first new try; each further wait is twice as long.", gt=0
    )
    retry_most_seconds: float = setting(2.0, "Longest wait between two tries; they never end.", gt=0)
    least_fps: float = setting(
        10.0, "The detector takes smaller sizes where it could not look at every camera so often; 0 = never.", ge=0
    )


class PeopleSettings(Settings):
    """Who is remembered for the page and for events."""

    left_seconds: float = setting(3.0, "Out of every camera's sight for so long, someone has left.", gt=0)
    most: int = setting(1000, "People kept for the page; the one unseen for longest goes first.", ge=1)


NO_PAGE = "none"


class LiveOutputSettings(Settings):
    """What comes of it: the page on this machine, and what is asked for."""

    serve: str | None = setting(
        None,
        "HOST:PORT of the page; any host but this machine needs a token. null = port 8000 of this machine, or another "
        "where that is in use; none = no page.",
    )
    jpeg_quality: int = setting(80, "Of the page's pictures, 1..100. Lower it for slow networks.", ge=1, le=100)
    webhooks: list[str] = setting([], "URLs to which every event is posted as JSON.")
    show: bool = setting(False, "A window on this machine's screen.")
    record: str | None = setting(None, "Folder of annotated videos, <source>-<date and time>.mp4; null = none.")
    segment_seconds: float = setting(300.0, "Length of one of these files.", gt=0)
    private: bool = setting(True, "true = only this user may read what is written; false = as the umask says.")
    blur_people: bool = setting(False, "Blur everyone that the detector sees, in every picture.")
    smooth_boxes: bool = setting(True, "true = boxes without the detector's jitter; false = as detected.")
    bridge_seconds: float = setting(
        1.0,
        "Whoever is missed for no longer than this is still shown and written, where expected, with confidence 0; less "
        "where people are hard to foresee; 0 = only what is detected.",
        ge=0,
    )
    trail_seconds: float = setting(2.0, "Length of the trail behind each person, s; 0 = none.", ge=0)


class LiveCountSettings(Settings):
    """Who passes where, by their feet, in each camera's picture."""

    places: list[str] = setting(
        [],
        "Files of lines and zones, as reid-tracker places writes them: CAMERA=FILE, or FILE for every camera without "
        "one of its own.",
    )


class LiveConfig(RunConfig):
    """All settings of ``reid-tracker live``."""

    capture: CaptureSettings = Field(default_factory=CaptureSettings, description="How cameras and streams are read.")
    detector: DetectorSettings = Field(default_factory=DetectorSettings, description="Where boxes come from.")
    embedder: EmbedderSettings = Field(default_factory=EmbedderSettings, description="Where appearance comes from.")
    tracker: TrackerSettings = Field(default_factory=TrackerSettings, description="How boxes become identities.")
    people: PeopleSettings = Field(
        default_factory=PeopleSettings, description="Who is remembered for the page and for events."
    )
    count: LiveCountSettings = Field(default_factory=LiveCountSettings, description="Who passes where.")
    gallery: GallerySettings = Field(default_factory=GallerySettings, description="Identities that outlive the run.")
    output: LiveOutputSettings = Field(default_factory=LiveOutputSettings, description="What comes of it.")


class NetworkSettings(Settings):
    """What is trained."""

    backbone: str = setting(
        "efficientnet_lite0",
        "efficientnet_lite0, efficientnet_b0, mobilenet_v3_small, mobilenet_v3_large, shufflenet_v2_x1_0, resnet18 or "
        "resnet50.",
    )
    dimension: int | None = setting(
        256,
        "Length of an appearance vector; null = the backbone's own. Longer tells more apart, for memory.",
        ge=1,
    )
    pooling: Literal["gem", "average"] = setting("gem", "gem (generalised mean, learned exponent) or average.")
    last_stride: Literal[1, 2] | None = setting(
        None,
        "1 = last stage at twice the resolution: some accuracy for a third more time. null = that of --start, or 2.",
    )
    input_size: tuple[int, int] | None = setting(
        None,
        "Height and width of a crop, px. Larger sees more detail; time grows with the area. null = that of --start, or "
        "[128, 64].",
    )
    mean: tuple[float, float, float] = setting(
        (0.498, 0.498, 0.498), "Normalisation (BGR, scale 0..1): what the starting weights were trained with."
    )
    std: tuple[float, float, float] = setting((0.502, 0.502, 0.502), "The same for the spread.")
    frozen_blocks: int = setting(
        0,
        "So many first blocks keep their starting weights. Raise it for a handful of identities.",
        ge=0,
    )


class BatchSettings(Settings):
    """Which crops are learned from together."""

    people: int = setting(16, "Identities in a batch. More: harder negatives, slower steps.", ge=2)
    images: int = setting(4, "Crops of each of them. More: harder positives.", ge=2)
    balance_cameras: bool = setting(
        False, "true = take each identity's crops from its cameras in turn. For sets with few crops in some cameras."
    )
    min_visibility: float = setting(
        0.5, "In MOTChallenge sequences: only boxes visible at least this much are cut out.", ge=0, le=1
    )


class ScheduleSettings(Settings):
    """How long, how fast. An epoch shows every identity once."""

    epochs: int = setting(120, "Epochs. The learning rate falls to zero at the last one.", ge=1)
    learning_rate: float = setting(5e-4, "Peak of the rate (AdamW). Higher learns faster until it diverges.", gt=0)
    warm_up_epochs: float = setting(4, "Epochs of linear rise to the peak; half a cosine down follows.", ge=0)
    weight_decay: float = setting(
        0.02, "Pull of the layers' weights to zero. Higher: less overfitting, then underfitting.", ge=0
    )
    clip_gradient: float = setting(
        10.0, "Longest gradient (norm); a longer one is scaled down. 0 = never. Lower it if the loss jumps.", ge=0
    )
    average_decay: float = setting(
        0.995,
        "The saved network is the running average of the weights; this share stays, per step.",
        ge=0,
        lt=1,
    )
    validation_identities: int | None = setting(
        None,
        "Identities never trained on, to watch progress and to calibrate; null = a tenth, of few people up to five, at "
        "most 40.",
        ge=0,
    )
    validate_every: int = setting(5, "Epochs from one look at them to the next.", ge=1)
    patience: int = setting(
        0,
        "Stop after so many looks without a better mAP and keep the best network; 0 = run to the end, keep the last.",
        ge=0,
    )


class LossSettings(Settings):
    """What is asked of the network."""

    name: str = setting(
        "triplet", "triplet, quadruplet, contrastive, constellation, centroid or hierarchical, by their papers' names."
    )
    miner: dict[int, str] = setting(
        {1: "batch_hard"},
        "Which triplets are learned from: one name, or each miner from its epoch on, {1: semi_hard, 20: batch_hard}. "
        "In the batch: batch_all, batch_hard, semi_hard, distance_weighted. In the whole set: offline_hard, "
        "offline_semi_hard, offline_easy.",
    )
    offline_every: int = setting(5, "Epochs from one offline mining to the next; it looks at every crop.", ge=1)
    unit_length: bool = setting(False, "true = bring vectors to length 1 before the loss; distance_weighted needs it.")
    metric: Literal["euclidean", "squared_euclidean", "cosine"] = setting(
        "cosine", "Distance of the loss: euclidean, squared_euclidean or cosine (1 - cos, 0..2)."
    )
    margin: float | None = setting(
        0.3, "Margin, in units of that distance; null = the soft margin log(1 + exp(x)).", ge=0
    )
    metric_weight: float = setting(1.0, "Weight of this loss; 0 trains the classifier alone.", ge=0)
    classifier_weight: float = setting(
        1.0, "Weight of the cross-entropy on the BNNeck beside it; 0 trains without a classifier.", ge=0
    )
    classifier_rate: float = setting(
        10.0, "Learning rate of the classifier in multiples of the network's: it starts from nothing.", gt=0
    )
    label_smoothing: float = setting(0.1, "Share of the classifier's target given to the other identities.", ge=0, lt=1)

    @field_validator("miner", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {1: value} if isinstance(value, str) else value


class DistillationSettings(Settings):
    """A teacher whose vectors the network learns to give, also where it sees a spoilt crop."""

    teacher: str | None = setting(
        None,
        "An appearance network (.safetensors, .onnx, .xml) that sees the clean crops; null = no teacher. Name it, its "
        "licence and its training data where the result is published.",
    )
    weight: float = setting(
        20.0,
        "Weight of the distance to the teacher's vector beside the other losses. Raise it for a good teacher.",
        gt=0,
    )
    mixtures: int = setting(
        0,
        "People made up of the training crops (one's top, another's legs, other colours) that the teacher describes, "
        "too. Against learning the training set by heart.",
        ge=0,
    )
    mixtures_per_crop: float = setting(1.0, "So many of them in a batch for each crop.", gt=0, le=64)
    pictures: list[str] = setting(
        [],
        "Folders of more crops, of whom nobody need know who they are, such as those of track --save crops: people are "
        "made up of these, too. Take them from the cameras the network is for.",
    )
    fresh_mixtures: float = setting(
        0.0,
        "As many made-up people for each crop of a batch, new in every batch; the teacher describes them as they are "
        "made, which takes its time in every step.",
        ge=0,
        le=64,
    )


class AugmentSettings(Settings):
    """How crops are changed, each with its probability (0 = never, 1 = always)."""

    mirror: float = setting(0.5, "Left to right.", ge=0, le=1)
    jitter: float = setting(
        1.0, "Shift (up to 8 %) and scale (12 %), like the edges of a detector's boxes.", ge=0, le=1
    )
    occlusion: float = setting(0.2, "Part of another crop of the batch in front: people hide people.", ge=0, le=1)
    erasing: float = setting(0.4, "A rectangle of one colour. Helps on clean pictures, hurts on bad ones.", ge=0, le=1)
    shadow: float = setting(0.1, "A cast shadow with a straight edge.", ge=0, le=1)
    blur: float = setting(0.2, "Motion blur of random angle and length, or defocus.", ge=0, le=1)
    light: float = setting(0.5, "Night with noise to over-exposure, contrast, colour temperature.", ge=0, le=1)
    jpeg: float = setting(0.1, "JPEG of quality 15 to 70.", ge=0, le=1)


class ComputeSettings(Settings):
    """How it is computed."""

    precision: Literal["float32", "bfloat16"] = setting(
        "bfloat16",
        "bfloat16 is faster on GPUs and CPUs with AVX512-BF16 or AMX, slower on older ones. Losses: float32.",
    )
    seed: int = setting(0, "Same seed, same data, same machine: same network.")
    threads: int = setting(0, "CPU threads; 0 = PyTorch's choice.", ge=0)
    tensorboard: bool = setting(False, "true = write curves to OUTPUT/tensorboard (needs reid-tracker[train]).")


class TrainConfig(Settings):
    """All settings of ``reid-tracker train``."""

    licence: str = setting("", "Under what terms the training data may be used; written into the checkpoint.")
    network: NetworkSettings = Field(default_factory=NetworkSettings, description="What is trained.")
    batch: BatchSettings = Field(default_factory=BatchSettings, description="Which crops are learned from together.")
    schedule: ScheduleSettings = Field(
        default_factory=ScheduleSettings, description="How long, how fast. An epoch shows every identity once."
    )
    loss: LossSettings = Field(default_factory=LossSettings, description="What is asked of the network.")
    distillation: DistillationSettings = Field(
        default_factory=DistillationSettings,
        description="A teacher whose vectors the network learns to give, also where it sees a spoilt crop.",
    )
    augment: AugmentSettings = Field(
        default_factory=AugmentSettings, description="How often a crop is changed, and how (0 = never, 1 = always)."
    )
    compute: ComputeSettings = Field(default_factory=ComputeSettings, description="How it is computed.")


MOST_BYTES = 1 << 20  # of a file of settings


def load(model: type[S], path: str | Path | None = None, overrides: dict[str, Any] | None = None) -> S:
    """Settings of class ``model``: defaults, then the YAML file, then ``overrides``.

    Parameters
    ----------
    model : type
        A `Settings` class.
    path : path, optional
        YAML file; keys it does not name keep their defaults.
    overrides : dict, optional
        Dotted names (``"tracker.lost_seconds"``) to values, as command-line flags give them; None is skipped.

    Raises
    ------
    UserError
        For a missing or unreadable file, an unknown key (naming the nearest) or an impossible value.
    """
    values: dict[str, Any] = {}
    where = "settings"
    if path is not None:
        where = str(path)
        try:
            if Path(path).exists() and (not Path(path).is_file() or Path(path).stat().st_size > MOST_BYTES):
                raise UserError(f"{path}: no file of settings; write one with reid-tracker config.")
            values = parse_yaml(read_text(Path(path))) or {}
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
        except ValueError as error:
            raise UserError(f"{path}: not YAML ({error}); write a fresh file with reid-tracker config.") from error
        if not isinstance(values, dict):
            raise UserError(f"{path}: settings are 'name: value' lines; write a fresh file with reid-tracker config.")
    for name, value in (overrides or {}).items():
        if value is not None:
            *groups, leaf = name.split(".")
            target = values
            for group in groups:
                if target.get(group) is None:
                    target[group] = {}
                target = target[group]
                if not isinstance(target, dict):
                    raise UserError(f"{where}: {group} holds a group of settings, not a single value.")
            target[leaf] = value
    try:
        settings = model.model_validate(values)
        settings._file = None if path is None else Path(path)
        return settings
    except ValidationError as error:
        raise UserError(f"{where}: " + "; ".join(_complaint(model, each) for each in error.errors()) + ".") from error


def _complaint(model: type[Settings], error: Any) -> str:
    """One of pydantic's errors in a user's words."""
    location = [str(part) for part in error["loc"]]
    name = ".".join(location)
    if error["type"] == "extra_forbidden":
        group: Any = model
        for part in location[:-1]:
            group = group.model_fields[part].annotation
        known = list(group.model_fields)
        near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.0)
        return f"there is no setting {name}; did you mean {'.'.join([*location[:-1], *near])}?"
    message = str(error["msg"])
    return f"{name} cannot be {error['input']!r}: {message[0].lower()}{message[1:]}"


def write_yaml(settings: Settings) -> str:
    """Settings as YAML with each one's description as a comment above it."""
    lines: list[str] = []
    _write_group(settings, lines, indent=0)
    return "\n".join(lines) + "\n"


def _write_group(settings: Settings, lines: list[str], indent: int) -> None:
    pad = " " * indent
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Settings):
            lines += ["", f"{pad}# {field.description}", f"{pad}{name}:"]
            _write_group(value, lines, indent + 2)
        else:
            text = yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()
            lines += [f"{pad}# {field.description}", f"{pad}{name}: {text}"]


CONFIGS: dict[str, type[Settings]] = {"track": TrackConfig, "live": LiveConfig, "train": TrainConfig}
