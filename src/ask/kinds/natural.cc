// Questions by patterns about articles and passages.
#include <map>
#include <set>

#include "ask/kinds/draft.h"
#include "ask/kinds/patterns.h"

namespace cepe {
namespace {

// Articles, each from its beginning, at lengths that vary.
std::vector<AskDocument> draw_articles(const AskSources& sources, AskRequest& request) {
  std::vector<AskDocument> documents;
  std::set<std::string> titles;
  int64_t left = request.tokens();
  for (int tries = 0; tries < 200 && left > 50; ++tries) {
    AskDraw wanted{.validation = request.validation, .encyclopaedic = true};
    wanted.tokens = std::min(left, request.random.log_between(150, 3000));
    std::vector<AskDocument> more = sources.corpus.draw(request.random, wanted);
    if (more.empty()) break;
    AskDocument& document = more.front();
    left -= wanted.tokens;
    if (!document.title.empty() && titles.insert(document.title).second) documents.push_back(std::move(document));
  }
  return documents;
}

// Passages of question files.
std::vector<AskDocument> draw_passages(const AskSources& sources, AskRequest& request) {
  std::vector<AskDocument> documents;
  const std::vector<size_t>& passages = sources.questions.drawable(request.validation);
  std::set<std::string> titles;
  int64_t left = request.tokens();
  for (int tries = 0; tries < 400 && !passages.empty() && left > 50; ++tries) {
    const Passage& passage = sources.questions.passages()[request.random.pick(passages)];
    const auto tokens = static_cast<int64_t>(passage.text.size() / 4);
    if (passage.title.empty() || tokens > left || !titles.insert(passage.title).second) continue;
    left -= std::max(tokens, request.chunk_length / 2);
    documents.push_back({passage.title, passage.text});
  }
  return documents;
}

}  // namespace

AskDraft make_natural(const AskSources& sources, AskRequest& request) {
  constexpr size_t kMostTurns = 24;
  AskDraft draft;
  draft.titles = true;
  const bool articles = sources.corpus.has({.validation = request.validation, .encyclopaedic = true});
  const bool passages =
      !sources.questions.drawable(request.validation).empty() && (request.random.chance(0.4) || !articles);
  draft.documents = passages ? draw_passages(sources, request) : draw_articles(sources, request);
  std::map<std::string, std::set<std::string>> answers;
  for (const AskDocument& document : draft.documents) {
    for (AskTurn& turn : questions_about(document.title, document.text)) {
      answers[turn.question].insert(turn.answer);
      draft.turns.push_back(std::move(turn));
    }
  }
  std::erase_if(draft.turns, [&](const AskTurn& turn) { return answers[turn.question].size() > 1; });
  request.random.shuffle(draft.turns);
  if (draft.turns.size() > kMostTurns) draft.turns.resize(kMostTurns);
  return draft;
}

}  // namespace cepe
