"""What the commands share: settings from NAME=VALUE, tables, text that a terminal can bear."""

import logging
from typing import TYPE_CHECKING, Annotated, Any

import typer

from reid_tracker.errors import UserError
from reid_tracker.writing import printable

if TYPE_CHECKING:  # the rest of the package is imported by the command that needs it: --help stays quick
    from rich.table import Table
    from rich.text import Text

INTERRUPTED = 130  # what a shell reports for a program ended by Ctrl-C


Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace existing files of any origin, but never an input.")
]


def parse_settings(pairs: list[str]) -> dict[str, Any]:
    """NAME=VALUE pairs as settings; values are YAML, so that numbers, lists and null can be written."""
    from reid_tracker.reading import parse_yaml

    parsed: dict[str, Any] = {}
    for pair in pairs:
        name, value = split_pair(pair, "--set", "NAME=VALUE")
        try:
            parsed[name] = parse_yaml(value)
        except ValueError as error:
            raise UserError(f"--set {pair}: the value is not YAML.") from error
    return parsed


def split_pair(pair: str, flag: str, form: str) -> tuple[str, str]:
    """NAME=VALUE, as ``flag`` asks for it by ``form``."""
    name, equals, value = pair.partition("=")
    if not equals or not name:
        raise UserError(f"{flag} {pair}: write {form}.")
    return name, value


def styled_name(text: str) -> "Text":
    """A table's first cell: no markup, whatever brackets it holds."""
    from rich.text import Text

    return Text(printable(text))


class PrintableFormatter(logging.Formatter):
    """Log lines that cannot move a terminal's cursor."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        return printable(super().format(record))


def new_table(first: str, *numbers: str) -> "Table":
    """A table of one name and many numbers a row."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def print_table(table: "Table") -> None:
    """Print all of a table, also where the terminal is narrower: figures cut short are wrong figures."""
    from rich.console import Console

    console = Console()
    needed = console.measure(table, options=console.options.update(max_width=1000)).maximum
    Console(width=max(console.width, needed)).print(table)
