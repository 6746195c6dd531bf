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

// Whether a file of JSON holds questions: by its name, or one a line by its first line.
bool holds_questions(const std::string& path) {
  const std::string plain = plain_file_name(path);
  if (plain.ends_with(".json") || plain.ends_with(".ndjson")) return true;
  if (!is_json_lines(path)) return false;
  TextFile file(path);
  std::string line;
  if (!file.next_line(line)) return false;
  const nlohmann::json first = nlohmann::json::parse(line, nullptr, false);
  // An answer of `cepe generate` has a text, and its question in the id.
  const bool answer = first.is_object() && first.contains("id") && first["id"].is_object();
  return first.is_object() && (answer || first.contains("question") || !first.contains("text"));
}

// A file of questions, of which all questions and all gold passages count, or of texts.
void add_refused(const std::string& text, ShingleSet& shingles) {
  const QuestionEntry entry = parse_question_entry(text);
  require(!entry.share, "refuse.files: {}: share= is for sources.questions: a file is refused as a whole", text);
  if (!holds_questions(entry.path)) {
    require(entry.choice.lines == QuestionChoice::Lines::all, "refuse.files: {}: lines= is for questions, found texts",
            text);
    read_text_file(entry.path, "", [&](TextDocument document) { shingles.add(document.text); });
    return;
  }
  const QuestionSet set = read_questions(entry.path, QuestionForm::automatic, entry.choice);
  for (const OpenQuestion& question : set.questions) {
    shingles.add(question.question);
    for (const size_t gold : question.gold) shingles.add(set.passages[gold].text);
  }
}

ShingleSet read_refused(const AskConfig& config) {
  ShingleSet shingles;
  for (const std::string& entry : config.refuse) add_refused(entry, shingles);
  return shingles;
}

QuestionPool read_pool(const AskConfig& config, const ShingleSet& refused) {
  std::vector<AskQuestionFile> files;
  for (const std::string& entry : config.questions)
    files.push_back(read_question_file(entry, "", QuestionChoice::HotpotQa::training));
  return QuestionPool(std::move(files), refused, config.max_shared);
}

// How many of the corpus's passages are searched: none where nothing asks for them.
int64_t indexed(const AskConfig& config) {
  const auto share = config.kinds.find("retrieved");
  return share != config.kinds.end() && share->second > 0 ? config.indexed : 0;
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
                .max_shared = config.max_shared,
                .scratch = config.scratch},
               refused, tokenizer),
        questions(read_pool(config, refused)),
        passages(corpus, {.passage_tokens = config.chunk_length, .most = indexed(config)}),
        layout(tokenizer, config.chat > 0 ? chat : nullptr,
               {.chunk_length = config.chunk_length,
                .most_chunks = config.most_chunks(),
                .decoder_tokens = config.decoder_tokens,
                .answer_weight = config.answer_weight,
                .question_weight = config.question_weight}),
        sources{words, forms, corpus, questions, passages} {}

  AskWords words;
  AskForms forms;
  ShingleSet refused;
  AskCorpus corpus;
  QuestionPool questions;
  AskPassages passages;
  AskLayout layout;
  AskSources sources;
};

struct AskMaker::Drawn {
  AskDraft draft;
  AskSample sample;
};

AskMaker::AskMaker(const AskConfig& config, const Tokenizer& tokenizer, const AskChat* chat) : config_(config) {
  require(config.chat == 0 || chat != nullptr,
          "samples.chat: {} of the samples are chats, but the model has no chat template: set samples.chat to 0",
          config.chat);
  part_ = std::make_unique<Part>(config, tokenizer, chat);
  const auto& relations = part_->forms.relations;
  const bool some = std::any_of(relations.begin(), relations.end(), [](const AskRelation& r) { return !r.held; });
  const bool held =
      std::any_of(relations.begin(), relations.end(), [](const AskRelation& r) { return !r.held_statements.empty(); });
  require(some, "{}: expected a relation with S forms, found none", config.forms.string());
  require(held || (config.held == 0 && config.validation == 0),
          "{}: expected H forms, for samples.held and samples.validation, found none", config.forms.string());
  require(part_->words.has("relation"), "{}: expected a list [relation], found none", config.words.string());
  require_sources();
}

