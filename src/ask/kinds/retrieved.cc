// Running text beside what a search finds for its beginning: passages that help in part, as in language modelling with
// retrieval (eval/retrieval_lm.h).
#include <algorithm>
#include <string_view>

#include "ask/kinds/draft.h"
#include "ask/sources/sentences.h"

namespace cepe {
namespace {

constexpr int64_t kLeastTokens = 64;  // of a text whose end is scored

// Where the query ends: before the white space of a word, or, where there is none, between two characters.
size_t end_of_query(std::string_view text, int64_t tokens, double bytes_a_token) {
  const auto half = static_cast<int64_t>(static_cast<double>(text.size()) / bytes_a_token / 2);
  return first_words(text, static_cast<size_t>(static_cast<double>(std::min(tokens, half)) * bytes_a_token)).size();
}

}  // namespace

AskDraft make_retrieved(const AskSources& sources, AskRequest& request) {
  constexpr int kTries = 8;
  for (int i = 0; i < kTries; ++i) {
    const std::optional<AskPlace> place =
        sources.corpus.draw_place(request.random, {.validation = request.validation, .tokens = request.decoder_tokens});
    if (!place) continue;
    const std::string_view text = sources.corpus.text(*place);
    const double bytes_a_token = sources.corpus.bytes_a_token(place->text);
    if (static_cast<double>(text.size()) < static_cast<double>(kLeastTokens) * bytes_a_token) continue;
    const size_t query = end_of_query(text, request.query_tokens, bytes_a_token);
    if (query == 0) continue;
    AskDraft draft;
    for (const AskPlace& found :
         sources.passages.find({.words = text.substr(0, query), .scored = *place, .validation = request.validation},
                               static_cast<size_t>(request.chunks))) {
      draft.documents.push_back({"", std::string(sources.corpus.text(found))});
    }
    if (draft.documents.empty()) continue;
    draft.plain = draft.passages = true;
    draft.turns.push_back({.question = "",
                           .answer = std::string(text.substr(query)),
                           .wording = std::string(text.substr(0, query)),
                           .joined = true,
                           .open = true});
    return draft;
  }
  return {};
}

}  // namespace cepe
