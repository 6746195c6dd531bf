"""Llama in plain PyTorch, as fast as its own operations make it: merged projections, a key-value cache that is
allocated once, scaled_dot_product_attention with a backend that is named, no copy of keys or values. No transformers
needed.

Letters: R rows (sequences times tokens), B sequences, T tokens, S context tokens, D width, H heads, G key-value
heads, K head size.
"""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION, "math": SDPBackend.MATH}
# Rows that projections and the feed-forward take at once: 131,072 would need 11 GB for the latter alone.
PIECE = 16384


@dataclass(frozen=True)
class Sizes:
    vocabulary: int
    width: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    eps: float
    theta: float = 10000.0

    @property
    def head_dim(self):
        return self.width // self.heads


def attend(q_BHTK, k_BGSK, v_BGSK, backend, causal=False):
    with sdpa_kernel(BACKENDS[backend]):
        return F.scaled_dot_product_attention(q_BHTK, k_BGSK, v_BGSK, is_causal=causal,
                                              enable_gqa=q_BHTK.size(1) != k_BGSK.size(1))


def rotate(x_RHK, cos_RK, sin_RK):
    """Rotary positions: sin has the sign of the first half turned, so that one roll serves both halves."""
    return torch.addcmul(x_RHK * cos_RK[:, None], x_RHK.roll(x_RHK.size(-1) // 2, -1), sin_RK[:, None])


def gated(x_R2F):
    gate, up = x_R2F.chunk(2, -1)
    return F.silu(gate) * up


def add_product(x_RD, rows, linear):
    """x + rows W^T in one product, in place."""
    return x_RD.addmm_(rows, linear.weight.t())


def pieces(rows):
    return [slice(first, min(first + PIECE, rows)) for first in range(0, rows, PIECE)]


def rotary_table(sizes, positions, device, dtype):
    even = torch.arange(0, sizes.head_dim, 2, device=device, dtype=torch.float64)
    frequency = sizes.theta ** -(even / sizes.head_dim)
    angle = torch.arange(positions, device=device, dtype=torch.float64)[:, None] * frequency
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([cos, cos], -1).to(dtype), torch.cat([-sin, sin], -1).to(dtype)


class Block(nn.Module):
    def __init__(self, sizes):
        super().__init__()
        self.sizes = sizes
        K, q_and_kv = sizes.head_dim, sizes.heads + 2 * sizes.kv_heads
        self.attention_norm = nn.RMSNorm(sizes.width, eps=sizes.eps)
        self.qkv = nn.Linear(sizes.width, q_and_kv * K, bias=False)
        self.out = nn.Linear(sizes.heads * K, sizes.width, bias=False)
        self.ffn_norm = nn.RMSNorm(sizes.width, eps=sizes.eps)
        self.gate_up = nn.Linear(sizes.width, 2 * sizes.ffn, bias=False)
        self.down = nn.Linear(sizes.ffn, sizes.width, bias=False)
        self.cross = None  # torch_cepe.py puts cross-attention here

    def project(self, x_RD, cos_RK, sin_RK):
        """-> q (R, H, K), k (R, G, K), v (R, G, K)"""
        H, G, K = self.sizes.heads, self.sizes.kv_heads, self.sizes.head_dim
        qkv = self.qkv(self.attention_norm(x_RD)).view(x_RD.size(0), H + 2 * G, K)
        qk = rotate(qkv[:, :H + G], cos_RK, sin_RK)
        return qk[:, :H], qk[:, H:], qkv[:, H + G:]

    def feed_forward(self, x_RD):
        add_product(x_RD, gated(self.gate_up(self.ffn_norm(x_RD))), self.down)


class Llama(nn.Module):
    """A stack of blocks: a decoder with `head`, an encoder without."""

    def __init__(self, sizes, head=True):
        super().__init__()
        self.sizes = sizes
        self.embedding = nn.Embedding(sizes.vocabulary, sizes.width)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.layers))
        self.norm = nn.RMSNorm(sizes.width, eps=sizes.eps)
        self.head = nn.Linear(sizes.width, sizes.vocabulary, bias=False) if head else None

    def prepare(self, positions):
        weight = self.embedding.weight
        self.cos, self.sin = rotary_table(self.sizes, positions, weight.device, weight.dtype)

    def make_cache(self, tokens):
        """Keys and values of every layer, (layers, 2, tokens, G, K), one sequence."""
        weight, sizes = self.embedding.weight, self.sizes
        return weight.new_empty(sizes.layers, 2, tokens, sizes.kv_heads, sizes.head_dim).normal_()

    def read(self, tokens_BT, backend, causal=True, cache=None, context_BSE=None, layers=None):
        """All tokens at once -> hidden states (R, D) before the last norm. The cache (one sequence) keeps k and v."""
        B, T = tokens_BT.shape
        H, G, K = self.sizes.heads, self.sizes.kv_heads, self.sizes.head_dim
        x = self.embedding(tokens_BT.reshape(-1))
        position = torch.arange(T, device=x.device).repeat(B)
        q = x.new_empty(B * T, H, K)
        k, v = x.new_empty(2, B * T, G, K) if cache is None else (None, None)
        for layer, block in enumerate(self.blocks[:layers]):
            if cache is not None:
                k, v = cache[layer, :, :T]
            for rows in pieces(B * T):
                q[rows], k[rows], v[rows] = block.project(x[rows], self.cos[position[rows]], self.sin[position[rows]])
            heads_first = (each.view(B, T, -1, K).transpose(1, 2) for each in (q, k, v))
            read = attend(*heads_first, backend, causal).transpose(1, 2).reshape(B * T, H * K)
            add_product(x, read, block.out)
            del read
            if block.cross is not None and context_BSE is not None:
                block.cross(x, context_BSE, backend)
            for rows in pieces(B * T):
                block.feed_forward(x[rows])
        return x

    def logits(self, x_RD):
        return self.head(self.norm(x_RD))

    def step(self, token_1, position, cache, backend, context_BSE=None):
        """One token of one sequence at a position that stays the same from call to call, so that a graph can record it.
        -> logits (1, vocabulary)"""
        x = self.embedding(token_1)
        cos, sin = self.cos[position:position + 1], self.sin[position:position + 1]
        for layer, block in enumerate(self.blocks):
            q, k, v = block.project(x, cos, sin)
            cache[layer, 0, position:position + 1] = k
            cache[layer, 1, position:position + 1] = v
            keys, values = (part.transpose(0, 1)[None] for part in cache[layer, :, :position + 1])
            read = attend(q.transpose(0, 1)[None], keys, values, backend)
            add_product(x, read.view(1, -1), block.out)
            if block.cross is not None and context_BSE is not None:
                block.cross(x, context_BSE, backend)
            block.feed_forward(x)
        return self.logits(x)


