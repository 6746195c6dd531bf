#include "ask/sources/corpus.h"

#include <algorithm>

#include "ask/sources/sentences.h"
#include "base/error.h"
#include "text/text_file.h"

namespace cepe {
namespace {

constexpr size_t kProbeBytes = 4000;  // of a text, to know how many bytes a token takes
constexpr size_t kMaxTitle = 100;

// The first line where it looks like a title: short, without a stop, and followed by an empty line.
std::string title_of(std::string_view text) {
  const size_t end = text.find('\n');
  if (end == std::string_view::npos || end == 0 || end > kMaxTitle || !text.substr(end).starts_with("\n\n")) return "";
  std::string_view line = text.substr(0, end);
  line = trimmed(line.substr(std::min(line.find_first_not_of('#'), line.size())));  // a heading of Markdown
  return line.empty() || std::string_view(".:;,!?").find(line.back()) != std::string_view::npos ? ""
                                                                                                : std::string(line);
}

// The next place from `at` on where a sentence or line begins.
size_t next_beginning(std::string_view text, size_t at) {
  constexpr size_t kFar = 2000;
  while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) ++at;
  const std::vector<std::string_view> pieces = split_sentences(text.substr(at, kFar));
  return pieces.size() < 2 ? at : at + pieces[0].size();
}

}  // namespace

AskCorpus::AskCorpus(const Options& options, const ShingleSet& refused, const Tokenizer& tokenizer)
    : refused_(refused), max_shared_(options.max_shared) {
  if (!options.scratch.empty()) scratch_.emplace(options.scratch);
  for (const auto& file : options.files) read(file, tokenizer);
  keep_whole();
  for (const auto& [name, share] : options.domain_shares) {
    const auto found = domain_index_.find(name);
    require(found != domain_index_.end(), "sources.domains: no text is of the domain \"{}\"", name);
    domains_[found->second].share = share;
  }
  for (const std::string& name : options.encyclopaedic) {
    const auto found = domain_index_.find(name);
    require(found != domain_index_.end(), "sources.encyclopaedic: no text is of the domain \"{}\"", name);
    domains_[found->second].encyclopaedic = true;
  }
}

void AskCorpus::read(const std::filesystem::path& path, const Tokenizer& tokenizer) {
  read_text_file(path, "text", [&](TextDocument document) {
    const auto [entry, fresh] = domain_index_.try_emplace(document.domain, domains_.size());
    if (fresh) domains_.push_back({document.domain});
    Domain& domain = domains_[entry->second];
    Text text{title_of(document.text), {}};
    bytes_ += static_cast<int64_t>(document.text.size());
    const std::string_view probe = first_words(document.text, kProbeBytes);
    const size_t tokens = tokenizer.encode(probe, {.parse_special_tokens = false}).size();
    text.bytes_a_token = static_cast<double>(probe.size()) / static_cast<double>(std::max<size_t>(tokens, 1));
    // The first documents of a domain: one for each use, so that small corpora have both.
    const size_t place = domain.training.size() + domain.validation.size();
    text.domain = entry->second;
    text.validation = place % kValidationPart == 1;
    (text.validation ? domain.validation : domain.training).push_back(texts_.size());
    texts_.push_back(std::move(text));
    keep(std::move(document.text));
  });
}

void AskCorpus::keep(std::string text) {
  if (scratch_) {
    scratch_->write(text);
    sizes_.push_back(text.size());
  } else {
    held_.push_back(std::move(text));
    texts_.back().text = held_.back();
  }
}

// The texts of the file, now that it can be mapped.
void AskCorpus::keep_whole() {
  if (!scratch_) return;
  std::string_view rest = scratch_->map();
  for (size_t i = 0; i < texts_.size(); ++i) {
    texts_[i].text = rest.substr(0, sizes_[i]);
    rest.remove_prefix(sizes_[i]);
  }
}

bool AskCorpus::has(const AskDraw& wanted) const {
  return std::any_of(domains_.begin(), domains_.end(), [&](const Domain& domain) {
    return (domain.encyclopaedic || !wanted.encyclopaedic) && domain.share > 0 &&
           !(wanted.validation ? domain.validation : domain.training).empty();
  });
}

size_t AskCorpus::draw_text(AskRandom& random, const AskDraw& wanted) const {
  std::vector<double> shares;
  for (const Domain& domain : domains_) {
    const bool there = !(wanted.validation ? domain.validation : domain.training).empty();
    shares.push_back(there && (domain.encyclopaedic || !wanted.encyclopaedic) ? domain.share : 0);
  }
  const Domain& domain = domains_[random.weighted(shares)];
  const auto& texts = wanted.validation ? domain.validation : domain.training;
  return random.pick(texts);
}

AskPlace AskCorpus::excerpt(size_t number, AskRandom& random, const AskDraw& wanted) const {
  const Text& text = texts_[number];
  const std::string_view all = text.text;
  const auto bytes = static_cast<size_t>(static_cast<double>(wanted.tokens) * text.bytes_a_token);
  size_t begin = 0;
  if (!wanted.encyclopaedic && all.size() > bytes + bytes / 8) {
    begin = next_beginning(all, static_cast<size_t>(random.below(static_cast<int64_t>(all.size() - bytes))));
  }
  std::string_view piece = first_words(all.substr(begin), bytes);
  if (piece.size() < all.size() - begin) {
    // Up to the end of the last whole sentence, where that does not take too much.
    const std::vector<std::string_view> pieces = split_sentences(piece);
    if (pieces.size() > 1 && pieces.back().size() < piece.size() / 4) piece.remove_suffix(pieces.back().size());
  }
  if (begin == 0 && !text.title.empty()) piece.remove_prefix(std::min(piece.size(), piece.find('\n') + 1));
  // Empty lines at the beginning go, the indentation of the first line stays.
  while (piece.starts_with('\n')) piece.remove_prefix(1);
  while (!piece.empty() && std::string_view(" \n\t").find(piece.back()) != std::string_view::npos) {
    piece.remove_suffix(1);
  }
  return {number, static_cast<size_t>(piece.data() - all.data()), piece.size()};
}

std::optional<AskPlace> AskCorpus::draw_place(AskRandom& random, const AskDraw& wanted) const {
  if (!has(wanted)) return std::nullopt;
  const size_t number = draw_text(random, wanted);
  const AskPlace place = excerpt(number, random, wanted);
  if (place.size == 0) return std::nullopt;
  if (is_refused(text(place))) {
    ++refused_count_;
    return std::nullopt;
  }
  return place;
}

std::vector<AskDocument> AskCorpus::draw(AskRandom& random, const AskDraw& wanted) const {
  constexpr int kTries = 24;
  std::vector<AskDocument> documents;
  if (!has(wanted)) return documents;
  int64_t left = wanted.tokens;
  const int64_t enough = std::max<int64_t>(wanted.tokens / 10, 24);
  for (int tries = 0; tries < kTries && left > enough; ++tries) {
    AskDraw part = wanted;
    part.tokens = left;
    const std::optional<AskPlace> place = draw_place(random, part);
    if (!place) continue;
    left -= static_cast<int64_t>(static_cast<double>(place->size) / bytes_a_token(place->text)) + 1;
    documents.push_back({texts_[place->text].title, std::string(text(*place))});
  }
  return documents;
}

}  // namespace cepe
