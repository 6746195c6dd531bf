// Results that a user asked for under a name of any kind: a file, standard output, a device or a pipe.
#pragma once

#include <filesystem>
#include <string_view>

namespace cepe {

// True for "-", and for every name of the file that standard output is (/dev/stdout).
bool is_standard_output(const std::filesystem::path& path);

// Writes the content: to standard output, after what was printed there; into a device or pipe; or as write_file does.
// Throws Error naming the file and the system's reason.
void write_output(const std::filesystem::path& path, std::string_view content);

// Throws Error where write_output would fail from the start, so that hours of work do not end there. Leaves no file.
void check_writable(const std::filesystem::path& path);

}  // namespace cepe