def fill_random(model):
    """Random weights as cepe bench makes them: normal, 1 / sqrt(inputs); norms are ones already."""
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.normal_(0, parameter.size(1) ** -0.5)


def load_llama(model, tensors, prefix, head=None):
    """From tensors with the published names; projections are merged."""
    def take(module, *names):
        module.weight.copy_(torch.cat([tensors[f"{name}.weight"] for name in names]))

    take(model.embedding, prefix + "embed_tokens")
    take(model.norm, prefix + "norm")
    if head:
        take(model.head, head)
    for index, block in enumerate(model.blocks):
        layer = f"{prefix}layers.{index}."
        take(block.attention_norm, layer + "input_layernorm")
        take(block.qkv, *(f"{layer}self_attn.{name}_proj" for name in "qkv"))
        take(block.out, layer + "self_attn.o_proj")
        take(block.ffn_norm, layer + "post_attention_layernorm")
        take(block.gate_up, layer + "mlp.gate_proj", layer + "mlp.up_proj")
        take(block.down, layer + "mlp.down_proj")
        if block.cross is not None:
            cross = layer + "cross_attn."
            take(block.cross.norm, cross + "layernorm")
            take(block.cross.q, cross + "q_proj")
            take(block.cross.kv, cross + "k_proj", cross + "v_proj")
            take(block.cross.out, cross + "o_proj")
