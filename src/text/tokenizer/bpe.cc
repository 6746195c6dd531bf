#include "text/tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>

#include "base/error.h"
#include "text/utf8.h"

namespace cepe {
namespace {

// Printable Latin-1 bytes are themselves; the others follow from U+0100 on, in order.
struct ByteAlphabet {
  std::array<std::string, 256> spelling;
  std::array<int16_t, 0x144> byte;  // by code point; -1: not of the alphabet

  ByteAlphabet() {
    byte.fill(-1);
    char32_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      const char32_t c = printable ? static_cast<char32_t>(b) : next++;
      append_utf8(c, spelling[b]);
      byte[c] = static_cast<int16_t>(b);
    }
  }
};

const ByteAlphabet& alphabet() {
  static const ByteAlphabet instance;
  return instance;
}

// Words of up to this many symbols are scanned for the best merge again and again, longer ones keep a heap: the
// scan costs n^2 but no more than a few loads a symbol. Both give the same tokens.
constexpr size_t kShortWord = 24;

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581

}  // namespace

size_t section_end(std::string_view text, size_t begin) {
  for (size_t at = text.find(kSpace, begin + 1); at != std::string_view::npos; at = text.find(kSpace, at + 1)) {
    const bool after_space = at >= begin + kSpace.size() && text.substr(at - kSpace.size()).starts_with(kSpace);
    if (!after_space) return at;
  }
  return text.size();
}

std::string_view byte_spelling(unsigned char byte) { return alphabet().spelling[byte]; }

std::optional<std::string> bytes_of_spelling(std::string_view token) {
  std::string bytes;
  for (size_t at = 0; at < token.size();) {
    const CodePoint c = code_point_at(token, at);
    if (c.value >= alphabet().byte.size() || alphabet().byte[c.value] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(alphabet().byte[c.value]));
    at += c.size;
  }
  return bytes;
}

std::optional<unsigned char> byte_of_fallback_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  int value = 0;
  for (const char c : token.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    if (digit < 0) return std::nullopt;
    value = value * 16 + digit;
  }
  return static_cast<unsigned char>(value);
}

BpeModel::BpeModel(BpeData data, const std::string& where)
    : byte_level_(data.byte_level),
      ignore_merges_(data.ignore_merges),
      byte_fallback_(data.byte_fallback),
      fuse_unknown_(data.fuse_unknown) {
  TokenId highest = -1;
  for (const auto& [token, id] : data.vocabulary) highest = std::max(highest, id);
  tokens_.resize(static_cast<size_t>(highest) + 1);
  std::vector<bool> used(tokens_.size());
  for (auto& [token, id] : data.vocabulary) {
    require(id >= 0, "{}: token \"{}\" has the id {}", where, token, id);
    if (used[id]) fail("{}: the tokens \"{}\" and \"{}\" have the same id {}", where, tokens_[id], token, id);
    used[id] = true;
    tokens_[id] = std::move(token);
  }
  ids_.reserve(data.vocabulary.size());
  for (size_t id = 0; id < tokens_.size(); ++id) {
    if (used[id] && !ids_.emplace(tokens_[id], id).second) {
      fail("{}: the token \"{}\" occurs twice", where, tokens_[id]);
    }
  }
  byte_ids_.fill(-1);
  fallback_ids_.fill(-1);
  for (int b = 0; b < 256; ++b) {
    if (byte_level_) byte_ids_[b] = find(byte_spelling(static_cast<unsigned char>(b))).value_or(-1);
    fallback_ids_[b] = find(fmt::format("<0x{:02X}>", b)).value_or(-1);
  }
  if (ignore_merges_) {
    for (const auto& [token, id] : ids_) {
      auto raw = byte_level_ ? bytes_of_spelling(token) : std::string(token);
      if (raw) whole_words_.emplace(std::move(*raw), id);
    }
  }
  if (data.unknown_token) {
    const auto id = find(*data.unknown_token);
    require(id.has_value(), "{}: the unknown token \"{}\" is not in the vocabulary", where, *data.unknown_token);
    unknown_id_ = *id;
  }
  add_merges(data, where);
}

