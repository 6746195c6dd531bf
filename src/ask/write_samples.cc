#include "ask/write_samples.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <set>
#include <thread>

#include "base/error.h"
#include "base/file.h"

namespace cepe {
namespace {

constexpr int64_t kBatch = 512;  // samples made at once

// Calls make(0), ..., make(count - 1) on several threads. The error of the least index is thrown; no call begins after
// one.
void in_parallel(int64_t count, int64_t threads, const std::function<void(int64_t)>& make) {
  std::atomic<int64_t> next{0}, failed{count};
  std::exception_ptr error;
  std::mutex mutex;
  const auto work = [&] {
    // Indices are given out in order: of those below a failed one, all have begun.
    for (int64_t i = next++; i < failed; i = next++) {
      try {
        make(i);
      } catch (...) {
        const std::scoped_lock lock(mutex);
        if (i >= failed) continue;
        failed = i;
        error = std::current_exception();
      }
    }
  };
  {
    std::vector<std::jthread> workers;
    for (int64_t t = 1; t < threads; ++t) workers.emplace_back(work);
    work();
  }
  if (error) std::rethrow_exception(error);
}

void count(const AskSample& sample, std::map<std::string, AskKindCounts>& counts) {
  AskKindCounts& kind = counts[sample.kind];
  ++kind.samples;
  for (const SamplePiece& piece : sample.pieces) {
    kind.chunks += piece.context ? 1 : 0;
    (piece.context ? kind.context_tokens : kind.decoder_tokens) += piece.length;
    if (piece.weight > 0) kind.scored_tokens += piece.length;
  }
}

class SampleWriter {
 public:
  SampleWriter(const AskMaker& maker, const ShardVocabulary& vocabulary, const AskWriteOptions& options)
      : maker_(maker),
        vocabulary_(vocabulary),
        options_(options),
        threads_(options.threads > 0 ? options.threads : std::max(1u, std::thread::hardware_concurrency())) {}

  void set_total(int64_t total) { total_ = total; }

  // Samples first .. first + count - 1 of a split, into one shard.
  void write_shard(const std::string& name, AskSplit split, int64_t first, int64_t samples) {
    const std::filesystem::path path = options_.out / name;
    ShardWriter writer(path, vocabulary_, ShardKind::samples);
    auto& counts = split == AskSplit::training ? written.training : written.validation;
    for (int64_t done = 0; done < samples; done += kBatch) {
      std::vector<AskSample> batch(static_cast<size_t>(std::min(kBatch, samples - done)));
      in_parallel(static_cast<int64_t>(batch.size()), threads_,
                  [&](int64_t i) { batch[static_cast<size_t>(i)] = maker_.make(split, first + done + i); });
      for (const AskSample& sample : batch) {
        writer.add_sample(sample.tokens, sample.pieces, sample.kind);
        count(sample, counts);
      }
      advance(static_cast<int64_t>(batch.size()));
    }
    writer.commit();
    written.files.push_back(path);
  }

  void write_held(int64_t questions) {
    const std::filesystem::path path = options_.out / "held.jsonl";
    AtomicFile file(path);
    for (int64_t done = 0; done < questions; done += kBatch) {
      std::vector<std::string> lines(static_cast<size_t>(std::min(kBatch, questions - done)));
      in_parallel(static_cast<int64_t>(lines.size()), threads_,
                  [&](int64_t i) { lines[static_cast<size_t>(i)] = maker_.held_question(done + i); });
      for (const std::string& line : lines) file.write(line + "\n");
      advance(static_cast<int64_t>(lines.size()));
    }
    file.commit();
    written.files.push_back(path);
  }

  AskWritten written;

 private:
  void advance(int64_t count) {
    done_ += count;
    if (options_.progress) options_.progress(done_, total_);
  }

  const AskMaker& maker_;
  const ShardVocabulary& vocabulary_;
  const AskWriteOptions& options_;
  const int64_t threads_;
  int64_t done_ = 0, total_ = 0;
};

}  // namespace

namespace {

std::string shard_name(int64_t number) { return fmt::format("{:02}.tokens", number); }

void make_directory(const std::filesystem::path& directory, int64_t shards) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  require(!error, "{}: cannot create the directory: {}", directory.string(), error.message());
  std::set<std::string> ours;
  for (int64_t shard = 0; shard < shards; ++shard) ours.insert(shard_name(shard));
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const bool foreign = entry.path().extension() == ".tokens" && !ours.contains(entry.path().filename().string());
    require(!foreign, "{}: a token shard that is not of this run, which writes {}: choose another directory",
            entry.path().string(), shards);
  }
}

}  // namespace

AskWritten write_samples(const AskMaker& maker, const AskConfig& config, const ShardVocabulary& vocabulary,
                         const AskWriteOptions& options) {
  make_directory(options.out / "train", (config.count + config.shard_samples - 1) / config.shard_samples);
  make_directory(options.out / "valid", config.validation > 0 ? 1 : 0);
  SampleWriter writer(maker, vocabulary, options);
  writer.set_total(config.count + maker.validation_count() + config.held);
  // The small ones first: what cannot be made shows before the work of the others.
  if (config.validation > 0)
    writer.write_shard("valid/" + shard_name(0), AskSplit::validation, 0, maker.validation_count());
  if (config.held > 0) writer.write_held(config.held);
  for (int64_t first = 0, shard = 0; first < config.count; first += config.shard_samples, ++shard) {
    writer.write_shard("train/" + shard_name(shard), AskSplit::training, first,
                       std::min(config.shard_samples, config.count - first));
  }
  return std::move(writer.written);
}

}  // namespace cepe
