"""PretrainedTextEncoder: a frozen sentence encoder; EmbeddingCache: what it said, kept on disk."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.nn import functional as F

from llgbm.deltas.atomic import save_tensors
from llgbm.deltas.errors import CacheError, ModelError, SettingError, mismatch
from llgbm.deltas.fingerprint import base_fingerprint, text_fingerprint
from llgbm.deltas.packaged import minilm_folder
from llgbm.deltas.quiet import quiet_transformers

# The only name that stands for a packaged encoder; anything else is a folder or a hub id.
PACKAGED_ENCODER = "minilm-l6"


class TextEncoder(Protocol):
    """What embeds texts: a PretrainedTextEncoder, or a stand-in."""

    @property
    def fingerprint(self) -> str:
        """Identifies every embedding it gives."""
        ...

    def encode(self, texts: Sequence[str], batch_size: int = 32) -> Tensor:
        """Return [len(texts), embedding_dim] float32."""
        ...


class PretrainedTextEncoder:
    """A frozen sentence encoder: mean over real tokens, unit length.

    Args:
        name: `minilm-l6` (the packaged MiniLM-L6-v2, 384 numbers a text), a local folder, or a
            hub id of an encoder that transformers loads.
        max_tokens: longer texts are cut.
        device: where it runs.

    Raises:
        MissingPackageError: the package with MiniLM is not installed.
        ModelError: no such folder or hub id.
    """

    def __init__(
        self,
        name: str = PACKAGED_ENCODER,
        max_tokens: int = 256,
        device: torch.device | str = "cpu",
    ) -> None:
        self.name, self.max_tokens = name, max_tokens
        model, self.tokenizer = _load(name)
        self.model = model.to(device).requires_grad_(False).eval()
        self.embedding_dim: int = self.model.config.hidden_size
        self._fingerprint: str | None = None

    @property
    def fingerprint(self) -> str:
        """sha256 of the weights, the tokenizer and how tokens become one vector."""
        if self._fingerprint is None:
            tokenizer = json.loads(self.tokenizer.backend_tokenizer.to_str())
            # What the last call asked for, not what the tokenizer is.
            tokenizer.update(truncation=None, padding=None)
            self._fingerprint = text_fingerprint(
                {
                    "weights": base_fingerprint(self.model),
                    "tokenizer": tokenizer,
                    "pooling": "mean of real tokens, L2",
                    "max_tokens": self.max_tokens,
                }
            )
        return self._fingerprint

    @torch.no_grad()
    def encode(self, texts: Sequence[str], batch_size: int = 32) -> Tensor:
        """Embed texts; what a text gets does not depend on its batch (within 1e-5).

        Args:
            texts: any number.
            batch_size: texts of one forward; texts of like length share one.

        Returns:
            [len(texts), embedding_dim] float32 on the CPU, rows of unit norm.

        Raises:
            ValueError: one text in place of several.
        """
        if isinstance(texts, str):
            raise ValueError(f"texts: expected several texts, got {texts!r}")
        result = torch.empty(len(texts), self.embedding_dim)
        tokens = [
            self.tokenizer(text, truncation=True, max_length=self.max_tokens)["input_ids"]
            for text in texts
        ]
        order = sorted(range(len(texts)), key=lambda index: len(tokens[index]))
        device = next(self.model.parameters()).device
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = self.tokenizer.pad(
                {"input_ids": [tokens[row] for row in rows]}, return_tensors="pt"
            ).to(device)
            hidden = self.model(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None].to(hidden.dtype)
            mean = (hidden * mask).sum(1) / mask.sum(1)
            result[rows] = F.normalize(mean, dim=-1).float().cpu()
        return result

    @torch.no_grad()
    def token_states(self, texts: Sequence[str], length: int, batch_size: int = 32) -> Tensor:
        """Hidden states of every token, each text padded or cut to `length` tokens.

        Padding is not attended to, and its own states are kept as the encoder writes them. A
        length beyond the encoder's reach is read in blocks of that reach, each by itself.

        Args:
            texts: any number.
            length: tokens of a text, special ones included.
            batch_size: blocks of one forward.

        Returns:
            [len(texts), length, embedding_dim] float32 on the CPU.

        Raises:
            SettingError: a length below 1, or beyond the reach and no multiple of it.
        """
        reach: int = self.model.config.max_position_embeddings
        if length < 1 or (length > reach and length % reach):
            expected = f"from 1 to {reach} or a multiple of {reach}"
            raise SettingError(mismatch("token states", "length", expected, length))
        result = torch.empty(len(texts), length, self.embedding_dim)
        if not texts:
            return result
        block = min(length, reach)
        tokens = self.tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=length,
            return_tensors="pt",
        )
        ids = tokens["input_ids"].view(-1, block)
        mask = tokens["attention_mask"].view(-1, block)
        device = next(self.model.parameters()).device
        blocks = result.view(-1, block, self.embedding_dim)
        for start in range(0, len(ids), batch_size):
            rows = slice(start, start + batch_size)
            hidden = self.model(
                input_ids=ids[rows].to(device), attention_mask=mask[rows].to(device)
            ).last_hidden_state
            blocks[rows] = hidden.float().cpu()
        return result


def _load(name: str) -> tuple[Any, Any]:
    """Load model and tokenizer of an encoder."""
    if name == PACKAGED_ENCODER:
        source = str(minilm_folder())
    elif Path(name).expanduser().is_dir():
        source = str(Path(name).expanduser())
    elif name.count("/") == 1 and not name.startswith((".", "/", "~")):
        source = name
    else:
        near = difflib.get_close_matches(name, [PACKAGED_ENCODER], cutoff=0.4)
        hint = f" (nearest: {near[0]})" if near else ""
        raise ModelError(
            f"text encoder: expected {PACKAGED_ENCODER}, a local folder or a hub id OWNER/NAME, "
            f"got {name!r}{hint}"
        )
    # Imported here: most commands that only describe themselves need no transformers.
    from transformers import AutoModel, AutoTokenizer

    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(source)
            # float32: embeddings are made once, and half precision would tie them to a device.
            model = AutoModel.from_pretrained(
                source, dtype=torch.float32, attn_implementation="sdpa"
            )
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{name}: expected a text encoder that can be loaded, got: {reason}"
        ) from error
    if tokenizer.pad_token is None:
        raise ModelError(f"{name}: tokenizer: expected a padding token, got none")
    return model, tokenizer


@dataclass
class _Rows:
    """Embeddings of one encoder: keys in the order of the rows."""

    embeddings: Tensor
    index: dict[str, int] = field(default_factory=dict)


class EmbeddingCache:
    """Embeddings by sha256 of encoder fingerprint and text, in memory and on disk.

    One safetensors file an encoder, replaced as a whole: readers see the old or the new one,
    and a lock keeps two writers from losing each other's rows.

    Args:
        folder: made where missing.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self._memory: dict[str, _Rows] = {}

    def path(self, encoder: TextEncoder) -> Path:
        """File that holds the embeddings of `encoder`."""
        return self.folder / f"{encoder.fingerprint[:32]}.safetensors"

    def encode(self, texts: Sequence[str], encoder: TextEncoder, batch_size: int = 32) -> Tensor:
        """Embed `texts`, running the encoder only on those never seen.

        Args:
            texts: any number, repeats allowed.
            encoder: embeds what is missing.
            batch_size: of the encoder.

        Returns:
            [len(texts), embedding_dim] float32.

        Raises:
            CacheError: a damaged file, naming it.
        """
        prefix = encoder.fingerprint
        keys = [hashlib.sha256(f"{prefix}\n{text}".encode()).hexdigest() for text in texts]
        known = self._memory.get(prefix)
        if known is None or any(key not in known.index for key in keys):
            known = self._complete(dict(zip(keys, texts, strict=True)), encoder, batch_size)
        return known.embeddings[[known.index[key] for key in keys]]

    def _complete(self, wanted: dict[str, str], encoder: TextEncoder, batch_size: int) -> _Rows:
        """Read the file, embed what it lacks of `wanted`, and write both together."""
        path = self.path(encoder)
        rows = self._read(path)
        missing = [key for key in wanted if key not in rows.index]
        if missing:
            # The encoder runs outside the lock; only merging needs it.
            made = encoder.encode([wanted[key] for key in missing], batch_size)
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                rows = self._read(path)
                _append(rows, missing, made, path)
                digests = b"".join(bytes.fromhex(key) for key in rows.index)
                save_tensors(
                    path,
                    {
                        "embeddings": rows.embeddings,
                        "keys": torch.frombuffer(bytearray(digests), dtype=torch.uint8).view(
                            -1, 32
                        ),
                    },
                    {"encoder": encoder.fingerprint},
                )
        self._memory[encoder.fingerprint] = rows
        return rows

    def _read(self, path: Path) -> _Rows:
        """Read one file; no rows where there is none."""
        if not path.exists():
            return _Rows(torch.empty(0, 0))
        try:
            with safe_open(path, framework="pt") as file:
                names = sorted(file.keys())
                if names != ["embeddings", "keys"]:
                    raise CacheError(mismatch(path, "tensors", ["embeddings", "keys"], names))
                embeddings, keys = file.get_tensor("embeddings"), file.get_tensor("keys")
        except SafetensorError as error:
            raise CacheError(
                f"{path}: not a whole safetensors file ({error}); delete it to embed anew"
            ) from error
        if keys.dtype != torch.uint8 or keys.dim() != 2 or keys.shape[1] != 32:
            raise CacheError(mismatch(path, "keys", "uint8 [n, 32]", _described(keys)))
        if embeddings.dtype != torch.float32 or embeddings.shape[:-1] != keys.shape[:1]:
            expected = f"float32 [{len(keys)}, dim]"
            raise CacheError(mismatch(path, "embeddings", expected, _described(embeddings)))
        if not torch.isfinite(embeddings).all():
            raise CacheError(f"{path}: embeddings: expected finite values, got NaN or Inf")
        flat = keys.numpy().tobytes().hex()
        names = [flat[start : start + 64] for start in range(0, len(flat), 64)]
        return _Rows(embeddings, {name: row for row, name in enumerate(names)})


def _append(rows: _Rows, keys: Sequence[str], made: Tensor, path: Path) -> None:
    """Add the rows that another process has not added meanwhile."""
    fresh = [place for place, key in enumerate(keys) if key not in rows.index]
    if rows.index and fresh and made.shape[1] != rows.embeddings.shape[1]:
        raise CacheError(mismatch(path, "embeddings: width", made.shape[1], rows.embeddings.shape))
    for place in fresh:
        rows.index[keys[place]] = len(rows.index)
    added = made[fresh].float().contiguous()
    rows.embeddings = torch.cat([rows.embeddings, added]) if len(rows.embeddings) else added


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
