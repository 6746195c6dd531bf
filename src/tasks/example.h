// One example of a task: what the encoder reads, what the decoder is asked, and which answers are right.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace cepe {

// A text for the encoder. Documents share no chunk (text/chunker.h).
struct ContextDocument {
  std::string name, text;
};

// What the decoder reads, in parts, so that it can be put in several forms. `before`, `text`, `after` and
// `answer_prefix` in this order are the task's own wording; each part brings its own line breaks and spaces.
struct Question {
  std::string before;         // what the task says before its text
  std::string text;           // the decoder's part of the text; empty where the encoder reads all of it
  std::string after;          // what the task says after its text
  std::string question;       // the question alone, a sentence without line breaks
  std::string answer_prefix;  // how the answer begins; the model goes on from there
};

struct Example {
  std::string id;                          // unique among the examples of a run
  std::vector<ContextDocument> documents;  // for the encoder; may be empty
  Question question;
  std::vector<std::string> references;  // right answers; what they mean is the scorer's (scorer.h)
  int64_t max_tokens = 0;               // of the answer
  std::vector<std::string> stop;        // strings that end the answer, and are no part of it
  // White space before the answer is no part of it, and a stop string of white space does not end it there.
  bool drop_leading_space = false;
  // Not empty: nothing is written, the answer is the one of these that is the likeliest after the prompt and a space.
  std::vector<std::string> options = {};
  std::map<std::string, std::string> tags;  // what results are grouped by: {"length": "4096", ...}
  std::string cluster;  // examples of one cluster vary together (standard errors); empty: a cluster of its own
};

// How a question is put to the decoder.
enum class PromptForm {
  task,      // the task's own wording, with the answer's prefix
  question,  // the text, "Question: ...", "Answer:": what a model that follows no instructions understands
  chat,      // the task's own wording as a user's message in the model's chat template, then the answer's prefix
};
const char* prompt_form_name(PromptForm form);  // "task", "question", "chat"
// Error naming the option where there is no such form.
PromptForm prompt_form_from_name(std::string_view name, std::string_view option);

struct PromptText {
  std::string message;        // chat: the user's message; else the whole text to go on with
  std::string answer_prefix;  // chat: what follows the chat template; else empty
};
PromptText prompt_text(const Question& question, PromptForm form);

}  // namespace cepe
