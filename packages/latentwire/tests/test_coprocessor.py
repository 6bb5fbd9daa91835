"""Key and value deltas at the slots: where they stand, and what is refused."""

import copy

import pytest
import torch

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.rows import build_rows
from llgbm.latentwire.scoring import decode
from llgbm.latentwire.ways.coprocessor import CoprocessorWayConfig


def first_keys(reader: Reader, compressor, latents, rows) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys before rotary of the first layer, bare and attached: its inputs are the same."""
    kept: list[torch.Tensor] = []
    projection = reader.model.model.layers[0].self_attn.k_proj
    with compressor.attached(latents):
        handle = projection.register_forward_hook(lambda module, args, output: kept.append(output))
        decode(reader, rows.embeds, rows.mask)
    decode(reader, rows.embeds, rows.mask)
    handle.remove()
    return kept[1], kept[0]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("opening", [(), (1, 5)])
def test_deltas_stand_at_the_slots_alone(side, opening, tiny_reader, texts, asked, made) -> None:
    reader = Reader(tiny_reader.model, tiny_reader.tokenizer, "with an opening")
    reader.__dict__["opening"] = opening
    compressor = made(reader, CoprocessorWayConfig())
    with torch.no_grad():
        latents = compressor.encode(texts)
        marks = compressor.port.mark_vectors(["continue"] * 4)
        prefix = compressor.prefix(latents)
        rows = build_rows(reader, prefix, asked[0], marks=marks, padding_side=side)
        bare, changed = first_keys(reader, compressor, latents, rows)
    deltas = compressor.port.way.maps(latents.values)[0]
    for index, count in enumerate(latents.counts.tolist()):
        begin = int(rows.mask[index].long().argmax()) + len(opening)
        expected = torch.zeros_like(bare[index])
        expected[begin : begin + count] = deltas[index, :count]
        # One rounding of a sum of two numbers of size 1.
        torch.testing.assert_close(changed[index] - bare[index], expected, atol=1e-6, rtol=0)


def test_rows_that_hold_no_slots_are_refused(tiny_reader, texts, asked, made) -> None:
    compressor = made(tiny_reader, CoprocessorWayConfig())
    latents = compressor.encode(texts)
    with compressor.attached(latents):
        with pytest.raises(ValueError, match="expected 4 rows, got 1"):
            plain_logits_with_mask(tiny_reader, 1, 9)
        with pytest.raises(ValueError, match="rows that hold the opening and all slots"):
            plain_logits_with_mask(tiny_reader, 4, 1)
        with pytest.raises(ValueError, match="attention_mask"):
            tiny_reader.model.model(inputs_embeds=torch.zeros(4, 9, tiny_reader.width))


def plain_logits_with_mask(reader: Reader, rows: int, tokens: int) -> None:
    embeds = torch.zeros(rows, tokens, reader.width)
    decode(reader, embeds, torch.ones(rows, tokens, dtype=torch.bool))


def test_a_reader_without_key_projections_is_refused(tiny_reader) -> None:
    model = copy.deepcopy(tiny_reader.model)
    reader = Reader(model, tiny_reader.tokenizer, "without values")
    del reader.model.model.layers[2].self_attn.v_proj
    with pytest.raises(ConfigError, match="layer 2: expected v_proj, got none"):
        CoprocessorWayConfig().build(64, reader)
