"""A pretrained language model as contextual encoder: the default, and the one known to work.

ARC-Encoder's finding (anchor, section 4): a contextual encoder that was pretrained, not an encoder
from scratch on embeddings without context. By default it is a copy of the reader that shares its
frozen weights, with its own LoRA; `full` trains a copy of the weights instead.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from llgbm.latentwire.encoders.base import ENCODERS, Encoder
from llgbm.latentwire.encoders.tokens import padded_tokens
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import States
from llgbm.latentwire.lora_parameters import LoRAParameters
from llgbm.latentwire.reader import Reader, load_reader

TUNING = ("lora", "full", "frozen")


@ENCODERS.register("pretrained")
@dataclass(frozen=True)
class PretrainedEncoderConfig:
    """A language model's hidden states.

    Args:
        model: a base model's name; the reader itself where empty.
        tuning: `lora` (its weights shared and frozen, factors trained), `full` (a copy of the
            weights is trained, in float32) or `frozen`.
        r: LoRA rank.
        lora_alpha: LoRA alpha.
        layers: decoder layers that are run, from the first, and the final norm; 0 for all.
        bidirectional: every token sees the whole text, not only what stands before it.
    """

    model: str = ""
    tuning: Literal["lora", "full", "frozen"] = "lora"
    r: int = 32
    lora_alpha: float = 64.0
    layers: int = 0
    bidirectional: bool = False

    def build(self, reader: Reader) -> PretrainedEncoder:
        """Build it on the reader's device.

        Raises:
            ConfigError: an unknown tuning, or more layers than the model has.
        """
        base = reader if not self.model else load_reader(self.model, device=str(reader.device))
        if self.tuning not in TUNING:
            raise ConfigError(f"encoder.tuning: expected one of {TUNING}, got {self.tuning!r}")
        if not 0 <= self.layers <= base.layers:
            raise ConfigError(f"encoder.layers: expected 0 to {base.layers}, got {self.layers}")
        return PretrainedEncoder(self, base, reader)


class PretrainedEncoder(Encoder):
    """Hidden states of a decoder body, after its final norm."""

    def __init__(self, config: PretrainedEncoderConfig, base: Reader, reader: Reader) -> None:
        super().__init__()
        self.width = base.width
        self.config = config
        self._base = [base]
        self.gives_inputs = base is reader
        body = _first_layers(base.model.get_decoder(), config.layers)
        self.lora: LoRAParameters | None = None
        self.tuned: nn.Module | None = None
        if config.tuning == "full":
            self.tuned = copy.deepcopy(body).float().requires_grad_(True)
            # Token embeddings are looked up in the base and not trained.
            self.tuned.set_input_embeddings(None)  # type: ignore[operator]
        elif config.tuning == "lora":
            wanted = list(range(config.layers)) or None
            self.lora = LoRAParameters(base, config.r, config.lora_alpha, wanted)
        # In a list: the frozen weights are the base's and no part of what is saved.
        self._body: list[Any] = [] if self.tuned is not None else [body]

    def forward(self, texts: Sequence[str]) -> States:
        """See `Encoder.forward`."""
        base = self._base[0]
        ids, mask = padded_tokens(base, texts)
        embeds = base.embed(ids)
        values = self._run(embeds, mask).float()
        start = len(base.opening)
        inputs = embeds[:, start:].float() if self.gives_inputs else None
        return States(values[:, start:], mask[:, start:], inputs)

    def _run(self, embeds: Tensor, mask: Tensor) -> Tensor:
        """Last hidden states [b, t, d] of input embeddings."""
        body: Any = self._body[0] if self.tuned is None else self.tuned
        attention: Any = mask.long()
        if self.config.bidirectional:
            attention = (mask[:, None, None, :] & mask[:, None, :, None]).contiguous()
        with nullcontext() if self.lora is None else self.lora.applied():
            output = body(
                inputs_embeds=embeds if self.tuned is None else embeds.float(),
                attention_mask=attention,
                use_cache=False,
            )
        return output.last_hidden_state


def _first_layers(body: Any, layers: int) -> Any:
    """A decoder body with the first layers alone, sharing every weight; itself for 0."""
    if not layers:
        return body
    part = copy.copy(body)
    # Another table of modules, the same modules: the whole body keeps its layers.
    part._modules = dict(body._modules)
    part.layers = body.layers[:layers]
    part.config = copy.copy(body.config)
    part.config.num_hidden_layers = layers
    return part
