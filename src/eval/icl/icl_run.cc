#include "eval/icl/icl_run.h"

#include <algorithm>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "context/encode_context.h"
#include "eval/icl/continuation_scores.h"
#include "eval/icl/label_rankings.h"
#include "eval/made_ahead.h"
#include "eval/samples.h"
#include "text/chunker.h"

namespace cepe {
namespace {

using nlohmann::json;

constexpr const char* kContentFree = "N/A";

// The labels of a source as the model reads them.
struct Labels {
  std::vector<std::vector<TokenId>> tokens;
  std::vector<size_t> counts;
  std::vector<double> calibration;  // where it is the same for all prompts
};

struct PreparedPrompt {
  std::vector<TokenId> tokens, content_free;
  std::vector<int64_t> chunks;  // of the scene's, that the encoder reads
  std::string input;            // a hash of all that is read
};

struct Prepared {
  size_t source = 0;
  IclScene scene;
  std::vector<PreparedPrompt> prompts;
  std::vector<TextChunk> chunks;  // of all documents, each document once
};

// Parts, each after its length, so that no two lists of parts are the same bytes.
void add_part(std::string& bytes, const std::string& part) {
  bytes += fmt::format("{}:", part.size());
  bytes += part;
}

int64_t tokens_read(const Context& context) {
  int64_t count = 0;
  for (const ContextChunk& chunk : context.chunks) count += std::ssize(chunk.tokens);
  return count;
}

class Runner {
 public:
  Runner(const OpenedModel& opened, std::span<const IclSource> sources, const IclRunOptions& options)
      : opened_(opened),
        scorer_(opened.model),
        sources_(sources),
        options_(options),
        samples_(options.directory / "samples.jsonl") {
    for (const IclSource& source : sources_) {
      groups_.push_back(std::ssize(begins_));  // labels are a source's
      for (int64_t i = 0; i < source.scenes(); ++i) {
        const int64_t first = begins_.empty() || groups_.back() == std::ssize(begins_)
                                  ? total_records_
                                  : begins_[static_cast<size_t>(groups_.back())];
        if (total_records_ - first >= options_.batch) groups_.push_back(std::ssize(begins_));
        begins_.push_back(total_records_);
        total_records_ += source.prompts(i);
      }
      labels_.push_back(labels_of(source));
    }
    groups_.push_back(std::ssize(begins_));
    begins_.push_back(total_records_);
  }

  int64_t done() const { return static_cast<int64_t>(samples_.records().size()); }
  const std::vector<json>& records() const { return samples_.records(); }

  void run() {
    require(done() <= total_records_, "{}: expected at most {} records, found {}", file(), total_records_, done());
    const int64_t total = std::ssize(begins_) - 1;
    // The group that the last record is of is worked on again, so that it is compared.
    const auto after = std::upper_bound(begins_.begin(), begins_.end(), std::max<int64_t>(done() - 1, 0));
    const int64_t scene = std::min<int64_t>(after - begins_.begin() - 1, total - 1);
    auto group = std::prev(std::upper_bound(groups_.begin(), groups_.end() - 1, std::max<int64_t>(scene, 0)));
    const int64_t threads = std::clamp<int64_t>(std::thread::hardware_concurrency(), 1, 8);
    MadeAhead<Prepared> ahead(*group, total, [this](int64_t index) { return prepare(index); }, {threads, 2 * threads});
    if (options_.progress) options_.progress(*group, total);
    for (; std::next(group) != groups_.end(); ++group) {
      std::vector<Prepared> scenes;
      for (int64_t index = *group; index < *std::next(group); ++index) scenes.push_back(ahead.take());
      if (scenes.empty()) continue;  // a source without texts
      run_group(scenes, *group);
      if (options_.progress) options_.progress(*std::next(group), total);
    }
  }

 private:
  std::string file() const { return (options_.directory / "samples.jsonl").string(); }
  const Tokenizer& tokenizer() const { return *opened_.tokenizer; }

  Labels labels_of(const IclSource& source) const {
    Labels labels;
    for (const std::string& label : source.labels()) {
      labels.tokens.push_back(icl_label_tokens(tokenizer(), label));
      labels.counts.push_back(labels.tokens.back().size());
    }
    if (options_.calibration == IclCalibration::empty || options_.calibration == IclCalibration::domain) {
      labels.calibration = scorer_.scores(alone(source), labels.tokens, nullptr);
    }
    return labels;
  }

  // What stands before a label in place of a prompt.
  std::vector<TokenId> alone(const IclSource& source) const {
    const bool domain = options_.calibration == IclCalibration::domain;
    std::vector<TokenId> tokens = icl_prompt_tokens(tokenizer(), domain ? source.task().label_word + ":" : "");
    if (!tokens.empty()) return tokens;
    const std::optional<TokenId> begin = tokenizer().bos() ? tokenizer().bos() : tokenizer().eos();
    require(begin.has_value(), "{}: the tokenizer has no begin token, after which labels could stand alone",
            opened_.path.string());
    return {*begin};
  }

