// Retrieval-augmented language modelling (Yen, Gao, Chen 2024, arXiv 2402.16617, section 4): windows of a text whose
// first tokens are the query, and whose last tokens are scored with more and more retrieved passages.
//
//   | query_tokens | scored ...          | one token more, the last label
//   |         decoder_tokens            |
//
// Readers of the same passages:
//   cepe     each passage, cut to passage_tokens, is a chunk of the encoder
//   other    the control: the same, with the passages that another window's query found
//   replug   each passage before the window in a forward of its own; the probabilities of a label are mixed by the
//            softmax of the retrieval scores (model/replug.h, temperature 1)
//   prompt   the plain decoder with all passages before the window, the best one next to it, where they fit its window
// A passage that shares a run of eight words with the window's text, or stands there as a whole, is no passage found
// but the answer: it is left out. Words are compared in lower case without punctuation; in scripts without spaces
// (Chinese, Japanese, Thai and others) a run is of sixteen characters.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "eval/documents.h"
#include "eval/statistics.h"
#include "model/cepe.h"
#include "text/tokenizer/tokenizer.h"

namespace cepe {

struct RetrievedPassage {
  std::string id, text;
  double score = 0;       // higher is better
  size_t title_size = 0;  // bytes of the text that are a title: what follows may be the window's own text as well
};
// At most `count` passages for the query, best first.
using FindPassages = std::function<std::vector<RetrievedPassage>(const std::string& query, int64_t count)>;

struct RetrievalLmOptions {
  int64_t decoder_tokens = 2048;
  int64_t query_tokens = 256;                           // the others are scored
  int64_t passage_tokens = 256;                         // what a passage is cut to
  std::vector<int64_t> passages = {0, 8, 20, 50, 100};  // ascending from 0
  int64_t windows = 20;                                 // at most so many a domain; 0: as many as fit at the stride
  int64_t stride = 2048;                                // the least distance of two windows in a document
  bool other = true, replug = true, prompt = true;      // readers beside cepe
  std::filesystem::path directory;                      // of samples.jsonl and run.json; made where it is not there
  nlohmann::json configuration;                         // an object: all that the numbers depend on
  std::function<void(int64_t done, int64_t total)> progress;  // windows; may be empty
};

// One reader with one count of passages.
struct RetrievalLmRow {
  std::string reader;  // "cepe", "other", "replug", "prompt"
  int64_t passages = 0;
  std::vector<double> nll;  // mean loss of each window's scored tokens, nats
  double perplexity = 0;
  Estimate change;                        // of the perplexity against no passages; clusters are documents
  std::optional<Estimate> against_other;  // of cepe, against the control
  // A window of this run, reading its passages included; of cepe's encoder the passages' share by tokens. 0 where an
  // earlier run had scored all windows.
  double seconds = 0;
};

struct RetrievalLmRun {
  std::vector<RetrievalLmRow> rows;
  int64_t windows = 0, documents = 0, resumed = 0;
  double search_seconds = 0;       // a window
  int64_t left_out = 0;            // passages that hold a window's own text, over all windows
  int64_t short_windows = 0;       // windows for which fewer passages were found than the most that were asked for
  int64_t short_controls = 0;      // windows whose control reads fewer passages than cepe does
  std::vector<std::string> notes;  // a sentence each
};

// Scores all windows and appends a record for each to samples.jsonl; goes on where an earlier run with the same
// configuration ended. Error where the options contradict each other or the model (no encoder, a passage longer than
// its window, more decoder tokens than the decoder's window), where the directory holds another run, or one that was
// given other passages, and where the text is too short.
RetrievalLmRun score_with_retrieval(const Cepe& model, const Tokenizer& tokenizer,
                                    const std::vector<TokenDocument>& documents, const FindPassages& find,
                                    const RetrievalLmOptions& options);

// RePlug's loss of each label, (N), from each passage's: losses_KN (nats), scores_K, temperature 1.
at::Tensor replug_losses(const at::Tensor& losses_KN, const at::Tensor& scores_K);

std::string retrieval_lm_table(const RetrievalLmRun& run);  // Markdown
nlohmann::json to_json(const RetrievalLmRun& run);
void write_retrieval_lm_plot(const RetrievalLmRun& run, const std::filesystem::path& path);

}  // namespace cepe
