"""Results at a URL: the same bytes as in a folder, nothing of the user's replaced, and a second start does the rest."""

import json
import os
from pathlib import Path

import fsspec
import pytest
from command_world import Run, make_clip, refused
from test_workers import clips, cluster, settings  # noqa: F401 - fixtures

from reid_tracker import TrackConfig, UserError, track
from reid_tracker.config import load


@pytest.fixture
def memory():
    store = fsspec.filesystem("memory")
    yield store
    for name in store.ls("/", detail=False):
        store.rm(name, recursive=True)


def content(folder: Path) -> dict[str, bytes]:
    files = (each for each in folder.rglob("*") if each.is_file())
    return {str(each.relative_to(folder)): each.read_bytes() for each in files if ".reid_tracker" not in each.parts}


def at(store, root: str) -> dict[str, bytes]:
    return {
        name.split(root, 1)[1].lstrip("/"): store.cat(name) for name in store.find(root) if ".reid_tracker" not in name
    }


def wanted(clip: Path, folder: object, **more: object) -> TrackConfig:
    fixed = {
        "detector.recorded": str(clip.parent / "det.txt"),
        "embedder.enabled": False,
        "output.folder": str(folder),
        "output.mot": True,
        "output.crops": True,
        "refine.enabled": True,
    }
    return load(TrackConfig, overrides={**fixed, **more})


def test_a_url_gets_what_a_folder_gets(tmp_path, memory):
    clip = make_clip(tmp_path / "in" / "walk.mp4", frames=20)
    track(clip, wanted(clip, tmp_path / "here"))
    (summary,) = track(clip, wanted(clip, "memory://bucket/results"))
    there = at(memory, "/bucket/results")
    assert there == content(tmp_path / "here") and any("_crops/" in name for name in there)
    assert summary.outputs == [] and "memory://bucket/results/walk.txt" in summary.urls
    with pytest.raises(UserError, match=r"its results are at memory://bucket/results/walk\.txt"):
        summary.to_frame()
    # Its own results are replaced, whatever they were; the user's are not.
    track(clip, wanted(clip, "memory://bucket/results", **{"tracker.lost_seconds": 1.0}))
    memory.pipe("/bucket/results/walk.txt", b"mine")
    with pytest.raises(UserError, match=r"memory://bucket/results/walk.txt: is there, and not as this program wrote"):
        track(clip, wanted(clip, "memory://bucket/results"))
    assert memory.cat("/bucket/results/walk.txt") == b"mine"
    track(clip, wanted(clip, "memory://bucket/results", **{"output.overwrite": True}))
    assert at(memory, "/bucket/results") == there


@pytest.mark.parametrize("private", [True, False])
def test_a_url_of_this_machine_is_as_private_as_a_folder(tmp_path, private):
    clip, there = make_clip(tmp_path / "in" / "walk.mp4", frames=20), tmp_path / "there"
    config = wanted(clip, f"file://{there}", **{"output.private": private})
    before = os.umask(0o022)
    try:
        for _ in range(2):  # the second run replaces the first one's
            track(clip, config)
            assert content(there) and any(each.suffix == ".jpg" for each in there.rglob("*"))
            made = [each for each in there.iterdir() if each.name != ".reid_tracker"]
            assert {each.stat().st_mode & 0o077 == 0 for each in made} == {private}
    finally:
        os.umask(before)


def test_crops_of_nobody_are_nothing(tmp_path, memory):
    clip = make_clip(tmp_path / "walk.mp4", frames=5)
    (clip.parent / "det.txt").write_text("1,-1,0,0,5,5,0.01\n")
    for _ in range(2):
        (summary,) = track(clip, wanted(clip, "memory://bucket/results", **{"refine.enabled": False}))
    assert summary.identities == 0 and set(at(memory, "/bucket/results")) == {"walk.txt"}
    assert summary.urls == ["memory://bucket/results/walk.txt"]


def test_a_store_that_fails_says_so_and_what_failed_before(tmp_path, memory, monkeypatch):
    from reid_tracker.pipeline import remote, source_run

    def fails(*given):
        raise UserError("the disk is full.")

    def gone(*given):
        raise PermissionError("no such key")

    clip = make_clip(tmp_path / "walk.mp4", frames=20)
    monkeypatch.setattr(remote.Remote, "_put", gone)
    with pytest.raises(UserError, match=r"memory://bucket/results: cannot be used \(no such key\)"):
        track(clip, wanted(clip, "memory://bucket/results"))
    follow, calls = source_run.Follower.follow, []

    def fails_late(*given):
        calls.append(1)
        return fails() if len(calls) > 9 else follow(*given)

    monkeypatch.setattr(source_run.Follower, "follow", fails_late)
    with pytest.raises(UserError, match=r"the disk is full.* Nor could it be copied: .*no such key"):
        track(clip, wanted(clip, "memory://bucket/results"))


def test_another_source_of_the_same_name_is_not_replaced(tmp_path, memory):
    one, two = (make_clip(tmp_path / name / "walk.mp4", frames=5 + len(name)) for name in ("a", "bb"))
    track(one, wanted(one, "memory://bucket/results"))
    with pytest.raises(UserError, match=r"is there, and not as this program wrote it of .*bb"):
        track(two, wanted(two, "memory://bucket/results"))


