#include "base/config.h"

#include <cctype>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <sstream>
#include <string_view>
#include <type_traits>

#include <toml++/toml.h>

#include "base/error.h"
#include "base/file.h"
#include "base/nearest.h"

namespace cepe {
namespace {

bool is_name(std::string_view text) {
  if (text.empty()) return false;
  for (unsigned char c : text) {
    if (!std::isalnum(c) && c != '_' && c != '-') return false;
  }
  return true;
}

// "section.key", two names: so that every key has one variable name and one option name.
bool is_key(std::string_view text) {
  size_t dot = text.find('.');
  return dot != std::string_view::npos && is_name(text.substr(0, dot)) && is_name(text.substr(dot + 1));
}

std::string variable_name(const std::string& key) {
  std::string name = "CEPE_";
  for (unsigned char c : key) name += c == '.' || c == '-' ? '_' : static_cast<char>(std::toupper(c));
  return name;
}

bool is_scalar(const toml::node& node) {
  return node.is_boolean() || node.is_integer() || node.is_floating_point() || node.is_string();
}

bool is_supported(const toml::node& node) {
  if (const auto* array = node.as_array()) {
    for (const auto& element : *array) {
      if (!is_scalar(element)) return false;
    }
    return true;
  }
  return is_scalar(node);
}

std::string literal(bool value) { return value ? "true" : "false"; }
std::string literal(int64_t value) { return std::to_string(value); }

std::string literal(double value) {
  if (std::isnan(value)) return "nan";
  std::string text = fmt::format("{}", value);  // the shortest text that reads back as the same number
  return text.find_first_of(".en") == std::string::npos ? text + ".0" : text;
}

std::string literal(const std::string& value) {
  std::string text = "\"";
  for (unsigned char c : value) {
    if (c == '"' || c == '\\') {
      text += '\\';
      text += static_cast<char>(c);
    } else if (c < 0x20 || c == 0x7F) {
      text += fmt::format("\\u{:04X}", static_cast<unsigned>(c));
    } else {
      text += static_cast<char>(c);
    }
  }
  return text + "\"";
}

template <typename T>
std::string literal(const std::vector<T>& values) {
  std::string text = "[";
  for (size_t i = 0; i < values.size(); ++i) text += (i ? ", " : "") + literal(values[i]);
  return text + "]";
}

std::string literal(const toml::node& node) {
  if (const auto* value = node.as_boolean()) return literal(value->get());
  if (const auto* value = node.as_integer()) return literal(value->get());
  if (const auto* value = node.as_floating_point()) return literal(value->get());
  if (const auto* value = node.as_string()) return literal(value->get());
  std::string text = "[";
  for (const auto& element : *node.as_array()) text += (text.size() > 1 ? ", " : "") + literal(element);
  return text + "]";
}

template <typename T>
constexpr bool is_list = std::is_same_v<T, std::vector<int64_t>> || std::is_same_v<T, std::vector<std::string>>;

template <typename T>
std::string_view type_name() {
  if constexpr (std::is_same_v<T, bool>) return "true or false";
  if constexpr (std::is_same_v<T, int64_t>) return "an integer";
  if constexpr (std::is_same_v<T, double>) return "a number";
  if constexpr (std::is_same_v<T, std::string>) return "a string";
  if constexpr (std::is_same_v<T, std::vector<int64_t>>) return "a list of integers";
  return "a list of strings";
}

template <typename T>
std::optional<T> from_node(const toml::node& node) {
  if constexpr (is_list<T>) {
    const auto* array = node.as_array();
    if (!array) return std::nullopt;
    T values;
    for (const auto& element : *array) {
      auto value = from_node<typename T::value_type>(element);
      if (!value) return std::nullopt;
      values.push_back(std::move(*value));
    }
    return values;
  } else if constexpr (std::is_same_v<T, double>) {
    if (const auto* integer = node.as_integer()) return static_cast<double>(integer->get());
    return node.value_exact<double>();
  } else {
    return node.value_exact<T>();
  }
}

// On a command line strings need no quotes, and lists no brackets: a,b,c.
template <typename T>
std::string text_as_literal(const std::string& text) {
  bool quoted = !text.empty() && (text[0] == '"' || text[0] == '\'');
  if constexpr (std::is_same_v<T, std::string>) return quoted ? text : literal(text);
  if constexpr (is_list<T>) {
    if (!text.empty() && text[0] == '[') return text;
    if constexpr (std::is_same_v<T, std::vector<int64_t>>) return "[" + text + "]";
    if (quoted) return "[" + text + "]";
    std::vector<std::string> parts;
    std::istringstream stream(text);
    for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
    return literal(parts);
  }
  return text;
}

template <typename T>
std::optional<T> parse_literal(const std::string& text) {
  try {
    toml::table table = toml::parse("value = " + text);
    const toml::node* node = table.get("value");
    return node && table.size() == 1 ? from_node<T>(*node) : std::nullopt;
  } catch (const toml::parse_error&) {
    return std::nullopt;
  }
}

}  // namespace

Config Config::from_file(const std::filesystem::path& path) {
  toml::table root;
  try {
    root = toml::parse(read_file(path));
  } catch (const toml::parse_error& error) {
    fail("{}: line {}: not valid TOML: {}", path.string(), error.source().begin.line, error.description());
  }
  Config config;
  for (const auto& [section, node] : root) {
    const auto* table = node.as_table();
    require(table != nullptr, "{}: line {}: {} stands outside of any [section]", path.string(),
            node.source().begin.line, section.str());
    for (const auto& [name, value] : *table) {
      std::string key = fmt::format("{}.{}", section.str(), name.str());
      auto line = value.source().begin.line;
      require(is_key(key), "{}: line {}: {} is not a key of letters, digits, _ and -", path.string(), line, key);
      require(is_supported(value), "{}: line {}: {} is neither true/false, a number, a string nor a list of these",
              path.string(), line, key);
      config.values_[key] = literal(value);
      config.origin_[key] = path.string();
    }
  }
  return config;
}

void Config::override_with(const std::string& assignment) {
  size_t equals = assignment.find('=');
  std::string key = assignment.substr(0, equals);
  require(equals != std::string::npos && is_key(key), "{}: expected a setting as section.key=value", assignment);
  values_[key] = assignment.substr(equals + 1);
  origin_[key] = "--" + key;
}

template <typename T>
T Config::get(const std::string& key, const T& fallback) {
  auto found = values_.find(key);
  bool given = found != values_.end();
  std::string origin = given ? origin_[key] : "";
  std::string text = given ? found->second : "";
  bool from_option = given && origin == "--" + key;
  std::string variable = variable_name(key);
  const char* environment = environment_ && !from_option ? std::getenv(variable.c_str()) : nullptr;
  if (environment) {
    origin = variable;
    text = environment;
  }
  if (!given && !environment) {
    used_[key] = literal(fallback);
    return fallback;
  }
  bool typed = from_option || environment;  // typed by a person in a shell, not a literal of a file
  auto value = parse_literal<T>(typed ? text_as_literal<T>(text) : text);
  require(value.has_value(), "{}: {} is {}, expected {}", origin, key, text.empty() ? "empty" : text, type_name<T>());
  used_[key] = literal(*value);
  return *value;
}

template bool Config::get(const std::string&, const bool&);
template int64_t Config::get(const std::string&, const int64_t&);
template double Config::get(const std::string&, const double&);
template std::string Config::get(const std::string&, const std::string&);
template std::vector<int64_t> Config::get(const std::string&, const std::vector<int64_t>&);
template std::vector<std::string> Config::get(const std::string&, const std::vector<std::string>&);

void Config::refuse_unknown_keys() const {
  for (const auto& [key, value] : values_) {
    if (used_.count(key)) continue;
    std::vector<std::string> known;
    for (const auto& [name, unused] : used_) known.push_back(name);
    std::string hint = did_you_mean(key, known);
    if (hint.empty()) hint = keys_near(key);
    fail("{}: unknown key {}{}", origin_.at(key), key, hint);
  }
}

// What to say where no key resembles the unknown one: the keys of its section, or the sections.
std::string Config::keys_near(const std::string& key) const {
  const std::string section = key.substr(0, key.find('.') + 1);
  std::string keys, sections;
  for (const auto& [name, unused] : used_) {
    if (name.starts_with(section)) keys += (keys.empty() ? "" : ", ") + name.substr(section.size());
    const std::string of = name.substr(0, name.find('.'));
    if (!sections.ends_with(of)) sections += (sections.empty() ? "" : ", ") + of;
  }
  if (!keys.empty()) return fmt::format("; the keys of [{}] are {}", section.substr(0, section.size() - 1), keys);
  return sections.empty() ? "" : "; the sections are " + sections;
}

std::string Config::used_as_toml() const {
  std::string text, section;
  for (const auto& [key, value] : used_) {
    size_t dot = key.find('.');
    if (key.substr(0, dot) != section) {
      section = key.substr(0, dot);
      text += fmt::format("{}[{}]\n", text.empty() ? "" : "\n", section);
    }
    text += fmt::format("{} = {}\n", key.substr(dot + 1), value);
  }
  return text;
}

}  // namespace cepe
