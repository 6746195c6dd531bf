#include "verify/verify.h"

#include <ATen/ATen.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <set>

#include "base/error.h"
#include "io/hf_directory.h"
#include "io/safetensors.h"
#include "model/checkpoint/masked_lm_checkpoint.h"
#include "model/loss.h"
#include "model/replug.h"
#include "ops/distillation.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;

// The recorded tensors, and which of them have been used as input or compared.
class Recorded {
 public:
  Recorded(const fs::path& path, at::Device device, at::ScalarType type) : file_(path), device_(device), type_(type) {}

  bool has(const std::string& name) const { return file_.find(name) != nullptr; }
  at::Tensor get(const std::string& name) {
    const TensorView* view = file_.find(name);
    require(view != nullptr, "{}: tensor {} is missing", file_.path().string(), name);
    used_.insert(name);
    if (view->dtype == DType::i64) {
      at::Tensor out = at::empty(view->shape, at::kLong);
      std::memcpy(out.data_ptr(), view->bytes.data(), view->bytes.size());
      return out.to(device_);
    }
    at::Tensor out = at::empty(view->shape, at::kFloat);
    decode_to_f32(*view, out.data_ptr<float>());
    return out.to(device_, type_);
  }
  // Names that start with a prefix, without it.
  std::vector<std::string> names_after(const std::string& prefix) const {
    std::vector<std::string> out;
    for (const TensorView& view : file_.tensors()) {
      if (view.name.rfind(prefix, 0) == 0) out.push_back(view.name.substr(prefix.size()));
    }
    return out;
  }
  std::vector<std::string> unused() const {
    std::vector<std::string> out;
    for (const TensorView& view : file_.tensors()) {
      if (!used_.count(view.name)) out.push_back(view.name);
    }
    return out;
  }

 private:
  SafetensorsFile file_;
  at::Device device_;
  at::ScalarType type_;
  std::set<std::string> used_;
};

class Verifier {
 public:
  Verifier(const fs::path& directory, const VerifyOptions& options)
      : directory_(directory),
        options_(options),
        device_(options.device),
        type_(options.float64 ? at::kDouble : at::kFloat),
        recorded_(directory / "expected.safetensors", device_, type_) {}

  VerifyReport run() {
    const HfDirectory files = open_hf_directory(directory_);
    const std::string architecture = files.config.value("architectures", nlohmann::json::array()).dump();
    if (architecture.find("LlamaForMLM") != std::string::npos) {
      verify_masked_lm();
    } else {
      OpenOptions open;
      open.device = device_;
      open.dtype = type_;
      model_ = open_model(directory_, open).model;
      if (recorded_.has("contexts")) verify_replug();
      if (recorded_.has("logits")) verify_plain();
      if (recorded_.has("labels")) verify_cepe();
      if (recorded_.has("greedy.tokens")) verify_greedy();
      if (recorded_.has("distill.prob")) verify_distillation();
    }
    report_.unknown = recorded_.unused();
    return std::move(report_);
  }

 private:
  void compare(const std::string& name, const at::Tensor& found) {
    VerifyResult result;
    result.quantity = name;
    const at::Tensor expected = recorded_.get(name).to(at::kCPU, at::kDouble);
    result.max_absolute = result.max_relative = result.norm_error = std::numeric_limits<double>::infinity();
    if (found.defined() && found.numel() == expected.numel() && found.isfinite().all().item<bool>()) {
      const at::Tensor difference = found.detach().to(at::kCPU, at::kDouble).reshape(expected.sizes()) - expected;
      const double largest = expected.abs().max().item<double>(), norm = expected.norm().item<double>();
      result.max_absolute = difference.abs().max().item<double>();
      result.max_relative = result.max_absolute == 0 ? 0 : result.max_absolute / largest;
      result.norm_error = result.max_absolute == 0 ? 0 : difference.norm().item<double>() / norm;
    }
    const bool exact = recorded_.get(name).scalar_type() == at::kLong;
    result.passed = exact ? result.max_absolute == 0 : result.norm_error <= options_.tolerance;
    report_.results.push_back(result);
  }

