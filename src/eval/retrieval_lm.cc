#include "eval/retrieval_lm.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "base/json_text.h"
#include "base/report.h"
#include "context/encode_context.h"
#include "eval/samples.h"
#include "eval/windows.h"
#include "ops/ops.h"
#include "speed/meter.h"
#include "text/word_runs.h"

namespace cepe {
namespace {

using nlohmann::json;

bool holds_part_of(const WordRuns& window, const RetrievedPassage& passage) {
  if (window.holds_part_of(WordRuns(passage.text))) return true;
  return passage.title_size > 0 && window.holds_part_of(WordRuns(passage.text.substr(passage.title_size)));
}

// A window's text and what was found for its query.
struct Scene {
  Window window;
  std::string domain;
  WordRuns text;
  std::vector<RetrievedPassage> found;  // best first; more than are read: the control reads what another window may
  int64_t left_out = 0;
  double search_seconds = 0;
};

struct Passage {
  std::vector<TokenId> tokens;
  double score;
};

// Of one window: losses and seconds of each reader and count of passages.
using Measured = std::map<std::string, std::map<int64_t, std::pair<double, double>>>;

class Windows {
 public:
  Windows(const Cepe& model, const Tokenizer& tokenizer, const std::vector<TokenDocument>& documents,
          const RetrievalLmOptions& options)
      : model_(model), tokenizer_(tokenizer), documents_(documents), options_(options) {
    const WindowPlan plan = place_windows(documents, {options.decoder_tokens, 0, options.stride, options.windows});
    notes_ = plan.notes;
    for (const DomainWindows& domain : plan.domains) {
      for (const Window& window : domain.windows) scenes_.push_back({window, domain.domain, {}, {}, 0, 0});
    }
  }

  void find(const FindPassages& find) {
    for (Scene& scene : scenes_) {
      const double start = seconds_now();
      const auto tokens = tokens_of(scene);
      scene.text = WordRuns(tokenizer_.decode(tokens));
      const std::string query = tokenizer_.decode(tokens.first(static_cast<size_t>(options_.query_tokens)));
      const size_t most = most_passages();
      for (size_t count = most + 16;; count *= 2) {  // until enough are left, or no more are found
        std::vector<RetrievedPassage> found = find(query, static_cast<int64_t>(count));
        const bool exhausted = found.size() < count;
        scene.left_out = static_cast<int64_t>(
            std::erase_if(found, [&](const RetrievedPassage& passage) { return holds_part_of(scene.text, passage); }));
        if (found.size() < most && !exhausted) continue;
        scene.found = std::move(found);
        break;
      }
      scene.search_seconds = seconds_now() - start;
    }
  }

  // Of one window, with the passages of its own query and, as the control, of another's.
  Measured measure(size_t index) const {
    Measured measured;
    const Scene& scene = scenes_[index];
    const std::vector<Passage> own = passages_of(scene, scene);
    measure_encoded(scene, own, "cepe", measured);
    if (options_.other) measure_encoded(scene, passages_of(scenes_[other_of(index)], scene), "other", measured);
    if (options_.replug) measure_replug(scene, own, measured);
    if (options_.prompt) measure_prompt(scene, own, measured);
    return measured;
  }

  json place_of(size_t index) const {
    const Scene& scene = scenes_[index];
    json ids = json::array();
    for (const RetrievedPassage* passage : read_of(scene, scene)) ids.push_back(passage->id);
    return {{"document", documents_[scene.window.document].name},
            {"domain", scene.domain},
            {"start", scene.window.start},
            {"passages", ids},
            {"left_out", scene.left_out}};
  }

