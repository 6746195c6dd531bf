#include "apps/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "apps/preset.h"
#include "base/error.h"
#include "base/nearest.h"

namespace cepe {
namespace {

// CLI11 takes no list apart whose greatest length is below this and that may not have extra arguments.
constexpr int kMany = 1 << 20;
constexpr const char* kText = "TEXT";  // the type name of options for which the empty string is a value

bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }
// CLI11 gives more than one positional argument only to an option with extra arguments.
bool is_positional_list(const CLI::Option& option) { return option.get_positional() && option.get_expected_max() > 1; }
bool needs_value(const CLI::Option& option) { return option.get_items_expected_min() > 0; }

std::vector<std::string> option_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

template <typename T>
bool reads_as(std::string_view text) {
  T value{};
  if (text.starts_with('+')) text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if constexpr (std::is_floating_point_v<T>) {
    if (!std::isfinite(value)) return false;
  }
  return error == std::errc() && end == text.data() + text.size();
}

// A number as CLI11 reads it right, from one as a person writes it: decimal, or a whole one in hexadecimal (0x...).
std::string read_number(const std::string& name, const std::string& kind, const std::string& text) {
  if (kind == "FLOAT") {
    require(reads_as<double>(text), "{}: expected a number, found \"{}\"", name, text);
    return text;
  }
  const bool hexadecimal = text.starts_with("0x") && text.size() > 2 && text.size() <= 17 &&
                           text.find_first_not_of("0123456789abcdefABCDEF", 2) == std::string::npos;
  if (kind == "UINT") {
    require(hexadecimal || reads_as<uint64_t>(text), "{}: expected a whole number from 0 to {}, found \"{}\"", name,
            std::numeric_limits<uint64_t>::max(), text);
  } else {
    require(hexadecimal || reads_as<int64_t>(text), "{}: expected a whole number of at most {}, found \"{}\"", name,
            std::numeric_limits<int64_t>::max(), text);
  }
  if (hexadecimal) return text;
  // CLI11 would read digits after a zero as octal.
  const size_t sign = text.find_first_of("+-") == 0 ? 1 : 0;
  const size_t first = std::min(text.find_first_not_of('0', sign), text.size() - 1);
  return text.substr(0, sign) + text.substr(first);
}

// What numbers an option takes, for lists as well, whose type names say what is counted.
std::string kind_of(const CLI::Option& option) {
  const std::string kind = option.get_type_name();
  return kind == "COUNT,..." ? "INT" : kind == "SEED,..." ? "UINT" : kind;
}

// The value in the form that CLI11 reads as it was meant.
std::string read_value(const std::string& name, const CLI::Option& option, const std::string& value) {
  const std::string kind = kind_of(option);
  const bool number = kind == "INT" || kind == "UINT" || kind == "FLOAT";
  require(!value.empty() || kind == kText, "{}: the value is empty", name);
  if (option.get_delimiter() == '\0') return number ? read_number(name, kind, value) : value;
  std::string out;
  for (size_t begin = 0; begin <= value.size();) {
    const size_t end = std::min(value.find(option.get_delimiter(), begin), value.size());
    const std::string item = value.substr(begin, end - begin);
    require(!item.empty(), "{}: an empty item in \"{}\"", name, value);
    out += (out.empty() ? "" : ",") + (number ? read_number(name, kind, item) : item);
    begin = end + 1;
  }
  return out;
}

[[noreturn]] void unknown_option(const CLI::App& command, const std::string& path, const std::string& name) {
  std::string hint = did_you_mean(name, option_names(command));
  if (command.get_allow_extras()) hint += "; a key of the configuration is given as --section.key=value";
  fail("{}: unknown option {}{} (cepe {} --help lists the options)", path, name, hint, path);
}

// Goes through one command's arguments.
class Reader {
 public:
  // `path`: the command's name, after that of the command that it belongs to.
  Reader(const CLI::App& command, std::string path, std::vector<std::string> arguments)
      : command_(command), path_(std::move(path)), arguments_(std::move(arguments)) {}

  std::vector<std::string> read() {
    for (; next_ < arguments_.size(); ++next_) {
      const std::string& argument = arguments_[next_];
      if (argument == "--") break;
      if (argument.size() < 2 || argument[0] != '-') {
        read_.push_back(in_brackets(argument) ? "./" + argument : argument);
      } else {
        read_option(argument);
      }
    }
    read_.insert(read_.end(), arguments_.begin() + static_cast<std::ptrdiff_t>(next_), arguments_.end());
    return std::move(read_);
  }

 private:
  // CLI11 would take a file of this name for a list of files.
  bool in_brackets(const std::string& argument) const {
    const auto lists = command_.get_options([](const CLI::Option* option) { return is_positional_list(*option); });
    return !lists.empty() && argument.starts_with('[') && argument.ends_with(']');
  }

