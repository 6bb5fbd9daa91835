import pytest
import torch

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.evaluation.joint import JointConfig, joint_answers
from llgbm.latentwire.evaluation.rows import ROWS, Setting
from llgbm.latentwire.generation import DecodingConfig, Written

SHORT = DecodingConfig(max_new_tokens=4)


@pytest.fixture(scope="module")
def prompts(tiny_reader, examples):
    setting = Setting(tiny_reader, tuple(examples))
    return [ROWS[name]().build(setting).prompts(range(4)) for name in ("text", "no_context")]


class Fixed:
    """Prompts that write what they are told, and score as the ones that they wrap."""

    def __init__(self, prompts, texts) -> None:
        self.prompts, self.texts = prompts, texts
        self.reader, self.lengths = prompts.reader, prompts.lengths

    def write(self, decoding) -> Written:
        return Written(self.texts, [[] for _ in self.texts], 0.0, 0.0)

    def score(self, answers):
        return self.prompts.score(answers)


def likelihood(prompts, index, text) -> float:
    reader = prompts.reader
    answers = [reader.answer_tokens(text, end=False)] * 4
    scored = prompts.score(answers)
    return -float(scored.nll[scored.row == index].sum()) / len(text)


def test_the_best_candidate_by_both_readers_is_the_answer(prompts) -> None:
    readers = [Fixed(prompts[0], ["by the sea", "two", "Snow", "Rome"]),
               Fixed(prompts[1], ["a house", "two", "", "to a far away place"])]  # fmt: skip
    for index, found in enumerate(joint_answers(readers, SHORT)):
        candidates = dict.fromkeys(text for each in readers if (text := each.texts[index]))
        sums = {text: sum(likelihood(each, index, text) for each in prompts) for text in candidates}
        assert found.scores == pytest.approx(sums, rel=1e-4)
        assert found.text == max(sums, key=sums.__getitem__)
        assert sum(found.by_reader) == pytest.approx(sums[found.text], rel=1e-4)
    assert joint_answers(readers, SHORT)[1].proposers == (0, 1)


def test_an_example_with_no_candidate_is_answered_by_nothing(prompts) -> None:
    readers = [Fixed(each, ["", "", "Snow", ""]) for each in prompts]
    found = joint_answers(readers, SHORT)
    assert [each.text for each in found] == ["", "", "Snow", ""]
    assert found[0].scores == {}
    readers = [Fixed(each, [""] * 4) for each in prompts]
    assert [each.text for each in joint_answers(readers, SHORT)] == [""] * 4


def test_a_reader_that_agrees_with_itself_keeps_its_own_answer(prompts) -> None:
    own = prompts[0].write(SHORT).texts
    found = joint_answers([prompts[0], prompts[0]], SHORT)
    assert [each.text for each in found] == own
    assert all(len(each.scores) == 1 for each in found)


def test_more_candidates_are_drawn_and_none_is_lost(prompts) -> None:
    torch.manual_seed(0)
    found = joint_answers(prompts, SHORT, JointConfig(candidates=3))
    again = joint_answers(prompts, SHORT, JointConfig(candidates=3))
    assert found == again
    assert max(len(each.scores) for each in found) > 2
    for each in found:
        assert each.scores[each.text] == max(each.scores.values())


def test_one_reader_is_no_joint(prompts) -> None:
    with pytest.raises(ConfigError, match="at least 2 readers"):
        joint_answers(prompts[:1], SHORT)
    with pytest.raises(ConfigError, match="temperature"):
        JointConfig(candidates=2, temperature=0.0)
