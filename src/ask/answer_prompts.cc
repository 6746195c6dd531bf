#include "ask/answer_prompts.h"

#include <nlohmann/json.hpp>

#include "ask/sources/question_files.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json_text.h"

namespace cepe {
namespace {

// The line of a question, or nothing where no passage answers it: without a gold one, or without an answer (SQuAD 2.0's
// impossible questions have a gold passage all the same).
std::string prompt_line(const QuestionSet& set, const OpenQuestion& question, const std::string& instruction) {
  if (question.answers.empty()) return "";
  nlohmann::json passages = nlohmann::json::array();
  std::string prompt = instruction.empty() ? "" : instruction + "\n\n";
  for (const size_t gold : question.gold) {
    const Passage& passage = set.passages[gold];
    passages.push_back({{"text", passage.text}});
    if (!passage.title.empty()) passages.back()["title"] = passage.title;
    prompt += passage_text(passage) + "\n\n";
  }
  if (passages.empty()) return "";
  nlohmann::json id = {{"question", question.question}, {"passages", passages}};
  if (!instruction.empty()) id["instruction"] = instruction;
  return json_text({{"id", id}, {"prompt", prompt + question.question}}) + "\n";
}

}  // namespace

AnswerPromptsCounts write_answer_prompts(const std::vector<std::string>& files, const std::filesystem::path& out,
                                         const AnswerPromptsOptions& options) {
  AnswerPromptsCounts counts;
  AtomicFile file(out);
  for (const std::string& text : files) {
    QuestionEntry entry = parse_question_entry(text);
    require(!entry.share,
            "{}: share= says how often `cepe data ask` draws from a file: a prompt is made of each question", text);
    entry.choice.hotpotqa = QuestionChoice::HotpotQa::training;
    const QuestionSet set = read_questions(entry.path, QuestionForm::automatic, entry.choice);
    for (const OpenQuestion& question : set.questions) {
      const std::string line = prompt_line(set, question, options.instruction);
      ++(line.empty() ? counts.without_passage : counts.prompts);
      file.write(line);
    }
  }
  require(counts.prompts > 0, "{}: expected a question with a passage that answers it, found none",
          files.empty() ? "questions" : files.front());
  file.commit();
  return counts;
}

}  // namespace cepe
