"""The settings of `reid-tracker live`."""

from pydantic import Field

from reid_tracker.config.groups import Settings, setting
from reid_tracker.config.track import (
    DetectorSettings,
    EmbedderSettings,
    GallerySettings,
    RunConfig,
    ShownSettings,
    TrackerSettings,
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


class LiveOutputSettings(ShownSettings):
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
