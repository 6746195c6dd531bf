#include "ask/sources/question_pool.h"

#include <algorithm>
#include <map>
#include <optional>

namespace cepe {
QuestionPool::QuestionPool(std::vector<AskQuestionFile> files, const ShingleSet& refused, int64_t max_shared) {
  for (AskQuestionFile& file : files) add(std::move(file), refused, max_shared);
  split();
  for (const Passage& passage : passages_) index_.add(passage.title + " " + passage.text);
}

void QuestionPool::add(AskQuestionFile file, const ShingleSet& refused, int64_t max_shared) {
  std::vector<std::optional<size_t>> numbers;  // of the file's passages in the pool
  for (Passage& passage : file.passages) {
    if (refused.shared(passage.text) > max_shared) {
      ++refused_passages_;
      numbers.emplace_back();
    } else {
      const auto [found, fresh] = numbers_.try_emplace(passage.text, passages_.size());
      numbers.emplace_back(found->second);
      if (fresh) passages_.push_back(std::move(passage));
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
    // Passages of the same text are one.
    std::vector<size_t> gold;
    for (const size_t g : question.gold) {
      if (std::find(gold.begin(), gold.end(), g) == gold.end()) gold.push_back(g);
    }
    question.gold = std::move(gold);
    ++questions_;
    groups[question.gold].questions.push_back(std::move(question));
  }
  File entry{file.share, {}, {}};
  for (auto& [gold, group] : groups) entry.training.push_back(std::move(group));
  files_.push_back(std::move(entry));
}

void QuestionPool::split() {
  // Groups come in the order of their gold passages: every fortieth first one, of each file.
  const auto gold_of = [](const Group& group) -> const std::vector<size_t>& { return group.questions[0].gold; };
  std::vector<bool> first(passages_.size());
  for (const File& file : files_) {
    size_t place = 0;
    std::optional<size_t> last;
    for (const Group& group : file.training) {
      const size_t gold = gold_of(group)[0];
      if (gold == last) continue;
      if (place++ % kValidationPart == 1) first[gold] = true;
      last = gold;
    }
  }
  kept_.assign(passages_.size(), false);
  for (File& file : files_) {
    std::vector<Group> all = std::move(file.training);
    file.training.clear();
    for (Group& group : all) {
      const bool validation = first[gold_of(group)[0]];
      for (const size_t gold : gold_of(group)) kept_[gold] = kept_[gold] || validation;
      (validation ? file.validation : file.training).push_back(std::move(group));
    }
  }
  for (File& file : files_) {
    std::erase_if(file.training, [&](const Group& group) {
      const bool shares = std::any_of(gold_of(group).begin(), gold_of(group).end(), [&](size_t g) { return kept_[g]; });
      if (shares) questions_ -= static_cast<int64_t>(group.questions.size());
      return shares;
    });
  }
  for (size_t p = 0; p < passages_.size(); ++p) (kept_[p] ? validation_ : training_).push_back(p);
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
