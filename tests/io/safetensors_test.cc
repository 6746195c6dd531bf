#include "io/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>

#include "base/error.h"
#include "base/temporary_directory.h"
#include "io/memory_file.h"

namespace cepe {
namespace {

const std::string kPlain = CEPE_TEST_DATA "/io/plain.safetensors";
const std::string kCafe = "caf\u00e9 \"quoted\"";

std::string with_header(const std::string& header, size_t data_bytes) {
  uint64_t size = header.size();
  std::string file(reinterpret_cast<const char*>(&size), 8);
  return file + header + std::string(data_bytes, '\x11');
}

TensorView view(const std::string& name, DType type, std::vector<int64_t> shape, const std::string& bytes) {
  return {name, type, std::move(shape), std::as_bytes(std::span(bytes))};
}

template <typename T>
std::vector<double> values_of(const TensorView& tensor) {
  std::vector<T> values(tensor.bytes.size() / sizeof(T));
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return {values.begin(), values.end()};
}

TEST(Safetensors, ReadsWhatTheReferenceLibraryWrote) {
  SafetensorsFile file(kPlain);
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"note", kCafe}}));
  EXPECT_EQ(file.tensors().size(), 12u);
  EXPECT_EQ(file.path(), kPlain);
  EXPECT_EQ(file.find("absent"), nullptr);
  for (const char* name : {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"}) {
    const TensorView* tensor = file.find(std::string("tensor.") + name);
    ASSERT_NE(tensor, nullptr) << name;
    EXPECT_EQ(dtype_name(tensor->dtype), name);
    EXPECT_EQ(tensor->shape, (std::vector<int64_t>{2, 3}));
    EXPECT_EQ(tensor->elements(), 6);
  }
  const std::vector<double> counting{0, 1, 2, 3, 4, 5};
  EXPECT_EQ(values_of<double>(*file.find("tensor.F64")), counting);
  EXPECT_EQ(values_of<int64_t>(*file.find("tensor.I64")), counting);
  EXPECT_EQ(values_of<int32_t>(*file.find("tensor.I32")), counting);
  EXPECT_EQ(values_of<int16_t>(*file.find("tensor.I16")), counting);
  EXPECT_EQ(values_of<int8_t>(*file.find("tensor.I8")), counting);
  EXPECT_EQ(values_of<uint8_t>(*file.find("tensor.U8")), counting);
  EXPECT_EQ(values_of<uint8_t>(*file.find("tensor.BOOL")), (std::vector<double>{0, 1, 0, 1, 0, 1}));
  for (const char* name : {"tensor.F64", "tensor.F32", "tensor.F16", "tensor.BF16"}) {
    std::vector<float> decoded(6);
    decode_to_f32(*file.find(name), decoded.data());
    EXPECT_EQ(std::vector<double>(decoded.begin(), decoded.end()), counting) << name;
  }
  EXPECT_EQ(file.find("scalar")->shape, std::vector<int64_t>{});
  EXPECT_EQ(values_of<float>(*file.find("scalar")), std::vector<double>{2.5});
  EXPECT_EQ(file.find("empty")->elements(), 0);
}

TEST(Safetensors, WritesTheSameBytesAsTheReferenceLibrary) {
  TemporaryDirectory directory;
  SafetensorsFile file(kPlain);
  write_safetensors(directory / "copy", file.tensors(), file.metadata());
  EXPECT_EQ(read_file(directory / "copy"), read_file(kPlain));
}

