"""The command line: a file for each command, which parses, calls one function of the package and prints."""

import errno
import io
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import Annotated, Any, NoReturn

import typer

from reid_tracker import __version__
from reid_tracker.cli import demo, evaluate, finished, gallery, live, models, places, review, serve, track, train
from reid_tracker.cli.shared import INTERRUPTED, PrintableFormatter
from reid_tracker.errors import UserError
from reid_tracker.writing import printable

app = typer.Typer(
    name="reid-tracker",
    help="Who is who in a video: multi-object tracking with re-identification.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

# In the order of the help.
app.command()(track.track)
app.command()(live.live)
app.command()(serve.serve)
app.command()(demo.demo)
app.command()(train.train)
app.command()(places.places)
app.command()(finished.report)
app.command()(review.review)
app.command()(finished.convert)
app.command("export-crops")(finished.export_crops)
app.command()(models.export)
app.command()(models.config)
app.command()(gallery.link)
app.add_typer(evaluate.evaluate, name="evaluate")
app.add_typer(gallery.app, name="gallery")


def main() -> None:
    """Run the command line; a user's mistake ends in one sentence and status 2, SIGTERM and SIGHUP as Ctrl-C does."""
    for stream in (sys.stdout, sys.stderr):  # a terminal or pipe that knows fewer letters ends no run
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("Note: %(message)s"))
    log = logging.getLogger("reid_tracker")
    log.addHandler(handler)
    try:
        with _ending_as_ctrl_c_does():
            app()
    except UserError as error:
        _end_with(error)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        _end_with(f"{error.filename}: no file has a name of this length; correct it.")  # wherever it is looked at first
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(INTERRUPTED)
    finally:
        log.removeHandler(handler)


def _end_with(mistake: object) -> NoReturn:
    print(f"Error: {printable(mistake)}", file=sys.stderr)
    sys.exit(2)


@contextmanager
def _ending_as_ctrl_c_does() -> Iterator[None]:
    """Let a service manager and a terminal that closes end a run as cleanly as Ctrl-C."""
    if current_thread() is not main_thread():  # the caller handles signals there
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
