"""The networks of a run, loaded once."""

from pathlib import Path
from typing import Protocol

import numpy as np

from reid_tracker.backends import appearance_form, detector_form
from reid_tracker.config import LiveConfig, TrackConfig
from reid_tracker.detection.detector import Detector
from reid_tracker.errors import UserError
from reid_tracker.gallery.store import Model, shown
from reid_tracker.tracking.calibration import CosineStatistics
from reid_tracker.video.frames import Source


class AppearanceModel(Protocol):
    """What turns boxes into vectors: `Embedder`, or your own."""

    def embed(self, image: np.ndarray, xyxy: np.ndarray) -> np.ndarray:
        """Unit vectors float32 [N, D] of the boxes [N, 4] (px) of a BGR image; a NaN row where there is none."""


class Models:
    """The networks, loaded once for all sources, and the files of recorded detections, one for each."""

    def __init__(
        self,
        config: TrackConfig | LiveConfig,
        detector: Detector | None = None,
        embedder: AppearanceModel | None = None,
    ) -> None:
        self._config = config
        self._detector = detector
        self._embedder = embedder
        self._recorded = config.detector.recorded if detector is None else None
        if self._recorded and config.detector.model:
            raise UserError("Both a detector and recorded detections are named; choose one.")
        if config.embedder.model and not config.embedder.enabled:
            raise UserError("An appearance network is named, but appearance is off; choose one of the two.")

    def detector_for(self, path: Path, source: Source) -> Detector:
        """Give the detector for one source."""
        settings = self._config.detector
        if self._recorded:
            from reid_tracker.detection.recorded import RecordedDetections

            file = recorded_of(self._recorded, path, source.name)
            return RecordedDetections(file, settings.confidence, settings.classes)
        return self.detector()

    def detector(self) -> Detector:
        """Give the detector that looks at pixels."""
        settings = self._config.detector
        if self._detector is None:
            from reid_tracker.detection.yolo import YoloDetector

            self._detector = YoloDetector(
                detector_form(settings.model, self._config.backend, self._config.device),
                classes=settings.classes,
                confidence=settings.confidence,
                image_size=settings.image_size,
                device=self._config.device,
                speed=settings.speed,
            )
        return self._detector

    def embedder_for(
        self, detector: Detector, source: Source
    ) -> tuple[AppearanceModel | None, CosineStatistics | None]:
        """Give the appearance model for one source, and what its header says of its cosines; None = none needed."""
        if not source.has_pixels or getattr(detector, "dimension", None) is not None:
            return None, None
        return self.embedder()

    def embedder(self) -> tuple[AppearanceModel | None, CosineStatistics | None]:
        """Give the appearance model, unless the settings want none."""
        settings = self._config.embedder
        if not settings.enabled:
            return None, None
        if self._embedder is None:
            from reid_tracker.appearance.embedder import Embedder

            form = appearance_form(settings.model, self._config.backend, self._config.device)
            self._embedder = Embedder(form, device=self._config.device)
        return self._embedder, getattr(self._embedder, "statistics", None)


def recorded_of(recorded: str, path: Path, name: str) -> str:
    """Where a source's recorded detections are; not by str.format, as a path may hold other braces."""
    return recorded.replace("{source}", str(path)).replace("{name}", name)


def model_of(embedder: AppearanceModel | None, config: TrackConfig | LiveConfig) -> Model:
    """What the gallery must know of the appearance model; UserError where no one could be recognised by it."""
    where = shown(config.gallery.where or "")
    if not config.tracker.memory_seconds:
        raise UserError(f"gallery {where}: without a memory no one is recognised; raise tracker.memory_seconds.")
    identifier, dimension = getattr(embedder, "hash", None), getattr(embedder, "dimension", None)
    if identifier is None or dimension is None:
        raise UserError(
            f"gallery {where}: it needs pictures and an appearance model with a hash and a dimension; recorded vectors "
            "do not say which model made them, and without appearance no one can be recognised."
        )
    return Model(identifier, dimension, getattr(embedder, "header", {}).get("calibration", {}))
