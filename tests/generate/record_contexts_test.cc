// The contexts of many prompts: what is encoded, shared and let go.
#include "generate/records/record_contexts.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "context/encode_context.h"
#include "context/read_context.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;

class RecordContextsTest : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directories(directory_);
    for (const char* name : {"a", "b", "c"}) {
      std::string text;
      for (int i = 0; i < 20; ++i) text += std::string("House ") + name + " stood on the hill. ";
      write_file(path(name), text);
    }
  }
  void TearDown() override { fs::remove_all(directory_); }
  std::string path(const std::string& name) const { return (directory_ / name).string(); }
  PromptRecord record(const std::vector<std::string>& files, const std::vector<std::string>& texts = {}) const {
    PromptRecord made{.prompt = "Who?", .context_text = texts};
    for (const std::string& file : files) made.context.push_back(path(file));
    return made;
  }
  at::Tensor expected(const std::vector<std::string>& files) const {
    std::vector<fs::path> paths;
    for (const std::string& file : files) paths.push_back(path(file));
    return encode_context(opened_.model, read_context(opened_, paths)).latents.states_BSE;
  }
  int64_t tokens(const std::string& file) const { return expected({file}).size(1); }
  const OpenedModel opened_ = open_model(fs::path(CEPE_TEST_DATA) / "generate/published");
  const fs::path directory_ = fs::path(testing::TempDir()) / "cepe_record_contexts_test";
};

TEST_F(RecordContextsTest, EachDocumentIsEncodedOnceAndLetGo) {
  const std::vector<PromptRecord> records = {record({"a"}), record({}),         record({"a", "b"}),
                                             record({"a"}), record({"b", "a"}), record({"c"})};
  RecordContexts contexts(opened_, records, ContextStates::stored);
  EXPECT_EQ(contexts.encoded_tokens(), 0);  // nothing before it is needed
  const auto near = [&](const std::shared_ptr<const Context>& context, const std::vector<std::string>& files) {
    ASSERT_NE(context, nullptr);
    const at::Tensor states = expected(files);
    ASSERT_EQ(context->tokens(), states.size(1));
    EXPECT_LT((context->latents.states_BSE - states).norm().item<double>(), 1e-5 * states.norm().item<double>());
  };
  std::shared_ptr<const Context> first = contexts.take(0);
  near(first, {"a"});
  EXPECT_EQ(contexts.encoded_tokens(), tokens("a"));
  EXPECT_EQ(contexts.take(1), nullptr);
  near(contexts.take(2), {"a", "b"});
  EXPECT_EQ(contexts.encoded_tokens(), tokens("a") + tokens("b"));
  EXPECT_EQ(contexts.take(3), first);  // the same object
  std::weak_ptr<const Context> watched = first;
  first.reset();
  EXPECT_FALSE(watched.expired());  // "b", "a" is still to be made of it
  near(contexts.take(4), {"b", "a"});
  EXPECT_TRUE(watched.expired());
  EXPECT_EQ(contexts.held(), 0);
  near(contexts.take(5), {"c"});
  EXPECT_EQ(contexts.encoded_tokens(), tokens("a") + tokens("b") + tokens("c"));
  EXPECT_EQ(contexts.held(), 0);
}

TEST_F(RecordContextsTest, TextsAreDocuments) {
  const std::vector<PromptRecord> records = {record({}, {read_file(path("a"))}), record({"b"}, {read_file(path("a"))}),
                                             record({}, {""})};
  RecordContexts contexts(opened_, records, ContextStates::stored);
  EXPECT_TRUE(at::equal(contexts.take(0)->latents.states_BSE, expected({"a"})));
  EXPECT_EQ(contexts.take(1)->tokens(), tokens("a") + tokens("b"));
  EXPECT_EQ(contexts.encoded_tokens(), tokens("a") + tokens("b"));
  EXPECT_EQ(contexts.take(2)->tokens(), 0);
  EXPECT_EQ(contexts.held(), 0);
}

TEST_F(RecordContextsTest, AFileThatFailsLeavesTheOthers) {
  write_file(path("bad"), "a\xff");
  const std::vector<PromptRecord> records = {record({"a", "bad"}), record({"a", "bad"}), record({"a"})};
  RecordContexts contexts(opened_, records, ContextStates::stored);
  EXPECT_THROW(contexts.take(0), Error);
  EXPECT_THROW(contexts.take(1), Error);
  EXPECT_EQ(contexts.held(), 1);  // for the last
  EXPECT_EQ(contexts.take(2)->tokens(), tokens("a"));
  EXPECT_EQ(contexts.held(), 0);
  EXPECT_EQ(contexts.encoded_tokens(), tokens("a"));
}

}  // namespace
}  // namespace cepe
