// Against what Hugging Face transformers renders (tests/golden/chat/record.py), and against hostile templates.
#include "text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "base/error.h"

namespace cepe {
namespace {

using nlohmann::json;
using ::testing::AnyOf;
using ::testing::HasSubstr;

const std::string kGolden = std::string(CEPE_TEST_DATA) + "/chat/";

std::string read(const std::string& name) {
  std::ifstream file(kGolden + name, std::ios::binary);
  EXPECT_TRUE(file) << kGolden << name;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  localtime_r(&now, &parts);
  char out[64];
  return std::string(out, std::strftime(out, sizeof out, "%d %b %Y", &parts));
}

// The golden's text with its placeholder for a date filled in.
std::string with_date(std::string text, const std::string& date) {
  const std::string placeholder = "<%d %b %Y>";
  const size_t at = text.find(placeholder);
  return at == std::string::npos ? text : text.replace(at, placeholder.size(), date);
}

std::vector<ChatMessage> messages_of(const json& list) {
  std::vector<ChatMessage> out;
  for (const json& message : list) out.push_back({message.at("role"), message.at("content")});
  return out;
}

ChatTemplateInput several_turns() {
  const json golden = json::parse(read("conversations.json"));
  return {messages_of(golden.at("conversations").at("several turns")), true, "<s>", "</s>"};
}

std::string render(const std::string& source, const ChatTemplateInput& input = {}) {
  return ChatTemplate(source).render(input);
}

std::string error_of(const std::string& source, const ChatTemplateInput& input = {}) {
  try {
    const std::string text = render(source, input);
    return "no error, but: " + text;
  } catch (const Error& error) {
    return error.what();
  }
}

// What the template gives must be what the golden says: its text, or an error where transformers has one.
void expect_golden(const std::string& source, const ChatTemplateInput& input, const json& golden) {
  if (golden.contains("text")) {
    const std::string before = today();
    std::string text;
    try {
      text = render(source, input);
    } catch (const Error& error) {
      FAIL() << error.what();
    }
    EXPECT_THAT(text, AnyOf(with_date(golden.at("text"), before), with_date(golden.at("text"), today())));
    return;
  }
  const std::string error = error_of(source, input);
  EXPECT_THAT(error, HasSubstr("chat template, line "));
  const std::string reason = golden.at("error");
  const bool raised = source.find(reason) != std::string::npos;  // by the template itself
  EXPECT_THAT(error, HasSubstr(raised ? reason : ""));
}

TEST(ChatTemplate, FamiliesRenderAsInTransformers) {
  const json golden = json::parse(read("conversations.json"));
  int checked = 0;
  for (const auto& [family, record] : golden.at("families").items()) {
    const std::string source = read("templates/" + family + ".jinja");
    for (const json& result : record.at("results")) {
      SCOPED_TRACE(family + ": " + result.at("conversation").get<std::string>());
      const json& messages = golden.at("conversations").at(result.at("conversation").get<std::string>());
      expect_golden(
          source,
          {messages_of(messages), result.at("add_generation_prompt"), record.at("bos_token"), record.at("eos_token")},
          result);
      ++checked;
    }
  }
  EXPECT_EQ(checked, 19 * 18 * 2);
}

TEST(ChatTemplate, SnippetsRenderAsInTransformers) {
  const ChatTemplateInput input = several_turns();
  const json golden = json::parse(read("snippets.json"));
  EXPECT_GT(golden.size(), 190u);
  for (const json& snippet : golden) {
    const std::string source = snippet.at("template");
    SCOPED_TRACE(source);
    expect_golden(source, input, snippet);
  }
}

TEST(ChatTemplate, RefusesByNameAndLine) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"\n\n{% block x %}{% endblock %}", "line 3: the statement \"block\" is not supported"},
      {"a\n{% include 'x' %}", "line 2: the statement \"include\" is not supported"},
      {"{% autoescape true %}{% endautoescape %}", "the statement \"autoescape\" is not supported"},
      {"{% for a in [] %}{% macro f() %}{% break %}{% endmacro %}{% endfor %}", "\"break\" outside a loop"},
      {"\n{{ 'a'|urlize }}", "line 2: the filter \"urlize\" is not supported"},
      {"{{ 'a'|safe ~ 'b' }}", "the filter \"safe\" is not supported"},
      {"{{ 'a' ~ 'b'|safe }}", "the filter \"safe\" is not supported"},
      {"{{ 'a'|e }}", "the filter \"e\" is not supported"},
      {"{{ 1 is escaped }}", "the test \"escaped\" is not supported"},
      {"{{ 1 is sameas 1 }}", "the test \"sameas\" of an integer is not supported"},
      {"{{ 'a'.swapcase() }}", "the method \"swapcase\" is not supported"},
      {"{{ 'a'.nothing() }}", "a string has no method \"nothing\""},
      {"{{ lipsum(3) }}", "\"lipsum\" is not supported"},
      {"{{ ''.__class__ }}", "the attribute \"__class__\" is not supported"},
      {"{{ f(*a) }}", "\"f\" is undefined"},
      {"\n{{ '%q' % 1 }}", "line 2: the place \"%q\" is not supported"},
      {"{{ 'a' - 3 }}", "\"-\" of a string and an integer is not supported"},
      {"{{ range(3) }}", "a range as text is not supported"},
      {"{{ [1]|select }}", "a generator as text is not supported"},
      {"{{ {'a': 1}.items }}", "the method \"items\" without a call is not supported"},
      {"{{ {1: 2} }}", "an integer as the key of a mapping is not supported"},
      {"{{ '\xC3\x9F'|upper }}", "changing the case of \"\xC3\x9F\" is not supported"},
      {"{{ 'a'|trim(side='left') }}", "the argument \"side\" is not supported"},
      {"{{ {}|tojson(indent=33) }}", "an indent of more than 32 in tojson is not supported"},
      {"{{ 02 }}", "\"02\" is not a number"},
      {"{{ '\\N{DASH}' }}", "the escape \"\\N\" in a string is not supported"},
      {"{{ 99999999999999999999 }}", "does not fit into 64 bits"},
      {"{{ 9223372036854775807 + 1 }}", "does not fit into 64 bits"},
      {"{{ 2 ** 64 }}", "does not fit into 64 bits"},
      {"{% if 1 %}\n{% for x in [1] %}", "line 2: this \"for\" has no end"},
      {"{% set x %}a", "this \"set\" has no end"},
      {"a\n{% raw %}b", "line 2: this \"raw\" has no end"},
  };
  for (const auto& [source, message] : cases) {
    EXPECT_THAT(error_of(source), HasSubstr(message)) << source;
    EXPECT_THAT(error_of(source), HasSubstr("chat template, line ")) << source;
  }
}

