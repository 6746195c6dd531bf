// Arguments as a person typed them. CLI11 takes some of them apart: it splits values in square brackets, takes the next
// argument as the value of "--option=", reads 010 as eight and -1 as 2^64 - 1. One pass over the arguments, before
// CLI11 sees them, and options made here keep every command from that.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace cepe {

// How an option takes strings; each is kept as it is, brackets and braces too.
enum class Strings {
  one_each,  // --stop A --stop B
  several,   // --context A B C, up to the next option; also a positional argument
  commas     // --control A,B
};
CLI::Option* add_strings(CLI::App& command, const std::string& name, std::vector<std::string>& values, Strings how,
                         const std::string& help);

// --json [FILE]: the result as one JSON object, into a file, or on standard output ("-", or without FILE). It means the
// same in every command. The path stays empty where the option is not given.
CLI::Option* add_json_option(CLI::App& command, std::string& path, const std::string& what);

// The arguments after the program's name, in a form that CLI11 reads as they were meant: "--option=" with nothing is
// the empty string, numbers are plain decimal numbers. A command may have commands of its own (eval recall). Throws
// Error on an unknown command or option, naming it and the nearest one; on a value that is missing, empty where that
// has no meaning, or not a number of the option's kind.
std::vector<std::string> read_arguments(CLI::App& app, int argc, char** argv);

// The sentence for an error of CLI11's.
std::string usage_error(const CLI::App& app, const CLI::ParseError& error);

// Help as all commands show it: every option once, lines of at most 100 columns.
void format_help(CLI::App& app);

}  // namespace cepe
