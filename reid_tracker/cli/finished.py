"""What is done with results at hand: ``reid-tracker report``, ``convert`` and ``export-crops``."""

from pathlib import Path
from typing import Annotated

import typer

from reid_tracker.cli.shared import Overwrite
from reid_tracker.writing import printable


def report(
    results: Annotated[Path, typer.Argument(help="What 'track' wrote: <name>.jsonl or <name>.txt (or _refined).")],
    video: Annotated[Path | None, typer.Option(help="The video it is of: for pictures and times.")] = None,
    line: Annotated[list[str] | None, typer.Option(help='As for track: "NAME=x1,y1 x2,y2". Repeatable.')] = None,
    zone: Annotated[list[str] | None, typer.Option(help='As for track: "NAME=x1,y1 x2,y2 x3,y3". Repeatable.')] = None,
    places: Annotated[
        Path | None, typer.Option(help="File of lines and zones, as 'reid-tracker places' writes it.")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second, where neither of them holds times.")] = None,
    clock: Annotated[
        str | None, typer.Option(help="When the video began: '2026-11-29 14:00:05', or file (as it says).")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder \\[that of the results].")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Tell who was there, when, how long, where, from results at hand: as 'track --report', without tracking again.

    Example: reid-tracker report runs/shop.jsonl --video shop.mp4 --zone "till=330,150 700,150 700,420".

    Run again, it replaces what it or 'track' wrote of the same video; any other file is an error, and stays.
    """
    from reid_tracker.report.finished import report as run

    files = run(
        results,
        video,
        output,
        lines=line or (),
        zones=zone or (),
        places=places,
        fps=fps,
        clock=clock,
        overwrite=overwrite,
    )
    for file in files:
        print(printable(file))


def convert(
    tracks: Annotated[
        Path,
        typer.Argument(
            help="What 'track' wrote (.txt, .jsonl), CVAT's XML, JSON of COCO or Label Studio, a folder of YOLO labels."
        ),
    ],
    to: Annotated[str, typer.Option(help="mot, mot-truth, cvat, coco, label-studio, yolo, csv or parquet.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write; a folder for yolo and mot-truth.")],
    video: Annotated[
        Path | None, typer.Option(help="The video: yolo and label-studio need its size, others note it.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Bring tracks to annotation tools and tables, and reviewed ones back: to score (evaluate) or to train from.

    Example: reid-tracker convert runs/yard.jsonl --to cvat -o yard.xml --video yard.mp4.

    Run again on the same tracks, it replaces what it wrote; any other file is an error, and stays.
    """
    from reid_tracker.exchange.formats import convert as run

    print(f"{run(tracks, output, to, video, overwrite)} boxes")
    print(printable(output))


def export_crops(
    results: Annotated[Path, typer.Argument(help="What 'track' wrote: <name>.txt, <name>_refined.txt or .jsonl.")],
    video: Annotated[Path, typer.Argument(help="The video it is of.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the set; may hold other videos' crops.")],
    review: Annotated[
        Path | None,
        typer.Option(help="CSV or JSON: identity, decision (keep, drop, 'merge-into N'), name. Others are kept."),
    ] = None,
    per_identity: Annotated[int, typer.Option(min=1, help="Crops of each identity at most.")] = 30,
    min_height: Annotated[float, typer.Option(help="Leave out lower boxes, px.")] = 48,
    camera: Annotated[int, typer.Option(help="Number of the camera; -1 = unknown.")] = -1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the crops of this video that the set has already.")
    ] = False,
    same_people: Annotated[
        bool,
        typer.Option("--same-people", help="Equal numbers in several videos are one person: they share a gallery."),
    ] = False,
) -> None:
    """Cut a training set out of one's own video: varied, uncovered, sharp crops of the reviewed identities.

    A set that has crops of this video already is refused without --overwrite; files that are not the set's stay.
    """
    from reid_tracker import reviewed_crops

    written = reviewed_crops.export_crops(
        results,
        video,
        output,
        review=review,
        per_identity=per_identity,
        min_height=min_height,
        camera=camera,
        overwrite=overwrite,
        same_people=same_people,
    )
    print(f"{sum(written.values())} crops of {len(written)} identities")
    print(output / reviewed_crops.LIST)
