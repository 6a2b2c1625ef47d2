"""``reid-tracker serve``."""

from typing import Annotated

import typer

from reid_tracker.writing import printable


def serve(
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Where to listen.")] = "127.0.0.1:8002",
    token: Annotated[
        str | None,
        typer.Option(
            envvar="REID_TRACKER_TOKEN", help="What requests must carry \\[made up where other machines can ask]."
        ),
    ] = None,
    idle: Annotated[float, typer.Option(min=1, help="Seconds after which an unused session ends.")] = 600.0,
    sessions: Annotated[int, typer.Option(min=1, max=10_000, help="Sessions at a time.")] = 100,
) -> None:
    """Track detections of other programs, in any language: boxes in by HTTP or WebSocket, identities out.

    Example: reid-tracker serve; its description is at http://127.0.0.1:8002/openapi.json.
    """
    from reid_tracker.service.run import serve as run

    def started(where: str, needed: str) -> None:
        print(f"Tracks at {printable(where)}/sessions, described by {printable(where)}/openapi.json", flush=True)
        if needed and not token:
            print(f"Token: {needed}", flush=True)

    run(address, token, idle, sessions, started)
