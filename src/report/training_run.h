// What a run of cepe train left in its directory (docs/training.md, "While it runs").
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace cepe {

// Values over steps; NaN where a value is not finite.
struct Curve {
  std::vector<double> steps, values;
  void add(double step, double value);
};

// The last validation of a domain on documents, and its curves. Losses are nats a token.
struct DomainValidation {
  int64_t samples = 0;
  Curve loss, no_context, reading_gain;  // reading_gain: empty where no other document's context was read
};

// Validation on the samples of one kind of question, or on those of it whose contexts have about as many chunks.
struct SampleValues {
  int64_t samples = 0;
  Curve loss, exact;
};
struct AskValidation : SampleValues {
  // By the most chunks that a context has: 1, 4, 16, ...; empty where all contexts are of one size.
  std::map<int64_t, SampleValues> by_chunks;
};

// Validation of a model that reads text alone (stages mlm and window), of one domain.
struct TextDomainValidation {
  int64_t samples = 0;
  Curve loss, accuracy;  // accuracy: of masked tokens; empty in stage window
};

// Domains and kinds by name, and after them "all".
struct AllLast {
  bool operator()(const std::string& a, const std::string& b) const {
    return std::pair(a == "all", a) < std::pair(b == "all", b);
  }
};
template <typename Values>
using ByDomain = std::map<std::string, Values, AllLast>;

struct TrainingRun {
  std::filesystem::path directory;
  std::string name, anchor;   // on the page: what the run is called, and the id of its part
  std::string configuration;  // config.toml
  int64_t of_steps = 0;       // train.steps; 0: config.toml does not say
  Curve loss, gradient_norm, learning_rate, tokens_per_second;
  Curve mfu;                           // a fraction; empty where the device's peak is not known
  Curve loss_text, loss_answers;       // the parts of the loss in stage `ask`; else empty
  double seconds = 0;                  // of all steps
  int64_t tokens = 0;                  // of all steps: context and decoder
  int64_t not_finite = 0;              // steps whose loss or gradient was not finite
  std::optional<double> seconds_left;  // as the last step's line said
  ByDomain<DomainValidation> validation;
  ByDomain<AskValidation> ask_validation;
  ByDomain<TextDomainValidation> text_validation;
};

// True where the directory has log.jsonl and config.toml.
bool is_training(const std::filesystem::path& directory);

// Reads the directory. Error, naming file and line, where a file is not what the command writes; a line of the log
// that was cut off is left out.
TrainingRun read_training(const std::filesystem::path& directory);

// The mean of the `window` (at least 1) values around each, of those that are finite; NaN where none is. At the ends
// the window is cut.
Curve smoothed(const Curve& curve, size_t window);

// At most about `points` points of the curve: of each stretch of steps the least value and the greatest, so that no
// outlier disappears. A curve that is short enough stays as it is.
Curve thinned(const Curve& curve, size_t points);

}  // namespace cepe
