// Trained parts written and read back, the published layout, and what is refused.
#include "model/checkpoint/checkpoint.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/error.h"
#include "base/file.h"
#include "io/hf_directory.h"
#include "io/safetensors.h"
#include "model/checkpoint/decoder_directory.h"
#include "model/fixtures.h"
#include "model/weight_type.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;
using Weights = SaveOptions::Weights;

const fs::path kBase = fs::path(CEPE_TEST_DATA) / "families/llama-mqa";

// Trained parts on the llama-mqa fixture, with random cross-attention output so that the context shows.
Cepe trained() {
  at::manual_seed(5);
  Cepe model = open_fixture("families/llama-mqa").model;
  add_cepe_parts(model, {1, 2, false, 16, 8});
  for (Parameter& parameter : trainable_parameters(model))
    parameter.value->add_(at::randn_like(*parameter.value) * 0.02);
  return model;
}

SaveOptions save_options(Weights weights) {
  SaveOptions options;
  options.weights = weights;
  options.base_name = "llama-mqa";
  options.base_sha256 = hash_weights(kBase);
  return options;
}

OpenedModel reopen(const fs::path& path) {
  OpenOptions options;
  options.base = kBase;
  return open_model(path, options);
}

at::Tensor outputs(const Cepe& model) {
  const at::NoGradGuard no_grad;
  const at::Tensor ids = at::arange(20, at::kLong).view({2, 10});
  const Latents context = encode(model, {at::arange(48, at::kLong).view({2, 3, 8}), {}});
  return logits(model, decode(model, {ids, &context}));
}

void expect_error(const std::function<void()>& action, const std::string& part) {
  try {
    action();
    FAIL() << "expected an error with: " << part;
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr(part));
  }
}

// Biases and head norms of the encoder travel with it; the cross-attention has none.
TEST(TrainedParts, OfOtherFamiliesComeBackExactly) {
  for (const std::string family : {"qwen2", "llama-bias", "qwen3"}) {
    const ScratchDirectory scratch;
    const fs::path base = fs::path(CEPE_TEST_DATA) / "families" / family;
    at::manual_seed(5);
    Cepe model = open_fixture("families/" + family).model;
    add_cepe_parts(model, {1, 2, false, 16, 8});
    for (Parameter& parameter : trainable_parameters(model)) {
      parameter.value->add_(at::randn_like(*parameter.value) * 0.02);
    }
    SaveOptions save;
    save.weights = Weights::f32;
    save.base_name = family;
    save.base_sha256 = hash_weights(base);
    save_trained_parts(model, scratch.path() / "m", save);
    OpenOptions options;
    options.base = base;
    const OpenedModel opened = open_model(scratch.path() / "m", options);
    EXPECT_EQ(opened.model.config.encoder->qkv_bias, model.config.decoder.qkv_bias) << family;
    EXPECT_EQ(opened.model.config.encoder->output_bias, model.config.decoder.output_bias) << family;
    EXPECT_EQ(opened.model.config.encoder->qk_norm, model.config.decoder.qk_norm) << family;
    EXPECT_TRUE(at::equal(outputs(opened.model), outputs(model))) << family;
    expect_error([&] { export_published(model, scratch.path() / "p", Weights::f32); }, "the published");
  }
}

// An encoder of another width than the decoder's, reading the decoder's embedding through a projection.
TEST(TrainedParts, OfAProjectedEmbeddingComeBackExactly) {
  const ScratchDirectory scratch;
  at::manual_seed(7);
  Cepe model = open_fixture("families/llama-mqa").model;
  model.config.encoder = open_fixture("cepe-mha").model.config.encoder;
  model.config.encoder_embeddings = EncoderEmbeddings::decoder_projected;
  model.config.num_cross_attn_layers = 2;
  model.config.chunk_length = 8;
  create_modules(model);
  for (Parameter& parameter : trainable_parameters(model)) *parameter.value = at::randn(parameter.shape) * 0.2;
  const int64_t E = model.config.encoder->hidden_size, D = model.config.decoder.hidden_size;
  ASSERT_NE(E, D);
  ASSERT_EQ(model.encoder->embed_projection.weight.sizes(), (at::IntArrayRef{E, D}));

  save_trained_parts(model, scratch.path() / "m", save_options(Weights::f32));
  const OpenedModel opened = reopen(scratch.path() / "m");
  EXPECT_EQ(opened.model.config.encoder_embeddings, EncoderEmbeddings::decoder_projected);
  EXPECT_TRUE(at::equal(outputs(opened.model), outputs(model)));

  // The same as an encoder with an embedding of its own, the projected one.
  Cepe own = model;
  own.config.encoder_embeddings = EncoderEmbeddings::own;
  own.encoder->stack.embedding = at::matmul(model.decoder.stack.embedding, model.encoder->embed_projection.weight.t());
  EXPECT_LT(norm_error(outputs(opened.model), outputs(own)), 1e-5);
}

