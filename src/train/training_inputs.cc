#include "train/training_inputs.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "model/additions.h"
#include "model/checkpoint/masked_lm_checkpoint.h"
#include "model/merged_projections.h"
#include "train/samples/sample.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;

void check_windows(const TrainConfig& config, const Cepe& model) {
  const int64_t encoder = encoder_window(model.encoder->stack.config), decoder = decoder_window(model.config.decoder);
  require(config.chunk_length <= encoder, "train.chunk_length: chunks of {} tokens exceed the encoder's window of {}",
          config.chunk_length, encoder);
  // Beyond it the frozen decoder meets positions that it was never trained on, or a sliding window, which it would need
  // and does not have, hides the first tokens: either way the parts would learn to mend that.
  require(config.decoder_tokens <= decoder,
          "train.decoder_tokens: {} tokens exceed the decoder's window of {} (its positions, or its sliding window "
          "where that is narrower)",
          config.decoder_tokens, decoder);
  if (config.stage != Stage::distill) return;
  require(config.span_tokens() - 1 <= decoder,
          "train.stage distill: the teacher reads context and decoder's tokens, {} in all, which exceed the decoder's "
          "window of {}",
          config.span_tokens() - 1, decoder);
  const int64_t vocabulary = model.config.decoder.vocab_size;
  require(config.kl == Divergence::full || config.kl_top < vocabulary,
          "train.kl_top: {} tokens of a vocabulary of {} leave no rest", config.kl_top, vocabulary);
}

// Fresh cross-attention, with the given encoder or the decoder's first layers.
void add_parts(const TrainConfig& config, const at::Device& device, Cepe& model) {
  AdditionOptions additions;
  additions.encoder_layers = config.encoder_layers;
  additions.cross_attention_layers = config.cross_attention_layers;
  additions.zero_output = config.zero_output;
  additions.encoder_window = std::max(additions.encoder_window, config.chunk_length);
  additions.chunk_length = config.chunk_length;
  if (config.encoder.empty()) return add_cepe_parts(model, additions);
  add_cepe_parts(model, additions, open_masked_lm(config.encoder, device).stack);
}

// A decoder's rows may be padded beyond its tokens: an encoder needs none for those.
void check_encoder_rows(const TrainConfig& config, const OpenedModel& opened) {
  if (config.encoder.empty() || !opened.tokenizer) return;
  const int64_t tokens = opened.tokenizer->vocabulary_size(), rows = opened.model.config.encoder->vocab_size;
  require(tokens <= rows,
          "model.encoder: the embedding of {} has {} rows, the tokenizer of {} {} tokens: it was made with another",
          config.encoder, rows, config.base, tokens);
}

}  // namespace

fs::path base_of(const TrainConfig& config) {
  return fs::exists(config.base) ? fs::path(config.base) : resolve_base(config.base, std::nullopt);
}

OpenedModel open_for_training(const TrainConfig& config, const at::Device& device, at::ScalarType dtype) {
  const fs::path base = base_of(config);
  OpenOptions options;
  options.device = device;
  options.dtype = dtype;
  options.trained_dtype = at::kFloat;
  OpenedModel opened;
  if (!config.parts.empty()) {
    options.base = base;
    opened = open_model(config.parts, options);
    require(opened.kind == "trained parts", "model.parts: {} is a {}, expected trained parts", config.parts,
            opened.kind);
  } else {
    opened = open_model(base, options);
    require(opened.kind != "trained parts",
            "model.base: {} are trained parts: give them as model.parts, and their decoder as model.base",
            base.string());
  }
  opened.base_path = base;
  if (opened.base_sha256.empty()) opened.base_sha256 = hash_weights(base);
  require(config.encoder.empty() || !opened.model.encoder, "model.encoder: the base {} has an encoder already",
          config.base);
  const CrossVariants variants = config.cross_variants(opened.model.config.decoder.cross);
  require(!opened.model.encoder || variants.layers == opened.model.config.decoder.cross.layers,
          "model.cross_attention_at: the parts have their cross-attention already: it is for fresh parts");
  if (variants != opened.model.config.decoder.cross) set_cross_variants(opened.model, variants, "[model]");
  if (!opened.model.encoder) add_parts(config, device, opened.model);
  check_encoder_rows(config, opened);
  check_windows(config, opened.model);
  opened.model.config.chunk_length = config.chunk_length;
  if (device.is_cuda()) merge_projections(opened.model);  // products of the frozen decoder are joined without a copy
  set_trainable(opened.model, true);
  return opened;
}

