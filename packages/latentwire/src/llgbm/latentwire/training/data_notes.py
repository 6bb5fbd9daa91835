"""What a run was trained on: a note of every stage's own data, whose files may change later."""

from __future__ import annotations

from llgbm.deltas.atomic import write_json
from llgbm.deltas.errors import RunError, TaskError, mismatch
from llgbm.deltas.json_files import read_json
from llgbm.latentwire.data.base import Source
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.training.config import TrainConfig
from llgbm.latentwire.training.files import RunFiles


def note_data(files: RunFiles, stage: str, source: Source) -> None:
    """Note what a stage is trained on, or check that it is what was noted.

    Raises:
        RunError: the data has changed since the run was begun.
    """
    if not source.fingerprint:
        return
    noted = _noted(files)
    if has_changed(files, stage, source):
        raise RunError(
            mismatch(files.data, stage, f"data {noted[stage][:12]}", source.fingerprint[:12])
            + ": the questions have changed since this run was begun: use another folder, or give "
            "--overwrite"
        )
    write_json(files.data, {**noted, stage: source.fingerprint})


def data_remarks(files: RunFiles, settings: TrainConfig) -> list[str]:
    """What is to be said of data that is no longer as a run was trained on it.

    Args:
        files: of the run.
        settings: of the run; stages that have noted nothing are not looked at.

    Returns:
        A remark for every stage whose data has changed, or can no longer be read.

    Raises:
        RunError: a malformed note.
    """
    noted = _noted(files)
    found = []
    for stage in settings.stages:
        if stage.name not in noted:
            continue
        try:
            source = stage.data.open(settings.seed)
        except (ConfigError, TaskError) as error:
            found.append(f"questions of stage {stage.name} can no longer be read ({error})")
            continue
        if has_changed(files, stage.name, source):
            found.append(f"questions of stage {stage.name} have changed since it was trained")
    return found


def has_changed(files: RunFiles, stage: str, source: Source) -> bool:
    """Whether a stage was trained on other data than its source has now."""
    return _noted(files).get(stage, source.fingerprint) != source.fingerprint


def _noted(files: RunFiles) -> dict[str, str]:
    """Fingerprint by stage."""
    noted = read_json(files.data, RunError) if files.data.exists() else {}
    if not isinstance(noted, dict) or not all(isinstance(each, str) for each in noted.values()):
        raise RunError(f"{files.data}: expected a fingerprint for every stage, got {noted!r:.60}")
    return noted
