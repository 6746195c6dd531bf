// What commands say: results on standard output, notes on standard error.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace cepe {

// Writes text to standard output; Error where that fails.
void print(std::string_view text);
// Writes one line, "cepe: <text>", to standard error. Control characters in the text are escaped.
void tell(std::string_view text);
// The same as a line of its own, without "cepe: " before it: what a command says in a conversation.
void note(std::string_view text);

// Closes what commands wrote to standard output; false where some of it could not be written.
bool close_output();

// A command's result on the screen: on standard output, or on standard error where one of the files is standard output.
// Control characters in the text are escaped, line breaks stay.
void print_beside(const std::vector<std::string>& files, std::string_view text);

// A bar for work that reports what is done of a total: it is made at the first report and ends with the last.
std::function<void(int64_t done, int64_t total)> progress_bar(std::string what);

// A result that goes into a file besides.
struct ResultFile {
  std::string path;  // empty: not asked for
  std::function<void(const std::string& path)> write;
};
// Writes each file that was asked for; one that fails does not keep the others from being written. Then throws Error
// with what failed.
void write_results(const std::vector<ResultFile>& files);

}  // namespace cepe
