#include "base/preset.h"

#include <toml++/toml.h>

#include "base/error.h"
#include "base/file.h"

namespace cepe {
namespace {

std::string where_of(const std::filesystem::path& path, const toml::node& node) {
  return fmt::format("{}:{}", path.string(), node.source().begin.line);
}

std::string text_of(const toml::node& node, const std::string& where, std::string_view name) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* number = node.as_integer()) return std::to_string(number->get());
  if (const auto* number = node.as_floating_point()) return fmt::format("{}", number->get());
  fail("{}: expected {} to be a boolean, a number, a string, or an array of numbers and strings", where, name);
}

PresetOption option_of(const std::filesystem::path& path, std::string_view name, const toml::node& node) {
  PresetOption option{std::string(name), {}, false, where_of(path, node)};
  if (const auto* flag = node.as_boolean()) {
    option.flag = true;
    option.values = {flag->get() ? "true" : "false"};
  } else if (const auto* array = node.as_array()) {
    for (const toml::node& element : *array) option.values.push_back(text_of(element, option.where, name));
    require(!option.values.empty(), "{}: {} is an empty array", option.where, name);
  } else {
    option.values = {text_of(node, option.where, name)};
  }
  return option;
}

toml::table parsed(const std::filesystem::path& path) {
  const std::string content = read_file(path);
  try {
    return toml::parse(content, path.string());
  } catch (const toml::parse_error& error) {
    fail("{}:{}: not valid TOML: {}", path.string(), error.source().begin.line, error.description());
  }
}

}  // namespace

Preset read_preset(const std::filesystem::path& path) {
  const toml::table file = parsed(path);
  const toml::table* table = &file;
  Preset preset;
  // [eval.icl] is a table in a table.
  while (table->size() == 1 && table->begin()->second.is_table()) {
    preset.command += (preset.command.empty() ? "" : " ") + std::string(table->begin()->first);
    table = table->begin()->second.as_table();
  }
  require(!preset.command.empty(), "{}: expected one table with the name of a command, such as [eval.icl]",
          path.string());
  for (const auto& [name, node] : *table) {
    require(!node.is_table(), "{}: expected the options of one command, found a table in the table of {}",
            where_of(path, node), preset.command);
    preset.options.push_back(option_of(path, std::string_view(name), node));
  }
  return preset;
}

}  // namespace cepe