  void read_option(const std::string& argument) {
    const size_t equals = argument.find('=');
    const std::string name = argument.substr(0, equals);
    const CLI::Option* option = command_.get_option_no_throw(name);
    if (option == nullptr) {
      // A key of the configuration, which reads its value itself.
      if (!command_.get_allow_extras() || name.find('.') == std::string::npos) unknown_option(command_, path_, name);
      read_.push_back(argument);
    } else if (equals != std::string::npos) {
      const std::string value = argument.substr(equals + 1);
      require(takes_value(*option) || !value.empty(), "{}: takes no value", name);
      if (!takes_value(*option)) {
        read_.push_back(argument);
      } else if (const std::string text = read_value(name, *option, value); !text.empty()) {
        read_.push_back(name + "=" + text);
      } else {
        read_.insert(read_.end(), {name, text});
      }
    } else {
      read_.push_back(name);
      if (!needs_value(*option)) return;
      require(next_ + 1 < arguments_.size(), "{}: {} needs a value", path_, name);
      read_.push_back(read_value(name, *option, arguments_[++next_]));
    }
  }

  const CLI::App& command_;
  std::string path_;
  std::vector<std::string> arguments_, read_;
  size_t next_ = 0;
};

std::string command_names(const CLI::App& app) {
  std::string names;
  for (const CLI::App* command : app.get_subcommands({})) names += (names.empty() ? "" : ", ") + command->get_name();
  return names;
}

// `path`: the command so far, "cepe" or "cepe eval".
CLI::App& find_command(CLI::App& app, const std::string& word, const std::string& path) {
  std::vector<std::string> names{"--help", "--version"};
  for (CLI::App* command : app.get_subcommands({})) {
    if (command->get_name() == word) return *command;
    names.push_back(command->get_name());
  }
  std::string hint = did_you_mean(word, names);
  if (hint.empty()) hint = "; the commands are " + command_names(app);
  fail("unknown command \"{}\"{} ({} --help describes the commands)", word, hint, path);
}

// A command with commands of its own may do something itself, with arguments.
bool takes_arguments(const CLI::App& command) {
  return !command.get_options([](const CLI::Option* option) { return option->get_positional(); }).empty();
}
bool has_command(const CLI::App& app, const std::string& word) {
  const auto commands = app.get_subcommands({});
  return std::any_of(commands.begin(), commands.end(), [&](const CLI::App* c) { return c->get_name() == word; });
}

// The option that has another option's name as its value: probably its own is missing.
std::string option_that_swallowed(const CLI::App& command) {
  const std::vector<std::string> names = option_names(command);
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& value : option->results()) {
      if (std::find(names.begin(), names.end(), value) != names.end())
        return fmt::format("; {} has the value \"{}\"", option->get_name(), value);
    }
  }
  return "";
}

// CLI11's help with every option once and long descriptions in several lines.
class HelpFormatter : public CLI::Formatter {
 public:
  // An argument that has an option's name, too, is listed with the options.
  std::string make_positionals(const CLI::App* app) const override {
    const auto positionals = app->get_options(
        [](const CLI::Option* option) { return option->get_positional() && !option->nonpositional(); });
    return positionals.empty() ? "" : make_group("Arguments", true, positionals);
  }
  std::string make_option(const CLI::Option* option, bool is_positional) const override {
    std::string left = make_option_name(option, is_positional), about = option->get_description();
    left = left.substr(0, left.find('{'));  // CLI11's note on what a flag stands for
    const std::string kind = option->get_option_text().empty() ? option->get_type_name() : option->get_option_text();
    if (takes_value(*option)) left += " " + kind;
    std::string value = option->get_default_str();
    if (value.starts_with('[')) value = value.substr(1, value.size() - 2);  // CLI11's form of a list
    if (option->get_required()) about += " (required)";
    if (!value.empty()) about += " (default: " + value + ")";
    return entry(left, about);
  }
  std::string make_subcommand(const CLI::App* command) const override {
    return entry(command->get_name(), command->get_description());
  }
  std::string make_option_usage(const CLI::Option* option) const override {
    const std::string name = make_option_name(option, true) + (is_positional_list(*option) ? "..." : "");
    return option->get_required() ? name : "[" + name + "]";
  }
  std::string make_usage(const CLI::App* app, std::string name) const override {
    return "\n" + CLI::Formatter::make_usage(app, std::move(name));
  }
  std::string make_description(const CLI::App* app) const override { return app->get_description() + "\n"; }

