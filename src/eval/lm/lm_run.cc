#include "eval/lm/lm_run.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "base/error.h"
#include "base/file.h"
#include "base/json_text.h"
#include "base/report.h"
#include "eval/samples.h"

namespace cepe {
namespace {

using nlohmann::json;

// A window in a row: what one record is of.
struct Cell {
  size_t window, row;
};

class Runner {
 public:
  Runner(const WindowScoring& scoring, const std::vector<TokenDocument>& documents, const LmRunOptions& options)
      : scoring_(scoring),
        documents_(documents),
        options_(options),
        samples_(options.directory / "samples.jsonl"),
        costs_(options.directory / "costs.jsonl"),
        scores_(scoring.empty_scores()) {
    for (const WindowGroup& group : scoring.groups()) {
      group_begins_.push_back(cells_.size());
      for (size_t window = group.first; window < group.first + group.size; ++window) {
        for (size_t row = 0; row < scores_.rows.size(); ++row) {
          if (scoring.has(window, row)) cells_.push_back({window, row});
        }
      }
    }
    group_begins_.push_back(cells_.size());
    check_records();
    check_costs();
  }

  size_t done() const { return samples_.records().size(); }

  void run() {
    int64_t total = 0, worked = 0;
    for (size_t g = 0; g < scoring_.groups().size(); ++g) {
      if (!is_done(g)) total += scoring_.work(scoring_.groups()[g]);
    }
    if (total > 0) scoring_.warm_up();
    for (size_t g = 0; g < scoring_.groups().size(); ++g) {
      if (is_done(g)) continue;
      const WindowGroup& group = scoring_.groups()[g];
      std::map<size_t, RowScores> found;
      scoring_.score(group, [&](size_t row, const RowScores& scores) {
        found[row] = scores;
        worked += static_cast<int64_t>(group.size) * scoring_.row_tokens(row);
        if (options_.progress) options_.progress(worked, total);
      });
      record_group(g, found);
    }
  }

  PerplexityScores scores() {
    for (size_t i = 0; i < cells_.size(); ++i) {
      const json& loss = samples_.records()[i]["scores"]["loss"];
      ScoredRow& row = scores_.rows[cells_[i].row];
      row.windows.push_back(cells_[i].window);
      row.nll.push_back(loss.is_number() ? loss.get<double>() : std::numeric_limits<double>::quiet_NaN());
    }
    std::map<std::string, const json*> last;  // a group that was killed and computed again has two costs
    for (const json& cost : costs_.records()) last[cost.at("id").get<std::string>()] = &cost;
    for (const Cell& cell : cells_) {
      const auto cost = last.find(id_of(cell));
      if (cost == last.end()) continue;
      ScoredRow& row = scores_.rows[cell.row];
      row.seconds += cost->second->at("seconds").get<double>();
      row.peak_bytes = std::max(row.peak_bytes, cost->second->at("peak_memory_bytes").get<uint64_t>());
      row.working_bytes = std::max(row.working_bytes, cost->second->value("working_memory_bytes", uint64_t{0}));
    }
    return std::move(scores_);
  }

 private:
  bool is_done(size_t group) const { return group_begins_[group + 1] <= done(); }

  std::string id_of(const Cell& cell) const {
    const ScoredWindow& window = scores_.windows[cell.window];
    const ScoredRow& row = scores_.rows[cell.row];
    const auto tags = row_tags(row);
    return fmt::format("{}@{}, {}, {}, {}", window.document, window.start, tags.at("reader"), tags.at("context"),
                       row.context_tokens);
  }

  // SHA-256 of the tokens that are read and predicted: the context's, the decoder's and the last label.
  std::string input_hash(const Cell& cell) const {
    const Window& window = scoring_.window(cell.window);
    const ScoredRow& row = scores_.rows[cell.row];
    const ContextPlace place = *place_of(window, row.reading.control);
    const std::vector<TokenId>&context = documents_[place.document].tokens, &own = documents_[window.document].tokens;
    const int64_t read = scoring_.row_tokens(cell.row) - row.context_tokens + 1;
    std::string bytes;
    const auto add = [&](const TokenId* first, int64_t count) {
      bytes.append(reinterpret_cast<const char*>(first), static_cast<size_t>(count) * sizeof(TokenId));
    };
    add(context.data() + place.end - row.context_tokens, row.context_tokens);
    add(own.data() + window.start, read);
    return sha256_bytes(bytes);
  }

