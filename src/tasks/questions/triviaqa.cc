#include "tasks/questions/triviaqa.h"

#include <algorithm>

#include "base/error.h"
#include "tasks/json_members.h"
#include "text/text_file.h"

namespace cepe {
namespace {

using nlohmann::json;

constexpr std::string_view kSpace = " \t\r\n\v\f";
constexpr int kPassageWords = 100;

// A text in parts of so many words, the white space between words as it was.
std::vector<std::string> word_passages(const std::string& text) {
  std::vector<std::string> passages;
  size_t begin = text.find_first_not_of(kSpace), end = begin;
  for (int words = 0; end != std::string::npos && end < text.size();) {
    end = std::min(text.find_first_of(kSpace, end), text.size());
    const size_t next = std::min(text.find_first_not_of(kSpace, end), text.size());
    if (++words == kPassageWords || next == text.size()) {
      passages.push_back(text.substr(begin, end - begin));
      begin = next;
      words = 0;
    }
    end = next;
  }
  return passages;
}

bool stays_below(const std::filesystem::path& name) {
  return name.is_relative() && std::none_of(name.begin(), name.end(), [](const auto& part) { return part == ".."; });
}

struct Pages {
  const json& record;
  const char* member;
  std::filesystem::path directory;
  const std::string& where;
};

void add_pages(const Pages& pages, QuestionSetBuilder& set, OpenQuestion& question) {
  if (!pages.record.contains(pages.member)) return;
  for (const json& page : json_list_of(pages.record, pages.member, pages.where)) {
    set.guarded([&] {
      require(page.is_object(), "{}: expected \"{}\" to hold JSON objects, found a JSON {}", pages.where, pages.member,
              page.type_name());
      const std::string name = json_optional_text(page, "Filename", pages.where);
      if (name.empty()) return;
      require(stays_below(name), "{}: expected a \"Filename\" below the evidence, found \"{}\"", pages.where, name);
      const std::string title = json_optional_text(page, "Title", pages.where);
      for (std::string& text : word_passages(TextFile(pages.directory / name).rest())) {
        question.passages.push_back(set.add({title, std::move(text), title}, pages.where));
      }
    });
  }
}

}  // namespace

void read_triviaqa(const json& file, const std::string& path, const std::filesystem::path& evidence,
                   QuestionSetBuilder& set) {
  const json& records = json_list_of(file, "Data", path);
  for (size_t i = 0; i < records.size(); ++i) {
    const std::string where = fmt::format("{}: Data[{}]", path, i);
    set.guarded([&] {
      const json& answer = json_member(records[i], "Answer", json::value_t::object, where);
      OpenQuestion question{json_optional_text(records[i], "QuestionId", where),
                            json_text_of(records[i], "Question", where)};
      question.answers.push_back(json_text_of(answer, "Value", where));
      for (const char* more : {"Aliases", "HumanAnswers"}) {
        if (!answer.contains(more)) continue;
        for (std::string& text : json_texts(answer.at(more), more, where)) question.answers.push_back(std::move(text));
      }
      if (!evidence.empty()) {
        add_pages({records[i], "EntityPages", evidence / "wikipedia", where}, set, question);
        add_pages({records[i], "SearchResults", evidence / "web", where}, set, question);
      }
      set.add(std::move(question), fmt::format("Data[{}]", i), where);
    });
  }
}

}  // namespace cepe
