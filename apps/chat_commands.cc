// What the commands of a chat do.
#include <charconv>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "apps/chat_session.h"
#include "apps/output.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json_text.h"
#include "base/report.h"
#include "io/json_file.h"

namespace cepe {
namespace {

using nlohmann::json;

constexpr const char* kWhite = " \t\n";

// The words of a command's arguments: between spaces, or between quotes of either kind, which are no part of the word.
// "~/" at the beginning of a word is the home directory. No shell reads what is typed here.
std::vector<std::string> split_words(const std::string& text) {
  std::vector<std::string> words;
  for (size_t at = text.find_first_not_of(kWhite); at < text.size(); at = text.find_first_not_of(kWhite, at)) {
    std::string word;
    const bool home = text.compare(at, 2, "~/") == 0;
    while (at < text.size() && std::string_view(kWhite).find(text[at]) == std::string_view::npos) {
      const char quote = text[at];
      if (quote != '"' && quote != '\'') {
        word += text[at++];
        continue;
      }
      const size_t end = text.find(quote, at + 1);
      require(end != std::string::npos, "a quote is not closed: {}", text.substr(at));
      word += text.substr(at + 1, end - at - 1);
      at = end + 1;
    }
    const char* const directory = std::getenv("HOME");
    if (home && directory != nullptr) word.replace(0, 1, directory);
    words.push_back(word);
  }
  return words;
}

// The one file that a command names.
std::string file_of(const std::string& rest) {
  const std::vector<std::string> words = split_words(rest);
  require(words.size() == 1 && !words[0].empty(), "expected the name of one file, found {} words", words.size());
  return words[0];
}

int64_t number_of(const std::string& word) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  require(error == std::errc() && end == word.data() + word.size(),
          "expected the number of a document (/context list shows it) or all, found \"{}\"", word);
  return number;
}

std::string messages(size_t count) { return count == 1 ? "1 message" : fmt::format("{} messages", count); }

}  // namespace

void ChatSession::context(const std::string& rest) {
  const std::vector<std::string> words = split_words(rest);
  if (words.empty() || (words[0] == "list" && words.size() == 1)) {
    show_context();
  } else if (words[0] == "add" && words.size() > 1) {
    add_context({words.begin() + 1, words.end()});
  } else if (words[0] == "drop" && words.size() == 2) {
    words[1] == "all" ? context_.drop_all() : context_.drop(number_of(words[1]));
    show_context();
  } else {
    fail("expected add FILE..., list, drop N or drop all");
  }
}

void ChatSession::set_system(const std::string& rest) {
  if (rest.empty()) {
    note(conversation_.system() ? "(the system message is gone)" : "(there is no system message)");
    conversation_.set_system({});
  } else {
    conversation_.set_system(rest);
  }
}

void ChatSession::reset(const std::string&) {
  conversation_.clear();
  told_left_out_ = 0;
  note("(what was said is forgotten)");
}

void ChatSession::save(const std::string& rest) {
  const std::string file = file_of(rest);
  const std::vector<ChatMessage> list = conversation_.messages();
  const json saved = {{"model", settings_.model}, {"context", context_.names()}, {"messages", messages_as_json(list)}};
  write_file(file, json_text(saved, 2) + "\n");
  note(fmt::format("({} written to {})", messages(list.size()), file));
}

void ChatSession::load(const std::string& rest) {
  const std::string file = file_of(rest);
  const json saved = read_json(file);
  require(saved.is_object() && saved.contains("messages"), "{}: expected an object with \"messages\"", file);
  conversation_ = conversation_from_json(saved["messages"], file);
  told_left_out_ = 0;
  note(fmt::format("({} read from {})", messages(conversation_.messages().size()), file));
  const auto documents = saved.find("context");
  if (documents != saved.end() && documents->is_array() && !documents->empty())
    note("(its documents are not read again: /context add reads them)");
}

void ChatSession::help(const std::string&) {
  for (const Command& command : commands()) {
    note(fmt::format("  {:<24} {}", fmt::format("{} {}", command.name, command.arguments), command.help));
  }
  note("A line that ends in \\ goes on in the next one; a text of any lines may stand between \"\"\" and \"\"\".");
  note("Ctrl-C stops an answer.");
}

void ChatSession::quit(const std::string&) { done_ = true; }

}  // namespace cepe
