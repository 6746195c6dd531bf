#include "text/word_hashes.h"

namespace cepe {

std::vector<uint64_t> word_hashes(std::string_view text) {
  std::vector<uint64_t> words;
  uint64_t hash = 0;
  bool inside = false;
  for (size_t i = 0; i <= text.size(); ++i) {
    const auto c = static_cast<unsigned char>(i < text.size() ? text[i] : ' ');
    const bool capital = c >= 'A' && c <= 'Z';
    const bool letter = capital || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c >= 0x80;
    if (letter) {
      if (!inside) hash = 14695981039346656037u;
      hash = (hash ^ (capital ? static_cast<unsigned char>(c - 'A' + 'a') : c)) * 1099511628211u;
    } else if (inside) {
      words.push_back(hash);
    }
    inside = letter;
  }
  return words;
}

}  // namespace cepe
