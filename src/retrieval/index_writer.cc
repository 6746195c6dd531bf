#include "retrieval/index_writer.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"
#include "base/file.h"
#include "tasks/questions/questions.h"

namespace cepe {
namespace {

std::string reason() { return std::strerror(errno); }

int open_vectors(const std::filesystem::path& file, bool fresh) {
  const int flags = O_RDWR | O_CLOEXEC | (fresh ? O_CREAT | O_TRUNC : 0);
  const int descriptor = ::open(file.c_str(), flags, 0666);
  if (descriptor < 0) fail("{}: cannot open the file: {}", file.string(), reason());
  return descriptor;
}

void write_at(int descriptor, const void* data, size_t size, int64_t offset) {
  const auto* bytes = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = ::pwrite(descriptor, bytes, size, offset);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) fail("the vectors of the index cannot be written: {}", reason());
    bytes += written;
    offset += written;
    size -= static_cast<size_t>(written);
  }
}

void sync_vectors(int descriptor) {
  if (::fdatasync(descriptor) != 0) fail("the vectors of the index cannot be synced to disk: {}", reason());
}

int64_t offset_of(int64_t slot, int64_t width) {
  return kVectorHeader + slot * width * static_cast<int64_t>(sizeof(float));
}

}  // namespace

void sync_to_disk(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const bool synced = descriptor >= 0 && (::fsync(descriptor) == 0 || errno == EINVAL);  // EINVAL: it cannot be synced
  const std::string why = reason();
  if (descriptor >= 0) ::close(descriptor);
  if (!synced) fail("{}: cannot be synced to disk: {}", path.string(), why);
}

IndexLock::IndexLock(const std::filesystem::path& index)
    : descriptor_(::open((index / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) fail("{}: cannot open the file: {}", (index / "lock").string(), reason());
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return;
  const int error = errno;
  ::close(descriptor_);
  require(error != EWOULDBLOCK, "{}: another process writes to the index", index.string());
  fail("{}: cannot lock the file: {}", (index / "lock").string(), std::strerror(error));
}

IndexLock::~IndexLock() { ::close(descriptor_); }

void make_empty_index(const std::filesystem::path& index, const IndexDescription& description) {
  const Database database(passages_file(index), Database::Access::create);
  database.run("PRAGMA application_id = 1667592293");  // "cepe"
  database.run("PRAGMA user_version = 1");
  database.run(
      "CREATE TABLE passages(slot INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, text TEXT NOT "
      "NULL)");
  database.run("CREATE TABLE dead(slot INTEGER PRIMARY KEY)");
  database.run("CREATE TABLE common(word TEXT PRIMARY KEY, passages INTEGER NOT NULL) WITHOUT ROWID");
  database.run("CREATE TABLE state(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID");
  database.run("INSERT INTO state VALUES('slots', 0), ('generation', 1)");
  const std::string words =
      (description.words == "porter" ? "porter " : "") + std::string("unicode61 remove_diacritics 2");
  database.run(
      "CREATE VIRTUAL TABLE words USING fts5(title, text, content='passages', content_rowid='slot', tokenize='" +
      words + "')");
  if (description.width > 0) write_file(vectors_file(index, 1), vectors_header(description.width));
  if (description.graph) {
    database.run(
        "CREATE TABLE graph(generation INTEGER PRIMARY KEY, slots INTEGER NOT NULL, bytes INTEGER NOT NULL, sha256 "
        "TEXT NOT NULL)");
  }
  write_description(index, description);
}

namespace {

// What a writer asks of SQLite before it begins.
Database open_for_writing(const std::filesystem::path& index, bool building) {
  Database database(passages_file(index), Database::Access::write);
  database.run("PRAGMA cache_size = -65536");  // KiB
  // Readers go on while a journal of this kind is written; a whole transaction may be larger than memory.
  database.run(building ? "PRAGMA journal_mode = OFF" : "PRAGMA journal_mode = WAL");
  database.run(building ? "PRAGMA synchronous = OFF" : "PRAGMA synchronous = FULL");
  return database;
}

}  // namespace

IndexWriter::IndexWriter(std::filesystem::path index, const BertEncoder* encoder, bool building)
    : index_(std::move(index)),
      description_(read_description(index_)),  // before the lock: a directory that is no index is left as it is
      lock_(index_),
      encoder_(encoder),
      building_(building),
      database_(open_for_writing(index_, building)),
      transaction_(std::make_unique<Transaction>(database_, true)),
      find_(database_, "SELECT slot, title, text FROM passages WHERE id = ?1"),
      insert_(database_, "INSERT INTO passages(slot, id, title, text) VALUES(?1, ?2, ?3, ?4)"),
      insert_words_(database_, "INSERT INTO words(rowid, title, text) VALUES(?1, ?2, ?3)"),
      delete_(database_, "DELETE FROM passages WHERE slot = ?1"),
      delete_words_(database_, "INSERT INTO words(words, rowid, title, text) VALUES('delete', ?1, ?2, ?3)"),
      bury_(database_, "INSERT INTO dead VALUES(?1)"),
      slots_(slots_of(database_, index_)),
      generation_(database_.integer("SELECT value FROM state WHERE name = 'generation'")),
      old_generation_(generation_) {
  if (description_.width == 0) return;
  const std::filesystem::path file = vectors_file(index_, generation_);
  check_vectors(MappedFile(file), description_.width, slots_);  // before anything is cut off or removed
  remove_other_generations();
  vectors_ = open_vectors(file, false);
  // What a killed writer left behind the committed vectors.
  if (::ftruncate(vectors_, offset_of(slots_, description_.width)) != 0) {
    const std::string why = reason();
    ::close(vectors_);
    fail("{}: cannot be cut to its {} vectors: {}", file.string(), slots_, why);
  }
}

IndexWriter::~IndexWriter() {
  if (vectors_ >= 0) ::close(vectors_);
}

// Files of a compaction that was killed before its commit, or after it.
void IndexWriter::remove_other_generations() const {
  const std::filesystem::path vectors = vectors_file(index_, generation_).filename(),
                              graph = graph_file(index_, generation_).filename();
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(index_)) {
    const std::string name = entry.path().filename().string();
    const bool generated = name.starts_with("vectors-") || name.starts_with("graph-");
    if (generated && name != vectors && name != graph) std::filesystem::remove(entry.path(), ignored);
  }
}

