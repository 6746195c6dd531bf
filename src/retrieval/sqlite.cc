#include "retrieval/sqlite.h"

#include <sqlite3.h>

#include "base/error.h"

namespace cepe {

Statement::Statement(const Database& database, std::string_view sql) : database_(&database) {
  sqlite3_stmt* made = nullptr;
  const int status = sqlite3_prepare_v2(database.get(), sql.data(), static_cast<int>(sql.size()), &made, nullptr);
  statement_.reset(made);
  if (status != SQLITE_OK) database.fail_now();
}

void Statement::Finalize::operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }

void Statement::reset() { sqlite3_reset(statement_.get()); }

void Statement::bind_at(int index, int64_t value) {
  if (sqlite3_bind_int64(statement_.get(), index, value) != SQLITE_OK) database_->fail_now();
}

void Statement::bind_at(int index, std::string_view value) {
  const int status =
      sqlite3_bind_text64(statement_.get(), index, value.data(), value.size(), SQLITE_TRANSIENT, SQLITE_UTF8);
  if (status != SQLITE_OK) database_->fail_now();
}

bool Statement::step() {
  const int status = sqlite3_step(statement_.get());
  if (status == SQLITE_ROW) return true;
  if (status != SQLITE_DONE) database_->fail_now();
  return false;
}

int64_t Statement::integer(int column) const { return sqlite3_column_int64(statement_.get(), column); }
double Statement::real(int column) const { return sqlite3_column_double(statement_.get(), column); }

std::string Statement::text(int column) const {
  const auto* bytes = reinterpret_cast<const char*>(sqlite3_column_text(statement_.get(), column));
  if (bytes == nullptr) return "";
  return {bytes, static_cast<size_t>(sqlite3_column_bytes(statement_.get(), column))};
}

Database::Database(const std::filesystem::path& file, Access access) : name_(file.string()) {
  const int flags = access == Access::read    ? SQLITE_OPEN_READONLY
                    : access == Access::write ? SQLITE_OPEN_READWRITE
                                              : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
  sqlite3* opened = nullptr;
  const int status = sqlite3_open_v2(name_.c_str(), &opened, flags | SQLITE_OPEN_NOMUTEX, nullptr);
  database_.reset(opened);
  if (opened == nullptr) throw std::bad_alloc();
  if (status != SQLITE_OK) fail_now();
  sqlite3_extended_result_codes(opened, 1);
  sqlite3_busy_timeout(opened, 10'000);
}

void Database::Close::operator()(sqlite3* database) const { sqlite3_close_v2(database); }

int64_t Database::integer(std::string_view sql) const {
  Statement statement(*this, sql);
  if (!statement.step()) fail("{}: expected a value of \"{}\", found none", name_, sql);
  return statement.integer(0);
}

void Database::fail_now() const {
  const int code = sqlite3_errcode(database_.get()) & 0xFF;
  const bool damaged = code == SQLITE_CORRUPT || code == SQLITE_NOTADB;
  fail("{}: {}{}", name_, damaged ? "the file is damaged: " : "", sqlite3_errmsg(database_.get()));
}

Transaction::Transaction(const Database& database, bool write) : database_(&database) {
  database.run(write ? "BEGIN IMMEDIATE" : "BEGIN");
}

// Where SQLite has rolled back by itself, a second time is an error that means nothing.
Transaction::~Transaction() {
  if (database_ != nullptr) sqlite3_exec(database_->get(), "ROLLBACK", nullptr, nullptr, nullptr);
}

void Transaction::commit() {
  database_->run("COMMIT");
  database_ = nullptr;
}

}  // namespace cepe
