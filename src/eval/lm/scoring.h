// The windows of an evaluation, the rows that they are scored in, and the scoring itself, a group of windows at a time.
//
//   documents -> place_windows (windows.h) -> WindowScoring: groups x rows -> losses -> summarise (perplexity.h)
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "eval/lm/reader.h"
#include "eval/lm/scored_windows.h"

namespace cepe {

// A reader under its name (Reading::reader), and the controls that it reads beside the own text.
struct NamedReader {
  std::string name;
  std::shared_ptr<const LmReader> reader;
  bool other_document = false, same_source = false, shuffled = false;
};

// Windows of one domain that are scored together.
struct WindowGroup {
  size_t domain;       // index into the plan's domains
  size_t first, size;  // among the windows of all domains
};

// Error naming document and token where a token has no row in the model's embedding. name: of the model, for the error.
void check_vocabulary(const Cepe& model, const std::vector<TokenDocument>& documents, const std::string& name);

class WindowScoring {
 public:
  // Places the windows. Of the options those of windows, contexts and the batch count; the readers decide what is read.
  // Error as score_windows() (perplexity.h). Documents and model must outlive the object.
  WindowScoring(const Cepe& model, const std::vector<TokenDocument>& documents, const PerplexityOptions& options,
                std::vector<NamedReader> readers);

  const std::vector<std::string>& notes() const { return notes_; }
  const std::vector<WindowGroup>& groups() const { return groups_; }
  // The windows of all domains, and all rows without losses: domain by domain, reader by reader, control by control,
  // contexts ascending.
  PerplexityScores empty_scores() const;
  // Whether a window (its index) is scored in a row (its index): it is of the row's domain and has its control.
  bool has(size_t window, size_t row) const;
  // The window's place in its document, and that of the context in a row.
  const Window& window(size_t window) const;

  // Tokens that the group's rows read, roughly; the unit of progress.
  int64_t work(const WindowGroup& group) const;
  // Runs a first forward pass, which pays for threads, kernel choice and pages of the weights, and prepares each reader
  // for each of its lengths: no row should pay for that.
  void warm_up() const;
  // Scores the group in all rows that it has; row: the index in empty_scores().
  void score(const WindowGroup& group, const OnRowScores& scored) const;
  // Tokens that a row reads of a window.
  int64_t row_tokens(size_t row) const { return options_.decoder_tokens + rows_[row].context_tokens; }

 private:
  void add_rows(size_t domain);
  void add_groups(size_t domain, size_t first_window);
  void add_control_notes(const DomainWindows& domain);
  WindowBatch batch_of(const WindowGroup& group) const;

  struct Row {
    size_t domain, reader;
    Control control;
    int64_t context_tokens;
  };

  const Cepe& model_;
  const std::vector<TokenDocument>& documents_;
  PerplexityOptions options_;
  std::vector<NamedReader> readers_;
  WindowPlan plan_;
  std::vector<size_t> first_window_;  // of each domain
  std::vector<Row> rows_;
  std::vector<WindowGroup> groups_;
  std::vector<std::string> notes_;
};

// Adds a group's losses to a row.
void add_scores(ScoredRow& row, const WindowGroup& group, const RowScores& scores);

}  // namespace cepe