// Before anything is written: each kind that has a share has something to be made of, in training and in validation.
void AskMaker::require_sources() const {
  require(config_.validation + config_.held == 0 || part_->corpus.has({.validation = true}),
          "samples.validation, samples.held: no text is kept for them: expected a domain of two documents or more");
  for (const bool validation : {false, true}) {
    if (validation && config_.validation == 0) continue;
    const char* split = validation ? "validation (samples.validation)" : "training";
    const bool questions = part_->questions.has(validation);
    const bool articles = part_->corpus.has({.validation = validation, .encyclopaedic = true});
    require(questions || share("questions") == 0,
            "kinds.questions: sources.questions has no questions for {}: give more or set kinds.questions to 0", split);
    require(questions || articles || share("natural") == 0,
            "kinds.natural: sources.encyclopaedic and sources.questions have no text for {}: give more or set "
            "kinds.natural to 0",
            split);
  }
}

double AskMaker::share(const std::string& kind) const {
  const auto found = config_.kinds.find(kind);
  return found == config_.kinds.end() ? 0 : found->second;
}

// What validation goes through in turn.
std::vector<std::string> AskMaker::validation_kinds() const {
  std::vector<std::string> kinds;
  for (const AskKind& kind : ask_kinds()) {
    if (share(kind.name) > 0) kinds.emplace_back(kind.name);
  }
  kinds.emplace_back(kHeldKind);
  return kinds;
}

AskMaker::~AskMaker() = default;

int64_t AskMaker::validation_count() const {
  return config_.validation * static_cast<int64_t>(validation_kinds().size());
}

int64_t AskMaker::draw_chunks(AskRandom& random) const {
  const std::vector<double> weights(config_.chunk_weights.begin(), config_.chunk_weights.end());
  const size_t at = random.weighted(weights);
  return random.between(at == 0 ? 1 : config_.chunks[at - 1] + 1, config_.chunks[at]);
}

std::string AskMaker::choose_kind(AskSplit split, int64_t i, AskRandom& random) const {
  if (split == AskSplit::held) return kHeldKind;
  if (split == AskSplit::validation) {
    const std::vector<std::string> kinds = validation_kinds();
    return kinds[static_cast<size_t>(i) % kinds.size()];
  }
  std::vector<double> shares;
  for (const AskKind& kind : ask_kinds()) shares.push_back(share(kind.name));
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
                       .validation = split != AskSplit::training,
                       .held_forms = kind == kHeldKind,
                       .unanswerable = config_.unanswerable,
                       .max_passages = config_.passages,
                       .query_tokens = config_.query_tokens};
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
  fail("sample {} ({}): nothing could be asked of the sources in {} attempts: give more or set kinds.{} to 0", i, kind,
       kAttempts, kind);
}

AskSample AskMaker::make(AskSplit split, int64_t i) const { return draw(split, i).sample; }

std::string AskMaker::held_question(int64_t i) const {
  const Drawn drawn = draw(AskSplit::held, i);
  const AskTurn& turn = drawn.draft.turns.front();
  nlohmann::json documents = nlohmann::json::array(), gold = nlohmann::json::array();
  for (const AskDocument& document : drawn.draft.documents) {
    documents.push_back({{"title", document.title}, {"text", document.text}});
  }
  if (turn.document) gold.push_back(*turn.document);
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
          .refused_passages = part_->questions.refused_passages() + part_->passages.refused(),
          .refused_questions = part_->questions.refused_questions(),
          .refused_excerpts = part_->corpus.refused()};
}

}  // namespace cepe
