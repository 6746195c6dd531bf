#include "retrieval/fts_words.h"

#include <sqlite3.h>

#include <algorithm>

#include "base/error.h"

namespace cepe {
namespace {

fts5_api* api_of(const Database& database) {
  fts5_api* api = nullptr;
  sqlite3_stmt* statement = nullptr;
  if (sqlite3_prepare_v2(database.get(), "SELECT fts5(?1)", -1, &statement, nullptr) == SQLITE_OK) {
    sqlite3_bind_pointer(statement, 1, static_cast<void*>(&api), "fts5_api_ptr", nullptr);
    sqlite3_step(statement);
  }
  sqlite3_finalize(statement);
  require(api != nullptr, "this SQLite has no FTS5");
  return api;
}

void check(int status) {
  if (status == SQLITE_NOMEM) throw std::bad_alloc();
  require(status == SQLITE_OK, "SQLite's tokenizer failed: {}", sqlite3_errstr(status));
}

// An auxiliary function of FTS5: mean_words(table).
void mean_words_function(const Fts5ExtensionApi* api, Fts5Context* context, sqlite3_context* result, int /*count*/,
                         sqlite3_value** /*values*/) {
  sqlite3_int64 words = 0, rows = 0;
  int status = api->xColumnTotalSize(context, -1, &words);
  if (status == SQLITE_OK) status = api->xRowCount(context, &rows);
  if (status != SQLITE_OK) return sqlite3_result_error_code(result, status);
  sqlite3_result_double(result, static_cast<double>(words) / static_cast<double>(std::max<sqlite3_int64>(rows, 1)));
}

}  // namespace

struct FtsWords::Tokenizer {
  fts5_tokenizer functions{};
  Fts5Tokenizer* made = nullptr;
};

FtsWords::FtsWords(const Database& database, const std::string& rule)
    : database_(database), tokenizer_(std::make_unique<Tokenizer>()) {
  fts5_api* api = api_of(database);
  check(api->xCreateFunction(api, "mean_words", nullptr, mean_words_function, nullptr));
  const bool porter = rule == "porter";
  void* user = nullptr;
  check(api->xFindTokenizer(api, porter ? "porter" : "unicode61", &user, &tokenizer_->functions));
  const char* arguments[] = {"unicode61", "remove_diacritics", "2"};
  const int first = porter ? 0 : 1;  // porter is told what it stands on
  check(tokenizer_->functions.xCreate(user, arguments + first, 3 - first, &tokenizer_->made));
  database.run("CREATE VIRTUAL TABLE IF NOT EXISTS temp.vocabulary USING fts5vocab(main, words, row)");
  count_ = std::make_unique<Statement>(database, "SELECT doc FROM temp.vocabulary WHERE term = ?1");
}

FtsWords::~FtsWords() {
  if (tokenizer_->made != nullptr) tokenizer_->functions.xDelete(tokenizer_->made);
}

std::vector<std::string> FtsWords::of(std::string_view text) const {
  std::vector<std::string> words;
  const auto add = [](void* all, int, const char* word, int size, int, int) {
    try {
      static_cast<std::vector<std::string>*>(all)->emplace_back(word, static_cast<size_t>(size));
      return SQLITE_OK;
    } catch (const std::bad_alloc&) {
      return SQLITE_NOMEM;
    }
  };
  check(tokenizer_->functions.xTokenize(tokenizer_->made, &words, FTS5_TOKENIZE_DOCUMENT, text.data(),
                                        static_cast<int>(text.size()), add));
  return words;
}

int64_t FtsWords::passages_with(const std::string& word) const {
  const auto [known, fresh] = counted_.try_emplace(word, 0);
  if (!fresh) return known->second;
  if (count_->bind(std::string_view(word)).step()) known->second = count_->integer(0);
  count_->reset();
  return known->second;
}

double FtsWords::mean_count(std::string_view expression) const {
  Statement statement(database_, "SELECT mean_words(words) FROM words WHERE words MATCH ?1 LIMIT 1");
  require(statement.bind(expression).step(), "no passage matches {}", expression);
  return statement.real(0);
}

}  // namespace cepe
