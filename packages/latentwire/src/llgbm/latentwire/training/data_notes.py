"""What a run was trained on: a note of every stage's own data, whose files may change later."""

from __future__ import annotations

from llgbm.deltas.atomic import write_json
from llgbm.deltas.errors import RunError, TaskError, mismatch
from llgbm.deltas.json_files import read_json
from llgbm.latentwire.data.base import Source
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.training.config import StageConfig, TrainConfig
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


def changed_stages(files: RunFiles, settings: TrainConfig) -> list[str]:
    """Stages whose data is no longer what they were trained on, or is no longer there."""
    noted = _noted(files)

    def changed(stage: StageConfig) -> bool:
        try:
            return has_changed(files, stage.name, stage.data.open(settings.seed))
        except (ConfigError, TaskError):
            return True

    return [stage.name for stage in settings.stages if stage.name in noted and changed(stage)]


def has_changed(files: RunFiles, stage: str, source: Source) -> bool:
    """Whether a stage was trained on other data than its source has now."""
    return _noted(files).get(stage, source.fingerprint) != source.fingerprint


def _noted(files: RunFiles) -> dict[str, str]:
    """Fingerprint by stage."""
    noted = read_json(files.data, RunError) if files.data.exists() else {}
    if not isinstance(noted, dict) or not all(isinstance(each, str) for each in noted.values()):
        raise RunError(f"{files.data}: expected a fingerprint for every stage, got {noted!r:.60}")
    return noted
