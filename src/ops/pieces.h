// Work that is dealt to LibTorch's threads in pieces: each takes the next one when it is done, so that a thread whose
// core another program uses takes fewer, and the others do not wait for it longer than for one piece.
#pragma once

#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace cepe {

// work(i) for each i of 0 .. count, without gradients, in any order. LibTorch's operations inside a piece use its
// thread alone. An exception of one piece comes out when all threads have ended.
template <class Work>
void in_pieces(int64_t count, const Work& work) {
  const bool inference = c10::InferenceMode::is_enabled();  // a thread's own, which others do not inherit
  std::atomic<int64_t> next = 0;
  at::parallel_for(0, std::min<int64_t>(count, at::get_num_threads()), 1, [&](int64_t, int64_t) {
    const c10::InferenceMode mode(inference);  // first: it sets the mode of gradients, too
    const c10::NoGradGuard no_gradients;
    for (int64_t i = next++; i < count; i = next++) work(i);
  });
}

}  // namespace cepe
