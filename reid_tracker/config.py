"""Every setting, its default and its meaning: the only source of defaults.

``reid-tracker config track`` writes them out as YAML; configs/*.yaml are that output. A file is read back with every
key checked: an unknown one is refused with the name of the nearest known one, an impossible value by name and reason.
"""

import difflib
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reid_tracker.errors import UserError

S = TypeVar("S", bound="Settings")


class Settings(BaseModel):
    """A group of settings: unknown names and impossible values are errors, also on assignment."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


def setting(default: Any, description: str, **limits: Any) -> Any:
    """A setting with its comment."""
    return Field(default=default, description=description, **limits)


class SourceSettings(Settings):
    """Which frames are taken."""

    fps: float | None = setting(None, "Frames per second; overrides the container's own clock.", gt=0)
    start: str | int | None = setting(None, "First frame: a number from 1, or a time such as 12.5s or 1:30.")
    end: str | int | None = setting(None, "Last frame, the same way; it is included.")
    stride: int = setting(
        1, "Take every n-th frame. Raising it is faster but people move further between frames.", ge=1
    )
    roi: str | None = setting(
        None, 'Polygon "x1,y1 x2,y2 x3,y3 ..." in px: only detections whose foot point is inside are tracked.'
    )


class DetectorSettings(Settings):
    """Where boxes come from."""

    model: str | None = setting(None, "A YOLO that ultralytics loads: a path, or a name that ultralytics downloads.")
    recorded: str | None = setting(
        None,
        "Recorded detections instead of a network: a MOT det.txt or an .npz; {source} and {name} stand for each "
        "source's path and name.",
    )
    classes: list[str | int] | None = setting(
        None, "Class names or numbers to track; null = person where the model knows one, otherwise all."
    )
    confidence: float = setting(0.1, "Boxes below this are never seen by the tracker.", ge=0, le=1)
    image_size: int | None = setting(None, "Longer side the network sees, px; null = the model's own.", ge=32)


class EmbedderSettings(Settings):
    """Where appearance comes from."""

    model: str | None = setting(None, "Appearance network (.safetensors); null = the bundled one.")
    enabled: bool = setting(True, "false = motion only: faster, but identities break at long occlusions and crossings.")


class TrackerSettings(Settings):
    """How detections become identities. Costs run from 0 (certain) to 1 (impossible)."""

    high_confidence: float = setting(
        0.35, "Boxes from here on are matched first. Lower catches dim people, but false boxes disturb.", ge=0, le=1
    )
    low_confidence: float = setting(
        0.1, "Boxes down to here may carry on a track that nothing better matched (occluded people).", ge=0, le=1
    )
    new_confidence: float = setting(
        0.55, "A new person needs a box at least this sure. Raise it against false identities.", ge=0, le=1
    )
    confirm_sightings: int = setting(
        3, "Sightings in a row before a new person is reported. Raise it against false identities.", ge=1
    )
    lost_seconds: float = setting(
        3.0, "How long someone out of sight is looked for. Longer survives more but risks a stranger's match.", ge=0
    )
    motion_limit: float = setting(
        0.8, "Largest 1 - IoU of a match by motion. Raise it for fast motion or low frame rates.", gt=0, le=1
    )
    low_limit: float = setting(0.5, "The same for low-confidence boxes, whose place is less sure.", gt=0, le=1)
    fused_limit: float = setting(
        0.7, "Largest cost of a match by motion and appearance together. Lower it when strangers swap.", gt=0, le=1
    )
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
    enlarge_per_second: float = setting(
        0.1, "Share of its size by which a box grows a second while unseen, to overlap again.", ge=0
    )
    occlusion: float = setting(
        0.3, "A crop covered more than this by a box in front of it does not change the appearance kept.", ge=0, le=1
    )
    appearance_momentum: float = setting(
        0.9, "Share of the old vector kept at each good sighting. Lower follows change of light faster.", ge=0, lt=1
    )
    duplicate_iou: float = setting(
        0.6, "An unmatched box that overlaps a matched one this much is the same person, not a new one.", gt=0, le=1
    )
    class_agnostic: bool = setting(False, "true = a track may change its class (for detectors that waver).")
    camera_motion: bool = setting(
        False,
        "true = follow the camera's own motion (hand-held, panning): some ms a frame; keep it off when it stands.",
    )


class OutputSettings(Settings):
    """What is written. With nothing asked for: an annotated video and a MOT file."""

    folder: str = setting("runs", "Results go to FOLDER/<source name>.*")
    video: bool = setting(False, "Annotated H.264 video, <name>.mp4")
    mot: bool = setting(False, "MOTChallenge text, <name>.txt")
    jsonl: bool = setting(False, "JSON lines, one object a frame, <name>.jsonl")
    crops: bool = setting(False, "Crops per identity, <name>_crops/<identity>/")
    blur_people: bool = setting(False, "Blur everyone that the detector sees, in the video.")
    trail_seconds: float = setting(2.0, "Length of the trail behind each person, s; 0 = none.", ge=0)


class TrackConfig(Settings):
    """All settings of ``reid-tracker track``."""

    device: str = setting("auto", "auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:1, mps")
    source: SourceSettings = Field(default_factory=SourceSettings, description="Which frames are taken.")
    detector: DetectorSettings = Field(default_factory=DetectorSettings, description="Where boxes come from.")
    embedder: EmbedderSettings = Field(default_factory=EmbedderSettings, description="Where appearance comes from.")
    tracker: TrackerSettings = Field(default_factory=TrackerSettings, description="How boxes become identities.")
    output: OutputSettings = Field(default_factory=OutputSettings, description="What is written.")


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
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not YAML ({str(error).splitlines()[0]}).") from error
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
        return model.model_validate(values)
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


ConfigName = Literal["track"]
CONFIGS: dict[str, type[Settings]] = {"track": TrackConfig}