  void compare_gradients(const std::string& prefix, const std::vector<Parameter>& list) {
    std::map<std::string, at::Tensor> gradients;
    for (const Parameter& parameter : list) gradients[parameter.name] = parameter.value->grad();
    for (const std::string& name : recorded_.names_after(prefix)) compare(prefix + name, gradients[name]);
  }

  void require_gradients(const std::vector<Parameter>& list) {
    for (const Parameter& parameter : list) {
      parameter.value->mutable_grad() = at::Tensor();
      parameter.value->set_requires_grad(true);
    }
  }

  std::optional<ContextChunks> chunks(const std::string& name) {
    if (name == "nocontext") return std::nullopt;
    ContextChunks out{recorded_.get("encoder_input_ids"), {}};
    if (name == "padded") out.mask_BML = recorded_.get("encoder_attention_mask").to(at::kBool);
    return out;
  }

  CrossAttentionForm training_form() const {
    return options_.form == CrossAttentionForm::cached ? CrossAttentionForm::automatic : options_.form;
  }

  // What a decode reads its context with: keys and values kept where they are asked for.
  DecodeInput reading(const at::Tensor& ids, Latents& context) const {
    const bool cached = options_.form == CrossAttentionForm::cached && context.tokens() > 0;
    if (cached && !context.cache) context.cache = cache_context(model_.decoder.stack, context);
    return {.ids_BT = ids, .context = &context, .form = options_.form, .block_tokens = options_.block_tokens};
  }

  // Hidden states without gradients, in the form that is asked for.
  at::Tensor forward(const at::Tensor& ids, Latents context) const {
    const at::NoGradGuard no_grad;
    return decode(model_, reading(ids, context));
  }

  void verify_cepe() {
    const at::Tensor ids = recorded_.get("input_ids"), labels = recorded_.get("labels");
    for (const std::string name : {"full", "padded", "nocontext"}) {
      if (!recorded_.has(name + ".logits") && !recorded_.has(name + ".loss")) continue;
      const std::vector<Parameter> trained = trainable_parameters(model_);
      require_gradients(trained);
      Latents context;
      if (const auto input = chunks(name)) context = encode(model_, *input);
      if (recorded_.has(name + ".encoder_hidden_states")) compare(name + ".encoder_hidden_states", context.states_BSE);
      const at::Tensor read = forward(ids, context);
      if (recorded_.has(name + ".logits")) compare(name + ".logits", logits(model_, read));
      if (recorded_.has(name + ".loss")) compare(name + ".loss", next_token_loss(model_, read, labels));
      if (recorded_.names_after(name + ".grad.").empty()) continue;
      const at::Tensor hidden = decode(model_, {.ids_BT = ids, .context = &context, .form = training_form()});
      next_token_loss(model_, hidden, labels).backward();
      compare_gradients(name + ".grad.", trained);
    }
  }

  void verify_greedy() {
    const at::NoGradGuard no_grad;
    const at::Tensor prompt = recorded_.get("greedy.prompt"), expected = recorded_.get("greedy.tokens");
    Latents context;
    if (recorded_.has("encoder_input_ids") && model_.encoder) context = encode(model_, *chunks("padded"));
    const int64_t steps = expected.size(1);
    KeyValueCache cache = make_cache(model_.decoder.stack, prompt.size(0), prompt.size(1) + steps);
    std::vector<at::Tensor> tokens;
    at::Tensor next = prompt;
    for (int64_t i = 0; i < steps; ++i) {
      DecodeInput input = reading(next, context);
      input.cache = &cache;
      const at::Tensor hidden = decode(model_, input);
      next = logits(model_, hidden.narrow(1, hidden.size(1) - 1, 1)).argmax(-1);
      tokens.push_back(next);
    }
    compare("greedy.tokens", at::cat(tokens, 1));
  }

