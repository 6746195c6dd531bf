#include "model/checkpoint/chat_template_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

// A model's directory without weights: none of this reads them.
class ChatTemplateSources : public testing::Test {
 protected:
  ChatTemplateSources() {
    fs::create_directories(path_);
    fs::copy(fs::path(CEPE_TEST_DATA) / "generate/plain/config.json", path_ / "config.json");
  }
  ~ChatTemplateSources() override {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  void write(const char* name, const std::string& content) const { write_file(path_ / name, content); }
  ChatTemplateSource found() const { return find_chat_template(path_, std::nullopt); }
  std::string where(const char* name) const { return (path_ / name).string(); }

  const fs::path path_ = fs::path(testing::TempDir()) / ("chat-template-" + std::to_string(getpid()));
};

TEST_F(ChatTemplateSources, StandWhereTransformersLooks) {
  EXPECT_EQ(found().text, "");
  write("chat_template.json", R"({"chat_template": "old"})");
  EXPECT_EQ(found().text, "old");
  EXPECT_EQ(found().file, where("chat_template.json"));
  write("tokenizer_config.json", R"({"chat_template": "one"})");
  EXPECT_EQ(found().text, "one");
  write("tokenizer_config.json", R"({"chat_template": {"rag": "a", "default": "b"}})");
  EXPECT_EQ(found().text, "b");
  write("tokenizer_config.json",
        R"({"chat_template": [{"name": "rag", "template": "a"}, {"name": "default", "template": "c"}]})");
  EXPECT_EQ(found().text, "c");
  EXPECT_EQ(found().file, where("tokenizer_config.json"));
  EXPECT_TRUE(found().notes.empty());
  write("chat_template.jinja", "jinja");
  EXPECT_EQ(found().text, "jinja");
  EXPECT_EQ(found().file, where("chat_template.jinja"));
  EXPECT_EQ(find_chat_template(path_ / "missing", std::nullopt).text, "");
}

TEST_F(ChatTemplateSources, WhatIsNoTemplateIsNamed) {
  for (const char* wrong : {"5", "[\"a\"]", R"([{"name": 5, "template": "a"}])", R"([{"name": "default"}])",
                            R"([{"name": "default", "template": 1}])", R"({"default": null})"}) {
    write("tokenizer_config.json", std::string("{\"chat_template\": ") + wrong + "}");
    try {
      found();
      ADD_FAILURE() << wrong;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(where("tokenizer_config.json") + ": expected")) << wrong;
    }
  }
  for (const char* none : {"null", "\"\"", "[]", "{}"}) {
    write("tokenizer_config.json", std::string("{\"chat_template\": ") + none + "}");
    EXPECT_EQ(found().text, "") << none;
  }
  write("tokenizer_config.json", R"({"chat_template": {"rag": "a"}})");
  EXPECT_EQ(found().text, "");
  EXPECT_THAT(found().notes, testing::ElementsAre(HasSubstr("chat templates rag none is called default")));
}

TEST_F(ChatTemplateSources, TokensHaveTheirNames) {
  write("tokenizer_config.json", R"({"pad_token": "<p>", "image_token": {"content": "<i>"}, "bos_token": null,
      "extra_special_tokens": {"x": "<x>"}, "add_bos_token": true})");
  write("special_tokens_map.json", R"({"unk_token": "<u>", "pad_token": "<other>"})");
  EXPECT_EQ(found().special_tokens,
            (std::map<std::string, std::string>{
                {"pad_token", "<p>"}, {"image_token", "<i>"}, {"x", "<x>"}, {"unk_token", "<u>"}}));
}

}  // namespace
}  // namespace cepe
