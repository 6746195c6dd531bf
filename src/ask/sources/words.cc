#include "ask/sources/words.h"

#include <charconv>

#include "base/error.h"
#include "text/text_file.h"

namespace cepe {
namespace {

bool is_number(std::string_view text) {
  return !text.empty() && text.size() <= 9 && text.find_first_not_of("0123456789") == std::string_view::npos;
}

int64_t number(std::string_view text) {
  int64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// "3-90", or "3" for both; false where the text is neither.
bool parse_range(std::string_view text, std::string_view& least, std::string_view& most) {
  const size_t dash = text.find('-');
  least = text.substr(0, dash);
  most = dash == std::string_view::npos ? least : text.substr(dash + 1);
  return is_number(least) && is_number(most) && number(least) <= number(most);
}

const char* alphabet(char letter) {
  switch (letter) {
    case 'd': return "0123456789";
    case 'h': return "0123456789abcdef";
    case 'A': return "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    case 'a': return "abcdefghijklmnopqrstuvwxyz";
    case 'n': return "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    default: return nullptr;
  }
}

}  // namespace

std::string draw_uuid(AskRandom& random) {
  std::string text;
  for (const char c : std::string_view("xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx")) {
    if (c == 'x') {
      text += "0123456789abcdef"[random.below(16)];
    } else if (c == 'y') {
      text += "89ab"[random.below(4)];
    } else {
      text += c;
    }
  }
  return text;
}

std::string capitalised(std::string text) {
  if (!text.empty() && text[0] >= 'a' && text[0] <= 'z') text[0] = static_cast<char>(text[0] - 'a' + 'A');
  return text;
}

AskWords::AskWords(const std::filesystem::path& path) {
  TextFile file(path);
  for (std::string line; file.next_line(line);) {
    if (line[0] != ';') add_line(line, file.where());
  }
  require(!lists_.empty(), "{}: expected lists of words, \"[name]\" and entries, found none", path.string());
  for (List& list : lists_) {
    require(!list.entries.empty(), "{}: the list {} has no entry", list.where, list.name);
    for (Entry& entry : list.entries) entry.parts = parse(entry.source, entry.where);
  }
  std::vector<int> state(lists_.size(), 0);
  for (size_t i = 0; i < lists_.size(); ++i) check_cycles(i, state);
}

void AskWords::add_line(const std::string& line, const std::string& where) {
  if (line.front() == '[' && line.back() == ']') {
    const std::string name = line.substr(1, line.size() - 2);
    require(!name.empty(), "{}: a list without a name", where);
    const bool fresh = index_.emplace(name, lists_.size()).second;
    require(fresh, "{}: the list {} is there twice", where, name);
    lists_.push_back({name, where, {}, {}});
    return;
  }
  require(!lists_.empty(), "{}: expected \"[name]\" before the first entry, found \"{}\"", where, line);
  std::string_view text = line;
  double weight = 1;
  if (const size_t bar = text.find('|'); bar != std::string_view::npos && is_number(text.substr(0, bar))) {
    weight = static_cast<double>(number(text.substr(0, bar)));
    text.remove_prefix(bar + 1);
  }
  require(!text.empty() && weight > 0, "{}: expected an entry with a weight of at least 1, found \"{}\"", where, line);
  lists_.back().entries.push_back({{}, std::string(text), where});
  lists_.back().weights.push_back(weight);
}

AskWords::Part AskWords::parse_tag(std::string_view tag, const std::string& where) const {
  Part part;
  if (tag.starts_with('^')) {
    part.capital = true;
    tag.remove_prefix(1);
  }
  std::string_view least, most;
  if (tag == "uuid") {
    part.kind = Part::uuid;
  } else if (const auto found = index_.find(std::string(tag)); found != index_.end()) {
    part.kind = Part::list;
    part.list_index = found->second;
  } else if (parse_range(tag, least, most)) {
    part.kind = Part::range;
    part.width = least.size() > 1 && least[0] == '0' ? least.size() : 0;
  } else if (!tag.empty() && alphabet(tag[0]) && parse_range(tag.substr(1), least, most)) {
    part.kind = Part::letters;
    part.literal = alphabet(tag[0]);
  } else {
    fail("{}: there is no list \"{}\"", where, tag);
  }
  part.least = number(least);
  part.most = number(most);
  return part;
}

std::vector<AskWords::Part> AskWords::parse(std::string_view text, const std::string& where) const {
  std::vector<Part> parts;
  while (!text.empty()) {
    const size_t open = text.find('{');
    if (open != 0) {
      parts.push_back({.literal = std::string(text.substr(0, open))});
      if (open == std::string_view::npos) break;
      text.remove_prefix(open);
    }
    const size_t close = text.find('}');
    require(close != std::string_view::npos, "{}: a brace that is not closed in \"{}\"", where, text);
    parts.push_back(parse_tag(text.substr(1, close - 1), where));
    text.remove_prefix(close + 1);
  }
  return parts;
}

void AskWords::check_cycles(size_t list, std::vector<int>& state) const {
  if (state[list] == 2) return;
  require(state[list] == 0, "{}: the list {} holds itself", lists_[list].where, lists_[list].name);
  state[list] = 1;
  for (const Entry& entry : lists_[list].entries) {
    for (const Part& part : entry.parts) {
      if (part.kind == Part::list) check_cycles(part.list_index, state);
    }
  }
  state[list] = 2;
}

std::string AskWords::expand(const std::vector<Part>& parts, AskRandom& random) const {
  std::string text;
  for (const Part& part : parts) {
    std::string piece;
    switch (part.kind) {
      case Part::text: piece = part.literal; break;
      case Part::uuid: piece = draw_uuid(random); break;
      case Part::range: {
        piece = std::to_string(random.between(part.least, part.most));
        if (piece.size() < part.width) piece.insert(0, part.width - piece.size(), '0');
        break;
      }
      case Part::letters: {
        const int64_t count = random.between(part.least, part.most);
        for (int64_t i = 0; i < count; ++i) {
          // A number does not begin with a nought.
          const bool first_digit = i == 0 && part.literal.size() == 10;
          piece += part.literal[static_cast<size_t>(
              random.between(first_digit ? 1 : 0, static_cast<int64_t>(part.literal.size()) - 1))];
        }
        break;
      }
      case Part::list: {
        const List& list = lists_[part.list_index];
        piece = expand(list.entries[random.weighted(list.weights)].parts, random);
        break;
      }
    }
    text += part.capital ? capitalised(std::move(piece)) : piece;
  }
  return text;
}

std::string AskWords::draw(std::string_view name, AskRandom& random) const {
  const auto found = index_.find(std::string(name));
  require(found != index_.end(), "there is no list of words \"{}\"", name);
  const List& list = lists_[found->second];
  return expand(list.entries[random.weighted(list.weights)].parts, random);
}

std::string AskWords::expand(std::string_view text, const std::string& where, AskRandom& random) const {
  return expand(parse(text, where), random);
}

}  // namespace cepe
