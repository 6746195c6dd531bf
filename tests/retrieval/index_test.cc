// An index on disk: what commits change, what writers refuse, what readers see meanwhile, and what damage does.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <set>

#include "base/error_of.h"
#include "base/file.h"
#include "retrieval/indexes.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

class Index : public testing::Test {
 protected:
  void build(int count) { fill(index_, drawn_texts(count, 3), described_encoder(encoder_), &encoder_); }
  std::set<std::string> ids() const {
    const IndexReader reader(index_);
    std::set<std::string> found;
    const auto hits = reader.search_vectors(encoder_.embed({"any"}), 100'000);
    for (const Hit& hit : hits[0]) found.insert(reader.passage(hit.slot).id);
    EXPECT_EQ(static_cast<int64_t>(found.size()), reader.passages());
    return found;
  }
  // Every live passage's own vector finds it: rows and vectors belong together.
  void expect_vectors_belong() const {
    const IndexReader reader(index_);
    const auto all = reader.search_vectors(encoder_.embed({"any"}), 100'000)[0];
    for (size_t i = 0; i < all.size(); i += 7) {
      const StoredPassage passage = reader.passage(all[i].slot);
      const auto hits = reader.search_vectors(encoder_.embed({passage.text}), 1)[0];
      EXPECT_NEAR(hits[0].score, 1, 1e-5);
      EXPECT_EQ(reader.passage(hits[0].slot).text, passage.text);
    }
  }
  fs::path vectors() const { return vectors_file(index_, 1); }

  TemporaryDirectory directory_;
  const fs::path index_ = directory_ / "index";
  const BertEncoder encoder_{tiny_encoder(), at::kCPU};
};

TEST_F(Index, HoldsWhatWasAddedAndNotWhatWasDeleted) {
  build(40);
  EXPECT_EQ(ids().size(), 40u);
  {
    IndexWriter writer(index_, &encoder_);
    EXPECT_TRUE(writer.remove("p3"));
    EXPECT_FALSE(writer.remove("p3"));
    writer.add(passage_of("new", "w1 w2 something new"));
    writer.add(passage_of("p4", drawn_texts(40, 3)[4]));  // it is there
    EXPECT_TRUE(writer.remove("p39"));
    const IndexChanges changes = writer.commit();
    EXPECT_EQ(changes.added, 1);
    EXPECT_EQ(changes.present, 1);
    EXPECT_EQ(changes.removed, 2);
  }
  const std::set<std::string> now = ids();
  EXPECT_EQ(now.size(), 39u);
  EXPECT_TRUE(now.contains("new") && !now.contains("p3") && !now.contains("p39"));
  expect_vectors_belong();
}

TEST_F(Index, CompactingChangesNothingThatIsFound) {
  build(60);
  {
    IndexWriter writer(index_, &encoder_);
    for (int i = 0; i < 60; i += 3) writer.remove(fmt::format("p{}", i));
    writer.commit();
  }
  const auto before = ids();
  const auto bytes = fs::file_size(vectors());
  const auto by_words = IndexReader(index_).search_words("w1 w5 w9", 50);
  {
    IndexWriter writer(index_, nullptr);
    writer.compact();
    writer.commit();
  }
  EXPECT_FALSE(fs::exists(vectors()));
  EXPECT_EQ(fs::file_size(vectors_file(index_, 2)), bytes - 20 * 32 * 4);
  EXPECT_EQ(ids(), before);
  expect_vectors_belong();
  const auto after = IndexReader(index_).search_words("w1 w5 w9", 50);
  ASSERT_EQ(after.size(), by_words.size());
  for (size_t i = 0; i < after.size(); ++i) EXPECT_NEAR(after[i].score, by_words[i].score, 1e-12);
  IndexWriter writer(index_, &encoder_);
  writer.add(passage_of("p0", "w1 once more"));
  writer.commit();
  EXPECT_EQ(ids().size(), before.size() + 1);
}

TEST_F(Index, ErrorsAndMissingCommitsLeaveItAsItWas) {
  build(20);
  const auto before = ids();
  {
    IndexWriter writer(index_, &encoder_);
    for (int i = 0; i < 1100; ++i) writer.add(passage_of(fmt::format("n{}", i), fmt::format("w{}", i)));
    writer.remove("p1");
  }  // no commit
  EXPECT_EQ(ids(), before);
  EXPECT_GT(fs::file_size(vectors()), 64u + 20 * 32 * 4);  // what was appended belongs to nobody
  {
    IndexWriter writer(index_, &encoder_);
    writer.add(passage_of("n", "w1"));
    writer.add(passage_of("p2", "another text"));
    EXPECT_THAT(error_of([&] { writer.commit(); }), HasSubstr("passages.jsonl:1: the id \"p2\" is another passage's"));
  }
  EXPECT_EQ(ids(), before);
  EXPECT_EQ(fs::file_size(vectors()), 64u + 20 * 32 * 4);
  expect_vectors_belong();
}

TEST_F(Index, ReadersSeeOneStateWhileOthersWrite) {
  build(20);
  const IndexReader reader(index_);
  {
    IndexWriter writer(index_, &encoder_);
    EXPECT_THAT(error_of([&] { IndexWriter second(index_, &encoder_); }),
                HasSubstr("another process writes to the index"));
    writer.remove("p0");
    writer.add(passage_of("new", "w1 w2"));
    EXPECT_EQ(ids().size(), 20u);
    writer.compact();
    writer.commit();
  }
  EXPECT_EQ(reader.passages(), 20);
  const auto hits = reader.search_vectors(encoder_.embed({"any"}), 100)[0];
  EXPECT_EQ(hits.size(), 20u);
  for (const Hit& hit : hits) EXPECT_EQ(reader.passage(hit.slot).id.front(), 'p');
  EXPECT_TRUE(ids().contains("new"));
}

TEST_F(Index, DamageIsOneSentence) {
  build(20);
  const auto damaged = [&](const std::string& file, const auto& damage) {
    const fs::path copy = directory_ / "copy";
    fs::remove_all(copy);
    fs::copy(index_, copy, fs::copy_options::recursive);
    damage(copy / file);
    return error_of([&] {
      const IndexReader reader(copy);
      reader.search_words("w1 w2 w3", 10);
      for (int64_t slot = 0; slot < 20; ++slot) reader.passage(slot);
    });
  };
  const auto cut = [](const fs::path& file) { fs::resize_file(file, fs::file_size(file) - 4); };
  const auto gone = [](const fs::path& file) { fs::remove(file); };
  const auto empty = [](const fs::path& file) { fs::resize_file(file, 0); };
  const auto text = [](const fs::path& file) { write_file(file, std::string(5000, 'x')); };
  EXPECT_THAT(damaged("vectors-1.f32", cut), HasSubstr("vectors-1.f32: the file is damaged: it has"));
  EXPECT_THAT(damaged("vectors-1.f32", text), HasSubstr("does not begin as vectors of 32 numbers do"));
  EXPECT_THAT(damaged("vectors-1.f32", gone), HasSubstr("the vectors of the index are missing"));
  EXPECT_THAT(damaged("passages.sqlite", gone), HasSubstr("passages.sqlite: the index has no such file"));
  EXPECT_THAT(damaged("passages.sqlite", empty), HasSubstr("not the database of an index"));
  EXPECT_THAT(damaged("passages.sqlite", text), HasSubstr("passages.sqlite: the file is damaged"));
  const auto middle = [](const fs::path& file) {
    std::string bytes = read_file(file);
    std::fill(bytes.begin() + 4096, bytes.end(), '\x7F');
    write_file(file, bytes);
  };
  EXPECT_THAT(damaged("passages.sqlite", middle), HasSubstr("passages.sqlite: the file is damaged"));
  EXPECT_THAT(damaged("index.json", gone), HasSubstr("not an index of passages"));
  EXPECT_THAT(damaged("index.json", text), HasSubstr("index.json: not valid JSON"));
  EXPECT_THAT(damaged("index.json", [](const fs::path& file) { write_file(file, "{\"cepe_index\": 2}"); }),
              HasSubstr("the index has version 2, version 1 is read"));
  EXPECT_THAT(error_of([&] {
                fs::resize_file(vectors(), 100);
                IndexWriter(index_, &encoder_);
              }),
              HasSubstr("vectors-1.f32: the file is damaged"));
}

// A state that names more slots than there are, fewer than are taken, or another generation, destroys nothing.
TEST_F(Index, ADamagedStateIsOneSentenceAndChangesNothing) {
  build(20);
  const auto expect_refusal = [&](const std::string& name, int64_t value, const std::string& phrase) {
    const fs::path copy = directory_ / "copy";
    fs::remove_all(copy);
    fs::copy(index_, copy, fs::copy_options::recursive);
    Database(passages_file(copy), Database::Access::write)
        .run(fmt::format("UPDATE state SET value = {} WHERE name = '{}'", value, name));
    EXPECT_THAT(error_of([&] { IndexWriter(copy, &encoder_); }), HasSubstr(phrase)) << name << " " << value;
    EXPECT_EQ(read_file(vectors_file(copy, 1)), read_file(vectors())) << name << " " << value;
    if (name == "slots") {
      EXPECT_THAT(error_of([&] { IndexReader{copy}; }), HasSubstr(phrase)) << value;
    }
  };
  for (const int64_t slots : {int64_t{1} << 55, (int64_t{1} << 57) + 3, int64_t{21}, INT64_MAX}) {
    expect_refusal("slots", slots, fmt::format("room for 20 vectors, expected {}", slots));
  }
  for (const int64_t slots : {int64_t{0}, int64_t{19}, int64_t{-1}, INT64_MIN}) {
    expect_refusal("slots", slots, fmt::format("its state has {} slots, and slot 19 is taken", slots));
  }
  expect_refusal("generation", 7, "vectors-7.f32");
  std::string bytes = read_file(vectors());
  const float nan = NAN;
  std::memcpy(bytes.data() + 64 + 3 * 32 * 4, &nan, sizeof nan);
  write_file(vectors(), bytes);
  EXPECT_THAT(error_of([&] { IndexReader(index_).search_vectors(encoder_.embed({"any"}), 2); }),
              HasSubstr("a score of slots 0 to 19 is not finite"));
  write_file(vectors(), bytes.replace(0, 8, "othervec"));
  EXPECT_THAT(error_of([&] { IndexWriter(index_, &encoder_); }), HasSubstr("does not begin as vectors of 32"));
  EXPECT_EQ(read_file(vectors()), bytes);
}

TEST_F(Index, CompactingGivesSpaceBackWithoutVectorsToo) {
  fill(index_, drawn_texts(600, 3));
  const auto compact = [&] {
    IndexWriter writer(index_, nullptr);
    writer.compact();
    writer.commit();
  };
  const auto free_pages = [&] {
    return Database(passages_file(index_), Database::Access::read).integer("PRAGMA freelist_count");
  };
  {
    IndexWriter writer(index_, nullptr);
    for (int i = 0; i < 500; ++i) writer.remove(fmt::format("p{}", i));
    writer.commit();
  }
  EXPECT_GT(free_pages(), 0);
  compact();
  EXPECT_EQ(free_pages(), 0);
  EXPECT_EQ(IndexReader(index_).passages(), 100);
  {  // what a process leaves that is killed behind the commit; no slot is dead
    const Database database(passages_file(index_), Database::Access::write);
    database.run("CREATE TABLE more AS SELECT * FROM passages");
    database.run("DROP TABLE more");
  }
  EXPECT_GT(free_pages(), 0);
  compact();
  EXPECT_EQ(free_pages(), 0);
}

TEST_F(Index, ADirectoryThatIsNoIndexIsLeftAsItIs) {
  EXPECT_THAT(error_of([&] { IndexWriter(directory_.path(), nullptr); }), HasSubstr("not an index of passages"));
  EXPECT_EQ(directory_.entries(), 0u);
}

TEST_F(Index, AnotherEncoderIsRefused) {
  build(5);
  const fs::path other = directory_ / "encoder";
  fs::copy(tiny_encoder(), other, fs::copy_options::recursive);
  const IndexDescription description = read_description(index_);
  EXPECT_NE(open_encoder(index_, description, other, at::kCPU), nullptr);
  for (const std::string name : {"vocab.txt", "config.json", "tokenizer_config.json", "sentence_bert_config.json",
                                 "1_Pooling/config.json", "modules.json"}) {
    const bool there = fs::exists(other / name);
    const std::string before = there ? read_file(other / name) : "";
    write_file(other / name, before + "\n");
    EXPECT_THAT(error_of([&] { open_encoder(index_, description, other, at::kCPU); }),
                HasSubstr("another encoder than the index"))
        << name;
    there ? write_file(other / name, before) : static_cast<void>(fs::remove(other / name));
  }
  EXPECT_NE(open_encoder(index_, description, other, at::kCPU), nullptr);
}

TEST_F(Index, IsBuiltBesideItsPlaceAndRenamed) {
  EXPECT_THAT(error_of([&] {
                build_index(index_, {}, nullptr, [](IndexWriter& writer) {
                  writer.add(passage_of("a", "x"));
                  fail("bad file");
                });
              }),
              HasSubstr("bad file"));
  EXPECT_EQ(directory_.entries(), 0u);
  EXPECT_THAT(error_of([&] { build_index(index_, {}, nullptr, [](IndexWriter&) {}); }), HasSubstr("no passage"));
  fs::create_directory(directory_ / ".cepe-index-999999999-0");  // a killed process's
  fill(index_, {"a", "b"});
  EXPECT_EQ(directory_.entries(), 1u);
  // Of two that are built at once, neither takes the other's directory for one that was left behind.
  build_index(directory_ / "outer", {}, nullptr, [&](IndexWriter& writer) {
    fill(directory_ / "inner", {"a", "b", "c"});
    writer.add(passage_of("a", "x"));
  });
  EXPECT_EQ(IndexReader(directory_ / "outer").passages(), 1);
  EXPECT_EQ(IndexReader(directory_ / "inner").passages(), 3);
  EXPECT_EQ(directory_.entries(), 3u);
  EXPECT_THAT(error_of([&] { fill(index_, {"a"}); }), HasSubstr("something in the index's place already"));
  EXPECT_EQ(IndexReader(index_).passages(), 2);
  EXPECT_THAT(error_of([&] { IndexReader(index_).search_vectors(at::zeros({1, 4}), 1); }),
              HasSubstr("it was built without an encoder"));
}

}  // namespace
}  // namespace cepe
