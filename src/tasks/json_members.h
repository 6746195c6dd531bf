// Members of JSON objects that must be there. `where` is the file and the place in it, for errors.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace cepe {

// The member that must be there and of the type; Error naming the place, the member and what was found.
const nlohmann::json& json_member(const nlohmann::json& object, const char* name, nlohmann::json::value_t type,
                                  const std::string& where);
std::string json_text_of(const nlohmann::json& object, const char* name, const std::string& where);
const nlohmann::json& json_list_of(const nlohmann::json& object, const char* name, const std::string& where);
// The text of a member that may be absent or null: empty then.
std::string json_optional_text(const nlohmann::json& object, const char* name, const std::string& where);
// The texts of a list, which the messages call by the name.
std::vector<std::string> json_texts(const nlohmann::json& list, const char* name, const std::string& where);

}  // namespace cepe
