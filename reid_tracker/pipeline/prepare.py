"""What a run's sources have in common, and what is refused before the first of them."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from reid_tracker.config import TrackConfig
from reid_tracker.errors import UserError
from reid_tracker.gallery.opening import forget_unseen, open_gallery
from reid_tracker.gallery.store import Gallery, shown
from reid_tracker.ownership import check_outputs
from reid_tracker.pipeline.follow import parse_polygon
from reid_tracker.pipeline.models import AppearanceModel, Models, model_of
from reid_tracker.pipeline.plan import Job, claim_arguments, inputs_of, plan, recorded_files, state_arguments
from reid_tracker.pipeline.remote import is_remote
from reid_tracker.pipeline.source_run import Common, Progress
from reid_tracker.places.files import named
from reid_tracker.report.clock_time import FROM_FILE, began_at
from reid_tracker.tracking.refine import read_refused


def planned(source: str | Path | Sequence[str | Path], config: TrackConfig) -> list[Job]:
    """The sources of a run, once nothing contradicts itself and every place for results is free.

    Raises
    ------
    UserError
        If something does.
    """
    if config.output.blur_people and config.output.crops:
        raise UserError("blur_people and crops contradict each other: crops show people. Leave one out.")
    if config.output.blur_people and config.output.report:
        raise UserError("blur_people and report contradict each other: a report shows people. Leave one out.")
    if config.output.blur_people and config.gallery.where:
        raise UserError(
            "blur_people and a gallery contradict each other: a gallery keeps crops of people. Leave one out."
        )
    if config.gallery.retention_days is not None and not config.gallery.where:
        raise UserError("A retention is for people in a gallery: name one (--gallery), or leave the retention out.")
    if config.source.clock is not None:
        if not config.output.report:
            raise UserError("A clock is for the times in a report: ask for one (--report), or leave the clock out.")
        if config.source.clock != FROM_FILE:
            began_at(config.source.clock, None)  # a mistake in it is told before anything is loaded
    patterns = [source] if isinstance(source, str | Path) else source
    if not isinstance(patterns, Sequence) or not all(isinstance(each, str | Path) for each in patterns):
        raise UserError(f"{source!r}: track takes the paths of videos; for a camera there is reid-tracker live.")
    jobs = plan(list(patterns), config)
    if len(jobs) > 1 and (config.source.resume or config.output.save_state):
        raise UserError("A state is that of one video: give one source with save_state or resume.")
    if len(jobs) > 1 and config.source.clock not in (None, FROM_FILE):
        raise UserError("A clock is that of one video: give one source with it, or take it from each file (file).")
    if len(jobs) > 1 and config.refine.refused:
        raise UserError("refine.refused is the report of one video; give one source with it.")
    files = recorded_files([job for job in jobs if job.error is None], config)
    for file in files:
        if files.count(file) > 1:
            fix = "write {source} or {name} in their path, or give one source."
            raise UserError(f"{file}: detections are those of one video; {fix}")
    inputs = inputs_of(jobs, config)
    for job in jobs:
        if job.error is None and not is_remote(config.output.folder):
            check_outputs(*claim_arguments(job, inputs, config))
    return jobs


def prepare(
    jobs: list[Job], config: TrackConfig, models: Models, progress: Progress | None, opened_here: ExitStack
) -> Common:
    """What the sources of a run have in common; what is opened and must be closed goes to ``opened_here``."""
    opened: list[Gallery] = []

    def gallery(embedder: AppearanceModel | None) -> Gallery:
        where = config.gallery.where
        assert where is not None
        if config.source.resume or config.output.save_state:
            fix = "a state has numbers of its own; give a gallery, or save_state and resume."
            raise UserError(f"gallery {shown(where)}: {fix}")
        known = model_of(embedder, config)
        if not opened:
            opened.append(open_gallery(where, known))
            opened_here.callback(opened[0].close)
            if config.gallery.retention_days is not None:
                forget_unseen(opened[0], config.gallery.retention_days)
        return opened[0]

    return Common(
        config=config,
        models=models,
        inputs=inputs_of(jobs, config),
        polygon=parse_polygon(config.source.roi) if config.source.roi else None,
        places=named(config.count),
        state=state_arguments(jobs, config),
        refused=read_refused(Path(config.refine.refused).expanduser()) if config.refine.refused else [],
        gallery=gallery,
        progress=progress,
    )
