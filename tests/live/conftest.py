"""The video of the people in `live_world`, and servers of it."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import pytest
from live_world import RATE, SECONDS, SIZE, Server, free_port, picture

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def walkers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The video of the three, mp4."""
    path = tmp_path_factory.mktemp("walkers") / "walkers.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"g": "5", "bf": "0", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for index in range(RATE * SECONDS):
            frame = av.VideoFrame.from_ndarray(picture(index), format="bgr24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def serve(walkers: Path) -> Iterator[Callable[..., Server]]:
    """Start an ``rtsp`` or ``mjpeg`` server of the walkers, with a login if wanted; RTSP over UDP alone too."""
    servers: list[Server] = []

    def start(kind: str, video: Path = walkers, login: str = "", udp: bool = False) -> Server:
        port = free_port()
        # The RTSP server's library is Debian's, and so is the Python that can import it.
        python = "/usr/bin/python3" if kind == "rtsp" else sys.executable
        if (
            kind == "rtsp"
            and subprocess.run([python, "-c", "import gi; gi.require_version('GstRtspServer', '1.0')"]).returncode
        ):
            pytest.skip("no RTSP server: make test installs gir1.2-gst-rtsp-server-1.0")
        options = filter(None, [login, "--udp" * udp])
        command = [python, str(HERE / f"{kind}_server.py"), str(port), str(video), *options]
        scheme = "rtsp" if kind == "rtsp" else "http"
        servers.append(Server(command, f"{scheme}://{login}{'@' * bool(login)}127.0.0.1:{port}/camera"))
        return servers[-1]

    yield start
    for server in servers:
        server.kill()
