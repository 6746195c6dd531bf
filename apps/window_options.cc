#include "apps/window_options.h"

#include "apps/commands.h"
#include "apps/options.h"
#include "base/error.h"
#include "base/report.h"

namespace cepe {

void add_scoring_options(CLI::App& command, PerplexityOptions& options, WindowOptionTexts& texts) {
  command.add_option("--decoder-tokens", options.decoder_tokens, "Tokens in the decoder")->capture_default_str();
  command.add_option("--scored-tokens", options.scored_tokens, "The last so many decoder tokens are scored")
      ->capture_default_str();
  add_strings(command, "--control", texts.controls, Strings::commas,
              "Contexts to compare with: other-document, same-source and shuffled, separated by commas");
  command.add_option("--stride", options.stride, "Least distance of two windows in tokens")->capture_default_str();
  command.add_option("--batch", options.batch, "Windows at once (0: 1 on a CPU, 8 on a GPU)")->capture_default_str();
  command.add_option("--latents", texts.latents, "The context's states in the model's type (stored) or int8")
      ->capture_default_str();
}

void read_scoring_options(const WindowOptionTexts& texts, PerplexityOptions& options) {
  for (const std::string& name : texts.controls) {
    require(name == "other-document" || name == "same-source" || name == "shuffled",
            "--control: expected other-document, same-source or shuffled, found \"{}\"", name);
    (name == "shuffled"      ? options.shuffled
     : name == "same-source" ? options.same_source
                             : options.other_document) = true;
  }
  options.int8_latents = int8_latents_from_name(texts.latents);
}

std::string scope_of(const PerplexityRecord& record, const Cepe& model) {
  std::string text = fmt::format("{}: the last {} of {} decoder tokens, ", record.model, record.scored_tokens,
                                 format_count(static_cast<uint64_t>(record.decoder_tokens)));
  std::string domain;
  for (const PerplexityRow& row : record.rows) {
    if (row.scored.domain == domain) continue;
    domain = row.scored.domain;
    const size_t windows = row.scored.nll.size();
    text += fmt::format("{}{}: {} window{} in {} document{}", &row == &record.rows.front() ? "" : "; ", domain, windows,
                        windows == 1 ? "" : "s", row.documents, row.documents == 1 ? "" : "s");
  }
  return fmt::format("{}; {} on {}", text, dtype_name(model.dtype()), model.device().str());
}

}  // namespace cepe
