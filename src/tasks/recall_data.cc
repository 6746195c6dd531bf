#include "tasks/recall_data.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "io/json_file.h"
#include "tasks/json_members.h"
#include "tasks/questions/question_files.h"
#include "text/text_file.h"
#include "text/utf8.h"

namespace cepe {
namespace {

constexpr const char* kAbbreviations[] = {"Mr", "Mrs", "Ms", "Dr", "St", "Jr", "Sr", "vs", "etc", "e.g", "i.e", "cf"};

bool ends_sentence(std::string_view word) {
  // Closing quotes and brackets, also the typographic ones (U+2019, U+201D: E2 80 99, E2 80 9D).
  for (;;) {
    if (word.ends_with("\xE2\x80\x99") || word.ends_with("\xE2\x80\x9D")) {
      word.remove_suffix(3);
    } else if (!word.empty() && std::string_view("\"')]").find(word.back()) != std::string_view::npos) {
      word.remove_suffix(1);
    } else {
      break;
    }
  }
  if (word.empty() || std::string_view(".!?").find(word.back()) == std::string_view::npos) return false;
  if (word.back() != '.') return true;
  word.remove_suffix(1);
  while (!word.empty() && (word.front() == '(' || word.front() == '"')) word.remove_prefix(1);
  const bool initial = word.size() == 1 && word[0] >= 'A' && word[0] <= 'Z';
  return !initial && std::find(std::begin(kAbbreviations), std::end(kAbbreviations), word) == std::end(kAbbreviations);
}

// The documents of a set of questions, sorted, and which questions want which of them.
class SortedDocuments {
 public:
  explicit SortedDocuments(const QuestionSet& set) {
    for (const Passage& passage : set.passages) indices_.emplace(passage_text(passage), 0);
    for (auto& [document, index] : indices_) {
      index = documents_.size();
      documents_.push_back(document);
    }
  }
  size_t of(const Passage& passage) const { return indices_.at(passage_text(passage)); }
  std::vector<std::string> take() { return std::move(documents_); }

 private:
  std::map<std::string, size_t> indices_;
  std::vector<std::string> documents_;
};

std::vector<std::string> read_words(const std::filesystem::path& path) {
  std::set<std::string> words;
  TextFile file(path);
  for (std::string line; file.next_line(line);) {
    require(find_invalid_utf8(line) == std::string_view::npos, "{}: expected UTF-8 text, found another", file.where());
    const size_t begin = line.find_first_not_of(" \t"), end = line.find_last_not_of(" \t");
    words.insert(line.substr(begin, end - begin + 1));
  }
  require(!words.empty(), "{}: the list has no word", path.string());
  return {words.begin(), words.end()};
}

std::string read_essays(const std::filesystem::path& path) {
  if (path.extension() == ".json") return json_text_of(read_json(path), "text", path.string());
  std::vector<std::filesystem::path> files{path};
  if (std::filesystem::is_directory(path)) {
    files.clear();
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
    require(!files.empty(), "{}: the directory holds no file", path.string());
    std::sort(files.begin(), files.end());
  }
  std::string text;
  for (const auto& file : files) {
    read_text_file(file, "", [&](TextDocument document) { text += document.text + "\n"; });
  }
  return text;
}

}  // namespace

Essays split_essays(std::string_view text) {
  Essays essays;
  constexpr std::string_view kSpace = " \t\r\n\v\f";
  for (size_t at = text.find_first_not_of(kSpace); at != std::string_view::npos;) {
    const size_t end = std::min(text.find_first_of(kSpace, at), text.size());
    const std::string_view word = text.substr(at, end - at);
    if (!essays.ends.empty() && word[0] >= 'a' && word[0] <= 'z') essays.ends.back() = false;
    essays.words.emplace_back(word);
    essays.ends.push_back(ends_sentence(word));
    at = text.find_first_not_of(kSpace, end);
  }
  if (!essays.ends.empty()) essays.ends.back() = true;
  return essays;
}

DocumentQuestions read_squad(const std::filesystem::path& path) {
  const QuestionSet set = read_questions(path, QuestionForm::squad);
  SortedDocuments documents(set);
  std::map<std::string, std::set<size_t>> articles;
  for (const Passage& passage : set.passages) articles[passage.article].insert(documents.of(passage));
  DocumentQuestions read;
  for (const OpenQuestion& question : set.questions) {
    if (question.answers.empty()) continue;
    const size_t gold = documents.of(set.passages[question.gold.front()]);
    std::set<size_t> others = articles.at(question.cluster);
    others.erase(gold);
    read.questions.push_back(
        {question.question, question.answers, {gold}, {others.begin(), others.end()}, question.cluster});
  }
  require(!read.questions.empty(), "{}: expected questions with answers, found none", path.string());
  read.documents = documents.take();
  return read;
}

DocumentQuestions read_hotpotqa(const std::filesystem::path& path) {
  const QuestionSet set = read_questions(path, QuestionForm::hotpotqa);
  SortedDocuments documents(set);
  DocumentQuestions read;
  for (const OpenQuestion& question : set.questions) {
    std::vector<size_t> own;
    for (const size_t passage : question.passages) own.push_back(documents.of(set.passages[passage]));
    read.questions.push_back({question.question, question.answers, std::move(own), {}, {}});
  }
  read.documents = documents.take();
  return read;
}

RecallData read_recall_data(const std::filesystem::path& directory, const std::filesystem::path& essays,
                            const std::vector<std::string>& tasks) {
  require(std::filesystem::is_directory(directory), "{}: expected a directory with data, found none",
          directory.string());
  RecallData data;
  const auto file = [&](const char* name) {
    const std::filesystem::path path = directory / name;
    return std::filesystem::exists(path) ? path : std::filesystem::path();
  };
  for (const auto& [name, words] : {std::pair{"adjectivelist.txt", &data.adjectives},
                                    std::pair{"nounlist.txt", &data.nouns}, std::pair{"verblist.txt", &data.verbs}}) {
    if (const auto path = file(name); !path.empty()) *words = read_words(path);
  }
  const std::filesystem::path text = essays.empty() ? file("PaulGrahamEssays.json") : essays;
  if (!text.empty()) {
    data.essays = split_essays(read_essays(text));
    require(!data.essays.words.empty(), "{}: the text has no word", text.string());
  }
  const auto wanted = [&](const char* task) {
    return tasks.empty() || std::find(tasks.begin(), tasks.end(), task) != tasks.end();
  };
  if (const auto path = file("squad.json"); !path.empty() && wanted("qa_1")) data.squad = read_squad(path);
  if (const auto path = file("hotpotqa.json"); !path.empty() && wanted("qa_2")) data.hotpotqa = read_hotpotqa(path);
  return data;
}

}  // namespace cepe
