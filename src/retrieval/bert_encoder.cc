#include "retrieval/bert_encoder.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "io/hf_directory.h"
#include "ops/ops.h"
#include "text/wordpiece.h"

// B texts, T tokens, D width, H heads, K head size, F feed-forward width, V vocabulary.
namespace cepe {
namespace {

using nlohmann::json;

struct Affine {
  at::Tensor weight, bias;
};

struct Layer {
  Affine query, key, value, attention_output, attention_norm, intermediate, output, output_norm;
};

struct Sizes {
  int64_t width = 0, layers = 0, heads = 0, feed_forward = 0, vocabulary = 0, positions = 0, types = 0;
  double norm_epsilon = 0;
  bool gelu = true;
};

int64_t size_in(const json& config, const char* name, const std::string& where) {
  const auto found = config.find(name);
  const bool good = found != config.end() && found->is_number_integer() && found->get<int64_t>() >= 1 &&
                    found->get<int64_t>() <= (int64_t{1} << 24);
  require(good, "{}: expected \"{}\" to be a whole number from 1 to 2^24, found {}", where, name,
          found == config.end() ? "nothing" : found->dump());
  return found->get<int64_t>();
}

template <typename T>
T value_in(const json& object, const char* name, T otherwise, const std::string& where) {
  const auto found = object.find(name);
  if (found == object.end() || found->is_null()) return otherwise;
  const json example(otherwise);
  require(example.is_number() ? found->is_number() : found->type() == example.type(),
          "{}: expected \"{}\" to be a JSON {}, found a JSON {}", where, name, example.type_name(), found->type_name());
  return found->get<T>();
}

Sizes read_sizes(const json& config, const std::string& where) {
  const std::string type = value_in<std::string>(config, "model_type", "", where);
  require(type == "bert", "{}: expected model_type \"bert\", found \"{}\"", where, type);
  const std::string positions = value_in<std::string>(config, "position_embedding_type", "absolute", where);
  require(positions == "absolute", "{}: expected position_embedding_type \"absolute\", found \"{}\"", where, positions);
  const std::string activation = value_in<std::string>(config, "hidden_act", "gelu", where);
  require(activation == "gelu" || activation == "relu", "{}: expected hidden_act gelu or relu, found \"{}\"", where,
          activation);
  Sizes sizes;
  sizes.width = size_in(config, "hidden_size", where);
  sizes.layers = size_in(config, "num_hidden_layers", where);
  sizes.heads = size_in(config, "num_attention_heads", where);
  sizes.feed_forward = size_in(config, "intermediate_size", where);
  sizes.vocabulary = size_in(config, "vocab_size", where);
  sizes.positions = size_in(config, "max_position_embeddings", where);
  sizes.types = size_in(config, "type_vocab_size", where);
  sizes.norm_epsilon = value_in(config, "layer_norm_eps", 1e-12, where);
  sizes.gelu = activation == "gelu";
  require(sizes.width % sizes.heads == 0, "{}: hidden_size {} is no multiple of num_attention_heads {}", where,
          sizes.width, sizes.heads);
  require(sizes.positions > 2, "{}: max_position_embeddings is {}, expected 3 or more", where, sizes.positions);
  return sizes;
}

json read_if_present(const std::filesystem::path& file) {
  std::error_code error;
  if (!std::filesystem::exists(file, error)) return json::object();
  json value = read_json(file);
  require(value.is_object(), "{}: holds {}, expected a JSON object", file.string(), value.type_name());
  return value;
}

// modules.json names what sentence-transformers does to a text, in its order. Error where that is not what we do.
void check_modules(const std::filesystem::path& file) {
  std::error_code error;
  if (!std::filesystem::exists(file, error)) return;
  const json modules = read_json(file);
  require(modules.is_array(), "{}: holds {}, expected a JSON array of modules", file.string(), modules.type_name());
  std::vector<std::string> found;
  for (const json& module : modules) {
    require(module.is_object(), "{}: expected each module to be a JSON object, found {}", file.string(),
            module.type_name());
    const std::string type = value_in<std::string>(module, "type", "", file.string());
    const std::string path = value_in<std::string>(module, "path", "", file.string());
    found.push_back(type.substr(type.rfind('.') + 1));
    const std::string expected = found.back() == "Transformer" ? "" : "1_Pooling";
    require((found.back() != "Transformer" && found.back() != "Pooling") || path == expected,
            "{}: expected the module {} in \"{}\", found it in \"{}\"", file.string(), found.back(), expected, path);
  }
  require(found == std::vector<std::string>({"Transformer", "Pooling", "Normalize"}),
          "{}: expected the modules Transformer, Pooling and Normalize, found {}", file.string(),
          fmt::join(found, ", "));
}

// Whether the embedding is the state of [CLS]; the other pooling that is read is the mean.
bool pools_cls(const std::filesystem::path& file) {
  const json pooling = read_if_present(file);
  const bool cls = value_in(pooling, "pooling_mode_cls_token", false, file.string());
  const bool mean = value_in(pooling, "pooling_mode_mean_tokens", pooling.empty(), file.string());
  require(cls != mean, "{}: expected either pooling_mode_mean_tokens or pooling_mode_cls_token to be true",
          file.string());
  for (const auto& [name, value] : pooling.items()) {
    if (!name.starts_with("pooling_mode") || name == "pooling_mode_cls_token" || name == "pooling_mode_mean_tokens") {
      continue;
    }
    require(value.is_null() || value == false, "{}: expected \"{}\" to be false, found {}", file.string(), name,
            value.dump());
  }
  return cls;
}

WordPieceSettings read_wordpiece_settings(const json& tokenizer_config, const std::string& where) {
  WordPieceSettings settings;
  settings.lower_case = value_in(tokenizer_config, "do_lower_case", true, where);
  settings.strip_accents = value_in(tokenizer_config, "strip_accents", settings.lower_case, where);
  settings.space_ideographs = value_in(tokenizer_config, "tokenize_chinese_chars", true, where);
  return settings;
}

// Takes tensors out of a file by BERT's names.
class Weights {
 public:
  Weights(const TensorSource& source, const at::Device& device) : source_(source), device_(device) {
    if (source.find("embeddings.word_embeddings.weight") == nullptr) prefix_ = "bert.";
  }
  at::Tensor take(const std::string& name, const std::vector<int64_t>& shape) const {
    const std::string full = prefix_ + name, where = source_.path().string();
    const TensorView* view = source_.find(full);
    if (view == nullptr)
      fail("{}: tensor {} is missing, expected with shape ({})", where, full, fmt::join(shape, ", "));
    require(view->shape == shape, "{}: tensor {} has shape ({}), expected ({})", where, full,
            fmt::join(view->shape, ", "), fmt::join(shape, ", "));
    at::Tensor out = at::empty(shape, at::kFloat);
    decode_to_f32(*view, out.data_ptr<float>());
    return out.to(device_);
  }
  Affine affine(const std::string& name, int64_t out, int64_t in) const {
    return {take(name + ".weight", {out, in}), take(name + ".bias", {out})};
  }
  Affine norm(const std::string& name, int64_t width) const {
    return {take(name + ".weight", {width}), take(name + ".bias", {width})};
  }

