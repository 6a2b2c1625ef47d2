"""``reid-tracker live``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from reid_tracker.cli.options import (
    ADVANCED,
    APPEARANCE,
    BACKEND,
    BLUR_PEOPLE,
    DETECTOR,
    DEVICE,
    EMBEDDER,
    GALLERY,
    PLACES,
    RESULTS,
    Flag,
    takes,
)
from reid_tracker.cli.shared import new_table, parse_settings, print_table, styled_name

FLAGS = (
    Flag("--show", "output.show", RESULTS, "A window on this screen; q ends.", bool),
    Flag("--record", "output.record", RESULTS, "Folder for annotated videos, in segments.", Path, read=str),
    Flag("--webhook", "output.webhooks", RESULTS, "Post events to this URL (repeatable).", list[str]),
    BLUR_PEOPLE._replace(help="Blur everyone, keep no crops."),
    Flag(
        "--places",
        "count.places",
        PLACES,
        "Count at the lines and zones of this file (repeatable).",
        list[str],
        "[CAMERA=]FILE",
    ),
    GALLERY,
    EMBEDDER,
    APPEARANCE,
    DETECTOR,
    DEVICE,
    BACKEND,
)


@takes(*FLAGS)
def live(
    source: Annotated[
        list[str],
        typer.Option(
            "--source",
            "-s",
            help="0, /dev/video0, rtsp://..., http://... (MJPEG, HLS), a file with --realtime; NAME=... names it; "
            "repeatable. Write / ? # % @ of a password as %2F %3F %23 %25 %40.",
        ),
    ],
    config: Annotated[
        Path | None, typer.Option(help="Settings (YAML), see 'reid-tracker config live'; flags override it.")
    ] = None,
    serve: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="The page \\[127.0.0.1:8000, or another port if in use].")
    ] = None,
    no_serve: Annotated[bool, typer.Option("--no-serve", help="No page.")] = False,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="REID_TRACKER_TOKEN", help="What the page asks for; made up where HOST is not this machine only."
        ),
    ] = None,
    realtime: Annotated[bool, typer.Option("--realtime", help="Play files at their own pace.")] = False,
    *,
    overrides: dict[str, Any],
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Any setting: --set people.left_seconds=5", rich_help_panel=ADVANCED
        ),
    ] = None,
) -> None:
    """Track cameras and streams as they run, with a page to watch, until Ctrl-C, SIGTERM or SIGHUP.

    Recordings are named by camera and time; a second run adds to them, and none replaces a file.
    """
    from reid_tracker.config import NO_PAGE, LiveConfig, load
    from reid_tracker.live.run import run_live

    overrides["output.serve"] = NO_PAGE if no_serve else serve
    chosen = load(LiveConfig, config, {**overrides, **parse_settings(settings or [])})

    def started(address: str | None) -> None:
        print(f"The page is at {address}" if address else "Running.", flush=True)

    loop = run_live(source, chosen, realtime=realtime, token=token, started=started)
    table = new_table("source", "received", "tracked", "dropped", "reconnects", "delay ms")
    for camera, meter in zip(loop.cameras, loop.meters, strict=True):
        figures = (camera.received, meter.frames, camera.dropped, camera.reconnects, round(1000 * meter.delay()))
        table.add_row(styled_name(camera.name), *map(str, figures))
    print_table(table)
