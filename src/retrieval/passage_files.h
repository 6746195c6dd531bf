// Passages out of files, one at a time: memory holds one line of the file and one passage.
//
//   NAME.jsonl (.ndjson; .zst, .gz)       one passage a line. Text: "text", "contents", "content", "passage" or "body"
//                                         (required); "title"; id: "id", "_id", "docid" or "pid", a text or a number
//   anything else                         plain UTF-8 text, cut into passages of at most so many words, each ending
//                                         where the last sentence in its second half ends; title: the file's name
//
// A passage without an id is known by its content: passage_key().
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "tasks/questions/questions.h"

namespace cepe {

struct IndexedPassage {
  std::string id, title, text;  // valid UTF-8; id and text are not empty
  std::string where;            // for errors: "corpus.jsonl:17"
};

// The first 16 hexadecimal digits of the SHA-256 of the title, a line break and the text.
std::string passage_key(const std::string& title, const std::string& text);

// Hands over the passages of a file in order; those without text are passed over. cut_records: the text of a record is
// cut as plain text is, each piece known by its content; its title is the record's or, without one, the file's name.
// Error naming the file and the line where a record is malformed.
void read_passages(const std::filesystem::path& file, int64_t words, const std::function<void(IndexedPassage)>& use,
                   bool cut_records = false);
// The passages of a set of questions, each once.
void read_passages(const QuestionSet& questions, const std::function<void(IndexedPassage)>& use);

}  // namespace cepe