  size_t passages_read(size_t index) const { return read_of(scenes_[index], scenes_[index]).size(); }
  size_t passages_of_control(size_t index) const { return read_of(scenes_[other_of(index)], scenes_[index]).size(); }
  const std::vector<Scene>& scenes() const { return scenes_; }
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  size_t most_passages() const { return static_cast<size_t>(options_.passages.back()); }
  std::span<const TokenId> tokens_of(const Scene& scene) const {
    const std::vector<TokenId>& tokens = documents_[scene.window.document].tokens;
    return std::span(tokens).subspan(static_cast<size_t>(scene.window.start),
                                     static_cast<size_t>(options_.decoder_tokens) + 1);
  }
  // The next window of another document, from half of all windows away; where all are of one document, any other.
  size_t other_of(size_t index) const {
    const size_t count = scenes_.size(), first = (index + count / 2) % count;
    for (size_t i = 0; i < count; ++i) {
      const size_t candidate = (first + i) % count;
      if (scenes_[candidate].window.document != scenes_[index].window.document) return candidate;
    }
    return first != index ? first : (index + 1) % count;
  }
  // What `reader` reads of the passages found for `from`.
  std::vector<const RetrievedPassage*> read_of(const Scene& from, const Scene& reader) const {
    std::vector<const RetrievedPassage*> passages;
    for (const RetrievedPassage& found : from.found) {
      if (passages.size() == most_passages()) break;
      if (&from == &reader || !holds_part_of(reader.text, found)) passages.push_back(&found);
    }
    return passages;
  }
  std::vector<Passage> passages_of(const Scene& from, const Scene& reader) const {
    std::vector<Passage> passages;
    for (const RetrievedPassage* found : read_of(from, reader)) {
      std::vector<TokenId> tokens = tokenizer_.encode(found->text, {.parse_special_tokens = false});
      if (static_cast<int64_t>(tokens.size()) > options_.passage_tokens) {
        tokens.resize(static_cast<size_t>(options_.passage_tokens));
      }
      if (!tokens.empty()) passages.push_back({std::move(tokens), found->score});
    }
    return passages;
  }

  // The losses of the scored labels (N), the window's tokens having these before them.
  at::Tensor losses(const Scene& scene, const std::vector<TokenId>& before, const Latents* context) const {
    const auto tokens = tokens_of(scene);
    std::vector<int64_t> ids(before.begin(), before.end());
    ids.insert(ids.end(), tokens.begin(), tokens.end() - 1);
    const auto query = static_cast<size_t>(options_.query_tokens);
    const std::vector<int64_t> labels(tokens.begin() + static_cast<int64_t>(query) + 1, tokens.end());
    DecodeInput input{at::tensor(ids).unsqueeze(0).to(model_.device())};
    input.context = context;
    input.last = static_cast<int64_t>(labels.size());
    const at::Tensor hidden = decode(model_, input)[0];
    return linear_cross_entropy(hidden, head_weight(model_), at::tensor(labels).to(model_.device())).to(at::kDouble);
  }
  template <typename Work>
  std::pair<at::Tensor, double> timed(const Work& work) const {
    const double start = seconds_now();
    at::Tensor result = work();
    wait_for(model_.device());
    return {result, seconds_now() - start};
  }

  void measure_encoded(const Scene& scene, const std::vector<Passage>& passages, const std::string& reader,
                       Measured& measured) const {
    std::vector<TextChunk> chunks;
    for (const Passage& passage : passages) {
      TextChunk chunk;
      chunk.tokens = passage.tokens;
      chunks.push_back(std::move(chunk));
    }
    Context context;
    const double encoding = timed([&] {
                              if (!chunks.empty()) context = encode_context(model_, chunks);
                              return at::Tensor();
                            }).second;
    for (const int64_t k : options_.passages) {
      if (k == 0 && reader == "other") continue;
      std::vector<int64_t> first(std::min<size_t>(static_cast<size_t>(k), passages.size()));
      std::iota(first.begin(), first.end(), int64_t{0});
      const Context some = first.empty() ? Context{} : select(context, first);
      const auto [nll, seconds] = timed([&] { return losses(scene, {}, first.empty() ? nullptr : &some.latents); });
      const double share =
          context.tokens() == 0 ? 0 : static_cast<double>(some.tokens()) / static_cast<double>(context.tokens());
      measured[reader][k] = {nll.mean().item<double>(), seconds + share * encoding};
    }
  }

