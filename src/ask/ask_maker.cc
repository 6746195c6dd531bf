#include "ask/ask_maker.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "ask/sources/sentences.h"
#include "base/error.h"
#include "base/json_text.h"
#include "text/text_file.h"

namespace cepe {
namespace {

constexpr const char* kHeldKind = "held";  // facts in held-out forms

std::vector<std::filesystem::path> list_texts(const std::vector<std::string>& names) {
  std::vector<std::filesystem::path> files;
  for (const std::string& name : names) {
    if (!std::filesystem::is_directory(name)) {
      files.emplace_back(name);
      continue;
    }
    std::vector<std::filesystem::path> inside;
    for (const auto& entry : std::filesystem::directory_iterator(name)) {
      const std::string plain = plain_file_name(entry.path());
      if (plain.ends_with(".jsonl") || plain.ends_with(".txt")) inside.push_back(entry.path());
    }
    require(!inside.empty(), "sources.texts: {} holds no .jsonl or .txt file", name);
    std::sort(inside.begin(), inside.end());
    files.insert(files.end(), inside.begin(), inside.end());
  }
  return files;
}

// A file of questions, of which the questions and gold passages count, or of texts.
void add_refused(const std::string& entry, ShingleSet& shingles) {
  const std::string path = entry.substr(0, entry.find(';'));
  const std::string plain = plain_file_name(path);
  bool questions = plain.ends_with(".json");
  if (is_json_lines(path)) {
    TextFile file(path);
    std::string line;
    const bool some = file.next_line(line);
    const nlohmann::json first = some ? nlohmann::json::parse(line, nullptr, false) : nlohmann::json();
    questions = first.is_object() && first.contains("question");
  }
  if (!questions) {
    read_text_file(path, "", [&](TextDocument document) { shingles.add(document.text); });
    return;
  }
  const AskQuestionFile file = read_question_file(entry, "", QuestionChoice::HotpotQa::measuring);
  for (const AskQuestion& question : file.questions) {
    shingles.add(question.question);
    for (const size_t gold : question.gold) shingles.add(file.passages[gold].text);
  }
}

ShingleSet read_refused(const AskConfig& config) {
  ShingleSet shingles;
  for (const std::string& entry : config.refuse) add_refused(entry, shingles);
  return shingles;
}

QuestionPool read_questions(const AskConfig& config, const ShingleSet& refused) {
  std::vector<AskQuestionFile> files;
  for (const std::string& entry : config.questions)
    files.push_back(read_question_file(entry, "", QuestionChoice::HotpotQa::training));
  return QuestionPool(std::move(files), refused, config.max_shared);
}

}  // namespace

struct AskMaker::Part {
  Part(const AskConfig& config, const Tokenizer& tokenizer, const AskChat* chat)
      : words(config.words),
        forms(read_ask_forms(config.forms, words)),
        refused(read_refused(config)),
        corpus({.files = list_texts(config.texts),
                .domain_shares = config.domains,
                .encyclopaedic = config.encyclopaedic,
                .max_shared = config.max_shared},
               refused, tokenizer),
        questions(read_questions(config, refused)),
        layout(tokenizer, config.chat > 0 ? chat : nullptr,
               {.chunk_length = config.chunk_length,
                .most_chunks = config.most_chunks(),
                .decoder_tokens = config.decoder_tokens,
                .answer_weight = config.answer_weight,
                .question_weight = config.question_weight}),
        sources{words, forms, corpus, questions} {}

