// RULER's qa tasks: questions about documents, among other documents of the same collection.
#include <algorithm>
#include <numeric>
#include <set>

#include "base/error.h"
#include "tasks/recall_kinds.h"

namespace cepe {
namespace {

enum Purpose : uint64_t { kOthers, kOrder };

// The gold documents, then those of the same article, then others, until there are `units`; in a random order.
std::vector<size_t> choose_documents(const DocumentQuestions& from, const DocumentQuestion& question,
                                     const RecallKey& key, int64_t units) {
  const auto count = std::max(static_cast<size_t>(units), question.gold.size());
  std::vector<size_t> chosen = question.gold;
  std::vector<size_t> related = question.related;
  shuffle(related, key.random(kOthers));
  for (size_t i = 0; i < related.size() && chosen.size() < count; ++i) chosen.push_back(related[i]);
  if (chosen.size() < count) {
    const std::set<size_t> taken(chosen.begin(), chosen.end());
    std::vector<size_t> others;
    for (size_t d = 0; d < from.documents.size(); ++d) {
      if (!taken.contains(d)) others.push_back(d);
    }
    const size_t more = std::min(count - chosen.size(), others.size());
    for (const int64_t o :
         draw_distinct(key.random(kOthers + 2), static_cast<int64_t>(more), static_cast<int64_t>(others.size()))) {
      chosen.push_back(others[static_cast<size_t>(o)]);
    }
  }
  shuffle(chosen, key.random(kOrder));
  return chosen;
}

RecallText make_question(const DocumentQuestions& from, const DocumentQuestion& question, const RecallKey& key,
                         int64_t units) {
  constexpr const char* kInstruction =
      "Answer the question based on the given documents. Only give me the answer and do not output any other "
      "words.\n\n";
  RecallText text;
  const std::vector<size_t> documents = choose_documents(from, question, key, units);
  for (size_t i = 0; i < documents.size(); ++i) {
    text.pieces.push_back(
        fmt::format("Document {}:\n{}{}", i + 1, from.documents[documents[i]], i + 1 < documents.size() ? "\n\n" : ""));
  }
  text.before = std::string(kInstruction) + "The following are given documents.\n\n";
  text.question = question.question;
  text.after = fmt::format("\n\n{}Question: {}", kInstruction, question.question);
  text.answer_prefix = " Answer:";
  text.references = question.answers;
  text.cluster = question.cluster;
  return text;
}

// Questions in an order of the seed, so that the first of them are a sample of all.
RecallKind question_kind(const char* name, const char* file, std::shared_ptr<const DocumentQuestions> from,
                         uint64_t seed) {
  RecallKind kind{.name = name, .max_tokens = 32, .any_reference = true, .least_varies = true};
  if (from->questions.empty()) {
    kind.missing = file;
    return kind;
  }
  const auto order = std::make_shared<std::vector<size_t>>(from->questions.size());
  std::iota(order->begin(), order->end(), size_t{0});
  shuffle(*order, KeyedRandom{seed, 0x7161});
  kind.most_units = static_cast<int64_t>(from->documents.size());
  kind.make = [from, order](const RecallKey& key, int64_t units) {
    const size_t place = static_cast<size_t>(key.number) % order->size();
    const size_t question = (*order)[place];
    RecallText text = make_question(*from, from->questions[question], key, units);
    // A question that is asked again varies with itself.
    if (text.cluster.empty()) text.cluster = fmt::format("question {}", question);
    return text;
  };
  return kind;
}

}  // namespace

std::vector<RecallKind> question_kinds(const std::shared_ptr<const RecallData>& data, uint64_t seed) {
  const auto part = [&](const DocumentQuestions& of) { return std::shared_ptr<const DocumentQuestions>(data, &of); };
  return {question_kind("qa_1", "squad.json", part(data->squad), seed),
          question_kind("qa_2", "hotpotqa.json", part(data->hotpotqa), seed)};
}

}  // namespace cepe
