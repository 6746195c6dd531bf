// JSON that another program wrote: read with errors that name file and line.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

namespace cepe {

// Hands over the object that the file is. Error naming the file where it is none, or where `use` asks of it what it
// does not hold (an exception of the JSON library).
void read_object(const std::filesystem::path& file, const std::function<void(const nlohmann::json&)>& use);

// The same for each line of a file of JSON lines; errors name the line. A last line without a line break is left out:
// it is being written, or was cut off by a crash. Bytes that are not UTF-8 read as U+FFFD.
void for_each_record(const std::filesystem::path& file, const std::function<void(const nlohmann::json&)>& use);

}  // namespace cepe