  AskWords words;
  AskForms forms;
  ShingleSet refused;
  AskCorpus corpus;
  QuestionPool questions;
  AskLayout layout;
  AskSources sources;
};

struct AskMaker::Drawn {
  AskDraft draft;
  AskSample sample;
};

AskMaker::AskMaker(const AskConfig& config, const Tokenizer& tokenizer, const AskChat* chat)
    : config_(config), part_(std::make_unique<Part>(config, tokenizer, chat)) {
  require(config.chat == 0 || chat != nullptr,
          "samples.chat: {} of the samples are chats, but the model has no chat "
          "template",
          config.chat);
  const auto& relations = part_->forms.relations;
  const bool some = std::any_of(relations.begin(), relations.end(), [](const AskRelation& r) { return !r.held; });
  const bool held =
      std::any_of(relations.begin(), relations.end(), [](const AskRelation& r) { return !r.held_statements.empty(); });
  require(some, "{}: expected a relation with S forms, found none", config.forms.string());
  require(held || (config.held == 0 && config.validation == 0),
          "{}: expected H forms, for samples.held and samples.validation, found none", config.forms.string());
  require(part_->words.has("relation"), "{}: expected a list [relation], found none", config.words.string());
}

AskMaker::~AskMaker() = default;

int64_t AskMaker::validation_count() const { return config_.validation * static_cast<int64_t>(ask_kinds().size() + 1); }

int64_t AskMaker::draw_chunks(AskRandom& random) const {
  const std::vector<double> weights(config_.chunk_weights.begin(), config_.chunk_weights.end());
  const size_t at = random.weighted(weights);
  return random.between(at == 0 ? 1 : config_.chunks[at - 1] + 1, config_.chunks[at]);
}

std::string AskMaker::choose_kind(AskSplit split, int64_t i, AskRandom& random) const {
  if (split == AskSplit::held) return kHeldKind;
  if (split == AskSplit::validation) {
    const size_t at = static_cast<size_t>(i) % (ask_kinds().size() + 1);
    return at < ask_kinds().size() ? ask_kinds()[at].name : kHeldKind;
  }
  std::vector<double> shares;
  for (const AskKind& kind : ask_kinds()) shares.push_back(config_.kinds.at(kind.name));
  return ask_kinds()[random.weighted(shares)].name;
}

AskMaker::Drawn AskMaker::draw(AskSplit split, int64_t i) const {
  constexpr uint64_t kAttempts = 60, kSameKind = 20;
  const auto seed = static_cast<uint64_t>(config_.seed), key = static_cast<uint64_t>(i);
  AskRandom random{seed, static_cast<uint64_t>(split), key};
  std::string kind = choose_kind(split, i, random);
  int64_t chunks = draw_chunks(random);
  for (uint64_t attempt = 1; attempt <= kAttempts; ++attempt) {
    AskRequest request{.random = AskRandom{seed, static_cast<uint64_t>(split), key, attempt},
                       .chunks = chunks,
                       .chunk_length = config_.chunk_length,
                       .decoder_tokens = config_.decoder_tokens,
                       .validation = split == AskSplit::validation,
                       .held_forms = kind == kHeldKind,
                       .unanswerable = config_.unanswerable,
                       .max_passages = config_.passages};
    Drawn drawn;
    const auto found =
        std::find_if(ask_kinds().begin(), ask_kinds().end(), [&](const AskKind& k) { return k.name == kind; });
    drawn.draft =
        found == ask_kinds().end() ? make_facts(part_->sources, request) : found->make(part_->sources, request);
    if (drawn.draft.turns.size() > 1 && (split == AskSplit::held || random.chance(config_.single))) {
      drawn.draft.turns.resize(1);
    }
    std::optional<AskSample> sample = part_->layout.lay_out(drawn.draft, random.chance(config_.chat), request.random);
    if (sample) {
      drawn.sample = std::move(*sample);
      drawn.sample.kind = kind;
      return drawn;
    }
    // Most often the context was too long, or so short that nothing could be asked.
    if (attempt % 3 == 0) chunks = chunks > config_.most_chunks() / 2 ? chunks * 9 / 10 : chunks + chunks / 4 + 1;
    if (attempt % kSameKind == 0 && split == AskSplit::training) kind = choose_kind(split, i, random);
  }
  fail("sample {} ({}): nothing could be asked of the sources in {} attempts", i, kind, kAttempts);
}

AskSample AskMaker::make(AskSplit split, int64_t i) const { return draw(split, i).sample; }

std::string AskMaker::held_question(int64_t i) const {
  const Drawn drawn = draw(AskSplit::held, i);
  const AskTurn& turn = drawn.draft.turns.front();
  nlohmann::json documents = nlohmann::json::array(), gold = nlohmann::json::array();
  for (size_t d = 0; d < drawn.draft.documents.size(); ++d) {
    const AskDocument& document = drawn.draft.documents[d];
    documents.push_back({{"title", document.title}, {"text", document.text}});
    if (holds_answer(document.text, turn.answer)) gold.push_back(d);
  }
  return json_text({{"id", fmt::format("held-{}", i)},
                    {"question", turn.question},
                    {"answers", nlohmann::json::array({turn.answer})},
                    {"documents", std::move(documents)},
                    {"gold", std::move(gold)}});
}

AskSourceCounts AskMaker::counts() const {
  return {.texts = part_->corpus.documents(),
          .text_bytes = part_->corpus.bytes(),
          .questions = part_->questions.questions(),
          .passages = static_cast<int64_t>(part_->questions.passages().size()),
          .shingles = static_cast<int64_t>(part_->refused.size()),
          .refused_passages = part_->questions.refused_passages(),
          .refused_questions = part_->questions.refused_questions(),
          .refused_excerpts = part_->corpus.refused()};
}

}  // namespace cepe
