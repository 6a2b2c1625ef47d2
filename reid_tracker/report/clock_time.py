"""When a video began, by wall-clock time, where it is known."""

from datetime import UTC, datetime
from pathlib import Path

import av

from reid_tracker.errors import UserError
from reid_tracker.video.film import open_input

FROM_FILE = "file"
EARLIEST = datetime(1990, 1, 2, tzinfo=UTC)  # cameras whose clock was never set say 1904, 1970 or 1980


def began_at(told: str | None, video: Path | str | None) -> datetime | None:
    """When a video began.

    Parameters
    ----------
    told : str, optional
        A date and time such as ``2026-11-29 14:00:05`` (with ``+01:00`` where the zone matters), or ``file``: what the
        video's container says of when it was made.
    video : path, optional
        Needed for ``file``.

    Returns
    -------
    datetime or None
        None where nothing is told.

    Raises
    ------
    UserError
        If it is neither, or the container does not say.
    """
    if told is None:
        return None
    if told == FROM_FILE:
        return _of_container(video)
    try:
        return datetime.fromisoformat(told)
    except ValueError as error:
        raise UserError(f"--clock {told}: write a date and time, such as 2026-11-29 14:00:05, or file.") from error


def _of_container(video: Path | str | None) -> datetime:
    try:
        with open_input(f"file:{video}") as container:
            texts = [
                container.metadata.get("creation_time"),
                *(each.metadata.get("creation_time") for each in container.streams),
            ]
    except (av.error.FFmpegError, OSError, ValueError):
        texts = []
    for text in filter(None, texts):
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            continue
        found = found if found.tzinfo else found.replace(tzinfo=UTC)
        if found > EARLIEST:
            return found
    raise UserError(f"--clock file: {video} does not say when it was made; give the date and time.")
