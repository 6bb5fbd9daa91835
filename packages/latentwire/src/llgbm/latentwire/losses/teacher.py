"""What terms of distillation share: the teacher's view of the tokens that a student scored."""

from __future__ import annotations

import torch
from torch import Tensor

from llgbm.latentwire.errors import PromptError
from llgbm.latentwire.examples import RECONSTRUCT
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.scoring import Scored


def taught(step: Step, student: Scored) -> tuple[Scored, Tensor]:
    """Return the teacher's predictions and which tokens it can teach.

    Nothing asks the bare reader to repeat a text, so it has nothing to say of reconstruction.

    Args:
        step: of training.
        student: predictions of its answers from latents, s tokens.

    Returns:
        (teacher, kept): s tokens in the same order; [s] bool, False for tokens to reconstruct.

    Raises:
        PromptError: the two scored other tokens (anchor rule 7).
    """
    teacher = step.taught
    if not (
        torch.equal(student.targets, teacher.targets) and torch.equal(student.row, teacher.row)
    ):
        raise PromptError(
            f"answers: expected the same tokens from text and from latents, "
            f"got {len(teacher.targets)} and {len(student.targets)}"
        )
    asked = torch.tensor(
        [example.mark != RECONSTRUCT for example in step.examples], device=student.row.device
    )
    return teacher, asked[student.row]
