#include "generate/expand.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <span>

#include "base/error.h"
#include "context/encode_context.h"
#include "generate/context_mass.h"
#include "text/rank_fusion.h"

namespace cepe {
namespace {

// The places of values, the greatest first; ties by place.
std::vector<int64_t> in_order(const std::vector<double>& values) {
  std::vector<int64_t> order(values.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)];
  });
  return order;
}

std::string trimmed(const std::string& text) {
  constexpr const char* kBlank = " \t\r\n";
  const size_t first = text.find_first_not_of(kBlank);
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

// What has more tokens than a prompt may have is not tried as text.
void drop_what_cannot_fit(const Context& context, int64_t room, std::vector<int64_t>& best) {
  const auto fits = [&, sum = int64_t{0}](int64_t number) mutable {
    sum += std::ssize(context.chunks[static_cast<size_t>(number)].tokens);
    return sum <= room;
  };
  best.erase(std::find_if_not(best.begin(), best.end(), fits), best.end());
}

// Spells special tokens so that they are text wherever special tokens are parsed.
std::string without_special_tokens(const Tokenizer& tokenizer, std::string text) {
  for (;;) {
    const std::vector<TokenId> parsed = tokenizer.encode(text);
    if (parsed == tokenizer.encode(text, {.parse_special_tokens = false})) return text;
    const auto special = std::find_if(parsed.begin(), parsed.end(), [&](TokenId id) {
      return tokenizer.decode(std::span(&id, 1)).empty() && text.find(tokenizer.token_text(id)) != std::string::npos;
    });
    if (special == parsed.end()) return text;
    const std::string spelling = tokenizer.token_text(*special);
    for (size_t at = text.find(spelling); at != std::string::npos; at = text.find(spelling, at + 2))
      text.insert(at + 1, 1, ' ');
  }
}

// Whether a chunk goes on where the one before it ends.
bool goes_on(const ContextChunk& before, const ContextChunk& chunk) {
  return before.source.document == chunk.source.document &&
         before.source.first_token + std::ssize(before.tokens) == chunk.source.first_token;
}

// The most tokens of a neighbour that complete a sentence.
constexpr int64_t kSentenceTokens = 128;

// Whether a sentence or a line ends with token i: a line break, or a full stop, question or exclamation mark before
// white space or the end.
bool ends_sentence(const Tokenizer& tokenizer, std::span<const TokenId> tokens, size_t i) {
  const std::string own = tokenizer.decode(tokens.subspan(i, 1));
  if (own.find('\n') != std::string::npos) return true;
  const size_t last = own.find_last_not_of("\"')]*_ ");
  if (last == std::string::npos || std::string_view(".!?").find(own[last]) == std::string_view::npos) return false;
  if (i + 1 == tokens.size()) return true;
  const std::string both = tokenizer.decode(tokens.subspan(i, 2));
  return both.size() > own.size() && std::string_view(" \t\r\n").find(both[own.size()]) != std::string_view::npos;
}

// How many tokens of a chunk after another one complete the sentence that the border cuts; 0: it cuts none, or the
// sentence ends too far away.
int64_t tokens_to_end(const Tokenizer& tokenizer, const ContextChunk& chunk, const ContextChunk& after, bool last) {
  std::vector<TokenId> tokens{chunk.tokens.back()};
  tokens.insert(tokens.end(), after.tokens.begin(), after.tokens.end());
  const auto most = std::min<int64_t>(kSentenceTokens, std::ssize(after.tokens));
  for (int64_t i = 0; i <= most; ++i) {
    if (ends_sentence(tokenizer, tokens, static_cast<size_t>(i))) return i;
  }
  return last && std::ssize(after.tokens) <= kSentenceTokens ? std::ssize(after.tokens) : 0;
}

// The same of a chunk before another one.
int64_t tokens_from_begin(const Tokenizer& tokenizer, const ContextChunk& before, const ContextChunk& chunk) {
  std::vector<TokenId> tokens = before.tokens;
  tokens.push_back(chunk.tokens.front());
  const auto most = std::min<int64_t>(kSentenceTokens, std::ssize(before.tokens) - 1);
  for (int64_t i = 0; i <= most; ++i) {
    if (ends_sentence(tokenizer, tokens, static_cast<size_t>(std::ssize(before.tokens) - 1 - i))) return i;
  }
  return before.source.first_token == 0 && std::ssize(before.tokens) <= kSentenceTokens ? std::ssize(before.tokens) : 0;
}

// Tokens of chunks, by their numbers: all of those that are wanted, and what completes the sentences that their borders
// cut, at the beginning or at the end of others, if they are to be completed.
std::map<int64_t, std::vector<TokenRange>> with_whole_sentences(const Tokenizer& tokenizer, const Context& context,
                                                                std::span<const int64_t> wanted, Borders borders) {
  std::map<int64_t, std::vector<TokenRange>> ranges;
  const auto chunk = [&](int64_t number) -> const ContextChunk& {
    return context.chunks.at(static_cast<size_t>(number));
  };
  for (const int64_t number : wanted) ranges[number] = {{0, std::ssize(chunk(number).tokens)}};
  if (borders == Borders::cut) return ranges;
  const auto is_wanted = [&](int64_t number) {
    return std::find(wanted.begin(), wanted.end(), number) != wanted.end();
  };
  const auto next = [&](int64_t number) {  // whether a chunk goes on in the one after it
    return number >= 0 && number + 1 < std::ssize(context.chunks) && goes_on(chunk(number), chunk(number + 1));
  };
  for (const int64_t number : wanted) {
    if (next(number) && !is_wanted(number + 1)) {
      const int64_t count = tokens_to_end(tokenizer, chunk(number), chunk(number + 1), !next(number + 1));
      if (count > 0) ranges[number + 1].insert(ranges[number + 1].begin(), {0, count});
    }
    if (next(number - 1) && !is_wanted(number - 1)) {
      const int64_t count = tokens_from_begin(tokenizer, chunk(number - 1), chunk(number));
      if (count > 0) ranges[number - 1].push_back({std::ssize(chunk(number - 1).tokens) - count, count});
    }
  }
  for (auto& [number, parts] : ranges) {  // a beginning and an end that meet are all of the chunk
    if (parts.size() == 2 && parts[0].count >= parts[1].first) parts = {{0, std::ssize(chunk(number).tokens)}};
  }
  return ranges;
}

std::vector<ChunkPlace> places(const Context& context, const std::vector<int64_t>& chunks) {
  std::vector<ChunkPlace> list;
  for (const int64_t number : chunks) {
    const ContextChunk& chunk = context.chunks[static_cast<size_t>(number)];
    list.push_back({number, chunk.source, std::ssize(chunk.tokens)});
  }
  return list;
}

}  // namespace