  void measure_replug(const Scene& scene, const std::vector<Passage>& passages, Measured& measured) const {
    std::vector<at::Tensor> each;
    std::vector<double> scores;
    double seconds = 0;
    for (const int64_t k : options_.passages) {
      if (k == 0) continue;
      if (passages.empty()) {  // nothing to mix: the plain decoder
        const auto [nll, took] = timed([&] { return losses(scene, {}, nullptr); });
        measured["replug"][k] = {nll.mean().item<double>(), took};
        continue;
      }
      while (static_cast<int64_t>(each.size()) < k && each.size() < passages.size()) {
        const Passage& passage = passages[each.size()];
        const auto [nll, took] = timed([&] { return losses(scene, passage.tokens, nullptr); });
        each.push_back(nll);
        scores.push_back(passage.score);
        seconds += took;
      }
      const at::Tensor weights = at::tensor(scores, at::kDouble).to(model_.device());
      measured["replug"][k] = {replug_losses(at::stack(each), weights).mean().item<double>(), seconds};
    }
  }

  void measure_prompt(const Scene& scene, const std::vector<Passage>& passages, Measured& measured) const {
    for (const int64_t k : options_.passages) {
      const int64_t longest = k * options_.passage_tokens + options_.decoder_tokens;
      if (k == 0 || longest > decoder_window(model_.config.decoder)) continue;
      std::vector<TokenId> before;
      for (size_t i = std::min(static_cast<size_t>(k), passages.size()); i-- > 0;) {
        before.insert(before.end(), passages[i].tokens.begin(), passages[i].tokens.end());
      }
      const auto [nll, seconds] = timed([&] { return losses(scene, before, nullptr); });
      measured["prompt"][k] = {nll.mean().item<double>(), seconds};
    }
  }

