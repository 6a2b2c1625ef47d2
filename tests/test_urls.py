"""URLs in messages: whatever a user gives as what, no password and no token comes back."""

import pytest
from command_world import Run, make_clip, refused

from reid_tracker import TrackConfig, UserError, open_source, stream, track
from reid_tracker.config import load
from reid_tracker.urls import masked

CAMERA = "rtsp://u:S3cret@127.0.0.1:1/x"
TOKENS = ["?token=S3cret", "?sig=S3cret&x=[1]", "/*?S3cret", "?token=" + 300 * "S3cret"]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("s3://key:S3cret@bucket/x?token=S3cret", "s3://bucket/x"),
        ("s3://key:S3/cret@bucket/day=1/x", "s3://bucket/day=1/x"),
        ("s3://bucket/me@home/x", "s3://bucket/me@home/x"),
        ("file:///tmp/x?S3cret", "file:///tmp/x"),
        ("postgresql://u:S3?cret@host/people?gallery=x&password=S3cret", "postgresql://host/people"),
        ("rtsp:/u:S3cret@host/x", "rtsp://host/x"),
        ("s3+https://u:S3cret@host/x", "s3+https://host/x"),
        ("cache::s3://u:S3cret@bucket/x", "bucket/x"),
    ],
)
def test_what_of_a_url_is_shown(url, told):
    assert masked(url) == told


@pytest.mark.parametrize("token", TOKENS)
def test_no_way_of_naming_a_stream_as_a_source_shows_its_secrets(command: Run, tmp_path, token):
    url, results = CAMERA + token, make_clip(tmp_path / "walk.mp4", frames=3).parent / "det.txt"
    for arguments in (
        ["track", url, "-o", tmp_path / "out"],
        ["places", url],
        ["review", results, url],
        ["report", results, "--video", url],
        ["export-crops", results, url, "-o", tmp_path / "crops"],
        ["convert", results, "--to", "csv", "-o", tmp_path / "x.csv", "--video", url],
        ["evaluate", "robustness", url],
    ):
        given = command(*arguments)
        assert "127.0.0.1:1/x" in refused(given, "a stream is no file; follow it with reid-tracker live")
        assert "S3cret" not in "".join(given[1:])
    for call in (track, open_source, lambda each: next(stream(each))):
        with pytest.raises(UserError, match="a stream is no file") as told:
            call(url)
        assert "S3cret" not in str(told.value)


def test_a_batch_tells_which_stream_failed_and_shows_no_secret(command: Run, tmp_path):
    clip = make_clip(tmp_path / "walk.mp4", frames=3)
    given = ["--detections", clip.parent / "det.txt", "--no-appearance", "--mot", "-o", tmp_path / "out"]
    status, out, err = command("track", CAMERA + "?token=S3cret", clip, *given)
    assert status == 2 and "S3cret" not in out + err
    assert "rtsp://127.0.0.1:1/x: a stream is no file" in err and "rtsp://127.0.0.1:1/x" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["track", "walk.mp4", "--detections", CAMERA + "?token=S3cret"],
        ["track", "walk.mp4", "--config", CAMERA + "?token=S3cret"],
        ["track", "walk.mp4", "--set", f"gallery.where: [{CAMERA}]"],
        ["track", "walk.mp4", "--set", f"gallery.where=[{CAMERA}?token=S3cret]"],
        ["report", CAMERA + "?token=S3cret"],
        ["link", "https://u:S3cret@host"],
        ["live", "-s", "ftp://u:S3cret@host/" + 300 * "x"],
    ],
)
def test_nor_does_a_url_where_none_belongs(command: Run, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(make_clip(tmp_path / "walk.mp4", frames=3).parent)
    given = command(*arguments)
    refused(given)
    assert "S3cret" not in "".join(given[1:])


def test_a_sentence_keeps_what_stands_around_a_url():
    told = str(UserError(f"{CAMERA}?token=S3cret: no, see 'http://u:S3cret@host', or http://host/x."))
    assert told == "rtsp://127.0.0.1:1/x: no, see 'http://host', or http://host/x."


def test_settings_that_hold_a_url_show_no_secret():
    with pytest.raises(UserError) as told:
        load(TrackConfig, None, {"source.fps": "postgresql://u:S3cret@host/people"})
    assert "S3cret" not in str(told.value)
