// Our recall tasks beside 20 samples a task of RULER's own generator (tests/golden/ruler/record.py), both on SmolLM2's
// tokenizer: the same wording around texts of the same structure, as long as the length allows.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <regex>
#include <set>

#include "base/file.h"
#include "tasks/recall.h"
#include "text/text_file.h"
#include "text/tokenizer_golden.h"

namespace cepe {
namespace {

using nlohmann::json;

constexpr int64_t kSamples = 20;
const std::string kNoise = "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

struct Sample {
  std::string input;
  std::vector<std::string> outputs;
  int64_t tokens = 0;  // of the input
};

struct BothSamples {
  int64_t length = 0, answer_tokens = 0;
  std::vector<Sample> original, ours;
};

std::vector<std::string> matches(const std::string& text, const std::string& pattern, int group = 0) {
  const std::regex regex(pattern);
  std::vector<std::string> found;
  for (std::sregex_iterator it(text.begin(), text.end(), regex), end; it != end; ++it) found.push_back((*it)[group]);
  return found;
}

std::string without(const std::string& text, const std::string& pattern, const std::string& by = "") {
  return std::regex_replace(text, std::regex(pattern), by);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines(1);
  for (const char c : text) {
    if (c == '\n') {
      lines.emplace_back();
    } else {
      lines.back() += c;
    }
  }
  return lines;
}

std::string one_space(const std::string& text) { return without(without(text, "\\s+", " "), "^ | $"); }

class RulerGolden : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (data_) return;  // the needles' suite shares all this
    for (const json& entry : golden::cases().at("cases")) {
      if (entry.at("name") == "smollm2") tokenizer_ = make_gguf_tokenizer(golden::gguf_vocabulary(entry));
    }
    TextFile file(std::filesystem::path(CEPE_TEST_DATA) / "ruler/samples.jsonl.zst");
    auto data = std::make_shared<RecallData>();
    std::set<std::string> adjectives, nouns, words;
    for (std::string line; file.next_line(line);) {
      const json record = json::parse(line);
      BothSamples& both = (*samples_)[record.at("task")];
      both.length = record.at("max_seq_length");
      both.original.push_back({record.at("input"), record.at("outputs"), count(record.at("input"))});
      // But for vt, whose solved example is counted by itself there.
      both.answer_tokens = record.at("length").get<int64_t>() - both.original.back().tokens;
      // The original's words are the vocabulary of ours.
      for (const std::string& key : matches(both.original.back().input, "for ([a-z]+-[a-z]+) is", 1)) {
        adjectives.insert(key.substr(0, key.find('-')));
        nouns.insert(key.substr(key.find('-') + 1));
      }
      if (record.at("task") != "cwe") continue;
      for (std::string& word : matches(both.original.back().input, "\\d+\\. ([^ \\n]+)", 1))
        words.insert(std::move(word));
    }
    data->adjectives.assign(adjectives.begin(), adjectives.end());
    data->nouns.assign(nouns.begin(), nouns.end());
    data->verbs.assign(words.begin(), words.end());
    data->essays = split_essays(read_file("examples/books/the-leavenworth-case.txt"));
    data->squad = read_squad(CEPE_TEST_DATA "/ruler/squad.json");
    data->hotpotqa = read_hotpotqa(CEPE_TEST_DATA "/ruler/hotpotqa.json");
    data_ = data;
    for (auto& [task, both] : *samples_) make_ours(task, both);
  }

  static int64_t count(const std::string& text) {
    return static_cast<int64_t>(tokenizer_->encode(text, {.parse_special_tokens = false}).size());
  }

  static void make_ours(const std::string& task, BothSamples& both) {
    RecallOptions options;
    options.tasks = {task};
    options.lengths = {both.length};
    options.placements = {Placement::decoder};
    options.examples = kSamples;
    options.decoder_window = 1 << 20;
    options.count_tokens = [](const Question& q) { return count(q.before + q.text + q.after + q.answer_prefix); };
    const RecallTasks made = recall_tasks(data_, options);
    for (int64_t i = 0; i < kSamples; ++i) {
      const Example example = made.tasks.at(0).example(i);
      const Question& q = example.question;
      Sample sample{q.before + q.text + q.after + q.answer_prefix, example.references, options.count_tokens(q)};
      both.ours.push_back(std::move(sample));
      EXPECT_NEAR(static_cast<double>(example.max_tokens), static_cast<double>(both.answer_tokens), 4) << task;
      both.answer_tokens = example.max_tokens;
    }
  }

