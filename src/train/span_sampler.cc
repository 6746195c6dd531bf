#include "train/span_sampler.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "train/random.h"

namespace cepe {
namespace {

// Streams of random numbers that must not be the same.
constexpr uint64_t kOrderStream = 0x6F72646572, kDrawStream = 0x64726177;

std::vector<std::filesystem::path> expand(const std::vector<std::string>& paths) {
  std::vector<std::filesystem::path> files;
  for (const std::string& path : paths) {
    if (!std::filesystem::is_directory(path)) {
      files.emplace_back(path);
      continue;
    }
    std::vector<std::filesystem::path> inside;
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      if (entry.path().extension() == ".tokens") inside.push_back(entry.path());
    }
    require(!inside.empty(), "{}: the directory holds no token shard (*.tokens)", path);
    std::sort(inside.begin(), inside.end());
    files.insert(files.end(), inside.begin(), inside.end());
  }
  require(!files.empty(), "no token shards given: make them with `cepe data`");
  return files;
}

// Index of the entry of running sums that u in [0, 1) falls into.
size_t pick(const std::vector<double>& sums, double u) {
  const size_t found = static_cast<size_t>(std::upper_bound(sums.begin(), sums.end(), u * sums.back()) - sums.begin());
  return std::min(found, sums.size() - 1);
}

}  // namespace

Corpus open_corpus(const std::vector<std::string>& paths) {
  Corpus corpus;
  std::map<std::string, int32_t> domains;
  for (const auto& file : expand(paths)) {
    TokenShard shard(file);
    for (const std::string& domain : shard.domains()) domains[domain] = 0;
    const uint64_t fingerprint = shard.vocabulary().fingerprint;
    require(fingerprint == 0 || corpus.fingerprint == 0 || fingerprint == corpus.fingerprint,
            "{}: made with another tokenizer than {}", file.string(),
            corpus.shards.empty() ? "" : corpus.shards[0].path().string());
    if (fingerprint != 0) corpus.fingerprint = fingerprint;
    corpus.vocab_size = std::max(corpus.vocab_size, shard.vocabulary().size);
    corpus.shards.push_back(std::move(shard));
  }
  for (auto& [name, index] : domains) {
    index = static_cast<int32_t>(corpus.domains.size());
    corpus.domains.push_back(name);
  }
  for (size_t s = 0; s < corpus.shards.size(); ++s) {
    const TokenShard& shard = corpus.shards[s];
    for (const ShardDocument& document : shard.documents()) {
      const int32_t domain = domains.at(shard.domains()[static_cast<size_t>(document.domain)]);
      corpus.documents.push_back({static_cast<int32_t>(s), document.offset, document.length, domain});
      corpus.longest = std::max(corpus.longest, document.length);
    }
    corpus.tokens += shard.tokens();
  }
  return corpus;
}

std::vector<double> SpanSampler::parse_weights() const {
  std::vector<double> weights(corpus_.domains.size(), 1.0);
  for (const std::string& entry : options_.domain_weights) {
    const size_t equals = entry.find('=');
    require(equals != std::string::npos, "domain_weights: expected \"domain=weight\", found \"{}\"", entry);
    const std::string name = entry.substr(0, equals), number = entry.substr(equals + 1);
    const auto found = std::find(corpus_.domains.begin(), corpus_.domains.end(), name);
    require(found != corpus_.domains.end(), "domain_weights: the shards hold no domain \"{}\", only {}", name,
            fmt::join(corpus_.domains, ", "));
    double weight = -1;
    const auto parsed = std::from_chars(number.data(), number.data() + number.size(), weight);
    require(
        parsed.ec == std::errc() && parsed.ptr == number.data() + number.size() && std::isfinite(weight) && weight >= 0,
        "domain_weights: the weight of {} is \"{}\", expected a number of at least 0", name, number);
    weights[static_cast<size_t>(found - corpus_.domains.begin())] = weight;
  }
  for (size_t d = 0; options_.only_domain && d < weights.size(); ++d) {
    if (static_cast<int32_t>(d) != *options_.only_domain) weights[d] = 0;
  }
  return weights;
}

SpanSampler::SpanSampler(const Corpus& corpus, const SpanSamplerOptions& options) : corpus_(corpus), options_(options) {
  require(options.span_tokens > 0, "a sample of {} tokens", options.span_tokens);
  require(options.filtered >= 0 && options.concatenated >= 0 && options.filtered + options.concatenated > 0,
          "shares of the mixtures: filtered {}, concatenated {}: expected no negative number and one above 0",
          options.filtered, options.concatenated);
  filtered_share_ = options.filtered / (options.filtered + options.concatenated);
  const std::vector<double> weights = parse_weights();
  const int64_t count = static_cast<int64_t>(corpus.documents.size()), span = options.span_tokens;
  double sum = 0;
  for (int64_t i = 0; i < count && options.filtered > 0; ++i) {
    const auto& document = corpus.documents[static_cast<size_t>(i)];
    const double weight = weights[static_cast<size_t>(document.domain)];
    if (document.length < span || weight == 0) continue;
    filtered_.push_back(i);
    filtered_weight_.push_back(sum += weight * static_cast<double>(document.length - span + 1));
  }
  require(options.filtered == 0 || !filtered_.empty(),
          "no document holds the {} tokens of a sample; the longest has {}", span, corpus.longest);
  if (options.concatenated == 0) return;
  require(corpus.tokens >= span, "the shards hold {} tokens in all, a sample takes {}", corpus.tokens, span);
  order_.resize(static_cast<size_t>(count));
  std::iota(order_.begin(), order_.end(), 0);
  KeyedRandom random({options.seed, kOrderStream});
  for (int64_t i = count - 1; i > 0; --i)
    std::swap(order_[static_cast<size_t>(i)], order_[static_cast<size_t>(random.below(i + 1))]);
  sum = 0;
  for (int64_t i : order_) {
    const auto& document = corpus.documents[static_cast<size_t>(i)];
    order_weight_.push_back(sum +=
                            weights[static_cast<size_t>(document.domain)] * static_cast<double>(document.length));
  }
  require(sum > 0, "domain_weights: every domain of the shards has weight 0");
}

int64_t SpanSampler::draw(uint64_t step, uint64_t sample, int64_t* out) const {
  KeyedRandom random({options_.seed, kDrawStream, step, sample});
  const bool filtered = random.uniform() < filtered_share_;
  const double u = random.uniform();
  if (filtered) {
    const int64_t index = filtered_[pick(filtered_weight_, u)];
    const auto& document = corpus_.documents[static_cast<size_t>(index)];
    const int64_t offset = random.below(document.length - options_.span_tokens + 1);
    shard(document).read(document.offset + offset, options_.span_tokens, out);
    return index;
  }
  const size_t position = pick(order_weight_, u);
  const int64_t index = order_[position];
  const int64_t offset = random.below(corpus_.documents[static_cast<size_t>(index)].length);
  copy_concatenated(static_cast<int64_t>(position), offset, out);
  return index;
}

void SpanSampler::copy_concatenated(int64_t position, int64_t offset, int64_t* out) const {
  int64_t left = options_.span_tokens;
  while (left > 0) {
    const auto& document = corpus_.documents[static_cast<size_t>(order_[static_cast<size_t>(position)])];
    const int64_t count = std::min(left, document.length - offset);
    shard(document).read(document.offset + offset, count, out);
    out += count;
    left -= count;
    offset = 0;
    position = (position + 1) % static_cast<int64_t>(order_.size());
  }
}

}  // namespace cepe
