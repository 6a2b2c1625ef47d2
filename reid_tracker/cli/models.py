"""``reid-tracker export`` and ``reid-tracker config``."""

from pathlib import Path
from typing import Annotated

import typer

from reid_tracker.cli.shared import Overwrite
from reid_tracker.errors import UserError


def export(
    model: Annotated[Path, typer.Argument(help="A checkpoint (.safetensors).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    format: Annotated[str | None, typer.Option(help="onnx or openvino \\[by OUTPUT: .xml is openvino].")] = None,
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

    chosen = format or ("openvino" if output.suffix == ".xml" else "onnx")
    print(export_model(model, output, chosen, int8, data or (), overwrite=overwrite))


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