TEST(ChatTemplate, ErrorsNameTheFile) {
  const auto message = [](const std::string& source) -> std::string {
    try {
      ChatTemplate(source, "m/chat_template.jinja").render({});
    } catch (const ChatTemplateError& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(message("\n{% include 'x' %}"),
            "m/chat_template.jinja: chat template, line 2: the statement \"include\" is not supported");
  EXPECT_EQ(message("{{ raise_exception('only users') }}"), "m/chat_template.jinja: chat template, line 1: only users");
  EXPECT_THAT(message("\xFF"), HasSubstr("m/chat_template.jinja: chat template: not valid UTF-8"));
}

TEST(ChatTemplate, SpecialTokensAreVariables) {
  ChatTemplateInput input{{}, true, "<s>", "", {{"pad_token", "<pad>"}, {"unk_token", "<unk>"}}};
  EXPECT_EQ(render("{{ bos_token }}{{ pad_token }}{{ unk_token }}{{ sep_token is defined }}", input),
            "<s><pad><unk>False");
}

TEST(ChatTemplate, MissingTokensAreUndefinedAndBadTextIsRefused) {
  EXPECT_EQ(render("{{ bos_token is defined }} {{ eos_token }}", {{}, true, "", "</s>"}), "False </s>");
  EXPECT_THAT(error_of("{{ 1 }}", {{{"user", "a\xFF"}}, true, "", ""}),
              HasSubstr("chat message 1: not valid UTF-8 at byte 1"));
  EXPECT_THAT(error_of("a\xC0\x80"), HasSubstr("not valid UTF-8 at byte 1"));
}

TEST(ChatTemplate, DeepNestingIsAnError) {
  const auto repeat = [](const std::string& text, size_t times) {
    std::string out;
    for (size_t i = 0; i < times; ++i) out += text;
    return out;
  };
  constexpr size_t kMany = 100000;
  for (const std::string& source :
       {"{{ " + repeat("(", kMany) + "1" + repeat(")", kMany) + " }}",
        "{{ " + repeat("[", kMany) + repeat("]", kMany) + " }}",
        "{{ " + repeat("{'a':", kMany) + repeat("}", kMany) + " }}", "{{ 1" + repeat(" + 1", kMany) + " }}",
        "{{ " + repeat("not ", kMany) + "1 }}", "{{ " + repeat("-", kMany) + "1 }}",
        "{{ a" + repeat(".a", kMany) + " }}", "{{ a" + repeat("[0]", kMany) + " }}",
        "{{ 1" + repeat("|string", kMany) + " }}", "{{ 1" + repeat(" if 1 else 1", kMany) + " }}",
        "{{ 1" + repeat(" if 1", kMany) + " }}", "{{ 1" + repeat(" ~ 1", kMany) + " }}",
        "{{ a" + repeat(".strip(a", kMany) + repeat(")", kMany) + " }}",
        "{{ " + repeat("range(", kMany) + repeat(")", kMany) + " }}",
        repeat("{% if 1 %}", kMany) + repeat("{% endif %}", kMany), repeat("{% for a in [1] %}", kMany)}) {
    EXPECT_THAT(error_of(source), HasSubstr("nested more than")) << source.substr(0, 40);
  }
  // Wide is not deep.
  EXPECT_EQ(render(repeat("{% if 0 %}a{% elif 0 %}{% endif %}", 1000) + "b"), "b");
  EXPECT_EQ(render("{% if 0 %}" + repeat("{% elif 0 %}", 10000) + "{% else %}c{% endif %}"), "c");
  EXPECT_THAT(error_of(repeat("{% with %}", kMany)), HasSubstr("nested more than"));
  EXPECT_THAT(error_of("{% for " + repeat("(", kMany) + "a" + repeat(")", kMany) + " in b %}"),
              HasSubstr("nested more than"));
  // Macros and loops that call themselves without an end.
  for (const std::string source :
       {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{% macro f(x=f()) %}{% endmacro %}{{ f() }}",
        "{% macro f() %}{% call f() %}{% endcall %}{{ caller }}{% endmacro %}{{ f() }}",
        "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}"}) {
    EXPECT_THAT(error_of(source), HasSubstr("nested too deep")) << source;
  }
  EXPECT_EQ(render("{% macro f(n) %}{{ n if n == 0 else f(n - 1) }}{% endmacro %}{{ f(80) }}"), "0");
  // Values nest as deep as a loop asks for.
  EXPECT_THAT(error_of("{% set n = namespace(a=[]) %}{% for i in range(1000) %}{% set n.a = [n.a] %}{% endfor %}"),
              HasSubstr("nested more than"));
  EXPECT_THAT(error_of("{% set n = namespace(a=1) %}{% set n.a = n %}"), HasSubstr("namespace inside a namespace"));
  EXPECT_THAT(error_of("{% set n = namespace(a=1) %}{% set n.a = [n] %}"), HasSubstr("a namespace inside a list"));
}

TEST(ChatTemplate, WorkAndMemoryAreBounded) {
  const std::string loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}x";
  const std::string ends = "{% endfor %}{% endfor %}{% endfor %}";
  const std::string doubling = "{% set n = namespace(s='ab', l=[1]) %}{% for i in range(9999) %}";
  const std::vector<std::string> sources = {
      loops + ends,
      doubling + "{% set n.s = n.s ~ n.s %}{% endfor %}",
      doubling + "{% set n.s = n.s + n.s %}{% endfor %}",
      doubling + "{% set n.l = n.l + n.l %}{% endfor %}",
      doubling + "{% set n.s = n.s|replace('a', n.s) %}{% endfor %}",
      doubling + "{% set n.s = n.s|join(n.s) %}{% endfor %}",
      doubling + "{% set n.s = (n.s ~ n.s)|tojson(indent=32) %}{% endfor %}",
      doubling + "{% set n.l = [n.l, n.l] %}{% if n.l == n.l %}{% endif %}{% endfor %}",
      "{% set s = 'a' * 1000000 %}{% set l = [s ~ 'b', s ~ 'b'] * 10000 %}{{ l|sort|length }}{{ l|unique|list|length "
      "}}",
      "{% set s = 'a' * 1000000 %}{% set l = [s ~ 'b'] * 10000 %}{{ (s ~ 'b') in l }}{{ (s ~ 'c') in l }}",
      doubling + "{% set n.s = n.s * 1000 %}{% endfor %}",
      doubling + "{% set n.l = n.l * 1000 %}{% endfor %}",
      doubling + "{% set n.s = '%s%s' % (n.s, n.s) %}{% endfor %}",
      doubling + "{% set n.s = '{0}{0}'.format(n.s) %}{% endfor %}",
      doubling + "{% set n.s = n.s.center(n.s|length * 9) %}{% endfor %}",
      doubling + "{% set n.s %}{{ n.s }}{{ n.s }}{% endset %}{% endfor %}",
      doubling + "{% set n.l = [n.l, n.l]|string %}{% endfor %}",
      "{% macro f(n) %}{% if n > 0 %}{% for i in range(999) %}{{ f(n - 1) }}{% endfor %}{% endif %}{% endmacro %}{{ "
      "f(5) }}",
      doubling + "{{ n.s }}{% set n.s = n.s ~ '" + std::string(9999, 'a') + "' %}{% endfor %}",
  };
  for (const std::string& source : sources) {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_THAT(error_of(source), AnyOf(HasSubstr("too much work"), HasSubstr("grows beyond"))) << source;
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60)) << source;
  }
  // A book as a message is no such case.
  const std::string book(2 << 20, 'b');
  EXPECT_EQ(render(read("templates/llama-2-chat.jinja"), {{{"user", book}}, true, "<s>", "</s>"}),
            "<s>[INST] " + book + " [/INST]");
}

