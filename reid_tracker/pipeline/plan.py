"""What a run reads and writes, decided before its first byte: every source with its name and its files."""

from dataclasses import dataclass, field
from pathlib import Path

from reid_tracker.config import TrackConfig
from reid_tracker.errors import UserError
from reid_tracker.gallery.store import is_database
from reid_tracker.inputs import Inputs
from reid_tracker.ownership import check_outputs, part_of, source_marks
from reid_tracker.pipeline.models import recorded_of
from reid_tracker.results import wanted_files
from reid_tracker.urls import is_url, masked
from reid_tracker.video.sources import expand_sources
from reid_tracker.writing import check_writable


@dataclass
class Job:
    """One source of a batch, and what is to be written of it: kinds of results by their files."""

    path: Path
    name: str
    outputs: dict[Path, str] = field(default_factory=dict)
    refined: dict[Path, str] = field(default_factory=dict)
    error: str | None = None

    def listed(self) -> tuple[list[Path], list[Path]]:
        """Files and folders."""
        both = {**self.outputs, **self.refined}
        return [file for file, kind in both.items() if kind != "crops"], [
            file for file, kind in both.items() if kind == "crops"
        ]


def plan(patterns: list[str | Path], config: TrackConfig) -> list[Job]:
    """What is tracked, under which name, and what that will write: all names apart, whatever their case."""
    jobs: dict[Path, Job] = {}
    for pattern in patterns:
        try:
            for path in expand_sources([pattern]):
                jobs.setdefault(path, Job(path, _name_of(path)))
        except UserError as error:
            if len(patterns) == 1:
                raise
            name = masked(str(pattern)) if is_url(pattern) else Path(pattern).name
            jobs.setdefault(Path(pattern), Job(Path(pattern), name, error=str(error)))
    taken: set[str] = set()
    for job in jobs.values():
        if job.error is None:
            stem, number = job.name, 1
            while True:
                job.outputs = wanted_files(config, job.name, has_pixels=not job.path.is_dir())
                job.refined = wanted_files(config, f"{job.name}_refined", not job.path.is_dir(), refined=True)
                names = {_folded(each) for file in job.outputs | job.refined for each in (file, part_of(file))}
                if not names & taken:
                    break
                number += 1
                job.name = f"{stem}-{number}"
            taken |= names
    return list(jobs.values())


def _name_of(path: Path) -> str:
    """What a source is called."""
    return path.resolve().name if path.is_dir() else path.stem


def _folded(path: Path) -> str:
    return str(path).casefold()


def recorded_files(jobs: list[Job], config: TrackConfig) -> list[str]:
    """Each job's file of recorded detections; none where a network detects."""
    recorded = config.detector.recorded
    return [recorded_of(recorded, each.path, _name_of(each.path)) for each in jobs] if recorded else []


def inputs_of(jobs: list[Job], config: TrackConfig, with_state: bool = True) -> Inputs:
    """Everything that the run reads."""
    where = config.gallery.where
    gallery = [where] if where and not is_database(where) else []
    return Inputs(
        {
            "settings": [config.file],
            "model": [config.detector.model, config.embedder.model],
            "gallery": gallery,
            "state": [config.source.resume] if with_state else [],
            "refused joins": [config.refine.refused],
            "places": [config.count.places],
            "detections": recorded_files(jobs, config),
            "source": [each.path for each in jobs],
        },
        closed=gallery,
    )


def claim_arguments(
    job: Job, inputs: Inputs, config: TrackConfig
) -> tuple[list[Path], Inputs, list[str], bool, list[Path]]:
    """A job's outputs as `claim` takes them."""
    files, folders = job.listed()
    return files, inputs, source_marks(job.path), config.output.overwrite, folders


def state_arguments(jobs: list[Job], config: TrackConfig) -> tuple[list[Path], Inputs, list[str], bool] | None:
    """The place for the state as `claim` takes it, once it has been checked; None where none is saved."""
    if config.output.save_state is None:
        return None
    file, resumed = Path(config.output.save_state).expanduser(), config.source.resume
    check_writable(file)
    if _folded(file.resolve()) in {_folded(each.resolve()) for each in jobs[0].outputs | jobs[0].refined}:
        raise UserError(f"{file}: a result and the state would go into this file; name them apart.")
    # One state that goes on from video to video is what naming it twice means; it is replaced at the end.
    before = Path(resumed).expanduser() if resumed else None
    goes_on = before is not None and file.exists() and before.exists() and file.samefile(before)
    inputs = inputs_of(jobs, config, with_state=not goes_on)
    wanted = [file], inputs, ["state"], config.output.overwrite or goes_on
    check_outputs(*wanted)
    return wanted
