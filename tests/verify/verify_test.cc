#include "verify/verify.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "base/error.h"
#include "base/file.h"
#include "io/safetensors.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;

fs::path golden(const std::string& name) { return fs::path(CEPE_TEST_DATA) / name; }

// Copies a fixture so that it can be changed.
class ChangedFixture {
 public:
  explicit ChangedFixture(const std::string& name) {
    std::string pattern = (fs::temp_directory_path() / "cepe-verify-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
    fs::copy(golden(name), path_, fs::copy_options::recursive);
  }
  ~ChangedFixture() { fs::remove_all(path_); }
  const fs::path& path() const { return path_; }

  // Rewrites a file of tensors after the change.
  void change(const std::string& file, const std::function<void(std::vector<TensorView>&, std::vector<float>&)>& edit) {
    std::vector<float> scratch;
    std::string bytes;
    {
      const SafetensorsFile source(path_ / file);
      std::vector<TensorView> views = source.tensors();
      edit(views, scratch);
      write_safetensors(path_ / "changed", views, source.metadata());
    }
    fs::rename(path_ / "changed", path_ / file);
  }

 private:
  fs::path path_;
};

class Fixtures : public testing::TestWithParam<const char*> {};

TEST_P(Fixtures, AreReproduced) {
  const VerifyReport report = verify_fixture(golden(GetParam()));
  EXPECT_TRUE(report.passed());
  for (const VerifyResult& result : report.results)
    EXPECT_TRUE(result.passed) << result.quantity << " " << result.norm_error;
  for (const std::string& name : report.unknown) ADD_FAILURE() << "unknown quantity " << name;
}

TEST_P(Fixtures, AreReproducedInEveryForm) {
  for (const auto form : {CrossAttentionForm::absorbed, CrossAttentionForm::materialised, CrossAttentionForm::cached}) {
    for (const int64_t block : {0, 5}) {
      const VerifyReport report = verify_fixture(golden(GetParam()), {.form = form, .block_tokens = block});
      EXPECT_TRUE(report.passed()) << cross_attention_form_name(form) << " in blocks of " << block;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Published, Fixtures, testing::Values("cepe-mha", "cepe-gqa-last2", "mlm", "replug"));
INSTANTIATE_TEST_SUITE_P(Families, Fixtures,
                         testing::Values("families/llama-mqa", "families/llama-bias", "families/llama-linear",
                                         "families/llama-dynamic", "families/llama-yarn", "families/llama-llama3",
                                         "families/llama-yarn-mscale", "families/llama-yarn-betas", "families/mistral",
                                         "families/qwen2", "families/qwen2-yarn", "families/qwen3"));

TEST(Verify, FailsWhenOneWeightIsChanged) {
  for (const char* tensor :
       {"encoder.layers.1.mlp.up_proj.weight", "model.layers.2.cross_attn.k_proj.weight", "model.norm.weight"}) {
    ChangedFixture fixture("cepe-gqa-last2");
    fixture.change("model.safetensors", [&](std::vector<TensorView>& views, std::vector<float>& scratch) {
      for (TensorView& view : views) {
        if (view.name != tensor) continue;
        scratch.resize(view.elements());
        std::memcpy(scratch.data(), view.bytes.data(), view.bytes.size());
        scratch[3] += 0.05f;
        view.bytes = std::as_bytes(std::span(scratch));
      }
    });
    EXPECT_FALSE(verify_fixture(fixture.path()).passed()) << tensor;
  }
}

TEST(Verify, FailsOnAQuantityItDoesNotKnow) {
  ChangedFixture fixture("replug");
  fixture.change("expected.safetensors", [](std::vector<TensorView>& views, std::vector<float>& scratch) {
    scratch = {1.0f};
    views.push_back({"surprise", DType::f32, {1}, std::as_bytes(std::span(scratch))});
  });
  const VerifyReport report = verify_fixture(fixture.path());
  EXPECT_FALSE(report.passed());
  EXPECT_EQ(report.unknown, std::vector<std::string>{"surprise"});
}

TEST(Verify, AMissingTensorIsNamed) {
  ChangedFixture fixture("replug");
  fixture.change("model.safetensors", [](std::vector<TensorView>& views, std::vector<float>&) {
    std::erase_if(views, [](const TensorView& view) { return view.name == "model.layers.1.mlp.up_proj.weight"; });
  });
  try {
    verify_fixture(fixture.path());
    FAIL() << "a model without one of its tensors was opened";
  } catch (const Error& error) {
    EXPECT_NE(
        std::string(error.what()).find("model.layers.1.mlp.up_proj.weight is missing, expected with shape (96, 64)"),
        std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace cepe