  const Cepe& model_;
  const Tokenizer& tokenizer_;
  const std::vector<TokenDocument>& documents_;
  const RetrievalLmOptions& options_;
  std::vector<Scene> scenes_;
  std::vector<std::string> notes_;
};

void check(const Cepe& model, const RetrievalLmOptions& options) {
  require(model.encoder.has_value(), "the model has no encoder, which would read the passages");
  require(options.query_tokens >= 1 && options.query_tokens < options.decoder_tokens,
          "expected 1 to {} query tokens, fewer than the decoder's {}, found {}", options.decoder_tokens - 1,
          options.decoder_tokens, options.query_tokens);
  const int64_t window = decoder_window(model.config.decoder), longest = context_chunk_length(model.config);
  require(options.decoder_tokens <= window, "{} decoder tokens do not fit the decoder's window of {}",
          options.decoder_tokens, window);
  require(options.passage_tokens >= 1 && options.passage_tokens <= longest,
          "expected passages of 1 to {} tokens, which the encoder reads at once, found {}", longest,
          options.passage_tokens);
  require(!options.replug || options.passage_tokens + options.decoder_tokens <= window,
          "RePlug reads a passage of {} tokens and {} decoder tokens, the decoder's window has {}",
          options.passage_tokens, options.decoder_tokens, window);
  const auto& counts = options.passages;
  const bool ascending = std::adjacent_find(counts.begin(), counts.end(), std::greater_equal<>()) == counts.end();
  require(counts.size() >= 2 && counts.front() == 0 && ascending,
          "the counts of passages should ascend from 0, which the others are compared with");
}

json losses_of(const Measured& measured) {
  json losses = json::object();
  for (const auto& [reader, counts] : measured) {
    for (const auto& [k, value] : counts) losses[reader][std::to_string(k)] = value.first;
  }
  return losses;
}

// Seconds of each reader and count, summed over the windows of this run: records are the same however often a run was
// interrupted, times are not.
using Seconds = std::map<std::string, std::map<int64_t, double>>;

bool is_asked_for(const std::string& reader, int64_t passages, const RetrievalLmOptions& options) {
  if (reader == "cepe") return true;
  return passages > 0 && (reader == "other" ? options.other : reader == "replug" ? options.replug : options.prompt);
}

// The rows that every window has, from the windows' records; a note for each other one that was asked for.
std::vector<RetrievalLmRow> rows_of(const std::vector<json>& records, const RetrievalLmOptions& options,
                                    const Clusterings& clusters, std::vector<std::string>& notes) {
  std::vector<RetrievalLmRow> rows;
  for (const char* reader : {"cepe", "other", "replug", "prompt"}) {
    for (const int64_t k : options.passages) {
      if (!is_asked_for(reader, k, options)) continue;
      RetrievalLmRow row{.reader = reader, .passages = k};
      const json::json_pointer place(fmt::format("/{}/{}", reader, k));
      for (const json& record : records) {
        if (record.at("nll").contains(place)) row.nll.push_back(record["nll"][place].get<double>());
      }
      if (row.nll.size() != records.size()) {
        notes.push_back(fmt::format("no row of {} with {} passages: {} of {} windows could be scored so", reader, k,
                                    row.nll.size(), records.size()));
        continue;
      }
      row.perplexity = perplexity(row.nll);
      row.change = perplexity_change(row.nll, rows.empty() ? row.nll : rows.front().nll, clusters);
      rows.push_back(std::move(row));
    }
  }
  for (RetrievalLmRow& row : rows) {
    const auto control = std::find_if(rows.begin(), rows.end(), [&](const RetrievalLmRow& other) {
      return row.reader == "cepe" && other.reader == "other" && other.passages == row.passages;
    });
    if (control != rows.end()) row.against_other = perplexity_change(row.nll, control->nll, clusters);
  }
  return rows;
}

// Error where an earlier run read other passages or windows: the index was changed, or the search ranks otherwise now.
void check_resumed(const std::vector<json>& records, const Windows& windows, const std::string& file) {
  for (size_t i = 0; i < records.size(); ++i) {
    json place = records[i];
    place.erase("nll");
    require(place == windows.place_of(i),
            "{}:{}: the record has another window or other passages than are found now: expected {}, found {}", file,
            i + 1, json_text(windows.place_of(i)), json_text(place));
  }
}

}  // namespace

at::Tensor replug_losses(const at::Tensor& losses_KN, const at::Tensor& scores_K) {
  return -at::logsumexp(scores_K.log_softmax(0).unsqueeze(1) - losses_KN, {0});
}

RetrievalLmRun score_with_retrieval(const Cepe& model, const Tokenizer& tokenizer,
                                    const std::vector<TokenDocument>& documents, const FindPassages& find,
                                    const RetrievalLmOptions& options) {
  const at::NoGradGuard no_gradients;
  check(model, options);
  Windows windows(model, tokenizer, documents, options);
  const size_t count = windows.scenes().size();
  require(!options.other || count >= 2,
          "the control takes another window's passages, and the text has one window only");
  check_run_configuration(options.directory, options.configuration);
  SampleFile file(options.directory / "samples.jsonl");
  RetrievalLmRun run{.windows = static_cast<int64_t>(count),
                     .resumed = static_cast<int64_t>(file.records().size()),
                     .notes = windows.notes()};
  require(file.records().size() <= count, "{}: holds {} windows, expected {} at most",
          (options.directory / "samples.jsonl").string(), file.records().size(), count);
  windows.find(find);
  check_resumed(file.records(), windows, (options.directory / "samples.jsonl").string());
  Seconds seconds;
  for (size_t i = file.records().size(); i < count; ++i) {
    const Measured measured = windows.measure(i);
    json record = windows.place_of(i);
    record["nll"] = losses_of(measured);
    file.append(record);
    for (const auto& [reader, counts] : measured) {
      for (const auto& [k, value] : counts) seconds[reader][k] += value.second;
    }
    if (options.progress) options.progress(static_cast<int64_t>(i + 1), static_cast<int64_t>(count));
  }
  Clusterings clusters(1);
  std::set<size_t> seen;
  for (size_t i = 0; i < count; ++i) {
    const Scene& scene = windows.scenes()[i];
    clusters[0].push_back(static_cast<int64_t>(scene.window.document));
    seen.insert(scene.window.document);
    run.left_out += scene.left_out;
    run.short_windows += static_cast<int64_t>(windows.passages_read(i)) < options.passages.back();
    if (options.other) run.short_controls += windows.passages_of_control(i) < windows.passages_read(i);
    run.search_seconds += scene.search_seconds / static_cast<double>(count);
  }
  run.documents = static_cast<int64_t>(seen.size());
  run.rows = rows_of(file.records(), options, clusters, run.notes);
  for (RetrievalLmRow& row : run.rows) {
    if (run.resumed < run.windows)
      row.seconds = seconds[row.reader][row.passages] / static_cast<double>(run.windows - run.resumed);
  }
  return run;
}

}  // namespace cepe
