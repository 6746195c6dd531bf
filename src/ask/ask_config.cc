#include "ask/ask_config.h"

#include <cmath>
#include <cstdlib>
#include <numeric>

#include "ask/kinds/draft.h"
#include "base/error.h"

namespace cepe {
namespace {

// Replaces a field by the configuration's value; the field's own value is the default.
class Reader {
 public:
  Reader(Config& config, std::string section) : config_(config), section_(std::move(section)) {}
  template <typename T>
  Reader& operator()(const char* key, T& field) {
    field = config_.get<T>(section_ + "." + key, field);
    return *this;
  }

 private:
  Config& config_;
  std::string section_;
};

void check_share(const char* key, double value) {
  require(value >= 0 && value <= 1, "{}: expected a share of 0 to 1, found {}", key, value);
}
void check_range(const char* key, int64_t value, int64_t least, int64_t most) {
  require(value >= least && value <= most, "{}: expected {} to {}, found {}", key, least, most, value);
}

void check(const AskConfig& c) {
  require(!c.texts.empty(), "sources.texts: no texts given");
  check_range("samples.count", c.count, 1, int64_t{1} << 31);
  check_range("samples.validation", c.validation, 0, int64_t{1} << 31);
  check_range("samples.held", c.held, 0, int64_t{1} << 31);
  check_range("samples.chunk_length", c.chunk_length, 16, 1 << 16);
  check_range("samples.decoder_tokens", c.decoder_tokens, 64, 1 << 20);
  check_range("samples.passages", c.passages, 0, 10000);
  check_range("samples.query_tokens", c.query_tokens, 1, 1 << 20);
  check_range("samples.indexed", c.indexed, 1, int64_t{1} << 31);
  check_range("samples.shard_samples", c.shard_samples, 1, int64_t{1} << 31);
  check_range("samples.seed", c.seed, 0, INT64_MAX);
  check_range("refuse.max_shared", c.max_shared, 0, INT64_MAX);
  check_share("samples.chat", c.chat);
  check_share("samples.single", c.single);
  check_share("samples.unanswerable", c.unanswerable);
  for (const double weight : {c.answer_weight, c.question_weight}) {
    require(std::isfinite(weight) && weight >= 0, "samples: expected weights of at least 0, found {}", weight);
  }
  require(c.answer_weight > 0, "samples.answer_weight: expected a number above 0, found {}", c.answer_weight);
  require(!c.chunks.empty() && c.chunks.size() == c.chunk_weights.size(),
          "samples.chunks: {} classes, but samples.chunk_weights has {}", c.chunks.size(), c.chunk_weights.size());
  for (size_t i = 0; i < c.chunks.size(); ++i) {
    require(c.chunks[i] > (i == 0 ? 0 : c.chunks[i - 1]) && c.chunks[i] <= 1 << 16,
            "samples.chunks: expected ascending numbers of at least 1, found {} in place {}", c.chunks[i], i);
    require(c.chunk_weights[i] >= 0, "samples.chunk_weights: expected at least 0, found {}", c.chunk_weights[i]);
  }
  require(std::accumulate(c.chunk_weights.begin(), c.chunk_weights.end(), int64_t{0}) > 0,
          "samples.chunk_weights: all are 0");
  double kinds = 0;
  for (const auto& [kind, share] : c.kinds) {
    require(std::isfinite(share) && share >= 0, "kinds.{}: expected a share of at least 0, found {}", kind, share);
    kinds += share;
  }
  require(kinds > 0, "kinds: all shares are 0");
  require(c.kinds.at("retrieved") == 0 || c.query_tokens < c.decoder_tokens,
          "samples.query_tokens: expected fewer than samples.decoder_tokens, which is {}, found {}", c.decoder_tokens,
          c.query_tokens);
}

// Shares of the kinds; those whose source is not given have none.
void read_kinds(Config& config, AskConfig& c) {
  const bool questions = !c.questions.empty(), articles = questions || !c.encyclopaedic.empty();
  for (const AskKind& kind : ask_kinds()) {
    const std::string name = kind.name;
    double share = std::nan("");  // not given
    Reader(config, "kinds")(kind.name, share);
    const bool there = name == "questions" ? questions : name == "natural" ? articles : true;
    const char* needed = name == "natural" ? "sources.encyclopaedic or sources.questions" : "sources.questions";
    require(there || !(share > 0), "kinds.{}: {} needs {}, which is not given", name, share, needed);
    if (!there && std::isnan(share)) {
      c.notes.push_back(fmt::format("kinds.{} is 0: it needs {}, which is not given", name, needed));
      share = 0;
    }
    c.kinds[name] = std::isnan(share) ? kind.share : share;
  }
}

}  // namespace

AskConfig read_ask_config(Config& config, const std::filesystem::path& directory) {
  AskConfig c;
  std::vector<std::string> domains;
  std::string words, forms;
  Reader(config, "sources")("texts", c.texts)("questions", c.questions)("domains", domains)(
      "encyclopaedic", c.encyclopaedic)("scratch", c.scratch)("words", words)("forms", forms);
  c.words = words.empty() ? directory / "words.txt" : std::filesystem::path(words);
  c.forms = forms.empty() ? directory / "forms.txt" : std::filesystem::path(forms);
  for (const std::string& entry : domains) {
    const size_t equals = entry.rfind('=');
    char* end = nullptr;
    const double share = equals == std::string::npos ? -1 : std::strtod(entry.c_str() + equals + 1, &end);
    require(equals != std::string::npos && equals > 0 && *end == '\0' && std::isfinite(share) && share >= 0,
            "sources.domains: expected NAME=SHARE, found \"{}\"", entry);
    c.domains[entry.substr(0, equals)] = share;
  }
  read_kinds(config, c);
  Reader(config, "samples")("count", c.count)("validation", c.validation)("held", c.held)(
      "chunk_length", c.chunk_length)("chunks", c.chunks)("chunk_weights", c.chunk_weights)(
      "decoder_tokens", c.decoder_tokens)("answer_weight", c.answer_weight)("question_weight", c.question_weight)(
      "chat", c.chat)("single", c.single)("unanswerable", c.unanswerable)("passages", c.passages)(
      "query_tokens", c.query_tokens)("indexed", c.indexed)("shard_samples", c.shard_samples)("seed", c.seed);
  Reader(config, "refuse")("files", c.refuse)("max_shared", c.max_shared);
  config.refuse_unknown_keys();
  check(c);
  return c;
}

}  // namespace cepe
