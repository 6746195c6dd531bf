#include "train/samples/span_sampler.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/random.h"

namespace cepe {
namespace {

constexpr double kMaxWeight = 1e9;  // far above any use; sums over a corpus stay exact enough

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

Corpus open_corpus(const std::vector<std::string>& paths, ShardKind kind) {
  Corpus corpus;
  std::map<std::string, int32_t> domains;
  for (const auto& file : expand(paths)) {
    TokenShard shard(file);
    require(shard.kind() == kind, "{}: a token shard of {}", file.string(),
            kind == ShardKind::samples ? "documents, expected one of samples" : "samples, expected one of documents");
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
    int64_t index = 0;
    for (const ShardDocument& document : shard.documents()) {
      const int32_t domain = domains.at(shard.domains()[static_cast<size_t>(document.domain)]);
      corpus.documents.push_back({static_cast<int32_t>(s), document.offset, document.length, domain, index++});
    }
    corpus.tokens += shard.tokens();
  }
  return corpus;
}

namespace {

std::string hash_of(const Corpus& corpus, const Corpus::Document& document) {
  std::vector<int64_t> ids(static_cast<size_t>(document.length));
  corpus.shards[static_cast<size_t>(document.shard)].read(document.offset, document.length, ids.data());
  return sha256_bytes({reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(int64_t)});
}

}  // namespace

int64_t shared_documents(const Corpus& held_out, const Corpus& trained) {
  std::set<int64_t> lengths;  // few documents are as long as one of the held-out ones: only these are hashed
  for (const Corpus::Document& document : held_out.documents) lengths.insert(document.length);
  std::set<std::string> hashes;
  for (const Corpus::Document& document : trained.documents) {
    if (lengths.count(document.length)) hashes.insert(hash_of(trained, document));
  }
  return std::count_if(held_out.documents.begin(), held_out.documents.end(),
                       [&](const Corpus::Document& document) { return hashes.count(hash_of(held_out, document)) > 0; });
}

std::vector<double> weights_of_domains(const Corpus& corpus, const std::vector<std::string>& entries,
                                       const std::string& where) {
  std::vector<double> weights(corpus.domains.size(), 1.0);
  std::set<std::string> named;
  for (const std::string& entry : entries) {
    const size_t equals = entry.find('=');
    require(equals != std::string::npos, "{}: expected \"domain=weight\", found \"{}\"", where, entry);
    const std::string name = entry.substr(0, equals), number = entry.substr(equals + 1);
    const auto found = std::find(corpus.domains.begin(), corpus.domains.end(), name);
    require(found != corpus.domains.end(), "{}: the shards hold no domain \"{}\", only {}", where, name,
            fmt::join(corpus.domains, ", "));
    require(named.insert(name).second, "{}: the domain \"{}\" is named twice", where, name);
    double weight = -1;
    const auto parsed = std::from_chars(number.data(), number.data() + number.size(), weight);
    const bool whole = parsed.ec == std::errc() && parsed.ptr == number.data() + number.size();
    require(whole && weight >= 0 && weight <= kMaxWeight,
            "{}: the weight of {} is \"{}\", expected a number of 0 to {}", where, name, number, kMaxWeight);
    weights[static_cast<size_t>(found - corpus.domains.begin())] = weight;
  }
  return weights;
}

std::vector<double> SpanSampler::parse_weights() const {
  std::vector<double> weights = weights_of_domains(corpus_, options_.domain_weights, "domain_weights");
  for (size_t d = 0; options_.only_domain && d < weights.size(); ++d) {
    if (static_cast<int32_t>(d) != *options_.only_domain) weights[d] = 0;
  }
  return weights;
}

SpanSampler::SpanSampler(const Corpus& corpus, const SpanSamplerOptions& options) : corpus_(corpus), options_(options) {
  require(options.span_tokens > 0, "a sample of {} tokens", options.span_tokens);
  const double shares = options.filtered + options.concatenated;
  require(options.filtered >= 0 && options.concatenated >= 0 && shares > 0 && std::isfinite(shares),
          "shares of the mixtures: filtered {}, concatenated {}: expected no negative number and one above 0",
          options.filtered, options.concatenated);
  filtered_share_ = options.filtered / shares;
  const std::vector<double> weights = parse_weights();
  const int64_t count = static_cast<int64_t>(corpus.documents.size()), span = options.span_tokens;
  double sum = 0;
  int64_t tokens = 0, longest = 0;  // of the domains that are not left out
  for (int64_t i = 0; i < count; ++i) {
    const auto& document = corpus.documents[static_cast<size_t>(i)];
    const double weight = weights[static_cast<size_t>(document.domain)];
    if (weight == 0) continue;
    tokens += document.length;
    longest = std::max(longest, document.length);
    if (document.length < span || options.filtered == 0) continue;
    filtered_.push_back(i);
    filtered_weight_.push_back(sum += weight * static_cast<double>(document.length - span + 1));
  }
  const char* which = tokens < corpus.tokens ? " of the domains whose weight is not 0" : "";
  require(options.filtered == 0 || !filtered_.empty(),
          "no document{} holds the {} tokens of a sample; the longest has {}", which, span, longest);
  if (options.concatenated == 0) return;
  require(tokens >= span, "the shards hold {} tokens{}, a sample takes {}", tokens, *which ? which : " in all", span);
  make_order(weights);
}

// The shuffle is of all documents, so that the order of a run without weights is what it always was.
void SpanSampler::make_order(const std::vector<double>& weights) {
  const int64_t count = static_cast<int64_t>(corpus_.documents.size());
  order_.resize(static_cast<size_t>(count));
  std::iota(order_.begin(), order_.end(), 0);
  KeyedRandom random({options_.seed, kOrderStream});
  for (int64_t i = count - 1; i > 0; --i)
    std::swap(order_[static_cast<size_t>(i)], order_[static_cast<size_t>(random.below(i + 1))]);
  const auto weight = [&](int64_t i) {
    return weights[static_cast<size_t>(corpus_.documents[static_cast<size_t>(i)].domain)];
  };
  std::erase_if(order_, [&](int64_t i) { return weight(i) == 0; });
  double sum = 0, largest = 0;
  for (int64_t i : order_) {
    const int64_t length = corpus_.documents[static_cast<size_t>(i)].length;
    order_weight_.push_back(sum += weight(i) * static_cast<double>(length));
    largest = std::max(largest, weight(i));
  }
  for (double domain : weights) domain_share_.push_back(domain / largest);
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
  copy_concatenated(position, offset, random, out);
  return index;
}

void SpanSampler::copy_concatenated(size_t position, int64_t offset, KeyedRandom& random, int64_t* out) const {
  int64_t left = options_.span_tokens;
  for (bool first = true; left > 0; first = false, position = (position + 1) % order_.size()) {
    const auto& document = corpus_.documents[static_cast<size_t>(order_[position])];
    const double share = domain_share_[static_cast<size_t>(document.domain)];
    if (!first && share < 1 && random.uniform() >= share) continue;
    const int64_t count = std::min(left, document.length - offset);
    shard(document).read(document.offset + offset, count, out);
    out += count;
    left -= count;
    offset = 0;
  }
}

}  // namespace cepe
