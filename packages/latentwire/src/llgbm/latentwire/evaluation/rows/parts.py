"""Every row that comes with the package."""

from __future__ import annotations

from llgbm.latentwire.evaluation.rows.answer_extraction import AnswerExtractionRowConfig
from llgbm.latentwire.evaluation.rows.budget_head import BudgetHeadRowConfig
from llgbm.latentwire.evaluation.rows.budget_question_kept import BudgetQuestionKeptRowConfig
from llgbm.latentwire.evaluation.rows.budget_tail import BudgetTailRowConfig
from llgbm.latentwire.evaluation.rows.latent import LatentRowConfig
from llgbm.latentwire.evaluation.rows.mean import MeanRowConfig
from llgbm.latentwire.evaluation.rows.no_context import NoContextRowConfig
from llgbm.latentwire.evaluation.rows.oracle import OracleRowConfig
from llgbm.latentwire.evaluation.rows.pca import PCARowConfig
from llgbm.latentwire.evaluation.rows.pruned import PrunedRowConfig
from llgbm.latentwire.evaluation.rows.random import RandomRowConfig
from llgbm.latentwire.evaluation.rows.replay_adapter import ReplayAdapterRowConfig
from llgbm.latentwire.evaluation.rows.replay_anchor import ReplayAnchorRowConfig
from llgbm.latentwire.evaluation.rows.replay_raw import ReplayRawRowConfig
from llgbm.latentwire.evaluation.rows.shuffled import ShuffledRowConfig
from llgbm.latentwire.evaluation.rows.text import TextRowConfig
from llgbm.latentwire.evaluation.rows.unpacked import UnpackedRowConfig

PARTS = (
    TextRowConfig,
    NoContextRowConfig,
    BudgetHeadRowConfig,
    BudgetTailRowConfig,
    BudgetQuestionKeptRowConfig,
    PrunedRowConfig,
    ReplayRawRowConfig,
    ReplayAnchorRowConfig,
    ReplayAdapterRowConfig,
    PCARowConfig,
    RandomRowConfig,
    MeanRowConfig,
    ShuffledRowConfig,
    LatentRowConfig,
    UnpackedRowConfig,
    AnswerExtractionRowConfig,
    OracleRowConfig,
)
