#include "base/config.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "base/error.h"
#include "base/file.h"
#include "base/temporary_directory.h"

namespace cepe {
namespace {

using Strings = std::vector<std::string>;
using Integers = std::vector<int64_t>;

class ConfigTest : public ::testing::Test {
 protected:
  Config from(const std::string& text) {
    write_file(file_, text);
    return Config::from_file(file_);
  }
  TemporaryDirectory directory_;
  std::string file_ = directory_ / "recipe.toml";
};

TEST_F(ConfigTest, GivesTheValuesOfTheFile) {
  Config config = from(R"([train]
steps = 1_000
rate = 3e-4
width = 2
resume = true
name = "a \"b\"\n\u00e9"
files = ["x", "y z"]
sizes = [1, -2]
none = []
)");
  EXPECT_EQ(config.get<int64_t>("train.steps", 1), 1000);
  EXPECT_EQ(config.get<double>("train.rate", 1), 3e-4);
  EXPECT_EQ(config.get<double>("train.width", 1), 2.0);  // an integer where a number is asked for
  EXPECT_EQ(config.get<bool>("train.resume", false), true);
  EXPECT_EQ(config.get<std::string>("train.name", ""), "a \"b\"\n\u00e9");
  EXPECT_EQ(config.get<Strings>("train.files", {}), (Strings{"x", "y z"}));
  EXPECT_EQ(config.get<Integers>("train.sizes", {}), (Integers{1, -2}));
  EXPECT_EQ(config.get<Strings>("train.none", {"unused"}), Strings{});
  EXPECT_EQ(config.get<int64_t>("train.absent", 7), 7);
  config.refuse_unknown_keys();
}

TEST_F(ConfigTest, OptionBeatsVariableBeatsFile) {
  Config config = from("[a-b]\nx = 1\ny = 1\nz = 1\n");
  setenv("CEPE_A_B_X", "2", 1);
  setenv("CEPE_A_B_Y", "2", 1);
  config.override_with("a-b.x=3");
  EXPECT_EQ(config.get<int64_t>("a-b.y", 0), 1);  // variables count only once they are asked for
  config.use_environment();
  EXPECT_EQ(config.get<int64_t>("a-b.x", 0), 3);
  EXPECT_EQ(config.get<int64_t>("a-b.y", 0), 2);
  EXPECT_EQ(config.get<int64_t>("a-b.z", 0), 1);
  unsetenv("CEPE_A_B_X");
  unsetenv("CEPE_A_B_Y");
}

TEST_F(ConfigTest, OptionsNeedNoQuotes) {
  Config config;
  for (const char* option : {"a.text=two words = 1", "a.quoted=\"x\\ty\"", "a.list=x,y z", "a.sizes=1,2",
                             "a.brackets=[3, 4]", "a.empty=", "a.number=-1.5e3", "a.truth=false"}) {
    config.override_with(option);
  }
  EXPECT_EQ(config.get<std::string>("a.text", ""), "two words = 1");
  EXPECT_EQ(config.get<std::string>("a.quoted", ""), "x\ty");
  EXPECT_EQ(config.get<Strings>("a.list", {}), (Strings{"x", "y z"}));
  EXPECT_EQ(config.get<Integers>("a.sizes", {}), (Integers{1, 2}));
  EXPECT_EQ(config.get<Integers>("a.brackets", {}), (Integers{3, 4}));
  EXPECT_EQ(config.get<std::string>("a.empty", "x"), "");
  EXPECT_EQ(config.get<double>("a.number", 0), -1500.0);
  EXPECT_EQ(config.get<bool>("a.truth", true), false);
}

TEST_F(ConfigTest, RecordsWhatWasUsedAsTomlThatReadsBackTheSame) {
  Config config = from("[b]\nrate = 0.1\nname = \"tab\\t\\\"quote\\\"\"\n");
  auto use = [](Config& c) {
    c.get<double>("b.rate", 0);
    c.get<double>("b.whole", 2);
    c.get<double>("b.tiny", 1e-30);
    c.get<std::string>("b.name", "");
    c.get<Strings>("a.files", {"x,y", "\\"});
    c.get<Integers>("a.sizes", {1, 2});
    c.get<bool>("a.flag", true);
  };
  use(config);
  std::string expected = R"([a]
files = ["x,y", "\\"]
flag = true
sizes = [1, 2]

[b]
name = "tab\u0009\"quote\""
rate = 0.1
tiny = 1e-30
whole = 2.0
)";
  EXPECT_EQ(config.used_as_toml(), expected);
  Config again = from(expected);
  use(again);
  EXPECT_EQ(again.used_as_toml(), expected);
}

TEST_F(ConfigTest, RefusesUnknownKeysByName) {
  Config config = from("[train]\nsteps = 1\nrtae = 0.1\n");
  config.get<int64_t>("train.steps", 0);
  config.get<double>("train.rate", 0);
  EXPECT_EQ(error_of<Error>([&] { config.refuse_unknown_keys(); }),
            file_ + ": unknown key train.rtae; did you mean train.rate?");
  Config option;
  option.override_with("train.stesp=3");
  EXPECT_EQ(error_of<Error>([&] { option.refuse_unknown_keys(); }), "--train.stesp: unknown key train.stesp");
}

TEST_F(ConfigTest, NamesTheKeysOfTheSectionWhereNoneResembles) {
  Config config = from("[train]\ntemperature = 1\n");
  config.get<int64_t>("run.minutes", 0);
  config.get<int64_t>("train.steps", 0);
  config.get<double>("train.rate", 0);
  EXPECT_EQ(error_of<Error>([&] { config.refuse_unknown_keys(); }),
            file_ + ": unknown key train.temperature; the keys of [train] are rate, steps");
  Config section = from("[optimiser]\nmomentum = 1\n");
  section.get<int64_t>("run.minutes", 0);
  section.get<int64_t>("train.steps", 0);
  EXPECT_EQ(error_of<Error>([&] { section.refuse_unknown_keys(); }),
            file_ + ": unknown key optimiser.momentum; the sections are run, train");
}

TEST_F(ConfigTest, NamesKeyAndPlaceOfAWrongValue) {
  Config config = from("[a]\nx = \"one\"\ny = 1.5\nz = [1, \"b\"]\n");
  EXPECT_EQ(error_of<Error>([&] { config.get<int64_t>("a.x", 0); }), file_ + ": a.x is \"one\", expected an integer");
  EXPECT_EQ(error_of<Error>([&] { config.get<int64_t>("a.y", 0); }), file_ + ": a.y is 1.5, expected an integer");
  EXPECT_EQ(error_of<Error>([&] { config.get<Integers>("a.z", {}); }),
            file_ + ": a.z is [1, \"b\"], expected a list of integers");
  config.override_with("a.flag=yes");
  EXPECT_EQ(error_of<Error>([&] { config.get<bool>("a.flag", false); }),
            "--a.flag: a.flag is yes, expected true or false");
  config.override_with("a.count=");
  EXPECT_EQ(error_of<Error>([&] { config.get<int64_t>("a.count", 0); }),
            "--a.count: a.count is empty, expected an integer");
  config.override_with("a.count=1\nother = 2");
  EXPECT_THROW(config.get<int64_t>("a.count", 0), Error);
}

TEST_F(ConfigTest, RefusesFilesOfAnotherForm) {
  EXPECT_EQ(error_of<Error>([&] { from("x = 1\n"); }), file_ + ": line 1: x stands outside of any [section]");
  EXPECT_EQ(error_of<Error>([&] { from("[a]\n[a.b]\nc = 1\n"); }),
            file_ + ": line 2: a.b is neither true/false, a number, a string nor a list of these");
  EXPECT_EQ(error_of<Error>([&] { from("[a]\nx = [[1]]\n"); }),
            file_ + ": line 2: a.x is neither true/false, a number, a string nor a list of these");
  EXPECT_EQ(error_of<Error>([&] { from("[a]\nx = 2020-01-01\n"); }),
            file_ + ": line 2: a.x is neither true/false, a number, a string nor a list of these");
  EXPECT_EQ(error_of<Error>([&] { from("[a]\n\"x y\" = 1\n"); }),
            file_ + ": line 2: a.x y is not a key of letters, digits, _ and -");
  std::string broken = error_of<Error>([&] { from("[a]\nx = = 1\n"); });
  EXPECT_EQ(broken.rfind(file_ + ": line 2: not valid TOML: ", 0), 0u) << broken;
}

TEST_F(ConfigTest, RefusesMalformedOptions) {
  Config config;
  for (const char* option : {"a.b", "=1", "a=1", "a.b.c=1", ".b=1", "a.=1", "a b.c=1"}) {
    EXPECT_EQ(error_of<Error>([&] { config.override_with(option); }),
              std::string(option) + ": expected a setting as section.key=value");
  }
}

}  // namespace
}  // namespace cepe
