"""CEPE's published algorithm in plain PyTorch: every cross-attention layer projects keys and values of the whole
context again at every call, also for one written token; nothing is kept for a layer but self-attention's cache.

Kinder than the published code in what is not the algorithm: keys and values come from one product, memory is not
copied, and a step can be recorded as a CUDA graph.
"""
import torch
from torch import nn

from torch_llama import Llama, add_product, attend


class CrossAttention(nn.Module):
    """h += O(softmax(Q(norm(h)) K(E)^T / sqrt(K)) V(E)): no positions, no causal mask."""

    def __init__(self, sizes, context_width):
        super().__init__()
        self.sizes = sizes
        K = sizes.head_dim
        self.norm = nn.RMSNorm(sizes.width, eps=sizes.eps)
        self.q = nn.Linear(sizes.width, sizes.heads * K, bias=False)
        self.kv = nn.Linear(context_width, 2 * sizes.kv_heads * K, bias=False)
        self.out = nn.Linear(sizes.heads * K, sizes.width, bias=False)

    def forward(self, x_RD, context_BSE, backend):
        B, S = context_BSE.shape[:2]
        K = self.sizes.head_dim
        q = self.q(self.norm(x_RD)).view(B, -1, self.sizes.heads, K).transpose(1, 2)
        k, v = self.kv(context_BSE).view(B, S, 2, self.sizes.kv_heads, K).permute(2, 0, 3, 1, 4)
        read = attend(q, k, v, backend).transpose(1, 2).reshape(x_RD.size(0), -1)
        add_product(x_RD, read, self.out)


class PublishedCepe(nn.Module):
    def __init__(self, decoder, encoder, cross_layers):
        super().__init__()
        self.encoder = Llama(encoder, head=False)
        self.decoder = Llama(decoder)
        for block in self.decoder.blocks[decoder.layers - cross_layers:]:
            block.cross = CrossAttention(decoder, encoder.width)

    def prepare(self, positions, chunk):
        self.encoder.prepare(chunk)
        self.decoder.prepare(positions)

    def encode(self, tokens_ML, backend):
        """Chunks (M, L), each by itself -> one context (1, M L, E)"""
        x = self.encoder.read(tokens_ML, backend, causal=False)
        return self.encoder.norm(x)[None]

    def score(self, chunks_ML, tokens_1T, backend):
        """Encodes, then reads the decoder's tokens -> logits of all (T, vocabulary)"""
        context = self.encode(chunks_ML, backend)
        return self.decoder.logits(self.decoder.read(tokens_1T, backend, context_BSE=context))
