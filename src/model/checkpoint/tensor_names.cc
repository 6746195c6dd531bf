#include "model/checkpoint/tensor_names.h"

#include <map>

#include "base/error.h"

namespace cepe {
namespace {

const std::map<std::string, std::string> kOutside = {
    {"model.embed_tokens.weight", "token_embd.weight"},
    {"model.norm.weight", "output_norm.weight"},
    {"lm_head.weight", "output.weight"},
};
const std::map<std::string, std::string> kInLayer = {
    {"input_layernorm.", "attn_norm."},    {"post_attention_layernorm.", "ffn_norm."},
    {"self_attn.q_proj.", "attn_q."},      {"self_attn.k_proj.", "attn_k."},
    {"self_attn.v_proj.", "attn_v."},      {"self_attn.o_proj.", "attn_output."},
    {"self_attn.q_norm.", "attn_q_norm."}, {"self_attn.k_norm.", "attn_k_norm."},
    {"mlp.gate_proj.", "ffn_gate."},       {"mlp.up_proj.", "ffn_up."},
    {"mlp.down_proj.", "ffn_down."},
};
const std::string kLayers = "model.layers.";

}  // namespace

std::string TensorNames::file_name(const std::string& published) const {
  if (const auto found = kOutside.find(published); found != kOutside.end()) return found->second;
  require(published.rfind(kLayers, 0) == 0, "a GGUF file has no name for the parameter {}", published);
  const size_t dot = published.find('.', kLayers.size());
  const std::string layer = published.substr(kLayers.size(), dot - kLayers.size()), rest = published.substr(dot + 1);
  const size_t last = rest.rfind('.') + 1;
  const auto found = kInLayer.find(rest.substr(0, last));
  require(found != kInLayer.end(), "a GGUF file has no name for the parameter {}", published);
  return "blk." + layer + "." + found->second + rest.substr(last);
}

int64_t TensorNames::permuted_heads(const std::string& published) const {
  if (!permuted_rotary) return 0;
  if (published.find("self_attn.q_proj.") != std::string::npos) return num_heads;
  if (published.find("self_attn.k_proj.") != std::string::npos) return num_kv_heads;
  return 0;
}

}  // namespace cepe
