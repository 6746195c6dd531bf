// Run directories as the commands write them, made by hand: the shapes are those of docs/eval.md and docs/training.md.
#pragma once

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json_text.h"
#include "base/temporary_directory.h"

namespace cepe {

using Tags = std::map<std::string, std::string>;

inline nlohmann::json sample(const std::string& id, const Tags& tags, const std::string& prediction, double score) {
  return {{"id", id},
          {"tags", tags},
          {"cluster", "c"},
          {"input", std::string(64, '0')},
          {"prediction", prediction},
          {"references", {"a reference"}},
          {"scores", {{"em", score}, {"f1", score}}},
          {"sources", {"one"}},
          {"stop_reason", "end_token"},
          {"context_tokens", 346},
          {"prompt_tokens", 23},
          {"answer_tokens", 8}};
}

inline nlohmann::json result(const Tags& tags, const std::string& score, double value) {
  return {{"tags", tags},        {"score", score}, {"value", value}, {"standard_error", 0.023},
          {"half_width", 0.047}, {"n", 300}};
}

inline nlohmann::json configuration(const std::string& model) {
  return {{"command", "eval qa"}, {"model", model}, {"device", "cpu"}, {"dtype", "float32"}, {"seed", 1}};
}

inline nlohmann::json results(const std::string& model, const std::vector<nlohmann::json>& rows) {
  return {{"configuration", configuration(model)},
          {"results", rows},
          {"by_answerable", nlohmann::json::array()},
          {"examples", 900},
          {"resumed", 0},
          {"seconds", 75.9},
          {"peak_memory_bytes", 907395072}};
}

inline void write_text(const std::filesystem::path& file, const std::string& text) {
  std::filesystem::create_directories(file.parent_path());
  write_file(file, text);
}

inline void write_evaluation(const std::filesystem::path& directory, const nlohmann::json& values,
                             const std::vector<nlohmann::json>& samples) {
  std::string lines;
  for (const nlohmann::json& one : samples) lines += json_text(one) + "\n";
  write_text(directory / "results.json", json_text(values, 2));
  write_text(directory / "run.json", json_text(values.at("configuration"), 2));
  write_text(directory / "samples.jsonl", lines);
}

inline nlohmann::json step(int64_t number, const nlohmann::json& loss) {
  return {{"step", number},        {"loss", loss},   {"gradient_norm", 0.5},        {"learning_rate", 1e-3},
          {"milliseconds", 500.0}, {"tokens", 4096}, {"tokens_per_second", 8192.0}, {"tflops", 0.1}};
}

}  // namespace cepe
