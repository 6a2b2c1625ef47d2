"""Numbers that turned out to be older ones: what was written under them bears the right one in the end.

A person who comes back may be recognised a moment after getting a new number. No one else has had that number, so all
that was written under it is theirs, and is corrected when a run is over. While they were thought lost, they may have
been written where they were expected, beside the box that was seen under the new number. No frame names anybody twice:
the first box stays. (Those that were seen come first.)
"""

import io
import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import supervision as sv

from reid_tracker.errors import UserError
from reid_tracker.ownership import Claim


class Corrections:
    """Learns from the frames of a run which identities were recognised late."""

    def __init__(self) -> None:
        self._identity: dict[int, int] = {}  # of each tracklet
        self._became: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._became)

    def __len__(self) -> int:
        return len(self._became)

    def take(self, tracks: sv.Detections) -> None:
        """Take in a frame's tracks, with ``tracker_id`` and ``data["tracklet"]``."""
        if tracks.tracker_id is None or "tracklet" not in tracks.data:
            return
        for tracklet, identity in zip(tracks.data["tracklet"].tolist(), tracks.tracker_id.tolist(), strict=True):
            before = self._identity.get(tracklet, identity)
            if before != identity:
                self._became[before] = identity
            self._identity[tracklet] = identity

    def learn(self, became: dict[int, int]) -> None:
        """Take in which numbers of the run are part of others now, as a gallery says."""
        own = set(self._identity.values())
        self._became |= {number: other for number, other in became.items() if number in own}

    def of(self, identity: int) -> int:
        """The number that an identity has in the end."""
        passed = {identity}
        while (after := self._became.get(identity)) is not None and after not in passed:
            identity = after
            passed.add(after)
        return identity

    def apply(self, claimed: Claim, outputs: dict[Path, str]) -> None:
        """Put right the text, the JSON lines and the crops that a run has written; `outputs` gives their kinds.

        Raises
        ------
        UserError
            If one cannot be written: then it bears the numbers as first given.
        """
        if not self:
            return
        change: dict[str, Callable[[str], str]] = {"mot": _MotLines(self), "jsonl": self._json_line}
        for output, kind in outputs.items():
            place = claimed.place(output)
            try:
                if kind == "crops":
                    self._move_crops(place)
                elif kind == "parquet":
                    self._change_table(claimed, output)
                elif kind in change:
                    claimed.rewrite(output, change[kind])
            except OSError as error:
                raise UserError(
                    f"{place}: numbers of people recognised late could not be put right ({error.strerror})."
                ) from error

    def _json_line(self, line: str) -> str:
        if not any(f'"id": {number},' in line for number in self._became):
            return line
        frame, there, tracks = json.loads(line), set[int](), []
        for each in frame["tracks"]:
            each["id"] = self.of(each["id"])
            if each.get("perhaps") == each["id"]:
                del each["perhaps"]  # it was so
            if each["id"] not in there:
                tracks.append(each)
            there.add(each["id"])
        frame["tracks"] = tracks
        return json.dumps(frame, ensure_ascii=False) + "\n"

    def _change_table(self, claimed: Claim, output: Path) -> None:
        import polars

        table = polars.read_parquet(claimed.place(output))
        table = table.with_columns(polars.col("identity").replace({each: self.of(each) for each in self._became}))
        first = polars.int_range(polars.len()).over("frame", "identity") == 0
        written = io.BytesIO()  # polars itself tells of a full disk by an error of its own
        table.filter(first).write_parquet(written)
        with claimed.renewed(output) as fresh:
            fresh.write_bytes(written.getvalue())

    def _move_crops(self, folder: Path) -> None:
        for own in sorted(folder.iterdir()):
            if not re.fullmatch(r"\d{6,}", own.name) or self.of(int(own.name)) == int(own.name):
                continue
            there = folder / f"{self.of(int(own.name)):06d}"
            there.mkdir(exist_ok=True)
            for crop in own.iterdir():
                crop.rename(there / crop.name)
            with suppress(OSError):
                own.rmdir()


class _MotLines:
    """Puts right MOTChallenge text line by line."""

    def __init__(self, corrections: Corrections) -> None:
        self._corrections = corrections
        self._frame, self._there = "", set[int]()

    def __call__(self, line: str) -> str:
        frame, number, rest = line.split(",", 2)
        identity = self._corrections.of(int(number))
        if frame != self._frame:
            self._frame, self._there = frame, set()
        if identity in self._there:
            return ""
        self._there.add(identity)
        return f"{frame},{identity},{rest}"
