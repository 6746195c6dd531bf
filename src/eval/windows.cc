#include "eval/windows.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "base/error.h"
#include "base/random.h"
#include "base/report.h"

namespace cepe {

std::string tokens_text(int64_t count) { return format_count(static_cast<uint64_t>(count)); }

namespace {

int64_t length(const TokenDocument& document) { return static_cast<int64_t>(document.tokens.size()); }

int64_t needed(const WindowOptions& options) { return options.longest_context + options.decoder_tokens + 1; }

// How many windows of each document are used: one each in turn, as long as it has room. When fewer are left than
// documents with room, they go to documents spread evenly over the list.
std::vector<int64_t> deal_out(const std::vector<int64_t>& room, int64_t limit) {
  int64_t left = std::accumulate(room.begin(), room.end(), int64_t{0});
  if (limit > 0) left = std::min(left, limit);
  std::vector<int64_t> counts(room.size(), 0);
  while (left > 0) {
    std::vector<size_t> open;
    for (size_t i = 0; i < room.size(); ++i) {
      if (counts[i] < room[i]) open.push_back(i);
    }
    const auto size = static_cast<int64_t>(open.size());
    const int64_t round = std::min(left, size);
    for (int64_t i = 0; i < round; ++i) ++counts[open[static_cast<size_t>((2 * i + 1) * size / (2 * round))]];
    left -= round;
  }
  return counts;
}

// The longest context of another document, at a pseudo-random place. `pool`: documents that hold it, the window's own
// among them. None where the pool has no other.
std::optional<ContextPlace> choose_other(const Window& window, const std::vector<size_t>& pool,
                                         const std::vector<TokenDocument>& documents, int64_t longest_context) {
  if (pool.size() < 2) return std::nullopt;
  const auto own = std::find(pool.begin(), pool.end(), window.document) - pool.begin();
  const uint64_t random = splitmix64(splitmix64(window.document) ^ static_cast<uint64_t>(window.start));
  const auto step = static_cast<size_t>(random % (pool.size() - 1)) + 1;
  const size_t other = pool[(static_cast<size_t>(own) + step) % pool.size()];
  const int64_t places = length(documents[other]) - longest_context + 1;
  return ContextPlace{other,
                      longest_context + static_cast<int64_t>(splitmix64(random) % static_cast<uint64_t>(places))};
}

DomainWindows place_in_domain(const std::vector<TokenDocument>& documents, const std::vector<size_t>& members,
                              const WindowOptions& options) {
  DomainWindows result;
  std::vector<size_t> scored, pool;
  std::map<std::string, std::vector<size_t>> pool_of_source;
  std::vector<int64_t> room;
  for (size_t index : members) {
    const TokenDocument& document = documents[index];
    if (length(document) >= std::max<int64_t>(1, options.longest_context)) {
      pool.push_back(index);
      if (!document.source.empty()) pool_of_source[document.source].push_back(index);
    }
    const int64_t spare = length(document) - needed(options);
    if (spare < 0) continue;
    scored.push_back(index);
    room.push_back(spare / options.stride + 1);
  }
  const std::vector<int64_t> counts = deal_out(room, options.windows);
  for (size_t d = 0; d < scored.size(); ++d) {
    if (counts[d] == 0) continue;
    ++result.documents;
    const TokenDocument& document = documents[scored[d]];
    const int64_t spare = length(document) - needed(options);
    for (int64_t i = 0; i < counts[d]; ++i) {
      const int64_t offset = counts[d] == 1 ? spare / 2 : spare * i / (counts[d] - 1);
      Window window{scored[d], options.longest_context + offset, std::nullopt, std::nullopt};
      window.other = choose_other(window, pool, documents, options.longest_context);
      if (const auto same = pool_of_source.find(document.source); same != pool_of_source.end()) {
        window.same_source = choose_other(window, same->second, documents, options.longest_context);
      }
      result.windows.push_back(window);
    }
  }
  return result;
}

std::string too_short(const std::vector<TokenDocument>& documents, const std::vector<size_t>& members,
                      const WindowOptions& options) {
  const size_t longest = *std::max_element(
      members.begin(), members.end(), [&](size_t a, size_t b) { return length(documents[a]) < length(documents[b]); });
  return fmt::format(
      "the longest document, {}, has {} tokens, and a window needs {}: {} of context, {} of the decoder and 1 "
      "to predict",
      documents[longest].name, tokens_text(length(documents[longest])), tokens_text(needed(options)),
      tokens_text(options.longest_context), tokens_text(options.decoder_tokens));
}

}  // namespace

WindowPlan place_windows(const std::vector<TokenDocument>& documents, const WindowOptions& options) {
  require(!documents.empty(), "there is no text to evaluate on");
  require(options.stride > 0, "the stride of windows must be positive, found {}", options.stride);
  std::vector<std::string> names;
  std::vector<std::vector<size_t>> members;
  for (size_t i = 0; i < documents.size(); ++i) {
    const size_t at = static_cast<size_t>(std::find(names.begin(), names.end(), documents[i].domain) - names.begin());
    if (at == names.size()) {
      names.push_back(documents[i].domain);
      members.emplace_back();
    }
    members[at].push_back(i);
  }
  WindowPlan plan;
  for (size_t d = 0; d < names.size(); ++d) {
    DomainWindows placed = place_in_domain(documents, members[d], options);
    placed.domain = names[d];
    if (placed.windows.empty()) {
      plan.notes.push_back(fmt::format("{} is left out: {}.", names[d], too_short(documents, members[d], options)));
    } else {
      plan.domains.push_back(std::move(placed));
    }
  }
  if (plan.domains.empty()) {
    std::vector<size_t> all(documents.size());
    std::iota(all.begin(), all.end(), size_t{0});
    fail("the text is shorter than a window: {}", too_short(documents, all, options));
  }
  return plan;
}

}  // namespace cepe