void IndexWriter::add(IndexedPassage passage) {
  waiting_.push_back(std::move(passage));
  if (waiting_.size() == kBatch) flush();
}

bool IndexWriter::is_present(const IndexedPassage& passage) {
  if (!find_.bind(std::string_view(passage.id)).step()) return false;
  require(find_.text(1) == passage.title && find_.text(2) == passage.text,
          "{}: the id \"{}\" is another passage's: delete that one first, or give this one another id", passage.where,
          passage.id);
  return true;
}

void IndexWriter::flush() {
  std::vector<std::string> texts;
  int64_t slot = slots_;
  for (IndexedPassage& passage : waiting_) {
    if (is_present(passage)) {
      ++changes_.present;
      continue;
    }
    const std::string_view title = passage.title, text = passage.text;
    insert_.bind(slot, std::string_view(passage.id), title, text).run();
    insert_words_.bind(slot, title, text).run();
    if (encoder_ != nullptr) texts.push_back(passage_text({passage.title, passage.text, ""}));
    ++slot;
  }
  waiting_.clear();
  changes_.added += slot - slots_;
  finish_vectors();
  if (!texts.empty()) start_vectors(std::move(texts));
  slots_ = slot;
}

void IndexWriter::start_vectors(std::vector<std::string> texts) {
  const std::launch how = encoder_->device().is_cpu() ? std::launch::deferred : std::launch::async;
  embedding_ = std::async(how, [encoder = encoder_, texts = std::move(texts)] { return encoder->embed(texts); });
  embedding_slot_ = slots_;
}

void IndexWriter::finish_vectors() {
  if (!embedding_.valid()) return;
  const at::Tensor vectors = embedding_.get().contiguous();
  require(vectors.size(1) == description_.width, "{}: the encoder's vectors have {} numbers, the index's {}",
          index_.string(), vectors.size(1), description_.width);
  write_at(vectors_, vectors.data_ptr(), vectors.nbytes(), offset_of(embedding_slot_, description_.width));
}

bool IndexWriter::remove(const std::string& id) {
  flush();
  if (!find_.bind(std::string_view(id)).step()) return false;
  const int64_t slot = find_.integer(0);
  const std::string title = find_.text(1), text = find_.text(2);
  delete_words_.bind(slot, std::string_view(title), std::string_view(text)).run();
  delete_.bind(slot).run();
  bury_.bind(slot).run();
  ++changes_.removed;
  return true;
}

