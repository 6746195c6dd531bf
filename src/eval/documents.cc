#include "eval/documents.h"

#include <unordered_map>

#include "base/error.h"
#include "text/text_file.h"

namespace cepe {
namespace {

constexpr const char* kPlainDomain = "text";

}  // namespace

TokenDocuments read_token_documents(const std::vector<std::filesystem::path>& files, const Tokenizer& tokenizer) {
  TokenDocuments result;
  std::unordered_multimap<size_t, size_t> by_hash;  // of domain and text -> index
  const auto add = [&](TextDocument document) {
    TokenDocument tokens{document.name, document.domain, {}, document.source};
    try {
      tokens.tokens = tokenizer.encode(document.text, {.add_special_tokens = false, .parse_special_tokens = false});
    } catch (const Error& error) {
      fail("{}: {}", document.name, error.what());
    }
    const size_t hash = std::hash<std::string>{}(document.domain + '\0' + document.text);
    const auto [first, last] = by_hash.equal_range(hash);
    for (auto it = first; it != last; ++it) {
      const TokenDocument& earlier = result.documents[it->second];
      if (earlier.domain != tokens.domain || earlier.tokens != tokens.tokens) continue;
      result.notes.push_back(fmt::format("{} is the same text as {} and is left out.", tokens.name, earlier.name));
      return;
    }
    by_hash.emplace(hash, result.documents.size());
    result.documents.push_back(std::move(tokens));
  };
  for (const auto& path : files) read_text_file(path, kPlainDomain, add);
  return result;
}

}  // namespace cepe
