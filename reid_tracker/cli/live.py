"""``reid-tracker live``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from reid_tracker.cli.shared import new_table, parse_settings, print_table, styled_name


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
    show: Annotated[bool | None, typer.Option("--show", help="A window on this screen; q ends.")] = None,
    record: Annotated[Path | None, typer.Option(help="Folder for annotated videos, in segments.")] = None,
    places: Annotated[
        list[str] | None,
        typer.Option(metavar="[CAMERA=]FILE", help="Count at the lines and zones of this file (repeatable)."),
    ] = None,
    gallery: Annotated[
        str | None, typer.Option(help="Recognise and enrol people: a folder, or a postgresql:// URL.")
    ] = None,
    webhook: Annotated[list[str] | None, typer.Option(help="Post events to this URL (repeatable).")] = None,
    realtime: Annotated[bool, typer.Option("--realtime", help="Play files at their own pace.")] = False,
    detector: Annotated[str | None, typer.Option(help="A YOLO: a path, or a name to download \\[bundled].")] = None,
    embedder: Annotated[str | None, typer.Option(help="Appearance network \\[bundled].")] = None,
    appearance: Annotated[
        bool | None, typer.Option("--appearance/--no-appearance", help="Use appearance, or motion only.")
    ] = None,
    blur_people: Annotated[bool | None, typer.Option("--blur-people", help="Blur everyone, keep no crops.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    backend: Annotated[str | None, typer.Option(help="What runs the networks: auto, torch, onnx, openvino.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting: --set people.left_seconds=5")
    ] = None,
) -> None:
    """Track cameras and streams as they run, with a page to watch, until Ctrl-C, SIGTERM or SIGHUP.

    Recordings are named by camera and time; a second run adds to them, and none replaces a file.
    """
    from reid_tracker.config import NO_PAGE, LiveConfig, load
    from reid_tracker.live.run import run_live

    overrides: dict[str, Any] = {
        "device": device,
        "backend": backend,
        "detector.model": detector,
        "embedder.model": embedder,
        "embedder.enabled": appearance,
        "output.serve": NO_PAGE if no_serve else serve,
        "output.show": show,
        "output.record": str(record) if record else None,
        "output.webhooks": webhook,
        "gallery.where": gallery,
        "count.places": places or None,
        "output.blur_people": blur_people,
    }
    chosen = load(LiveConfig, config, {**overrides, **parse_settings(settings or [])})

    def started(address: str | None) -> None:
        print(f"The page is at {address}" if address else "Running.", flush=True)

    loop = run_live(source, chosen, realtime=realtime, token=token, started=started)
    table = new_table("source", "received", "tracked", "dropped", "reconnects", "delay ms")
    for camera, meter in zip(loop.cameras, loop.meters, strict=True):
        figures = (camera.received, meter.frames, camera.dropped, camera.reconnects, round(1000 * meter.delay()))
        table.add_row(styled_name(camera.name), *map(str, figures))
    print_table(table)
