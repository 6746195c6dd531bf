#include "context/chunk_key.h"

#include <ATen/ATen.h>

#include <cstring>
#include <string_view>

#include "base/error.h"

namespace cepe {
namespace {

void append_little_endian(uint64_t number, int bytes, std::string& out) {
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(number >> (8 * i) & 0xff);
}

std::string_view text_of(const Sha256Digest& digest) {
  return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

// The bytes of tagged values, in order.
class Fields {
 public:
  void add(std::string_view tag, std::string_view value) {
    append_part(tag);
    append_part(value);
  }
  void add(std::string_view tag, const Sha256Digest& digest) { add(tag, text_of(digest)); }
  // Nothing for a tensor that is not defined.
  void add(const std::string& tag, const at::Tensor& tensor) {
    if (!tensor.defined()) return;
    const at::Tensor host = tensor.detach().to(at::kCPU).contiguous();
    add(tag + " type", c10::toString(host.scalar_type()));
    for (const int64_t size : host.sizes()) add(tag + " size", std::to_string(size));
    add(tag + " bytes", sha256_digest({static_cast<const char*>(host.const_data_ptr()), host.nbytes()}));
  }
  Sha256Digest hash() const { return sha256_digest(bytes_); }

 private:
  void append_part(std::string_view part) {
    append_little_endian(part.size(), 8, bytes_);
    bytes_ += part;
  }

  std::string bytes_;
};

// Matrices that are held in 8 bits have left their place among the parameters.
void add_quantised(const std::string& name, const Linear& linear, Fields& fields) {
  if (!linear.quantised) return;
  fields.add(name + " quantised", weight_type_name(linear.quantised->type));
  fields.add(name + " values", linear.quantised->values);
  fields.add(name + " scales", linear.quantised->scales);
}

void add_quantised(const Encoder& encoder, Fields& fields) {
  for (size_t i = 0; i < encoder.stack.layers.size(); ++i) {
    const SelfAttention& self = encoder.stack.layers[i].self_attention;
    const FeedForward& mlp = encoder.stack.layers[i].feed_forward;
    int64_t number = 0;
    for (const Linear* linear : {&self.q, &self.k, &self.v, &self.o, &mlp.gate, &mlp.up, &mlp.down}) {
      add_quantised(fmt::format("layer {} matrix {}", i, number++), *linear, fields);
    }
  }
  add_quantised("embed_projection", encoder.embed_projection, fields);
}

}  // namespace

ModelFingerprint encoder_fingerprint(const Cepe& model, bool int8) {
  require(model.encoder.has_value(), "this model has no encoder: it is a plain decoder and makes no states");
  Fields fields;
  fields.add("cepe encoder", "1");
  fields.add("config", stack_config_to_json(*model.config.encoder).dump());
  fields.add("embeddings", encoder_embeddings_name(model.config.encoder_embeddings));
  const int64_t pooling = model.config.decoder.cross.pooling;
  if (pooling > 1) fields.add("pooling", std::to_string(pooling));
  fields.add("states", int8 ? "int8" : c10::toString(model.dtype()));
  Cepe shared = model;  // its tensors are the model's own: parameters() hands out pointers to them
  const bool own = model.config.encoder_embeddings == EncoderEmbeddings::own;
  if (!own) fields.add("decoder embedding", model.decoder.stack.embedding);
  for (const Parameter& parameter : parameters(shared)) {
    if (parameter.part == Parameter::Part::encoder) fields.add(parameter.name, *parameter.value);
  }
  add_quantised(*model.encoder, fields);
  return {fields.hash()};
}

ChunkKey chunk_key(const ModelFingerprint& encoder, std::span<const TokenId> tokens) {
  std::string ids;
  for (const TokenId token : tokens) append_little_endian(static_cast<uint32_t>(token), 4, ids);
  Fields fields;
  fields.add("cepe chunk", "1");
  fields.add("encoder", encoder.bytes);
  fields.add("tokens", ids);
  return {fields.hash()};
}

}  // namespace cepe

size_t std::hash<cepe::ChunkKey>::operator()(const cepe::ChunkKey& key) const noexcept {
  size_t value;
  std::memcpy(&value, key.bytes.data(), sizeof value);
  return value;
}
