"""``reid-tracker track``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reid_tracker.cli.options import (
    ADVANCED,
    APPEARANCE,
    BACKEND,
    BLUR_PEOPLE,
    DETECTION,
    DETECTOR,
    DEVICE,
    EMBEDDER,
    GALLERY,
    INPUT,
    PEOPLE,
    PLACES,
    RESULTS,
    WORKERS,
    Flag,
    takes,
)
from reid_tracker.cli.shared import INTERRUPTED, new_table, parse_settings, print_table, styled_name
from reid_tracker.writing import printable

if TYPE_CHECKING:
    from reid_tracker.results import RunSummary

FLAGS = (
    DETECTOR,
    Flag(
        "--detections",
        "detector.recorded",
        INPUT,
        "Recorded detections instead (MOT det.txt or .npz); {source} and {name} stand for each source's path and name.",
    ),
    Flag(
        "--classes",
        "detector.classes",
        DETECTION,
        "Class names or numbers, comma-separated, or 'all'. Default: person.",
        read=lambda text: text.split(",") if text else None,
    ),
    Flag("--conf", "detector.confidence", DETECTION, "Drop boxes below this confidence.", float),
    Flag("--imgsz", "detector.image_size", DETECTION, "Longer side that the detector sees, px \\[chosen].", int),
    Flag("--speed", "detector.speed", DETECTION, "Sizes the detector chooses from: auto, fast, accurate."),
    EMBEDDER,
    APPEARANCE,
    Flag("--start", "source.start", INPUT, "First frame: a number from 1, or a time: 12.5s, 1:30."),
    Flag("--end", "source.end", INPUT, "Last frame, the same way."),
    Flag("--stride", "source.stride", INPUT, "Take every n-th frame.", int),
    Flag("--fps", "source.fps", INPUT, "Frames per second, instead of the source's own clock.", float),
    Flag(
        "--clock",
        "source.clock",
        INPUT,
        "When the video began, for a report's times: '2026-11-29 14:00:05', or file.",
    ),
    Flag("--roi", "source.roi", INPUT, 'Track only inside this polygon: "x1,y1 x2,y2 x3,y3".'),
    Flag(
        "--line",
        "count.lines",
        PLACES,
        'Count who crosses it: "NAME=x1,y1 x2,y2"; in is to its left. Repeatable.',
        list[str],
    ),
    Flag("--zone", "count.zones", PLACES, 'Count who enters it: "NAME=x1,y1 x2,y2 x3,y3". Repeatable.', list[str]),
    Flag(
        "--places", "count.places", PLACES, "File of lines and zones, drawn with 'reid-tracker places'.", Path, read=str
    ),
    Flag(
        "--output -o",
        "output.folder",
        RESULTS,
        "Folder of the results \\[runs], or a URL: s3://...",
        read=lambda text: text or None,
    ),
    Flag("--overwrite", "output.overwrite", RESULTS, "Replace existing files of any origin, but never an input.", bool),
    Flag(
        "--save-state",
        "output.save_state",
        RESULTS,
        "Save what is known of people, and counts, at the end.",
        Path,
        read=str,
    ),
    Flag(
        "--resume",
        "source.resume",
        INPUT,
        "Go on from a saved state: this video follows on that one.",
        Path,
        read=str,
    ),
    Flag("--video", "output.video", RESULTS, "Write an annotated mp4.", bool),
    Flag("--mot", "output.mot", RESULTS, "Write MOTChallenge text.", bool),
    Flag("--jsonl", "output.jsonl", RESULTS, "Write JSON lines, one object a frame.", bool),
    Flag("--parquet", "output.parquet", RESULTS, "Write all boxes as a table for data frames.", bool),
    Flag("--crops", "output.crops", RESULTS, "Write crops per identity.", bool),
    Flag(
        "--report",
        "output.report",
        RESULTS,
        "Write who was there, when, how long, where: tables and a page.",
        bool,
    ),
    BLUR_PEOPLE,
    Flag("--refine", "refine.enabled", PEOPLE, "Look back after the run: also write <name>_refined.*", bool),
    GALLERY,
    Flag(
        "--retention",
        "gallery.retention_days",
        PEOPLE,
        "First forget people unseen by all runs for so long.",
        float,
        "DAYS",
    ),
    Flag("--class-agnostic", "tracker.class_agnostic", ADVANCED, "Let a track change its class.", bool),
    Flag(
        "--camera-motion/--no-camera-motion",
        "tracker.camera_motion",
        ADVANCED,
        "Follow the camera's own motion.",
        bool,
    ),
    DEVICE,
    BACKEND,
    Flag("--workers", "workers.count", WORKERS, "Sources tracked at a time, in processes of their own.", int, least=1),
    Flag("--ray", "workers.ray", WORKERS, "Spread the sources over this Ray cluster (or auto).", str, "ADDRESS"),
    Flag(
        "--timeout", "workers.timeout", WORKERS, "With workers: give up a source that takes longer.", float, "SECONDS"
    ),
    Flag("--again", "workers.again", WORKERS, "With workers: also what was finished before.", bool),
)


@takes(*FLAGS)
def track(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...", help="Video files, globs, folders of images, MOTChallenge sequence folders."
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Option(
            help="Settings (YAML), see 'reid-tracker config track'; flags override it.", rich_help_panel=INPUT
        ),
    ] = None,
    *,
    overrides: dict[str, Any],
    timings: Annotated[
        bool, typer.Option("--timings", help="Print each stage's milliseconds a frame.", rich_help_panel=ADVANCED)
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Any setting: --set tracker.lost_seconds=5", rich_help_panel=ADVANCED
        ),
    ] = None,
) -> None:
    """Track people (or any class) through videos.

    Without output flags an annotated video and a MOTChallenge text file are written under runs/.

    Examples: reid-tracker track shop.mp4 --report --video; reid-tracker track 'cam*/*.mp4' --gallery people.

    Run again, it replaces what it wrote of the same source once the new results are complete; until then, and if the \