TEST(OpenModel, SaysWhichChatTemplatesItCannotChooseFrom) {
  const ScratchDirectory scratch;
  fs::copy(kBase, scratch.path() / "m", fs::copy_options::recursive);
  const auto opened_with = [&](const std::string& templates) {
    write_file(scratch.path() / "m/tokenizer_config.json", "{\"chat_template\": " + templates + "}");
    return open_model(scratch.path() / "m");
  };
  const OpenedModel several = opened_with(R"([{"name": "rag", "template": "a"}, {"name": "tools", "template": "b"}])");
  EXPECT_EQ(several.chat_template, "");
  EXPECT_THAT(several.notes, testing::Contains(testing::HasSubstr("chat templates rag, tools none is called default")));
  const OpenedModel chosen = opened_with(R"([{"name": "rag", "template": "a"}, {"name": "default", "template": "b"}])");
  EXPECT_EQ(chosen.chat_template, "b");
  EXPECT_THAT(chosen.notes, testing::Not(testing::Contains(testing::HasSubstr("default"))));
}

TEST(OpenModel, Float32WeightsAreKeptOnlyWhereAsked) {
  const ScratchDirectory scratch;
  OpenOptions options;
  options.dtype = at::kBFloat16;
  EXPECT_EQ(open_model(kBase, options).model.dtype(), at::kBFloat16);
  options.keep_float32 = true;
  EXPECT_EQ(open_model(kBase, options).model.dtype(), at::kFloat);
  Cepe model = open_fixture("cepe-mha").model;
  export_published(model, scratch.path() / "wide", Weights::f32);
  export_published(model, scratch.path() / "narrow", Weights::bf16);
  EXPECT_EQ(open_model(scratch.path() / "wide", options).model.dtype(), at::kFloat);
  EXPECT_EQ(open_model(scratch.path() / "narrow", options).model.dtype(), at::kBFloat16);
}

TEST(TrainedParts, ComeBackExactlyInFloat32) {
  const ScratchDirectory scratch;
  Cepe model = trained();
  save_trained_parts(model, scratch.path() / "m", save_options(Weights::f32));
  const OpenedModel opened = reopen(scratch.path() / "m");
  EXPECT_EQ(opened.kind, "trained parts");
  EXPECT_EQ(opened.model.config.chunk_length, 8);
  EXPECT_EQ(opened.model.config.encoder_embeddings, EncoderEmbeddings::decoder);
  EXPECT_TRUE(at::equal(outputs(opened.model), outputs(model)));
}

TEST(TrainedParts, SmallerFormsStayClose) {
  const ScratchDirectory scratch;
  Cepe model = trained();
  // Rounding of one weight is 0.2 % (bfloat16) or half a step of its row (int8); a dozen random matrices add up a few
  // of these.
  for (const auto& [weights, bound] : {std::pair{Weights::bf16, 0.01}, {Weights::int8, 0.06}}) {
    save_trained_parts(model, scratch.path() / "m", save_options(weights));
    const double error = norm_error(outputs(reopen(scratch.path() / "m").model), outputs(model));
    EXPECT_LT(error, bound);
    EXPECT_GT(error, 0);
  }
  // int8: every weight within half a step of its row's scale.
  const SafetensorsFile file(scratch.path() / "m" / "model.safetensors");
  EXPECT_EQ(file.find("encoder.layers.0.mlp.up_proj.weight")->dtype, DType::i8);
  Cepe read = reopen(scratch.path() / "m").model;
  const at::Tensor found = read.encoder->stack.layers[0].feed_forward.up.weight,
                   expected = model.encoder->stack.layers[0].feed_forward.up.weight;
  EXPECT_TRUE(((found - expected).abs() <= expected.abs().amax(1, true) / 127 * 0.5001).all().item<bool>());
}

