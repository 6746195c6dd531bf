#include "io/pickle_file.h"

#include <cstring>

#include "base/error.h"
#include "io/layout.h"
#include "io/unpickler.h"

namespace cepe {
namespace {

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The records of the archive, after what else a file of this name may be.
ZipRecords records_of(const MappedFile& file) {
  const std::string where = file.path().string();
  refuse_git_lfs_pointer(file.path(), file.bytes());
  const std::string_view text = text_of(file.bytes());
  // The number 0x1950a86a20f9469cfc6c in protocol 2, with which torch.save began before torch 1.6.
  require(!text.starts_with("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."),
          "{}: written in torch.save's format of before torch 1.6, which is not read: load it with a later torch and "
          "save it again, best as safetensors",
          where);
  require(text.starts_with("PK\x03\x04"),
          "{}: not a checkpoint of torch.save: expected a zip archive, or model.safetensors in the file's place",
          where);
  return read_zip_records(file.path(), file.bytes());
}

// "archive" of the record "archive/data.pkl".
std::string_view archive_name(const ZipRecords& records, const std::string& where) {
  constexpr std::string_view kPickle = "/data.pkl";
  for (const auto& [name, bytes] : records) {
    if (name.ends_with(kPickle) && name.find('/') == name.size() - kPickle.size())
      return name.substr(0, name.size() - kPickle.size());
  }
  fail("{}: not a checkpoint of torch.save: the zip archive holds no data.pkl", where);
}

// Whether the last element lies within the storage; false too where that passes 64 bits.
bool fits(const PickledTensor& tensor) {
  int64_t last = tensor.offset;
  for (size_t i = 0; i < tensor.shape.size(); ++i) {
    int64_t reach = 0;
    if (tensor.shape[i] == 0) return true;
    if (__builtin_mul_overflow(tensor.shape[i] - 1, tensor.stride[i], &reach) ||
        __builtin_add_overflow(last, reach, &last))
      return false;
  }
  return last < tensor.storage_elements;
}

bool contiguous(const PickledTensor& tensor) {
  int64_t expected = 1;
  for (size_t i = tensor.shape.size(); i-- > 0;) {
    if (tensor.shape[i] != 1 && tensor.stride[i] != expected) return false;
    expected *= tensor.shape[i];
  }
  return true;
}

}  // namespace

PickleFile::PickleFile(const std::filesystem::path& path) : file_(path) {
  const std::string where = path.string();
  const ZipRecords records = records_of(file_);
  const std::string archive(archive_name(records, where));
  if (const auto order = records.find(archive + "/byteorder"); order != records.end()) {
    require(text_of(order->second) == "little", "{}: its numbers are {}-endian, expected little", where,
            quotable(text_of(order->second)));
  }
  for (const PickledTensor& tensor : read_pickled_tensors(where, records.at(archive + "/data.pkl"))) {
    const auto storage = records.find(archive + "/data/" + tensor.storage);
    require(storage != records.end(), "{}: tensor {} lies in the record data/{}, which is missing", where, tensor.name,
            quotable(tensor.storage));
    const auto size = tensor_bytes(tensor.dtype, {tensor.storage_elements});
    require(size == storage->second.size(),
            "{}: tensor {} lies in a storage of {} elements of {}, its record has {} bytes", where, tensor.name,
            tensor.storage_elements, dtype_name(tensor.dtype), storage->second.size());
    index_[tensor.name] = tensors_.size();
    tensors_.push_back(view_of(tensor, storage->second));
  }
}

TensorView PickleFile::view_of(const PickledTensor& tensor, std::span<const std::byte> storage) {
  const std::string where = path().string();
  const auto bytes = tensor_bytes(tensor.dtype, tensor.shape);
  require(bytes.has_value(), "{}: tensor {} has shape {}, more elements than 64 bits can count", where, tensor.name,
          shape_text(tensor.shape));
  TensorView view{tensor.name, tensor.dtype, tensor.shape, {}};
  if (*bytes == 0) return view;
  require(fits(tensor) && *bytes <= storage.size(),
          "{}: tensor {} of shape {}, stride {} and offset {} reaches past its storage of {} elements", where,
          tensor.name, shape_text(tensor.shape), shape_text(tensor.stride), tensor.offset, tensor.storage_elements);
  view.bytes = contiguous(tensor)
                   ? storage.subspan(static_cast<uint64_t>(tensor.offset) * block_bytes(tensor.dtype), *bytes)
                   : copy_of(tensor, storage, *bytes);
  return view;
}

std::span<const std::byte> PickleFile::copy_of(const PickledTensor& tensor, std::span<const std::byte> storage,
                                               uint64_t bytes) {
  copied_ += bytes;
  require(copied_ <= file_.bytes().size(), "{}: its tensors that are not contiguous take more bytes than the file",
          path().string());
  std::vector<std::byte>& copy = copies_.emplace_back(bytes);
  const size_t element = block_bytes(tensor.dtype), rank = tensor.shape.size();
  std::vector<int64_t> place(rank, 0);
  int64_t from = tensor.offset;
  for (size_t to = 0; to < bytes; to += element) {
    std::memcpy(copy.data() + to, storage.data() + static_cast<size_t>(from) * element, element);
    // The next place in row-major order.
    for (size_t i = rank; i-- > 0;) {
      if (tensor.shape[i] == 1) continue;  // its stride may be anything
      from += tensor.stride[i];
      if (++place[i] < tensor.shape[i]) break;
      from -= tensor.stride[i] * tensor.shape[i];
      place[i] = 0;
    }
  }
  return copy;
}

const TensorView* PickleFile::find(std::string_view name) const {
  const auto found = index_.find(std::string(name));
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

}  // namespace cepe