std::optional<TokenId> BpeModel::find(std::string_view token) const {
  const auto found = ids_.find(token);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

void BpeModel::add_merges(const BpeData& data, const std::string& where) {
  const size_t slots = std::bit_ceil(2 * data.merges.size() + 2);
  merges_.resize(slots);
  shift_ = 64 - std::countr_zero(slots);
  bool spans_space = false;
  for (size_t rank = 0; rank < data.merges.size(); ++rank) {
    const auto& [left, right] = data.merges[rank];
    const auto id = [&](const std::string& token) {
      const auto found = find(token);
      if (!found) {
        fail("{}: merge {} (\"{}\" \"{}\") needs \"{}\", which is not in the vocabulary", where, rank, left, right,
             token);
      }
      return *found;
    };
    const uint64_t pair = static_cast<uint64_t>(id(left)) << 32 | static_cast<uint32_t>(id(right));
    size_t slot = slot_of(pair);
    while (merges_[slot].pair != kNoPair && merges_[slot].pair != pair) slot = (slot + 1) & (slots - 1);
    // Of two ranks for a pair, the last holds.
    const auto order = data.ranks.empty() ? static_cast<int32_t>(rank) : data.ranks[rank];
    merges_[slot] = {pair, order, id(left + right)};
    spans_space |= section_end(left + right, 0) < left.size() + right.size();
  }
  const bool all_bytes = std::all_of(fallback_ids_.begin(), fallback_ids_.end(), [](TokenId id) { return id >= 0; });
  cuts_at_space_ = !spans_space && !byte_level_ && !ignore_merges_ && byte_fallback_ && all_bytes && find(kSpace);
}

const BpeModel::Merge* BpeModel::find_merge(TokenId left, TokenId right) const {
  const uint64_t pair = static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
  for (size_t slot = slot_of(pair);; slot = (slot + 1) & (merges_.size() - 1)) {
    if (merges_[slot].pair == pair) return &merges_[slot];
    if (merges_[slot].pair == kNoPair) return nullptr;
  }
}

void BpeModel::encode(std::string_view word, BpeScratch& scratch, std::vector<TokenId>& out) const {
  if (ignore_merges_) {
    const auto whole = whole_words_.find(word);
    if (whole != whole_words_.end()) return out.push_back(whole->second);
  }
  scratch.ids.clear();
  to_symbols(word, scratch.ids);
  if (scratch.ids.size() <= kShortWord) {
    merge_short(scratch.ids);
  } else {
    merge_long(scratch);
  }
  out.insert(out.end(), scratch.ids.begin(), scratch.ids.end());
}

// waiting: unknown tokens seen but not yet written (0 or 1); they are written before the next known character.
void BpeModel::unknown(std::string_view character, int& waiting, std::vector<TokenId>& ids) const {
  if (byte_fallback_) {
    const auto id = [this](char c) { return fallback_ids_[static_cast<unsigned char>(c)]; };
    if (std::all_of(character.begin(), character.end(), [&](char c) { return id(c) >= 0; })) {
      for (const char c : character) ids.push_back(id(c));
      return;
    }
  }
  if (unknown_id_ < 0) return;
  if (waiting > 0 && !fuse_unknown_) ids.push_back(unknown_id_);
  waiting = 1;
}

void BpeModel::to_symbols(std::string_view word, std::vector<TokenId>& ids) const {
  int waiting = 0;
  for (size_t at = 0; at < word.size();) {
    size_t size = 1;
    TokenId id;
    if (byte_level_) {
      id = byte_ids_[static_cast<unsigned char>(word[at])];
    } else {
      size = code_point_at(word, at).size;
      id = find(word.substr(at, size)).value_or(-1);
    }
    if (id >= 0) {
      if (waiting > 0) ids.push_back(unknown_id_);
      waiting = 0;
      ids.push_back(id);
    } else {
      unknown(byte_level_ ? byte_spelling(static_cast<unsigned char>(word[at])) : word.substr(at, size), waiting, ids);
    }
    at += size;
  }
  if (waiting > 0) ids.push_back(unknown_id_);
}

void BpeModel::merge_short(std::vector<TokenId>& ids) const {
  std::array<const Merge*, kShortWord> merges{};  // of each symbol with the next
  size_t count = ids.size();
  for (size_t k = 0; k + 1 < count; ++k) merges[k] = find_merge(ids[k], ids[k + 1]);
  while (count > 1) {
    size_t best = count;
    int32_t rank = std::numeric_limits<int32_t>::max();
    for (size_t k = 0; k + 1 < count; ++k) {
      if (merges[k] != nullptr && merges[k]->rank < rank) {
        best = k;
        rank = merges[k]->rank;
      }
    }
    if (best == count) break;
    ids[best] = merges[best]->merged;
    for (size_t k = best + 1; k + 1 < count; ++k) {
      ids[k] = ids[k + 1];
      merges[k] = merges[k + 1];
    }
    --count;
    if (best + 1 < count) merges[best] = find_merge(ids[best], ids[best + 1]);
    if (best > 0) merges[best - 1] = find_merge(ids[best - 1], ids[best]);
  }
  ids.resize(count);
}

void BpeModel::merge_long(BpeScratch& scratch) const {
  auto& [ids, symbols, heap] = scratch;
  const auto count = static_cast<int32_t>(ids.size());
  constexpr TokenId kMerged = -1;  // the symbol is part of the one before
  symbols.clear();
  heap.clear();
  for (int32_t k = 0; k < count; ++k) symbols.push_back({ids[k], k - 1, k + 1 < count ? k + 1 : -1});
  const auto push = [&](int32_t left) {
    if (left < 0 || symbols[left].next < 0) return;
    const Merge* merge = find_merge(symbols[left].id, symbols[symbols[left].next].id);
    if (merge == nullptr) return;
    heap.push_back({merge->rank, left, merge->merged});
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  for (int32_t k = 0; k + 1 < count; ++k) push(k);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const auto [rank, position, merged] = heap.back();
    heap.pop_back();
    auto& left = symbols[position];
    if (left.id == kMerged || left.next < 0) continue;
    auto& right = symbols[left.next];
    const Merge* merge = find_merge(left.id, right.id);
    if (merge == nullptr || merge->merged != merged) continue;  // one of the two has changed since
    left.id = merged;
    left.next = right.next;
    right.id = kMerged;
    if (left.next >= 0) symbols[left.next].previous = position;
    push(left.previous);
    push(position);
  }
  ids.clear();
  for (int32_t k = 0; k >= 0; k = symbols[k].next) ids.push_back(symbols[k].id);
}

}  // namespace cepe
