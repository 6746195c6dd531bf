// Changing an index of passages.
//
// What a writer does becomes visible with commit(), as a whole; a process that is killed before leaves the index as it
// was. Vectors are appended behind the committed ones and synced to disk, then SQLite's commit makes rows, words and
// the new count of slots visible at once. Bytes behind the committed slots belong to nobody and are cut off by the next
// writer. A graph is made of all vectors when the index is built and when it is compacted; passages that are added
// later are in none until then, and readers look at each of their vectors.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "retrieval/bert_encoder.h"
#include "retrieval/index_description.h"
#include "retrieval/passage_files.h"
#include "retrieval/sqlite.h"

namespace cepe {

// Held as long as it lives, by one process at a time; a killed process holds it no more.
class IndexLock {
 public:
  // Error where another process writes to the index.
  explicit IndexLock(const std::filesystem::path& index);
  ~IndexLock();
  IndexLock(const IndexLock&) = delete;
  IndexLock& operator=(const IndexLock&) = delete;

 private:
  int descriptor_ = -1;
};

struct IndexChanges {
  int64_t added = 0, present = 0;  // present: passages of the same id, title and text were there before
  int64_t removed = 0;
};

class IndexWriter {
 public:
  // encoder: null exactly where the index has none; it must outlive the writer.
  // building: the index is not in its place yet. SQLite keeps no journal, and nothing is synced to disk.
  IndexWriter(std::filesystem::path index, const BertEncoder* encoder, bool building = false);
  ~IndexWriter();
  IndexWriter(const IndexWriter&) = delete;
  IndexWriter& operator=(const IndexWriter&) = delete;

  // Passages are written kBatch at a time, and embedded: where the encoder is on a GPU, while the next ones are
  // written. Error where the id is another passage's.
  void add(IndexedPassage passage);
  // False where no passage has the id. Its slot stays taken until the index is compacted.
  bool remove(const std::string& id);
  // Slots without a passage go, from the vectors as well; a graph links all that are left, also where no slot goes
  // but the graph's file is missing or damaged; the database gives its free pages back.
  void compact();
  // Told how many vectors the graph links already, and of how many, while commit() makes it.
  void on_linking(std::function<void(int64_t done, int64_t total)> progress) { linking_ = std::move(progress); }
  // The index as it is now becomes visible; the writer ends.
  IndexChanges commit();

  static constexpr size_t kBatch = 1024;

 private:
  void flush();
  void start_vectors(std::vector<std::string> texts);  // of the passages from slots_ on
  void finish_vectors();                               // of those that were started
  int64_t copy_vectors();
  bool needs_links() const;
  void link_vectors();
  void remove_other_generations() const;
  void count_common_words();
  bool is_present(const IndexedPassage& passage);

  std::filesystem::path index_;
  IndexDescription description_;
  IndexLock lock_;
  const BertEncoder* encoder_;
  bool building_, compacted_ = false;
  std::function<void(int64_t, int64_t)> linking_;
  Database database_;
  std::unique_ptr<Transaction> transaction_;
  Statement find_, insert_, insert_words_, delete_, delete_words_, bury_;
  int64_t slots_ = 0, generation_ = 0, old_generation_ = 0;
  int vectors_ = -1;  // descriptor of the vectors' file
  std::vector<IndexedPassage> waiting_;
  std::future<at::Tensor> embedding_;  // of the passages from this slot on
  int64_t embedding_slot_ = 0;
  IndexChanges changes_;
};

// Error where the file or directory cannot be synced to disk.
void sync_to_disk(const std::filesystem::path& path);

// Makes an empty index in a directory that exists and is empty.
void make_empty_index(const std::filesystem::path& index, const IndexDescription& description);

}  // namespace cepe
