// What a model is, read from config.json or GGUF metadata: sizes and kinds, no weights.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "model/cross_variants.h"

namespace cepe {

class GgufFile;

// How rotary frequencies are scaled for longer windows, as in Hugging Face's modeling_rope_utils.
enum class RopeKind { none, linear, dynamic, yarn, llama3 };

struct RopeConfig {
  RopeKind kind = RopeKind::none;
  double theta = 10000.0;          // base of the frequencies theta^(-2i/K)
  double factor = 1.0;             // window extension
  int64_t original_positions = 0;  // window before extension (yarn, llama3); 0: max_positions, as always of dynamic
  double low_freq_factor = 1.0;    // llama3
  double high_freq_factor = 4.0;   // llama3
  double beta_fast = 32.0;         // yarn
  double beta_slow = 1.0;          // yarn
  bool truncate = true;            // yarn: the ramp's ends are rounded to whole dimensions
  double attention_factor = 0.0;   // yarn: scale of cos and sin; 0: 0.1 ln(factor) + 1
  // K/2 numbers by which the frequencies are divided, beside the kind's own scaling; empty: none. How GGUF files hold
  // llama3 (rope_freqs.weight).
  std::vector<double> frequency_divisors;
};

// A stack of Llama-style layers: a decoder, or the encoder.
struct StackConfig {
  std::string family = "llama";  // model_type: llama, mistral, qwen2, qwen3
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;        // D (E for an encoder)
  int64_t intermediate_size = 0;  // F
  int64_t num_layers = 0;
  int64_t num_heads = 0;      // H
  int64_t num_kv_heads = 0;   // G, divides H
  int64_t head_dim = 0;       // K, even; H * K need not be D
  int64_t max_positions = 0;  // the window trained on (max_position_embeddings, context_length)
  double rms_norm_eps = 1e-6;
  RopeConfig rope;
  // A token attends to itself and the sliding_window - 1 tokens before it; 0: to all. cepe computes no such mask:
  // the text ends there (decoder_window).
  int64_t sliding_window = 0;
  int64_t chosen_window = 0;    // decoder_window() as the user set it; 0: what the file gives
  bool qkv_bias = false;        // biases on q, k and v (Qwen2; Llama's attention_bias)
  bool output_bias = false;     // a bias on o (Llama's attention_bias)
  bool qk_norm = false;         // RMSNorm over each head of q and k before rotation (Qwen3)
  bool tie_embeddings = false;  // lm_head is the embedding
  CrossVariants cross;          // of a decoder: how it reads a context
  std::optional<int64_t> bos_token;
  // eos_token_id of config.json and generation_config.json. Of a GGUF file: its eos, eot and eom tokens, and control
  // tokens spelled as an end of the listed families: </s>, <|endoftext|>, <|end_of_text|>, <|im_end|>, <|eot_id|>,
  // <|eom_id|>.
  std::vector<int64_t> end_tokens;
  std::optional<int64_t> pad_token;
};

// Where the encoder takes its token embeddings from.
enum class EncoderEmbeddings {
  own,                // encoder.embed_tokens (vocab, E), trained
  decoder,            // the decoder's own, frozen; E == D
  decoder_projected,  // the decoder's own, frozen, through encoder.embed_projection (E, D), trained
};

// A whole model. Without an encoder it is a plain decoder.
struct CepeConfig {
  StackConfig decoder;
  std::optional<StackConfig> encoder;
  // Cross-attention stands in the last so many decoder layers, or in those of decoder.cross.layers, as many.
  int64_t num_cross_attn_layers = 0;
  EncoderEmbeddings encoder_embeddings = EncoderEmbeddings::own;
  int64_t chunk_length = 256;  // tokens of a context chunk that the encoder was trained on
};

// The tokens that a decoder reads, prompt and answer together: chosen_window, or max_positions as the rotary scaling
// stretches it: times the factor for linear and dynamic, original_positions times the factor for yarn; llama3's
// max_positions is the stretched window already. The rule of vLLM's max_model_len. Never beyond sliding_window.
int64_t decoder_window(const StackConfig& config);
// The tokens of a chunk that an encoder reads: max_positions, not beyond sliding_window.
int64_t encoder_window(const StackConfig& config);
// Sets decoder_window(). Error below 1, above 2^31 - 1 or beyond sliding_window; `where` names the model.
void choose_window(StackConfig& config, int64_t window, const std::string& where);

// From a Hugging Face config.json; `where` names the file in errors. Unknown model_type, head counts that do not
// divide, an unknown rope type, a field that changes the arithmetic and is not computed: Error. Absent fields have the
// defaults that transformers gives them in each family.
StackConfig stack_config_from_json(const nlohmann::json& config, const std::string& where);
// A published CEPE config: the decoder's plus do_cross_attention, num_cross_attn_layers, encoder_config.
CepeConfig cepe_config_from_json(const nlohmann::json& config, const std::string& where);
// From the metadata of a GGUF file (general.architecture llama, qwen2 or qwen3). Every key of the architecture is read,
// known to change nothing, or refused by name (docs/formats/gguf.md).
StackConfig stack_config_from_gguf(const GgufFile& file);
// What a user should hear of such a file: keys of the architecture that cepe does not know, token ids outside the
// vocabulary.
std::vector<std::string> gguf_notes(const GgufFile& file);
// "tokenizer.ggml.<name>_token_id" (bos, eos, eot, eom, padding). None where it is absent or, as in llama.cpp, lies
// outside the vocabulary. Error where it is no token id at all.
std::optional<int64_t> gguf_token_id(const GgufFile& file, const std::string& name);
// What must hold for any stack, wherever its sizes came from. Error naming `where`.
void check_stack_config(const StackConfig& config, const std::string& where);
// hidden / heads; Error where that leaves a rest.
int64_t default_head_dim(int64_t hidden, int64_t heads, const std::string& where);

// The reverse: a config.json that stack_config_from_json reads back to the same values.
nlohmann::json stack_config_to_json(const StackConfig& config);
// The published layout's config.json. Error when the model cannot be expressed in it.
nlohmann::json cepe_config_to_published_json(const CepeConfig& config);

const char* encoder_embeddings_name(EncoderEmbeddings embeddings);  // "own", "decoder", "decoder_projected"
EncoderEmbeddings encoder_embeddings_from_name(const std::string& name, const std::string& where);

}  // namespace cepe
