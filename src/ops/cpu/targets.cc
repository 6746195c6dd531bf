#include "ops/cpu/targets.h"

#include <hwy/highway.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <atomic>
#include <cstdint>
#include <cstdlib>

namespace cepe::cpu {
namespace {

// What ATEN_CPU_CAPABILITY takes away. AVX3 is the best that is compiled (CMakeLists.txt).
int64_t refused() {
#if HWY_ARCH_X86
  const char* const set = std::getenv("ATEN_CPU_CAPABILITY");
  const std::string capability = set ? set : "";
  if (capability == "avx2") return HWY_AVX3;
  if (capability == "default") return HWY_AVX2 | HWY_AVX3;
#endif
  return 0;
}

int64_t allowed() {
  static const int64_t found = hwy::SupportedTargets() & HWY_TARGETS & ~refused();
  return found;
}

// Kernels run with the widest of these. Not by hwy::DisableTargets(): Highway 1.0 chooses before it looks at those.
void hold(int64_t targets) {
  hwy::SetSupportedTargetsForTest(targets);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

int64_t widest(int64_t targets) { return targets & -targets; }

// The one in use, before any kernel runs. Highway asks the processor again at every question, which takes microseconds
// on a virtual machine.
std::atomic<int64_t> in_use = [] {
  hold(allowed());
  return widest(allowed());
}();

#if defined(__x86_64__)
// What gcc and clang have no name for, or not all of them: bits of CPUID's leaf 7.
struct Leaf {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  explicit Leaf(unsigned subleaf) { __get_cpuid_count(7, subleaf, &eax, &ebx, &ecx, &edx); }
};
bool has_amx_bf16() { return (Leaf(0).edx >> 22 & 1) != 0; }
bool has_avx_vnni() { return Leaf(0).eax >= 1 && (Leaf(1).eax >> 4 & 1) != 0; }
#endif

bool named(int64_t target, const std::string& name) { return hwy::TargetName(target) == name; }

}  // namespace

std::vector<std::string> targets() {
  std::vector<std::string> names;
  for (int64_t left = allowed(); left != 0; left &= left - 1) names.emplace_back(hwy::TargetName(widest(left)));
  return names;
}

std::string target() { return hwy::TargetName(in_use); }

void use_target(const std::string& name) {
  int64_t chosen = allowed();
  for (int64_t left = allowed(); left != 0; left &= left - 1) {
    if (named(widest(left), name)) chosen = widest(left);
  }
  hold(chosen);
  in_use = widest(chosen);
}

bool bfloat16_products() {
#if defined(__x86_64__)
  static const bool found = __builtin_cpu_supports("avx512bf16");
  return found && in_use == HWY_AVX3;
#else
  return false;
#endif
}

bool vnni_products() {
#if defined(__x86_64__)
  static const bool wide = __builtin_cpu_supports("avx512vnni"), narrow = has_avx_vnni() && refused() == 0;
  return (wide && in_use == HWY_AVX3) || (narrow && in_use == HWY_AVX2);
#else
  return false;
#endif
}

bool fast_bfloat16_products() {
#if defined(__x86_64__)
  static const bool found = has_amx_bf16() || !__builtin_cpu_is("intel");
  return found && bfloat16_products();
#else
  return false;
#endif
}

}  // namespace cepe::cpu