// Vectors of the passages that are there, in their order, into a file of the next generation -> how many.
int64_t IndexWriter::copy_vectors() {
  const int64_t width = description_.width, bytes = width * static_cast<int64_t>(sizeof(float));
  const int fresh = open_vectors(vectors_file(index_, ++generation_), true);
  const std::string header = vectors_header(width);
  write_at(fresh, header.data(), header.size(), 0);
  std::vector<char> row(static_cast<size_t>(bytes));
  Statement slots(database_, "SELECT slot FROM passages ORDER BY slot");
  int64_t count = 0;
  for (; slots.step(); ++count) {
    const ssize_t got = ::pread(vectors_, row.data(), row.size(), offset_of(slots.integer(0), width));
    if (got != static_cast<ssize_t>(row.size())) fail("{}: a vector cannot be read", index_.string());
    write_at(fresh, row.data(), row.size(), offset_of(count, width));
  }
  ::close(vectors_);
  vectors_ = fresh;
  return count;
}

void IndexWriter::compact() {
  flush();
  finish_vectors();
  compacted_ = true;
  if (database_.integer("SELECT count(*) FROM dead") == 0 && !needs_links()) return;
  if (description_.width > 0) copy_vectors();
  // Slots move down in their order, so that the next one is always free.
  Statement slots(database_, "SELECT slot FROM passages ORDER BY slot");
  std::vector<int64_t> taken;
  while (slots.step()) taken.push_back(slots.integer(0));
  Statement move(database_, "UPDATE passages SET slot = ?1 WHERE slot = ?2");
  slots_ = 0;
  for (const int64_t slot : taken) {
    if (slot != slots_) move.bind(slots_, slot).run();
    ++slots_;
  }
  database_.run("DELETE FROM dead");
  database_.run("INSERT INTO words(words) VALUES('rebuild')");
  count_common_words();
}

// Where a slot is not linked, or the graph cannot be read.
bool IndexWriter::needs_links() const {
  if (!description_.graph) return false;
  const GraphFile recorded = recorded_graph(database_, index_, generation_);
  const std::filesystem::path file = graph_file(index_, generation_);
  std::error_code error;
  return recorded.rows < slots_ || !std::filesystem::exists(file, error) || sha256_file(file) != recorded.sha256;
}

// A graph of all vectors, in the file of this generation, which readers look at after the commit.
void IndexWriter::link_vectors() {
  const MappedFile vectors(vectors_file(index_, generation_));
  check_vectors(vectors, description_.width, slots_);
  const VectorGraph graph(vector_rows(vectors, description_.width, slots_), *description_.graph, at::get_num_threads(),
                          linking_);
  const std::filesystem::path file = graph_file(index_, generation_);
  const GraphFile saved = graph.save(file);
  if (!building_) sync_to_disk(file);
  database_.run("DELETE FROM graph");
  Statement record(database_, "INSERT INTO graph VALUES(?1, ?2, ?3, ?4)");
  record.bind(generation_, saved.rows, saved.bytes, std::string_view(saved.sha256)).run();
}

// Words that stand in half of the passages or more: readers need not count them.
void IndexWriter::count_common_words() {
  database_.run("CREATE VIRTUAL TABLE temp.vocabulary USING fts5vocab(main, words, row)");
  database_.run("DELETE FROM common");
  const int64_t passages = database_.integer("SELECT count(*) FROM passages");
  Statement insert(database_, "INSERT INTO common SELECT term, doc FROM temp.vocabulary WHERE doc >= ?1");
  insert.bind((passages + 1) / 2).run();
  database_.run("DROP TABLE temp.vocabulary");
}

IndexChanges IndexWriter::commit() {
  flush();
  finish_vectors();
  find_.reset();
  if (building_) {
    database_.run("INSERT INTO words(words) VALUES('optimize')");
    count_common_words();
  }
  if (vectors_ >= 0 && !building_) sync_vectors(vectors_);
  if (description_.graph && (building_ || generation_ != old_generation_)) link_vectors();
  if (generation_ != old_generation_) sync_to_disk(index_);  // the name of the file that the state will name
  Statement set(database_, "UPDATE state SET value = ?2 WHERE name = ?1");
  set.bind(std::string_view("slots"), slots_).run();
  set.bind(std::string_view("generation"), generation_).run();
  transaction_->commit();
  transaction_.reset();
  if (generation_ != old_generation_) {
    std::error_code ignored;  // a reader may hold the file open; it has its bytes until it ends
    std::filesystem::remove(vectors_file(index_, old_generation_), ignored);
    std::filesystem::remove(graph_file(index_, old_generation_), ignored);
  }
  if (compacted_) database_.run("VACUUM");
  if (building_) database_.run("PRAGMA journal_mode = WAL");
  return changes_;
}

}  // namespace cepe
