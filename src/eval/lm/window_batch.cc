#include "eval/lm/window_batch.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace cepe {
namespace {

// begin: the first of a window's `count` tokens.
template <typename Begin>
at::Tensor rows(const WindowBatch& batch, int64_t count, Begin begin) {
  at::Tensor ids = at::empty({batch.size(), count}, at::kLong);
  int64_t* out = ids.mutable_data_ptr<int64_t>();
  for (const Window& window : batch.windows) out = std::copy_n(begin(window), count, out);
  return ids.to(batch.device);
}

}  // namespace

std::optional<ContextPlace> place_of(const Window& window, Control control) {
  if (control == Control::other_document) return window.other;
  if (control == Control::same_source) return window.same_source;
  return ContextPlace{window.document, window.start};
}

WindowBatch WindowBatch::part(int64_t first, int64_t count) const {
  return {documents, windows.subspan(static_cast<size_t>(first), static_cast<size_t>(count)), device, decoder_tokens,
          scored_tokens};
}

at::Tensor WindowBatch::context(Control control, int64_t far, int64_t near) const {
  return rows(*this, far - near, [&](const Window& window) {
    const ContextPlace place = *place_of(window, control);
    return documents[place.document].tokens.data() + place.end - far;
  });
}

at::Tensor WindowBatch::own(int64_t first, int64_t count) const {
  return rows(*this, count,
              [&](const Window& window) { return documents[window.document].tokens.data() + window.start + first; });
}

at::Tensor WindowBatch::whole(Control control, int64_t context_tokens) const {
  return at::cat({context(control, context_tokens, 0), text()}, 1);
}

}  // namespace cepe
