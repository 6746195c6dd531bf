#include "ask/ask_fixture.h"

#include <fstream>
#include <nlohmann/json.hpp>

#include "text/tokenizer_golden.h"

namespace cepe::ask_test {
namespace {

constexpr const char* kNouns[] = {"ferry",  "harbour", "lantern", "miller", "garden", "captain",
                                  "bridge", "teacher", "orchard", "wagon",  "clock",  "letter"};
constexpr const char* kVerbs[] = {"reached", "left", "carried", "repaired", "forgot", "painted", "followed"};
constexpr const char* kPlaces[] = {"Bergen", "the old mill", "the north gate", "Lisbon", "the long field", "Porto"};

// One draw after another: compilers evaluate arguments in orders of their own.
std::string sentence(AskRandom& random, int64_t number) {
  const auto then = random.pick(kVerbs);
  const int64_t label = random.between(100, 9999);
  const auto thing = random.pick(kNouns), place = random.pick(kPlaces), object = random.pick(kNouns);
  const auto verb = random.pick(kVerbs), subject = random.pick(kNouns);
  return fmt::format("On day {} the {} {} the {} near {}, and the {} of number {} {} it again. ", number, subject, verb,
                     object, place, thing, label, then);
}

}  // namespace

const Tokenizer& smollm2() {
  static const std::unique_ptr<Tokenizer> tokenizer = [] {
    for (const nlohmann::json& entry : golden::cases().at("cases")) {
      if (entry.at("name") != "smollm2") continue;
      GgufVocabulary vocabulary = golden::gguf_vocabulary(entry);
      vocabulary.eos = 2;  // <|im_end|>, as the model's file says
      return make_gguf_tokenizer(std::move(vocabulary));
    }
    throw std::runtime_error("no case smollm2");
  }();
  return *tokenizer;
}

std::string write(const TemporaryDirectory& directory, const std::string& name, const std::string& text) {
  std::ofstream(directory / name, std::ios::binary) << text;
  return (directory / name).string();
}

std::string corpus_jsonl() {
  std::string lines;
  AskRandom random{7};
  for (int64_t d = 0; d < 8; ++d) {
    std::string text;
    for (int64_t s = 0; s < 700; ++s) {
      text += sentence(random, 1000 * d + s);
      if (s % 5 == 4) text.back() = '\n';
    }
    lines += nlohmann::json{{"text", text}, {"domain", "prose"}}.dump() + "\n";
  }
  for (int64_t a = 0; a < 12; ++a) {
    const std::string title = fmt::format("Harbour House {}", static_cast<char>('A' + a));
    std::string text = fmt::format(
        "{0}\n\n{0} is a large wooden house near the sea. {0} was built in {1}. {0} was designed by Anna Hale. {0} is "
        "located in Bergen. {0} has {2} rooms.\n",
        title, 1800 + a, 20 + a);
    for (int64_t s = 0; s < 12; ++s) text += sentence(random, 20000 + 100 * a + s);
    lines += nlohmann::json{{"text", text}, {"domain", "articles"}}.dump() + "\n";
  }
  return lines;
}

std::string squad_json() {
  nlohmann::json paragraphs = nlohmann::json::array();
  for (int64_t p = 0; p < 6; ++p) {
    const std::string keeper = fmt::format("Keeper {}", 'A' + p), lamps = std::to_string(30 + p);
    paragraphs.push_back(
        {{"context", fmt::format("The lighthouse of rock {} is kept by {} and has {} lamps.", p, keeper, lamps)},
         {"qas",
          {{{"question", fmt::format("Who keeps the lighthouse of rock {}?", p)},
            {"answers", {{{"text", keeper}, {"answer_start", 0}}}}},
           {{"question", fmt::format("How many lamps has the lighthouse of rock {}?", p)},
            {"answers", {{{"text", lamps}, {"answer_start", 0}}}}},
           {{"question", "Is there anything else?"}, {"is_impossible", true}, {"answers", nlohmann::json::array()}}}}});
  }
  return nlohmann::json{{"data", {{{"title", "Lighthouses"}, {"paragraphs", paragraphs}}}}}.dump();
}

std::string flat_json() {
  nlohmann::json list = nlohmann::json::array();
  AskRandom random{11};
  for (int64_t p = 0; p < 60; ++p) {
    const std::string colour = fmt::format("shade {}", 500 + p);
    list.push_back({{"context", fmt::format("Barn {} was painted in {}. {}", p, colour, sentence(random, 50000 + p))},
                    {"question", fmt::format("In which shade was barn {} painted?", p)},
                    {"answer", colour}});
  }
  return list.dump();
}

Sources::Sources(int64_t max_shared, const std::string& refused_text)
    : refused_([&] {
        ShingleSet set;
        set.add(refused_text);
        return set;
      }()),
      words_("configs/ask/words.txt"),
      forms_(read_ask_forms("configs/ask/forms.txt", words_)),
      corpus_({.files = {write(directory_, "texts.jsonl", corpus_jsonl())},
               .encyclopaedic = {"articles"},
               .max_shared = max_shared},
              refused_, smollm2()),
      questions_(
          [&] {
            std::vector<AskQuestionFile> files;
            for (const auto& [name, text] : {std::pair{"squad.json", squad_json()}, {"flat.json", flat_json()}}) {
              write(directory_, name, text);
              files.push_back(read_question_file(name, directory_.path(), QuestionChoice::HotpotQa::training));
            }
            return files;
          }(),
          refused_, max_shared),
      passages_(corpus_, {.passage_tokens = 256, .most = 10000}),
      sources_{words_, forms_, corpus_, questions_, passages_} {}

AskRequest Sources::request(uint64_t seed, int64_t chunks) const {
  return {.random = AskRandom{seed}, .chunks = chunks};
}

AskConfig config_in(const TemporaryDirectory& directory) {
  AskConfig config;
  config.texts = {write(directory, "texts.jsonl", corpus_jsonl())};
  config.questions = {write(directory, "squad.json", squad_json()), write(directory, "flat.json", flat_json())};
  config.encyclopaedic = {"articles"};
  config.words = "configs/ask/words.txt";
  config.forms = "configs/ask/forms.txt";
  for (const AskKind& kind : ask_kinds()) config.kinds[kind.name] = 1;
  config.chat = 0;
  return config;
}

std::string all_text(const AskDraft& draft) {
  std::string text;
  for (const AskDocument& document : draft.documents) text += document.title + "\n" + document.text + "\n";
  return text;
}

}  // namespace cepe::ask_test
