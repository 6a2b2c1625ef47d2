"""Files that come from outside, spoilt at random (`scripts/fuzz.py`, which does it for longer)."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "fuzz.py"


@pytest.mark.parametrize(
    ("kind", "rounds"),
    [
        ("mot", 60),
        ("info", 60),
        ("settings", 40),
        ("recorded", 60),
        ("video", 40),
        ("state", 60),
        ("gallery", 40),
        ("model", 8),
        ("http", 200),
        ("socket_message", 200),
    ],
)
def test_whatever_a_file_holds_it_is_read_or_refused_in_a_sentence(kind, rounds):
    command = [sys.executable, "-W", "ignore", SCRIPT, "--rounds", rounds, "--kind", kind, "--seed", 11]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    read, refused = (int(done.stdout.split(word)[0].split()[-1]) for word in (" read", " refused"))
    assert read + refused == rounds and (refused > 0 or kind in ("http", "socket_message"))
