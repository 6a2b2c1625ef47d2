"""The command line: parse, call one function of the package, print."""

import io
import logging
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reid_tracker import __version__
from reid_tracker.errors import UserError
from reid_tracker.gallery.commands import app as gallery_app
from reid_tracker.writing import check_writable, printable

if TYPE_CHECKING:  # the rest of the package is imported by the command that needs it: --help stays quick
    from rich.table import Table
    from rich.text import Text

    from reid_tracker.results import RunSummary

app = typer.Typer(
    name="reid-tracker",
    help="Who is who in a video: multi-object tracking with re-identification.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
evaluate = typer.Typer(help="Measure results against the truth.", no_args_is_help=True)
app.add_typer(evaluate, name="evaluate")
app.add_typer(gallery_app, name="gallery")

# How the options of `track` are grouped in its help.
INPUT, DETECTION, PEOPLE = "Input", "Detection", "People and identities"
PLACES, RESULTS, ADVANCED = "Places", "Results", "Advanced"
INTERRUPTED = 130  # what a shell reports for a program ended by Ctrl-C
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace files whoever wrote them; an input of the run is never replaced.")
]


def main() -> None:
    """Run the command line; a user's mistake ends in one sentence and status 2, SIGTERM and SIGHUP as Ctrl-C does."""
    for stream in (sys.stdout, sys.stderr):  # a terminal or pipe that knows fewer letters ends no run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler()
    handler.setFormatter(_PrintableFormatter("Note: %(message)s"))
    log = logging.getLogger("reid_tracker")
    log.addHandler(handler)
    try:
        with _ending_as_ctrl_c_does():
            app()
    except UserError as error:
        print(f"Error: {printable(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    finally:
        log.removeHandler(handler)


@contextmanager
def _ending_as_ctrl_c_does() -> Iterator[None]:
    """Let a service manager and a terminal that closes end a run as cleanly as Ctrl-C."""
    if current_thread() is not main_thread():  # whoever runs this there handles signals
        yield
        return
    named = (getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
    numbers = [each for each in named if signal.getsignal(each) == signal.SIG_DFL]  # nohup ignores SIGHUP, and means it

    def interrupt(number: int, frame: Any) -> None:
        for each in numbers:  # one is enough: a second must not break off what the first one finishes
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for each in numbers:
        signal.signal(each, interrupt)
    try:
        yield
    finally:
        for each in numbers:
            signal.signal(each, signal.SIG_DFL)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"reid-tracker {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
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
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the results \\[runs].", rich_help_panel=RESULTS)
    ] = None,
    overwrite: Annotated[
        bool | None,
        typer.Option(
            "--overwrite",
            help="Replace files whoever wrote them; an input of the run is never replaced.",
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
        typer.Option(
            help="Recognise and enrol people: a folder, or the URL of a Qdrant collection.", rich_help_panel=PEOPLE
        ),
    ] = None,
    retention: Annotated[
        float | None,
        typer.Option(metavar="DAYS", help="Forget first whom no run has seen for so long.", rich_help_panel=PEOPLE),
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
        "output.folder": str(output) if output else None,
        "output.overwrite": overwrite,
        "output.save_state": str(save_state) if save_state else None,
        "source.resume": str(resume) if resume else None,
        "output.video": video,
        "output.mot": mot,
        "output.jsonl": jsonl,
        "output.crops": crops,
        "output.report": report,
        "output.blur_people": blur_people,
        "gallery.where": gallery,
        "gallery.retention_days": retention,
        "refine.enabled": refine,
        "tracker.class_agnostic": class_agnostic,
        "tracker.camera_motion": camera_motion,
    }
    chosen = load(TrackConfig, config, {**overrides, **_parse_settings(settings or [])})
    _run_track(sources, chosen)


@app.command()
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
    gallery: Annotated[
        str | None, typer.Option(help="Recognise and enrol people: a folder, or the URL of a Qdrant collection.")
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
    from reid_tracker.live.run import live as run

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
        "output.blur_people": blur_people,
    }
    chosen = load(LiveConfig, config, {**overrides, **_parse_settings(settings or [])})

    def started(address: str | None) -> None:
        print(f"The page is at {address}" if address else "Running.", flush=True)

    loop = run(source, chosen, realtime=realtime, token=token, started=started)
    table = _table("source", "received", "tracked", "dropped", "reconnects", "delay ms")
    for camera, meter in zip(loop.cameras, loop.meters, strict=True):
        figures = (camera.received, meter.frames, camera.dropped, camera.reconnects, round(1000 * meter.delay()))
        table.add_row(_name(camera.name), *map(str, figures))
    _print_table(table)


@app.command()
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

    wanted = {"detector.model": detector, **_parse_settings(settings or [])}
    needed = {"output.folder": str(output), "output.video": True, "output.mot": True, "output.overwrite": overwrite}
    config = load(TrackConfig, None, {**wanted, **needed})
    folder = output.expanduser() / "clip"
    with claim([], of=["demo"], overwrite=overwrite, folders=[folder]) as claimed:
        make_clip(claimed.begin(folder), folder.name)
        claimed.complete()
    clip = folder / f"{folder.name}.mp4"
    _run_track([str(clip)], config)
    figures = mot.evaluate_mot(clip.parent, output / f"{clip.stem}.txt")[clip.parent.name]
    shown = "  ".join(f"{name} {100 * figures[name]:.1f}" for name in ("HOTA", "MOTA", "IDF1"))
    print(f"{shown}  switches {figures['IDSW']:.0f}")
    print(output / f"{clip.stem}.mp4")


def _parse_settings(pairs: list[str]) -> dict[str, Any]:
    """NAME=VALUE pairs as settings; values are YAML, so that numbers, lists and null can be written."""
    import yaml

    parsed: dict[str, Any] = {}
    for pair in pairs:
        name, value = _split_pair(pair, "--set", "NAME=VALUE")
        try:
            parsed[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(f"--set {pair}: the value is not YAML.") from error
    return parsed


def _split_pair(pair: str, flag: str, form: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not equals or not name:
        raise UserError(f"{flag} {pair}: write {form}.")
    return name, value


def _run_track(sources: list[str], config: Any) -> None:
    """Run with a progress bar, or lines where there is no terminal, and print the summary."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from reid_tracker.pipeline import BatchError
    from reid_tracker.pipeline import track as run
    from reid_tracker.progress import ProgressLines
    from reid_tracker.video.sources import Source

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

        def advance(source: Source, done: int) -> None:
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
    _print_summaries(summaries, shown)
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


def _print_summaries(summaries: "list[RunSummary]", shown: set[str]) -> None:
    from reid_tracker.counting import describe

    stages = list(summaries[0].stage_seconds)
    table = _table("source", "frames", "identities", "fps", *(f"{stage} ms" for stage in stages))
    for each in summaries:
        frames = max(each.frames, 1)
        rate = each.frames / each.seconds if each.seconds else 0.0
        milliseconds = [f"{1000 * each.stage_seconds[stage] / frames:.1f}" for stage in stages]
        table.add_row(_name(each.source), str(each.frames), str(each.identities), f"{rate:.1f}", *milliseconds)
    _print_table(table)
    for each in summaries:
        for line in (
            *describe(each.counts),
            *(f"Note: {note}" for note in each.notes if note not in shown),
            *each.outputs,
        ):
            print(printable(line))


def _name(text: str) -> "Text":
    """A table's first cell: no markup, whatever brackets it holds."""
    from rich.text import Text

    return Text(printable(text))


class _PrintableFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def _table(first: str, *numbers: str) -> "Table":
    """A table of one name and many numbers a row."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _print_table(table: "Table") -> None:
    """Print all of a table, also where the terminal is narrower: figures cut short are wrong figures."""
    from rich.console import Console

    console = Console()
    needed = console.measure(table, options=console.options.update(max_width=1000)).maximum
    Console(width=max(console.width, needed)).print(table)


@evaluate.command("mot")
def evaluate_mot(
    truth: Annotated[Path, typer.Option(help="Folder with <sequence>/{gt/gt.txt,seqinfo.ini}.")],
    results: Annotated[Path, typer.Option(help="Folder with <sequence>.txt.")],
    benchmark: Annotated[
        str | None, typer.Option(help="Rules: MOT15, MOT16, MOT17, MOT20, DanceTrack, SportsMOT. Default: detected.")
    ] = None,
    sequence: Annotated[list[str] | None, typer.Option(help="Only this sequence (repeatable).")] = None,
    engine: Annotated[str, typer.Option(help="native (equal to TrackEval) or motmetrics (second opinion).")] = "native",
    json: Annotated[Path | None, typer.Option(help="Write every figure as JSON.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write every figure as CSV.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """HOTA, CLEAR and identity figures, per sequence and combined.

    Run again, it replaces the files that it wrote; any other file is an error, and stays.
    """
    from reid_tracker.evaluation import mot
    from reid_tracker.ownership import Inputs, claim

    if engine not in ("native", "motmetrics"):
        raise UserError(f"--engine {engine}: choose native or motmetrics.")
    check_writable(json, csv)
    inputs = Inputs({"truth": [truth], "results": [results]})
    with claim([json, csv], inputs, ["evaluate mot"], overwrite) as claimed:
        figures = mot.evaluate_mot(truth, results, benchmark, engine, sequence or None)  # type: ignore[arg-type]
        if json is not None:
            mot.write_json(figures, claimed.begin(json, grows=False))
        if csv is not None:
            mot.write_csv(figures, claimed.begin(csv, grows=False))
        claimed.complete()
    _print_figures(figures, mot.SUMMARY_FIGURES)


def _print_figures(figures: dict[str, dict[str, float]], wanted: tuple[str, ...]) -> None:
    shown = [name for name in wanted if all(name in row for row in figures.values())]
    table = _table("sequence", *(name.removeprefix("CLR_") for name in shown))
    for sequence, row in figures.items():
        cells = [f"{row[name]:.0f}" if name in COUNTS else f"{100 * row[name]:.2f}" for name in shown]
        table.add_row(_name(sequence), *cells, style="bold" if sequence == "COMBINED_SEQ" else None)
    _print_table(table)


COUNTS = ("IDSW", "CLR_FP", "CLR_FN", "MT", "ML", "Frag")


@evaluate.command("reid")
def evaluate_reid(
    data: Annotated[str, typer.Option(help="Crops: a data set's folder, or a CSV (path, identity, camera, split).")],
    model: Annotated[Path | None, typer.Option(help="A checkpoint, .onnx or .xml; default: the bundled one.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
    corruptions: Annotated[bool, typer.Option("--corruptions", help="Also under blur, bad light, noise, ...")] = False,
    rerank: Annotated[bool, typer.Option("--rerank", help="Also with k-reciprocal re-ranking.")] = False,
    ranked_list: Annotated[Path | None, typer.Option(help="Draw queries and their ten best (PNG).")] = None,
    embedding_map: Annotated[Path | None, typer.Option("--map", help="Draw the vectors in a plane (PNG).")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Rank-1, mAP and mINP of an appearance network, by the Market-1501 protocol.

    Run again, it replaces the files that it wrote; any other file is an error, and stays.
    """
    from rich.console import Console
    from rich.progress import Progress

    from reid_tracker.evaluation import reid
    from reid_tracker.evaluation.mot import write_json
    from reid_tracker.evaluation.reid_pictures import check_pictures
    from reid_tracker.ownership import Inputs, claim
    from reid_tracker.progress import ProgressLines

    check_writable(json)
    check_pictures(ranked_list, embedding_map)
    console = Console(stderr=True)
    lines = None if console.is_terminal else ProgressLines("crop")
    inputs = Inputs({"data": [_without_slice(data)], "model": [model]})
    with (
        claim([json, ranked_list, embedding_map], inputs, ["evaluate reid"], overwrite) as claimed,
        Progress(console=console, transient=True, disable=lines is not None) as bar,
    ):
        tasks: dict[str, Any] = {}

        def advance(task: str, done: int, total: int) -> None:
            if lines is not None:
                lines.advance(task, task, done, total)
                return
            if task not in tasks:
                tasks[task] = bar.add_task(task, total=total)
            bar.update(tasks[task], completed=done, visible=done < total)

        ranked, mapped = (claimed.begin(each, grows=False) if each else None for each in (ranked_list, embedding_map))
        figures = reid.evaluate_reid(data, model, corruptions, rerank, ranked, mapped, device, progress=advance)
        if json is not None:
            write_json(figures, claimed.begin(json, grows=False))
        claimed.complete()
    _print_retrieval(figures)


def _without_slice(data: str) -> str:
    """The folder or file of a set of crops: ``market[:551]`` is part of ``market``."""
    return re.sub(r"\[\d*:\d*\]$", "", data)


def _print_retrieval(figures: dict[str, Any]) -> None:
    print(f"{figures['queries']} queries, {figures['gallery']} in the gallery, {figures['identities']} identities")
    names = ("rank1", "rank5", "mAP", "mINP")
    rows = {figures["model"]: figures}
    if "reranked" in figures:
        rows["re-ranked"] = figures["reranked"]
    table = _table("", *names)
    for name, row in rows.items():
        table.add_row(_name(name), *(f"{100 * row[figure]:.1f}" for figure in names))
    _print_table(table)
    if "corruptions" in figures:
        severities = list(figures["robustness"])
        table = _table("rank1 / mAP at severity", *severities)
        for kind, by_severity in figures["corruptions"].items():
            cells = (by_severity[severity] for severity in severities)
            table.add_row(_name(kind), *(f"{100 * cell['rank1']:.1f} / {100 * cell['mAP']:.1f}" for cell in cells))
        kept = (f"{100 * figures['robustness'][severity]:.0f} %" for severity in severities)
        table.add_row("mAP kept, mean", *kept, style="bold")
        _print_table(table)


@evaluate.command("robustness")
def evaluate_robustness(
    sequence: Annotated[Path, typer.Argument(help="A MOTChallenge sequence folder with pixels, or a video.")],
    truth: Annotated[Path | None, typer.Option(help="Its gt.txt; default: the folder's own.")] = None,
    detections: Annotated[
        str | None, typer.Option(help="Boxes of the clean frames (det.txt or .npz): only appearance sees the spoilt.")
    ] = None,
    corruptions: Annotated[str | None, typer.Option(help="motion_blur,flicker,... Default: all.")] = None,
    severities: Annotated[str, typer.Option(help="Of 1 to 5.")] = "1,3,5",
    fps: Annotated[float | None, typer.Option(help="Frames per second; overrides the container's clock.")] = None,
    stride: Annotated[int | None, typer.Option(help="Take every n-th frame.")] = None,
    end: Annotated[str | None, typer.Option(help="Last frame: a number from 1, or a time such as 12.5s.")] = None,
    detector: Annotated[str | None, typer.Option(help="A YOLO: a path, or a name to download \\[bundled].")] = None,
    embedder: Annotated[str | None, typer.Option(help="Appearance network \\[bundled].")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the figures as JSON.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw them (PNG).")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting: --set tracker.lost_seconds=5")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """HOTA and IDF1 under blur, bad light, dropped frames, shake, ..., and what is kept of clean.

    Run again, it replaces the files that it wrote; any other file is an error, and stays.
    """
    from rich.console import Console
    from rich.progress import Progress

    from reid_tracker.config import TrackConfig, load
    from reid_tracker.evaluation import robustness
    from reid_tracker.evaluation.mot import write_json
    from reid_tracker.ownership import Inputs, claim
    from reid_tracker.progress import ProgressLines

    check_writable(json, plot)
    kinds = corruptions.split(",") if corruptions else list(robustness.VIDEO_CORRUPTIONS)
    try:
        levels = [int(each) for each in severities.split(",")]
    except ValueError:
        raise UserError(f"--severities {severities}: write numbers of 1 to 5, such as 1,3,5.") from None
    overrides: dict[str, Any] = {
        "device": device,
        "source.fps": fps,
        "source.stride": stride,
        "source.end": end,
        "detector.model": detector,
        "detector.recorded": detections,
        "embedder.model": embedder,
    }
    config = load(TrackConfig, None, {**overrides, **_parse_settings(settings or [])})
    console = Console(stderr=True)
    lines = None if console.is_terminal else ProgressLines()
    inputs = Inputs({"source": [sequence], "truth": [truth], "detections": [detections], "model": [detector, embedder]})
    with (
        claim([json, plot], inputs, ["evaluate robustness"], overwrite) as claimed,
        Progress(console=console, transient=True, disable=lines is not None) as bar,
    ):
        task = bar.add_task("frames", total=None)

        def advance(done: int, total: int | None) -> None:
            if lines is not None:
                lines.advance(task, sequence.name, done, total)
            bar.update(task, completed=done, total=total)

        figures = robustness.evaluate_robustness(sequence, truth, config, kinds, levels, advance)
        if json is not None:
            write_json(figures, claimed.begin(json, grows=False))
        if plot is not None:
            robustness.draw_robustness(figures, claimed.begin(plot, grows=False))
        claimed.complete()
    _print_robustness(figures, [str(level) for level in levels])


def _print_robustness(figures: dict[str, Any], severities: list[str]) -> None:
    clean = figures["clean"]
    print(f"{figures['sequence']}, {figures['mode']}, {figures['frames']} frames")
    print(f"clean: HOTA {100 * clean['HOTA']:.1f}  IDF1 {100 * clean['IDF1']:.1f}  switches {clean['IDSW']:.0f}")
    table = _table("HOTA / IDF1 / kept at severity", *severities)
    for kind, row in figures["corruptions"].items():
        cells = (row[severity] for severity in severities)
        shown = (f"{100 * each['HOTA']:.1f} / {100 * each['IDF1']:.1f} / {100 * each['kept']:.0f} %" for each in cells)
        table.add_row(_name(kind), *shown)
    if mean := figures["blur_and_light"]:
        shown = (f"{100 * mean[severity]:.0f} %" for severity in severities)
        table.add_row("IDF1 kept, mean of blur and light", *shown, style="bold")
    _print_table(table)


@app.command()
def train(
    data: Annotated[list[str], typer.Argument(metavar="DATA...", help="Crops: data sets' folders, CSV files.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the model and of what resumes it.")],
    config: Annotated[
        Path | None, typer.Option(help="Settings (YAML), see 'reid-tracker config train'; flags override it.")
    ] = None,
    test: Annotated[
        list[str] | None, typer.Option(metavar="NAME=DATA", help="Measure the finished model on this set (repeatable).")
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="Weights to start from: a file, or 'bundled'. Default: random.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from --output after an interruption.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Train anew where a model is; it stays until the new one is complete.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting: --set schedule.epochs=30")
    ] = None,
) -> None:
    """Train an appearance network on folders of people (or of any identities).

    Where a model is already, a second run is refused: --resume goes on with it, --overwrite begins anew.
    """
    from reid_tracker.config import TrainConfig, load
    from reid_tracker.training.command import latest_epoch
    from reid_tracker.training.command import train as run

    tests = dict(_split_pair(pair, "--test", "NAME=DATA") for pair in test or [])
    chosen = load(TrainConfig, config, _parse_settings(settings or []))
    before = latest_epoch(output)
    try:
        figures = run(
            data,
            output,
            chosen,
            tests=tests,
            start=start,
            resume=resume,
            overwrite=overwrite,
            device=device,
            show_progress=True,
        )
    except KeyboardInterrupt:
        mend = "the same command with --resume goes on after the last whole epoch."
        if not resume and latest_epoch(output) == before:
            mend = "no epoch was whole yet, so that --resume has nothing to go on from; start it again."
        print(f"Interrupted: {mend}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    names = ("rank1", "rank5", "mAP", "mINP")
    table = _table("", *names)
    for name, row in figures.items():
        table.add_row(_name(name), *(f"{100 * row[figure]:.1f}" for figure in names))
    if figures:
        _print_table(table)
    print(output / "appearance.safetensors")


@app.command()
def report(
    results: Annotated[Path, typer.Argument(help="What 'track' wrote: <name>.jsonl or <name>.txt (or _refined).")],
    video: Annotated[Path | None, typer.Option(help="The video it is of: for pictures and times.")] = None,
    line: Annotated[list[str] | None, typer.Option(help='As for track: "NAME=x1,y1 x2,y2". Repeatable.')] = None,
    zone: Annotated[list[str] | None, typer.Option(help='As for track: "NAME=x1,y1 x2,y2 x3,y3". Repeatable.')] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second, where neither of them holds times.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder \\[that of the results].")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Tell who was there, when, how long, where, from results at hand: as 'track --report', without tracking again.

    Example: reid-tracker report runs/shop.jsonl --video shop.mp4 --zone "till=330,150 700,150 700,420".

    Run again, it replaces what it or 'track' wrote of the same video; any other file is an error, and stays.
    """
    from reid_tracker.report.finished import report as run

    for file in run(results, video, output, lines=line or (), zones=zone or (), fps=fps, overwrite=overwrite):
        print(printable(file))


@app.command()
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


@app.command("export-crops")
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
    )
    print(f"{sum(written.values())} crops of {len(written)} identities")
    print(output / reviewed_crops.LIST)


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A checkpoint (.safetensors).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    format: Annotated[str, typer.Option(help="onnx or openvino.")] = "onnx",
    int8: Annotated[bool, typer.Option("--int8", help="8-bit whole numbers; calibrated on --data.")] = False,
    data: Annotated[
        list[str] | None, typer.Option(help="Crops to calibrate int8 on: training data. May be repeated.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Export an appearance network for ONNX Runtime or OpenVINO; --embedder takes the result.

    Run again, it replaces the file that it wrote; any other file is an error, and stays.
    """
    from reid_tracker.appearance.export import export_model

    print(export_model(model, output, format, int8, data or (), overwrite=overwrite))


@app.command()
def config(
    command: Annotated[str, typer.Argument(help="Whose settings: track, live or train.")] = "track",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write instead of the screen.")] = None,
) -> None:
    """Write out every setting with its default and meaning, as YAML."""
    from reid_tracker.config import CONFIGS, write_yaml

    if command not in CONFIGS:
        raise UserError(f"config {command}: there are settings for {', '.join(CONFIGS)}.")
    text = write_yaml(CONFIGS[command]())
    if output is None:
        print(text, end="")
        return
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error.strerror}).") from error