const char* expand_by_name(ExpandBy by) {
  switch (by) {
    case ExpandBy::words: return "words";
    case ExpandBy::mass: return "mass";
    case ExpandBy::both: return "both";
  }
  return "";
}

ExpandBy expand_by_from_name(std::string_view name, std::string_view option) {
  for (const ExpandBy by : {ExpandBy::words, ExpandBy::mass, ExpandBy::both}) {
    if (name == expand_by_name(by)) return by;
  }
  fail("{}: expected words, mass or both, found \"{}\"", option, name);
}

const Bm25Index& Expander::words_of(const std::shared_ptr<const Context>& context) {
  if (indexed_.lock() != context) {
    words_ = {};
    whole_.reset();
    for (const ContextChunk& chunk : context->chunks) words_.add(opened_.tokenizer->decode(chunk.tokens));
    indexed_ = context;
  }
  return words_;
}

std::vector<int64_t> Expander::best_chunks(const std::shared_ptr<const Context>& context, const std::string& words,
                                           std::span<const TokenId> prompt) {
  const size_t all = context->chunks.size();
  std::vector<std::vector<int64_t>> rankings;
  if (options_.by != ExpandBy::mass) {
    const std::vector<size_t> found = words_of(context).search(words, all);
    rankings.emplace_back(found.begin(), found.end());
  }
  require(options_.by == ExpandBy::words || context->encoded(),
          "expand: a context without states is searched by words, found {}", expand_by_name(options_.by));
  if (options_.by != ExpandBy::words)
    rankings.push_back(in_order(chunk_masses(opened_.model, {prompt, *context, /*last=*/0})));
  std::vector<int64_t> best;
  for (const auto& [number, score] : fuse_rankings(rankings)) best.push_back(number);
  best.resize(std::min(best.size(), static_cast<size_t>(std::max(options_.chunks, options_.top))));
  return best;
}