TEST(ChatTemplate, EveryCutAndManyMutationsEndInTextOrError) {
  std::mt19937 random(7);
  const std::string tags[] = {"{%", "%}", "{{",    "}}",         "{#", "#}",       "-",          "(",     "]",
                              "'",  "|",  "endif", "for x in x", "\n", "\xF0\x9F", "macro f(x)", "set x", "**"};
  const ChatTemplateInput input = several_turns();
  int errors = 0, texts = 0;
  const auto attempt = [&](const std::string& source) {
    try {
      render(source, input);
      ++texts;
    } catch (const Error&) {
      ++errors;
    }
  };
  for (const char* family : {"llama-2-chat", "llama-3.1-instruct", "mistral-7b-instruct-v0.3", "qwen3"}) {
    const std::string source = read(std::string("templates/") + family + ".jinja");
    for (size_t size = 0; size < source.size(); size += 7) attempt(source.substr(0, size));
    for (int i = 0; i < 1000; ++i) {
      std::string mutated = source;
      for (int edits = 0; edits < 3; ++edits) {
        const size_t at = random() % mutated.size();
        mutated.replace(at, random() % 4, tags[random() % std::size(tags)]);
      }
      attempt(mutated);
    }
  }
  EXPECT_GT(errors, 1000);
  EXPECT_GT(texts, 10);
}

}  // namespace
}  // namespace cepe
