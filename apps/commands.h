// The commands of the one binary. Each file apps/<command>.cc adds its subcommand: it declares options, builds
// objects and calls one function of the libraries. Errors are thrown as cepe::Error and printed by main().
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "model/checkpoint/checkpoint.h"

namespace cepe {

void add_info_command(CLI::App& app);
void add_generate_command(CLI::App& app);
void add_chat_command(CLI::App& app);
void add_perplexity_command(CLI::App& app);
void add_eval_command(CLI::App& app);
void add_verify_command(CLI::App& app);
void add_data_command(CLI::App& app);
void add_train_command(CLI::App& app);
void add_convert_command(CLI::App& app);
void add_export_command(CLI::App& app);
void add_bench_command(CLI::App& app);
void add_report_command(CLI::App& app);
void add_index_command(CLI::App& app);

// The options that every command with a model shares.
struct ModelOptions {
  std::string model;               // --model or the positional MODEL
  std::string base;                // --base: the decoder of a trained-parts directory
  std::string device = "auto";     // --device: auto, cpu, cuda, cuda:N
  std::string dtype = "auto";      // --dtype: float32, bfloat16, or auto, see add_model_options
  int64_t window = 0;              // --window: decoder_window(); 0: what the model gives
  std::string weights = "stored";  // --weights: auto (weights_text()), stored, int8, int4 or fp8 (weight_type.h)
};
// Adds --model (required; positional as well when asked for), --base, --device, --dtype and --weights to a command.
void add_model_options(CLI::App& command, ModelOptions& options, bool positional = false);
// Adds --window, for commands whose text the decoder's window bounds.
void add_window_option(CLI::App& command, ModelOptions& options);
// Adds --base alone.
void add_base_option(CLI::App& command, std::string& base);
// The device and element type that the options mean on this machine; Error where they cannot be had.
at::Device resolve_device(const ModelOptions& options);
at::ScalarType resolve_dtype(const ModelOptions& options, const at::Device& device);

// Opens a model for a command: a bare name is looked for, too (find_model), --base of a model that has none is an
// Error, and the notes about the model are told once on standard error.
OpenedModel open_model(const ModelOptions& options);
// The same with settings of the command's own; base may be empty.
OpenedModel open_model(const std::string& model, const std::string& base, OpenOptions options);
const char* dtype_name(at::ScalarType dtype);  // "bfloat16" or "float32"

// How a model that was opened with these options holds the matrices of its decoder, and why: "as the file, int4
// (exactly its values) in 210 matrices, ...". --weights auto is that on a CPU, and stored elsewhere.
std::string weights_text(const ModelOptions& options, Cepe& model);

// Of --latents: whether "int8" is asked for; "stored" is the other. Error otherwise.
bool int8_latents_from_name(const std::string& name);

}  // namespace cepe