run is broken off, the new ones are called NAME.part.*. Any other file that is there is an error, and stays.
    """
    from reid_tracker.config import TrackConfig, load

    chosen = load(TrackConfig, config, {**overrides, **parse_settings(settings or [])})
    run_track(sources, chosen, timings)


def run_track(sources: list[str], config: Any, timings: bool = False) -> None:
    """Run with a progress bar, or lines where there is no terminal, and print the summary, with each stage's times."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from reid_tracker.pipeline.batch import track as run
    from reid_tracker.pipeline.failures import BatchError
    from reid_tracker.pipeline.source_run import Followed
    from reid_tracker.progress import ProgressLines

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} fps"),
        TimeRemainingColumn(),
    )
    shown: set[str] = set()  # what is known at the start is said at the start, the rest at the end
    lines = None if console.is_terminal else ProgressLines()
    failure: BatchError | None = None
    with Progress(*columns, console=console, transient=True, disable=lines is not None) as bar:
        tasks: dict[int, Any] = {}

        def advance(source: Followed, done: int) -> None:
            if id(source) not in tasks:
                shown.update(source.notes)
                for note in source.notes:
                    console.print(f"Note: {printable(note)}", highlight=False, markup=False)
                tasks[id(source)] = bar.add_task(escape(printable(source.name)), total=source.frame_count, rate="-")
            if lines is not None:
                lines.advance(tasks[id(source)], printable(source.name), done, source.frame_count)
                return
            task = bar.tasks[bar.task_ids.index(tasks[id(source)])]
            bar.update(task.id, completed=done, rate=f"{task.speed:.1f}" if task.speed else "-")

        try:
            summaries = run(sources, config, progress=advance)
        except BatchError as error:
            summaries, failure = error.summaries, error
    _print_summaries(summaries, shown, timings)
    interrupted = next((each for each in summaries if each.interrupted), None)
    if interrupted is not None:
        for each in summaries:
            if each.error:
                print(f"Failed: {printable(f'{each.source}: {each.error}')}", file=sys.stderr)
        print(f"Interrupted: {_describe_interruption(interrupted)}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED)
    if failure is not None:
        raise failure


def _describe_interruption(summary: "RunSummary") -> str:
    """What is left of a run that was ended, and where it is not under its own name."""
    if not summary.last_frame:
        return f"nothing of {summary.source} is written."
    if summary.kept == f"frames up to {summary.last_frame} are kept.":
        return f"{summary.source} is written up to frame {summary.last_frame}."
    # Not every file may go as far: what still waited is given up at a second Ctrl-C.
    return f"{summary.source} was tracked up to frame {summary.last_frame}; {summary.kept}"


def _print_summaries(summaries: "list[RunSummary]", shown: set[str], timings: bool) -> None:
    from reid_tracker.counting import describe

    stages = list(summaries[0].stage_seconds) if timings else []
    table = new_table("source", "frames", "people", "fps", *(f"{stage} ms" for stage in stages))
    for each in summaries:
        frames = max(each.frames, 1)
        rate = each.frames / each.seconds if each.seconds else 0.0
        if each.done_before:
            table.add_row(styled_name(each.source), "done before", *[""] * (len(stages) + 2))
            continue
        milliseconds = [f"{1000 * each.stage_seconds[stage] / frames:.1f}" for stage in stages]
        table.add_row(styled_name(each.source), str(each.frames), str(each.identities), f"{rate:.1f}", *milliseconds)
    print_table(table)
    for each in summaries:
        for line in (
            *describe(each.counts),
            *(f"Note: {note}" for note in each.notes if note not in shown),
            *each.outputs,
            *each.urls,
        ):
            print(printable(line))
