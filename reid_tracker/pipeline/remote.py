"""Results at a URL (s3://bucket/results): each source is written to a folder of this machine and then copied there.

Beside the results lies a record of each source, ``.reid_tracker/<name>.json``: what it is of, the settings, and each
file's size and version as the store tells them. A file there is this program's if they are still those of the record.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from reid_tracker.config import TrackConfig
from reid_tracker.errors import UserError
from reid_tracker.ownership import FOLDER, source_marks
from reid_tracker.pipeline.plan import Job
from reid_tracker.pipeline.source_run import Common, SourceRun
from reid_tracker.results import RunSummary, wanted_files
from reid_tracker.urls import masked

Result = TypeVar("Result")

# What stores call a file's version, the most telling first.
VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified", "updated", "created")


def is_remote(folder: str) -> bool:
    """Whether results go to a URL."""
    return "://" in folder


class Remote:
    """A folder of results at a URL that fsspec opens.

    Parameters
    ----------
    url : str
        ``s3://bucket/results`` and the like; what reads it (s3fs, gcsfs, adlfs) is the user's to install, and keys are
        where it looks for them.
    private : bool
        Whether only this user may read them, if it is a folder of this machine; elsewhere the store's own rules hold.

    Raises
    ------
    UserError
        If nothing opens it.
    """

    def __init__(self, url: str, private: bool = False) -> None:
        self.shown = masked(url).rstrip("/")
        self._root = ""
        try:
            from fsspec.core import url_to_fs  # type: ignore[import-untyped]
            from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

            self._store, self._root = url_to_fs(url)
            self._is_private_folder = private and isinstance(self._store, LocalFileSystem)
        except Exception as error:  # of whichever package opens such URLs
            raise UserError(f"{self.shown}: cannot be opened ({self._first_line(error)}).") from error
        self._known: dict[str, Any] = {}
        self._there: dict[str, str] = {}  # what was there when `check` looked

    def check(self, jobs: list[Job], overwrite: bool) -> None:
        """Raise a UserError about the first result that would replace a file of the user's."""
        self._look()
        for job in jobs:
            found = {
                each.name: self._there[each.name] for each in job.outputs | job.refined if each.name in self._there
            }
            record = self._record(job) if found else {}
            ours = record.get("files", {}) if set(record.get("of", ())) & set(source_marks(job.path)) else {}
            foreign = [name for name, mark in found.items() if ours.get(name) != mark]
            if foreign and not overwrite:
                raise UserError(
                    f"{self.shown}/{foreign[0]}: is there, and not as this program wrote it of {job.path}; name "
                    "another folder, or give --overwrite."
                )

    def files_of(self, job: Job, settings: str) -> list[str]:
        """What came of a source, if it is finished with these settings and all of that is as it was; else nothing."""
        record = self._record(job)
        files = {name: record["files"].get(name) for name in record["results"]} if record else {}
        is_same = record.get("settings") == settings and set(record.get("of", ())) & set(source_marks(job.path))
        is_whole = all(self._there.get(name) == mark for name, mark in files.items())
        return [f"{self.shown}/{name}" for name in files] if is_same and is_whole else []

    @contextmanager
    def staged(self, job: Job, summary: RunSummary, common: Common, settings: str = "") -> Iterator[tuple[Job, Common]]:
        """The job and its settings with a folder of this machine, whose content is copied when the block ends.

        Raises
        ------
        UserError
            If something cannot be copied; or of the block, which names the places at the URL.
        """
        with tempfile.TemporaryDirectory(prefix="reid-tracker-") as folder:
            config = common.config.model_copy(
                update={"output": common.config.output.model_copy(update={"folder": folder})}
            )
            here = replace(
                job,
                outputs=wanted_files(config, job.name, not job.path.is_dir()),
                refined=wanted_files(config, f"{job.name}_refined", not job.path.is_dir(), refined=True),
            )
            try:
                yield here, replace(common, config=config)
            except UserError as error:
                text = str(error).replace(folder, self.shown)
                try:
                    self._publish(job, summary, Path(folder), "")
                except UserError as lost:
                    text += f" Nor could it be copied: {lost}"
                raise UserError(text) from error
            except Exception:  # what was done is no worse for it
                with suppress(UserError):
                    self._publish(job, summary, Path(folder), "")
                raise
            self._publish(job, summary, Path(folder), "" if summary.interrupted else settings)
            summary.kept = summary.kept.replace(folder, self.shown)
            summary.notes = [note.replace(folder, self.shown) for note in summary.notes]

    def _publish(self, job: Job, summary: RunSummary, folder: Path, settings: str) -> None:
        """Copy what was written, and then the record: whoever finds one finds everything of it."""
        kept = [each for each in summary.outputs if each.parent == folder]
        summary.outputs = [each for each in summary.outputs if each not in kept]
        for each in kept:
            self._do(partial(self._put, each))
        if not kept:
            return
        self._look([each.name for each in kept])
        files = {each.name: self._there[each.name] for each in kept if each.name in self._there}  # no empty folders
        summary.urls += [f"{self.shown}/{name}" for name in files]
        before = self._record(job)  # what an earlier run wrote of other kinds is still this program's
        own = before["files"] if before and set(before["of"]) & set(source_marks(job.path)) else {}
        record = {
            "of": source_marks(job.path),
            "settings": settings,
            "results": list(files),
            "files": own | files,
        }
        self._do(lambda: self._store.makedirs(self._at(FOLDER), exist_ok=True))
        self._do(lambda: self._store.pipe_file(self._record_at(job), json.dumps(record).encode()))

    def _put(self, path: Path) -> None:
        target = self._at(path.name)
        self._store.makedirs(self._root, exist_ok=True)
        if path.is_dir():  # of crops: those of an earlier run go
            if self._store.exists(target):
                self._store.rm(target, recursive=True)
            if self._is_private_folder:
                Path(target).mkdir(0o700)
            self._store.put(f"{path}/", f"{target}/", recursive=True)
        else:
            if self._is_private_folder:
                Path(target).touch(0o600)
                Path(target).chmod(0o600)
            self._store.put_file(str(path), target)

    def _at(self, *names: str) -> str:
        return str(PurePosixPath(self._root, *names))

    def _record_at(self, job: Job) -> str:
        return self._at(FOLDER, f"{job.name}.json")

    def _record(self, job: Job) -> dict[str, Any]:
        """What is known of a source's results; empty where nothing is, or nothing that can be read."""
        if job.name not in self._known:
            self._known[job.name] = {}
            data = self._do(lambda: self._store.cat(self._record_at(job)), missing=b"")
            try:
                found = json.loads(data or "{}")
                files = {PurePosixPath(str(name)).name: str(mark) for name, mark in found["files"].items()}
                of, results = ([str(each) for each in found[key]] for key in ("of", "results"))
                settings = str(found["settings"])
                self._known[job.name] = {"of": of, "settings": settings, "results": results, "files": files}
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                pass
        return dict(self._known[job.name])

    def _look(self, names: Sequence[str] = ()) -> None:
        """Take note of size and version of these files, else of all; of a folder, of all in it."""
        self._do(lambda: self._store.invalidate_cache())
        parts: dict[str, list[str]] = {}
        for place in [self._at(name) for name in names] or [self._root]:
            below: dict[str, Any] = self._do(partial(self._store.find, place, detail=True), missing={})
            for path, info in below.items():
                name = path[len(self._root.rstrip("/")) :].lstrip("/").partition("/")[0]
                parts.setdefault(name, []).append(f"{path} {_version(info)}")
        for name, each in parts.items():
            text = "\n".join(sorted(each))
            self._there[name] = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24]

    def _do(self, act: Callable[[], Result], missing: Result | None = None) -> Result:
        """Ask the store; its errors as one sentence, but for what is not there where that is an answer."""
        try:
            return act()
        except FileNotFoundError as error:
            if missing is not None:
                return missing
            raise UserError(f"{self.shown}: cannot be used ({self._first_line(error)}).") from error
        except Exception as error:  # of whichever package opens such URLs
            raise UserError(f"{self.shown}: cannot be used ({self._first_line(error)}).") from error

    def _first_line(self, error: Exception) -> str:
        """What an error says; stores name places without the scheme, by which a URL is known in a sentence."""
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        return text.replace(self._root, masked(f"url://{self._root}").partition("://")[2]) if self._root else text


def remote_of(jobs: list[Job], config: TrackConfig) -> Remote | None:
    """Where results go, if that is a URL; what is there already is looked at."""
    if not is_remote(config.output.folder):
        return None
    remote = Remote(config.output.folder, config.output.private)
    remote.check([job for job in jobs if job.error is None], config.output.overwrite)
    return remote


def track_one(job: Job, summary: RunSummary, common: Common, remote: Remote | None, settings: str = "") -> None:
    """Track a source; with the results copied where they belong."""
    if remote is None:
        SourceRun(job, summary, common).track()
        return
    with remote.staged(job, summary, common, settings) as (here, its):
        SourceRun(here, summary, its).track()


def _version(info: dict[str, Any]) -> str:
    return f"{info.get('size')} {next((str(info[each]) for each in VERSIONS if info.get(each)), '')}"