  void verify_distillation() {
    const nlohmann::json constants = read_json(directory_ / "expected.json");
    const double lm = constants.at("lm_loss_cof").get<double>(), kl = constants.at("kl_loss_cof").get<double>();
    const at::Tensor ids = recorded_.get("input_ids"), labels = recorded_.get("labels");
    const at::Tensor prob_BPK1 = recorded_.get("distill.prob");
    const TeacherTopK teacher{prob_BPK1.flatten(0, 1), recorded_.get("distill.index").flatten(0, 1)};
    const int64_t T = ids.size(1), P = prob_BPK1.size(1);  // the teacher covers the last P positions
    require(P <= T, "{}: distill.prob covers {} positions, input_ids has {}", directory_.string(), P, T);
    std::set<std::string> modes;
    for (const std::string& name : recorded_.names_after("distill.")) {
      if (const size_t end = name.find(".loss"); end != std::string::npos) modes.insert(name.substr(0, end));
    }
    for (const std::string& name : modes) {
      if (name != "drop" && !name.starts_with("smooth_")) continue;  // reported as unknown
      const DistillMode mode = distill_mode_from_name(name, directory_.string() + ": distill");
      const std::vector<Parameter> trained = trainable_parameters(model_);
      require_gradients(trained);
      const Latents context = encode(model_, *chunks("padded"));
      const at::Tensor hidden = decode(model_, {.ids_BT = ids, .context = &context, .form = training_form()});
      const at::Tensor last = hidden.narrow(1, T - P, P).flatten(0, 1);
      const at::Tensor divergence = linear_top_k_distillation_sum(last, head_weight(model_), teacher, mode);
      const at::Tensor loss = lm * next_token_loss(model_, hidden, labels) + kl * divergence / last.size(0);
      loss.backward();
      compare("distill." + name + ".loss", loss);
      compare_gradients("distill." + name + ".grad.", trained);
    }
  }

  void verify_plain() {
    const at::NoGradGuard no_grad;
    compare("logits", logits(model_, decode(model_, {recorded_.get("input_ids")})));
  }

  void verify_replug() {
    const at::NoGradGuard no_grad;
    const at::Tensor contexts = recorded_.get("contexts"), ids = recorded_.get("input_ids");
    const at::Tensor log_probs = replug_log_probs(model_, {contexts, recorded_.get("context_scores"), ids});
    compare("log_probs", log_probs);
    // One set of labels serves all contexts: the input's own tokens, none of the context's.
    const at::Tensor none = at::full({ids.size(0), contexts.size(2)}, -100, ids.options());
    if (recorded_.has("loss")) compare("loss", next_token_loss_from_log_probs(log_probs, at::cat({none, ids}, 1)));
  }

  void verify_masked_lm() {
    MaskedLm model = open_masked_lm(directory_, device_, type_);
    const std::vector<Parameter> list = parameters(model);
    require_gradients(list);
    const at::Tensor labels = recorded_.get("labels");
    const at::Tensor mask =
        recorded_.has("attention_mask") ? recorded_.get("attention_mask").to(at::kBool) : at::Tensor();
    const at::Tensor out = masked_lm_logits(model, recorded_.get("input_ids"), mask);
    const at::Tensor loss = at::cross_entropy_loss(out.view({-1, out.size(-1)}), labels.view({-1}));
    loss.backward();
    compare("logits", out);
    compare("loss", loss);
    compare_gradients("grad.", list);
  }

  fs::path directory_;
  VerifyOptions options_;
  at::Device device_;
  at::ScalarType type_;
  Recorded recorded_;
  Cepe model_;
  VerifyReport report_;
};

}  // namespace

bool VerifyReport::passed() const {
  if (!unknown.empty() || results.empty()) return false;
  for (const VerifyResult& result : results) {
    if (!result.passed) return false;
  }
  return true;
}

VerifyReport verify_fixture(const fs::path& directory, const VerifyOptions& options) {
  require(fs::exists(directory / "expected.safetensors"),
          "{}: not a fixture directory, expected.safetensors is missing", directory.string());
  return Verifier(directory, options).run();
}

}  // namespace cepe
