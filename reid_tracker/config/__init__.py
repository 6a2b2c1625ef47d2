"""Every setting, its default and its meaning: the only source of defaults.

``reid-tracker config track`` writes them out as YAML; configs/*.yaml are that output. A file is read back with every
key checked: an unknown one is refused with the name of the nearest known one, an impossible value by name and reason.
"""

from reid_tracker.config.files import load, write_yaml
from reid_tracker.config.groups import Settings, setting
from reid_tracker.config.live import (
    NO_PAGE,
    CaptureSettings,
    LiveConfig,
    LiveCountSettings,
    LiveOutputSettings,
    PeopleSettings,
)
from reid_tracker.config.track import (
    CountSettings,
    DetectorSettings,
    EmbedderSettings,
    GallerySettings,
    OutputSettings,
    RefineSettings,
    RunConfig,
    SourceSettings,
    TrackConfig,
    TrackerSettings,
    WorkerSettings,
)
from reid_tracker.config.train import (
    AugmentSettings,
    BatchSettings,
    ComputeSettings,
    DistillationSettings,
    LossSettings,
    NetworkSettings,
    ScheduleSettings,
    TrainConfig,
)

CONFIGS: dict[str, type[Settings]] = {"track": TrackConfig, "live": LiveConfig, "train": TrainConfig}

__all__ = [
    "CONFIGS",
    "NO_PAGE",
    "AugmentSettings",
    "BatchSettings",
    "CaptureSettings",
    "ComputeSettings",
    "CountSettings",
    "DetectorSettings",
    "DistillationSettings",
    "EmbedderSettings",
    "GallerySettings",
    "LiveConfig",
    "LiveCountSettings",
    "LiveOutputSettings",
    "LossSettings",
    "NetworkSettings",
    "OutputSettings",
    "PeopleSettings",
    "RefineSettings",
    "RunConfig",
    "ScheduleSettings",
    "Settings",
    "SourceSettings",
    "TrackConfig",
    "TrackerSettings",
    "TrainConfig",
    "WorkerSettings",
    "load",
    "setting",
    "write_yaml",
]