// On a CPU the encoder too, whose matrices the decoder's own lists do not have.
TEST(TrainedParts, In8BitsAsTheFileHasThemAreTheSameModel) {
  const ScratchDirectory scratch;
  Cepe model = trained();
  save_trained_parts(model, scratch.path() / "m", save_options(Weights::int8));
  OpenOptions options;
  options.base = kBase;
  options.as_file = {WeightType::int8};
  Cepe packed = open_model(scratch.path() / "m", options).model, wide = reopen(scratch.path() / "m").model;
  int64_t count = 0;
  for (size_t i = 0; i < wide.encoder->stack.layers.size(); ++i) {
    const FeedForward& of_wide = wide.encoder->stack.layers[i].feed_forward;
    const FeedForward& of_packed = packed.encoder->stack.layers[i].feed_forward;
    ASSERT_TRUE(of_packed.down.quantised && !of_packed.down.weight.defined());
    EXPECT_TRUE(at::equal(dequantise_weight(*of_packed.down.quantised, at::kFloat), of_wide.down.weight));
    count += 7;
  }
  EXPECT_GT(packed_matrices(packed).at(WeightType::int8), count) << "and cross-attention's";
  EXPECT_LT(norm_error(outputs(packed), outputs(wide)), 3e-4);
}

TEST(TrainedParts, AWrongBaseIsRefused) {
  const ScratchDirectory scratch;
  Cepe model = trained();
  SaveOptions options = save_options(Weights::f32);
  options.base_sha256 = std::string(64, '0');
  save_trained_parts(model, scratch.path() / "m", options);
  expect_error([&] { reopen(scratch.path() / "m"); }, "belong to a base with SHA-256 000");
}

TEST(TrainedParts, TheBaseIsFoundByNameUnderCepeModels) {
  const ScratchDirectory scratch;
  Cepe model = trained();
  save_trained_parts(model, scratch.path() / "m", save_options(Weights::f32));
  setenv("CEPE_MODELS", kBase.parent_path().c_str(), 1);
  EXPECT_EQ(open_model(scratch.path() / "m").base_path, kBase);
  setenv("CEPE_MODELS", "/nowhere", 1);
  setenv("HOME", "/nowhere", 1);
  expect_error([&] { open_model(scratch.path() / "m"); },
               "the base model llama-mqa was not found (looked at /nowhere/llama-mqa");
  unsetenv("CEPE_MODELS");
}

TEST(TrainedParts, AMisshapenOrSuperfluousTensorIsNamed) {
  const ScratchDirectory scratch;
  Cepe model = trained();
  save_trained_parts(model, scratch.path() / "m", save_options(Weights::f32));
  const fs::path file = scratch.path() / "m" / "model.safetensors";
  const std::string original = read_file(file);
  const auto rewrite = [&](const std::function<void(TensorView&)>& edit) {
    write_file(scratch.path() / "copy", original);
    const SafetensorsFile source(scratch.path() / "copy");
    std::vector<TensorView> views = source.tensors();
    for (TensorView& view : views) {
      if (view.name == "encoder.norm.weight") edit(view);
    }
    write_safetensors(file, views, {});
  };
  rewrite([](TensorView& view) { view.shape = {4, 12}; });
  expect_error([&] { reopen(scratch.path() / "m"); }, "encoder.norm.weight has shape (4, 12), expected (48)");
  rewrite([](TensorView& view) { view.name = "encoder.morn.weight"; });
  expect_error([&] { reopen(scratch.path() / "m"); }, "encoder.norm.weight is missing, expected with shape (48)");
  write_file(file, original.substr(0, original.size() - 10));
  expect_error([&] { reopen(scratch.path() / "m"); }, "model.safetensors");
}

