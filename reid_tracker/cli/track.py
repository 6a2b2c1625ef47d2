"""``reid-tracker track``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reid_tracker.cli.shared import INTERRUPTED, new_table, parse_settings, print_table, styled_name
from reid_tracker.writing import printable

if TYPE_CHECKING:
    from reid_tracker.results import RunSummary

# How the options of `track` are grouped in its help.
INPUT, DETECTION, PEOPLE = "Input", "Detection", "People and identities"


PLACES, RESULTS, WORKERS, ADVANCED = "Places", "Results", "Many sources", "Advanced"


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
    detector: Annotated[
        str | None, typer.Option(help="A YOLO: a path, or a name to download \\[bundled].", rich_help_panel=DETECTION)
    ] = None,
    detections: Annotated[
        str | None,
        typer.Option(
            help="Recorded detections instead (MOT det.txt or .npz); {source} and {name} stand for each "
            "source's path and name.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Class names or numbers, comma-separated, or 'all'. Default: person.", rich_help_panel=DETECTION
        ),
    ] = None,
    conf: Annotated[
        float | None, typer.Option(help="Drop boxes below this confidence.", rich_help_panel=DETECTION)
    ] = None,
    imgsz: Annotated[
        int | None, typer.Option(help="Longer side that the detector sees, px \\[chosen].", rich_help_panel=DETECTION)
    ] = None,
    speed: Annotated[
        str | None,
        typer.Option(help="Sizes the detector chooses from: auto, fast, accurate.", rich_help_panel=DETECTION),
    ] = None,
    embedder: Annotated[
        str | None, typer.Option(help="Appearance network \\[bundled].", rich_help_panel=PEOPLE)
    ] = None,
    appearance: Annotated[
        bool | None,
        typer.Option("--appearance/--no-appearance", help="Use appearance, or motion only.", rich_help_panel=PEOPLE),
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="First frame: a number from 1, or a time: 12.5s, 1:30.", rich_help_panel=INPUT)
    ] = None,
    end: Annotated[str | None, typer.Option(help="Last frame, the same way.", rich_help_panel=INPUT)] = None,
    stride: Annotated[int | None, typer.Option(help="Take every n-th frame.", rich_help_panel=INPUT)] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames per second, instead of the source's own clock.", rich_help_panel=INPUT)
    ] = None,
    clock: Annotated[
        str | None,
        typer.Option(
            help="When the video began, for a report's times: '2026-11-29 14:00:05', or file.", rich_help_panel=INPUT
        ),
    ] = None,
    roi: Annotated[
        str | None, typer.Option(help='Track only inside this polygon: "x1,y1 x2,y2 x3,y3".', rich_help_panel=INPUT)
    ] = None,
    line: Annotated[
        list[str] | None,
        typer.Option(
            help='Count who crosses it: "NAME=x1,y1 x2,y2"; in is to its left. Repeatable.', rich_help_panel=PLACES
        ),
    ] = None,
    zone: Annotated[
        list[str] | None,
        typer.Option(help='Count who enters it: "NAME=x1,y1 x2,y2 x3,y3". Repeatable.', rich_help_panel=PLACES),
    ] = None,
    places: Annotated[
        Path | None,
        typer.Option(help="File of lines and zones, drawn with 'reid-tracker places'.", rich_help_panel=PLACES),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", help="Folder of the results \\[runs], or a URL: s3://...", rich_help_panel=RESULTS
        ),
    ] = None,
    overwrite: Annotated[
        bool | None,
        typer.Option(
            "--overwrite",
            help="Replace existing files of any origin, but never an input.",
            rich_help_panel=RESULTS,
        ),
    ] = None,
    save_state: Annotated[
        Path | None, typer.Option(help="Save what is known of people, and counts, at the end.", rich_help_panel=RESULTS)
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on from a saved state: this video follows on that one.", rich_help_panel=INPUT),
    ] = None,
    video: Annotated[
        bool | None, typer.Option("--video", help="Write an annotated mp4.", rich_help_panel=RESULTS)
    ] = None,
    mot: Annotated[bool | None, typer.Option("--mot", help="Write MOTChallenge text.", rich_help_panel=RESULTS)] = None,
    jsonl: Annotated[
        bool | None, typer.Option("--jsonl", help="Write JSON lines, one object a frame.", rich_help_panel=RESULTS)
    ] = None,
    parquet: Annotated[
        bool | None,
        typer.Option("--parquet", help="Write all boxes as a table for data frames.", rich_help_panel=RESULTS),
    ] = None,
    crops: Annotated[
        bool | None, typer.Option("--crops", help="Write crops per identity.", rich_help_panel=RESULTS)
    ] = None,
    report: Annotated[
        bool | None,
        typer.Option(
            "--report", help="Write who was there, when, how long, where: tables and a page.", rich_help_panel=RESULTS
        ),
    ] = None,
    blur_people: Annotated[
        bool | None, typer.Option("--blur-people", help="Blur everyone in the video.", rich_help_panel=RESULTS)
    ] = None,
    refine: Annotated[
        bool | None,
        typer.Option("--refine", help="Look back after the run: also write <name>_refined.*", rich_help_panel=PEOPLE),
    ] = None,
    gallery: Annotated[
        str | None,
        typer.Option(help="Recognise and enrol people: a folder, or a postgresql:// URL.", rich_help_panel=PEOPLE),
    ] = None,
    retention: Annotated[
        float | None,
        typer.Option(
            metavar="DAYS", help="First forget people unseen by all runs for so long.", rich_help_panel=PEOPLE
        ),
    ] = None,
    class_agnostic: Annotated[
        bool | None, typer.Option("--class-agnostic", help="Let a track change its class.", rich_help_panel=ADVANCED)
    ] = None,
    camera_motion: Annotated[
        bool | None, typer.Option(help="Follow the camera's own motion.", rich_help_panel=ADVANCED)
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.", rich_help_panel=ADVANCED)] = None,
    backend: Annotated[
        str | None, typer.Option(help="What runs the networks: auto, torch, onnx, openvino.", rich_help_panel=ADVANCED)
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Sources tracked at a time, in processes of their own.", rich_help_panel=WORKERS),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Spread the sources over this Ray cluster (or auto).", rich_help_panel=WORKERS
        ),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="With workers: give up a source that takes longer.", rich_help_panel=WORKERS
        ),
    ] = None,
    again: Annotated[
        bool | None,
        typer.Option("--again", help="With workers: also what was finished before.", rich_help_panel=WORKERS),
    ] = None,
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

    overrides: dict[str, Any] = {
        "device": device,
        "backend": backend,
        "source.fps": fps,
        "source.clock": clock,
        "source.start": start,
        "source.end": end,
        "source.stride": stride,
        "source.roi": roi,
        "detector.model": detector,
        "detector.recorded": detections,
        "detector.classes": classes.split(",") if classes else None,
        "detector.confidence": conf,
        "detector.image_size": imgsz,
        "detector.speed": speed,
        "embedder.model": embedder,
        "embedder.enabled": appearance,
        "count.lines": line or None,
        "count.zones": zone or None,
        "count.places": str(places) if places else None,
        "output.folder": output or None,
        "output.overwrite": overwrite,
        "output.save_state": str(save_state) if save_state else None,
        "source.resume": str(resume) if resume else None,
        "output.video": video,
        "output.mot": mot,
        "output.jsonl": jsonl,
        "output.parquet": parquet,
        "output.crops": crops,
        "output.report": report,
        "output.blur_people": blur_people,
        "gallery.where": gallery,
        "gallery.retention_days": retention,
        "refine.enabled": refine,
        "tracker.class_agnostic": class_agnostic,
        "tracker.camera_motion": camera_motion,
        "workers.count": workers,
        "workers.ray": ray,
        "workers.timeout": timeout,
        "workers.again": again,
    }
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
    text = f"{summary.source} is written up to frame {summary.last_frame}."
    is_plain = summary.kept == f"frames up to {summary.last_frame} are kept."
    return text if is_plain else f"{text} {summary.kept[:1].upper()}{summary.kept[1:]}"


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
