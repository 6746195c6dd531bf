// Files of labelled texts: every form, and what is refused.
#include "tasks/icl/labelled_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "base/error_of.h"
#include "base/random.h"
#include "base/temporary_directory.h"
#include "tasks/icl/csv.h"

namespace cepe {
namespace {

using testing::HasSubstr;

class LabelledFiles : public testing::Test {
 protected:
  std::string write(const std::string& name, const std::string& content) const {
    std::ofstream(directory_ / name) << content;
    return (directory_ / name).string();
  }
  // "label|text" of each.
  std::vector<std::string> read(const std::string& task, const std::string& name, const std::string& content,
                                LabelledPart part = LabelledPart::asked) const {
    std::vector<std::string> all;
    for (const LabelledText& one :
         read_labelled_texts(write(name, content), label_task_from_name(task, "--task"), part)) {
      all.push_back(one.label + "|" + one.text);
    }
    return all;
  }
  void refused(const std::string& task, const std::string& name, const std::string& content,
               const std::string& phrase) const {
    const std::string error = error_of([&] { read(task, name, content); });
    EXPECT_THAT(error, HasSubstr(name));
    EXPECT_THAT(error, HasSubstr(phrase));
  }

  TemporaryDirectory directory_;
};

using Texts = std::vector<std::string>;

TEST_F(LabelledFiles, LinesBeginWithTheLabel) {
  EXPECT_EQ(read("sst2", "stsa.binary.test", "0 no movement , no yuks .\n1 a stirring ,  funny film \r\n\n"),
            (Texts{"negative|no movement , no yuks .", "positive|a stirring ,  funny film"}));
  EXPECT_EQ(read("trec", "TREC.test.all", "5 How far is it ?\n0 What is an atom ?\n2 What is .com ?\n"),
            (Texts{"numeric|How far is it ?", "description|What is an atom ?", "abbreviation|What is .com ?"}));
  EXPECT_EQ(read("trec", "TREC_10.label", "NUM:dist How far is it ?\nHUM:ind Who ?\n"),
            (Texts{"numeric|How far is it ?", "human|Who ?"}));
  EXPECT_EQ(read("plain", "own.txt", "\xEF\xBB\xBFspam buy now\nham see you\n"),
            (Texts{"spam|buy now", "ham|see you"}));
  EXPECT_EQ(read("plain", "own.txt", "loc:city Rome\nloc:state Ohio\n"), (Texts{"loc:city|Rome", "loc:state|Ohio"}));
  refused("sst2", "a.txt", "0 bad\n2 worse\n", "a.txt:2: expected a label from 0 to 1 (negative, positive), found 2");
  refused("trec", "a.txt", "XYZ:a Who ?\n", "a.txt:1: expected a label of trec");
  refused("sst2", "a.txt", "0 bad\n\n1\n", "a.txt:3: expected a label, a space and a text");
  refused("sst2", "a.txt", "0 bad\n1   \n", "a.txt:2: the text is empty");
  refused("sst2", "a.txt", "0 caf\xE9\n", "a.txt:1: expected UTF-8 text");
  refused("plain", "a.txt", "1 good\n", "a.txt:1: the label is the number 1, and plain has no names for numbers");
  refused("sst2", "a.txt", "\n\n", "the file holds no labelled text");
}

TEST_F(LabelledFiles, ColumnsHaveNamesOrAreAgNewss) {
  EXPECT_EQ(
      read("banking77", "test.csv", "text,category\nWhere is it?,card_arrival\n\"It, \"\"my\"\"\ncard\",lost_card\n"),
      (Texts{"card arrival|Where is it?", "lost card|It, \"my\" card"}));
  EXPECT_EQ(read("ag_news", "test.csv", "\"3\",\"Fears\",\"Unions say\"\n\"4\",\"Race\",\"Space\"\n"),
            (Texts{"Business|Fears Unions say", "Sci/Tech|Race Space"}));
  EXPECT_EQ(read("dbpedia", "test.csv", "1,\"TY KU\",\" TY KU is a company\"\n"),
            (Texts{"Company|TY KU is a company"}));
  EXPECT_EQ(read("sst2", "dev.tsv", "sentence\tlabel\nit 's a charming journey . \t1\nbad\t0\n"),
            (Texts{"positive|it 's a charming journey .", "negative|bad"}));
  refused("banking77", "a.csv", "text,category\nx,y\nz\n", "a.csv:3: expected 2 columns, found 1");
  refused("banking77", "a.csv", "text,category\n\"x\n\nz", "a.csv:2: a quoted field begins here and does not end");
  refused("banking77", "a.csv", "text,category\n\"x\" z,y\n", "a.csv:2: expected a comma or the line's end");
  refused("ag_news", "a.csv", "\"1\",\"a\",\"b\"\n\"5\",\"a\",\"b\"\n",
          "a.csv:2: expected a label from 1 to 4 (World, Sports, Business, Sci/Tech), found 5");
  refused("ag_news", "a.csv", "question,answer\na,b\n", "a.csv:1: expected a first line that names the columns");
  refused("banking77", "a.csv", "text,category\nx,\n", "a.csv:2: the label is empty");
  refused("sst2", "a.tsv", "a\tb\n", "a.tsv:1: expected the columns' names");
  refused("sst2", "a.tsv", "sentence\tlabel\nx\t1\t2\n", "a.tsv:2: expected 2 columns, found 3");
}

TEST_F(LabelledFiles, RecordsNameTextAndLabel) {
  EXPECT_EQ(
      read("plain", "a.jsonl", "{\"text\": \"a\\nb\", \"label\": \"x_y\"}\n{\"sentence\": \"c\", \"intent\": \"z\"}\n"),
      (Texts{"x_y|a b", "z|c"}));
  EXPECT_EQ(
      read("sst2", "b.json", "[{\"sentence\": \"c\", \"label\": 1}, {\"sentence\": \"d\", \"label\": \"negative\"}]"),
      (Texts{"positive|c", "negative|d"}));
  EXPECT_EQ(read("trec", "c.jsonl", "{\"text\": \"Who?\", \"coarse_label\": 3, \"fine_label\": 29}\n"),
            (Texts{"human|Who?"}));
  EXPECT_EQ(read("ag_news", "d.jsonl", "{\"title\": \"T\", \"text\": \"x\", \"label\": 0}\n"), (Texts{"World|T x"}));
  EXPECT_EQ(read("sst2", "e.json", "{\"text\": \"a\", \"label\": 0}\n{\"text\": \"b\", \"label\": 1}\n"),
            (Texts{"negative|a", "positive|b"}));
  // SetFit's copies: "label_text" has the set's own words.
  const std::string own_words = "{\"text\": \"a\", \"label\": 4, \"label_text\": \"very positive\"}\n";
  EXPECT_EQ(read("sst5", "f.jsonl", own_words), (Texts{"great|a"}));
  EXPECT_EQ(read("plain", "f.jsonl", own_words), (Texts{"very positive|a"}));
  EXPECT_EQ(read("sst5", "f.csv", "text,label,label_text\na,0,very negative\n"), (Texts{"terrible|a"}));
  EXPECT_EQ(read("plain", "f.csv", "text,label,label_text\na,0,very negative\n"), (Texts{"very negative|a"}));
  const std::string clinc =
      "{\"oos_val\": [[\"q\", \"oos\"]],\n \"train\": [[\"set a timer\", \"timer\"]], \"test\": [[\"what is due\", "
      "\"bill_due\"]]}";
  EXPECT_EQ(read("clinc150", "data_full.json", clinc), (Texts{"bill due|what is due"}));
  EXPECT_EQ(read("clinc150", "data_full.json", clinc, LabelledPart::shown), (Texts{"timer|set a timer"}));
  refused("plain", "a.jsonl", "{\"text\": \"a\", \"label\": \"x\"}\n{\"text\": \"a\"\n", "a.jsonl:2: not valid JSON");
  refused("plain", "a.jsonl", "{\"text\": \"a\"}\n", "a.jsonl:1: the record has no label (\"label_text\")");
  refused("plain", "a.jsonl", "{\"label\": \"a\"}\n", "a.jsonl:1: the record has no text (\"text\")");
  refused("plain", "a.jsonl", "{\"text\": 1, \"label\": \"a\"}\n", "a.jsonl:1: expected the text to be a JSON string");
  refused("plain", "a.jsonl", "{\"text\": \"t\", \"label\": 1.5}\n", "a.jsonl:1: expected the label to be");
  refused("plain", "a.jsonl", "[1]\n", "a.jsonl:1: expected a JSON object with a text and a label, found a JSON array");
  refused("sst2", "a.json", "[{\"text\": \"a\", \"label\": -1}]", "a.json: [0]: expected a label from 0 to 1");
  refused("clinc150", "a.json", "{\"train\": []}", "a.json: \"test\" is missing");
  refused("clinc150", "a.json", "{\"test\": [[\"a\"]]}", "a.json: test[0]: expected a pair of a text and a label");
  refused("clinc150", "a.json", "3", "expected a JSON array of records or CLINC150's parts, found a JSON number");
}

TEST_F(LabelledFiles, TasksHaveNames) {
  EXPECT_EQ(label_tasks().size(), 9u);
  EXPECT_THAT(error_of([] { label_task_from_name("sst", "--task"); }),
              HasSubstr("--task: expected one of sst2, sst5, mr, trec, ag_news, dbpedia, banking77, clinc150, plain"));
  const LabelTask task = label_task_from_name("sst2", "--task");
  EXPECT_EQ(label_prompt(task, "fine") + label_continuation("positive"), "Sentence: fine\nSentiment: positive");
}

// Bytes of all kinds are read or refused with a sentence, never anything else.
TEST_F(LabelledFiles, HostileBytesAreRefused) {
  KeyedRandom random{18};
  const std::string alphabet = "\"\",\n\r\t 01a{}[]:\\\x80\xC3\xA9";
  for (int i = 0; i < 100; ++i) {
    std::string content;
    for (int64_t n = random.below(40); n > 0; --n) {
      content += alphabet[static_cast<size_t>(random.below(std::ssize(alphabet)))];
    }
    for (const char* name : {"a.csv", "a.tsv", "a.jsonl", "a.json", "a.txt"}) {
      try {
        EXPECT_FALSE(read("plain", name, content).empty());
      } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr(name));
      }
    }
  }
}

}  // namespace
}  // namespace cepe
