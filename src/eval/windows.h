// Where the windows of a long-context evaluation lie: which tokens are scored, and what stands before them.
//
//   | longest context | decoder tokens ...  [scored] | one token more, the last label
//                     ^ start
//
// The same windows, and so the same scored tokens, serve every context length: only documents that hold the longest
// context, the decoder's tokens and one label more have windows.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "eval/documents.h"

namespace cepe {

std::string tokens_text(int64_t count);  // "6,144"

struct WindowOptions {
  int64_t decoder_tokens = 2048;
  int64_t longest_context = 0;
  int64_t stride = 2048;  // the least distance of two windows in a document
  int64_t windows = 100;  // at most so many a domain; 0: as many as fit at the stride
};

// A context in another document, for a control: the tokens before `end`, of which the longest context lies there.
struct ContextPlace {
  size_t document;  // index of the document
  int64_t end;
  bool operator==(const ContextPlace&) const = default;
};

struct Window {
  size_t document;                          // index of the document
  int64_t start;                            // its first decoder token; the context ends there
  std::optional<ContextPlace> other;        // in another document of the domain
  std::optional<ContextPlace> same_source;  // in another document of the domain and of the document's source
};

struct DomainWindows {
  std::string domain;
  std::vector<Window> windows;                                          // never empty
  int64_t documents = 0;                                                // that have windows
  bool has_other() const { return windows.front().other.has_value(); }  // all windows have one, or none
};

struct WindowPlan {
  std::vector<DomainWindows> domains;  // in order of first appearance
  std::vector<std::string> notes;      // a sentence for each domain without a window
};

// Windows are dealt out to a domain's documents in turn until each has as many as fit, or the limit is reached, and lie
// evenly within a document (in its middle where there is one). Deterministic; a control's document and position are
// pseudo-random. Only documents that hold the longest context are drawn as controls; where a document has no other such
// document beside it, its windows have no such control. Error naming the longest document when no domain has a window.
WindowPlan place_windows(const std::vector<TokenDocument>& documents, const WindowOptions& options);

}  // namespace cepe
