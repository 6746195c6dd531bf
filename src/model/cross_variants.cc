#include "model/cross_variants.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace cepe {
namespace {

using Json = nlohmann::json;

// Calls visit(name, field) for every field: reading, writing and refusing share it.
template <typename Variants, typename Visit>
void visit_fields(Variants& v, Visit&& visit) {
  visit("layers", v.layers);
  visit("query_log_scale", v.query_log_scale);
  visit("query_log_tokens", v.query_log_tokens);
  visit("null_key", v.null_key);
  visit("position_buckets", v.position_buckets);
  visit("position_states", v.position_states);
  visit("pooling", v.pooling);
}

bool is_of_type(const Json& value, const std::vector<int64_t>&) {
  return value.is_array() &&
         std::all_of(value.begin(), value.end(), [](const Json& n) { return n.is_number_integer(); });
}
bool is_of_type(const Json& value, double) { return value.is_number(); }
bool is_of_type(const Json& value, int64_t) { return value.is_number_integer(); }
bool is_of_type(const Json& value, bool) { return value.is_boolean(); }

void check_range(const std::string& where, const char* name, int64_t value, int64_t least) {
  constexpr int64_t kLargest = int64_t{1} << 30;
  require(value >= least && value <= kLargest, "{}: {} should be {} to {}, found {}", where, name, least, kLargest,
          value);
}

}  // namespace

double query_factor(const CrossVariants& v, int64_t states) {
  if (states <= v.query_log_tokens) return 1;
  return 1 + v.query_log_scale * std::log(static_cast<double>(states) / static_cast<double>(v.query_log_tokens));
}

int64_t position_bucket(const CrossVariants& v, int64_t steps) {
  const int64_t last = v.position_buckets - 1, exact = v.position_buckets / 2;
  if (steps < exact) return steps;
  const double grown = std::log(static_cast<double>(steps) / static_cast<double>(exact)) /
                       std::log(static_cast<double>(kMostPositionSteps) / static_cast<double>(exact));
  const double bucket = grown * static_cast<double>(v.position_buckets - exact) + kRoundingSlack;
  return std::min(last, exact + static_cast<int64_t>(bucket));
}

Json cross_variants_to_json(const CrossVariants& variants) {
  Json all = Json::object();
  visit_fields(variants, [&](const char* name, const auto& field) { all[name] = field; });
  return all;
}

CrossVariants cross_variants_from_json(const Json& json, const std::string& where) {
  CrossVariants variants;
  require(json.is_object(), "{}: \"cross_attention\" should be an object, found {}", where, json.type_name());
  size_t known = 0;
  visit_fields(variants, [&](const char* name, auto& field) {
    if (!json.contains(name)) return;
    require(is_of_type(json[name], field), "{}: \"cross_attention\": \"{}\" cannot be {}", where, name,
            json[name].dump());
    json[name].get_to(field);
    ++known;
  });
  if (known == json.size()) return variants;
  for (const auto& item : json.items()) {
    const std::string& name = item.key();  // no structured binding: clang 16 captures none where OpenMP is on
    bool found = false;
    visit_fields(variants, [&](const char* field, const auto&) { found = found || name == field; });
    require(found, "{}: \"cross_attention\": \"{}\" is not known, and might change what the model computes", where,
            name);
  }
  return variants;
}

void check_cross_variants(const CrossVariants& v, int64_t decoder_layers, const std::string& where) {
  for (size_t i = 0; i < v.layers.size(); ++i) {
    require(v.layers[i] >= 0 && v.layers[i] < decoder_layers && (i == 0 || v.layers[i - 1] < v.layers[i]),
            "{}: layers with cross-attention should ascend from 0 to at most {}, found {} in place {}", where,
            decoder_layers - 1, v.layers[i], i);
  }
  require(std::isfinite(v.query_log_scale) && v.query_log_scale >= 0 && v.query_log_scale <= 100,
          "{}: query_log_scale should be 0 to 100, found {}", where, v.query_log_scale);
  check_range(where, "query_log_tokens", v.query_log_tokens, 1);
  check_range(where, "position_states", v.position_states, 1);
  check_range(where, "pooling", v.pooling, 1);
  require(v.position_buckets == 0 || (v.position_buckets >= 2 && v.position_buckets <= kMostPositionSteps),
          "{}: position_buckets should be 0 or 2 to {}, found {}", where, kMostPositionSteps, v.position_buckets);
}

}  // namespace cepe
