#include "io/gguf.h"

#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "base/temporary_directory.h"
#include "io/gguf_bytes.h"
#include "io/memory_file.h"

namespace cepe {
namespace {

const std::string kBlocks = CEPE_TEST_DATA "/io/blocks.gguf";

TEST(Gguf, ReadsTheValuesThatTheReferencePackageWrote) {
  GgufFile file(kBlocks);
  EXPECT_EQ(file.string("general.architecture"), "llama");
  EXPECT_EQ(file.integer("kinds.u8"), 200);
  EXPECT_EQ(file.integer("kinds.i8"), -100);
  EXPECT_EQ(file.integer("kinds.u16"), 60000);
  EXPECT_EQ(file.integer("kinds.i16"), -30000);
  EXPECT_EQ(file.integer("kinds.u32"), 4000000000);
  EXPECT_EQ(file.integer("kinds.i32"), -2000000000);
  EXPECT_EQ(file.integer("kinds.i64"), -(int64_t{1} << 62));
  EXPECT_EQ(std::get<uint64_t>(*file.value("kinds.u64")), (uint64_t{1} << 63) + 1);
  EXPECT_EQ(file.number("kinds.f32"), 0.5);
  EXPECT_EQ(file.number("kinds.f64"), 0.1);
  EXPECT_EQ(file.number("kinds.u8"), 200);
  EXPECT_EQ(file.boolean("kinds.boolean", false), true);
  EXPECT_EQ(file.string("kinds.string"), "gr\u00fc\u00dfe \U0001f600");
  EXPECT_EQ(file.strings("kinds.strings"), (std::vector<std::string>{"<s>", "", "\u0120the"}));
  EXPECT_EQ(file.integers("kinds.integers"), (std::vector<int64_t>{-1, 0, 7}));
  EXPECT_EQ(file.numbers("kinds.integers"), (std::vector<double>{-1, 0, 7}));
  EXPECT_EQ(file.numbers("kinds.numbers"), (std::vector<double>{0.5, -2.25}));
  EXPECT_EQ(std::get<std::vector<bool>>(std::get<GgufFile::Array>(*file.value("kinds.booleans"))),
            (std::vector<bool>{true, false, true}));
  EXPECT_EQ(file.value("absent"), nullptr);
  EXPECT_EQ(file.integer("absent", 7), 7);
  EXPECT_EQ(file.number("absent", 0.5), 0.5);
  EXPECT_EQ(file.boolean("absent", true), true);
}

TEST(Gguf, GivesTensorsOutermostDimensionFirst) {
  GgufFile file(kBlocks);
  EXPECT_EQ(file.tensors().size(), 12u);
  EXPECT_EQ(file.find("f32")->shape, (std::vector<int64_t>{2, 3, 4}));
  EXPECT_EQ(file.find("q4_k")->shape, (std::vector<int64_t>{2, 768}));
  EXPECT_EQ(file.find("q4_k")->dtype, DType::q4_k);
  EXPECT_EQ(file.find("absent"), nullptr);
  EXPECT_EQ(file.path(), kBlocks);
}

TEST(Gguf, NamesKeyAndKindOfAValueThatDoesNotFit) {
  GgufFile file(kBlocks);
  auto at = [](const char* message) { return kBlocks + ": " + message; };
  EXPECT_EQ(error_of<Error>([&] { file.integer("absent"); }), at("has no value absent, expected an integer"));
  EXPECT_EQ(error_of<Error>([&] { file.string("absent"); }), at("has no value absent, expected a string"));
  EXPECT_EQ(error_of<Error>([&] { file.integer("kinds.f32"); }),
            at("kinds.f32 is a floating-point number, expected an integer"));
  EXPECT_EQ(error_of<Error>([&] { file.integer("kinds.f32", 1); }),
            at("kinds.f32 is a floating-point number, expected an integer"));
  EXPECT_EQ(error_of<Error>([&] { file.integer("kinds.u64"); }),
            at("kinds.u64 is 9223372036854775809, more than 2^63-1"));
  EXPECT_EQ(error_of<Error>([&] { file.number("kinds.string"); }), at("kinds.string is a string, expected a number"));
  EXPECT_EQ(error_of<Error>([&] { file.boolean("kinds.u8", true); }), at("kinds.u8 is an integer, expected a boolean"));
  EXPECT_EQ(error_of<Error>([&] { file.strings("kinds.numbers"); }),
            at("kinds.numbers is an array of floating-point numbers, expected an array of strings"));
  EXPECT_EQ(error_of<Error>([&] { file.numbers("kinds.strings"); }),
            at("kinds.strings is an array of strings, expected an array of numbers"));
  EXPECT_EQ(error_of<Error>([&] { file.integers("kinds.boolean"); }),
            at("kinds.boolean is a boolean, expected an array of integers"));
}

class GgufFileTest : public ::testing::Test {
 protected:
  GgufFile open(const GgufBytes& bytes) {
    std::ofstream(path_, std::ios::binary) << bytes.str();
    return GgufFile(path_);
  }
  std::string message(const GgufBytes& bytes) {
    std::ofstream(path_, std::ios::binary) << bytes.str();
    std::string text = error_of<Error>([&] { GgufFile file(path_); });
    EXPECT_EQ(text.rfind(path_ + ": ", 0), 0u) << text;
    return text.substr(std::min(text.size(), path_.size() + 2));
  }
  static GgufBytes with_value() { return GgufBytes().header(0, 1); }
  static GgufBytes with_tensor() { return GgufBytes().header(1, 0); }
  TemporaryDirectory directory_;
  std::string path_ = directory_ / "file.gguf";
};

TEST_F(GgufFileTest, ReadsVersion2AndItsOwnAlignment) {
  GgufBytes bytes;
  bytes.header(2, 1, 2).value<uint32_t>("general.alignment", kU32, 8);
  bytes.tensor("a", {2}, 0, 0).tensor("b", {3, 1}, 0, 16).data(28, 8);
  GgufFile file = open(bytes);
  EXPECT_EQ(file.find("a")->shape, std::vector<int64_t>{2});
  EXPECT_EQ(file.find("b")->shape, (std::vector<int64_t>{1, 3}));
  EXPECT_EQ(file.find("b")->bytes.data() - file.find("a")->bytes.data(), 16);
  EXPECT_EQ(file.find("b")->bytes.size(), 12u);
}

TEST_F(GgufFileTest, ReadsAVocabularyOf256kTokens) {
  GgufBytes bytes = with_value();
  bytes.text("tokenizer.ggml.tokens").put<uint32_t>(kArray).put<uint32_t>(kString).put<uint64_t>(262144);
  for (int i = 0; i < 262144; ++i) bytes.text("token " + std::to_string(i));
  GgufFile file = open(bytes);
  ASSERT_EQ(file.strings("tokenizer.ggml.tokens").size(), 262144u);
  EXPECT_EQ(file.strings("tokenizer.ggml.tokens")[262143], "token 262143");
}

TEST_F(GgufFileTest, RefusesOtherFormatsAndVersions) {
  EXPECT_EQ(message(GgufBytes()), "not a GGUF file: it does not begin with GGUF");
  EXPECT_EQ(message(GgufBytes().raw("GGM")), "not a GGUF file: it does not begin with GGUF");
  EXPECT_EQ(message(GgufBytes().raw("ggml").put<uint32_t>(3)), "not a GGUF file: it does not begin with GGUF");
  EXPECT_EQ(message(GgufBytes().header(0, 0, 1)), "GGUF version 1, expected 2 or 3");
  EXPECT_EQ(message(GgufBytes().header(0, 0, 4)), "GGUF version 4, expected 2 or 3");
  EXPECT_EQ(message(GgufBytes().header(0, 0, 3u << 24)), "a big-endian GGUF file, expected little-endian");
  EXPECT_EQ(message(GgufBytes().raw("GGUF")),
            "the version needs 4 bytes at offset 4, but the file ends after 0 (is it cut off?)");
}

TEST_F(GgufFileTest, DoesNotBelieveCountsAndLengths) {
  EXPECT_EQ(message(GgufBytes().header(0, UINT64_MAX)),
            "announces 0 tensors and 18446744073709551615 values, more than its 24 bytes can hold");
  EXPECT_EQ(message(GgufBytes().header(uint64_t{1} << 60, 0)),
            "announces 1152921504606846976 tensors and 0 values, more than its 24 bytes can hold");
  EXPECT_EQ(message(with_value().put<uint64_t>(UINT64_MAX).raw("kkkkkkkkkkkkkkkk")),
            "a key needs 18446744073709551615 bytes at offset 32, but the file ends after 16 (is it cut off?)");
  EXPECT_EQ(message(with_value().text("k").put<uint32_t>(kString).put<uint64_t>(uint64_t{1} << 63)),
            "k needs 9223372036854775808 bytes at offset 45, but the file ends after 0 (is it cut off?)");
  auto array = [](uint32_t type, uint64_t count) {
    return with_value().text("k").put<uint32_t>(kArray).put<uint32_t>(type).put(count).raw(std::string(16, '\0'));
  };
  EXPECT_EQ(message(array(kString, 3)), "k has 3 elements, but only 16 bytes of the file follow (is it cut off?)");
  EXPECT_EQ(message(array(kU64, uint64_t{1} << 61)),
            "k has 2305843009213693952 elements, but only 16 bytes of the file follow (is it cut off?)");
  EXPECT_EQ(message(array(kU64, 3)), "k needs 24 bytes at offset 49, but the file ends after 16 (is it cut off?)");
  EXPECT_EQ(message(array(kBool, UINT64_MAX)),
            "k has 18446744073709551615 elements, but only 16 bytes of the file follow (is it cut off?)");
}

TEST_F(GgufFileTest, RefusesValuesThatAreNone) {
  EXPECT_EQ(message(with_value().value<uint8_t>("k", static_cast<GgufType>(13), 0)), "k has the unknown type 13");
  EXPECT_EQ(message(with_value().value<uint8_t>("k", kBool, 2)), "k is 2, expected 0 or 1 for a boolean");
  EXPECT_EQ(message(with_value().text("k").put<uint32_t>(kArray).put<uint32_t>(kArray).put<uint64_t>(0)),
            "k is an array of arrays, which no model uses");
  EXPECT_EQ(message(with_value().text("k").put<uint32_t>(kArray).put<uint32_t>(99).put<uint64_t>(0)),
            "k is an array of the unknown type 99");
  EXPECT_EQ(message(GgufBytes().header(0, 2).value<uint8_t>("k", kU8, 1).value<uint8_t>("k", kU8, 1)),
            "the key k stands twice");
  for (std::string_view name : {std::string_view("k\xff"), std::string_view("k\0", 2), std::string_view("k\n"),
                                std::string_view("\xed\xa0\x80"), std::string_view("\xc0\x80")}) {
    EXPECT_EQ(message(with_value().value<uint64_t>(name, kU64, 1)),
              "a key at offset 32 is empty, longer than 1024 bytes, not UTF-8 or has control characters");
  }
  for (uint32_t alignment : {0u, 12u, 1u << 31}) {
    EXPECT_EQ(message(with_value().value("general.alignment", kU32, alignment)),
              "general.alignment is " + std::to_string(alignment) + ", expected a power of two up to 2^30");
  }
  EXPECT_EQ(message(with_value().value("general.alignment", kF32, 32.0f)),
            "general.alignment is a floating-point number, expected an integer");
}

TEST_F(GgufFileTest, RefusesTensorsThatAreNone) {
  EXPECT_EQ(message(with_tensor().tensor("t", {1, 1, 1, 1, 1}, 0, 0).data(32)),
            "tensor t has 5 dimensions, expected at most 4");
  EXPECT_EQ(message(with_tensor().tensor("t", {0}, 0, 0).data(32)),
            "tensor t has a dimension of 0, expected 1 to 2^63-1");
  EXPECT_EQ(message(with_tensor().tensor("t", {UINT64_MAX}, 0, 0).data(32)),
            "tensor t has a dimension of 18446744073709551615, expected 1 to 2^63-1");
  EXPECT_EQ(message(with_tensor().tensor("t", {uint64_t{1} << 32, uint64_t{1} << 32}, 0, 0).data(32)),
            "tensor t has shape [4294967296, 4294967296], more elements than 64 bits can count");
  EXPECT_EQ(message(with_tensor().tensor("t", {uint64_t{1} << 62}, 0, 0).data(32)),
            "tensor t has shape [4611686018427387904], more elements than 64 bits can count");
  EXPECT_EQ(message(with_tensor().tensor("t", {32}, 17, 0).data(32)),
            "tensor t has type 17 (IQ2_XS), expected one of F32, F16, BF16, F64, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, "
            "Q5_K, Q6_K, I8, I16, I32, I64");
  EXPECT_EQ(message(with_tensor().tensor("t", {48, 2}, 2, 0).data(64)),
            "tensor t of type Q4_0 has rows of 48 elements, expected a multiple of 32");
  EXPECT_EQ(message(with_tensor().tensor("t", {}, 12, 0).data(256)),
            "tensor t of type Q4_K has rows of 1 elements, expected a multiple of 256");
  EXPECT_EQ(message(with_tensor().tensor("t\x01", {1}, 0, 0).data(32)),
            "a tensor's name at offset 32 is empty, longer than 1024 bytes, not UTF-8 or has control characters");
  EXPECT_EQ(message(GgufBytes().header(2, 0).tensor("t", {1}, 0, 0).tensor("t", {1}, 0, 32).data(64)),
            "tensor t stands twice");
}

TEST_F(GgufFileTest, RefusesTensorsInWrongPlaces) {
  EXPECT_EQ(message(with_tensor().tensor("t", {8}, 0, 4).data(64)),
            "tensor t lies at offset 4, expected a multiple of 32");
  EXPECT_EQ(message(with_tensor().tensor("t", {8}, 0, UINT64_MAX - 31).data(64)),
            "tensor t lies at offset 18446744073709551584, past any file");
  EXPECT_EQ(message(with_tensor().tensor("t", {9}, 0, 0).data(35)),
            "tensor t ends at byte 36 of the data, but the file has only 35 (is it cut off?)");
  EXPECT_EQ(message(with_tensor().tensor("t", {9}, 0, 0)), "ends before its tensors' data (is it cut off?)");
  EXPECT_EQ(message(GgufBytes().header(2, 0).tensor("s", {9}, 0, 0).tensor("t", {1}, 0, 32).data(64)),
            "tensors s and t overlap: the first ends at byte 36, the second begins at byte 32");
  EXPECT_EQ(message(GgufBytes().header(2, 0).tensor("s", {1}, 0, 32).tensor("t", {16}, 0, 0).data(64)),
            "tensors t and s overlap: the first ends at byte 64, the second begins at byte 32");
}

TEST_F(GgufFileTest, APartOfASplitModelIsRefusedWithWhatToDo) {
  constexpr GgufType kU16 = static_cast<GgufType>(2);
  const auto part = [&](uint16_t number, uint16_t parts) {
    return GgufBytes().header(0, 2).value("split.no", kU16, number).value("split.count", kU16, parts);
  };
  EXPECT_EQ(message(part(0, 3)), "is part 1 of a model split into 3 files: merge them first with llama-gguf-split");
  EXPECT_EQ(message(part(2, 3)).substr(0, 12), "is part 3 of");
  EXPECT_EQ(open(part(0, 1)).integer("split.count"), 1);
}

TEST_F(GgufFileTest, IsKnownByItsMagic) {
  open(with_value().value<uint32_t>("a", kU32, 1));
  EXPECT_TRUE(is_gguf_file(path_));
  std::ofstream(path_, std::ios::binary) << "GGU";
  EXPECT_FALSE(is_gguf_file(path_));
  EXPECT_FALSE(is_gguf_file(path_ + ".absent"));
  EXPECT_FALSE(is_gguf_file(std::string(directory_ / ".")));
}

TEST_F(GgufFileTest, NamesItsKeysInOrder) {
  EXPECT_EQ(open(GgufBytes().header(0, 2).value<uint32_t>("b", kU32, 1).value<uint32_t>("a", kU32, 1)).keys(),
            (std::vector<std::string>{"a", "b"}));
}

TEST(BadGgufFile, EveryTruncationIsRefused) {
  std::string whole = read_file(kBlocks);
  MemoryFile cut;
  // Only the padding after the last tensor, up to 31 bytes, may be missing.
  size_t padding = 0;
  for (size_t size = 0; size < whole.size(); ++size) {
    cut.set(std::string_view(whole).substr(0, size));
    try {
      GgufFile file(cut.path());
      ++padding;
    } catch (const Error&) {
      EXPECT_EQ(padding, 0u) << size;
    }
  }
  EXPECT_LT(padding, 32u);
}

}  // namespace
}  // namespace cepe
