#include <ATen/Context.h>

#include <map>
#include <set>

#include "apps/commands.h"
#include "apps/output.h"
#include "base/error.h"
#include "model/merged_projections.h"
#include "model/weight_type.h"
#include "ops/cpu/targets.h"

namespace cepe {

namespace {

OpenedModel open_named(const std::string& model, const std::string& base, OpenOptions& options) {
  const std::filesystem::path path = find_model(model);
  if (!base.empty()) {
    require(is_trained_parts(path), "--base {}: {} is no directory of trained parts, so it has no base", base, model);
    options.base = find_model(base);
  }
  try {
    return open_model(path, options);
  } catch (const BaseNotFound& error) {
    fail("{}; --base MODEL names it", error.what());
  }
}

void tell_notes(const OpenedModel& opened) {
  for (const std::string& note : opened.notes) tell(opened.path.string() + ": " + note);
}

}  // namespace

void add_base_option(CLI::App& command, std::string& base) {
  command
      .add_option("--base", base,
                  "The decoder that trained parts belong to (default: found by its name in $CEPE_MODELS, then where "
                  "setup.sh puts models)")
      ->type_name("MODEL");
}

void add_model_options(CLI::App& command, ModelOptions& options, bool positional) {
  command
      .add_option(positional ? "model,--model" : "--model", options.model,
                  "A GGUF file, a Hugging Face directory, or a directory of trained parts; a name without a directory "
                  "is looked for in $CEPE_MODELS, too, and where setup.sh puts models")
      ->type_name("MODEL")
      ->required();
  add_base_option(command, options.base);
  command.add_option("--device", options.device, "Where to compute: auto, cpu, cuda or cuda:N")->capture_default_str();
  command
      .add_option("--dtype", options.dtype,
                  "Type to compute in: float32, bfloat16, or auto: bfloat16 on CUDA, and on a CPU that multiplies it "
                  "faster (amx_bf16, AMD's avx512_bf16) unless the decoder's matrices are float32")
      ->capture_default_str();
  command
      .add_option("--weights", options.weights,
                  "How weights are held: stored (as --dtype); int8, or int4 in groups of 32, of the decoder's "
                  "matrices: less to read for each written token; auto: on a CPU each in the 4 or 8 bits that its file "
                  "has; fp8 of all layers' matrices and their inputs: faster arithmetic, on a Hopper GPU")
      ->capture_default_str();
}

void add_window_option(CLI::App& command, ModelOptions& options) {
  command.add_option("--window", options.window,
                     "Tokens that the decoder reads, prompt and text together; 0: what the model's file and its rotary "
                     "scaling give");
}

at::Device resolve_device(const ModelOptions& options) {
  const bool cuda = at::globalContext().hasCUDA() && at::getNumGPUs() > 0;
  if (options.device == "auto") return cuda ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU);
  if (options.device == "cpu") return at::kCPU;
  require(options.device.rfind("cuda", 0) == 0, "--device: expected auto, cpu, cuda or cuda:N, found \"{}\"",
          options.device);
  require(cuda, "--device {}: this build or machine has no CUDA device", options.device);
  if (options.device == "cuda") return at::Device(at::kCUDA, 0);
  const std::string index = options.device.size() > 5 && options.device[4] == ':' ? options.device.substr(5) : "";
  require(!index.empty() && index.size() <= 3 && index.find_first_not_of("0123456789") == std::string::npos,
          "--device: expected auto, cpu, cuda or cuda:N, found \"{}\"", options.device);
  const int number = std::stoi(index), count = static_cast<int>(at::getNumGPUs());
  require(number < count, "--device {}: this machine has {} CUDA devices", options.device, count);
  return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(number));
}

at::ScalarType resolve_dtype(const ModelOptions& options, const at::Device& device) {
  const bool fast = device.is_cuda() || cpu::fast_bfloat16_products();
  if (options.dtype == "auto") return fast ? at::kBFloat16 : at::kFloat;
  if (options.dtype == "float32") return at::kFloat;
  if (options.dtype == "bfloat16") return at::kBFloat16;
  fail("--dtype: expected auto, float32 or bfloat16, found \"{}\"", options.dtype);
}

const char* dtype_name(at::ScalarType dtype) { return dtype == at::kBFloat16 ? "bfloat16" : "float32"; }

OpenedModel open_model(const std::string& model, const std::string& base, OpenOptions options) {
  OpenedModel opened = open_named(model, base, options);
  tell_notes(opened);
  return opened;
}

namespace {

// The type of all of them by --weights; auto has none, and leaves to OpenOptions::as_file what is not stored.
WeightType named_weights(const ModelOptions& options) {
  return options.weights == "auto" ? WeightType::stored : weight_type_from_name(options.weights, "--weights");
}

std::set<WeightType> as_file(const ModelOptions& options, const at::Device& device) {
  if (options.weights == "auto" && device.is_cuda()) return {};
  if (options.weights == "auto") return {WeightType::int4, WeightType::int8};
  return {named_weights(options)};
}

}  // namespace

std::string weights_text(const ModelOptions& options, Cepe& model) {
  if (options.weights == "fp8") return "fp8 (--weights)";
  const bool automatic = options.weights == "auto";
  std::map<WeightType, int64_t> count = packed_matrices(model);
  std::string packed;
  if (const int64_t n = count[WeightType::int4]; n > 0) {
    packed = fmt::format(", int4 in {} matrices{}", n, automatic ? " (exactly its values)" : "");
  }
  if (const int64_t n = count[WeightType::int8]; n > 0) {
    packed += fmt::format(", int8 in {}{} (a scale a row)", n, packed.empty() ? " matrices" : "");
  }
  if (!packed.empty()) return (automatic ? "as the file" : "as --weights says") + packed;
  const char* const why = !automatic                ? "--weights"
                          : model.device().is_cpu() ? "the file has none in 4 or 8 bits"
                                                    : "as always on a GPU";
  return fmt::format("stored, {} ({})", dtype_name(model.dtype()), why);
}

OpenedModel open_model(const ModelOptions& options) {
  OpenOptions open;
  require(options.window >= 0, "--window: expected 1 or more, or 0 for the model's own, found {}", options.window);
  if (options.window > 0) open.window = options.window;
  open.device = resolve_device(options);
  open.dtype = resolve_dtype(options, open.device);
  open.keep_float32 = options.dtype == "auto" && open.device.is_cpu();
  const WeightType weights = named_weights(options);
  open.as_file = as_file(options, open.device);
  OpenedModel opened = open_named(options.model, options.base, open);
  const QuantisedSizes sizes = quantise_weights(opened.model, weights);
  if (sizes.left > 0) {
    opened.notes.push_back(fmt::format("{} of {} matrices have shapes that {} cannot hold and stay {}", sizes.left,
                                       sizes.left + sizes.matrices, options.weights, dtype_name(opened.model.dtype())));
  }
  if (merging_pays(opened.model)) merge_projections(opened.model);
  tell_notes(opened);
  if (options.weights == "auto" && !packed_matrices(opened.model).empty()) {
    tell(fmt::format("weights: {}; --weights stored for {}", weights_text(options, opened.model),
                     dtype_name(opened.model.dtype())));
  }
  return opened;
}

bool int8_latents_from_name(const std::string& name) {
  require(name == "int8" || name == "stored", "--latents: expected stored or int8, found \"{}\"", name);
  return name == "int8";
}

}  // namespace cepe
