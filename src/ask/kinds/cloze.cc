// Names and numbers left out of sentences of the text, and which document says something.
#include <algorithm>
#include <set>

#include "ask/kinds/draft.h"
#include "ask/sources/sentences.h"
#include "base/error.h"

namespace cepe {
namespace {

constexpr const char* kBlanks[] = {"____", "_____", "[...]", "[blank]", "(?)", "(blank)"};
constexpr const char* kQuestions[] = {
    "Fill in the blank: {0}",
    "What is missing here: \"{0}\"",
    "Complete: {0}",
    "Which word or number belongs in the gap? {0}",
    "What stands in place of {1} in the text? \"{0}\"",
    "\"{0}\" - what is {1}?",
};
constexpr const char* kTitles[] = {
    "Which document says: \"{}\"",
    "In which text does one read \"{}\"?",
    "What is the title of the document with the sentence \"{}\"",
    "From which document is this: {}",
};

struct Gap {
  size_t begin, size;
};

bool is_capital(std::string_view word) { return word.size() > 1 && word[0] >= 'A' && word[0] <= 'Z'; }

std::string_view without_stops(std::string_view word) {
  while (!word.empty() && std::string_view(".,;:!?\"')]").find(word.back()) != std::string_view::npos) {
    word.remove_suffix(1);
  }
  return word;
}

// Names (capitalised words behind the first) and numbers of a sentence.
std::vector<Gap> gaps(std::string_view sentence) {
  std::vector<Gap> found;
  size_t at = sentence.find(' ');
  while (at < sentence.size()) {
    const size_t begin = sentence.find_first_not_of(' ', at);
    if (begin == std::string_view::npos) break;
    size_t end = std::min(sentence.find(' ', begin), sentence.size());
    std::string_view word = sentence.substr(begin, end - begin);
    const bool digits = word.size() > 1 && word[0] >= '0' && word[0] <= '9';
    if (is_capital(word)) {
      // All capitalised words that follow without a stop between.
      while (end < sentence.size() && without_stops(word).size() == word.size()) {
        const size_t next = std::min(sentence.find(' ', end + 1), sentence.size());
        const std::string_view more = sentence.substr(end + 1, next - end - 1);
        if (!is_capital(more)) break;
        word = sentence.substr(begin, next - begin);
        end = next;
      }
    }
    word = without_stops(word);
    if ((digits || is_capital(word)) && word.size() > 1 && count_occurrences(sentence, word) == 1) {
      // "Mrs." is a part of a name.
      const size_t after = begin + word.size();
      const bool whole = after + 1 >= sentence.size() || sentence[after] != '.';
      const bool plain = word.find_first_of("\"()[]{}<>=_|\\") == std::string_view::npos;
      if (plain && whole) found.push_back({begin, word.size()});
    }
    at = end;
  }
  return found;
}

// How many lines have the text of a sentence before and after its gap: two give two answers.
int64_t count_alike(const std::vector<std::string>& lines, std::string_view sentence, const Gap& gap) {
  const std::string_view before = sentence.substr(0, gap.begin), after = sentence.substr(gap.begin + gap.size);
  return std::count_if(lines.begin(), lines.end(), [&](const std::string& line) {
    return line.size() >= before.size() + after.size() && line.starts_with(before) && line.ends_with(after);
  });
}

bool is_prose(std::string_view sentence) {
  const auto words = std::count(sentence.begin(), sentence.end(), ' ') + 1;
  const bool begins = is_capital(sentence.substr(0, 2)) || sentence[0] == '"' || sentence.starts_with("A ");
  return begins && words >= 8 && words <= 45 && sentence.find_first_of("{}<>=|\\_") == std::string_view::npos &&
         std::string_view(".!?\"").find(sentence.back()) != std::string_view::npos;
}

}  // namespace

AskDraft make_cloze(const AskSources& sources, AskRequest& request) {
  constexpr int kTries = 120;
  AskRandom& random = request.random;
  AskDraft draft;
  for (int64_t left = request.tokens(); left > 60;) {
    AskDraw wanted{.validation = request.validation, .tokens = std::min(left, random.log_between(120, 4000))};
    std::vector<AskDocument> more = sources.corpus.draw(random, wanted);
    if (more.empty()) break;
    for (AskDocument& document : more) draft.documents.push_back(std::move(document));
    left -= wanted.tokens;
  }
  if (draft.documents.empty()) return draft;
  std::string all;
  std::set<std::string> titles;
  std::vector<std::vector<std::string_view>> pieces;
  for (const AskDocument& document : draft.documents) {
    all += document.text + "\n";
    titles.insert(document.title);
    pieces.push_back(split_sentences(document.text));
  }
  draft.titles = titles.size() == draft.documents.size() && titles.size() > 1 && !titles.contains("");
  std::vector<std::string> lines;
  for (const auto& of_document : pieces) {
    for (const std::string_view piece : of_document) lines.push_back(on_one_line(piece));
  }
  std::set<std::string> asked;
  const int64_t turns = random.log_between(1, 20);
  for (int i = 0; i < kTries && static_cast<int64_t>(draft.turns.size()) < turns; ++i) {
    const size_t d = static_cast<size_t>(random.below(static_cast<int64_t>(pieces.size())));
    if (pieces[d].empty()) continue;
    const std::string_view raw = trimmed(random.pick(pieces[d]));
    const std::string sentence = on_one_line(raw);
    if (sentence.empty() || !is_prose(sentence) || count_occurrences(all, raw) != 1) continue;
    if (!asked.insert(sentence).second) continue;
    if (draft.titles && random.chance(0.3)) {
      draft.turns.push_back({fmt::format(fmt::runtime(random.pick(kTitles)), sentence), draft.documents[d].title});
      continue;
    }
    const std::vector<Gap> found = gaps(sentence);
    if (found.empty()) continue;
    const Gap gap = random.pick(found);
    if (count_alike(lines, sentence, gap) != 1) continue;
    const std::string blank = random.pick(kBlanks);
    std::string shown = sentence;
    shown.replace(gap.begin, gap.size, blank);
    draft.turns.push_back(
        {fmt::format(fmt::runtime(random.pick(kQuestions)), shown, blank), sentence.substr(gap.begin, gap.size)});
  }
  return draft;
}

}  // namespace cepe