  // Called from several threads.
  Prepared prepare(int64_t index) const {
    Prepared work;
    while (index >= sources_[work.source].scenes()) index -= sources_[work.source++].scenes();
    const IclSource& source = sources_[work.source];
    work.scene = source.scene(index);
    std::map<std::string, std::vector<int64_t>> documents;  // the chunks of each
    for (const IclPrompt& prompt : work.scene.prompts) {
      PreparedPrompt prepared;
      const std::string text = prompt.decoder_text + label_prompt(source.task(), work.scene.text);
      prepared.tokens = icl_prompt_tokens(tokenizer(), text);
      if (options_.calibration == IclCalibration::content_free) {
        prepared.content_free =
            icl_prompt_tokens(tokenizer(), prompt.decoder_text + label_prompt(source.task(), kContentFree));
      }
      std::string read;
      add_part(read, text);
      for (const std::string& document : prompt.encoder_texts) {
        add_part(read, document);
        const auto [known, fresh] = documents.try_emplace(document);
        if (fresh) add_document(document, work.chunks, known->second);
        prepared.chunks.insert(prepared.chunks.end(), known->second.begin(), known->second.end());
      }
      for (const std::string& label : source.labels()) add_part(read, label);
      prepared.input = sha256_bytes(read);
      work.prompts.push_back(std::move(prepared));
    }
    return work;
  }

  void add_document(const std::string& text, std::vector<TextChunk>& chunks, std::vector<int64_t>& numbers) const {
    require(opened_.model.encoder.has_value(), "the model has no encoder, so that it cannot read demonstrations there");
    const std::vector<TokenId> tokens = tokenizer().encode(text, {.parse_special_tokens = false});
    const auto before = std::ssize(chunks);
    append_chunks(tokens, "demonstration", context_chunk_length(opened_.model.config), chunks);
    for (int64_t i = before; i < std::ssize(chunks); ++i) numbers.push_back(i);
  }

  // Scenes of one source. The whole group is scored, though some of its records may be there: what is computed together
  // is always the same.
  void run_group(const std::vector<Prepared>& scenes, int64_t first_scene) {
    const std::vector<Context> contexts = read_demonstrations(scenes);
    std::vector<ScoredPrompt> prompts, content_free;
    for (const Prepared& work : scenes) {
      for (const PreparedPrompt& prompt : work.prompts) {
        const Context& context = contexts[prompts.size()];
        prompts.push_back({prompt.tokens, context.tokens() > 0 ? &context.latents : nullptr});
        if (!prompt.content_free.empty()) content_free.push_back({prompt.content_free, prompts.back().context});
      }
    }
    const int64_t first = begins_[static_cast<size_t>(first_scene)];
    if (done() >= first + std::ssize(prompts)) {  // compared alone
      for_each_prompt(scenes, [&](const Prepared& work, size_t i, size_t n) {
        check_record(work, i, first + static_cast<int64_t>(n));
      });
      return;
    }
    const std::vector<std::vector<TokenId>>& labels = labels_[scenes[0].source].tokens;
    const auto scores = scorer_.scores_of_all(prompts, labels, options_.batch);
    const auto calibration = scorer_.scores_of_all(content_free, labels, options_.batch);
    std::vector<json> fresh;
    for_each_prompt(scenes, [&](const Prepared& work, size_t i, size_t n) {
      const int64_t index = first + static_cast<int64_t>(n);
      if (index < done()) {
        check_record(work, i, index);
      } else {
        fresh.push_back(record_of(
            work, i, {tokens_read(contexts[n]), scores[n], calibration.empty() ? scores[n] : calibration[n]}));
      }
    });
    samples_.append_all(std::move(fresh));
  }

  // use(scene, the prompt's number in it, the prompt's number in all)
  template <typename Use>
  static void for_each_prompt(const std::vector<Prepared>& scenes, const Use& use) {
    size_t number = 0;
    for (const Prepared& work : scenes) {
      for (size_t i = 0; i < work.prompts.size(); ++i) use(work, i, number++);
    }
  }

  // The context of each prompt, the encoder having read all demonstrations of the scenes.
  std::vector<Context> read_demonstrations(const std::vector<Prepared>& scenes) const {
    std::vector<TextChunk> chunks;
    for (const Prepared& work : scenes) chunks.insert(chunks.end(), work.chunks.begin(), work.chunks.end());
    const Context all = chunks.empty() ? Context{} : encode_context(opened_.model, chunks);
    std::vector<Context> contexts;
    int64_t before = 0;
    for (const Prepared& work : scenes) {
      for (const PreparedPrompt& prompt : work.prompts) {
        std::vector<int64_t> own = prompt.chunks;
        for (int64_t& chunk : own) chunk += before;
        contexts.push_back(own.empty() ? Context{} : select(all, own));
      }
      before += std::ssize(work.chunks);
    }
    return contexts;
  }

  std::string id_of(const Prepared& work, size_t prompt) const {
    return fmt::format("{}/{}", work.scene.id, work.scene.prompts[prompt].setting.name());
  }