  json record_of(const Cell& cell, double loss) const {
    const ScoredRow& row = scores_.rows[cell.row];
    const ScoredWindow& window = scores_.windows[cell.window];
    json sources = json::array();
    if (row.context_tokens > 0) {
      sources.push_back(documents_[place_of(scoring_.window(cell.window), row.reading.control)->document].name);
    }
    return {{"id", id_of(cell)},
            {"tags", row_tags(row)},
            {"cluster", window.document},
            {"input", input_hash(cell)},
            {"scores", {{"loss", std::isfinite(loss) ? json(loss) : json()}}},
            {"sources", sources},
            {"context_tokens", row.context_tokens},
            {"prompt_tokens", scoring_.row_tokens(cell.row) - row.context_tokens}};
  }

  // Costs come first: a record without them would never get any.
  void record_group(size_t g, const std::map<size_t, RowScores>& found) {
    const WindowGroup& group = scoring_.groups()[g];
    const auto windows = static_cast<double>(group.size);
    const size_t begin = std::max(group_begins_[g], done()), end = group_begins_[g + 1];
    std::vector<json> costs, samples;
    for (size_t i = begin; i < end; ++i) {
      const RowScores& scores = found.at(cells_[i].row);
      costs.push_back({{"id", id_of(cells_[i])},
                       {"seconds", scores.cost.seconds / windows},
                       {"peak_memory_bytes", scores.cost.peak_bytes},
                       {"working_memory_bytes", scores.cost.working_bytes()}});
      samples.push_back(record_of(cells_[i], scores.nll[cells_[i].window - group.first]));
    }
    costs_.append_all(std::move(costs));
    samples_.append_all(std::move(samples));
  }

  void check_costs() const {
    for (size_t i = 0; i < costs_.records().size(); ++i) {
      const json& cost = costs_.records()[i];
      const json id = cost.value("id", json()), seconds = cost.value("seconds", json()),
                 peak = cost.value("peak_memory_bytes", json()),
                 working = cost.value("working_memory_bytes", json(0u));  // earlier versions have none
      require(id.is_string() && seconds.is_number() && peak.is_number_unsigned() && working.is_number_unsigned(),
              "{}:{}: expected a cost with id, seconds and peak_memory_bytes, found {}",
              (options_.directory / "costs.jsonl").string(), i + 1, json_text(cost));
    }
  }

  void check_records() const {
    const std::string file = (options_.directory / "samples.jsonl").string();
    require(done() <= cells_.size(), "{}: expected at most {} records, found {}", file, cells_.size(), done());
    for (size_t i = 0; i < done(); ++i) {
      const json& record = samples_.records()[i];
      const std::string id = id_of(cells_[i]);
      const bool hashed = i + 1 < done() || record.value("input", json()) == json(input_hash(cells_[i]));
      const bool scored =
          record.contains("scores") && record["scores"].is_object() && record["scores"].contains("loss");
      require(record.value("id", json()) == json(id) && hashed && scored,
              "{}:{}: expected the record of {}, found another one's: the data or the tokenizer has changed", file,
              i + 1, id);
    }
  }

  const WindowScoring& scoring_;
  const std::vector<TokenDocument>& documents_;
  const LmRunOptions& options_;
  SampleFile samples_, costs_;
  PerplexityScores scores_;
  std::vector<Cell> cells_;           // in the order of their records
  std::vector<size_t> group_begins_;  // the first cell of each group, and the end
};

}  // namespace

std::map<std::string, std::string> row_tags(const ScoredRow& row) {
  return {{"domain", row.domain},
          {"reader", row.context_tokens == 0 && row.reading.reader == kCepeReader ? "plain" : row.reading.reader},
          {"context", row.context_tokens == 0 ? "none" : control_name(row.reading.control)},
          {"tokens", std::to_string(row.context_tokens)}};
}

LmRun run_lm(const WindowScoring& scoring, const std::vector<TokenDocument>& documents, const LmRunOptions& options) {
  check_run_configuration(options.directory, options.configuration);
  const double started = seconds_now();
  Runner runner(scoring, documents, options);
  LmRun run;
  run.resumed = static_cast<int64_t>(runner.done());
  runner.run();
  run.records = static_cast<int64_t>(runner.done());
  run.scores = runner.scores();
  run.cost.seconds = seconds_now() - started;
  for (const ScoredRow& row : run.scores.rows) run.cost.peak_bytes = std::max(run.cost.peak_bytes, row.peak_bytes);
  return run;
}

}  // namespace cepe