TEST(Safetensors, RoundTripAlignsEveryTensorAndKeepsNames) {
  TemporaryDirectory directory;
  std::string odd(3, 'o'), wide(16, 'w'), half(6, 'h'), none;
  write_safetensors(directory / "file",
                    {view("odd", DType::i8, {3}, odd), view("half", DType::bf16, {3, 1}, half),
                     view("wide \u00fc \"", DType::f64, {2}, wide), view("none", DType::f32, {0}, none)},
                    {{"a", "1"}, {"b", ""}});
  SafetensorsFile file(directory / "file");
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"a", "1"}, {"b", ""}}));
  std::vector<std::string> names;
  for (const auto& tensor : file.tensors()) {
    names.push_back(tensor.name);
    auto address = reinterpret_cast<uintptr_t>(tensor.bytes.data());
    EXPECT_EQ(address % block_bytes(tensor.dtype), 0u) << tensor.name;
  }
  EXPECT_EQ(names, (std::vector<std::string>{"wide \u00fc \"", "none", "half", "odd"}));
  EXPECT_EQ(std::memcmp(file.find("odd")->bytes.data(), odd.data(), 3), 0);
  EXPECT_EQ(std::memcmp(file.find("half")->bytes.data(), half.data(), 6), 0);
}

TEST(Safetensors, WriterRefusesWhatCannotBeRead) {
  TemporaryDirectory directory;
  std::string path = directory / "file", eight(8, '8'), block(18, 'q');
  auto message = [&](const std::vector<TensorView>& tensors, const std::map<std::string, std::string>& metadata = {}) {
    return error_of<Error>([&] { write_safetensors(path, tensors, metadata); });
  };
  EXPECT_EQ(message({view("a", DType::f32, {3}, eight)}),
            path + ": cannot write tensor a: dtype F32 and shape [3] do not fit its 8 bytes");
  EXPECT_EQ(message({view("a", DType::q4_0, {32}, block)}),
            path + ": cannot write tensor a: dtype Q4_0 and shape [32] do not fit its 18 bytes");
  EXPECT_EQ(message({view("a", DType::f32, {2}, eight), view("a", DType::f32, {2}, eight)}),
            path + ": cannot write a tensor called a: the name is not valid or stands twice");
  EXPECT_EQ(message({view("__metadata__", DType::f32, {2}, eight)}),
            path + ": cannot write a tensor called __metadata__: the name is not valid or stands twice");
  EXPECT_EQ(message({view("\xff", DType::f32, {2}, eight)}),
            path + ": cannot write a tensor called (a name not fit to print): the name is not valid or stands twice");
  EXPECT_EQ(message({}, {{"k", "\xff"}}), path + ": cannot write the metadata: it is not valid UTF-8");
  EXPECT_EQ(directory.entries(), 0u);
}

struct BadHeader {
  const char* what;
  std::string header;
  size_t data_bytes;
  const char* message;
};

class BadSafetensors : public ::testing::TestWithParam<BadHeader> {};

TEST_P(BadSafetensors, IsRefusedInOneSentence) {
  TemporaryDirectory directory;
  std::string path = directory / "bad.safetensors";
  std::ofstream(path, std::ios::binary) << with_header(GetParam().header, GetParam().data_bytes);
  EXPECT_EQ(error_of<Error>([&] { SafetensorsFile file(path); }), path + ": " + GetParam().message);
}

std::string entry(const std::string& shape, const std::string& offsets, const std::string& dtype = "F32") {
  return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}
std::string one(const std::string& shape, const std::string& offsets, const std::string& dtype = "F32") {
  return R"({"a":)" + entry(shape, offsets, dtype) + "}";
}
std::string two(const std::string& first_offsets, const std::string& second_offsets) {
  return R"({"a":)" + entry("[2]", first_offsets) + R"(,"b":)" + entry("[2]", second_offsets) + "}";
}