@pytest.mark.parametrize("record", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"files": 3}'])
def test_a_record_that_cannot_be_read_tells_of_nothing(tmp_path, memory, record):
    clip = make_clip(tmp_path / "walk.mp4", frames=5)
    track(clip, wanted(clip, "memory://bucket/results"))
    memory.pipe("/bucket/results/.reid_tracker/walk.json", record)
    with pytest.raises(UserError, match="not as this program wrote it"):
        track(clip, wanted(clip, "memory://bucket/results"))


@pytest.mark.parametrize("error", [UserError("the disk is full."), ZeroDivisionError("the disk is full.")])
def test_a_broken_run_keeps_what_it_had_at_the_url(tmp_path, memory, monkeypatch, error):
    from reid_tracker.pipeline import source_run

    clip, follow, calls = make_clip(tmp_path / "walk.mp4", frames=20), source_run.Follower.follow, []

    def fails(self, *given):
        calls.append(1)
        if len(calls) == 12:
            raise error
        return follow(self, *given)

    monkeypatch.setattr(source_run.Follower, "follow", fails)
    with pytest.raises(type(error), match="the disk is full") as told:
        track(clip, wanted(clip, "memory://bucket/results", **{"refine.enabled": False}))
    assert "reid-tracker-" not in str(told.value)
    assert memory.cat("/bucket/results/walk.txt").count(b"\n") > 3
    monkeypatch.undo()
    track(clip, wanted(clip, "memory://bucket/results"))  # its own: replaced


def test_workers_write_there_and_do_what_is_missing(cluster, clips, tmp_path):  # noqa: F811
    there, url = tmp_path / "there", f"local://{tmp_path / 'there'}"
    track(clips, settings(clips, tmp_path / "one"))
    spread = settings(clips, url, **{"workers.count": 2})
    summaries = track(clips, spread)
    assert [len(each.urls) for each in summaries] == [2] * 4 and content(there) == content(tmp_path / "one")
    assert [each.done_before for each in track(clips, spread)] == [True] * 4
    (there / "walk-3.txt").unlink()
    assert [each.done_before for each in track(clips, spread)] == [True, True, False, True]
    other = settings(clips, url, **{"workers.count": 2, "tracker.lost_seconds": 1.0})
    assert [each.done_before for each in track(clips, other)] == [False] * 4


def test_the_command_prints_urls_and_shows_no_password(command: Run, tmp_path, memory):
    clip = make_clip(tmp_path / "walk.mp4", frames=5)
    given = ("track", clip, "--detections", clip.parent / "det.txt", "--no-appearance", "--mot")
    status, out, _ = command(*given, "-o", "memory://bucket/results")
    assert status == 0 and "memory://bucket/results/walk.txt" in out
    for url in ("none://me:secret@host/x?token=secret", "sftp://me:secret@127.0.0.1:9/x"):
        status, out, err = command(*given, "-o", url)
        assert status == 2 and "secret" not in out + err and "cannot be opened" in err, err
    refused(command(*given, "-o", "http://127.0.0.1:9/x"), "127.0.0.1:9/x: cannot be ")


def test_a_token_in_the_url_is_not_shown_by_a_store_either(command: Run, tmp_path, memory, monkeypatch):
    clip = make_clip(tmp_path / "walk.mp4", frames=5)
    given = ("track", clip, "--detections", clip.parent / "det.txt", "--no-appearance", "--mot")
    url = "memory://bucket/day=1/x?token=secret"
    status, out, err = command(*given, "-o", url)
    assert status == 0 and "memory://bucket/day=1/x/walk.txt" in out and "secret" not in out + err

    def refuse(self: object, path: str, *_: object, **__: object) -> None:
        raise PermissionError(f"{path}: not yours")

    monkeypatch.setattr(type(memory), "put_file", lambda self, path, target: refuse(self, target))
    given = command(*given, "-o", url)
    refused(given, "memory://bucket/day=1/x: cannot be used (/bucket/day=1/x/walk.txt: not yours)")
    assert "secret" not in "".join(given[1:])


def test_the_record_says_what_it_is_of(tmp_path, memory):
    clip = make_clip(tmp_path / "walk.mp4", frames=5)
    track(clip, wanted(clip, "memory://bucket/results", **{"output.crops": False, "refine.enabled": False}))
    record = json.loads(memory.cat("/bucket/results/.reid_tracker/walk.json"))
    assert set(record) == {"of", "settings", "results", "files"} and record["results"] == ["walk.txt"]


def test_results_of_other_kinds_stay_this_program_s(tmp_path, memory):
    clip = make_clip(tmp_path / "walk.mp4", frames=5)
    url, plain = "memory://bucket/results", {"output.crops": False, "refine.enabled": False}
    track(clip, wanted(clip, url, **plain))
    track(clip, wanted(clip, url, **plain, **{"output.mot": False, "output.jsonl": True}))
    track(clip, wanted(clip, url, **plain))
    assert set(at(memory, "/bucket/results")) == {"walk.txt", "walk.jsonl"}
