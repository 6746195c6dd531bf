// The result record of long-context perplexity, and how it is shown: JSON (docs/perplexity.md), table, plot, sentences.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace cepe {

// What stood before the decoder's tokens.
enum class Control {
  own,                // the document's own preceding text, through the encoder
  other_document,     // as much text of another document of the domain, through the encoder
  shuffled,           // the own text's chunks in another order: the same result up to rounding
  full_window,        // no encoder: the own text in the decoder's own window
  full_window_other,  // no encoder: the other document's text in the decoder's own window
};
const char* control_name(Control control);  // as in JSON: "own", "other-document", ...

struct PerplexityRow {
  std::string domain;
  int64_t context_tokens = 0;
  Control control = Control::own;
  int64_t spans = 0;      // scored
  int64_t documents = 0;  // that the spans are from
  double perplexity = 0;
  std::optional<double> change;              // against no context, a fraction; the row without context has none
  std::optional<double> standard_error;      // of change
  std::optional<double> reading_gain;        // of own and full_window: 1 - perplexity / the other document's
  std::optional<double> reading_gain_error;  // its standard error
  double seconds = 0;                        // encoding and decoding, all spans
  uint64_t peak_bytes = 0;                   // of the process on a CPU, of tensors on a GPU
};

struct PerplexityRecord {
  std::string model;
  int64_t decoder_tokens = 0;
  int64_t scored_tokens = 0;
  std::vector<PerplexityRow> rows;  // domain by domain, control by control, contexts ascending
};

// full_window_other has no row of its own in JSON: it shows in the reading gain of full_window.
nlohmann::json to_json(const PerplexityRecord& record);
// The table a person reads, the reading gain last.
std::string to_table(const PerplexityRecord& record);
// Two plain sentences a domain: what the longest context does, and how much of it is reading.
std::string to_sentences(const PerplexityRecord& record);
// Perplexity over the length of the context; with several domains, whose perplexities differ too much for one picture,
// its change in percent. SVG, written atomically.
void write_plot(const PerplexityRecord& record, const std::filesystem::path& path);

}  // namespace cepe
