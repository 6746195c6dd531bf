// Questions of files, the passages that answer them among others.
#include <algorithm>
#include <set>

#include "ask/kinds/draft.h"
#include "base/error.h"
#include "tasks/questions/question_scores.h"

namespace cepe {
namespace {

constexpr const char* kUnanswerable = "unanswerable";
constexpr int64_t kPassageTokens = 180;  // about, with the rest of its last chunk

constexpr const char* kInstructions[] = {
    "Answer the question based on the given documents. Only give me the answer and do not output any other words.",
    "Answer the question with a few words from the text.",
    "Give a short answer.",
    "Use the passages to answer the question.",
    "Read the documents and answer in as few words as possible.",
    "Answer from the context alone.",
    ("Answer the question with the help of the given passages, some of which may not matter. Give only "
     "the answer, in a few words."),
    "Answer the question. Give only the answer, in a few words.",
};
constexpr const char* kOrUnanswerable[] = {" If it cannot be answered, say \"unanswerable\".",
                                           " Say \"unanswerable\" where the documents do not answer it."};

constexpr int64_t kMostGroups = 8;
constexpr size_t kMostOfGroup = 8;

// Questions of so many groups, each group on passages of its own, in random order; the passages.
std::vector<size_t> draw_questions(const AskSources& sources, AskRequest& request, int64_t groups,
                                   std::vector<const AskQuestion*>& questions) {
  std::vector<size_t> gold;
  for (int64_t g = 0; g < groups; ++g) {
    std::vector<const AskQuestion*> more = sources.questions.draw(request.random, request.validation);
    if (more.size() > kMostOfGroup) more.resize(kMostOfGroup);
    for (const size_t passage : more[0]->gold) {
      if (std::find(gold.begin(), gold.end(), passage) != gold.end()) more.clear();
      if (more.empty()) break;
    }
    if (more.empty()) continue;
    gold.insert(gold.end(), more[0]->gold.begin(), more[0]->gold.end());
    questions.insert(questions.end(), more.begin(), more.end());
  }
  request.random.shuffle(questions);
  return gold;
}

class PassageChooser {
 public:
  PassageChooser(const AskSources& sources, AskRequest& request, const AskQuestion& question,
                 const std::vector<size_t>& gold)
      : sources_(sources),
        request_(request),
        question_(question),
        finder_(question.answers),
        taken_(gold.begin(), gold.end()) {}

  // Passages beside the gold ones. Without gold: none that holds an answer.
  std::vector<size_t> others(int64_t count, bool without_answer) {
    std::vector<size_t> chosen;
    const double near_share = request_.random.pick(std::vector<double>{0, 0.5, 1});
    std::vector<size_t> near = sources_.questions.index().search(question_.question, static_cast<size_t>(count) + 8);
    request_.random.shuffle(near);
    for (const size_t passage : near) {
      if (static_cast<double>(chosen.size()) >= static_cast<double>(count) * near_share) break;
      add(passage, without_answer, chosen);
    }
    // Random ones are of training in validation, too, where there are few of its own.
    const std::vector<size_t>& all = sources_.questions.drawable(false);
    for (int64_t tries = 0; tries < 4 * count && !all.empty() && static_cast<int64_t>(chosen.size()) < count; ++tries) {
      add(request_.random.pick(all), without_answer, chosen);
    }
    return chosen;
  }

 private:
  void add(size_t passage, bool without_answer, std::vector<size_t>& chosen) {
    const std::string& text = sources_.questions.passages()[passage].text;
    if (!sources_.questions.may_stand(passage, request_.validation)) return;
    if ((without_answer && finder_.found_in(text)) || !taken_.insert(passage).second) return;
    chosen.push_back(passage);
  }

  const AskSources& sources_;
  AskRequest& request_;
  const AskQuestion& question_;
  AnswerFinder finder_;
  std::set<size_t> taken_;
};

AskDocument as_document(const Passage& passage) { return {passage.title, passage.text}; }

// The wordings of RULER's qa tasks and of `cepe eval qa`; of the first question alone.
void put_instruction(AskDraft& draft, AskRandom& random, bool unanswerable) {
  AskTurn& turn = draft.turns.front();
  std::string instruction = random.pick(kInstructions);
  if (unanswerable) instruction += random.pick(kOrUnanswerable);
  const std::string passages = draft.decoder_text + (draft.decoder_text.empty() ? "" : "\n\n");
  switch (random.below(3)) {
    case 0:
      turn.wording = fmt::format("{0}\n\nThe following are given documents.\n\n{1}\n\n{0}\n\nQuestion: {2}",
                                 instruction, draft.decoder_text, turn.question);
      turn.answer_prefix = " Answer:";
      break;
    case 1: turn.wording = fmt::format("{}\n\n{}Question: {}\nAnswer:", instruction, passages, turn.question); break;
    default:
      turn.wording = fmt::format("{}{}\n\n{}", passages, instruction, turn.question);
      turn.answer_prefix = "\nAnswer:";
  }
  draft.decoder_text.clear();
}

}  // namespace

AskDraft make_file_questions(const AskSources& sources, AskRequest& request) {
  AskRandom& random = request.random;
  AskDraft draft;
  if (!sources.questions.has(request.validation)) return draft;
  bool without_gold = random.chance(request.unanswerable);
  const int64_t room = request.tokens() / kPassageTokens;
  // In a part of the long contexts, questions about several passages, which are among the others for each other.
  const bool several = !without_gold && room >= 4 && random.chance(0.75);
  std::vector<const AskQuestion*> questions;
  std::vector<size_t> gold =
      draw_questions(sources, request, several ? random.between(2, std::min(room / 2, kMostGroups)) : 1, questions);
  // Of an answer in a model's own words nothing tells which passages hold it, so none could be left out.
  if (questions.front()->by_model) without_gold = false;
  if (without_gold) questions.resize(1);
  const int64_t left = std::max<int64_t>(room - static_cast<int64_t>(gold.size()), without_gold ? 1 : 0);
  std::vector<size_t> chosen =
      PassageChooser(sources, request, *questions[0], gold).others(std::min(left, request.max_passages), without_gold);
  // A part has the right passages in the decoder's own window, and others in the encoder.
  const bool in_decoder = !without_gold && !several && !chosen.empty() && random.chance(0.25);
  if (!without_gold && !in_decoder) chosen.insert(chosen.end(), gold.begin(), gold.end());
  random.shuffle(chosen);
  for (const size_t passage : chosen) draft.documents.push_back(as_document(sources.questions.passages()[passage]));
  if (in_decoder) {
    for (const size_t passage : gold) {
      const Passage& p = sources.questions.passages()[passage];
      draft.decoder_text +=
          (draft.decoder_text.empty() ? "" : "\n\n") + (p.title.empty() ? "" : p.title + "\n") + p.text;
    }
  }
  for (const AskQuestion* question : questions) {
    draft.turns.push_back(
        {question->question, without_gold ? kUnanswerable : question->answers[0], question->instruction});
  }
  // A model's own answers were written for their own instruction, and for no other.
  if (std::any_of(questions.begin(), questions.end(), [](const AskQuestion* asked) { return asked->by_model; }))
    return draft;
  // That nothing is there is told apart from what is not known by the instruction to say so, more often than not.
  if (random.chance(without_gold ? 0.7 : 0.3)) put_instruction(draft, random, without_gold || random.chance(0.15));
  return draft;
}

}  // namespace cepe