INSTANTIATE_TEST_SUITE_P(
    Layout, BadSafetensors,
    ::testing::Values(
        BadHeader{"cut off", one("[2]", "[0,8]"), 7,
                  "tensor a ends at byte 8 of the data, but the file has only 7 (is it cut off?)"},
        BadHeader{"overlap", two("[0,8]", "[4,12]"), 12,
                  "tensors a and b overlap: the first ends at byte 8, the second begins at byte 4"},
        BadHeader{"same place", two("[0,8]", "[0,8]"), 8,
                  "tensors a and b overlap: the first ends at byte 8, the second begins at byte 0"},
        BadHeader{"hole between", two("[0,8]", "[12,20]"), 20, "4 bytes before tensor b belong to no tensor"},
        BadHeader{"hole at the begin", one("[2]", "[4,12]"), 12, "4 bytes before tensor a belong to no tensor"},
        BadHeader{"rest at the end", one("[2]", "[0,8]"), 9, "1 bytes after the last tensor belong to no tensor"},
        BadHeader{"backwards", one("[2]", "[8,0]"), 8, "tensor a ends at byte 0, before its begin at byte 8"},
        BadHeader{"one offset", one("[2]", "[8]"), 8, "tensor a has 1 data_offsets, expected 2"},
        BadHeader{"three offsets", one("[2]", "[0,8,16]"), 8, "tensor a has more than 2 values in data_offsets"},
        BadHeader{"shape too large", one("[3]", "[0,8]"), 8,
                  "tensor a of dtype F32 and shape [3] takes 12 bytes, its data_offsets give 8"},
        BadHeader{"offsets past any file", one("[2]", "[18446744073709551608,18446744073709551615]"), 8,
                  "tensor a ends at byte 18446744073709551615 of the data, but the file has only 8 (is it cut off?)"},
        BadHeader{"product overflows to 0", one("[4294967296,4294967296]", "[0,0]"), 0,
                  "tensor a has shape [4294967296, 4294967296], more elements than 64 bits can count"},
        BadHeader{"overflow hidden by 0", one("[9223372036854775807,0,9223372036854775807]", "[0,0]"), 0,
                  "tensor a has shape [9223372036854775807, 0, 9223372036854775807], more elements than 64 bits can "
                  "count"},
        BadHeader{"bytes overflow", one("[9223372036854775807]", "[0,8]"), 8,
                  "tensor a has shape [9223372036854775807], more elements than 64 bits can count"},
        BadHeader{"huge dimension", one("[9223372036854775808]", "[0,8]"), 8,
                  "tensor a has a dimension of 9223372036854775808, more than 2^63-1"},
        BadHeader{"17 dimensions", one("[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[0,4]"), 4,
                  "tensor a has more than 16 values in shape"}));

