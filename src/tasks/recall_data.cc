#include "tasks/recall_data.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "io/json_file.h"
#include "text/text_file.h"
#include "text/utf8.h"

namespace cepe {
namespace {

using nlohmann::json;

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

// The member of an object that must be there and of the type; `where` is the file and the place in it.
const json& member(const json& object, const char* name, json::value_t type, const std::string& where) {
  require(object.is_object(), "{}: expected a JSON object with \"{}\", found a JSON {}", where, name,
          object.type_name());
  const auto found = object.find(name);
  require(found != object.end(), "{}: \"{}\" is missing", where, name);
  require(found->type() == type, "{}: expected \"{}\" to be a JSON {}, found a JSON {}", where, name,
          json(type).type_name(), found->type_name());
  return *found;
}
std::string text_of(const json& object, const char* name, const std::string& where) {
  return member(object, name, json::value_t::string, where).get<std::string>();
}
const json& list_of(const json& object, const char* name, const std::string& where) {
  return member(object, name, json::value_t::array, where);
}

// Sorts the documents of questions whose indices were given in order of appearance, copies counted once.
class DocumentCollection {
 public:
  size_t add(std::string document) { return indices_.emplace(std::move(document), indices_.size()).first->second; }
  void finish(DocumentQuestions& into) {
    std::vector<size_t> sorted(indices_.size());
    for (const auto& [document, index] : indices_) {
      sorted[index] = into.documents.size();
      into.documents.push_back(document);
    }
    for (DocumentQuestion& question : into.questions) {
      for (size_t& index : question.gold) index = sorted[index];
      for (size_t& index : question.related) index = sorted[index];
    }
  }

 private:
  std::map<std::string, size_t> indices_;
};

std::vector<std::string> answers_of(const json& qa, const std::string& where) {
  std::vector<std::string> answers;
  for (const json& answer : list_of(qa, "answers", where)) {
    std::string text = text_of(answer, "text", where);
    if (std::find(answers.begin(), answers.end(), text) == answers.end()) answers.push_back(std::move(text));
  }
  return answers;
}

bool divisible_by_five(const std::string& hexadecimal, const std::string& where) {
  int remainder = 0;
  for (const char c : hexadecimal) {
    const size_t digit = std::string_view("0123456789abcdef").find(c);
    require(digit != std::string_view::npos, "{}: expected \"_id\" to be hexadecimal, found \"{}\"", where,
            hexadecimal);
    remainder = (remainder * 16 + static_cast<int>(digit)) % 5;
  }
  return remainder == 0;
}

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
  if (path.extension() == ".json") return text_of(read_json(path), "text", path.string());
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
  const json file = read_json(path);
  DocumentQuestions read;
  DocumentCollection documents;
  size_t number = 0;
  for (const json& article : list_of(file, "data", path.string())) {
    const std::string where = fmt::format("{}: data[{}]", path.string(), number++);
    const json& paragraphs = list_of(article, "paragraphs", where);
    const auto title = article.find("title");
    const std::string cluster = title != article.end() && title->is_string() ? title->get<std::string>() : where;
    std::vector<size_t> all;
    for (const json& paragraph : paragraphs) all.push_back(documents.add(text_of(paragraph, "context", where)));
    for (size_t p = 0; p < paragraphs.size(); ++p) {
      const std::string place = fmt::format("{}.paragraphs[{}]", where, p);
      std::set<size_t> others(all.begin(), all.end());
      others.erase(all[p]);
      for (const json& qa : list_of(paragraphs[p], "qas", place)) {
        std::vector<std::string> answers = answers_of(qa, place);
        const auto impossible = qa.find("is_impossible");  // SQuAD 2.0
        if (answers.empty() || (impossible != qa.end() && *impossible == json(true))) continue;
        read.questions.push_back(
            {text_of(qa, "question", place), std::move(answers), {all[p]}, {others.begin(), others.end()}, cluster});
      }
    }
  }
  require(!read.questions.empty(), "{}: expected questions with answers, found none", path.string());
  documents.finish(read);
  return read;
}

DocumentQuestions read_hotpotqa(const std::filesystem::path& path) {
  const json file = read_json(path);
  require(file.is_array(), "{}: expected a JSON array of questions, found a JSON {}", path.string(), file.type_name());
  DocumentQuestions read;
  DocumentCollection documents;
  for (size_t i = 0; i < file.size(); ++i) {
    const std::string where = fmt::format("{}: [{}]", path.string(), i);
    DocumentQuestion question{text_of(file[i], "question", where), {text_of(file[i], "answer", where)}, {}, {}, {}};
    for (const json& document : list_of(file[i], "context", where)) {
      const bool pair =
          document.is_array() && document.size() == 2 && document[0].is_string() && document[1].is_array();
      require(pair, "{}: expected \"context\" to hold pairs of a title and its sentences", where);
      std::string text = document[0].get<std::string>() + "\n";
      for (const json& sentence : document[1]) {
        require(sentence.is_string(), "{}: expected sentences to be strings, found a JSON {}", where,
                sentence.type_name());
        text += sentence.get<std::string>();
      }
      const size_t index = documents.add(std::move(text));
      if (std::find(question.gold.begin(), question.gold.end(), index) == question.gold.end()) {
        question.gold.push_back(index);
      }
    }
    if (divisible_by_five(text_of(file[i], "_id", where), where)) read.questions.push_back(std::move(question));
  }
  require(!read.questions.empty(), "{}: expected questions whose _id is divisible by five, found none", path.string());
  documents.finish(read);
  return read;
}

RecallData read_recall_data(const std::filesystem::path& directory, const std::filesystem::path& essays) {
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
  if (const auto path = file("squad.json"); !path.empty()) data.squad = read_squad(path);
  if (const auto path = file("hotpotqa.json"); !path.empty()) data.hotpotqa = read_hotpotqa(path);
  return data;
}

}  // namespace cepe
