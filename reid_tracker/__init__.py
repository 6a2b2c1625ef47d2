"""Multi-object tracking with re-identification: who is who in a video, and how well it went.

The public names are imported when first used, so that ``import reid_tracker`` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reid_tracker.appearance.embedder import Embedder
    from reid_tracker.appearance.network import register_backbone
    from reid_tracker.config import LiveConfig, TrackConfig, TrackerSettings, TrainConfig
    from reid_tracker.detection.detector import Detector
    from reid_tracker.detection.recorded import RecordedDetections
    from reid_tracker.detection.yolo import YoloDetector
    from reid_tracker.errors import UserError
    from reid_tracker.evaluation.mot import evaluate_mot
    from reid_tracker.evaluation.reid import evaluate_reid
    from reid_tracker.exchange.formats import convert, read_tracks
    from reid_tracker.exchange.tracks import Tracks
    from reid_tracker.gallery.opening import open_gallery
    from reid_tracker.gallery.store import Gallery
    from reid_tracker.live.run import run_live
    from reid_tracker.pipeline.batch import stream, track
    from reid_tracker.pipeline.failures import BatchError
    from reid_tracker.pipeline.models import AppearanceModel
    from reid_tracker.results import RunSummary
    from reid_tracker.review.command import Review
    from reid_tracker.tracking.calibration import CosineStatistics
    from reid_tracker.tracking.memory import IdentityMemory
    from reid_tracker.tracking.state import TrackerState
    from reid_tracker.tracking.tracker import Tracker
    from reid_tracker.training.command import train
    from reid_tracker.training.objective import register_loss, register_miner
    from reid_tracker.video.frames import Frame
    from reid_tracker.video.sources import open_source

__version__ = "0.2.0"

_HOMES = {
    "AppearanceModel": "pipeline.models",
    "BatchError": "pipeline.failures",
    "CosineStatistics": "tracking.calibration",
    "Detector": "detection.detector",
    "Embedder": "appearance.embedder",
    "Frame": "video.frames",
    "Gallery": "gallery.store",
    "IdentityMemory": "tracking.memory",
    "LiveConfig": "config",
    "RecordedDetections": "detection.recorded",
    "Review": "review.command",
    "RunSummary": "results",
    "TrackConfig": "config",
    "Tracker": "tracking.tracker",
    "TrackerSettings": "config",
    "TrackerState": "tracking.state",
    "Tracks": "exchange.tracks",
    "TrainConfig": "config",
    "UserError": "errors",
    "YoloDetector": "detection.yolo",
    "convert": "exchange.formats",
    "evaluate_mot": "evaluation.mot",
    "evaluate_reid": "evaluation.reid",
    "open_gallery": "gallery.opening",
    "open_source": "video.sources",
    "read_tracks": "exchange.formats",
    "register_backbone": "appearance.network",
    "register_loss": "training.objective",
    "register_miner": "training.objective",
    "run_live": "live.run",
    "stream": "pipeline.batch",
    "track": "pipeline.batch",
    "train": "training.command",
}

__all__ = [
    "AppearanceModel",
    "BatchError",
    "CosineStatistics",
    "Detector",
    "Embedder",
    "Frame",
    "Gallery",
    "IdentityMemory",
    "LiveConfig",
    "RecordedDetections",
    "Review",
    "RunSummary",
    "TrackConfig",
    "Tracker",
    "TrackerSettings",
    "TrackerState",
    "Tracks",
    "TrainConfig",
    "UserError",
    "YoloDetector",
    "convert",
    "evaluate_mot",
    "evaluate_reid",
    "open_gallery",
    "open_source",
    "read_tracks",
    "register_backbone",
    "register_loss",
    "register_miner",
    "run_live",
    "stream",
    "track",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'reid_tracker' has no attribute {name!r}")
    return getattr(importlib.import_module(f"reid_tracker.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
