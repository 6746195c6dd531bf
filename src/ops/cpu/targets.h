// The instruction sets that the kernels of this folder are compiled for. Highway chooses the widest one that the
// processor has when the first kernel runs. LibTorch's variable ATEN_CPU_CAPABILITY (default, avx2, avx512) holds these
// kernels to no more than LibTorch itself uses.
#pragma once

#include <string>
#include <vector>

namespace cepe::cpu {

// What this processor has and may use, widest first, by Highway's names: "AVX3" (AVX-512), "AVX2", "SSE2" (not in
// Highway 1.0), "NEON", "EMU128" or "SCALAR" (any processor).
std::vector<std::string> targets();

// The one in use.
std::string target();

// Kernels run with `name` of targets() from now on; empty: with the widest again. For tests and measurements; not while
// a kernel runs.
void use_target(const std::string& name);

// Whether products of bfloat16 pairs (avx512_bf16) may be used: the processor has them, and target() is "AVX3".
// Highway's own targets with them are left out: Highway 1.0 has none.
bool bfloat16_products();

// Whether products of many rows are faster so than in float32: with amx_bf16, and on AMD's processors. Intel's take two
// cycles for bfloat16 pairs without it, and LibTorch's product twice the time of one in float32 (docs/kernels/cpu.md).
bool fast_bfloat16_products();

// Whether products of 16-bit pairs may be used: avx512_vnni where target() is "AVX3", avx_vnni where it is "AVX2"
// unless ATEN_CPU_CAPABILITY says so.
bool vnni_products();

}  // namespace cepe::cpu
