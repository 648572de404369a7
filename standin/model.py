"""The stand-in's network: a Llama, small, written so that its weights carry the names that transformers and vLLM read.

Knows nothing of text, training or files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IGNORED = -100  # a target that counts for nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a Llama's `config.json` says of its size. `context` is the most tokens it is trained on."""

    vocabulary: int
    width: int
    num_layers: int
    num_heads: int
    mlp_width: int
    context: int
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.width % self.num_heads or (self.width // self.num_heads) % 2:
            raise ValueError(f"{self.num_heads} heads of an even size do not make a width of {self.width}")

    @property
    def num_parameters(self) -> int:
        """Embedding and output share one matrix."""
        layer = 4 * self.width**2 + 3 * self.width * self.mlp_width + 2 * self.width
        return self.vocabulary * self.width + self.num_layers * layer + self.width


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.num_heads = shape.num_heads
        self.q_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.k_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.v_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.o_proj = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        rows, length, width = x.shape
        query, key, value = (
            projection(x).view(rows, length, self.num_heads, -1).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = _turned(query, cosines, sines), _turned(key, cosines, sines)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return cast(Tensor, self.o_proj(mixed.transpose(1, 2).reshape(rows, length, width)))


class Mlp(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.mlp_width, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.mlp_width, bias=False)
        self.down_proj = nn.Linear(shape.mlp_width, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x)))


class RmsNorm(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.width))
        self.eps = shape.norm_eps

    def forward(self, x: Tensor) -> Tensor:
        exact = x.float()
        scaled = exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + self.eps)
        return (scaled * self.weight).to(x.dtype)


class Layer(nn.Module):
    def __init__(self, shape: Shape, *, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.input_layernorm = RmsNorm(shape)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RmsNorm(shape)
        self.mlp = Mlp(shape)

    def forward(self, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        x = x + self.dropout(self.self_attn(self.input_layernorm(x), cosines, sines))
        return cast(Tensor, x + self.dropout(self.mlp(self.post_attention_layernorm(x))))


class Trunk(nn.Module):
    def __init__(self, shape: Shape, *, dropout: float) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape, dropout=dropout) for _ in range(shape.num_layers))
        self.norm = RmsNorm(shape)


class Llama(nn.Module):
    """Rows are padded at their end only: attention looks back, so padding changes nothing before it."""

    cosines: Tensor
    sines: Tensor

    def __init__(self, shape: Shape, *, dropout: float = 0.0) -> None:
        """Weights, and what is dropped in training, are drawn from torch's default generator. `dropout` is the share of
        what each half of a layer adds to the stream."""
        super().__init__()
        self.shape = shape
        self.model = Trunk(shape, dropout=dropout)
        head = shape.width // shape.num_heads
        frequencies = shape.rope_theta ** (-torch.arange(0, head, 2, dtype=torch.float32) / head)
        angles = torch.outer(torch.arange(shape.context, dtype=torch.float32), frequencies).repeat(1, 2)
        self.register_buffer("cosines", angles.cos(), persistent=False)
        self.register_buffer("sines", angles.sin(), persistent=False)
        self.apply(_draw_weights)
        for name, parameter in self.named_parameters():  # what is added to the stream, once a layer twice over
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * shape.num_layers))

    def forward(self, ids: Tensor) -> Tensor:
        """What the last layer says at each of `ids` (rows, length): (rows, length, width), for `logits_of`."""
        x = self.model.embed_tokens(ids)
        if torch.is_autocast_enabled(ids.device.type):
            x = x.to(torch.get_autocast_dtype(ids.device.type))
        cosines, sines = self.cosines[: ids.shape[1]], self.sines[: ids.shape[1]]
        for layer in self.model.layers:
            x = layer(x, cosines, sines)
        return cast(Tensor, self.model.norm(x))

    @property
    def embedding(self) -> Tensor:
        """(vocabulary, width)."""
        return self.model.embed_tokens.weight


def logits_of(hidden: Tensor, embedding: Tensor) -> Tensor:
    """Of the token after each place: the embedding read backwards."""
    return F.linear(hidden, embedding)


def loss_of(hidden: Tensor, embedding: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sum of the cross entropies, in nats, over the targets that are not IGNORED, each times its weight if any."""
    logits = logits_of(hidden, embedding).flatten(0, 1).float()
    if weights is None:
        return F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED, reduction="sum")
    each = F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED, reduction="none")
    return (each * weights.flatten()).sum()


def _turned(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary positions, the two halves of a head being the two coordinates, as Llama checkpoints have them."""
    first, second = x.chunk(2, dim=-1)
    return (x * cosines + torch.cat((-second, first), dim=-1) * sines).to(x.dtype)


def _draw_weights(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
