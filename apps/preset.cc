#include "apps/preset.h"

#include <algorithm>

#include "base/error.h"
#include "base/nearest.h"
#include "base/preset.h"

namespace cepe {
namespace {

constexpr const char* kOption = "--preset";

bool is_given(const std::vector<std::string>& arguments, const std::string& name) {
  return std::any_of(arguments.begin(), arguments.end(),
                     [&](const std::string& argument) { return argument == name || argument.starts_with(name + "="); });
}

// The file that --preset names; empty where it is not given, or lacks its value, which is said elsewhere.
std::string file_in(const std::vector<std::string>& arguments) {
  for (size_t i = 0; i < arguments.size() && arguments[i] != "--"; ++i) {
    if (arguments[i] == kOption && i + 1 < arguments.size()) return arguments[i + 1];
    if (arguments[i].starts_with(std::string(kOption) + "="))
      return arguments[i].substr(std::string(kOption).size() + 1);
  }
  return "";
}

const CLI::Option& option_named(const CLI::App& command, const std::string& path, const PresetOption& given) {
  const std::string name = "--" + given.name;
  const CLI::Option* option = command.get_option_no_throw(name);
  const auto usable = [](const std::string& one) { return one != kOption && one != "--help"; };
  if (option != nullptr && usable(name)) return *option;
  std::vector<std::string> names;
  for (const CLI::Option* known : command.get_options()) {
    for (const std::string& one : known->get_lnames()) {
      if (usable("--" + one)) names.push_back(one);
    }
  }
  fail("{}: {} has no option \"{}\"{} (cepe {} --help lists the options)", given.where, path, given.name,
       did_you_mean(given.name, names), path);
}

std::vector<std::string> typed(const CLI::Option& option, const PresetOption& given) {
  const std::string name = "--" + given.name;
  const bool takes_value = option.get_items_expected_max() > 0;
  require(given.flag != takes_value, "{}: expected \"{}\" to be {}", given.where, given.name,
          takes_value ? "a value, found true or false" : "true or false, found a value");
  if (given.flag) {
    return given.values.front() == "true" ? std::vector{name} : std::vector<std::string>{};
  }
  if (option.get_delimiter() != '\0') {
    std::string list;
    for (const std::string& value : given.values)
      list += (list.empty() ? "" : std::string(1, option.get_delimiter())) + value;
    return {name + "=" + list};
  }
  const bool several = option.get_items_expected_max() > 1;
  require(several || given.values.size() == 1, "{}: expected one value of \"{}\", found {}", given.where, given.name,
          given.values.size());
  if (!several) return {name + "=" + given.values.front()};
  std::vector<std::string> arguments = {name};
  for (const std::string& value : given.values) {
    const bool is_option = value.size() > 1 && value.starts_with('-');
    require(!is_option, "{}: expected the values of \"{}\", found the option {}", given.where, given.name, value);
    arguments.push_back(value);
  }
  return arguments;
}

}  // namespace

void add_preset_option(CLI::App& command) {
  command
      .add_option_function<std::string>(
          kOption, [](const std::string&) {},
          "Options from a TOML file, such as those of configs/paper; options given here count before the file's")
      ->type_name("FILE");
}

std::vector<PresetArguments> preset_arguments(const CLI::App& command, const std::string& path,
                                              const std::vector<std::string>& arguments) {
  const std::string file = file_in(arguments);
  if (file.empty() || command.get_option_no_throw(kOption) == nullptr) return {};
  const Preset preset = read_preset(file);
  require(preset.command == path, "{}: the preset is one of cepe {}, and this is cepe {}", file, preset.command, path);
  std::vector<PresetArguments> all;
  for (const PresetOption& given : preset.options) {
    const CLI::Option& option = option_named(command, path, given);
    if (!is_given(arguments, "--" + given.name)) all.push_back({given.where, typed(option, given)});
  }
  return all;
}

}  // namespace cepe
