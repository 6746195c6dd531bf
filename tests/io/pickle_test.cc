// Pickled checkpoints: what torch.save wrote is read to the same bytes; what could run, reach outside of the file or
// take more memory than it is refused with a sentence.
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "base/temporary_directory.h"
#include "io/layout.h"
#include "io/memory_file.h"
#include "io/pickle_bytes.h"
#include "io/pickle_file.h"
#include "io/safetensors.h"

namespace cepe {
namespace {

const std::filesystem::path kGolden = std::filesystem::path(CEPE_TEST_DATA) / "pickle";

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The error that a file of this content gives, without the file's name.
std::string refusal(const std::string& content) {
  MemoryFile file;
  file.set(content);
  const std::string message = error_of<Error>([&] { PickleFile source(file.path()); });
  EXPECT_EQ(message.rfind(file.path() + ": ", 0), 0u) << message;
  return message.substr(std::min(message.size(), file.path().size() + 2));
}
std::string refusal_of_pickle(const std::string& pickle) { return refusal(checkpoint_of(pickle)); }
std::string refusal_of_entry(const PickleEntry& entry) { return refusal_of_pickle(pickle_of(pickled(entry))); }

TEST(PickleFile, HoldsWhatTorchLoadsFromIt) {
  for (const std::string name : {"types", "ordered"}) {
    const PickleFile found(kGolden / (name + ".bin"));
    const SafetensorsFile expected(kGolden / (name + ".safetensors"));
    ASSERT_EQ(found.tensors().size(), expected.tensors().size());
    for (const TensorView& tensor : expected.tensors()) {
      const TensorView* view = found.find(tensor.name);
      ASSERT_NE(view, nullptr) << tensor.name;
      EXPECT_EQ(view->dtype, tensor.dtype) << tensor.name;
      EXPECT_EQ(view->shape, tensor.shape) << tensor.name;
      EXPECT_EQ(text_of(view->bytes), text_of(tensor.bytes)) << tensor.name;
    }
    EXPECT_EQ(found.find("absent"), nullptr);
  }
}

TEST(PickleFile, TiedTensorsShareTheirBytes) {
  const PickleFile file(kGolden / "types.bin");
  EXPECT_EQ(file.find("whole")->bytes.data(), file.find("tied")->bytes.data());
  EXPECT_EQ(file.find("rows")->bytes.data(), file.find("whole")->bytes.data() + 2 * 5 * 4);
}

TEST(PickleFile, ReadsWhatTheBuilderOfTheseTestsWrites) {
  MemoryFile memory;
  memory.set(checkpoint_of(
      pickle_of(pickled(PickleEntry{}) + pickled(PickleEntry{.name = "v", .shape = {3, 2}, .stride = {1, 3}}))));
  const PickleFile file(memory.path());
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.find("w")->bytes.size(), 24u);
  EXPECT_EQ(file.find("v")->shape, (std::vector<int64_t>{3, 2}));
}

TEST(PickleFile, RunsNothing) {
  const std::string command = pickled("touch /tmp/cepe-was-here");
  for (const std::string global : {"os\nsystem", "posix\nsystem", "builtins\neval", "torch.hub\nload", "torch\nload",
                                   "torch._utils\n_rebuild_tensor_v3", "__torch__\nModule"}) {
    std::string dotted = global;
    dotted[dotted.find('\n')] = '.';
    const std::string message =
        "its pickle asks for " + dotted + ", which no dictionary of tensors needs: the file is refused";
    EXPECT_EQ(refusal_of_pickle("\x80\x02"
                                "c" +
                                global + "\n(" + command + "tR."),
              message);
    EXPECT_EQ(refusal_of_entry({.rebuild = global}), message);
  }
  EXPECT_EQ(refusal_of_pickle("\x80\x02"
                              "cos\nsys tem\x01\n."),
            "its pickle asks for os.(a name not fit to print), which no "
            "dictionary of tensors needs: the file is refused");
  // Operations that make objects, or look names up, in another way: i, o, NEWOBJ, STACK_GLOBAL, EXT1.
  for (const char operation : {'i', 'o', '\x81', '\x93', '\x82'}) {
    EXPECT_NE(refusal_of_pickle(std::string("\x80\x02()") + operation + ".").find("uses operation 0x"),
              std::string::npos);
  }
  // A storage type or a tensor is no function.
  EXPECT_NE(refusal_of_pickle("\x80\x02"
                              "ctorch\nFloatStorage\n)R.")
                .find("damaged"),
            std::string::npos);
  EXPECT_NE(refusal_of_pickle("\x80\x02K\1)R.").find("damaged"), std::string::npos);
}

TEST(PickleFile, TensorsStayWithinTheirStorage) {
  const auto entry = [](int64_t offset, std::vector<int64_t> shape, std::vector<int64_t> stride) {
    return refusal_of_entry({.offset = offset, .shape = std::move(shape), .stride = std::move(stride)});
  };
  const int64_t far = INT64_MAX;
  EXPECT_EQ(entry(1, {2, 3}, {3, 1}),
            "tensor w of shape [2, 3], stride [3, 1] and offset 1 reaches past its storage of 6 elements");
  for (const std::string& message : {entry(0, {7}, {1}), entry(0, {2}, {6}), entry(6, {1}, {1}), entry(far, {2}, {far}),
                                     entry(0, {3, 3}, {far, far}), entry(0, {100, 100}, {0, 0})}) {
    EXPECT_NE(message.find("reaches past its storage"), std::string::npos) << message;
  }
  EXPECT_NE(entry(0, {far, far}, {0, 0}).find("more elements than 64 bits can count"), std::string::npos);
  EXPECT_NE(entry(-1, {2}, {1}).find("no offset"), std::string::npos);
  EXPECT_NE(entry(0, {-2}, {1}).find("negative"), std::string::npos);
  EXPECT_NE(entry(0, {2}, {-1}).find("negative"), std::string::npos);
  EXPECT_NE(entry(0, {2}, {1, 1}).find("1 dimensions and 2 strides"), std::string::npos);
  EXPECT_NE(entry(0, std::vector<int64_t>(17, 1), std::vector<int64_t>(17, 1)).find("at most 16"), std::string::npos);
}

TEST(PickleFile, StoragesAreWhatTheirRecordsHold) {
  EXPECT_EQ(refusal_of_entry({.elements = 7}),
            "tensor w lies in a storage of 7 elements of F32, its record has 24 bytes");
  EXPECT_EQ(refusal_of_entry({.type = "HalfStorage"}),
            "tensor w lies in a storage of 6 elements of F16, its record has 24 bytes");
  EXPECT_EQ(refusal_of_entry({.elements = -6}),
            "tensor w lies in a storage of -6 elements of F32, its record has 24 bytes");
  EXPECT_EQ(refusal_of_entry({.key = "1"}), "tensor w lies in the record data/1, which is missing");
  EXPECT_EQ(refusal_of_entry({.key = "../../etc/passwd"}),
            "tensor w lies in the record data/../../etc/passwd, which is missing");
  EXPECT_EQ(refusal_of_entry({.type = "ComplexFloatStorage"}),
            "its pickle asks for torch.ComplexFloatStorage, which no dictionary of tensors needs: the file is refused");
}

TEST(PickleFile, CopiesAreNoLargerThanTheFile) {
  // One transposed tensor under many names: 6 floats each time, from one description in the memo.
  std::string description = pickled(PickleEntry{.shape = {3, 2}, .stride = {1, 3}});
  description.erase(0, pickled("w").size());
  std::string pickle = "\x80\x02}(" + pickled("w") + description + "q\2";
  for (int i = 0; i < 10000; ++i) pickle += pickled(std::to_string(i)) + "h\2";
  EXPECT_EQ(refusal_of_pickle(pickle + "u."), "its tensors that are not contiguous take more bytes than the file");
}

TEST(PickleFile, HoldsADictionaryOfTensors) {
  const std::string entry = pickled(PickleEntry{});
  EXPECT_EQ(refusal_of_pickle("\x80\x02]."), "holds a list, expected a dictionary of tensors");
  EXPECT_EQ(refusal_of_pickle("\x80\x02N."), "holds None, expected a dictionary of tensors");
  EXPECT_EQ(refusal_of_pickle(pickle_of(pickled("epoch") + "K\3")), "epoch is an integer, expected a tensor");
  EXPECT_EQ(refusal_of_pickle(pickle_of(pickled("model") + "}(" + entry + "u")),
            "model is a dictionary, expected a tensor");
  EXPECT_EQ(refusal_of_pickle(pickle_of(entry + entry)), "names tensor w twice");
  EXPECT_NE(refusal_of_pickle(pickle_of("K\1" + entry.substr(pickled("w").size()))).find("name is no text"),
            std::string::npos);
  EXPECT_NE(refusal_of_entry({.name = "a\nb"}).find("control characters"), std::string::npos);
  EXPECT_NE(refusal_of_pickle("\x80\x04}.").find("not of protocol 2"), std::string::npos);
  EXPECT_NE(refusal_of_pickle("").find("breaks off"), std::string::npos);
  EXPECT_NE(refusal_of_pickle(pickle_of("K\1")).find("damaged"), std::string::npos);  // a key without a value
  EXPECT_NE(refusal_of_pickle("\x80\x02tu").find("damaged"), std::string::npos);
  EXPECT_NE(refusal_of_pickle("\x80\x02h\1.").find("damaged"), std::string::npos);
  EXPECT_NE(refusal_of_pickle("\x80\x02\x8a\xff.").find("255 bytes, the limit is 8"), std::string::npos);
  EXPECT_NE(refusal_of_pickle("\x80\x02X\xff\xff\xff\xff.").find("breaks off"), std::string::npos);
}

// What a few bytes could make us do for a long time, or with a lot of memory.
TEST(PickleFile, LittleBytesCostLittle) {
  EXPECT_NE(refusal_of_pickle("\x80\x02Nr\xff\xff\xff\xff.").find("holds None"), std::string::npos);  // a memo of 2^32
  EXPECT_NE(refusal_of_pickle("\x80\x02" + std::string(16 << 20, 'N')).find("the limit is"), std::string::npos);
  EXPECT_NE(refusal_of_pickle("\x80\x02" + std::string(8 << 20, 'N')).find("more than 2000000 values"),
            std::string::npos);
  EXPECT_EQ(refusal_of_pickle("\x80\x02)" + std::string(1'000'000, '\x85') + "."),
            "holds a tuple, expected a dictionary of tensors");
  // A list that holds itself, and one doubled forty times.
  EXPECT_NE(refusal_of_pickle("\x80\x02]q\1h\1a.").find("holds a list"), std::string::npos);
  std::string doubled = "\x80\x02]";
  for (int i = 0; i < 40; ++i) doubled += "q\1h\1\x86";
  EXPECT_NE(refusal_of_pickle(doubled + ".").find("holds a tuple"), std::string::npos);
}

TEST(PickleFile, TheArchiveIsChecked) {
  const std::string pickle = pickle_of(pickled(PickleEntry{}));
  const std::string storage(24, '\1');
  const auto with = [&](const ZipRecord& record) { return refusal(zip_of({{"archive/data.pkl", pickle}, record})); };
  EXPECT_EQ(refusal(zip_of({{"a/other", ""}})), "not a checkpoint of torch.save: the zip archive holds no data.pkl");
  EXPECT_EQ(with({"archive/data/0", storage, 8}),
            "the record archive/data/0 is compressed; torch.save stores its records as they are");
  EXPECT_EQ(with({"archive/data/0", storage, 0, 1}), "the record archive/data/0 is encrypted");
  EXPECT_EQ(with({"archive/data/0", storage, 0, 0, 1u << 30}),
            "the record archive/data/0 reaches past the archive's data");
  EXPECT_EQ(with({"archive/data.pkl", pickle}), "the zip archive holds the record archive/data.pkl twice");
  EXPECT_EQ(with({"archive/byteorder", "big"}), "its numbers are big-endian, expected little");
  EXPECT_EQ(refusal(""),
            "not a checkpoint of torch.save: expected a zip archive, or model.safetensors in the file's place");
  EXPECT_EQ(refusal("PK\3\4"), "the zip archive has no directory at its end (is the file cut off?)");
  EXPECT_EQ(refusal("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
            "a pointer of Git LFS, not the weights themselves: fetch them with git lfs pull");
  EXPECT_EQ(refusal(read_file(kGolden / "legacy.bin")),
            "written in torch.save's format of before torch 1.6, which is not read: load it with a later torch and "
            "save it again, "
            "best as safetensors");
}

TEST(PickleFile, CutOffAnywhereItIsRefused) {
  const std::string whole = read_file(kGolden / "types.bin");
  MemoryFile file;
  for (size_t size = 0; size < whole.size(); ++size) {
    file.set(whole.substr(0, size));
    EXPECT_THROW(PickleFile source(file.path()), Error) << size;
  }
}

}  // namespace
}  // namespace cepe