 private:
  const TensorSource& source_;
  at::Device device_;
  std::string prefix_;
};

Layer take_layer(const Weights& weights, const std::string& name, const Sizes& sizes) {
  const int64_t D = sizes.width, F = sizes.feed_forward;
  return {.query = weights.affine(name + "attention.self.query", D, D),
          .key = weights.affine(name + "attention.self.key", D, D),
          .value = weights.affine(name + "attention.self.value", D, D),
          .attention_output = weights.affine(name + "attention.output.dense", D, D),
          .attention_norm = weights.norm(name + "attention.output.LayerNorm", D),
          .intermediate = weights.affine(name + "intermediate.dense", F, D),
          .output = weights.affine(name + "output.dense", D, F),
          .output_norm = weights.norm(name + "output.LayerNorm", D)};
}

at::Tensor apply(const Affine& map, const at::Tensor& x) { return at::linear(x, map.weight, map.bias); }

// Tokens of a batch at most, padding included. On a CPU what keeps the states of a layer small beside the weights; on a
// GPU what keeps it at work while the host starts kernels.
int64_t batch_tokens(const at::Device& device) { return device.is_cpu() ? 4096 : 65536; }

}  // namespace

struct BertEncoder::Model {
  Model(const HfDirectory& directory, const at::Device& device_in)
      : device(device_in),
        sizes(read_sizes(directory.config, (directory.path / "config.json").string())),
        wordpiece(
            directory.path / "vocab.txt",
            read_wordpiece_settings(directory.tokenizer_config, (directory.path / "tokenizer_config.json").string())),
        cls_pooling(pools_cls(directory.path / "1_Pooling" / "config.json")) {
    require(wordpiece.vocabulary_size() <= sizes.vocabulary,
            "{}: vocab.txt has {} pieces, config.json's vocab_size is {}", directory.path.string(),
            wordpiece.vocabulary_size(), sizes.vocabulary);
    check_modules(directory.path / "modules.json");
    const std::filesystem::path file = directory.path / "sentence_bert_config.json";
    const json settings = read_if_present(file);
    if (settings.contains("max_seq_length") && !settings["max_seq_length"].is_null()) {
      max_tokens = size_in(settings, "max_seq_length", file.string());
    }
    max_tokens = std::min(max_tokens > 2 ? max_tokens : sizes.positions, sizes.positions);
    const Weights weights(*directory.weights, device);
    words_VD = weights.take("embeddings.word_embeddings.weight", {sizes.vocabulary, sizes.width});
    // Every token is of the first type: its vector belongs to each position.
    positions_TD = weights.take("embeddings.position_embeddings.weight", {sizes.positions, sizes.width}) +
                   weights.take("embeddings.token_type_embeddings.weight", {sizes.types, sizes.width})[0];
    norm = weights.norm("embeddings.LayerNorm", sizes.width);
    for (int64_t i = 0; i < sizes.layers; ++i) {
      layers.push_back(take_layer(weights, fmt::format("encoder.layer.{}.", i), sizes));
    }
  }

