#include "io/sharded_source.h"

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "io/json_file.h"
#include "io/layout.h"

namespace cepe {
namespace {

using NamesByFile = std::map<std::string, std::set<std::string>>;

NamesByFile read_weight_map(const std::filesystem::path& index_json) {
  const std::string where = index_json.string();
  const nlohmann::json index = read_json(index_json);
  require(index.is_object() && index.contains("weight_map") && index["weight_map"].is_object(),
          "{}: has no object weight_map that names each tensor's file", where);
  NamesByFile names;
  for (const auto& [tensor, file] : index["weight_map"].items()) {
    require(is_valid_name(tensor) && file.is_string(), "{}: weight_map: the file of tensor {} is not a string", where,
            quotable(tensor));
    const auto file_name = file.get<std::string>();
    // A plain name: an index must not reach outside of its directory.
    const bool plain = file_name.find('/') == std::string::npos && file_name != "." && file_name != "..";
    require(is_valid_name(file_name) && plain,
            "{}: weight_map: the file of tensor {} is {}, expected a file name without a directory", where, tensor,
            quotable(file_name));
    names[file_name].insert(tensor);
  }
  require(!names.empty(), "{}: its weight_map names no tensor", where);
  return names;
}

}  // namespace

ShardedSource::ShardedSource(const std::filesystem::path& index_json, const OpenShard& open) : path_(index_json) {
  for (const auto& [file_name, wanted] : read_weight_map(index_json)) {
    const TensorSource& shard = *shards_.emplace_back(open(index_json.parent_path() / file_name));
    for (const std::string& tensor : wanted) {
      require(shard.find(tensor) != nullptr, "{}: names tensor {} in {}, which does not have it", index_json.string(),
              tensor, file_name);
    }
    for (const TensorView& view : shard.tensors()) {
      if (!wanted.count(view.name)) continue;
      index_[view.name] = tensors_.size();
      tensors_.push_back(view);
    }
  }
}

const TensorView* ShardedSource::find(std::string_view name) const {
  const auto found = index_.find(std::string(name));
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

}  // namespace cepe
