"""``reid-tracker evaluate``: mot, reid and robustness."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from reid_tracker.cli.shared import Overwrite, new_table, parse_settings, print_table, styled_name
from reid_tracker.errors import UserError
from reid_tracker.writing import check_writable

evaluate = typer.Typer(help="Measure results against the truth.", no_args_is_help=True)


@evaluate.command("mot")
def evaluate_mot(
    truth: Annotated[Path, typer.Option(help="Folder with <sequence>/{gt/gt.txt,seqinfo.ini}.")],
    results: Annotated[
        list[Path], typer.Option(help="Folder with <sequence>.txt, or of TrackEval's. Repeat it to compare trackers.")
    ],
    benchmark: Annotated[
        str | None, typer.Option(help="Rules: MOT15, MOT16, MOT17, MOT20, DanceTrack, SportsMOT. Default: detected.")
    ] = None,
    sequence: Annotated[list[str] | None, typer.Option(help="Only this sequence (repeatable).")] = None,
    engine: Annotated[str, typer.Option(help="native (equal to TrackEval) or motmetrics (second opinion).")] = "native",
    json: Annotated[Path | None, typer.Option(help="Write every figure as JSON.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write every figure as CSV.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """HOTA, CLEAR and identity figures, per sequence and combined; of several trackers the combined ones side by side.

    Run again, it replaces the files that it wrote; any other file is an error, and stays.
    """
    from reid_tracker.evaluation import mot
    from reid_tracker.inputs import Inputs
    from reid_tracker.ownership import claim

    if engine not in ("native", "motmetrics"):
        raise UserError(f"--engine {engine}: choose native or motmetrics.")
    check_writable(json, csv)
    inputs = Inputs({"truth": [truth], "results": results})
    with claim([json, csv], inputs, ["evaluate mot"], overwrite) as claimed:
        found = [mot.evaluate_mot(truth, each, benchmark, engine, sequence or None) for each in results]  # type: ignore[arg-type]
        names = [each.resolve().name for each in results]
        names = names if len(set(names)) == len(names) else [str(each) for each in results]
        figures = found[0]
        if len(found) > 1:
            figures = {
                f"{name}/{sequence}": row
                for name, each in zip(names, found, strict=True)
                for sequence, row in each.items()
            }
        if json is not None:
            mot.write_json(figures, claimed.begin(json, grows=False))
        if csv is not None:
            mot.write_csv(figures, claimed.begin(csv, grows=False))
        claimed.complete()
    if len(found) > 1:
        figures = {name: each[mot.COMBINED] for name, each in zip(names, found, strict=True)}
    _print_figures(figures, mot.SUMMARY_FIGURES, "sequence" if len(found) == 1 else "all sequences")


def _print_figures(figures: dict[str, dict[str, float]], wanted: tuple[str, ...], heading: str = "sequence") -> None:
    shown = [name for name in wanted if all(name in row for row in figures.values())]
    table = new_table(heading, *(name.removeprefix("CLR_") for name in shown))
    for sequence, row in figures.items():
        cells = [f"{row[name]:.0f}" if name in COUNTS else f"{100 * row[name]:.2f}" for name in shown]
        table.add_row(styled_name(sequence), *cells, style="bold" if sequence == "COMBINED_SEQ" else None)
    print_table(table)


COUNTS = ("IDSW", "CLR_FP", "CLR_FN", "MT", "ML", "Frag")


@evaluate.command("reid")
def evaluate_reid(
    data: Annotated[str, typer.Option(help="Crops: a data set's folder, or a CSV (path, identity, camera, split).")],
    model: Annotated[Path | None, typer.Option(help="A checkpoint, .onnx or .xml \\[bundled].")] = None,
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
    from reid_tracker.inputs import Inputs
    from reid_tracker.ownership import claim
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
    table = new_table("", *names)
    for name, row in rows.items():
        table.add_row(styled_name(name), *(f"{100 * row[figure]:.1f}" for figure in names))
    print_table(table)
    if "corruptions" in figures:
        severities = list(figures["robustness"])
        table = new_table("rank1 / mAP at severity", *severities)
        for kind, by_severity in figures["corruptions"].items():
            cells = (by_severity[severity] for severity in severities)
            table.add_row(
                styled_name(kind), *(f"{100 * cell['rank1']:.1f} / {100 * cell['mAP']:.1f}" for cell in cells)
            )
        kept = (f"{100 * figures['robustness'][severity]:.0f} %" for severity in severities)
        table.add_row("mAP kept, mean", *kept, style="bold")
        print_table(table)


@evaluate.command("robustness")
def evaluate_robustness(
    sequence: Annotated[Path, typer.Argument(help="A MOTChallenge sequence folder with pixels, or a video.")],
    truth: Annotated[Path | None, typer.Option(help="Its gt.txt; default: the folder's own.")] = None,
    detections: Annotated[
        str | None,
        typer.Option(help="Boxes of the clean frames (det.txt or .npz): only appearance sees the corrupted ones."),
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
    from reid_tracker.inputs import Inputs
    from reid_tracker.ownership import claim
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
    config = load(TrackConfig, None, {**overrides, **parse_settings(settings or [])})
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
    table = new_table("HOTA / IDF1 / kept at severity", *severities)
    for kind, row in figures["corruptions"].items():
        cells = (row[severity] for severity in severities)
        shown = (f"{100 * each['HOTA']:.1f} / {100 * each['IDF1']:.1f} / {100 * each['kept']:.0f} %" for each in cells)
        table.add_row(styled_name(kind), *shown)
    if mean := figures["blur_and_light"]:
        shown = (f"{100 * mean[severity]:.0f} %" for severity in severities)
        table.add_row("IDF1 kept, mean of blur and light", *shown, style="bold")
    print_table(table)