 private:
  static std::string entry(const std::string& left, const std::string& description) {
    constexpr size_t kColumn = 30, kWidth = 100;
    std::string out, line = "  " + left;
    if (line.size() + 2 > kColumn) {
      out += line + "\n";
      line.clear();
    }
    line.resize(kColumn, ' ');
    bool fresh = true;  // nothing of the description stands in the line
    for (size_t begin = 0; begin < description.size();) {
      const size_t end = std::min(description.find(' ', begin), description.size());
      if (!fresh && line.size() + 1 + end - begin > kWidth) {
        out += line + "\n";
        line.assign(kColumn, ' ');
        fresh = true;
      }
      line += (fresh ? "" : " ") + description.substr(begin, end - begin);
      fresh = false;
      begin = end + 1;
    }
    return out + line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
};

}  // namespace

CLI::Option* add_strings(CLI::App& command, const std::string& name, std::vector<std::string>& values, Strings how,
                         const std::string& help) {
  std::string shown;
  for (const std::string& value : values) shown += (shown.empty() ? "" : ",") + value;
  // A callback of our own: CLI11's drops a list that is "{}".
  CLI::Option* option = command.add_option(
      name,
      [&values](const CLI::results_t& results) {
        values = results;
        return true;
      },
      help);
  option->type_name(how == Strings::several ? "FILE..." : kText)->default_str(shown);
  option->allow_extra_args(false)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  option->expected(1, how == Strings::several ? kMany : 1);
  if (how == Strings::commas) option->delimiter(',')->type_name("NAME,...");
  return option;
}

CLI::Option* add_json_option(CLI::App& command, std::string& path, const std::string& what) {
  CLI::Option* option = command.add_option(
      "--json",
      [&path](const CLI::results_t& results) {
        path = results[0].empty() ? "-" : results[0];
        return true;
      },
      what + " as JSON into this file; without FILE, or -: on standard output");
  return option->expected(0, 1)->allow_extra_args(false)->option_text("[FILE]");
}

std::vector<std::string> read_arguments(CLI::App& app, int argc, char** argv) {
  std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  require(!arguments.empty(), "no command is given: the commands are {} (cepe --help describes them)",
          command_names(app));
  if (arguments[0].starts_with('-')) {
    require(app.get_option_no_throw(arguments[0]) != nullptr, "unknown option {}{} (cepe --help lists the options)",
            arguments[0], did_you_mean(arguments[0], option_names(app)));
    return arguments;
  }
  CLI::App* command = &app;
  std::vector<std::string> read;
  std::string path = "cepe";
  while (!command->get_subcommands({}).empty() && !arguments.empty() && !arguments[0].starts_with('-')) {
    if (takes_arguments(*command) && !has_command(*command, arguments[0])) break;
    command = &find_command(*command, arguments[0], path);
    path += " " + arguments[0];
    read.push_back(std::move(arguments[0]));
    arguments.erase(arguments.begin());
  }
  require(command->get_subcommands({}).empty() || !arguments.empty(),
          "{}: no command is given: the commands are {} ({} --help describes them)", path.substr(5),
          command_names(*command), path);
  for (CLI::Option* option : command->get_options()) option->allow_extra_args(is_positional_list(*option));
  const auto append = [&](std::vector<std::string> some) {
    some = Reader(*command, path.substr(5), std::move(some)).read();
    read.insert(read.end(), some.begin(), some.end());
  };
  for (PresetArguments& given : preset_arguments(*command, path.substr(5), arguments)) {
    try {
      append(std::move(given.arguments));
    } catch (const Error& error) {
      fail("{}: {}", given.where, error.what());
    }
  }
  append(std::move(arguments));
  return read;
}

std::string usage_error(const CLI::App& app, const CLI::ParseError& error) {
  std::vector<CLI::App*> chosen = app.get_subcommands();
  if (chosen.empty()) return error.what();
  std::string path = chosen[0]->get_name();
  while (!chosen[0]->get_subcommands().empty()) {
    chosen = chosen[0]->get_subcommands();
    path += " " + chosen[0]->get_name();
  }
  const CLI::App& command = *chosen[0];
  std::string sentence = error.what();
  std::vector<std::string> left = command.remaining();
  std::erase(left, "--");
  if (!left.empty() && !command.get_allow_extras())
    sentence = fmt::format("unexpected argument \"{}\"{}", left[0], option_that_swallowed(command));
  return fmt::format("{}: {} (cepe {} --help lists the options)", path, sentence, path);
}

void format_help(CLI::App& app) {
  const auto formatter = std::make_shared<HelpFormatter>();
  formatter->label("SUBCOMMAND", "COMMAND");
  app.formatter(formatter);
  for (CLI::App* command : app.get_subcommands({})) {
    format_help(*command);
    command->group("Commands");
  }
}

}  // namespace cepe