TEST(Published, ExportReadsBackAndComputesTheSame) {
  const ScratchDirectory scratch;
  Cepe model = open_fixture("cepe-gqa-last2").model;
  export_published(model, scratch.path() / "out", Weights::f32);
  const OpenedModel opened = open_model(scratch.path() / "out");
  EXPECT_EQ(opened.kind, "published CEPE");
  EXPECT_TRUE(at::equal(outputs(opened.model), outputs(model)));
  // The very tensors and settings that the published code wrote.
  const SafetensorsFile written(scratch.path() / "out/model.safetensors");
  const SafetensorsFile recorded(fs::path(CEPE_TEST_DATA) / "cepe-gqa-last2/model.safetensors");
  ASSERT_EQ(written.tensors().size(), recorded.tensors().size());
  for (const TensorView& view : recorded.tensors()) {
    const TensorView* found = written.find(view.name);
    ASSERT_NE(found, nullptr) << view.name;
    EXPECT_TRUE(std::ranges::equal(found->bytes, view.bytes)) << view.name;
  }
  const nlohmann::json config = read_json(scratch.path() / "out/config.json");
  const nlohmann::json published = read_json(fs::path(CEPE_TEST_DATA) / "cepe-gqa-last2/config.json");
  for (const auto& [key, value] : config.items()) {
    if (key == "encoder_config" || key == "chunk_length") continue;  // chunk_length is cepe's own
    EXPECT_EQ(value, published.value(key, nlohmann::json())) << key;
  }
}

TEST(Published, TrainedPartsBecomeASelfContainedModel) {
  const ScratchDirectory scratch;
  Cepe model = open_fixture("families/llama-linear").model;
  add_cepe_parts(model, {1, 2, false, 16, 8});
  export_published(model, scratch.path() / "out", Weights::f32);
  OpenedModel opened = open_model(scratch.path() / "out");
  EXPECT_EQ(opened.model.config.encoder_embeddings, EncoderEmbeddings::own);
  EXPECT_EQ(opened.model.config.chunk_length, 8);
  EXPECT_TRUE(at::equal(outputs(opened.model), outputs(model)));
}

TEST(Published, WhatCannotBeExpressedIsRefusedWithTheReason) {
  const ScratchDirectory scratch;
  Cepe model = trained();  // 4 heads of 20 on a width of 48
  expect_error([&] { export_published(model, scratch.path() / "out", Weights::f32); },
               "needs 4 heads of 20 to make up the decoder's width 48");
  EXPECT_FALSE(fs::exists(scratch.path() / "out"));
}

// A copy of a golden model whose config.json can be edited.
class EditedModel {
 public:
  explicit EditedModel(const std::string& golden) {
    fs::copy(fs::path(CEPE_TEST_DATA) / golden, path(), fs::copy_options::recursive);
  }
  fs::path path() const { return scratch_.path() / "m"; }
  void set(const std::string& key, const nlohmann::json& value) {
    nlohmann::json config = read_json(path() / "config.json");
    config[key] = value;
    write_file(path() / "config.json", config.dump());
  }
  // Adds a tensor, or replaces the one of its name.
  void set_tensor(const TensorView& tensor) {
    const std::string file = read_file(path() / "model.safetensors");
    write_file(scratch_.path() / "copy", file);
    const SafetensorsFile source(scratch_.path() / "copy");
    std::vector<TensorView> views = source.tensors();
    std::erase_if(views, [&](const TensorView& view) { return view.name == tensor.name; });
    views.push_back(tensor);
    write_safetensors(path() / "model.safetensors", views, {});
  }

 private:
  ScratchDirectory scratch_;
};

TEST(OpenModel, ReadsPickledShards) {
  EditedModel model("generate/plain");
  fs::copy(fs::path(CEPE_TEST_DATA) / "pickle/plain", model.path());
  const std::string hash = hash_weights(model.path());
  const OpenedModel exact = open_model(model.path());  // both are there: safetensors win
  fs::remove(model.path() / "model.safetensors");
  OpenedModel pickled = open_model(model.path());
  EXPECT_TRUE(pickled.notes.empty());
  Cepe expected = exact.model;  // the shards hold the same weights in float16
  for (Parameter& parameter : parameters(expected)) *parameter.value = parameter.value->to(at::kHalf).to(at::kFloat);
  const std::vector<Parameter> found = parameters(pickled.model), wanted = parameters(expected);
  for (size_t i = 0; i < wanted.size(); ++i)
    EXPECT_TRUE(at::equal(*found[i].value, *wanted[i].value)) << wanted[i].name;

  std::string lines;
  for (const char* file : {"pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"})
    lines += sha256_file(model.path() / file) + "  " + file + "\n";
  EXPECT_EQ(hash_weights(model.path()), sha256_bytes(lines));
  EXPECT_NE(hash_weights(model.path()), hash);
}

