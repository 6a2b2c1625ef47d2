"""Finished tracks beside a video: whether it may be theirs."""

import json
from pathlib import Path

import pytest
from command_world import Run, make_clip

SHORT = "Note: other ends with frame 5, but the results go on to frame 30: is it their video?"


@pytest.mark.parametrize("kind", ["walk.txt", "walk.jsonl"])
def test_a_video_that_ends_before_the_results_is_noticed(command: Run, tmp_path: Path, kind: str) -> None:
    video, other = make_clip(tmp_path / "walk.mp4"), make_clip(tmp_path / "b" / "other.mp4", frames=5)
    boxes = [[3 * index, 30, 3 * index + 20, 90] for index in range(30)]
    rows = (f"{n + 1},1,{left},{top},20,60,0.9,-1,-1,-1\n" for n, (left, top, _, _) in enumerate(boxes))
    (tmp_path / "walk.txt").write_text("".join(rows))
    lines = (
        {"index": n, "timestamp": n / 10, "tracks": [{"id": 1, "xyxy": box, "confidence": 0.9}]}
        for n, box in enumerate(boxes)
    )
    (tmp_path / "walk.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    (tmp_path / "walk_review.json").write_text('{"edits": [{"do": "rename", "identity": 1, "name": "Anna"}]}')
    results = tmp_path / kind
    for place, each in enumerate((other, video)):
        for verb, *flags in (
            ("export-crops", each, "-o", tmp_path / f"crops{place}", "--min-height", 40),
            ("report", "--video", each, "-o", tmp_path / f"report{place}"),
            ("review", each, "--apply", "--render"),
        ):
            status, _, error = command(verb, results, *flags)
            assert status == 0 and (SHORT in error) == (each == other) == ("is it their video" in error), error