namespace {

// Error unless shards fit the model: its embedding, and its tokenizer where it has one.
void check_corpus(const Corpus& corpus, int64_t rows, const Tokenizer* tokenizer, const std::string& model) {
  if (corpus.shards.empty()) return;
  const std::string where = corpus.shards[0].path().string();
  require(corpus.vocab_size <= rows, "{}: token ids of a vocabulary of {}, the model's embedding has {} rows", where,
          corpus.vocab_size, rows);
  if (!tokenizer || corpus.fingerprint == 0) return;
  require(corpus.fingerprint == tokenizer_fingerprint(*tokenizer),
          "{}: made with another tokenizer than that of {}: make the shards again with that model", where, model);
}

}  // namespace

void check_vocabulary(const TrainingData& data, int64_t rows, const Tokenizer* tokenizer, const std::string& model) {
  const Corpus* known = nullptr;  // the first whose tokenizer is known
  for (const Corpus* corpus : {&data.train, &data.validation, &data.ask, &data.ask_validation}) {
    check_corpus(*corpus, rows, tokenizer, model);
    if (corpus->fingerprint == 0) continue;
    if (!known) known = corpus;
    require(corpus->fingerprint == known->fingerprint, "{}: made with another tokenizer than {}",
            corpus->shards[0].path().string(), known->shards[0].path().string());
  }
}

TrainingData open_training_data(const TrainConfig& config) {
  TrainingData data;
  if (!config.only_ask()) data.train = open_corpus(config.train);
  if (!config.validation.empty()) data.validation = open_corpus(config.validation);
  if (!config.has_encoder()) return data;
  if (!config.ask.empty()) data.ask = open_corpus(config.ask, ShardKind::samples);
  if (!config.ask_validation.empty()) data.ask_validation = open_corpus(config.ask_validation, ShardKind::samples);
  return data;
}

int64_t check_training_data(const TrainConfig& config, const TrainingData& data, const OpenedModel& opened) {
  check_vocabulary(data, readable_tokens(opened.model.config), opened.tokenizer.get(), opened.path.string());
  const SampleLimits held_out{config.chunk_length, decoder_window(opened.model.config.decoder)};
  SampleLimits learnt = held_out;
  learnt.factor = static_cast<float>(config.ask_weight);
  const int64_t plain = config.stage == Stage::distill ? config.span_tokens() - 1 : config.decoder_tokens;
  return std::max({plain, check_samples(data.ask, learnt), check_samples(data.ask_validation, held_out)});
}

nlohmann::json shard_record(const TrainingData& data) {
  nlohmann::json list = nlohmann::json::array();
  for (const Corpus* corpus : {&data.train, &data.ask}) {
    for (const TokenShard& shard : corpus->shards) {
      list.push_back({{"file", shard.path().filename().string()},
                      {"path", shard.path().string()},
                      {"tokens", shard.tokens()},
                      {"sha256", sha256_file(shard.path())}});
    }
  }
  return list;
}

nlohmann::json parts_record(const TrainConfig& config) {
  if (!config.encoder.empty()) return {{"path", config.encoder}, {"sha256", hash_weights(config.encoder)}};
  if (config.parts.empty()) return nullptr;
  return {{"path", config.parts}, {"sha256", sha256_file(fs::path(config.parts) / "model.safetensors")}};
}

std::vector<std::string> notes_on_shards(const TrainingData& data, const nlohmann::json& trained) {
  std::vector<std::string> notes;
  for (size_t i = 0; i < trained.size(); ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (trained[i]["sha256"] != trained[j]["sha256"]) continue;
      notes.push_back(fmt::format("note: the training shard {} is the same as {}: its tokens are drawn twice as often",
                                  trained[i]["path"].get<std::string>(), trained[j]["path"].get<std::string>()));
      break;
    }
  }
  const auto add = [&](const Corpus& held_out, const Corpus& corpus, const char* what) {
    const int64_t shared = shared_documents(held_out, corpus);
    if (shared == 0) return;
    notes.push_back(fmt::format(
        "note: {} of the {} validation {} are training {} as well: on them the validation measures what was "
        "learnt by heart",
        shared, held_out.documents.size(), what, what));
  };
  add(data.validation, data.train, "documents");
  add(data.ask_validation, data.ask, "samples");
  return notes;
}

}  // namespace cepe
