"""``reid-tracker demo``."""

from pathlib import Path
from typing import Annotated

import typer

from reid_tracker.cli.shared import Overwrite, parse_settings
from reid_tracker.cli.track import run_track


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the clip and the results.")] = Path(
        "runs/demo"
    ),
    detector: Annotated[str | None, typer.Option(help="A YOLO: a path, or a name to download \\[bundled].")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting: --set tracker.lost_seconds=5")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Make a clip with known truth, track it and measure the result: a first try without a video of one's own.

    Run again, it replaces its own clip and results; any other file is an error, and stays.
    """
    from reid_tracker.config import TrackConfig, load
    from reid_tracker.demo import make_clip
    from reid_tracker.evaluation import mot
    from reid_tracker.ownership import claim

    wanted = {"detector.model": detector, **parse_settings(settings or [])}
    needed = {"output.folder": str(output), "output.video": True, "output.mot": True, "output.overwrite": overwrite}
    config = load(TrackConfig, None, {**wanted, **needed})
    folder = output.expanduser() / "clip"
    with claim([], of=["demo"], overwrite=overwrite, folders=[folder]) as claimed:
        make_clip(claimed.begin(folder), folder.name)
        claimed.complete()
    clip = folder / f"{folder.name}.mp4"
    run_track([str(clip)], config)
    figures = mot.evaluate_mot(clip.parent, output / f"{clip.stem}.txt")[clip.parent.name]
    shown = "  ".join(f"{name} {100 * figures[name]:.1f}" for name in ("HOTA", "MOTA", "IDF1"))
    print(f"{shown}  switches {figures['IDSW']:.0f}")
    print(output / f"{clip.stem}.mp4")
