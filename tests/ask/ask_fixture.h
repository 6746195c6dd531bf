// A small corpus, small question files and the shipped words and forms, for tests of src/ask.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ask/ask_maker.h"
#include "ask/kinds/draft.h"
#include "base/temporary_directory.h"

namespace cepe::ask_test {

// SmolLM2's tokenizer, from its recorded vocabulary.
const Tokenizer& smollm2();

// Writes a file into a directory and gives its path.
std::string write(const TemporaryDirectory& directory, const std::string& name, const std::string& text);

// A corpus of two domains: "prose", long documents of invented sentences, all different; "articles", short ones with a
// title, which patterns can ask about.
std::string corpus_jsonl();
// Questions in SQuAD's form, six paragraphs of two questions each, and in the flat form, sixty paragraphs.
std::string squad_json();
std::string flat_json();

// What kinds are given, of the files above.
class Sources {
 public:
  explicit Sources(int64_t max_shared = 8, const std::string& refused_text = "");
  const AskSources& get() const { return sources_; }
  AskRequest request(uint64_t seed, int64_t chunks) const;

 private:
  TemporaryDirectory directory_;
  ShingleSet refused_;
  AskWords words_;
  AskForms forms_;
  AskCorpus corpus_;
  QuestionPool questions_;
  AskPassages passages_;
  AskSources sources_;
};

// A configuration of the same files, in the directory.
AskConfig config_in(const TemporaryDirectory& directory);

std::string all_text(const AskDraft& draft);

}  // namespace cepe::ask_test
