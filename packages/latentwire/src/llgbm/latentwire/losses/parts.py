"""Every loss term; importing this registers them."""

from __future__ import annotations

from llgbm.latentwire.losses.alignment import AlignmentTermConfig
from llgbm.latentwire.losses.answer import AnswerTermConfig
from llgbm.latentwire.losses.contrastive import ContrastiveTermConfig
from llgbm.latentwire.losses.entropy import EntropyTermConfig
from llgbm.latentwire.losses.first_token import FirstTokenTermConfig
from llgbm.latentwire.losses.first_tokens import FirstTokensTermConfig
from llgbm.latentwire.losses.gist import GistTermConfig
from llgbm.latentwire.losses.hidden_kd import HiddenKDTermConfig
from llgbm.latentwire.losses.length import LengthTermConfig
from llgbm.latentwire.losses.prefix_kd import PrefixKDTermConfig
from llgbm.latentwire.losses.reconstruction import ReconstructionTermConfig
from llgbm.latentwire.losses.scheduled_sampling import ScheduledSamplingTermConfig
from llgbm.latentwire.losses.selection import SelectionTermConfig
from llgbm.latentwire.losses.vq import VQTermConfig
from llgbm.latentwire.losses.warmup_alignment import WarmupAlignmentTermConfig

PARTS = (
    AnswerTermConfig,
    FirstTokenTermConfig,
    FirstTokensTermConfig,
    PrefixKDTermConfig,
    HiddenKDTermConfig,
    AlignmentTermConfig,
    WarmupAlignmentTermConfig,
    ReconstructionTermConfig,
    GistTermConfig,
    EntropyTermConfig,
    ContrastiveTermConfig,
    ScheduledSamplingTermConfig,
    VQTermConfig,
    SelectionTermConfig,
    LengthTermConfig,
)
