// The result record of long-context perplexity, and how it is shown: JSON (docs/perplexity.md), table, plot, sentences.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "eval/statistics.h"

namespace cepe {

// Whose text stood before the decoder's tokens.
enum class Control {
  own,             // the document's own preceding text
  other_document,  // as much text of another document of the domain
  same_source,     // as much text of another document of the same source
  shuffled,        // the own text's chunks in another order
};

// Who read a text: the encoder for the decoder (with a context of 0 tokens the decoder alone), the frozen decoder in
// its own window, or another baseline of `cepe eval lm` by its name there.
inline constexpr const char* kCepeReader = "cepe";
inline constexpr const char* kFullReader = "full";
struct Reading {
  std::string reader = kCepeReader;
  Control control = Control::own;
  bool operator==(const Reading&) const = default;
};
const char* control_name(Control control);         // "own", "other-document", "same-source", "shuffled"
std::string reading_name(const Reading& reading);  // as in JSON: "own", "full-window", "full-window-other-document"

// A context in another document: the tokens before `end`.
struct ControlPlace {
  std::string document;  // its name
  int64_t end = 0;
};

// A place whose last tokens are scored (windows.h).
struct ScoredWindow {
  std::string domain, document;  // the document's name
  int64_t start = 0;             // the decoder's first token; the context ends there
  std::optional<ControlPlace> other, same_source;
};

// Losses of one row: one context length in one reading, over the windows of a domain that have its control.
struct ScoredRow {
  std::string domain;
  int64_t context_tokens = 0;
  Reading reading;
  std::vector<size_t> windows;  // ascending indices into the list of windows
  std::vector<double> nll;      // of each of them: mean loss of its scored tokens, nats
  double seconds = 0;           // encoding and decoding, all windows
  uint64_t peak_bytes = 0;      // of the process on a CPU, of tensors on a GPU
  uint64_t working_bytes = 0;   // beyond what was held when the reader began: models, text, other readers' tables
};

// A comparison of rows, and what it is of: the windows that all of the rows have, and the documents of these.
struct PairedEstimate : Estimate {
  int64_t windows = 0, documents = 0;
};

// Fractions. A comparison with a row is made on the windows that both rows have, and is absent where there is no such
// row. "Full attention" is the frozen, untrained decoder with the same context in its own window.
struct PerplexityRow {
  ScoredRow scored;
  int64_t documents = 0;  // that the windows are in
  double perplexity = 0;
  // Perplexity against no context's: of the reader where it has such a row (another model), else of the decoder alone.
  // A row without context has none.
  std::optional<PairedEstimate> change;
  // Of own text, whoever read it:
  std::optional<PairedEstimate> reading_gain;      // 1 - perplexity / the other document's
  std::optional<PairedEstimate> same_source_gain;  // 1 - perplexity / the same source's
  // Of own text that was not read by full attention, with full attention over as many context tokens:
  std::optional<PairedEstimate> against_full_attention;       // perplexity against full attention's
  std::optional<PairedEstimate> reading_gain_difference;      // the gain less full attention's
  std::optional<PairedEstimate> same_source_gain_difference;  // the same-source gain less full attention's
  // Of own text that another reader than cepe read: perplexity against cepe's over as many context tokens.
  std::optional<PairedEstimate> against_cepe;
};

struct PerplexityRecord {
  std::string model;
  int64_t decoder_tokens = 0;
  int64_t scored_tokens = 0;
  std::vector<ScoredWindow> windows;
  std::vector<PerplexityRow> rows;  // domain by domain, reading by reading, contexts ascending
};

// The keys of docs/perplexity.md. With the windows and each window's losses, every comparison can be made again.
nlohmann::json to_json(const PerplexityRecord& record);
// What a person reads: perplexities; below them the gains over each control, cepe's and full attention's over the same
// number of context tokens in one row; and what the columns mean.
std::string to_table(const PerplexityRecord& record);
// Parts of it, which the table of `cepe eval lm` (lm/lm_report.h) has as well: "full attention: own"; "27.07";
// "3.5 % +- 0.4" of a gain and "-3.5 % +- 0.4" of a change, "-" where there is none; what the signs in tables mean.
std::string reading_label(const Reading& reading);
std::string perplexity_text(double perplexity);
std::string gain_text(const Estimate& gain);
std::string change_text(const std::optional<Estimate>& change);
std::string legend_of(const PerplexityRecord& record, const std::string& tables);
// Plain sentences a domain: what the longest context does, how much of it is reading, and what full attention reads.
std::string to_sentences(const PerplexityRecord& record);
// Perplexity over the length of the context. The legend has both gains over the longest context. With several domains,
// whose perplexities differ too much for one picture, and with a control that some windows lack: the change in percent.
// SVG, written atomically.
void write_plot(const PerplexityRecord& record, const std::filesystem::path& path);

}  // namespace cepe
