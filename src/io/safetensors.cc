#include "io/safetensors.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "base/error.h"
#include "io/layout.h"

namespace cepe {
namespace {

using nlohmann::json;

constexpr uint64_t kLongestHeader = 100'000'000;  // the reference library's limit
constexpr size_t kMostDimensions = 16;
constexpr std::string_view kMetadata = "__metadata__";
constexpr DType kTypes[] = {DType::f64, DType::f32, DType::f16, DType::bf16, DType::i64,
                            DType::i32, DType::i16, DType::i8,  DType::u8,   DType::boolean};

std::optional<DType> type_called(std::string_view name) {
  for (DType type : kTypes) {
    if (dtype_name(type) == name) return type;
  }
  return std::nullopt;
}

// Reads the header event by event, because a parsed JSON document no longer shows duplicate keys. Accepts
// exactly {"__metadata__": {text: text}, name: {"dtype": text, "shape": [n...], "data_offsets": [n, n]}...}.
class HeaderReader {
 public:
  struct Entry {
    std::string name, dtype;
    std::vector<uint64_t> shape, offsets;
    std::set<std::string> fields;
  };

  HeaderReader(const std::filesystem::path& path, std::map<std::string, std::string>& metadata)
      : path_(path.string()), metadata_(metadata) {}
  std::vector<Entry>& entries() { return entries_; }

  bool start_object(size_t) {
    if (depth_ == 2 || list_) unexpected("an object");
    ++depth_;
    return true;
  }
  bool end_object() {
    if (depth_ == 2 && !in_metadata_) {
      for (const char* field : {"dtype", "shape", "data_offsets"}) {
        require(entries_.back().fields.count(field), "{}: tensor {} has no {}", path_, entries_.back().name, field);
      }
    }
    --depth_;
    return true;
  }
  bool key(std::string& name) {
    if (depth_ == 1) {
      open_entry(name);
    } else if (in_metadata_) {
      require(!metadata_.count(name), "{}: the metadata names {} twice", path_, quotable(name));
    } else {
      require(name == "dtype" || name == "shape" || name == "data_offsets", "{}: tensor {} has an unknown field {}",
              path_, entries_.back().name, quotable(name));
      require(entries_.back().fields.insert(name).second, "{}: tensor {} has two fields {}", path_,
              entries_.back().name, name);
    }
    key_ = name;
    return true;
  }
  bool string(std::string& value) {
    if (depth_ == 2 && in_metadata_) {
      metadata_[key_] = value;
    } else if (depth_ == 2 && key_ == "dtype") {
      entries_.back().dtype = value;
    } else {
      unexpected("a string");
    }
    return true;
  }
  bool start_array(size_t) {
    if (depth_ != 2 || in_metadata_ || key_ == "dtype" || list_) unexpected("a list");
    list_ = key_ == "shape" ? &entries_.back().shape : &entries_.back().offsets;
    return true;
  }
  bool end_array() {
    list_ = nullptr;
    return true;
  }
  bool number_unsigned(uint64_t value) {
    if (!list_) unexpected("a number");
    size_t limit = key_ == "shape" ? kMostDimensions : 2;
    require(list_->size() < limit, "{}: tensor {} has more than {} values in {}", path_, entries_.back().name, limit,
            key_);
    list_->push_back(value);
    return true;
  }
  bool number_integer(int64_t value) { unexpected(fmt::format("the negative number {}", value)); }
  bool number_float(double, const std::string&) { unexpected("a number that is no 64-bit integer"); }
  bool null() { unexpected("null"); }
  bool boolean(bool value) { unexpected(value ? "true" : "false"); }
  bool binary(json::binary_t&) { unexpected("binary data"); }
  bool parse_error(size_t position, const std::string&, const json::exception&) {
    fail("{}: the header is not valid JSON in UTF-8: it breaks off or goes wrong at its byte {}", path_, position);
  }

 private:
  void open_entry(const std::string& name) {
    in_metadata_ = name == kMetadata;
    if (in_metadata_) {
      require(!seen_metadata_, "{}: the header has two {} objects", path_, kMetadata);
      seen_metadata_ = true;
      return;
    }
    require(is_valid_name(name), "{}: a tensor's name is empty, longer than 1024 bytes or has control characters",
            path_);
    require(names_.insert(name).second, "{}: the header names tensor {} twice", path_, name);
    entries_.push_back({name, {}, {}, {}, {}});
  }
  [[noreturn]] void unexpected(std::string_view found) const {
    if (depth_ == 0) fail("{}: the header is {}, expected a JSON object", path_, found);
    if (depth_ == 1) fail("{}: the header's entry {} is {}, expected an object", path_, quotable(key_), found);
    if (in_metadata_) fail("{}: the metadata {} is {}, expected a string", path_, quotable(key_), found);
    fail("{}: tensor {} has {} as its {}, expected {}", path_, entries_.back().name, found, key_,
         key_ == "dtype" ? "the name of a type" : "a list of whole numbers from 0 on");
  }

