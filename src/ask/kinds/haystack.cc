#include <algorithm>

#include "ask/kinds/draft.h"
#include "ask/sources/sentences.h"

namespace cepe {
namespace {

// RULER's noise.
constexpr const char* kNoise =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n";
constexpr int64_t kNoiseTokens = 26;

bool ends_with_stop(const std::string& text) {
  return std::string_view(".!?\")>").find(text.back()) != std::string_view::npos;
}

}  // namespace

std::vector<AskDocument> draw_haystack(const AskSources& sources, AskRequest& request, int64_t tokens) {
  constexpr double kNoiseShare = 0.04;
  if (request.random.chance(kNoiseShare)) {
    std::string text;
    for (int64_t i = 0; i < std::max<int64_t>(tokens / kNoiseTokens, 1); ++i) text += kNoise;
    text.pop_back();
    return {{"", std::move(text)}};
  }
  std::vector<AskDocument> documents;
  // One text, or as many as are needed at a random length each.
  const int64_t part =
      request.random.chance(0.7) ? tokens : request.random.log_between(std::min<int64_t>(100, tokens), tokens);
  while (tokens > 40) {
    AskDraw wanted{.validation = request.validation, .tokens = std::min(part, tokens)};
    std::vector<AskDocument> more = sources.corpus.draw(request.random, wanted);
    if (more.empty()) break;
    for (AskDocument& document : more) documents.push_back(std::move(document));
    tokens -= wanted.tokens;
  }
  return documents;
}

std::vector<size_t> hide_statements(std::vector<AskDocument>& documents, const std::vector<std::string>& statements,
                                    AskRandom& random) {
  if (documents.empty()) {
    AskDocument document;
    const bool sentences = std::all_of(statements.begin(), statements.end(), ends_with_stop);
    const std::string separator = sentences && random.chance(0.5) ? " " : "\n";
    for (const std::string& statement : statements) {
      document.text += (document.text.empty() ? "" : separator) + statement;
    }
    documents.push_back(std::move(document));
    return std::vector<size_t>(statements.size(), 0);
  }
  std::vector<std::vector<std::string_view>> pieces;
  std::vector<double> sizes;
  for (const AskDocument& document : documents) {
    pieces.push_back(split_sentences(document.text));
    sizes.push_back(static_cast<double>(document.text.size() + 1));
  }
  // A place: a document and how many of its pieces come before.
  std::vector<std::pair<size_t, size_t>> places;
  for (size_t s = 0; s < statements.size(); ++s) {
    const size_t d = random.weighted(sizes);
    places.emplace_back(d, static_cast<size_t>(random.below(static_cast<int64_t>(pieces[d].size()) + 1)));
  }
  std::sort(places.begin(), places.end());
  size_t next = 0;
  for (size_t d = 0; d < documents.size(); ++d) {
    std::string text;
    for (size_t p = 0; p <= pieces[d].size(); ++p) {
      if (p > 0) text += pieces[d][p - 1];
      // What is no sentence gets a line of its own.
      for (; next < places.size() && places[next] == std::pair(d, p); ++next) {
        const bool own_line = !ends_with_stop(statements[next]);
        const bool space = text.empty() || text.back() == '\n' || (text.back() == ' ' && !own_line);
        text += (space ? "" : own_line ? "\n" : " ") + statements[next];
        const bool end = p == pieces[d].size() && (next + 1 == places.size() || places[next + 1].first != d);
        if (!end) text += own_line || (p > 0 && pieces[d][p - 1].ends_with('\n')) ? "\n" : " ";
      }
    }
    documents[d].text = std::move(text);
  }
  std::vector<size_t> hidden_in;
  for (const auto& [d, p] : places) hidden_in.push_back(d);
  return hidden_in;
}

std::string join_list(const std::vector<std::string>& items, const std::string& and_word) {
  std::string text;
  for (size_t i = 0; i < items.size(); ++i) {
    const bool last = i > 0 && i + 1 == items.size() && !and_word.empty();
    const std::string and_part = (and_word.starts_with(',') ? "" : " ") + and_word + " ";
    text += (i == 0 ? "" : last ? and_part : ", ") + items[i];
  }
  return text;
}

const std::vector<AskKind>& ask_kinds() {
  static const std::vector<AskKind> kinds = {
      {"facts", 5, make_facts},         {"needles", 2.5, make_needles},        {"pairs", 2, make_pairs},
      {"variables", 1, make_variables}, {"recall", 2.5, make_recall},          {"cloze", 1, make_cloze},
      {"natural", 2.5, make_natural},   {"questions", 5, make_file_questions}, {"retrieved", 0, make_retrieved}};
  return kinds;
}

}  // namespace cepe
