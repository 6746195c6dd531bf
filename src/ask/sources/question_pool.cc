#include "ask/sources/question_pool.h"

#include <algorithm>
#include <map>
#include <optional>

namespace cepe {
namespace {

std::string lower_case(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

}  // namespace

bool holds_answer(const std::string& text, const std::string& answer) {
  return lower_case(text).find(lower_case(answer)) != std::string::npos;
}

QuestionPool::QuestionPool(std::vector<AskQuestionFile> files, const ShingleSet& refused, int64_t max_shared) {
  for (AskQuestionFile& file : files) add(std::move(file), refused, max_shared);
  for (const Passage& passage : passages_) index_.add(passage.title + " " + passage.text);
}

void QuestionPool::add(AskQuestionFile file, const ShingleSet& refused, int64_t max_shared) {
  std::vector<std::optional<size_t>> numbers;  // of the file's passages in the pool
  for (Passage& passage : file.passages) {
    if (refused.shared(passage.text) > max_shared) {
      ++refused_passages_;
      numbers.emplace_back();
    } else {
      numbers.emplace_back(passages_.size());
      passages_.push_back(std::move(passage));
    }
  }
  std::map<std::vector<size_t>, Group> groups;
  for (AskQuestion& question : file.questions) {
    bool whole = refused.shared(question.question) == 0;
    for (size_t& gold : question.gold) {
      whole = whole && numbers[gold].has_value();
      if (whole) gold = *numbers[gold];
    }
    if (!whole) {
      ++refused_questions_;
      continue;
    }
    ++questions_;
    groups[question.gold].questions.push_back(std::move(question));
  }
  File entry{file.share, {}, {}};
  for (size_t place = 0; auto& [gold, group] : groups) {
    (place++ % kValidationPart == 1 ? entry.validation : entry.training).push_back(std::move(group));
  }
  files_.push_back(std::move(entry));
}

bool QuestionPool::has(bool validation) const {
  return std::any_of(files_.begin(), files_.end(),
                     [&](const File& file) { return !(validation ? file.validation : file.training).empty(); });
}

std::vector<const AskQuestion*> QuestionPool::draw(AskRandom& random, bool validation) const {
  std::vector<double> shares;
  for (const File& file : files_)
    shares.push_back((validation ? file.validation : file.training).empty() ? 0 : file.share);
  const File& file = files_[random.weighted(shares)];
  const Group& group = random.pick(validation ? file.validation : file.training);
  std::vector<const AskQuestion*> questions;
  for (const AskQuestion& question : group.questions) questions.push_back(&question);
  random.shuffle(questions);
  return questions;
}

}  // namespace cepe