  static const BothSamples& both(const std::string& task) { return samples_->at(task); }

  // What stays of each sample when its own words are taken out: the same for all of them.
  static void expect_same_wording(const std::string& task, const std::function<std::string(const Sample&)>& skeleton) {
    const std::string expected = skeleton(both(task).original.at(0));
    ASSERT_GT(expected.size(), 60u);
    for (const std::vector<Sample>* side : {&both(task).original, &both(task).ours}) {
      for (const Sample& sample : *side) EXPECT_EQ(skeleton(sample), expected) << task;
    }
  }

  inline static std::unique_ptr<Tokenizer> tokenizer_;
  inline static std::shared_ptr<const RecallData> data_;
  inline static auto samples_ = std::make_unique<std::map<std::string, BothSamples>>();
};

TEST_F(RulerGolden, HasTwentySamplesOfThirteenTasks) {
  ASSERT_EQ(samples_->size(), 13u);
  for (const auto& [task, both] : *samples_) {
    EXPECT_EQ(both.original.size(), 20u) << task;
    EXPECT_EQ(both.ours.size(), 20u) << task;
  }
}

TEST_F(RulerGolden, OursFillTheLengthAtLeastAsFar) {
  for (const auto& [task, both] : *samples_) {
    int64_t original = 0, ours = 0;
    for (const Sample& sample : both.original) original = std::max(original, sample.tokens);
    for (const Sample& sample : both.ours) {
      EXPECT_LE(sample.tokens + both.answer_tokens, both.length) << task;
      ours = std::max(ours, sample.tokens);
    }
    EXPECT_GE(ours, std::min(original, both.length - both.answer_tokens)) << task;  // the original fwe exceeds it
    EXPECT_LE(both.length - both.answer_tokens - ours, 60) << task << ": one more document fits";
  }
}

// ---- needles

struct Needle {
  std::string key, value;
  double depth = 0;  // share of the input before it
};
const std::string kNeedle = "One of the special magic (numbers|uuids) for (.+?) is: (\\S+)\\.";

std::vector<Needle> needles_of(const std::string& input) {
  std::vector<Needle> needles;
  const std::regex regex(kNeedle);
  for (std::sregex_iterator it(input.begin(), input.end(), regex), end; it != end; ++it) {
    needles.push_back({(*it)[2], (*it)[3], static_cast<double>(it->position()) / static_cast<double>(input.size())});
  }
  return needles;
}

constexpr const char* kUuid = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}";
std::string kind_of(const std::string& text) {
  if (std::regex_match(text, std::regex(kUuid))) return "uuid";
  if (std::regex_match(text, std::regex("[1-9][0-9]{6}"))) return "number";
  return std::regex_match(text, std::regex("[A-Za-z .'-]+-[A-Za-z .'-]+")) ? "words" : "other: " + text;
}

class RulerNeedles : public RulerGolden, public testing::WithParamInterface<const char*> {};

TEST_P(RulerNeedles, AreHiddenAndAskedForAlike) {
  const std::string task = GetParam();
  expect_same_wording(task, [](const Sample& sample) {
    std::string text = lines_of(sample.input).front() + "\n" + lines_of(sample.input).back();
    for (const Needle& needle : needles_of(sample.input)) text = without(text, needle.key, "KEY");
    return text;
  });
  std::vector<double> depths[2];
  std::set<std::string> kinds[2];
  std::set<size_t> asked[2];
  for (const int side : {0, 1}) {
    for (const Sample& sample : side == 0 ? both(task).original : both(task).ours) {
      std::set<std::string> right;
      const std::string question = lines_of(sample.input).back();
      for (const Needle& needle : needles_of(sample.input)) {
        kinds[side].insert(kind_of(needle.key) + " " + kind_of(needle.value));
        if (question.find(" " + needle.key) == std::string::npos) continue;
        right.insert(needle.value);
        depths[side].push_back(needle.depth);
      }
      EXPECT_EQ(right, std::set<std::string>(sample.outputs.begin(), sample.outputs.end())) << task;
      asked[side].insert(right.size());
    }
  }
  EXPECT_EQ(kinds[0], kinds[1]);
  EXPECT_EQ(asked[0], asked[1]);
  for (const std::vector<double>& all : depths) {  // uniform: a mean of 20 or more has an error of at most 0.065
    EXPECT_NEAR(std::accumulate(all.begin(), all.end(), 0.0) / static_cast<double>(all.size()), 0.5, 0.2) << task;
  }
}

