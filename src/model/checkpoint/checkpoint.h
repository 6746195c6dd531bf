// Models on disk: opening any of the supported kinds, and writing cepe's own (docs/formats/trained-parts.md).
//
//   a GGUF file                         a plain decoder
//   a Hugging Face directory            a plain decoder, or a published CEPE model (LlamaForCausalContextLM); weights
//                                       as safetensors or pickled
//   a trained-parts directory           encoder and cross-attention of cepe's own training; its base by name and hash
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "io/tensor_source.h"
#include "model/cepe.h"
#include "model/checkpoint/find_model.h"
#include "model/weight_type.h"
#include "text/tokenizer/tokenizer.h"

namespace cepe {

class GgufFile;

struct OpenOptions {
  std::optional<std::filesystem::path> base;  // the decoder of a trained-parts directory; see resolve_base
  at::Device device = at::kCPU;
  at::ScalarType dtype = at::kFloat;  // of all weights
  bool keep_float32 = false;          // float32 instead of dtype where the decoder's file holds float32
  // int4, int8: matrices_as_file() that the decoder's file or the trained parts hold so are never widened. int4:
  // blocks of Q4_0 and Q4_1, whose values stay exactly. int8: rows with a scale, exactly; and Q8_0, whose blocks of 32
  // have a scale each, rounded to one a row.
  std::set<WeightType> as_file;
  std::optional<int64_t> window;                // decoder_window() instead of the one that the file gives
  std::optional<at::ScalarType> trained_dtype;  // of encoder and cross-attention where different (training: float32)
};

struct OpenedModel {
  Cepe model;
  std::shared_ptr<const Tokenizer> tokenizer;         // null where the directory has none (fixtures)
  std::string chat_template;                          // Jinja source, empty where there is none
  std::string chat_template_file;                     // that holds it
  std::map<std::string, std::string> special_tokens;  // by name, "pad_token", for the chat template
  std::string kind;  // "GGUF", "Hugging Face directory", "published CEPE", "trained parts"
  std::filesystem::path path;
  std::optional<std::filesystem::path> base_path;  // trained parts: the base that was found
  std::string base_sha256;                         // of the decoder's weights (see hash_weights)
  std::vector<std::string> notes;                  // what a user should know: ignored tensors, fallbacks
  nlohmann::json training;                         // trained parts: what config.json records of it; null: nothing
};

// Opens a model. Errors name the file, the tensor, expected and found.
OpenedModel open_model(const std::filesystem::path& path, const OpenOptions& options = {});

// How trained parts are written.
struct SaveOptions {
  enum class Weights { f32, bf16, int8 } weights = Weights::bf16;  // int8: one float32 scale an output channel (row)
  std::string base_name;                                           // base_model_name_or_path
  std::string base_sha256;
  nlohmann::json training;  // recorded in config.json as "training"
};
// "f32", "bf16" or "int8"; Error, which names `where`, otherwise.
SaveOptions::Weights saved_weights_from_name(const std::string& name, const std::string& where);
// Writes config.json and model.safetensors of the trained parts into a directory, each atomically.
void save_trained_parts(Cepe& model, const std::filesystem::path& directory, const SaveOptions& options);
// Writes the whole model in the published layout. Error (one sentence why) where it cannot be expressed.
void export_published(Cepe& model, const std::filesystem::path& directory, SaveOptions::Weights weights);
// The same of a published model whose encoder and cross-attention were trained: every other tensor is copied from the
// directory that the model was opened from, byte for byte in the type it has there. So the precision of the arithmetic
// never rounds the frozen decoder. Error as above, or when that directory can no longer be read.
struct TrainedPublishedOptions {
  std::filesystem::path base;                                 // the published directory
  SaveOptions::Weights weights = SaveOptions::Weights::bf16;  // of the trained matrices; int8 is an Error
  nlohmann::json training;                                    // recorded in config.json as "training"
};
void export_trained_published(Cepe& model, const std::filesystem::path& directory,
                              const TrainedPublishedOptions& options);

// The vocabulary in a GGUF file's metadata.
GgufVocabulary gguf_vocabulary(const GgufFile& file);

struct TensorNames;  // tensor_names.h

// Loads every listed parameter from a source: found, of the listed shape, decoded to its type on the device or packed
// as it lies in the file. int8 tensors are multiplied by "<name>_scale". Returns the names in the source that nothing
// asked for.
struct LoadInput {
  const TensorSource& source;
  at::Device device;
  at::ScalarType dtype;
  const TensorNames* names = nullptr;                          // where the file's names are not the published ones
  std::optional<at::ScalarType> trained_dtype = std::nullopt;  // of encoder and cross-attention where it differs
  std::set<WeightType> as_file = {};                           // of OpenOptions
  std::vector<PackableMatrix> packable = {};                   // that may be held so
};
std::vector<std::string> load_parameters(const std::vector<Parameter>& list, const LoadInput& input);

}  // namespace cepe