// What the decoder reads of the context, with its states.
std::shared_ptr<const Context> Expander::read_of(const std::shared_ptr<const Context>& context,
                                                 std::vector<int64_t> best) {
  const bool all = options_.top == 0 || best.empty();
  if (all && context->encoded()) return context;
  if (all && whole_) return whole_;  // of this context: its words were looked for just now
  best.resize(all ? context->chunks.size() : std::min(best.size(), static_cast<size_t>(options_.top)));
  if (all) std::iota(best.begin(), best.end(), int64_t{0});
  std::sort(best.begin(), best.end());
  auto read = std::make_shared<const Context>(
      context->encoded()
          ? select(*context, best)
          : encode_selected(opened_.model, *context, best, {.int8 = options_.int8, .progress = options_.progress}));
  if (all) whole_ = read;
  return read;
}

ExpandedPrompt Expander::expand(const std::shared_ptr<const Context>& context, const ExpandQuestion& question) {
  ExpandedPrompt plain{question.prompt(""), {}, context};
  if (!options_.any() || !context || context->chunks.empty()) return plain;
  std::vector<int64_t> best = best_chunks(context, question.words, plain.tokens);
  plain.context = read_of(context, best);
  best.resize(std::min(best.size(), static_cast<size_t>(options_.chunks)));
  drop_what_cannot_fit(*context, question.room, best);
  for (; !best.empty(); best.pop_back()) {
    std::vector<int64_t> chunks = best;
    std::sort(chunks.begin(), chunks.end());
    for (const Borders borders : {Borders::completed, Borders::cut}) {
      std::vector<TokenId> tokens = question.prompt(text_of_chunks(*opened_.tokenizer, *context, chunks, borders));
      if (std::ssize(tokens) <= question.room) return {std::move(tokens), places(*context, chunks), plain.context};
    }
  }
  return plain;
}

std::string text_of_chunks(const Tokenizer& tokenizer, const Context& context, std::span<const int64_t> chunks,
                           Borders borders) {
  std::string text;
  std::vector<TokenId> run;
  const ContextChunk* before = nullptr;
  bool open = false;  // the run goes to the end of `before`
  const auto end_run = [&] {
    const std::string words = trimmed(tokenizer.decode(run));
    if (!words.empty()) text += (text.empty() ? "" : "\n\n") + words;
    run.clear();
  };
  for (const auto& [number, ranges] : with_whole_sentences(tokenizer, context, chunks, borders)) {
    const ContextChunk& chunk = context.chunks[static_cast<size_t>(number)];
    for (const TokenRange& range : ranges) {
      if (!open || range.first > 0 || !goes_on(*before, chunk)) end_run();
      const auto first = chunk.tokens.begin() + range.first;
      run.insert(run.end(), first, first + range.count);
      open = range.first + range.count == std::ssize(chunk.tokens);
      before = &chunk;
    }
  }
  end_run();
  return without_special_tokens(tokenizer, std::move(text));
}

}  // namespace cepe