  std::string path_;
  std::map<std::string, std::string>& metadata_;
  std::vector<Entry> entries_;
  std::set<std::string> names_;
  std::string key_;
  std::vector<uint64_t>* list_ = nullptr;  // the list being read
  int depth_ = 0;
  bool in_metadata_ = false, seen_metadata_ = false;
};

// The tensor an entry describes, without its bytes, and the place of these.
TensorView checked_tensor(const std::string& path, const HeaderReader::Entry& entry, uint64_t data_size,
                          ByteRange& range) {
  TensorView tensor;
  tensor.name = entry.name;
  auto type = type_called(entry.dtype);
  require(type.has_value(),
          "{}: tensor {} has dtype {}, expected one of F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL", path,
          entry.name, quotable(entry.dtype));
  tensor.dtype = *type;
  for (uint64_t dimension : entry.shape) {
    require(dimension <= static_cast<uint64_t>(INT64_MAX), "{}: tensor {} has a dimension of {}, more than 2^63-1",
            path, entry.name, dimension);
    tensor.shape.push_back(static_cast<int64_t>(dimension));
  }
  require(entry.offsets.size() == 2, "{}: tensor {} has {} data_offsets, expected 2", path, entry.name,
          entry.offsets.size());
  range = {entry.offsets[0], entry.offsets[1]};
  require(range.begin <= range.end, "{}: tensor {} ends at byte {}, before its begin at byte {}", path, entry.name,
          range.end, range.begin);
  require(range.end <= data_size,
          "{}: tensor {} ends at byte {} of the data, but the file has only {} (is it cut off?)", path, entry.name,
          range.end, data_size);
  auto bytes = tensor_bytes(tensor.dtype, tensor.shape);
  require(bytes.has_value(), "{}: tensor {} has shape {}, more elements than 64 bits can count", path, entry.name,
          shape_text(tensor.shape));
  require(*bytes == range.end - range.begin,
          "{}: tensor {} of dtype {} and shape {} takes {} bytes, its data_offsets give {}", path, entry.name,
          entry.dtype, shape_text(tensor.shape), *bytes, range.end - range.begin);
  return tensor;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : file_(path) {
  auto bytes = file_.bytes();
  const std::string name = path.string();
  refuse_git_lfs_pointer(path, bytes);
  require(bytes.size() >= 8, "{}: not a safetensors file: {} bytes, expected at least 8", name, bytes.size());
  uint64_t header_size = 0;
  std::memcpy(&header_size, bytes.data(), 8);
  require(header_size <= kLongestHeader,
          "{}: not a safetensors file: its header would be {} bytes long, the limit is {}", name, header_size,
          kLongestHeader);
  require(header_size <= bytes.size() - 8, "{}: the header is {} bytes long, but only {} follow (is the file cut off?)",
          name, header_size, bytes.size() - 8);
  const char* header = reinterpret_cast<const char*>(bytes.data()) + 8;
  require(header_size > 0 && header[0] == '{', "{}: not a safetensors file: its header does not begin with {{", name);

  HeaderReader reader(path, metadata_);
  json::sax_parse(header, header + header_size, &reader);
  auto data = bytes.subspan(8 + header_size);
  std::vector<TensorView> tensors;
  std::vector<ByteRange> ranges;
  for (const auto& entry : reader.entries()) {
    ByteRange range;
    tensors.push_back(checked_tensor(name, entry, data.size(), range));
    ranges.push_back(range);
  }
  uint64_t end = 0;
  for (size_t i : order_without_overlap(path, tensors, ranges)) {
    require(ranges[i].begin == end, "{}: {} bytes before tensor {} belong to no tensor", name, ranges[i].begin - end,
            tensors[i].name);
    end = ranges[i].end;
    tensors[i].bytes = data.subspan(ranges[i].begin, ranges[i].end - ranges[i].begin);
    index_[tensors[i].name] = tensors_.size();
    tensors_.push_back(std::move(tensors[i]));
  }
  require(end == data.size(), "{}: {} bytes after the last tensor belong to no tensor", name, data.size() - end);
}

const TensorView* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(std::string(name));
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

void write_safetensors(const std::filesystem::path& path, const std::vector<TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return block_bytes(tensors[a].dtype) > block_bytes(tensors[b].dtype); });
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[std::string(kMetadata)] = metadata;
  std::set<std::string> names;
  uint64_t end = 0;
  for (size_t i : order) {
    const auto& tensor = tensors[i];
    require(is_valid_name(tensor.name) && tensor.name != kMetadata && names.insert(tensor.name).second,
            "{}: cannot write a tensor called {}: the name is not valid or stands twice", path.string(),
            quotable(tensor.name));
    auto bytes = tensor_bytes(tensor.dtype, tensor.shape);
    require(!is_quantized(tensor.dtype) && bytes == tensor.bytes.size(),
            "{}: cannot write tensor {}: dtype {} and shape {} do not fit its {} bytes", path.string(), tensor.name,
            dtype_name(tensor.dtype), shape_text(tensor.shape), tensor.bytes.size());
    header[tensor.name] = {
        {"dtype", dtype_name(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {end, end + *bytes}}};
    end += *bytes;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const json::exception&) {
    fail("{}: cannot write the metadata: it is not valid UTF-8", path.string());
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  uint64_t header_size = text.size();
  AtomicFile file(path);
  file.write(&header_size, sizeof header_size);
  file.write(text);
  for (size_t i : order) file.write(tensors[i].bytes.data(), tensors[i].bytes.size());
  file.commit();
}

}  // namespace cepe
