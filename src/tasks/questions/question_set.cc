#include "tasks/questions/question_set.h"

#include <algorithm>

#include "base/error.h"
#include "tasks/questions/question_scores.h"
#include "text/text_file.h"

namespace cepe {
namespace {

bool is_blank(const std::string& text) { return text.find_first_not_of(" \t\r\n\v\f") == std::string::npos; }

// One line: runs of white space with a line break in them become a space.
std::string one_line(const std::string& text) {
  constexpr std::string_view kSpace = " \t\r\n\v\f";
  std::string line;
  for (size_t at = text.find_first_not_of(kSpace); at != std::string::npos;) {
    const size_t end = std::min(text.find_first_of(kSpace, at), text.size());
    line.append(text, at, end - at);
    at = text.find_first_not_of(kSpace, end);
    if (at == std::string::npos) break;
    const std::string_view space = std::string_view(text).substr(end, at - end);
    line += space.find_first_of("\r\n\v\f") == std::string_view::npos ? std::string(space) : std::string(" ");
  }
  return line;
}

template <typename T>
void keep_different(std::vector<T>& values) {
  std::set<T> seen;
  std::erase_if(values, [&](const T& value) { return !seen.insert(value).second; });
}

std::string key_of(const Passage& passage) { return passage.title + '\0' + passage.text; }

}  // namespace

void QuestionSetBuilder::drop_passages(size_t from) {
  for (size_t i = from; i < set_.passages.size(); ++i) indices_.erase(key_of(set_.passages[i]));
  set_.passages.resize(from);
}

size_t QuestionSetBuilder::add(Passage passage, const std::string& where) {
  if (is_blank(passage.text)) {
    guarded([&] { fail("{}: a passage has no text", where); });
    return kNoPassage;
  }
  const auto [place, fresh] = indices_.try_emplace(key_of(passage), set_.passages.size());
  if (fresh) set_.passages.push_back(std::move(passage));
  return place->second;
}

void QuestionSetBuilder::add(OpenQuestion question, const std::string& place, const std::string& where) {
  question.question = one_line(question.question);
  require(!question.question.empty(), "{}: the question is empty", where);
  for (const std::string& answer : question.answers) require(!is_blank(answer), "{}: an answer is empty", where);
  std::erase(question.passages, kNoPassage);
  std::erase(question.gold, kNoPassage);
  if (question.id.empty()) question.id = place;
  require(ids_.insert(question.id).second, "{}: the id \"{}\" is another question's", where, question.id);
  keep_different(question.answers);
  keep_different(question.passages);
  keep_different(question.gold);
  if (question.gold.empty() && !question.answers.empty()) {
    const AnswerFinder finder(question.answers);
    const auto found = std::find_if(question.passages.begin(), question.passages.end(),
                                    [&](size_t p) { return finder.found_in(set_.passages[p].text); });
    if (found != question.passages.end()) question.gold = {*found};
  }
  const std::string article = question.gold.empty() ? "" : set_.passages[question.gold.front()].article;
  question.cluster = article.empty() ? "question " + question.id : article;
  set_.questions.push_back(std::move(question));
}

QuestionSet QuestionSetBuilder::finish(const std::filesystem::path& path, QuestionForm form) {
  const bool faulty = faults_ && !faults_->empty();
  require(!set_.questions.empty(), "{}: expected questions{}, found none{}", path.string(),
          form == QuestionForm::hotpotqa ? " whose _id is divisible by five" : "",
          faulty ? ": " + faults_->front() : "");
  set_.form = form;
  set_.name = plain_file_name(path);
  for (const std::string_view ending : {".json", ".jsonl", ".ndjson"}) {
    if (set_.name.size() > ending.size() && set_.name.ends_with(ending)) {
      set_.name.resize(set_.name.size() - ending.size());
      break;
    }
  }
  return std::move(set_);
}

}  // namespace cepe