TEST(OpenModel, NotesWeightsThatLoseDigits) {
  EditedModel model("generate/plain");
  fs::copy(fs::path(CEPE_TEST_DATA) / "pickle/plain", model.path());
  OpenOptions narrow;
  narrow.dtype = at::kBFloat16;
  const auto has_note = [](const char* type, const char* digits) {
    return testing::ElementsAre(
        testing::AllOf(testing::HasSubstr(std::string("16 matrices stored as ") + type), testing::HasSubstr(digits)));
  };
  EXPECT_THAT(open_model(model.path(), narrow).notes, has_note("F32 are held in bfloat16", "8 binary digits of 24"));
  fs::remove(model.path() / "model.safetensors");
  EXPECT_THAT(open_model(model.path(), narrow).notes, has_note("F16 are held in bfloat16", "8 binary digits of 11"));
  EXPECT_THAT(open_model(model.path()).notes, testing::IsEmpty());
}

TEST(OpenModel, NamesWhyWeightsAreNotRead) {
  const std::string q = "model.layers.0.self_attn.q_proj.weight";
  const std::vector<int8_t> bytes(1024, 1);
  const std::vector<float> scales(32, 1.0f);
  {
    EditedModel model("generate/plain");
    model.set("quantization_config", {{"quant_method", "gptq"}, {"bits", 4}});
    expect_error([&] { open_model(model.path()); }, "the weights are quantised (\"quantization_config\", method gptq)");
    model.set("quantization_config", nullptr);
    open_model(model.path());
    model.set_tensor({q, DType::i8, {32, 32}, std::as_bytes(std::span(bytes))});
    model.set_tensor({q + "_scale", DType::f32, {32}, std::as_bytes(std::span(scales))});
    open_model(model.path());
    model.set_tensor({q + "_zero_point", DType::i8, {32}, std::as_bytes(std::span(bytes)).first(32)});
    expect_error([&] { open_model(model.path()); }, "int8 with zero points, which are not read");
  }
  EditedModel model("generate/plain");
  const auto renamed = [&](const std::string& name) {
    const SafetensorsFile whole(fs::path(CEPE_TEST_DATA) / "generate/plain/model.safetensors");
    std::vector<TensorView> views = whole.tensors();
    for (TensorView& view : views) {
      if (view.name == q) view.name = name;
    }
    write_safetensors(model.path() / "model.safetensors", views, {});
  };
  renamed("model.layers.0.self_attn.q_proj.qweight");
  expect_error([&] { open_model(model.path()); }, "q_proj.qweight is quantised as GPTQ and AWQ do");
  renamed("language_model." + q);
  expect_error([&] { open_model(model.path()); }, "under another prefix, as language_model." + q);
  renamed("layers.0.self_attn.q_proj.weight");
  expect_error([&] { open_model(model.path()); }, "under another prefix, as layers.0.self_attn.q_proj.weight");
  renamed("base_model.model." + q + ".lora_A.weight");
  expect_error([&] { open_model(model.path()); }, "lora_A.weight belongs to an adapter");
}

TEST(OpenModel, NotesChunksLongerThanTheEncoderReads) {
  EditedModel model("generate/published");
  EXPECT_THAT(open_model(model.path()).notes, testing::IsEmpty());
  model.set("chunk_length", 64);
  EXPECT_THAT(open_model(model.path()).notes, testing::ElementsAre(testing::HasSubstr("chunks are as long, not 64")));
}

TEST(TrainedParts, ALaterOrUnknownFormatIsRefused) {
  EditedModel parts("generate/trained");
  OpenOptions options;
  options.base = fs::path(CEPE_TEST_DATA) / "generate/plain";
  parts.set("cepe_format_version", 3);
  expect_error([&] { open_model(parts.path(), options); }, "\"cepe_format_version\" is 3, this program reads 1 and 2");
  parts.set("cepe_format_version", "1");
  expect_error([&] { open_model(parts.path(), options); }, "\"cepe_format_version\" is \"1\"");
  parts.set("cepe_format_version", 1);
  parts.set("cepe_format", 5);
  expect_error([&] { open_model(parts.path(), options); }, "\"cepe_format\" is 5, expected \"trained-parts\"");
}

