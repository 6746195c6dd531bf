#include "base/error.h"
#include "model/config.h"
#include "model/masked_lm/masked_lm_config.h"

namespace cepe {

using Json = nlohmann::json;

Json stack_config_to_json(const StackConfig& config) {
  Json out = {{"model_type", config.family},
              {"hidden_act", "silu"},
              {"vocab_size", config.vocab_size},
              {"hidden_size", config.hidden_size},
              {"intermediate_size", config.intermediate_size},
              {"num_hidden_layers", config.num_layers},
              {"num_attention_heads", config.num_heads},
              {"num_key_value_heads", config.num_kv_heads},
              {"head_dim", config.head_dim},
              {"max_position_embeddings", config.max_positions},
              {"rms_norm_eps", config.rms_norm_eps},
              {"rope_theta", config.rope.theta},
              {"attention_bias", config.output_bias},
              {"tie_word_embeddings", config.tie_embeddings}};
  // Words of our own, for what only a GGUF file can be: a Llama with biases on q, k and v alone.
  if (config.qkv_bias != (config.output_bias || config.family == "qwen2")) out["qkv_bias"] = config.qkv_bias;
  if (!config.rope.frequency_divisors.empty()) out["rope_frequency_divisors"] = config.rope.frequency_divisors;
  if (config.bos_token) out["bos_token_id"] = *config.bos_token;
  if (config.pad_token) out["pad_token_id"] = *config.pad_token;
  if (config.end_tokens.size() == 1) out["eos_token_id"] = config.end_tokens[0];
  if (config.end_tokens.size() > 1) out["eos_token_id"] = config.end_tokens;
  // Absent means 4096 of a Mistral, so that none has to be said.
  if (config.family == "mistral") out["sliding_window"] = config.sliding_window ? Json(config.sliding_window) : Json();
  if (config.family != "mistral" && config.sliding_window > 0) {
    out["sliding_window"] = config.sliding_window;
    out["use_sliding_window"] = true;
    out["max_window_layers"] = 0;
  }
  if (config.rope.kind == RopeKind::none) return out;
  static const char* kinds[] = {"default", "linear", "dynamic", "yarn", "llama3"};
  Json rope = {{"rope_type", kinds[static_cast<int>(config.rope.kind)]},
               {"factor", config.rope.factor},
               {"low_freq_factor", config.rope.low_freq_factor},
               {"high_freq_factor", config.rope.high_freq_factor},
               {"beta_fast", config.rope.beta_fast},
               {"beta_slow", config.rope.beta_slow}};
  if (config.rope.original_positions) rope["original_max_position_embeddings"] = config.rope.original_positions;
  if (config.rope.attention_factor) rope["attention_factor"] = config.rope.attention_factor;
  if (!config.rope.truncate) rope["truncate"] = false;
  out["rope_scaling"] = rope;
  return out;
}

namespace {

// The published code reads its configuration with transformers 4.34, which wants exactly these two fields, the factor
// above 1. It knows no sliding window: the text ends there.
void write_published_positions(const StackConfig& stack, Json& out) {
  for (const char* key : {"rope_scaling", "sliding_window", "use_sliding_window", "max_window_layers"}) out.erase(key);
  out["max_position_embeddings"] = encoder_window(stack);
  const RopeConfig& rope = stack.rope;
  if (rope.kind == RopeKind::none || (rope.kind == RopeKind::linear && rope.factor == 1.0)) return;
  out["rope_scaling"] = {{"type", rope.kind == RopeKind::linear ? "linear" : "dynamic"}, {"factor", rope.factor}};
}

// The published layout is a Llama model: Error where a stack is more than that. part: "decoder" or "encoder".
void check_published(const StackConfig& stack, const char* part) {
  require(stack.family == "llama" || stack.family == "mistral",
          "the published layout is a Llama model; the {} is of the family {}", part, stack.family);
  require(stack.head_dim * stack.num_heads == stack.hidden_size,
          "the published layout needs {} heads of {} to make up the {}'s width {}", stack.num_heads, stack.head_dim,
          part, stack.hidden_size);
  require(!stack.qkv_bias || stack.output_bias, "the published layout has no biases on q, k and v alone, as the {} has",
          part);
  require(
      stack.rope.kind == RopeKind::none || stack.rope.kind == RopeKind::linear || stack.rope.kind == RopeKind::dynamic,
      "the published code knows no rotary scaling but linear and dynamic; the {} has another", part);
  require(stack.rope.frequency_divisors.empty(),
          "the published layout has no divisors of rotary frequencies; the {} has", part);
  require(stack.rope.kind != RopeKind::dynamic || stack.rope.factor > 1.0,
          "the published code refuses dynamic rotary scaling by a factor of 1, as the {} has", part);
}

void check_unbiased(const StackConfig& stack, const char* part) {
  require(!stack.qkv_bias && !stack.output_bias, "the published code has attention without biases; the {} has them",
          part);
}

// A lone encoder's part of the published layout.
Json published_encoder(const StackConfig& stack) {
  check_published(stack, "encoder");
  check_unbiased(stack, "encoder");
  Json encoder = stack_config_to_json(stack);
  encoder.erase("head_dim");
  encoder["model_type"] = "llama";
  encoder["is_decoder"] = false;
  encoder["do_cross_attention"] = false;
  write_published_positions(stack, encoder);
  return encoder;
}

}  // namespace

Json masked_lm_config_to_published_json(const StackConfig& config) {
  Json out = published_encoder(config);
  out["architectures"] = {"LlamaForMLM"};
  out["is_encoder"] = true;
  return out;
}

Json cepe_config_to_published_json(const CepeConfig& config) {
  require(config.decoder.cross == CrossVariants{},
          "the published layout knows no variants of cross-attention (\"cross_attention\" of the parts' config.json)");
  check_published(config.decoder, "decoder");
  Json out = stack_config_to_json(config.decoder);
  out.erase("head_dim");
  out["model_type"] = "llama";
  out["architectures"] = {config.encoder ? "LlamaForCausalContextLM" : "LlamaForCausalLM"};
  out["is_decoder"] = true;
  out["do_cross_attention"] = config.encoder.has_value();
  // The published code ties nothing: the head is always a tensor of its own.
  out["tie_word_embeddings"] = false;
  write_published_positions(config.decoder, out);
  if (!config.encoder) return out;
  check_unbiased(config.decoder, "decoder");
  require(config.encoder_embeddings != EncoderEmbeddings::decoder_projected,
          "the published layout has no projection between the decoder's embedding and the encoder");
  Json encoder = published_encoder(*config.encoder);
  encoder["tie_word_embeddings"] = false;
  out["encoder_config"] = encoder;
  out["encoder_hidden_size"] = config.encoder->hidden_size;
  out["num_cross_attn_layers"] = config.num_cross_attn_layers;
  out["num_cross_attn_hidden_states"] = 1;
  out["train_encoder"] = true;
  out["chunk_length"] = config.chunk_length;  // read by cepe; the published code is told it by its data
  return out;
}

const char* encoder_embeddings_name(EncoderEmbeddings embeddings) {
  switch (embeddings) {
    case EncoderEmbeddings::own: return "own";
    case EncoderEmbeddings::decoder: return "decoder";
    case EncoderEmbeddings::decoder_projected: return "decoder_projected";
  }
  return "";
}

EncoderEmbeddings encoder_embeddings_from_name(const std::string& name, const std::string& where) {
  for (EncoderEmbeddings kind :
       {EncoderEmbeddings::own, EncoderEmbeddings::decoder, EncoderEmbeddings::decoder_projected}) {
    if (name == encoder_embeddings_name(kind)) return kind;
  }
  fail("{}: \"encoder_embeddings\" is \"{}\", expected own, decoder or decoder_projected", where, name);
}

}  // namespace cepe
