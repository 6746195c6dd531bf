#include "text/tokenizer/pretokenizer.h"

#include "text/tokenizer/unicode_additions.h"
#include "text/utf8.h"

namespace cepe {
namespace {

// Turns the sequence of matches and gaps of one stage into pieces, by the stage's behaviour.
template <typename Emit>
class PieceBuilder {
 public:
  PieceBuilder(SplitBehavior behavior, Emit emit) : behavior_(behavior), emit_(emit) {}

  void part(size_t begin, size_t end, bool is_match) {
    switch (behavior_) {
      case SplitBehavior::isolated: emit_(begin, end); return;
      case SplitBehavior::removed:
        if (!is_match) emit_(begin, end);
        return;
      case SplitBehavior::contiguous: join(begin, end, is_match == previous_); break;
      case SplitBehavior::merged_with_previous: join(begin, end, is_match && !previous_); break;
      case SplitBehavior::merged_with_next: join(begin, end, previous_ && !is_match); break;
    }
    previous_ = is_match;
  }

  void finish() {
    if (waiting_) emit_(begin_, end_);
  }

 private:
  void join(size_t begin, size_t end, bool with_previous) {
    if (waiting_ && with_previous) {
      end_ = end;
      return;
    }
    finish();
    begin_ = begin;
    end_ = end;
    waiting_ = true;
  }

  SplitBehavior behavior_;
  Emit emit_;
  bool waiting_ = false, previous_ = false;
  size_t begin_ = 0, end_ = 0;
};

template <typename Part>
void find_digits(std::string_view text, Part part) {
  size_t gap = 0;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    if (is_numeric(c.value)) {
      if (gap < at) part(gap, at, false);
      part(at, at + c.size, true);
      gap = at + c.size;
    }
    at += c.size;
  }
  if (gap < text.size()) part(gap, text.size(), false);
}

template <typename Part>
void find_matches(const Regex& regex, std::string_view original, RegexScratch& scratch, Part part) {
  std::string storage;
  const std::string_view text = with_stand_ins(original, storage);
  size_t gap = 0, from = 0;
  Regex::Match match;
  while (from <= text.size() && regex.search(text, from, scratch, match)) {
    if (gap < match.begin) part(gap, match.begin, false);
    if (match.begin < match.end) part(match.begin, match.end, true);
    gap = from = match.end;
    if (match.begin == match.end) {  // an empty match parts the text; the next search starts a character later
      if (from == text.size()) break;
      from += code_point_at(text, from).size;
    }
  }
  if (gap < text.size()) part(gap, text.size(), false);
}

std::string replace_spaces(std::string_view text, std::string_view replacement) {
  std::string replaced;
  replaced.reserve(text.size() + text.size() / 2);
  for (const char c : text) {
    if (c == ' ') {
      replaced += replacement;
    } else {
      replaced.push_back(c);
    }
  }
  return replaced;
}

}  // namespace

struct PreTokenizer::Cut {
  RegexScratch& scratch;
  WordSink& sink;
};

void PreTokenizer::add_split(Regex regex, SplitBehavior behavior, bool invert) {
  stages_.push_back({Stage::Kind::regex, behavior, invert, std::move(regex), {}});
}

void PreTokenizer::add_digits(bool individual) {
  const auto behavior = individual ? SplitBehavior::isolated : SplitBehavior::contiguous;
  stages_.push_back({Stage::Kind::digits, behavior, false, std::nullopt, {}});
}

void PreTokenizer::add_prefix_space() { stages_.push_back({.kind = Stage::Kind::prefix_space}); }

void PreTokenizer::add_metaspace(Metaspace metaspace) {
  stages_.push_back({Stage::Kind::metaspace, SplitBehavior::merged_with_next, false,
                     Regex::literal(metaspace.replacement), metaspace});
}

void PreTokenizer::split(std::string_view text, bool at_start, RegexScratch& scratch, WordSink& sink) const {
  Cut cut{scratch, sink};
  run(0, text, at_start, cut);
}

void PreTokenizer::run(size_t index, std::string_view piece, bool at_start, Cut& cut) const {
  if (piece.empty()) return;
  if (index == stages_.size()) return cut.sink.word(piece);
  const Stage& stage = stages_[index];
  const auto next = [&](std::string_view part, bool first) { run(index + 1, part, first, cut); };

  std::string changed;  // outlives the pieces that point into it
  if (stage.kind == Stage::Kind::prefix_space) {
    if (piece.front() == ' ') return next(piece, at_start);
    return next(changed.append(1, ' ').append(piece), at_start);
  }
  if (stage.kind == Stage::Kind::metaspace) {
    const auto& [replacement, scheme, split] = stage.metaspace;
    changed = replace_spaces(piece, replacement);
    const bool prepend = scheme == PrependScheme::always || (scheme == PrependScheme::first && at_start);
    if (prepend && !changed.starts_with(replacement)) changed.insert(0, replacement);
    piece = changed;
    if (!split) return next(piece, at_start);
  }
  PieceBuilder builder(stage.behavior, [&](size_t begin, size_t end) {
    next(piece.substr(begin, end - begin), at_start && begin == 0);
  });
  const auto part = [&](size_t begin, size_t end, bool match) { builder.part(begin, end, match != stage.invert); };
  if (stage.kind == Stage::Kind::digits) {
    find_digits(piece, part);
  } else {
    find_matches(*stage.regex, piece, cut.scratch, part);
  }
  builder.finish();
}

}  // namespace cepe