  // The record of an earlier run is of the same prompt.
  void check_record(const Prepared& work, size_t prompt, int64_t index) const {
    const json& record = samples_.records()[static_cast<size_t>(index)];
    const bool same = record.value("id", json()) == json(id_of(work, prompt)) &&
                      record.value("input", json()) == json(work.prompts[prompt].input);
    require(same, "{}:{}: expected the record of {}, found another one's: the data has changed", file(), index + 1,
            id_of(work, prompt));
  }

  std::map<std::string, std::string> tags_of(const Prepared& work, const IclSetting& setting) const {
    const bool none = setting.decoder + setting.encoder == 0;
    return {{"task", sources_[work.source].name()},
            {"setting", setting.name()},
            {"decoder", std::to_string(setting.decoder)},
            {"encoder", std::to_string(setting.encoder)},
            {"labels", none               ? "none"
                       : setting.shuffled ? "shuffled"
                                          : "own"},
            {"seed", none ? "any" : std::to_string(work.scene.seed)}};
  }

  // What a prompt's record is made of.
  struct Scored {
    int64_t context_tokens;
    const std::vector<double>&scores, &content_free;  // of the labels; the second counts with that calibration alone
  };

  json record_of(const Prepared& work, size_t index, const Scored& scored) const {
    const IclSource& source = sources_[work.source];
    const Labels& labels = labels_[work.source];
    const PreparedPrompt& prompt = work.prompts[index];
    LabelScores scores{scored.scores, labels.calibration, labels.counts};
    if (options_.calibration == IclCalibration::content_free) scores.calibration = scored.content_free;
    const std::map<std::string, size_t> first = rank_labels(scores);
    const size_t chosen = first.at(scores.calibration.empty() ? "likelihood" : "calibrated");
    json predictions = json::object(), accuracy = json::object();
    for (const auto& [ranking, label] : first) {
      predictions[ranking] = source.labels()[label];
      accuracy[ranking] = source.labels()[label] == work.scene.label ? 1 : 0;
    }
    json record = {{"id", id_of(work, index)},
                   {"tags", tags_of(work, work.scene.prompts[index].setting)},
                   {"cluster", work.scene.id.substr(0, work.scene.id.rfind('/'))},
                   {"input", prompt.input},
                   {"text", work.scene.text},
                   {"prediction", source.labels()[chosen]},
                   {"predictions", predictions},
                   {"references", {work.scene.label}},
                   {"scores", accuracy},
                   {"log_likelihoods", scores.log_likelihoods},
                   {"sources", work.scene.prompts[index].sources},
                   {"stop_reason", "ranked"},
                   {"context_tokens", scored.context_tokens},
                   {"prompt_tokens", prompt.tokens.size()},
                   {"answer_tokens", labels.counts[chosen]}};
    if (!prompt.content_free.empty()) record["calibration"] = scores.calibration;
    return record;
  }

  const OpenedModel& opened_;
  ContinuationScorer scorer_;
  std::span<const IclSource> sources_;
  const IclRunOptions& options_;
  SampleFile samples_;
  std::vector<Labels> labels_;   // of each source
  std::vector<int64_t> begins_;  // the first record of each scene, and the end
  std::vector<int64_t> groups_;  // the first scene of each group, and the end
  int64_t total_records_ = 0;
};

IclRecord record_from(const json& record, const std::string& where) {
  try {
    return {record.at("tags"), record.at("cluster"), record.at("references").at(0), record.at("predictions")};
  } catch (const json::exception&) {
    fail("{}: the record of {} lacks its tags, cluster, references or predictions", where,
         record.value("id", json()).dump());
  }
}

}  // namespace

IclCalibration icl_calibration_from_name(std::string_view name, std::string_view option) {
  if (name == "none") return IclCalibration::none;
  if (name == "empty") return IclCalibration::empty;
  if (name == "domain") return IclCalibration::domain;
  if (name == "content-free") return IclCalibration::content_free;
  fail("{}: expected none, empty, domain or content-free, found \"{}\"", option, name);
}

std::vector<TokenId> icl_prompt_tokens(const Tokenizer& tokenizer, const std::string& prompt) {
  return tokenizer.encode(prompt, {.add_special_tokens = true, .parse_special_tokens = false});
}

std::vector<TokenId> icl_label_tokens(const Tokenizer& tokenizer, const std::string& label) {
  return tokenizer.encode(label_continuation(label), {.parse_special_tokens = false});
}

IclRun run_icl(const OpenedModel& opened, std::span<const IclSource> sources, const IclRunOptions& options) {
  check_run_configuration(options.directory, options.configuration);
  Meter meter(opened.model.device());
  meter.start();
  Runner runner(opened, sources, options);
  IclRun run;
  run.resumed = runner.done();
  runner.run();
  run.cost = meter.stop();
  const std::string file = (options.directory / "samples.jsonl").string();
  for (const json& record : runner.records()) run.records.push_back(record_from(record, file));
  return run;
}

}  // namespace cepe
