"""``reid-tracker train``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from reid_tracker.cli.shared import INTERRUPTED, new_table, parse_settings, print_table, split_pair, styled_name


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

    tests = dict(split_pair(pair, "--test", "NAME=DATA") for pair in test or [])
    chosen = load(TrainConfig, config, parse_settings(settings or []))
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
        advice = "the same command with --resume goes on after the last whole epoch."
        if not resume and latest_epoch(output) == before:
            advice = "no epoch was whole yet, so that --resume has nothing to go on from; start it again."
        print(f"Interrupted: {advice}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    names = ("rank1", "rank5", "mAP", "mINP")
    table = new_table("", *names)
    for name, row in figures.items():
        table.add_row(styled_name(name), *(f"{100 * row[figure]:.1f}" for figure in names))
    if figures:
        print_table(table)
    print(output / "appearance.safetensors")
