#include "tasks/json_members.h"

#include "base/error.h"

namespace cepe {

using nlohmann::json;

const json& json_member(const json& object, const char* name, json::value_t type, const std::string& where) {
  require(object.is_object(), "{}: expected a JSON object with \"{}\", found a JSON {}", where, name,
          object.type_name());
  const auto found = object.find(name);
  require(found != object.end(), "{}: \"{}\" is missing", where, name);
  require(found->type() == type, "{}: expected \"{}\" to be a JSON {}, found a JSON {}", where, name,
          json(type).type_name(), found->type_name());
  return *found;
}

std::string json_text_of(const json& object, const char* name, const std::string& where) {
  return json_member(object, name, json::value_t::string, where).get<std::string>();
}

const json& json_list_of(const json& object, const char* name, const std::string& where) {
  return json_member(object, name, json::value_t::array, where);
}

std::string json_optional_text(const json& object, const char* name, const std::string& where) {
  const auto found = object.find(name);
  if (found == object.end() || found->is_null()) return "";
  require(found->is_string(), "{}: expected \"{}\" to be a JSON string, found a JSON {}", where, name,
          found->type_name());
  return found->get<std::string>();
}

std::vector<std::string> json_texts(const json& list, const char* name, const std::string& where) {
  require(list.is_array(), "{}: expected \"{}\" to be a JSON array, found a JSON {}", where, name, list.type_name());
  std::vector<std::string> texts;
  for (const json& text : list) {
    require(text.is_string(), "{}: expected \"{}\" to hold JSON strings, found a JSON {}", where, name,
            text.type_name());
    texts.push_back(text.get<std::string>());
  }
  return texts;
}

}  // namespace cepe
