"""Options that are settings: each is declared once, with the setting that it sets, for all commands that have it.

The types are written here: reading them off the settings would load pydantic for every ``--help``.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import typer

# How options are grouped in the help.
INPUT, DETECTION, PEOPLE = "Input", "Detection", "People and identities"
PLACES, RESULTS, WORKERS, ADVANCED = "Places", "Results", "Many sources", "Advanced"


class Flag(NamedTuple):
    """An option that is a setting.

    Attributes
    ----------
    names : str
        As typer takes them: ``--conf``, ``--output -o``, ``--appearance/--no-appearance``.
    setting : str
        Dotted name.
    panel, help : str
        Its group in the help, and its words there.
    kind : type
        What it takes; a bool takes nothing.
    metavar : str, optional
        What the help calls its value.
    least : int, optional
        The smallest value.
    read : callable, optional
        Turns what was given into the setting's value.
    """

    names: str
    setting: str
    panel: str
    help: str
    kind: Any = str
    metavar: str | None = None
    least: int | None = None
    read: Callable[[Any], Any] | None = None

    @property
    def parameter(self) -> inspect.Parameter:
        """The parameter of a command; None where it was not given."""
        option = typer.Option(
            *self.names.split(), help=self.help, rich_help_panel=self.panel, metavar=self.metavar, min=self.least
        )
        kind: Any = Annotated[self.kind | None, option]
        name = self.names.split()[0].partition("/")[0].removeprefix("--").replace("-", "_")
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)


def takes(*flags: Flag) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these options; its parameter ``overrides`` gets the settings, and is their place in the help."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters
        place = list(own).index("overrides")
        kept = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for name, each in own.items() if name != "overrides"]
        parameters = {flag: flag.parameter for flag in flags}

        @functools.wraps(command)
        def run(**given: Any) -> None:
            overrides: dict[str, Any] = {}
            for flag, parameter in parameters.items():
                value = given.pop(parameter.name)
                value = None if value == [] else value
                overrides[flag.setting] = flag.read(value) if flag.read and value is not None else value
            command(overrides=overrides, **given)

        signature = [*kept[:place], *parameters.values(), *kept[place:]]
        run.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in signature}
        return run

    return decorate


DETECTOR = Flag("--detector", "detector.model", DETECTION, "A YOLO: a path, or a name to download \\[bundled].")
EMBEDDER = Flag("--embedder", "embedder.model", PEOPLE, "Appearance network \\[bundled].")
APPEARANCE = Flag("--appearance/--no-appearance", "embedder.enabled", PEOPLE, "Use appearance, or motion only.", bool)
GALLERY = Flag("--gallery", "gallery.where", PEOPLE, "Recognise and enrol people: a folder, or a postgresql:// URL.")
BLUR_PEOPLE = Flag("--blur-people", "output.blur_people", RESULTS, "Blur everyone in the video.", bool)
DEVICE = Flag("--device", "device", ADVANCED, "auto, cpu, cuda, cuda:1, mps.")
BACKEND = Flag("--backend", "backend", ADVANCED, "What runs the networks: auto, torch, onnx, openvino.")
