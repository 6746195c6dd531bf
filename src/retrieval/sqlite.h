// SQLite with our errors: a connection and its statements.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace cepe {

class Database;

// A prepared statement; it must not outlive its Database.
class Statement {
 public:
  Statement(const Database& database, std::string_view sql);

  // Values of the parameters ?1, ?2, ... in their order. Texts are copied.
  template <typename... Values>
  Statement& bind(const Values&... values) {
    reset();
    int index = 0;
    (bind_at(++index, values), ...);
    return *this;
  }
  // The next row; false where there is none. Error naming the file and SQLite's reason.
  bool step();
  void run() {
    while (step()) {
    }
  }
  void reset();  // ends what step() began
  int64_t integer(int column) const;
  double real(int column) const;
  std::string text(int column) const;

 private:
  void bind_at(int index, int64_t value);
  void bind_at(int index, std::string_view value);
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  const Database* database_;
  std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

class Database {
 public:
  enum class Access { read, write, create };
  // Error where the file cannot be opened, or is no database. Other processes' locks are waited for, ten seconds.
  Database(const std::filesystem::path& file, Access access);

  void run(std::string_view sql) const { Statement(*this, sql).run(); }
  int64_t integer(std::string_view sql) const;  // the first value of the first row; Error where there is none
  [[noreturn]] void fail_now() const;           // with SQLite's reason
  sqlite3* get() const { return database_.get(); }

 private:
  struct Close {
    void operator()(sqlite3* database) const;
  };
  std::string name_;
  std::unique_ptr<sqlite3, Close> database_;
};

// What is done between begin and commit() is there as a whole or, without commit(), not at all.
class Transaction {
 public:
  // write: no other connection writes meanwhile. Otherwise all statements see the database as it is now.
  Transaction(const Database& database, bool write);
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  void commit();

 private:
  const Database* database_;
};

}  // namespace cepe
