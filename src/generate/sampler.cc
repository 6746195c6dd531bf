#include "generate/sampler.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace cepe {
namespace {

// A token and its logit after the repetition penalty.
struct Scored {
  TokenId token;
  float logit;
};

bool better(const Scored& a, const Scored& b) { return a.logit != b.logit ? a.logit > b.logit : a.token < b.token; }
bool worse(const Scored& a, const Scored& b) { return better(b, a); }

// The best token; also the check that the logits are numbers.
Scored best_of(std::span<const float> logits) {
  Scored best{-1, 0.0f};
  for (size_t i = 0; i < logits.size(); ++i) {
    require(!std::isnan(logits[i]) && !(std::isinf(logits[i]) && logits[i] > 0),
            "sampling: the logit of token {} is {}, expected a finite number: the weights or the context are damaged",
            i, logits[i]);
    if (best.token < 0 || logits[i] > best.logit) best = {static_cast<TokenId>(i), logits[i]};
  }
  require(best.token >= 0 && std::isfinite(best.logit), "sampling: none of {} logits is finite", logits.size());
  return best;
}

void keep_top_k(size_t k, std::vector<Scored>& tokens) {
  if (k >= tokens.size()) return;
  std::nth_element(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(k) - 1, tokens.end(), better);
  const float least = tokens[k - 1].logit;
  std::erase_if(tokens, [least](const Scored& s) { return s.logit < least; });
}

// Of a logit beside the best one.
uint64_t weight_of(float logit, float best, double temperature) {
  // Relative to the best, so that no temperature however low overflows.
  return static_cast<uint64_t>(std::nearbyint(std::exp((double{logit} - best) / temperature) * kSampleWeightOne));
}

// Keeps a token when those better than it add up to less than p. A heap gives the tokens best first and stops early:
// the kept ones are few beside the vocabulary.
void keep_top_p(double p, double temperature, const Scored& best, std::vector<Scored>& tokens) {
  const auto weight = [&](const Scored& s) { return weight_of(s.logit, best.logit, temperature); };
  uint64_t total = 0, above = 0;
  for (const Scored& s : tokens) total += weight(s);
  const double limit = p * static_cast<double>(total);
  std::make_heap(tokens.begin(), tokens.end(), worse);
  auto heap_end = tokens.end();
  while (heap_end != tokens.begin() && static_cast<double>(above) < limit) {
    std::pop_heap(tokens.begin(), heap_end, worse);
    above += weight(*--heap_end);
  }
  tokens.erase(tokens.begin(), heap_end);
}

}  // namespace

Sampler::Sampler(const SamplerOptions& options) : options_(options) { check_sampler_options(options); }

void Sampler::observe(std::span<const TokenId> tokens) {
  for (const TokenId token : tokens) {
    require(token >= 0, "sampling: token {} is not of a vocabulary", token);
    if (static_cast<size_t>(token) >= seen_.size()) seen_.resize(static_cast<size_t>(token) + 1, false);
    seen_[static_cast<size_t>(token)] = true;
  }
}

std::vector<float> Sampler::penalised(std::span<const float> logits) const {
  std::vector<float> scores(logits.begin(), logits.end());
  if (options_.repetition_penalty == 1.0) return scores;
  const float penalty = static_cast<float>(options_.repetition_penalty);
  for (size_t i = 0; i < std::min(scores.size(), seen_.size()); ++i) {
    if (seen_[i]) scores[i] = scores[i] < 0 ? scores[i] * penalty : scores[i] / penalty;
  }
  return scores;
}

std::vector<Sampler::Weighted> Sampler::weigh(std::span<const float> logits) const {
  const std::vector<float> scores = penalised(logits);
  const Scored best = best_of(scores);
  if (options_.temperature == 0.0) return {{best.token, static_cast<uint64_t>(kSampleWeightOne)}};

  std::vector<Scored> tokens(scores.size());
  for (size_t i = 0; i < scores.size(); ++i) tokens[i] = {static_cast<TokenId>(i), scores[i]};
  if (options_.top_k > 0) keep_top_k(static_cast<size_t>(options_.top_k), tokens);
  if (options_.top_p < 1.0) keep_top_p(options_.top_p, options_.temperature, best, tokens);
  if (options_.top_k > 0 || options_.top_p < 1.0) {
    // The order that a draw walks along must not depend on how a library's selection leaves its elements.
    std::sort(tokens.begin(), tokens.end(), [](const Scored& a, const Scored& b) { return a.token < b.token; });
  }
  std::vector<Weighted> result;
  for (const Scored& s : tokens) {
    const uint64_t weight = weight_of(s.logit, best.logit, options_.temperature);
    if (weight > 0 && static_cast<double>(weight) >= options_.min_p * kSampleWeightOne)
      result.push_back({s.token, weight});
  }
  return result;
}

std::vector<Candidate> Sampler::candidates(std::span<const float> logits) const {
  const std::vector<Weighted> weighted = weigh(logits);
  double total = 0.0;
  for (const Weighted& w : weighted) total += static_cast<double>(w.weight);
  std::vector<Candidate> result;
  for (const Weighted& w : weighted) result.push_back({w.token, static_cast<double>(w.weight) / total});
  return result;
}

TokenId Sampler::sample(std::span<const float> logits) {
  const std::vector<Weighted> choices = weigh(logits);
  TokenId chosen = choices.front().token;
  if (options_.temperature > 0) {
    uint64_t total = 0, sum = 0;
    for (const Weighted& choice : choices) total += choice.weight;
    const uint64_t target = sample_target(options_.seed, draws_++, total);
    for (const Weighted& choice : choices) {
      sum += choice.weight;
      chosen = choice.token;
      if (sum > target) break;
    }
  }
  observe({&chosen, 1});
  return chosen;
}

}  // namespace cepe