TEST_P(RulerNeedles, StandInTheSameHaystack) {
  const std::string task = GetParam();
  const std::string book = one_space(read_file("examples/books/the-leavenworth-case.txt"));
  const bool noise = task == "niah_single_1", lines = task == "niah_multikey_2" || task == "niah_multikey_3";
  for (const std::vector<Sample>* side : {&both(task).original, &both(task).ours}) {
    for (const Sample& sample : *side) {
      std::vector<std::string> all = lines_of(sample.input);
      all = std::vector<std::string>(all.begin() + 1, all.end() - 1);
      const size_t needles = needles_of(sample.input).size();
      if (noise) {
        EXPECT_EQ(needles, 1u);
        EXPECT_EQ(static_cast<size_t>(std::count(all.begin(), all.end(), kNoise)) + 1, all.size());
      } else if (lines) {
        EXPECT_EQ(needles, all.size()) << "each line is a needle";
        EXPECT_GT(needles, 5u);
      } else {
        EXPECT_EQ(needles, task == "niah_single_2" || task == "niah_single_3" ? 1u : 4u);
        std::string text = all.at(0);
        EXPECT_EQ(all.size(), 1u);
        text = one_space(without(text, kNeedle));
        EXPECT_GT(text.size(), 1000u);
        EXPECT_EQ(text, book.substr(0, text.size())) << "the essays from their beginning";
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ruler, RulerNeedles,
                         testing::Values("niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_1",
                                         "niah_multikey_2", "niah_multikey_3", "niah_multivalue", "niah_multiquery"));

// ---- the others

TEST_F(RulerGolden, VariablesAreTrackedAlike) {
  const std::string set = "VAR ([A-Z]+) = (VAR [A-Z]+|[0-9]{5})";
  expect_same_wording("vt", [&](const Sample& sample) {
    std::string text = without(without(sample.input, set), kNoise);
    for (const std::string& sentence : matches(kNoise, "[A-Z][^.]+\\.")) text = without(text, sentence);
    text = without(without(text, "[0-9]{5}", "N"), "\\b[A-Z]{3}\\b", "V");
    return one_space(text);
  });
  for (const std::vector<Sample>* side : {&both("vt").original, &both("vt").ours}) {
    for (const Sample& sample : *side) {
      const std::vector<std::string> names = matches(sample.input, set, 1), values = matches(sample.input, set, 2);
      ASSERT_EQ(names.size(), 10u) << "a solved example, and the question";
      for (size_t i = 0; i < names.size(); ++i) {
        EXPECT_EQ(names[i].size(), i < 5 ? 3u : 5u);
        if (i % 5 != 0) {
          EXPECT_EQ(values[i], "VAR " + names[i - 1]) << "in the order of the chain";
        }
      }
      EXPECT_EQ(sample.outputs, std::vector<std::string>(names.begin() + 5, names.end()));
      EXPECT_THAT(sample.input, testing::HasSubstr("assigned the value " + values[5] + " in the text"));
      const size_t second = sample.input.rfind("Memorize and track");
      EXPECT_LT(count(sample.input.substr(0, second)), 501) << "of the solved example";
    }
  }
}

// How often the words of a list come: {30: 10 words, 3: 9 words}.
std::map<int64_t, int64_t> histogram(const std::vector<std::string>& words) {
  std::map<std::string, int64_t> counts;
  for (const std::string& word : words) ++counts[word];
  std::map<int64_t, int64_t> histogram;
  for (const auto& [word, times] : counts) ++histogram[times];
  return histogram;
}

TEST_F(RulerGolden, CommonWordsAreListedAlike) {
  const std::string entry = "\\d+\\. ([^ \\n]+)";
  expect_same_wording("cwe", [&](const Sample& sample) { return one_space(without(sample.input, entry)); });
  for (const std::vector<Sample>* side : {&both("cwe").original, &both("cwe").ours}) {
    for (const Sample& sample : *side) {
      const size_t second = sample.input.find("\nBelow is a numbered list");
      ASSERT_NE(second, std::string::npos);
      const std::string shown = sample.input.substr(0, second), asked = sample.input.substr(second);
      const size_t answer = shown.find("\nQuestion:");
      EXPECT_EQ(histogram(matches(shown.substr(0, answer), entry, 1)), (std::map<int64_t, int64_t>{{3, 30}, {10, 10}}));
      EXPECT_EQ(matches(shown.substr(answer), entry, 1).size(), 10u) << "the solved example's answer";
      const std::vector<std::string> words = matches(asked, entry, 1);
      const std::map<int64_t, int64_t> times = histogram(words);
      EXPECT_EQ(times.at(30), 10);
      EXPECT_EQ(times.size(), 2u);
      EXPECT_TRUE(times.contains(3));
      EXPECT_EQ(sample.outputs.size(), 10u);
      for (const std::string& word : sample.outputs) EXPECT_EQ(std::count(words.begin(), words.end(), word), 30);
      EXPECT_EQ(matches(asked, "(\\d+)\\. ", 1).back(), std::to_string(words.size()));
    }
  }
}

TEST_F(RulerGolden, FrequentWordsHaveTheSameFrequencies) {
  const auto words_of = [](const Sample& sample) {
    const size_t begin = sample.input.find("coded words. ") + 13, end = sample.input.find("\nQuestion:");
    return matches(sample.input.substr(begin, end - begin), "[^ ]+");
  };
  expect_same_wording("fwe", [&](const Sample& sample) {
    const size_t begin = sample.input.find("coded words. ") + 13, end = sample.input.find("\nQuestion:");
    return sample.input.substr(0, begin) + sample.input.substr(end);
  });
  for (const std::vector<Sample>* side : {&both("fwe").original, &both("fwe").ours}) {
    for (const Sample& sample : *side) {
      const std::vector<std::string> words = words_of(sample);
      const auto times = [&](const std::string& word) {
        return static_cast<double>(std::count(words.begin(), words.end(), word));
      };
      const double dots = times("...");
      ASSERT_EQ(sample.outputs.size(), 3u);
      for (size_t k = 2; k <= 4; ++k) {
        EXPECT_NEAR(times(sample.outputs[k - 2]), dots / static_cast<double>(k * k), 1) << "zeta distribution";
      }
      for (const std::string& word : words) {
        if (word == "...") continue;
        EXPECT_TRUE(std::regex_match(word, std::regex("[a-z]{6}"))) << word;
        if (std::count(sample.outputs.begin(), sample.outputs.end(), word) > 0) continue;
        EXPECT_LT(times(word), times(sample.outputs[2]));
      }
    }
  }
}

TEST_F(RulerGolden, QuestionsStandAmongTheSameDocuments) {
  for (const std::string task : {"qa_1", "qa_2"}) {
    const DocumentQuestions& from = task == "qa_1" ? data_->squad : data_->hotpotqa;
    const std::string document = "Document (\\d+):\\n([^\\n]+(?:\\n[^\\n]+)?)\\n\\n";
    expect_same_wording(task, [&](const Sample& sample) {
      return without(without(sample.input, document), "Question: Who was the mayor of \\w+ in \\d{4}\\?",
                     "Question: Q");
    });
    for (const std::vector<Sample>* side : {&both(task).original, &both(task).ours}) {
      for (const Sample& sample : *side) {
        const std::vector<std::string> numbers = matches(sample.input, document, 1),
                                       texts = matches(sample.input, document, 2);
        for (size_t i = 0; i < numbers.size(); ++i) EXPECT_EQ(numbers[i], std::to_string(i + 1));
        const std::set<std::string> found(texts.begin(), texts.end());
        EXPECT_EQ(found.size(), texts.size()) << "no document twice";
        const std::string asked = matches(sample.input, "Question: ([^?]+\\?)", 1).back();
        const auto question = std::find_if(from.questions.begin(), from.questions.end(),
                                           [&](const DocumentQuestion& q) { return q.question == asked; });
        if (question == from.questions.end()) continue;  // the original takes questions that we leave for training
        EXPECT_EQ(question->answers, sample.outputs);
        for (const size_t d : question->gold) EXPECT_TRUE(found.contains(from.documents[d])) << task;
        for (const size_t d : question->related) EXPECT_TRUE(found.contains(from.documents[d])) << task;
      }
    }
  }
}

}  // namespace
}  // namespace cepe
