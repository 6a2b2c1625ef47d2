"""``reid-tracker places``."""

from pathlib import Path
from typing import Annotated

import typer

from reid_tracker.cli.shared import Overwrite
from reid_tracker.errors import UserError
from reid_tracker.writing import printable


def places(
    video: Annotated[Path, typer.Argument(help="A video of the camera; any that shows its picture will do.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write; places that it holds are there to be changed.")
    ] = Path("places.yaml"),
    at: Annotated[str | None, typer.Option(help="The still: a frame from 1, or a time: 12.5s, 1:30 \\[first].")] = None,
    preview: Annotated[
        Path | None, typer.Option(help="Draw the places of --output on the still instead, as this PNG; no page.")
    ] = None,
    serve: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="The page \\[127.0.0.1:8001, or another port if in use].")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw lines and zones on a still of the video, in a browser: for 'track --places' and 'report --places'.

    Example: reid-tracker places shop.mp4 -o shop.yaml; then reid-tracker track shop.mp4 --report --places shop.yaml.

    The page is for this machine's user alone, and ends with its button Done or Ctrl-C; each Save writes the file.
    """
    from reid_tracker.places.command import draw_on_page, draw_preview

    if preview is not None and serve is not None:
        raise UserError("--preview needs no page; leave out --serve.")
    if preview is not None:
        draw_preview(video, output, preview, at, overwrite)
        print(printable(preview))
        return

    def started(address: str) -> None:
        print(f"Draw at {address}", flush=True)

    saved = draw_on_page(video, output, at, serve, overwrite, started)
    print(printable(output) if saved else "Nothing was saved.")
