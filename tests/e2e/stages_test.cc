// The stages of training through the binary, from text to a model that the other commands open.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "base/file.h"
#include "e2e/run_cepe.h"
#include "text/tokenizer/tokenizer.h"

namespace cepe {
namespace {

using nlohmann::json;

std::string text_of(int sentences, unsigned seed) {
  const std::vector<std::string> words = {"the",  "road", "to",   "town",  "harbour",
                                          "said", "was",  "grey", "quiet", "sky"};
  std::mt19937 random(seed);
  std::string text;
  for (int w = 0; w < 6 * sentences; ++w) text += words[random() % words.size()] + (w % 6 == 5 ? ". " : " ");
  return text;
}

class StagesTest : public testing::Test {
 protected:
  StagesTest() {
    std::string lines;
    for (unsigned d = 0; d < 4; ++d) lines += json{{"text", text_of(60, d)}, {"domain", "prose"}}.dump() + "\n";
    texts_ = directory_.write("texts.jsonl", lines);
  }
  std::string path(const std::string& name) const { return (directory_.path() / name).string(); }

  // A short run of a stage; more: further settings. Its output.
  std::string train(const std::string& stage, const std::vector<std::string>& more) const {
    const std::string config =
        directory_.write(stage + ".toml", "[data]\ntrain = [\"" + path("tokens") +
                                              "\"]\n[train]\nbatch = 4\nmicro_batch = 2\nsteps = 6\n"
                                              "learning_rate = 1e-3\nwarmup_steps = 2\n[run]\nweights = "
                                              "\"f32\"\nvalidation_samples = 4\n");
    std::vector<std::string> command = {
        "train", config, "--run", path(stage), "--device", "cpu", "--train.stage=" + stage};
    command.insert(command.end(), more.begin(), more.end());
    const CommandResult result = run_cepe(command, {.shell = "export OMP_WAIT_POLICY=passive"});
    EXPECT_EQ(result.status, 0) << result.err << result.out;
    return result.out;
  }
  void tokenise(const std::string& model, const std::string& text, const std::string& out) const {
    const CommandResult made = run_cepe({"data", "--model", model, "--out", path(out), text});
    ASSERT_EQ(made.status, 0) << made.err;
  }
  json last_validation(const std::string& run) const {
    const std::string log = read_file(directory_.path() / run / "log.jsonl");
    return json::parse(log.substr(log.rfind("{\"", log.rfind("\"text_validation\"")))).at("text_validation");
  }

  TemporaryDirectory directory_;
  std::string texts_;
};

// mlm -> warmup -> standard, each from the result of the one before; the last is asked to write.
TEST_F(StagesTest, FromMaskedTextToAModelThatWrites) {
  const std::string plain = golden("plain");
  tokenise(plain, texts_, "tokens");
  const std::string said =
      train("mlm", {"--mlm.hidden_size=16", "--mlm.heads=2", "--mlm.intermediate_size=24", "--mlm.positions=32",
                    "--model.encoder_layers=2", "--train.chunk_length=32", "--data.validation=" + path("tokens")});
  EXPECT_NE(said.find("an encoder of 2 layers of width 16 from random weights, mask token 300 of 301"),
            std::string::npos)
      << said;
  EXPECT_NE(said.find("accuracy"), std::string::npos);
  expect_refused({"train", directory_.write("w.toml", ""), "--run", path("none"), "--train.stage=warmup",
                  "--data.train=" + path("tokens"), "--train.chunk_length=16", "--train.context_chunks=2",
                  "--train.decoder_tokens=32", "--model.base=" + path("mlm/final")},
                 "mlm/final/config.json: a masked language model (LlamaForMLM), expected one that writes");
  train("warmup", {"--model.base=" + plain, "--model.encoder=" + path("mlm/final"), "--train.chunk_length=16",
                   "--train.context_chunks=2", "--train.decoder_tokens=32", "--model.cross_attention_layers=1"});
  train("standard", {"--model.base=" + plain, "--model.parts=" + path("warmup/final"), "--train.chunk_length=16",
                     "--train.context_chunks=2", "--train.decoder_tokens=32"});
  const CommandResult written = run_cepe({"generate", "--model", path("standard/final"), "--base", plain, "--context",
                                          texts_, "--prompt", "the road", "--max-tokens", "5", "--device", "cpu"});
  EXPECT_EQ(written.status, 0) << written.err;
  const CommandResult info = run_cepe({"info", path("standard/final"), "--base", plain});
  EXPECT_EQ(info.status, 0) << info.err;
  EXPECT_NE(info.out.find("2 layers, width 16, 2 heads and 2 key-value heads of 8, feed-forward 24, vocabulary 301, "
                          "embeddings: own"),
            std::string::npos)
      << info.out;
}

// The validation loss of stage window is the perplexity that `cepe perplexity` finds of the directory that it wrote:
// one document of a sample's tokens, all of which are scored.
TEST_F(StagesTest, TheWindowBaselineIsWhatPerplexityMeasures) {
  const std::string plain = golden("plain");  // a window of 128 tokens
  tokenise(plain, texts_, "tokens");
  const std::string text = text_of(14, 77), held = directory_.write("held.txt", text);
  tokenise(plain, held, "held");
  const auto length = load_tokenizer_json(plain + "/tokenizer.json")->encode(text).size() - 1;
  ASSERT_GT(length, 128u);
  ASSERT_LE(length, 256u);
  for (const std::string rope : {"linear", "yarn"}) {
    train("window", {"--model.base=" + plain, "--window.rope=" + rope, "--window.factor=2.0",
                     "--train.decoder_tokens=" + std::to_string(length), "--data.validation=" + path("held")});
    const std::string model = path("window/final"), record = path("p.json"), tokens = std::to_string(length);
    const CommandResult measured =
        run_cepe({"perplexity", "--model", model, "--text", held, "--decoder-tokens", tokens, "--scored-tokens", tokens,
                  "--stride", tokens, "--device", "cpu", "--dtype", "float32", "--json", record});
    ASSERT_EQ(measured.status, 0) << measured.err;
    const json row = json::parse(read_file(record)).at("rows").at(0);
    const double loss = last_validation("window").back().at("loss");
    EXPECT_NEAR(std::log(row.at("perplexity").get<double>()), loss, 1e-5) << rope;
    std::filesystem::remove_all(path("window"));
  }
}

}  // namespace
}  // namespace cepe
