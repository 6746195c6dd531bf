#include "speed/shapes.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/core/grad_mode.h>

#include <charconv>
#include <cmath>

#include "base/error.h"

namespace cepe {
namespace {

constexpr int64_t kChunkLength = 256, kEncoderWindow = 512;

struct DecoderShape {
  const char* name;
  StackConfig config;
};

// Sizes in the order of StackConfig, of the published config.json of each.
const std::vector<DecoderShape>& decoder_shapes() {
  static const std::vector<DecoderShape> shapes = [] {
    std::vector<DecoderShape> list;
    const auto add = [&](const char* name, StackConfig config, double theta) {
      config.rope.theta = theta;
      list.push_back({name, std::move(config)});
      return &list.back().config;
    };
    const auto llama3 = [](RopeConfig& rope, double factor) {
      rope.kind = RopeKind::llama3;
      rope.factor = factor;
      rope.original_positions = 8192;
    };
    //                       family  vocabulary    D      F   layers H   G    K  window   eps     theta
    add("smollm2-135m", {"llama", 49152, 576, 1536, 30, 9, 3, 64, 8192, 1e-5}, 1e5)->tie_embeddings = true;
    add("smollm2-360m", {"llama", 49152, 960, 2560, 32, 15, 5, 64, 8192, 1e-5}, 1e5)->tie_embeddings = true;
    add("smollm2-1.7b", {"llama", 49152, 2048, 8192, 24, 32, 32, 64, 8192, 1e-5}, 130000)->tie_embeddings = true;
    add("tinyllama-1.1b", {"llama", 32000, 2048, 5632, 22, 32, 4, 64, 2048, 1e-5}, 1e4);
    add("llama-2-7b", {"llama", 32000, 4096, 11008, 32, 32, 32, 128, 4096, 1e-5}, 1e4);
    add("llama-2-13b", {"llama", 32000, 5120, 13824, 40, 40, 40, 128, 4096, 1e-5}, 1e4);
    add("llama-3-8b", {"llama", 128256, 4096, 14336, 32, 32, 8, 128, 8192, 1e-5}, 5e5);
    llama3(add("llama-3.1-8b", {"llama", 128256, 4096, 14336, 32, 32, 8, 128, 131072, 1e-5}, 5e5)->rope, 8);
    add("mistral-7b-v0.3", {"mistral", 32768, 4096, 14336, 32, 32, 8, 128, 32768, 1e-5}, 1e6);
    StackConfig* qwen = add("qwen2.5-0.5b", {"qwen2", 151936, 896, 4864, 24, 14, 2, 64, 32768, 1e-6}, 1e6);
    qwen->qkv_bias = qwen->tie_embeddings = true;
    add("qwen2.5-7b", {"qwen2", 152064, 3584, 18944, 28, 28, 4, 128, 131072, 1e-6}, 1e6)->qkv_bias = true;
    add("qwen3-8b", {"qwen3", 151936, 4096, 12288, 36, 32, 8, 128, 40960, 1e-6}, 1e6)->qk_norm = true;
    return list;
  }();
  return shapes;
}

std::string known_names() {
  std::string text;
  for (const DecoderShape& shape : decoder_shapes()) text += (text.empty() ? "" : ", ") + std::string(shape.name);
  return text;
}

// LLaMA-MLM-Large (arXiv 2402.16617, section 2.2), with the decoder's vocabulary.
StackConfig mlm_large(int64_t vocabulary) {
  StackConfig config{"llama", vocabulary, 1024, 4096, 24, 16, 16, 64, kEncoderWindow, 1e-6};
  return config;
}

std::optional<int64_t> whole_number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

void add_encoder(CepeConfig& config, const std::string& encoder, const std::string& name) {
  config.chunk_length = kChunkLength;
  if (encoder == "mlm-large") {
    config.encoder = mlm_large(config.decoder.vocab_size);
    config.encoder_embeddings = EncoderEmbeddings::own;
    config.num_cross_attn_layers = config.decoder.num_layers;
    return;
  }
  const size_t by = encoder.find('x');
  const auto layers = whole_number(encoder.substr(0, by));
  const auto cross = by == std::string::npos ? std::nullopt : whole_number(encoder.substr(by + 1));
  require(layers && cross,
          "shape {}: after the + expected mlm-large, or <encoder layers>x<cross-attention layers> such as 8x15, found "
          "\"{}\"",
          name, encoder);
  const int64_t most = config.decoder.num_layers;
  require(*layers >= 1 && *layers <= most && *cross >= 1 && *cross <= most,
          "shape {}: encoder and cross-attention layers should be 1 to {}, as many as the decoder has; found {} and {}",
          name, most, *layers, *cross);
  config.encoder = config.decoder;
  config.encoder->num_layers = *layers;
  config.encoder->max_positions = kEncoderWindow;
  config.encoder->tie_embeddings = false;
  config.encoder_embeddings = EncoderEmbeddings::decoder;
  config.num_cross_attn_layers = *cross;
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

}  // namespace

std::vector<std::string> decoder_shape_names() {
  std::vector<std::string> names;
  for (const DecoderShape& shape : decoder_shapes()) names.emplace_back(shape.name);
  return names;
}

CepeConfig shape_config(const std::string& name) {
  const size_t plus = name.find('+');
  const std::string decoder = name.substr(0, plus);
  for (const DecoderShape& shape : decoder_shapes()) {
    if (decoder != shape.name) continue;
    CepeConfig config;
    config.decoder = shape.config;
    if (plus != std::string::npos) add_encoder(config, name.substr(plus + 1), name);
    return config;
  }
  fail("shape {}: there is no decoder \"{}\"; known are {}", name, decoder, known_names());
}

Cepe random_model(const CepeConfig& config, const RandomModelOptions& options) {
  const at::NoGradGuard no_gradients;
  at::Generator random = at::globalContext().defaultGenerator(options.device).clone();
  random.set_current_seed(options.seed);
  const at::TensorOptions tensor = at::TensorOptions().device(options.device).dtype(options.dtype);
  Cepe model;
  model.config = config;
  create_modules(model);
  for (Parameter& parameter : parameters(model)) {
    at::Tensor value = at::empty(parameter.shape, tensor);
    if (parameter.shape.size() == 2) {
      value.normal_(0, 1 / std::sqrt(static_cast<double>(parameter.shape[1])), random);
    } else {
      value.fill_(ends_with(parameter.name, ".bias") ? 0 : 1);
    }
    *parameter.value = value;
  }
  if (config.decoder.tie_embeddings) model.decoder.lm_head = model.decoder.stack.embedding;
  return model;
}

}  // namespace cepe
