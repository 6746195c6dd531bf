#include "train/tokenize.h"

#include <zstd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "base/error.h"
#include "train/shards.h"

namespace cepe {
namespace {

constexpr size_t kChunkBytes = 1 << 20;
constexpr size_t kMaxLineBytes = size_t{1} << 30;
constexpr size_t kBatchBytes = 32 << 20;  // text tokenised at once
constexpr size_t kBatchDocuments = 1024;
constexpr int kMaxWindowLog = 31;

bool has_suffix(const std::string& name, std::string_view suffix) {
  return name.size() > suffix.size() && name.compare(name.size() - suffix.size(), suffix.size(), suffix) == 0;
}

// The name without .zst; tells whether it had one.
std::string plain_name(const std::filesystem::path& path, bool* compressed = nullptr) {
  std::string name = path.filename().string();
  const bool zst = has_suffix(name, ".zst");
  if (compressed) *compressed = zst;
  return zst ? name.substr(0, name.size() - 4) : name;
}

}  // namespace

// The bytes of a file, decompressed where its name ends in .zst.
class CorpusLines::Source {
 public:
  explicit Source(const std::filesystem::path& path) : path_(path), file_(std::fopen(path.c_str(), "rb")) {
    require(file_ != nullptr, "{}: cannot open the file: {}", path.string(), std::strerror(errno));
    bool compressed = false;
    plain_name(path, &compressed);
    if (!compressed) return;
    stream_ = ZSTD_createDCtx();
    require(stream_ != nullptr, "{}: no memory to decompress it", path.string());
    ZSTD_DCtx_setParameter(stream_, ZSTD_d_windowLogMax, kMaxWindowLog);
    input_.resize(ZSTD_DStreamInSize());
  }
  ~Source() {
    if (stream_) ZSTD_freeDCtx(stream_);
    if (file_) std::fclose(file_);
  }

  // Appends some bytes; false at the end.
  bool append(std::string& out) {
    const size_t before = out.size();
    out.resize(before + kChunkBytes);
    const size_t count =
        stream_ ? decompress(out.data() + before, kChunkBytes) : read(out.data() + before, kChunkBytes);
    out.resize(before + count);
    return count > 0;
  }

 private:
  size_t read(char* out, size_t size) {
    const size_t count = std::fread(out, 1, size, file_);
    require(count > 0 || !std::ferror(file_), "{}: cannot read the file: {}", path_.string(), std::strerror(errno));
    return count;
  }

  size_t decompress(char* out, size_t size) {
    ZSTD_outBuffer output{out, size, 0};
    while (output.pos == 0) {
      if (buffer_.pos == buffer_.size && !output_pending_) {
        buffer_ = {input_.data(), read(input_.data(), input_.size()), 0};
        if (buffer_.size == 0) {
          require(!in_frame_, "{}: the zstd stream is cut short", path_.string());
          return 0;
        }
      }
      const size_t left = ZSTD_decompressStream(stream_, &output, &buffer_);
      require(!ZSTD_isError(left), "{}: broken zstd stream: {}", path_.string(), ZSTD_getErrorName(left));
      in_frame_ = left != 0;
      output_pending_ = output.pos == output.size;  // the decoder may hold more than fitted
    }
    return output.pos;
  }

  std::filesystem::path path_;
  std::FILE* file_;
  ZSTD_DCtx* stream_ = nullptr;
  std::string input_;
  ZSTD_inBuffer buffer_{nullptr, 0, 0};
  bool in_frame_ = false, output_pending_ = false;
};

CorpusLines::CorpusLines(const std::filesystem::path& path) : path_(path), source_(std::make_unique<Source>(path)) {}
CorpusLines::~CorpusLines() = default;

bool CorpusLines::fill() {
  buffer_.erase(0, used_);
  used_ = 0;
  return source_->append(buffer_);
}

bool CorpusLines::next(std::string& line) {
  size_t searched = used_;
  for (;;) {
    const size_t end = buffer_.find('\n', searched);
    if (end != std::string::npos) {
      line.assign(buffer_, used_, end - used_);
      used_ = end + 1;
      break;
    }
    const size_t length = buffer_.size() - used_;
    require(length <= kMaxLineBytes, "{}: line {} has more than 1 GiB", path_.string(), line_number_ + 1);
    if (!fill()) {
      if (length == 0) return false;
      line.assign(buffer_, used_, std::string::npos);
      used_ = buffer_.size();
      break;
    }
    searched = length;
  }
  if (!line.empty() && line.back() == '\r') line.pop_back();
  ++line_number_;
  return true;
}

std::string CorpusLines::rest() {
  while (fill()) {
  }
  return std::exchange(buffer_, {});
}

CorpusRecord parse_corpus_record(const std::string& line, const std::string& where, const std::string& default_domain) {
  nlohmann::json record;
  try {
    record = nlohmann::json::parse(line);
  } catch (const nlohmann::json::parse_error& error) {
    fail("{}: not valid JSON at byte {}", where, error.byte);
  }
  require(record.is_object(), "{}: expected a JSON object, found {}", where, record.type_name());
  const auto text = record.find("text");
  require(text != record.end(), "{}: the record has no field \"text\"", where);
  require(text->is_string(), "{}: the field \"text\" is of type {}, expected a string", where, text->type_name());
  CorpusRecord document{std::move(text->get_ref<std::string&>()), default_domain};
  const auto domain = record.find("domain");
  if (domain != record.end() && !domain->is_null()) {
    require(domain->is_string(), "{}: the field \"domain\" is of type {}, expected a string", where,
            domain->type_name());
    document.domain = domain->get<std::string>();
    require(!document.domain.empty() && document.domain.size() <= 255,
            "{}: the field \"domain\" takes {} bytes, expected 1 to 255", where, document.domain.size());
  }
  return document;
}

namespace {

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
        jsonl_(has_suffix(plain_name(input), ".jsonl")),
        threads_(options.threads > 0 ? options.threads : std::max(1u, std::thread::hardware_concurrency())) {
    if (options.append_eos) {
      eos_ = tokenizer.eos();
      require(eos_.has_value(), "--append-eos: the tokenizer has no end-of-text token");
    }
  }

  TokenizeSummary run(ShardWriter& writer) {
    CorpusLines reader(input_);
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
  std::vector<Job> read(CorpusLines& reader) {
    std::vector<Job> batch;
    if (!jsonl_) {
      std::string text = reader.rest();
      if (!text_read_) batch.push_back({std::move(text), input_.string(), options_.default_domain, {}});
      text_read_ = true;
      return batch;
    }
    size_t bytes = 0;
    std::string line;
    while (bytes < kBatchBytes && batch.size() < kBatchDocuments && reader.next(line)) {
      if (line.find_first_not_of(" \t") == std::string::npos) continue;
      bytes += line.size();
      batch.push_back({std::move(line), fmt::format("{}: line {}", input_.string(), reader.line_number()), "", {}});
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
      CorpusRecord document = parse_corpus_record(job.raw, job.where, options_.default_domain);
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
  const std::string name = plain_name(input);
  for (const char* suffix : {".jsonl", ".txt"}) {
    if (has_suffix(name, suffix)) return options.out / (name.substr(0, name.size() - std::strlen(suffix)) + ".tokens");
  }
  fail("{}: expected a file named .jsonl, .txt, .jsonl.zst or .txt.zst", input.string());
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
