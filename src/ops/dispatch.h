// Which implementation computes an operation: every limit that decides it, with its reason and what was measured. The
// operations (ops.h and the headers of the wings) ask these limits inside one call. Above src/ops a decoding step alone
// asks, when it is made, whether chains and skinny GEMMs pay.
//
// Three questions are answered elsewhere. Which form of cross-attention a call takes: model/cost_model.h. What a tensor
// must be so that a kernel can read it: operand.h. How a kernel is tiled: beside the kernel; a limit that follows from
// its tiles alone (whole vectors, whole tiles) stands in the kernel's header, in a function that ends in `fits`.
//
// Plain arithmetic: CUDA sources include this file too.
#pragma once

#include <cstdint>

namespace cepe::dispatch {

// ---- Products of few rows (gemv/gemv.h)

// Up to so many rows of x a product is a GEMV: one pass over the matrix, bound by memory, with a sum in registers for
// each row and output, on a CUDA device and on a CPU.
constexpr int64_t kGemvRows = 4;
// The rows of x lie in shared memory, 4 of 24,576 bfloat16 values in 192 KB of the 227 KB of a block.
constexpr int64_t kGemvInputs = 24576;
// Up to so many rows a product is a skinny GEMM on a CUDA device: `wgmma` takes 8 or 16 rows as its columns. 17 to 32
// rows were tried (H100, Llama-2-7B): 5.76 ms a step instead of 5.96 without a context, 11.1 instead of 11.0 with 4,096
// tokens each; not worth a second layout.
constexpr int64_t kSkinnyGemmRows = 16;
// Semaphores of a skinny GEMM: one for each 64 outputs. 8,192 serve 524,288 outputs, more than any vocabulary.
constexpr int64_t kSkinnyGemmTiles = 8192;

// ---- Quantised matrices and more rows (gemv/quantised_weight.h)

// Rows from which a CPU takes the kernel of many rows (cpu/gemm.h) instead of that of few, kGemvRows at a time.
// SmolLM2's matrices on 2 cores of a Xeon, times LibTorch's product in float32, many beside few: int4 with 5, 6, 8 and
// 12 rows 0.97, 1.36, 1.41, 1.57 beside 1.28, 1.18, 1.32, 1.20; int8 0.87, 0.99, 1.15, 1.30
// beside 1.17, 1.10, 1.13, 1.15, and held to AVX2 with 8 and 12 rows 1.40, 1.20 beside 1.55, 1.26.
constexpr int64_t kGemmRowsOfInt4 = 6, kGemmRowsOfInt8 = 12;
// Rows in bfloat16 from which a CPU that multiplies these faster widens the matrix for LibTorch's product.
constexpr int64_t kWidenedRows = 64;
// Pieces of a product that each thread should have, so that one whose core another program uses takes fewer; rows of x
// that a piece keeps at least, because the matrix is widened once for each.
constexpr int64_t kGemmPiecesOfThread = 8, kGemmRowsOfPiece = 84;
// Rows that are rounded at once: the memory for them is kept, 13 MB for 1,536 inputs.
constexpr int64_t kGemmRowsAtOnce = 4096;
// Groups of x that a thread rounds at least: some 10 us.
constexpr int64_t kRoundedGroupsOfThread = 512;
// On a CUDA device a GEMV reads the weights once for kGemvRows rows, so twice for 8: in int8 2 bytes a weight at half
// the speed, where widening moves 5 (it reads 1 and writes 2, and the product reads 2).
constexpr int64_t kWidenedRowsOnCuda = 2 * kGemvRows + 1;

// ---- A decoding step's products (step/step_executor.h, chain/gemv_chain.h)

struct LayerShape {
  int64_t hidden = 0, heads = 0, kv_heads = 0, head_dim = 0, feed_forward = 0;
};
// Whether a layer is so large that kernels which go through all multiprocessors pay, chains and skinny GEMMs: what is
// lost at their edges (some 5 us, chains) must be little beside reading the weights. Measured on an H100: Llama-2-7B
// (202 million weights a layer) gains 3 to 8 % by chains with 1 to 4 sequences, SmolLM2-1.7B (67 million) 13 % without
// a context and 2 % with one; SmolLM2-135M (3.5 million) loses 20 %, and by skinny GEMMs with 16 sequences 10 %.
constexpr int64_t kLargeLayer = 40'000'000;
constexpr bool large_layer(const LayerShape& layer) {
  const int64_t attention = 2 * (layer.heads + layer.kv_heads) * layer.head_dim;
  return (attention + 3 * layer.feed_forward) * layer.hidden >= kLargeLayer;
}
// A chain is slower where more query heads than these share a key-value head and a context is read: Qwen2.5-7B, with 7,
// loses 1 %; Llama-3-8B, with 4, gains 3 to 6 % (H100).
constexpr int64_t kChainSharedHeads = 4;
struct ChainQuestion {
  LayerShape layer;
  int64_t sequences = 0;
  bool quantised = false;  // the kernel multiplies bfloat16
  bool reads_context = false;
  bool exclusive_device = false;
  bool device_runs_it = true;  // cuda::Capability::hopper
};
// Whether a step's GEMVs run as chains. The CTAs of a chain occupy every multiprocessor and spin on each other's
// results. Kernels of another process take multiprocessors from a chain, and two chains can deadlock. Threads of one
// process take turns (ChainTurn); processes cannot. So chains run only on a device that no other process uses. There a
// chain saves 8.3, 6.9 and 7.1 % of a token (H200, Llama-2-7B after 4,096, 126,976 and no context tokens).
constexpr bool chains_pay(const ChainQuestion& question) {
  const bool widely_shared = question.layer.heads > kChainSharedHeads * question.layer.kv_heads;
  return question.exclusive_device && question.device_runs_it && question.sequences <= kGemvRows &&
         !question.quantised && large_layer(question.layer) && !(widely_shared && question.reads_context);
}
// Columns (rows of x times query heads that share a matrix) of a product in a chain: the 8 columns of `mma.m16n8k16`. A
// second set of columns, with x in segments, took 8 ms for the products of 32 layers and 16 sequences, where a whole
// step by LibTorch's took 9: not worth its code.
constexpr int64_t kChainColumns = 8;
// Stages of 16 KB that a chain's ring must hold beside x, else its products run alone. Rings of 6, 8 and 10 stages:
// 2,663, 2,686 and 2,700 GB/s (H100).
constexpr int kChainStages = 5;

// ---- A decoding step's attention (step/step_ops.h)

// On CUDA. A cluster has at most one CTA for so many tokens of the cache's capacity.
constexpr int64_t kStepTokensOfABlock = 32;
// Capacity up to which each query head has CTAs of its own although query heads share keys, where batch and heads are
// few: L2 serves the keys again, and CTAs of one row leave room for the next kernel.
constexpr int64_t kStepShortCache = 1024;
// Head sizes: a head's sums lie in registers, 8 columns a lane of up to 32; on a CPU in 16 vectors.
constexpr int64_t kStepHeadSize = 256;

// ---- Attention on latents (latent/latent_attention.h, latent/context_table.h), on CUDA

// Widths of states that the kernels are compiled for, in steps of 64.
constexpr int64_t kLatentWidth = 1024;
// Rows of one context from which LibTorch's products over blocks of the context are faster than a pass: on an H100 over
// 126,976 tokens of width 1,024 they take 254 us with 96 rows and 279 with 128, a pass 111 for every 64. States in 8
// bits must be widened for products.
constexpr int64_t kLatentProductRows = 129, kLatentProductRowsOfBytes = 256;
// The same for the kernel that every GPU runs, a pass of which takes 32 rows; also of states in 8 bits.
constexpr int64_t kLatentProductRowsAnyGpu = 65;
// The same where contexts differ: products leave the others' contexts to launches of their own. One pass over a table
// takes 66 us for 32 rows of 126,976 states, products 330 us for 128 rows.
constexpr int64_t kTableProductRows = 192;
// Tokens, of all contexts, from which clusters of two CTAs serve wide rows instead of clusters of four: the partials
// of more clusters then cost less than the multiprocessors that clusters of four leave idle.
constexpr int64_t kLatentManyTokens = 400'000;
// Tiles of 64 tokens that a cluster takes at least. With 1, 2, 3 and 4 a step took 6.59, 6.45, 6.49 and 6.51 ms.
constexpr int64_t kLatentReaderTiles = 2;
// Bytes of states that may stay in L2 (50 MB) from one layer to the next. Weights are read with evict_first; more
// states than these are, too.
constexpr int64_t kLatentKeptBytes = int64_t{24} << 20;

// ---- Attention over kept keys and values (context/context_attention.h)

// Rows of a key-value head from which cuDNN's kernel is taken instead of flash (626 against 357 TFLOP/s, Hopper), and
// below which they do not fill a GPU: the context is split (split-KV), and the splits are a batch.
constexpr int64_t kContextManyRows = 64;
// The batch that splits should make, contexts times heads times splits, and the least tokens of a split.
constexpr int64_t kContextBatch = 256, kContextPartTokens = 256;
// Head sizes of LibTorch's kernels that return the log-sum-exp.
constexpr int64_t kContextHeadSize = 128;

// ---- Attention (ops.h)

// Head sizes of the flash kernel, in steps of 8.
constexpr int64_t kFlashHeadSize = 256;
// Rows of a key-value head (tokens times the query heads that share it) from which flash attention of ours is faster on
// AVX2 than LibTorch's, and than the kernel of few rows on kept keys: a strip of rows is as dear as it is with fewer.
// With AVX-512 it was not measured, and LibTorch's is taken.
constexpr int64_t kCpuFlashRows = 24;

// ---- Norms and rows in fp8 (ops.h, gemm/fp8.h), on CUDA

// Widths of a norm: with a gradient a row lies in the registers of one warp; forward a block of 512 threads takes a
// wider one.
constexpr int64_t kNormWidth = 2048, kNormForwardWidth = 16384;
constexpr int64_t kFp8Width = 24576;  // the same of rows that are rounded to fp8

// ---- Products of many rows with their epilogue (gemm/fused_gemm.h), on CUDA

// The kernel computes tiles of 256 x 256, a fixed number at once. It was measured to be faster than the products and
// what follows one after another where all tiles are one round, or the rounds are nine tenths full.
constexpr int64_t kFusedGemmRows = 256;  // of a tile
constexpr bool fused_gemm_pays(int64_t rows, int64_t tiles, int64_t at_once) {
  const int64_t rounds = (tiles + at_once - 1) / at_once;
  return rows >= kFusedGemmRows && (rounds <= 1 || tiles * 10 >= rounds * at_once * 9);
}

}  // namespace cepe::dispatch
