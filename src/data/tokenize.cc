#include "data/tokenize.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <optional>
#include <string_view>
#include <thread>
#include <vector>

#include "base/error.h"
#include "data/shards.h"
#include "text/text_file.h"

namespace cepe {
namespace {

constexpr size_t kBatchBytes = 32 << 20;  // text tokenised at once
constexpr size_t kBatchDocuments = 1024;

// A document on its way: its raw line (or text), then its tokens.
struct Job {
  std::string raw;
  std::string where;
  std::string domain;
  std::vector<TokenId> tokens;
  size_t text_bytes = 0;
  std::exception_ptr error;
};

class TokenizePipeline {
 public:
  TokenizePipeline(const Tokenizer& tokenizer, const std::filesystem::path& input, const TokenizeOptions& options)
      : tokenizer_(tokenizer),
        input_(input),
        options_(options),
        jsonl_(is_json_lines(input)),
        threads_(options.threads > 0 ? options.threads : std::max(1u, std::thread::hardware_concurrency())) {
    if (options.append_eos) {
      eos_ = tokenizer.eos();
      require(eos_.has_value(), "an end-of-text token is to follow each document, but the tokenizer has none");
    }
  }

  TokenizeSummary run(ShardWriter& writer) {
    TextFile reader(input_);
    TokenizeSummary summary;
    for (std::vector<Job> batch = read(reader); !batch.empty(); batch = read(reader)) {
      tokenize(batch);
      for (Job& job : batch) {
        if (job.error) std::rethrow_exception(job.error);
        if (job.tokens.empty()) {
          ++summary.empty;
          continue;
        }
        writer.add(job.tokens, job.domain);
        summary.text_bytes += static_cast<int64_t>(job.text_bytes);
      }
    }
    summary.documents = writer.documents();
    summary.tokens = writer.tokens();
    return summary;
  }

 private:
  std::vector<Job> read(TextFile& reader) {
    std::vector<Job> batch;
    if (!jsonl_) {
      std::string text = reader.rest();
      if (!text_read_) batch.push_back({std::move(text), input_.string(), options_.default_domain, {}});
      text_read_ = true;
      return batch;
    }
    size_t bytes = 0;
    std::string line;
    while (bytes < kBatchBytes && batch.size() < kBatchDocuments && reader.next_line(line)) {
      bytes += line.size();
      batch.push_back({std::move(line), reader.where(), "", {}});
      line = {};
    }
    return batch;
  }

  void tokenize(std::vector<Job>& batch) const {
    std::atomic<size_t> next{0};
    auto work = [&] {
      for (size_t i = next++; i < batch.size(); i = next++) {
        try {
          tokenize(batch[i]);
        } catch (...) {
          batch[i].error = std::current_exception();
        }
      }
    };
    std::vector<std::jthread> workers;
    const size_t count = std::min<size_t>(static_cast<size_t>(threads_), batch.size());
    for (size_t i = 1; i < count; ++i) workers.emplace_back(work);
    work();
  }

  void tokenize(Job& job) const {
    std::string text;
    if (jsonl_) {
      TextDocument document = parse_text_record(job.raw, job.where, options_.default_domain);
      require(document.domain.size() <= kMaxDomainBytes, "{}: expected a \"domain\" of at most {} bytes, found {}",
              job.where, kMaxDomainBytes, document.domain.size());
      text = std::move(document.text);
      job.domain = std::move(document.domain);
      job.raw = {};
    } else {
      text = std::move(job.raw);
    }
    job.text_bytes = text.size();
    if (text.empty()) return;
    try {
      job.tokens = tokenizer_.encode(text, {.parse_special_tokens = false});
    } catch (const Error& error) {
      fail("{}: {}", job.where, error.what());
    }
    if (eos_ && !job.tokens.empty()) job.tokens.push_back(*eos_);
  }

  const Tokenizer& tokenizer_;
  const std::filesystem::path input_;
  const TokenizeOptions& options_;
  const bool jsonl_;
  const int64_t threads_;
  std::optional<TokenId> eos_;
  bool text_read_ = false;
};

}  // namespace

std::filesystem::path shard_path(const std::filesystem::path& input, const TokenizeOptions& options) {
  const std::string name = plain_file_name(input);
  for (const std::string_view suffix : {".jsonl", ".txt"}) {
    if (name.size() <= suffix.size() || !name.ends_with(suffix)) continue;
    return options.out / (name.substr(0, name.size() - suffix.size()) + ".tokens");
  }
  fail("{}: expected a file named .jsonl or .txt, or either as .zst or .gz", input.string());
}

TokenizeSummary tokenize_file(const Tokenizer& tokenizer, const std::filesystem::path& input,
                              const TokenizeOptions& options) {
  const std::filesystem::path shard = shard_path(input, options);
  std::error_code error;
  std::filesystem::create_directories(options.out, error);
  require(!error, "{}: cannot create the directory: {}", options.out.string(), error.message());
  ShardWriter writer(shard, {tokenizer.vocabulary_size(), tokenizer_fingerprint(tokenizer)});
  TokenizeSummary summary = TokenizePipeline(tokenizer, input, options).run(writer);
  require(summary.documents > 0, "{}: no text: {} documents, all of them empty", input.string(), summary.empty);
  writer.commit();
  summary.shard = shard;
  return summary;
}

}  // namespace cepe
