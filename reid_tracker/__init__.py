"""Multi-object tracking with re-identification: who is who in a video, and how well it went."""

__version__ = "0.1.0"
