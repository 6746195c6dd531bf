// Names, keys and values: words.txt, a grammar of lists that name each other (its head says how).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "ask/random.h"

namespace cepe {

class AskWords {
 public:
  // Error naming file and line: a malformed entry, a list that is not there, that is empty or that holds itself.
  explicit AskWords(const std::filesystem::path& path);

  bool has(std::string_view list) const { return index_.contains(std::string(list)); }
  // An entry of the list, which must exist.
  std::string draw(std::string_view list, AskRandom& random) const;
  // A text with tags as entries have them; Error naming `where` on a tag that is unknown.
  std::string expand(std::string_view text, const std::string& where, AskRandom& random) const;

 private:
  struct Part {
    enum Kind { text, list, range, letters, uuid } kind = text;
    std::string literal;  // text; letters: the alphabet
    size_t list_index = 0;
    int64_t least = 0, most = 0;  // range; letters: how many
    size_t width = 0;             // range: leading noughts up to so many digits
    bool capital = false;
  };
  struct Entry {
    std::vector<Part> parts;
    std::string source, where;
  };
  struct List {
    std::string name, where;
    std::vector<Entry> entries;
    std::vector<double> weights;
  };
  std::vector<Part> parse(std::string_view text, const std::string& where) const;
  Part parse_tag(std::string_view tag, const std::string& where) const;
  void check_cycles(size_t list, std::vector<int>& state) const;
  std::string expand(const std::vector<Part>& parts, AskRandom& random) const;
  void add_line(const std::string& line, const std::string& where);

  std::vector<List> lists_;
  std::map<std::string, size_t> index_;
};

// A random UUID of version 4 (RFC 9562, section 5.4).
std::string draw_uuid(AskRandom& random);
// The text with its first letter as a capital, where that is an ASCII letter.
std::string capitalised(std::string text);

}  // namespace cepe
