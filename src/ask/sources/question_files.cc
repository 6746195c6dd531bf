#include "ask/sources/question_files.h"

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "ask/sources/sentences.h"
#include "base/error.h"
#include "tasks/questions/question_scores.h"

namespace cepe {
namespace {

// SQuAD writes "New_York_City". Nothing where the file has no title and the reader counted, "article 3".
std::string article_title(std::string article) {
  const std::string_view number = std::string_view(article).substr(std::min<size_t>(article.size(), 8));
  const bool counted = article.starts_with("article ") && !number.empty() &&
                       number.find_first_not_of("0123456789") == std::string_view::npos;
  if (counted) return "";
  std::replace(article.begin(), article.end(), '_', ' ');
  return article;
}

bool is_yes_or_no(const std::string& answer) {
  const std::string plain = normalised_answer(answer);
  return plain == "yes" || plain == "no";
}

// Answers that a gold passage holds come first: those that it holds letter by letter, then those that AnswerFinder
// finds, the shorter before the longer. -> whether there is one.
bool order_answers(AskQuestion& question, const std::vector<Passage>& passages) {
  std::vector<std::pair<int, std::string>> ranked;
  for (std::string& answer : question.answers) {
    const AnswerFinder finder({answer});
    int rank = 2;
    for (const size_t gold : question.gold) {
      const std::string& text = passages[gold].text;
      if (finder.found_in(text)) rank = std::min(rank, text.find(answer) != std::string::npos ? 0 : 1);
    }
    ranked.emplace_back(rank, std::move(answer));
  }
  std::stable_sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first < b.first : a.first < 2 && a.second.size() < b.second.size();
  });
  for (size_t i = 0; i < ranked.size(); ++i) question.answers[i] = std::move(ranked[i].second);
  return ranked.front().first < 2;
}

}  // namespace

QuestionEntry parse_question_entry(const std::string& text) {
  QuestionEntry entry;
  std::istringstream parts(text);
  std::getline(parts, entry.path, ';');
  for (std::string setting; std::getline(parts, setting, ';');) {
    const size_t equals = setting.find('=');
    const std::string key = setting.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : setting.substr(equals + 1);
    if (key == "lines") {
      require(value == "odd" || value == "even", "{}: expected lines=odd or lines=even, found \"{}\"", text, setting);
      entry.choice.lines = value == "odd" ? QuestionChoice::Lines::odd : QuestionChoice::Lines::even;
    } else if (key == "share") {
      char* end = nullptr;
      const double share = std::strtod(value.c_str(), &end);
      require(!value.empty() && *end == '\0' && share > 0, "{}: expected share=NUMBER above 0, found \"{}\"", text,
              setting);
      entry.share = share;
    } else {
      fail("{}: expected lines= or share= after the file's name, found \"{}\"", text, setting);
    }
  }
  return entry;
}

AskQuestionFile read_question_file(const std::string& text, const std::filesystem::path& directory,
                                   QuestionChoice::HotpotQa part) {
  QuestionEntry entry = parse_question_entry(text);
  entry.choice.hotpotqa = part;
  const std::filesystem::path path = directory / entry.path;
  QuestionSet set = read_questions(path, QuestionForm::automatic, entry.choice);
  AskQuestionFile file{entry.share.value_or(1), {}, std::move(set.passages)};
  if (set.form == QuestionForm::squad) {
    for (Passage& passage : file.passages) passage.title = article_title(passage.article);
  }
  for (OpenQuestion& open : set.questions) {
    AskQuestion question{on_one_line(open.question), std::move(open.answers), std::move(open.gold)};
    if (set.form == QuestionForm::answered) {
      question.by_model = true;
      question.instruction = std::move(open.instruction);
      file.questions.push_back(std::move(question));
      continue;
    }
    for (std::string& answer : question.answers) answer = on_one_line(answer);
    std::erase_if(question.answers, [](const std::string& answer) { return answer.empty(); });
    if (question.answers.empty() || question.gold.empty()) continue;
    if (!order_answers(question, file.passages) && !is_yes_or_no(question.answers.front())) continue;
    file.questions.push_back(std::move(question));
  }
  require(!file.questions.empty(), "{}: expected questions with an answer and a passage that answers, found none",
          path.string());
  return file;
}

}  // namespace cepe
