"""``reid-tracker review``."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from reid_tracker.cli.shared import Overwrite
from reid_tracker.errors import UserError
from reid_tracker.writing import printable


def review(
    results: Annotated[Path, typer.Argument(help="What 'track' wrote: <name>.jsonl or <name>.txt (or _refined).")],
    video: Annotated[Path, typer.Argument(help="The video it is of.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder \\[that of the results].")] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="No page: write the results corrected by <name>_review.json.")
    ] = False,
    render: Annotated[bool, typer.Option("--render", help="Also write the annotated video.")] = False,
    gallery: Annotated[
        Path | None, typer.Option(help="Also make a gallery of the people, with their numbers and names: a new folder.")
    ] = None,
    embedder: Annotated[str | None, typer.Option(help="Appearance network of that gallery \\[bundled].")] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second, where 'track' was told them.")] = None,
    serve: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="The page \\[127.0.0.1:8001, or another port if in use].")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Look finished tracks over beside the video, in a browser: the most doubtful decisions first.

    Example: reid-tracker review runs/shop.jsonl shop.mp4 --render.

    Each change is saved in <name>_review.json and can be undone; called again, the review goes on there. Done, or
    Ctrl-C, writes <name>_reviewed.txt, .jsonl and .csv, and the gallery if asked for. The page is for this machine's
    user alone.
    """
    from reid_tracker.review.command import Review

    if apply and serve is not None:
        raise UserError("--apply needs no page; leave out --serve.")
    if embedder is not None and gallery is None:
        raise UserError("--embedder is for a gallery; add --gallery, or leave it out.")
    run = Review(results, video, output, fps=fps, overwrite=overwrite)
    if gallery is not None:
        run.check_gallery(gallery)
    if apply and not run.log.exists():
        raise UserError(f"{run.log}: there is no review to apply; run it without --apply first.")

    def started(address: str) -> None:
        print(f"Review at {address}", flush=True)

    if not apply:
        with suppress(KeyboardInterrupt):
            run.on_page(serve, started)
    for file in run.write(render):
        print(printable(file))
    if gallery is not None:
        from reid_tracker.appearance.embedder import Embedder

        enrolled, unclear = run.enrol(gallery, Embedder(embedder))
        print(f"{enrolled} people{f', {unclear} not shown well enough' if unclear else ''}: {printable(gallery)}")
