"""Choice scores equal PEFT one adapter at a time, and a question's tokens run once."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers.processors import TemplateProcessing

from llgbm.deltas.errors import TaskError
from llgbm.deltas.task import Example
from llgbm.generators.evaluation.multiple_choice import encode_examples, score_choices

EXAMPLES = [
    Example("What is it?", (" one", " another one", " x"), 1),
    Example("Short", (" a", " bb"), 0),
    Example("A much longer question that stands alone", (" yes", " no", " maybe", " z"), 3),
]
BOS = 257


def peft_model(base, spec, weights):
    """PEFT's model with the first adapter of `weights`."""
    names = sorted({path.rsplit(".", 1)[1] for path in spec.paths})
    config = LoraConfig(r=spec.r, lora_alpha=spec.lora_alpha, target_modules=names)
    wrapped = get_peft_model(base, config).eval()
    layers = dict(wrapped.base_model.model.named_modules())
    with torch.no_grad():
        for path in spec.paths:
            layers[path].lora_A["default"].weight.copy_(weights.lora_A[path][0])
            layers[path].lora_B["default"].weight.copy_(weights.lora_B[path][0])
    return wrapped


@pytest.mark.parametrize("limit", [40, 4096])
def test_scores_equal_peft_with_one_adapter_and_one_choice_at_a_time(
    make_tiny_model, tokenizer, tiny_spec, make_teachers, limit
) -> None:
    weights = make_teachers(tiny_spec, 2)
    scores = score_choices(
        make_tiny_model(), tokenizer, EXAMPLES, weights, tokens_per_forward=limit
    )
    for adapter in range(2):
        model = peft_model(make_tiny_model(), tiny_spec, weights.select([adapter]))
        for e, example in enumerate(EXAMPLES):
            for c, choice in enumerate(example.choices):
                query, answer = (tokenizer(text)["input_ids"] for text in (example.query, choice))
                with torch.no_grad():
                    logits = model(input_ids=torch.tensor([query + answer])).logits
                rows = logits[0, len(query) - 1 : -1].log_softmax(-1)
                expected = rows.gather(1, torch.tensor(answer)[:, None]).sum()
                # float32 sums of at most 12 log-probabilities around 6 nats.
                torch.testing.assert_close(
                    scores.log_likelihood[adapter, e, c], expected, atol=1e-4, rtol=0
                )


def test_the_decoder_sees_each_question_once_an_adapter(
    make_tiny_model, tokenizer, tiny_spec, make_teachers
) -> None:
    model, seen = make_tiny_model(), []
    model.get_decoder().register_forward_pre_hook(
        lambda _, __, inputs: seen.append(inputs["input_ids"]), with_kwargs=True
    )
    pad = 0
    score_choices(model, tokenizer, EXAMPLES, make_teachers(tiny_spec, 3))
    once = sum(len(e.query) + sum(map(len, e.choices)) for e in EXAMPLES)
    assert sum(int((ids != pad).sum()) for ids in seen) == 3 * once
    assert len(seen) == 1


def test_the_answer_does_not_depend_on_how_examples_share_forwards(
    make_tiny_model, tokenizer, tiny_spec, make_teachers
) -> None:
    model, weights = make_tiny_model(), make_teachers(tiny_spec, 2)
    many = [*EXAMPLES, *reversed(EXAMPLES)]
    together = score_choices(model, tokenizer, many, weights).log_likelihood
    apart = score_choices(model, tokenizer, many, weights, tokens_per_forward=1).log_likelihood
    torch.testing.assert_close(together, apart, atol=1e-4, rtol=0)
    torch.testing.assert_close(together[:, :3], together[:, 3:].flip(1), atol=1e-4, rtol=0)


def test_the_token_that_opens_a_text_stays_when_a_query_is_cut(tokenizer) -> None:
    tokenizer.bos_token = "<eos>"
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<eos> $A", special_tokens=[("<eos>", BOS)]
    )
    example = Example("abcdef", (" x", " y"), 0)
    for size, query in ((1, ""), (3, "ef"), (7, "abcdef"), (99, "abcdef")):
        tree = encode_examples(tokenizer, [example], max_tokens=size)[0]
        assert tree.trunk == (BOS, *map(ord, query))
        assert tree.branches == ((32, ord("x")), (32, ord("y")))


@pytest.mark.parametrize(
    ("examples", "words"),
    [
        ([], "at least one to score"),
        ([EXAMPLES[0], Example("q", (" a",), 0)], "example 1: choices: expected at least 2"),
        ([Example("", (" a", " b"), 0)], "example 0: expected a query"),
        ([Example("q", ("", " b"), 0)], "choices of at least one token"),
    ],
)
def test_what_cannot_be_scored_is_refused(make_tiny_model, tokenizer, examples, words) -> None:
    with pytest.raises(TaskError, match=words):
        score_choices(make_tiny_model(), tokenizer, examples)
