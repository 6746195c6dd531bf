#include "ask/sources/question_files.h"

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "ask/sources/sentences.h"
#include "base/error.h"

namespace cepe {
namespace {

struct Entry {
  std::string path;
  QuestionChoice choice;
  double share = 1;
};

Entry parse_entry(const std::string& text) {
  Entry entry;
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
      entry.share = std::strtod(value.c_str(), &end);
      require(!value.empty() && *end == '\0' && entry.share > 0, "{}: expected share=NUMBER above 0, found \"{}\"",
              text, setting);
    } else {
      fail("{}: expected lines= or share= after the file's name, found \"{}\"", text, setting);
    }
  }
  return entry;
}

// SQuAD writes "New_York_City".
std::string article_title(std::string article) {
  std::replace(article.begin(), article.end(), '_', ' ');
  return article;
}

// The shortest answer that a gold passage holds comes first.
void order_answers(AskQuestion& question, const std::vector<Passage>& passages) {
  const auto stands = [&](const std::string& answer) {
    return std::any_of(question.gold.begin(), question.gold.end(),
                       [&](size_t g) { return passages[g].text.find(answer) != std::string::npos; });
  };
  std::stable_sort(question.answers.begin(), question.answers.end(), [&](const auto& a, const auto& b) {
    const bool a_stands = stands(a), b_stands = stands(b);
    return a_stands != b_stands ? a_stands : a_stands && a.size() < b.size();
  });
}

}  // namespace

AskQuestionFile read_question_file(const std::string& text, const std::filesystem::path& directory,
                                   QuestionChoice::HotpotQa part) {
  Entry entry = parse_entry(text);
  entry.choice.hotpotqa = part;
  const std::filesystem::path path = directory / entry.path;
  QuestionSet set = read_questions(path, QuestionForm::automatic, entry.choice);
  AskQuestionFile file{entry.share, {}, std::move(set.passages)};
  if (set.form == QuestionForm::squad) {
    for (Passage& passage : file.passages) passage.title = article_title(passage.article);
  }
  for (OpenQuestion& open : set.questions) {
    AskQuestion question{on_one_line(open.question), std::move(open.answers), std::move(open.gold)};
    for (std::string& answer : question.answers) answer = on_one_line(answer);
    std::erase_if(question.answers, [](const std::string& answer) { return answer.empty(); });
    if (question.answers.empty() || question.gold.empty()) continue;
    order_answers(question, file.passages);
    file.questions.push_back(std::move(question));
  }
  require(!file.questions.empty(), "{}: expected questions with an answer and a passage that answers, found none",
          path.string());
  return file;
}

}  // namespace cepe
