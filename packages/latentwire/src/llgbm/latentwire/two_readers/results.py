"""Results of two readers of one latent: one writer, one reader, and their table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import cattrs

from llgbm.deltas.atomic import write_json
from llgbm.deltas.bootstrap import Interval
from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.json_files import read_json
from llgbm.latentwire.evaluation.answers import wrong_values
from llgbm.latentwire.evaluation.results import Evaluation
from llgbm.latentwire.evaluation.table import table
from llgbm.latentwire.two_readers.layout import READERS

SCHEMA, KIND = 1, "latentwire two readers"
FILE = "two_readers.json"
_CONVERTER = cattrs.Converter(forbid_extra_keys=True)


@dataclass(frozen=True)
class JointResult:
    """What both readers answer together.

    Attributes:
        em: exact match with its 95% interval over examples.
        f1: word F1 likewise.
        minus: 95% interval of F1 minus that of each reader alone with the same latents, paired
            by example.
        answers: in the order of the examples.
    """

    em: Interval
    f1: Interval
    minus: Mapping[str, Interval]
    answers: tuple[str, ...]


@dataclass(frozen=True)
class TwoReadersEvaluation:
    """A table of each reader, `first` and `second`, and what they answer together."""

    readers: Mapping[str, Evaluation]
    joint: JointResult

    def write(self, folder: Path) -> None:
        """Write two_readers.json, and each reader's evaluation beside it."""
        for name, evaluation in self.readers.items():
            evaluation.write(evaluation_file(folder, name))
        content = {
            "schema": SCHEMA,
            "kind": KIND,
            "scale": {name: evaluation.scale for name, evaluation in self.readers.items()},
            "environment": dict(self.readers[READERS[0]].environment),
            "joint": asdict(self.joint),
        }
        write_json(folder / FILE, content)

    @classmethod
    def read(cls, folder: Path) -> TwoReadersEvaluation:
        """Read and check all files.

        Raises:
            RunError: missing, malformed, of another kind, or of other examples.
        """
        path = folder / FILE
        content = read_json(path, RunError)
        found = (content.get("schema"), content.get("kind"))
        if found != (SCHEMA, KIND):
            raise RunError(mismatch(path, "schema and kind", (SCHEMA, KIND), found))
        try:
            joint = _CONVERTER.structure(content.get("joint"), JointResult)
        except cattrs.BaseValidationError as error:
            said = wrong_values(error)
            raise RunError(f"{path}: expected a joint result, got {said}") from error
        readers = {name: Evaluation.read(evaluation_file(folder, name)) for name in READERS}
        for name, evaluation in readers.items():
            asked = len(evaluation.answers) // len(evaluation.rows)
            if asked != len(joint.answers):
                what = f"answers of the {name} reader"
                raise RunError(mismatch(path, what, len(joint.answers), asked))
        return cls(readers, joint)

    def table(self) -> str:
        """Both tables, then the joint row."""
        joint = self.joint
        lines = [
            f"both readers together: EM {joint.em.mean:.3f}, F1 {joint.f1.mean:.3f} "
            f"[{joint.f1.low:.3f}, {joint.f1.high:.3f}]"
        ]
        lines += [
            f"  F1 - {name} alone: {each.mean:+.3f} [{each.low:+.3f}, {each.high:+.3f}]"
            for name, each in joint.minus.items()
        ]
        return "\n\n".join([*(table(each) for each in self.readers.values()), "\n".join(lines)])


def evaluation_file(folder: Path, name: str) -> Path:
    """Where one reader's evaluation stands."""
    return folder / f"evaluation_{name}.json"
