import gc
import os
import re
import socket
import struct
import wave
import zlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid_tracker.crop_sets.crops import CropSet, load_images
from reid_tracker.errors import UserError
from reid_tracker.video.sources import expand_sources, open_source
from reid_tracker.video.upright import Upright

MakeClip = Callable[..., Path]
WIDTH, HEIGHT, BITS = 160, 96, 10
VARIABLE_MS = np.cumsum([40, 7, 120, 33, 33, 500, 41, 16, 17, 90] * 3).tolist()


def draw_number(number: int) -> np.ndarray:
    """Texture whose upper half is the number in black and white bars, lowest bit first."""
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    bits = number >> np.arange(BITS) & 1
    image[: HEIGHT // 2] = np.repeat(bits * 255, WIDTH // BITS)[None, :, None]
    return image


def read_number(image: np.ndarray) -> int:
    """The number that ``draw_number`` drew, however badly compressed."""
    bars = image[: HEIGHT // 2, :WIDTH].reshape(HEIGHT // 2, BITS, -1).mean(axis=(0, 2)) > 127
    return int(bars @ (1 << np.arange(BITS)))


@pytest.fixture
def make_clip(tmp_path: Path) -> MakeClip:
    def make(
        name: str,
        times_ms: Sequence[int] = range(0, 1200, 40),
        codec: str = "libx264",
        b_frames: int = 2,
        format: str | None = None,
    ) -> Path:
        path = tmp_path / name
        muxing = {"movflags": "faststart", "avoid_negative_ts": "disabled"} if path.suffix == ".mp4" else {}
        with av.open(str(path), "w", format=format, container_options=muxing) as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            stream.codec_context.time_base = Fraction(1, 1000)
            stream.gop_size, stream.max_b_frames = 10, b_frames
            for number, time in enumerate(times_ms):
                picture = av.VideoFrame.from_ndarray(draw_number(number), format="bgr24")
                picture.pts, picture.time_base = time, Fraction(1, 1000)
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
        return path

    return make


def make_sequence(folder: Path, numbers: list[int], length: int = 30, rate: float = 5) -> Path:
    (folder / "img1").mkdir(parents=True)
    for number in numbers:
        cv2.imwrite(str(folder / "img1" / f"{number:06d}.png"), draw_number(number))
    folder.joinpath("seqinfo.ini").write_text(
        f"[Sequence]\nname=other\nimDir=img1\nframeRate={rate}\nseqLength={length}\nimWidth={WIDTH}\n"
        f"imHeight={HEIGHT}\nimExt=.png\n"
    )
    return folder


def packets_of(path: Path) -> list[tuple[bytes, int]]:
    """Bytes and time of each packet, in decoding order."""
    with av.open(str(path)) as container:
        return [(bytes(packet), packet.pts) for packet in container.demux(video=0) if packet.size]


def overwrite(path: Path, part: bytes) -> None:
    """Make a hole of FF bytes where the file holds ``part``."""
    data = path.read_bytes()
    assert data.count(part) == 1
    path.write_bytes(data.replace(part, b"\xff" * len(part)))


# --- the clock ---


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_variable_frame_rate_keeps_its_times_relative_to_the_first_frame(make_clip: MakeClip, name: str) -> None:
    source = open_source(make_clip(name, VARIABLE_MS))
    frames = list(source)
    assert [read_number(frame.image) for frame in frames] == [frame.index for frame in frames] == list(range(30))
    expected = (np.array(VARIABLE_MS) - VARIABLE_MS[0]) / 1000
    assert np.allclose([frame.timestamp for frame in frames], expected, atol=1e-3)
    assert (source.name, source.width, source.height, source.notes) == ("clip", WIDTH, HEIGHT, [])


def test_fps_replaces_the_clock(make_clip: MakeClip) -> None:
    source = open_source(make_clip("clip.mp4", VARIABLE_MS), fps=8, stride=2)
    assert [frame.timestamp for frame in source] == [index / 8 for index in range(0, 30, 2)]
    assert source.frame_rate == 4


def test_a_source_can_be_read_again(make_clip: MakeClip) -> None:
    source = open_source(make_clip("clip.mp4"))
    assert [frame.timestamp for frame in source] == [frame.timestamp for frame in source]


@pytest.mark.parametrize(("name", "codec", "format"), [("a.264", "libx264", "h264"), ("a.m4v", "mpeg4", "m4v")])
def test_raw_stream_has_no_clock(make_clip: MakeClip, name: str, codec: str, format: str) -> None:
    path = make_clip(name, codec=codec, format=format, b_frames=0)
    source = open_source(path)
    assert source.notes == [f"{name} has no timestamps: using its nominal 25 fps; give --fps to change it."]
    assert source.frame_count is None
    assert [(frame.index, frame.timestamp) for frame in source] == [(i, i / 25) for i in range(30)]
    timed = open_source(path, fps=10)
    assert timed.notes == []
    assert [frame.timestamp for frame in timed] == [i / 10 for i in range(30)]


@pytest.mark.parametrize(
    ("gap", "note"),
    [
        (0, ""),
        (7_200, ""),
        (1.7e9, "its clock was set after frame 30"),
    ],
)
def test_a_film_whose_clock_leaps_is_whole(make_clip: MakeClip, tmp_path: Path, gap: float, note: str) -> None:
    """Read to its end, at true times, without a word of damage, however long the header says that it is."""
    clip, leaping = make_clip("clip.mp4", [40 * i for i in range(60)], codec="mpeg4", b_frames=0), tmp_path / "leap.mkv"
    with av.open(str(clip)) as original, av.open(str(leaping), "w") as container:
        stream = container.add_stream_from_template(original.streams.video[0])
        for number, packet in enumerate(packet for packet in original.demux(video=0) if packet.size):
            shift = int((1280 + gap * (number >= 30)) / packet.time_base)
            packet.stream, packet.dts, packet.pts = stream, packet.pts + shift, packet.pts + shift
            container.mux(packet)
    source = open_source(leaping)
    times = np.array([frame.timestamp for frame in source])
    kept = gap if gap < 86_400 else 0
    assert np.allclose(times, [i / 25 + kept * (i >= 30) for i in range(60)], atol=1e-3)
    assert [each.split("; ")[0] for each in source.notes] == ([f"leap: {note}"] if note else [])


def test_times_that_do_not_increase_are_repaired_and_counted(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip("clip.mp4", [40 * i for i in range(7)], codec="mpeg4", b_frames=0)
    with av.open(str(clip)) as original, av.open(str(tmp_path / "odd.mp4"), "w") as container:
        stream = container.add_stream_from_template(original.streams.video[0])
        packets = [packet for packet in original.demux(video=0) if packet.size]
        for number, (packet, time) in enumerate(zip(packets, [0, 1, 2, 2, 4, 4, 6], strict=True)):
            step = Fraction(4, 100) / packet.time_base
            # A muxer insists on increasing decoding times only.
            packet.stream, packet.dts, packet.pts = stream, int(step * (number - 3)), int(step * time)
            container.mux(packet)
    source = open_source(tmp_path / "odd.mp4")
    times = [frame.timestamp for frame in source]
    assert np.allclose(times, [0, 0.04, 0.08, 0.12, 0.16, 0.20, 0.24])
    assert source.notes == ["odd: 2 frames had no increasing timestamp; theirs were estimated."]


# --- start, end, stride ---


def slow_cut(times: list[float], start: object, end: object, stride: int) -> list[int]:
    """Indices of a range by the plainest means; bounds are None, an int (number from 1) or a float (seconds)."""
    kept = []
    for index, time in enumerate(times):
        if (isinstance(start, int) and index + 1 < start) or (isinstance(start, float) and time < start - 1e-6):
            continue
        if (isinstance(end, int) and index + 1 > end) or (isinstance(end, float) and time > end + 1e-6):
            continue
        kept.append(index)
    return kept[::stride]


def as_text(bound: object) -> object:
    return f"{bound:.6f}s" if isinstance(bound, float) else bound


bounds = st.one_of(st.none(), st.integers(1, 35), st.integers(0, 140).map(lambda n: n / 20))


@given(start=bounds, end=bounds, stride=st.integers(1, 7))
def test_range_of_a_sequence_is_the_list_slice(
    tmp_path_factory: pytest.TempPathFactory, start: object, end: object, stride: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "Seq"
    if not folder.exists():
        make_sequence(folder, [])
    expected = slow_cut([i / 5 for i in range(30)], start, end, stride)
    try:
        source = open_source(folder, start=as_text(start), end=as_text(end), stride=stride)
    except UserError:
        assert expected == []
        return
    assert [(frame.index, frame.timestamp) for frame in source] == [(i, i / 5) for i in expected]
    assert source.frame_count == len(expected)
    assert source.frame_rate == 5 / stride


def test_range_of_a_video_is_the_list_slice(make_clip: MakeClip) -> None:
    path = make_clip("clip.mp4", VARIABLE_MS)
    times = [(time - VARIABLE_MS[0]) / 1000 for time in VARIABLE_MS]
    cases = [(None, None, 4), (7, 21, 1), (7, 21, 5), (30, None, 1), (None, 1, 3), ("0.5s", "0:01.2", 1), (3, "1s", 2)]
    cases += [("00:00:02", None, 3), ("0.75s", 28, 2), ("29", "30", 1)]
    for start, end, stride in cases:
        plain = [
            {"0:01.2": 1.2, "00:00:02": 2.0}.get(b, float(b[:-1]) if str(b)[-1] == "s" else b) for b in (start, end)
        ]
        plain = [int(b) if isinstance(b, str) else b for b in plain]
        expected = slow_cut(times, *plain, stride)
        frames = list(open_source(path, start=start, end=end, stride=stride))
        assert [frame.index for frame in frames] == expected != [], (start, end, stride)
        assert [read_number(frame.image) for frame in frames] == expected


def test_expected_number_of_frames(make_clip: MakeClip) -> None:
    path = make_clip("clip.mp4")
    assert open_source(path).frame_count == 30
    assert open_source(path, start=11, end="0.8s", stride=3).frame_count == 4  # 11, 14, 17, 20


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": 9, "end": 5}, "start 9 lies after end 5"),
        ({"start": "9s", "end": "0:05"}, "start 9s lies after end 0:05"),
        ({"start": 0}, "frame numbers begin at 1"),
        ({"end": "12.5"}, "give a frame number"),
        ({"start": "-3"}, "give a frame number"),
        ({"start": "1:xx"}, "give a frame number"),
        ({"stride": 0}, "stride 0"),
        ({"fps": 0}, "fps 0"),
        ({"fps": -1.0}, "fps -1: must be between 0.001 and 10000"),
        ({"fps": 1e-300}, "fps 1e-300"),
        ({"fps": 1e300}, "fps 1e+300"),
        ({"stride": 10**400}, "must be between 1 (every frame) and 10000000"),
        ({"start": "9" * 5000}, "give a frame number"),
        ({"start": "9" * 400 + "s"}, "give a frame number"),
        ({"fps": float("nan")}, "fps nan"),
        ({"start": 1000}, "no frame lies between start and end"),
        ({"start": "60s"}, "no frame lies between start and end"),
    ],
)
def test_impossible_values_are_refused_at_once(make_clip: MakeClip, settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        open_source(make_clip("clip.mp4"), **settings)


def test_start_just_beyond_the_end_is_refused_after_reading(make_clip: MakeClip) -> None:
    with pytest.raises(UserError, match="looked at up to frame 30"):
        list(open_source(make_clip("clip.mp4"), start=31))


# --- rotation ---


def set_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """The track header's matrix (a, b, u, c, d, v, x, y, w): a point (p, q) is shown at (a p + c q, b p + d q)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    data[at : at + 36] = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_rotation_and_mirroring_are_honoured(make_clip: MakeClip, turn: int, mirror: bool) -> None:
    path = make_clip("clip.mp4")
    a, b, c, d = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[turn]  # clockwise
    set_matrix(path, *((-a, -b, c, d) if mirror else (a, b, c, d)))  # mirrored left-right before it is turned
    source = open_source(path)
    frame = list(source)[5]
    assert (source.height, source.width) == frame.image.shape[:2]
    assert frame.image.shape[:2] == ((WIDTH, HEIGHT) if turn in (90, 270) else (HEIGHT, WIDTH))
    back = np.rot90(frame.image, turn // 90)  # turned back counter-clockwise
    assert read_number(back[:, ::-1] if mirror else back) == 5


@pytest.mark.parametrize(("told", "expected"), [("rotate=90", 1), ("flip=vertical", 0)])
def test_an_orientation_holds_until_the_next_one(tmp_path: Path, told: str, expected: int) -> None:
    """H.264 tells it with key pictures, not with every frame; here from the second one on."""
    image = np.full((96, 160, 3), 30, np.uint8)
    image[:48, :80] = 220
    packets: list[bytes] = []
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 160, 96, "yuv420p", Fraction(1, 25)
    encoder.options = {"g": "5", "bf": "0", "tune": "zerolatency", "x264-params": "repeat-headers=1"}
    for index in range(15):
        picture = av.VideoFrame.from_ndarray(image, format="bgr24")
        picture.pts = index
        packets += [bytes(packet) for packet in encoder.encode(picture)]
    packets += [bytes(packet) for packet in encoder.encode(None)]
    (tmp_path / "plain.h264").write_bytes(b"".join(packets[:5]))
    (tmp_path / "later.h264").write_bytes(b"".join(packets[5:]))
    pieces = [(tmp_path / "plain.h264").read_bytes()]
    with av.open(str(tmp_path / "later.h264")) as container:
        turning = av.bitstream.BitStreamFilterContext(
            f"h264_metadata=display_orientation=insert:{told}", container.streams.video[0]
        )
        for packet in [*container.demux(), None]:
            pieces += [bytes(each) for each in turning.filter(packet)]
    (tmp_path / "whole.h264").write_bytes(b"".join(pieces))
    with av.open(str(tmp_path / "whole.h264")) as container:
        upright = Upright(container.streams.video[0])
        shown = [upright(picture)() for picture in container.decode(video=0)]
    assert len(shown) == 15
    turn = {1: lambda each: np.rot90(each, 1), 0: np.flipud}[expected]
    # FFmpeg tells it with the picture behind the key picture here.
    for each, wanted in zip(shown, [image] * 6 + [turn(image)] * 9, strict=True):
        assert each.shape == wanted.shape and np.abs(each.astype(int) - wanted).mean() < 5


def test_pictures_that_are_done_with_leave_no_threads_or_garbage(make_clip: MakeClip) -> None:
    """A camera that runs for months must not wait for Python's collector."""
    path = make_clip("walk.mp4", range(0, 2400, 40))
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects()), len(list(Path("/proc/self/task").iterdir()))
        frames = 0
        for frame in open_source(path):
            frames += frame.image is not None
        after = len(gc.get_objects()), len(list(Path("/proc/self/task").iterdir()))
    finally:
        gc.enable()
    assert frames == 60 and after[0] - before[0] < 60 and after[1] - before[1] < 10


@pytest.mark.parametrize(("aspect", "size"), [("32/15", (512, 120)), ("1/2", (240, 240)), ("15/1", (240, 120))])
def test_pixels_are_made_square(tmp_path: Path, aspect: str, size: tuple[int, int]) -> None:
    """By stretching the shorter side; a shape that no camera has is not believed."""
    with av.open(str(tmp_path / "wide.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 240, 120, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((120, 240, 3), np.uint8), format="bgr24")))
        container.mux(stream.encode(None))
    source = open_source(tmp_path / "wide.mkv")
    assert (source.width, source.height) == size
    assert {frame.image.shape[1::-1] for frame in source} == {size}


def test_a_film_that_changes_its_size_goes_on(tmp_path: Path) -> None:
    for name, size, count in (("a.ts", (160, 120), 10), ("b.ts", (320, 120), 8)):
        with av.open(str(tmp_path / name), "w", format="mpegts") as container:
            stream = container.add_stream("mpeg2video", rate=25)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            for _ in range(count):
                image = np.full((size[1], size[0], 3), 200, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
            container.mux(stream.encode(None))
    both = tmp_path / "both.ts"
    both.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    source = open_source(both)
    frames = list(source)
    assert len(frames) >= 17 and {frame.image.shape for frame in frames} == {(120, 160, 3)}
    assert frames[-1].image[60, 80].min() > 150 and frames[-1].image[10, 80].max() < 50  # whole, with black bars
    assert sum("is 320x120 instead of 160x120; it is scaled to that" in note for note in source.notes) == 1


def test_a_playlist_is_as_long_as_its_films(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip("clip.ts")
    frames = len(list(open_source(clip)))
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", "#EXTINF:1.2,", clip.name, "#EXT-X-DISCONTINUITY", "#EXTINF:1.2,"]
    (tmp_path / "list.m3u8").write_text("\n".join([*lines, clip.name, "#EXT-X-ENDLIST", ""]))
    source = open_source(tmp_path / "list.m3u8")
    assert len(list(source)) == 2 * frames
    assert not any("damaged" in note for note in source.notes)


def test_pipes_and_covers_are_one_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(UserError, match=r"pipe\.mp4: is read more than once, which a pipe or device cannot be"):
        open_source(tmp_path / "pipe.mp4")


def test_what_is_not_read_of_pictures_is_told(tmp_path: Path) -> None:
    (tmp_path / "tiff").mkdir()
    cv2.imwritemulti(str(tmp_path / "tiff/scan.tiff"), [draw_number(1), draw_number(2)])
    (tmp_path / "tiff/photo.HEIC").write_bytes(b"x")
    (tmp_path / "thermal").mkdir()
    cv2.imwrite(str(tmp_path / "thermal/1.png"), np.full((48, 64), 300, np.uint16))
    notes = open_source(tmp_path / "tiff", fps=5).notes
    assert "scan.tiff: has 2 pages, of which the first is read" in notes[0]
    assert "1 pictures are of kinds that cannot be read" in notes[1]
    assert "16 bits a pixel, of which the upper 8 are read" in open_source(tmp_path / "thermal", fps=5).notes[0]


# --- folders ---


def test_folder_of_pictures_in_natural_order(tmp_path: Path) -> None:
    for number in (1, 2, 10, 11):
        cv2.imwrite(str(tmp_path / f"shot{number}.png"), draw_number(number))
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "._shot1.png").write_text("left by macOS")
    source = open_source(tmp_path)
    assert [read_number(frame.image) for frame in source] == [1, 2, 10, 11]
    assert [(frame.index, frame.timestamp) for frame in source] == [(i, i / 25) for i in range(4)]
    assert source.name == tmp_path.name and source.frame_count == 4
    assert "using 25 fps; give --fps" in source.notes[0]
    assert open_source(tmp_path, fps=2).notes == []


def test_unreadable_pictures_are_skipped_and_keep_their_index(tmp_path: Path) -> None:
    for number in range(6):
        cv2.imwrite(str(tmp_path / f"{number}.png"), draw_number(number))
    (tmp_path / "0.png").write_bytes(b"")
    (tmp_path / "3.png").write_bytes(b"junk")
    source = open_source(tmp_path, fps=10)
    assert [(frame.index, read_number(frame.image)) for frame in source] == [(1, 1), (2, 2), (4, 4), (5, 5)]
    assert (source.corrupt_frames, source.corrupt_after) == (2, 0)
    assert source.notes == [f"{tmp_path.name}: 2 damaged frames, the first after frame 0."]


def test_picture_of_another_size_is_named(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), draw_number(1))
    cv2.imwrite(str(tmp_path / "2.png"), draw_number(2)[:50])
    with pytest.raises(UserError, match=rf"2\.png: {WIDTH}x50, where the pictures before are {WIDTH}x{HEIGHT}"):
        list(open_source(tmp_path))


def test_sequence_takes_indices_from_file_names(tmp_path: Path) -> None:
    source = open_source(make_sequence(tmp_path / "Seq", [3, 4, 11]))
    frames = list(source)
    assert [(frame.index, frame.timestamp) for frame in frames] == [(2, 0.4), (3, 0.6), (10, 2.0)]
    assert [read_number(frame.image) for frame in frames] == [3, 4, 11]
    assert (source.name, source.frame_rate, source.frame_count, source.has_pixels) == ("Seq", 5, 3, True)
    assert source.notes == ["Seq: 3 of its 30 pictures are there."]
    assert [frame.index for frame in open_source(tmp_path / "Seq", start=4, end=11)] == [3, 10]


def test_sequence_numbered_from_zero(tmp_path: Path) -> None:
    assert [frame.index for frame in open_source(make_sequence(tmp_path / "Seq", [0, 1, 2]))] == [0, 1, 2]


def test_sequence_without_pixels(tmp_path: Path) -> None:
    source = open_source(make_sequence(tmp_path / "Seq", []))
    assert (source.has_pixels, source.width, source.height, source.frame_count) == (False, WIDTH, HEIGHT, 30)
    assert [(frame.image, frame.index, frame.timestamp) for frame in source] == [(None, i, i / 5) for i in range(30)]


def test_sequence_with_one_video_uses_it_at_the_sequence_rate(make_clip: MakeClip, tmp_path: Path) -> None:
    folder = make_sequence(tmp_path / "Seq", [])
    make_clip("Seq/film.mp4")
    source = open_source(folder)
    assert [(read_number(frame.image), frame.timestamp) for frame in source] == [(i, i / 5) for i in range(30)]
    assert (source.name, source.frame_rate, source.has_pixels) == ("Seq", 5, True)
    assert source.notes == ["Seq has no img1: using the frames of film.mp4 at 5 fps."]
    make_clip("Seq/other.mp4")
    with pytest.raises(UserError, match="no img1 but 2 videos"):
        open_source(folder)


# --- what cannot be read ---


def test_files_that_are_no_video_are_refused_in_one_sentence(make_clip: MakeClip, tmp_path: Path) -> None:
    whole = make_clip("whole.mp4").read_bytes()
    files = {
        "empty.mp4": b"",
        "text.txt": b"hello world\n" * 50,
        "gt.txt": b"1,2,3,4,5,6,1,1,1\n" * 200,
        "junk.mp4": bytes(range(256)) * 40,
        "headless.mp4": whole[-2000:],
        "header_only.mp4": whole[: whole.index(b"mdat") + 4],
        "broken.jpg": b"\xff\xd8junk",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setnchannels(1), sound.setsampwidth(2), sound.setframerate(8000), sound.writeframes(bytes(16000))
    (tmp_path / "empty").mkdir()
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(whole)
    (tmp_path / "bad_pictures").mkdir()
    (tmp_path / "bad_pictures" / "1.jpg").write_bytes(b"junk")
    for name in [*files, "sound.wav", "empty", "videos", "bad_pictures", "missing.mp4", "missing"]:
        with pytest.raises(UserError) as caught:
            open_source(tmp_path / name)
        message = str(caught.value)
        assert message.startswith(str(tmp_path / name)) and message.count("\n") == 0, name
        assert ("/*.mp4" in message) == (name == "videos")


def test_playlist_is_not_followed_to_the_network(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{address}\n#EXT-X-ENDLIST\n"
        for name, text in (("list.m3u8", playlist), ("list.ffconcat", f"ffconcat version 1.0\nfile '{address}'\n")):
            (tmp_path / name).write_text(text)
            with pytest.raises(UserError):
                open_source(tmp_path / name)
            with pytest.raises(BlockingIOError):
                server.accept()


# --- damage ---


@pytest.mark.parametrize("hit", [4, 10, 14])  # numbers in decoding order; 10 is a keyframe
@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_damaged_packet_is_skipped_and_later_indices_stay_true(make_clip: MakeClip, name: str, hit: int) -> None:
    path = make_clip(name)
    packets = packets_of(path)
    overwrite(path, packets[hit][0])
    source = open_source(path)
    frames = list(source)
    assert len(frames) < 30 and frames[-1].index == 29
    for frame in frames:
        assert frame.timestamp == pytest.approx(frame.index * 0.04)
    assert source.corrupt_frames == 30 - len(frames)
    missing = set(range(30)) - {frame.index for frame in frames}
    assert sorted(time for _, time in packets).index(packets[hit][1]) in missing and source.corrupt_after == min(
        missing
    )
    # Outside the damaged group of 10 each picture is the one its index says; one at its edge may go with it.
    sound = [frame for frame in frames if frame.index // 10 != hit // 10]
    assert len(sound) >= 19 and all(read_number(frame.image) == frame.index for frame in sound)
    assert f"the first after frame {min(missing)}." in source.notes[0]


def test_damage_in_a_stream_without_times_is_survived(make_clip: MakeClip) -> None:
    path = make_clip("clip.264", format="h264", b_frames=0)
    overwrite(path, packets_of(path)[20][0][8:48])
    frames = list(open_source(path))
    assert [read_number(frame.image) for frame in frames[:19]] == list(range(19))
    assert (np.diff([frame.index for frame in frames]) > 0).all() and len(frames) >= 20


def test_what_an_edit_list_hides_does_not_count(make_clip: MakeClip) -> None:
    path = make_clip("clip.mp4", range(-200, 1000, 40))  # the first five pictures lie before the start
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 12  # past version and number of entries: duration in milliseconds
    assert data[at : at + 4] == struct.pack(">I", 1000)
    data[at : at + 4] = struct.pack(">I", 600)  # the last ten lie behind the end
    (path.parent / "short.mp4").write_bytes(data)
    for name, count in (("clip.mp4", 25), ("short.mp4", 15)):
        source = open_source(path.parent / name)
        assert [(read_number(frame.image), frame.index) for frame in source] == [(i + 5, i) for i in range(count)]
        assert (source.frame_count, source.notes) == (count, [])
    overwrite(path, packets_of(path)[14][0])
    last = list(open_source(path))[-1]
    assert (read_number(last.image), last.index, last.timestamp) == (29, 24, 0.96)


@pytest.mark.parametrize("where", ["in the middle", "in the last packet", "between packets"])
def test_truncated_file_gives_what_is_there_and_says_so(make_clip: MakeClip, where: str) -> None:
    path = make_clip("clip.mp4", b_frames=0)
    data = path.read_bytes()
    packets = [packet for packet, _ in packets_of(path)]
    ends = data.index(packets[0]) + np.cumsum([len(packet) for packet in packets])
    path.write_bytes(data[: {"in the middle": ends[15] - 9, "in the last packet": ends[-1] - 9}.get(where, ends[12])])
    source = open_source(path)
    numbers = [read_number(frame.image) for frame in source]
    assert numbers == list(range({"in the middle": 15, "in the last packet": 29}.get(where, 13)))
    assert source.notes == [f"clip.mp4 is damaged: stopped after frame {len(numbers)}."]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.avi", "clip.ts"])
def test_sound_files_are_not_called_damaged(make_clip: MakeClip, name: str) -> None:
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    source = open_source(make_clip(name, codec=codec, b_frames=0 if codec == "mpeg4" else 2))
    assert [read_number(frame.image) for frame in source] == list(range(30))
    assert (source.notes, source.corrupt_frames) == ([], 0)
    assert source.frame_count == 30 and source.frame_rate == pytest.approx(25, rel=0.01)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="lists open files by /proc")
def test_file_is_closed_when_the_reader_stops_early(make_clip: MakeClip) -> None:
    path = make_clip("clip.mp4")

    def is_open() -> bool:
        return any(os.path.realpath(fd) == str(path.resolve()) for fd in Path("/proc/self/fd").iterdir())

    frames = iter(open_source(path))
    next(frames)
    assert is_open()
    frames.close()
    assert not is_open()


# --- expanding ---


def test_expand_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cam10.mp4", "cam2.mp4", "cam1.avi", "odd[1].mp4"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    found = expand_sources(
        [f"{tmp_path}/cam*.mp4", tmp_path / "folder", f"{tmp_path}/odd[1].mp4", f"{tmp_path}/cam2.mp4"]
    )
    assert [path.name for path in found] == ["cam2.mp4", "cam10.mp4", "folder", "odd[1].mp4"]
    monkeypatch.chdir(tmp_path)
    assert expand_sources(["cam?.*"]) == [Path("cam1.avi"), Path("cam2.mp4")]
    for pattern in ("*.mkv", "missing.mp4"):
        with pytest.raises(UserError, match=re.escape(pattern)):
            expand_sources(["cam1.avi", pattern])


# --- real files ---

DATA = os.environ.get("REID_TRACKER_DATA")


@pytest.mark.needs_data
@pytest.mark.skipif(not DATA, reason="REID_TRACKER_DATA is not set")
@pytest.mark.parametrize(
    ("path", "frames", "last", "note"),
    [
        ("video/one-by-one-person-detection.mp4", 1394, 139.3, None),
        ("video/people-detection.264", 596, 595 / 12, "nominal 12 fps"),
        ("mot15/PETS09-S2L1", 795, 794 / 7, "PETS09-S2L1.avi at 7 fps"),
        ("mot15/TUD-Campus", 71, 70 / 25, "TUD-Campus.mp4 at 25 fps"),
        ("mot15/Venice-2", 600, 599 / 30, None),
        ("mot17_mini/MOT17-05-FRCNN", 6, 5 / 14, "6 of its 837"),
    ],
)
def test_evaluation_data(path: str, frames: int, last: float, note: str | None) -> None:
    source = open_source(Path(DATA or "") / path, stride=frames - 1)
    assert source.frame_count in (2, None)
    read = list(source)
    assert [frame.index for frame in read] == [0, frames - 1]
    assert read[1].timestamp == pytest.approx(last)
    assert bool(source.notes) == bool(note) and (note or "") in "".join(source.notes)


def test_a_small_file_that_asks_for_gigabytes_is_refused(tmp_path):
    side, packed = 30_000, zlib.compressobj(1)
    data = b"".join(packed.compress(bytes(side + 1)) for _ in range(side)) + packed.flush()

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    whole = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    (tmp_path / "1.png").write_bytes(whole)
    with pytest.raises(UserError, match=r"1\.png: has more than 134,217,728 pixels; scale it down first"):
        list(open_source(tmp_path))
    crops = CropSet([tmp_path / "1.png"], np.zeros(1, int), np.zeros(1, int), np.zeros(1, bool))
    with pytest.raises(UserError, match="scale it down first"):
        load_images(crops, (64, 32))
