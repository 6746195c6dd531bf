// Windows that are scored together, as the token ids that a model reads.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <span>
#include <vector>

#include "eval/documents.h"
#include "eval/record.h"
#include "eval/windows.h"

namespace cepe {

// Where a control's context of a window ends; none where the window has no such control. Shuffled chunks are the own.
std::optional<ContextPlace> place_of(const Window& window, Control control);

// B windows of one domain. Either all of them have a control or none.
struct WindowBatch {
  const std::vector<TokenDocument>& documents;
  std::span<const Window> windows;
  at::Device device;
  int64_t decoder_tokens, scored_tokens;

  int64_t size() const { return static_cast<int64_t>(windows.size()); }
  bool has(Control control) const { return place_of(windows.front(), control).has_value(); }
  // `count` of the windows, from the one at `first` on.
  WindowBatch part(int64_t first, int64_t count) const;
  // Tokens [-far, -near) of each window's context, counted back from its end. (B, far - near)
  at::Tensor context(Control control, int64_t far, int64_t near) const;
  // What the decoder reads, (B, decoder_tokens), and the labels that are scored, (B, scored_tokens): those of its last
  // tokens.
  at::Tensor text() const { return own(0, decoder_tokens); }
  at::Tensor labels() const { return own(decoder_tokens - scored_tokens + 1, scored_tokens); }
  // The context before the text, as one: (B, context_tokens + decoder_tokens).
  at::Tensor whole(Control control, int64_t context_tokens) const;

 private:
  at::Tensor own(int64_t first, int64_t count) const;
};

}  // namespace cepe