INSTANTIATE_TEST_SUITE_P(
    Json, BadSafetensors,
    ::testing::Values(
        BadHeader{"negative dimension", one("[-2]", "[0,8]"), 8,
                  "tensor a has the negative number -2 as its shape, expected a list of whole numbers from 0 on"},
        BadHeader{"negative offset", one("[2]", "[-8,0]"), 8,
                  "tensor a has the negative number -8 as its data_offsets, expected a list of whole numbers from 0 "
                  "on"},
        BadHeader{"fraction", one("[2.0]", "[0,8]"), 8,
                  "tensor a has a number that is no 64-bit integer as its shape, expected a list of whole numbers from "
                  "0 on"},
        BadHeader{"more than 64 bits", one("[2]", "[0,99999999999999999999]"), 8,
                  "tensor a has a number that is no 64-bit integer as its data_offsets, expected a list of whole "
                  "numbers from 0 on"},
        BadHeader{"text as shape", one("\"2\"", "[0,8]"), 8,
                  "tensor a has a string as its shape, expected a list of whole numbers from 0 on"},
        BadHeader{"nested list", one("[[2]]", "[0,8]"), 8,
                  "tensor a has a list as its shape, expected a list of whole numbers from 0 on"},
        BadHeader{"nested object", R"({"a":{"dtype":{}}})", 0,
                  "tensor a has an object as its dtype, expected the name of a type"},
        BadHeader{"number as dtype", R"({"a":{"dtype":32}})", 0,
                  "tensor a has a number as its dtype, expected the name of a type"},
        BadHeader{"unknown dtype", one("[2]", "[0,8]", "Q4_0"), 8,
                  "tensor a has dtype Q4_0, expected one of F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL"},
        BadHeader{"no dtype", R"({"a":{"shape":[2],"data_offsets":[0,8]}})", 8, "tensor a has no dtype"},
        BadHeader{"no offsets", R"({"a":{"shape":[2],"dtype":"F32"}})", 8, "tensor a has no data_offsets"},
        BadHeader{"unknown field", R"({"a":{"strides":[2]}})", 8, "tensor a has an unknown field strides"},
        BadHeader{"field twice", R"({"a":{"shape":[2],"shape":[2]}})", 8, "tensor a has two fields shape"},
        BadHeader{"name twice", R"({"a":)" + entry("[2]", "[0,8]") + R"(,"a":)" + entry("[2]", "[8,16]") + "}", 16,
                  "the header names tensor a twice"},
        BadHeader{"entry is a number", R"({"a":1})", 0, "the header's entry a is a number, expected an object"},
        BadHeader{"entry is null", R"({"a":null})", 0, "the header's entry a is null, expected an object"},
        BadHeader{"metadata is a list", R"({"__metadata__":[]})", 0,
                  "the header's entry __metadata__ is a list, expected an object"},
        BadHeader{"metadata value is a number", R"({"__metadata__":{"k":1}})", 0,
                  "the metadata k is a number, expected a string"},
        BadHeader{"metadata key twice", R"({"__metadata__":{"k":"1","k":"2"}})", 0, "the metadata names k twice"},
        BadHeader{"metadata twice", R"({"__metadata__":{},"__metadata__":{}})", 0,
                  "the header has two __metadata__ objects"},
        BadHeader{"name not UTF-8", "{\"\xff\":{}}", 0,
                  "the header is not valid JSON in UTF-8: it breaks off or goes wrong at its byte 3"},
        BadHeader{"name with a NUL", "{\"a\\u0000\":{}}", 0,
                  "a tensor's name is empty, longer than 1024 bytes or has control characters"},
        BadHeader{"empty name", "{\"\":{}}", 0,
                  "a tensor's name is empty, longer than 1024 bytes or has control characters"},
        BadHeader{"JSON breaks off", R"({"a":{"dtype":"F32")", 0,
                  "the header is not valid JSON in UTF-8: it breaks off or goes wrong at its byte 20"},
        BadHeader{"two documents", "{}{}", 0,
                  "the header is not valid JSON in UTF-8: it breaks off or goes wrong at its byte 3"},
        BadHeader{"a list", "[]", 0, "not a safetensors file: its header does not begin with {"},
        BadHeader{"nothing", "", 0, "not a safetensors file: its header does not begin with {"},
        BadHeader{"a million brackets", "{\"a\":{\"shape\":" + std::string(1'000'000, '['), 0,
                  "tensor a has a list as its shape, expected a list of whole numbers from 0 on"}));

TEST(BadSafetensorsFile, LengthsAreNotBelieved) {
  TemporaryDirectory directory;
  std::string path = directory / "bad.safetensors";
  auto message = [&](const std::string& content) {
    std::ofstream(path, std::ios::binary) << content;
    return error_of<Error>([&] { SafetensorsFile file(path); });
  };
  EXPECT_EQ(message(""), path + ": not a safetensors file: 0 bytes, expected at least 8");
  EXPECT_EQ(message("1234567"), path + ": not a safetensors file: 7 bytes, expected at least 8");
  EXPECT_EQ(message(std::string(8, '\xff') + "{}"),
            path +
                ": not a safetensors file: its header would be 18446744073709551615 bytes long, the limit is "
                "100000000");
  EXPECT_EQ(message(std::string("\x03\0\0\0\0\0\0\0{}", 10)),
            path + ": the header is 3 bytes long, but only 2 follow (is the file cut off?)");
}

TEST(BadSafetensorsFile, EveryTruncationIsRefused) {
  MemoryFile cut;
  std::string whole = read_file(kPlain);
  for (size_t size = 0; size < whole.size(); ++size) {
    cut.set(std::string_view(whole).substr(0, size));
    EXPECT_THROW(SafetensorsFile{cut.path()}, Error) << size;
  }
}

}  // namespace
}  // namespace cepe