TEST(TrainedParts, ABaseOfTheSameWeightsAndOtherSettingsIsRefused) {
  EditedModel parts("generate/trained"), base("generate/plain");
  OpenOptions options;
  options.base = base.path();
  EXPECT_THAT(open_model(parts.path(), options).notes, testing::IsEmpty());
  base.set("eos_token_id", {1, 2});  // what only ends a text
  base.set("max_position_embeddings", 64);
  open_model(parts.path(), options);
  base.set("rope_theta", 500.0);
  expect_error([&] { open_model(parts.path(), options); }, "\"rope_theta\": 10000.0, found 500.0");
  base.set("rope_theta", 10000.0);
  base.set("rope_scaling", {{"type", "linear"}, {"factor", 2.0}});
  expect_error([&] { open_model(parts.path(), options); }, "\"rope_scaling\": null, found {");

  // Parts that record nothing of their base, as earlier versions wrote them.
  nlohmann::json config = read_json(parts.path() / "config.json");
  config.erase("base_config");
  write_file(parts.path() / "config.json", config.dump());
  EXPECT_THAT(open_model(parts.path(), options).notes,
              testing::Contains(testing::HasSubstr("records no settings of its base")));
}

// What is recorded of a base is what its config.json gives when it is read again, for every kind of rotary scaling.
TEST(TrainedParts, TheirOwnBaseIsNeverAnother) {
  for (const std::string family : {"llama-linear", "llama-dynamic", "llama-yarn", "llama-llama3", "mistral"}) {
    const ScratchDirectory scratch;
    const fs::path base = fs::path(CEPE_TEST_DATA) / "families" / family;
    Cepe model = open_fixture("families/" + family).model;
    add_cepe_parts(model, {1, 2, false, 16, 8});
    SaveOptions save;
    save.base_name = family;
    save.base_sha256 = hash_weights(base);
    save_trained_parts(model, scratch.path() / "m", save);
    OpenOptions options;
    options.base = base;
    EXPECT_THAT(open_model(scratch.path() / "m", options).notes, testing::IsEmpty()) << family;
  }
}

// transformers would not read what config.json has no words for.
TEST(DecoderDirectory, RefusesWhatOnlyAGgufFileCanBe) {
  const auto refused = [](auto change, const std::string& phrase) {
    const ScratchDirectory scratch;
    Cepe model = open_fixture("generate/plain").model;
    change(model.config.decoder);
    expect_error([&] { save_decoder(model, scratch.path() / "m", Weights::f32); }, phrase);
    EXPECT_FALSE(fs::exists(scratch.path() / "m"));
  };
  refused([](StackConfig& c) { c.rope.frequency_divisors.assign(static_cast<size_t>(c.head_dim / 2), 2); },
          "rotary frequencies are divided one by one");
  refused([](StackConfig& c) { c.qkv_bias = true; }, "with biases on q, k and v and without one on o");
  refused([](StackConfig& c) { c.output_bias = true; }, "without biases on q, k and v and with one on o");
  refused([](StackConfig& c) { c.family = "qwen2"; }, "the family qwen2 without biases on q, k and v");
  for (const std::string family : {"llama-bias", "llama-llama3", "llama-yarn", "mistral", "qwen2", "qwen3"})
    EXPECT_NO_THROW(check_decoder_directory(open_fixture("families/" + family).model.config.decoder, family)) << family;
}

TEST(TrainedParts, RecordTheirBaseAndTheirTraining) {
  const ScratchDirectory scratch;
  Cepe model = trained();
  SaveOptions save = save_options(Weights::f32);
  save.training = {{"data", {{{"path", "books.tokens"}, {"sha256", "12"}}}}, {"steps", 3}};
  save_trained_parts(model, scratch.path() / "m", save);
  const OpenedModel opened = reopen(scratch.path() / "m");
  EXPECT_EQ(opened.training, save.training);
  EXPECT_THAT(opened.notes, testing::IsEmpty());
  EXPECT_EQ(read_json(scratch.path() / "m/config.json")["base_config"]["hidden_size"],
            model.config.decoder.hidden_size);
}

TEST(Open, NamesWhatIsMissing) {
  expect_error([] { open_model("/no/such/model"); }, "/no/such/model: no such model file or directory");
  expect_error([] { open_model(fs::path(CEPE_TEST_DATA) / "mlm/model.safetensors"); },
               "expected a GGUF file or a model directory");
  // Its tensors would do for a decoder's.
  expect_error([] { open_model(fs::path(CEPE_TEST_DATA) / "mlm"); },
               "mlm/config.json: a masked language model (LlamaForMLM), expected one that writes");
}

}  // namespace
}  // namespace cepe
