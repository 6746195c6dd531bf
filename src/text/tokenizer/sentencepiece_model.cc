#include "text/tokenizer/sentencepiece_model.h"

#include <cstdint>
#include <cstring>

#include "base/error.h"

namespace cepe {
namespace {

enum WireType { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

// The fields of a message one after another.
class FieldReader {
 public:
  FieldReader(std::string_view message, const std::string& where) : rest_(message), where_(where) {}

  bool next() {
    if (rest_.empty()) return false;
    const uint64_t tag = varint();
    number = static_cast<int>(tag >> 3);
    switch (tag & 7) {
      case kVarint: value = varint(); break;
      case kFixed64: take(8); break;
      case kBytes: bytes = take(varint()); break;
      case kFixed32: {
        const std::string_view bits = take(4);
        std::memcpy(&real, bits.data(), 4);  // little-endian, as the machines that cepe runs on
        break;
      }
      default: fail("{}: the SentencePiece model has a field of the unknown wire type {}", where_, tag & 7);
    }
    return true;
  }

  int number = 0;
  uint64_t value = 0;
  float real = 0;
  std::string_view bytes;

 private:
  uint64_t varint() {
    uint64_t result = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      result |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return result;
    }
    fail("{}: the SentencePiece model has a number without an end", where_);
  }
  std::string_view take(uint64_t size) {
    require(size <= rest_.size(), "{}: the SentencePiece model ends inside a field", where_);
    const std::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }
  std::string_view rest_;
  const std::string& where_;
};

class FieldWriter {
 public:
  void number(int field, uint64_t value) {
    varint(static_cast<uint64_t>(field) << 3 | kVarint);
    varint(value);
  }
  void bytes(int field, std::string_view value) {
    varint(static_cast<uint64_t>(field) << 3 | kBytes);
    varint(value.size());
    out += value;
  }
  void real(int field, float value) {
    varint(static_cast<uint64_t>(field) << 3 | kFixed32);
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    for (int k = 0; k < 4; ++k) out.push_back(static_cast<char>(bits >> (8 * k)));
  }
  std::string out;

 private:
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
    out.push_back(static_cast<char>(value));
  }
};

// Field numbers of ModelProto, SentencePiece, TrainerSpec and NormalizerSpec.
constexpr int kPieces = 1, kTrainerSpec = 2, kNormalizerSpec = 3;
constexpr int kPiece = 1, kScore = 2, kType = 3;
constexpr int kModelType = 3, kModelTypeBpe = 2, kSpaceAsSuffix = 24, kByteFallback = 35;
constexpr int kUnknownId = 40, kBosId = 41, kEosId = 42, kPadId = 43;
constexpr int kUnknownPiece = 45, kBosPiece = 46, kEosPiece = 47;
constexpr int kName = 1, kCharsMap = 2, kAddDummyPrefix = 3, kRemoveExtraWhitespaces = 4, kEscapeWhitespaces = 5;

}  // namespace

SentencePieceModel parse_sentencepiece_model(std::string_view serialized, const std::string& where) {
  SentencePieceModel model;
  for (FieldReader field(serialized, where); field.next();) {
    if (field.number == kPieces) {
      auto& piece = model.pieces.emplace_back();
      for (FieldReader inner(field.bytes, where); inner.next();) {
        if (inner.number == kPiece) piece.text = inner.bytes;
        if (inner.number == kScore) piece.score = inner.real;
        if (inner.number == kType) piece.type = static_cast<int>(inner.value);
      }
    } else if (field.number == kTrainerSpec) {
      for (FieldReader inner(field.bytes, where); inner.next();) {
        if (inner.number == kModelType) model.bpe = inner.value == kModelTypeBpe;
        if (inner.number == kByteFallback) model.byte_fallback = inner.value != 0;
        if (inner.number == kSpaceAsSuffix) model.space_as_suffix = inner.value != 0;
      }
    } else if (field.number == kNormalizerSpec) {
      for (FieldReader inner(field.bytes, where); inner.next();) {
        if (inner.number == kCharsMap) model.normalizes = !inner.bytes.empty();
        if (inner.number == kAddDummyPrefix) model.dummy_prefix = inner.value != 0;
        if (inner.number == kRemoveExtraWhitespaces) model.remove_extra = inner.value != 0;
        if (inner.number == kEscapeWhitespaces) model.escape_spaces = inner.value != 0;
      }
    }
  }
  return model;
}

// A message may hold a field twice; what comes later is merged into what came before.
std::string without_dummy_prefix(std::string serialized) {
  FieldWriter normalizer, model;
  normalizer.number(kAddDummyPrefix, 0);
  model.bytes(kNormalizerSpec, normalizer.out);
  return std::move(serialized) + model.out;
}

std::string sentencepiece_model(const GgufVocabulary& vocabulary) {
  const size_t count = vocabulary.tokens.size();
  require(vocabulary.scores.size() == count, "{}: the vocabulary has {} tokens but {} scores", vocabulary.where, count,
          vocabulary.scores.size());
  require(vocabulary.token_types.size() == count, "{}: the vocabulary has {} tokens but {} token types",
          vocabulary.where, count, vocabulary.token_types.size());
  FieldWriter model, trainer, normalizer;
  trainer.number(kModelType, kModelTypeBpe);
  trainer.number(kByteFallback, 1);
  for (size_t id = 0; id < count; ++id) {
    const int32_t type = vocabulary.token_types[id];
    require(type >= SentencePieceModel::normal && type <= SentencePieceModel::byte,
            "{}: token {} of the vocabulary has the unknown type {}", vocabulary.where, id, type);
    FieldWriter piece;
    piece.bytes(kPiece, vocabulary.tokens[id]);
    piece.real(kScore, vocabulary.scores[id]);
    piece.number(kType, static_cast<uint64_t>(type));
    model.bytes(kPieces, piece.out);
    if (type == SentencePieceModel::unknown) {
      trainer.number(kUnknownId, id);
      trainer.bytes(kUnknownPiece, vocabulary.tokens[id]);
    }
  }
  const auto special = [&](const std::optional<TokenId>& id, int id_field, int piece_field) {
    if (!id) return;
    trainer.number(id_field, static_cast<uint64_t>(*id));
    trainer.bytes(piece_field, vocabulary.tokens[*id]);
  };
  special(vocabulary.bos, kBosId, kBosPiece);
  special(vocabulary.eos, kEosId, kEosPiece);
  trainer.number(kPadId, ~uint64_t{0});  // -1: none
  normalizer.bytes(kName, "identity");
  normalizer.number(kAddDummyPrefix, vocabulary.add_space_prefix ? 1 : 0);
  normalizer.number(kRemoveExtraWhitespaces, 0);
  normalizer.number(kEscapeWhitespaces, 1);
  model.bytes(kTrainerSpec, trainer.out);
  model.bytes(kNormalizerSpec, normalizer.out);
  return std::move(model.out);
}

}  // namespace cepe