  at::Tensor normed(const Affine& map, const at::Tensor& x) const {
    return at::layer_norm(x, {sizes.width}, map.weight, map.bias, sizes.norm_epsilon);
  }

  at::Tensor run_layer(const Layer& layer, const at::Tensor& x_BTD, const AttentionMask& mask) const {
    const auto heads = [&](const Affine& map) {
      return apply(map, x_BTD).view({x_BTD.size(0), x_BTD.size(1), sizes.heads, -1});
    };
    const at::Tensor seen = attention(heads(layer.query), heads(layer.key), heads(layer.value), mask).reshape_as(x_BTD);
    const at::Tensor middle = normed(layer.attention_norm, apply(layer.attention_output, seen) + x_BTD);
    const at::Tensor wide = apply(layer.intermediate, middle);
    return normed(layer.output_norm, apply(layer.output, sizes.gelu ? at::gelu(wide) : at::relu(wide)) + middle);
  }

  // ids (B, T) int64, keys (B, T) bool, both on the device -> (B, D) on the CPU
  at::Tensor run(const at::Tensor& ids_BT, const at::Tensor& keys_BT) const {
    at::Tensor x = normed(norm, at::embedding(words_VD, ids_BT) + positions_TD.narrow(0, 0, ids_BT.size(1)));
    AttentionMask mask;
    if (!keys_BT.all().item<bool>()) mask.keys_BS = keys_BT;
    for (const Layer& layer : layers) x = run_layer(layer, x, mask);
    at::Tensor pooled = x.select(1, 0);
    if (!cls_pooling) {
      const at::Tensor real = keys_BT.to(at::kFloat).unsqueeze(-1);
      pooled = (x * real).sum(1) / real.sum(1);
    }
    return (pooled / pooled.norm(2, -1, true).clamp_min(1e-12)).cpu();
  }

  std::vector<int64_t> ids_of(const std::string& text) const {
    const std::vector<TokenId> pieces = wordpiece.encode(text);
    std::vector<int64_t> ids{wordpiece.cls()};
    const size_t room = static_cast<size_t>(max_tokens - 2);
    ids.insert(ids.end(), pieces.begin(), pieces.begin() + static_cast<int64_t>(std::min(pieces.size(), room)));
    ids.push_back(wordpiece.sep());
    return ids;
  }

  at::Device device;
  Sizes sizes;
  WordPiece wordpiece;
  bool cls_pooling = false;
  int64_t max_tokens = 0;
  at::Tensor words_VD, positions_TD;
  Affine norm;
  std::vector<Layer> layers;
};

BertEncoder::BertEncoder(const std::filesystem::path& directory, const at::Device& device)
    : model_(std::make_unique<Model>(open_hf_directory(directory), device)) {}
BertEncoder::~BertEncoder() = default;

const at::Device& BertEncoder::device() const { return model_->device; }
int64_t BertEncoder::width() const { return model_->sizes.width; }
int64_t BertEncoder::max_tokens() const { return model_->max_tokens; }

at::Tensor BertEncoder::embed(const std::vector<std::string>& texts) const {
  const at::NoGradGuard no_gradients;
  const size_t count = texts.size();
  std::vector<std::vector<int64_t>> ids(count);
  at::parallel_for(0, static_cast<int64_t>(count), 16, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) ids[i] = model_->ids_of(texts[i]);
  });
  const int64_t most = batch_tokens(model_->device);
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return ids[a].size() < ids[b].size(); });
  at::Tensor out = at::empty({static_cast<int64_t>(count), width()}, at::kFloat);
  for (size_t begin = 0; begin < count;) {
    size_t end = begin + 1;  // the longest text of a batch is its last
    while (end < count && static_cast<int64_t>((end + 1 - begin) * ids[order[end]].size()) <= most) ++end;
    const auto rows = static_cast<int64_t>(end - begin), length = static_cast<int64_t>(ids[order[end - 1]].size());
    at::Tensor batch = at::zeros({rows, length}, at::kLong), real = at::zeros({rows, length}, at::kBool);
    at::Tensor places = at::empty({rows}, at::kLong);
    for (int64_t row = 0; row < rows; ++row) {
      const size_t text = order[begin + static_cast<size_t>(row)];
      std::copy(ids[text].begin(), ids[text].end(), batch.data_ptr<int64_t>() + row * length);
      std::fill_n(real.data_ptr<bool>() + row * length, ids[text].size(), true);
      places.data_ptr<int64_t>()[row] = static_cast<int64_t>(text);
    }
    out.index_copy_(0, places, model_->run(batch.to(model_->device), real.to(model_->device)));
    begin = end;
  }
  return out;
}

}  // namespace cepe
