// Methods of strings, lists and mappings.
#include <algorithm>
#include <array>
#include <optional>

#include "base/error.h"
#include "text/jinja/arguments.h"
#include "text/jinja/builtins.h"
#include "text/jinja/format.h"
#include "text/jinja/string.h"
#include "text/utf8.h"

namespace cepe::jinja {
namespace {

template <size_t N>
bool one_of(std::string_view name, const std::array<std::string_view, N>& names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

constexpr std::array<std::string_view, 36> kStringMethods = {
    "capitalize", "center",  "count",      "endswith",  "find",         "format",       "index",      "isalnum",
    "isalpha",    "isascii", "isdecimal",  "isdigit",   "islower",      "isspace",      "isupper",    "join",
    "ljust",      "lower",   "lstrip",     "partition", "removeprefix", "removesuffix", "replace",    "rfind",
    "rindex",     "rjust",   "rpartition", "rsplit",    "rstrip",       "split",        "splitlines", "startswith",
    "strip",      "title",   "upper",      "zfill"};
constexpr std::array<std::string_view, 5> kMapMethods = {"copy", "get", "items", "keys", "values"};
constexpr std::array<std::string_view, 3> kListMethods = {"copy", "count", "index"};
constexpr std::array<std::string_view, 11> kRefusedStringMethods = {
    "casefold",    "encode",  "expandtabs", "format_map", "isidentifier", "isnumeric",
    "isprintable", "istitle", "maketrans",  "swapcase",   "translate"};
constexpr std::array<std::string_view, 8> kRefusedListMethods = {"append", "clear",  "extend",  "insert",
                                                                 "pop",    "remove", "reverse", "sort"};
constexpr std::array<std::string_view, 6> kRefusedMapMethods = {"clear",   "fromkeys",   "pop",
                                                                "popitem", "setdefault", "update"};

Value call_map_method(std::string_view name, const Value& object, const Arguments& arguments) {
  if (name == "get") {
    const auto bound = bind(arguments, {"key", "default"});
    const Value& key = needed(bound[0], "key");
    const Value* found = key.is(Kind::kString) ? object.find(key.string()) : nullptr;
    return found ? *found : bound[1].value_or(Value(None{}));
  }
  bind(arguments, {});
  if (name == "copy") return object;
  List out;
  for (const auto& [key, item] : object.map()) {
    if (name == "keys") out.emplace_back(key);
    if (name == "values") out.push_back(item);
    if (name == "items") out.emplace_back(List{Value(key), item}, Sequence::tuple);
  }
  return Value(std::move(out), Sequence::view);
}

Value call_list_method(std::string_view name, const Value& object, const Arguments& arguments) {
  if (name == "copy") {
    bind(arguments, {});
    return object;
  }
  const auto bound = bind(arguments, {"value"});
  const Value& wanted = needed(bound[0], "value");
  const List& items = object.list();
  const auto same = [&](const Value& item) { return equal(item, wanted); };
  if (name == "count") return static_cast<int64_t>(std::count_if(items.begin(), items.end(), same));
  const auto found = std::find_if(items.begin(), items.end(), same);
  require(found != items.end(), "index finds no such value in the list");
  return static_cast<int64_t>(found - items.begin());
}

Value strip_call(const std::string& text, const Arguments& arguments, Sides sides) {
  const auto bound = bind(arguments, {"chars"});
  if (!given(bound[0])) return std::string(strip(text, sides));
  return std::string(strip(text, sides, string_argument(*bound[0], "the characters to strip")));
}

// text[start:end] where a method takes them, and where that begins.
struct Part {
  std::string text;
  int64_t begin = 0;
};
Part part_of(const std::string& text, const std::optional<Value>& start, const std::optional<Value>& end) {
  if (!given(start) && !given(end)) return {text};
  const int64_t size = length(Value(text));
  int64_t begin = given(start) ? integer_argument(*start, "the start of a search") : 0;
  if (begin < 0) begin = std::max<int64_t>(begin + size, 0);
  SliceBounds bounds;
  bounds.start = begin;
  if (given(end)) bounds.stop = integer_argument(*end, "the end of a search");
  return {slice(Value(text), bounds).string(), begin};
}

// True when the text begins (or ends) with the argument, or with one of them where it is a tuple.
bool has_affix(const std::string& text, const Arguments& arguments, bool at_end) {
  const auto bound = bind(arguments, {"affix", "start", "end"});
  const Value& affix = needed(bound[0], "affix");
  const std::string part = part_of(text, bound[1], bound[2]).text;
  const auto matches = [&](const Value& v) {
    const std::string& s = string_argument(v, "a prefix or suffix");
    return at_end ? part.ends_with(s) : part.starts_with(s);
  };
  if (!affix.is_sequence(Sequence::tuple)) return matches(affix);
  return std::any_of(affix.list().begin(), affix.list().end(), matches);
}

Value to_list(std::vector<std::string> parts) {
  List out;
  for (std::string& part : parts) out.emplace_back(std::move(part));
  return out;
}

Value split_call(std::string_view name, const std::string& text, const Arguments& arguments) {
  if (name == "splitlines") return to_list(split_lines(text, is_true(bind(arguments, {"keepends"})[0])));
  const auto bound = bind(arguments, {"sep", "maxsplit"});
  const int64_t most = integer_or(bound[1], -1, "the number of splits");
  if (given(bound[0])) {
    const std::string& separator = string_argument(*bound[0], "a separator");
    return to_list(name == "split" ? split(text, separator, most) : split_from_right(text, separator, most));
  }
  require(name == "split" || most < 0, "rsplit at white space with a number of splits is not supported");
  return to_list(split_at_space(text, most));
}

// find, rfind, index, rindex and count.
Value search_call(std::string_view name, const std::string& text, const Arguments& arguments) {
  const auto bound = bind(arguments, {"sub", "start", "end"});
  const std::string& wanted = string_argument(needed(bound[0], "sub"), "what is looked for");
  const Part part = part_of(text, bound[1], bound[2]);
  if (name == "count") {
    require(!wanted.empty(), "counting an empty string is not supported");
    int64_t count = 0;
    for (size_t at = 0; (at = part.text.find(wanted, at)) != std::string::npos; at += wanted.size()) ++count;
    return count;
  }
  const size_t at = name[0] == 'r' ? part.text.rfind(wanted) : part.text.find(wanted);
  require(at != std::string::npos || name.ends_with("find"), "{} finds no \"{}\"", name, wanted);
  return at == std::string::npos ? int64_t{-1} : part.begin + length(Value(part.text.substr(0, at)));
}

Value partition_call(bool from_right, const std::string& text, const Arguments& arguments) {
  const auto bound = bind(arguments, {"sep"});
  const std::string& separator = string_argument(needed(bound[0], "sep"), "a separator");
  require(!separator.empty(), "the separator of partition is empty");
  const size_t at = from_right ? text.rfind(separator) : text.find(separator);
  List out;
  if (at != std::string::npos) {
    out = {text.substr(0, at), separator, text.substr(at + separator.size())};
  } else {
    out = from_right ? List{"", "", text} : List{text, "", ""};
  }
  return Value(std::move(out), Sequence::tuple);
}

Value pad_call(std::string_view name, const std::string& text, const Arguments& arguments) {
  const auto bound = bind(arguments, {"width", "fillchar"});
  const int64_t width = integer_argument(needed(bound[0], "width"), "a width");
  if (name == "zfill") {
    const bool has_sign = !text.empty() && (text[0] == '-' || text[0] == '+');
    const std::string sign = text.substr(0, has_sign ? 1 : 0);
    return sign + pad(text.substr(sign.size()), width - static_cast<int64_t>(sign.size()), Align::right, "0");
  }
  const std::string fill = bound[1] ? string_argument(*bound[1], "the fill") : " ";
  require(length(Value(fill)) == 1, "the fill of {} must be one character", name);
  const Align align = name == "center" ? Align::center : name == "ljust" ? Align::left : Align::right;
  return pad(text, width, align, fill);
}

Value without_affix(bool prefix, const std::string& text, const Arguments& arguments) {
  const auto bound = bind(arguments, {"affix"});
  const std::string& affix = string_argument(needed(bound[0], "affix"), "a prefix or suffix");
  if (prefix) return text.starts_with(affix) ? text.substr(affix.size()) : text;
  return text.ends_with(affix) ? text.substr(0, text.size() - affix.size()) : text;
}

Value replace_call(const std::string& text, const Arguments& arguments) {
  const auto bound = bind(arguments, {"old", "new", "count"});
  return replace(text, string_argument(needed(bound[0], "old"), "what is replaced"),
                 string_argument(needed(bound[1], "new"), "what replaces it"),
                 integer_or(bound[2], -1, "the number of replacements"));
}

Value join_call(const std::string& text, const Arguments& arguments) {
  std::string out;
  bool first = true;
  for (const Value& item : elements(needed(bind(arguments, {"iterable"})[0], "iterable"))) {
    if (!first) out += text;
    first = false;
    out += string_argument(item, "each part of join");
    require_text_size(out.size());
  }
  return out;
}

Value call_string_method(std::string_view name, const std::string& text, const Arguments& arguments) {
  if (name == "strip") return strip_call(text, arguments, Sides::kBoth);
  if (name == "lstrip") return strip_call(text, arguments, Sides::kLeft);
  if (name == "rstrip") return strip_call(text, arguments, Sides::kRight);
  if (name == "split" || name == "rsplit" || name == "splitlines") return split_call(name, text, arguments);
  if (name == "startswith") return has_affix(text, arguments, false);
  if (name == "endswith") return has_affix(text, arguments, true);
  if (name == "replace") return replace_call(text, arguments);
  if (name == "join") return join_call(text, arguments);
  if (name == "format") return brace_format(text, arguments);
  if (name == "count" || name.ends_with("find") || name.ends_with("index")) return search_call(name, text, arguments);
  if (name.ends_with("partition")) return partition_call(name[0] == 'r', text, arguments);
  if (name == "removeprefix" || name == "removesuffix") return without_affix(name == "removeprefix", text, arguments);
  if (name == "center" || name.ends_with("just") || name == "zfill") return pad_call(name, text, arguments);
  bind(arguments, {});
  if (name == "lower") return lower(text);
  if (name == "upper") return upper(text);
  if (name == "title") return title(text);
  if (name == "capitalize") return capitalize(text);
  return consists_of(name.substr(2), text);  // "is..."
}

}  // namespace

bool is_refused_method(std::string_view name) {
  return one_of(name, kRefusedStringMethods) || one_of(name, kRefusedListMethods) || one_of(name, kRefusedMapMethods);
}

Value call_method(std::string_view name, const Value& object, const Arguments& arguments) {
  if (object.is(Kind::kUndefined)) fail("{}", object.undefined().what);
  if (object.is(Kind::kString) && one_of(name, kStringMethods)) {
    return call_string_method(name, object.string(), arguments);
  }
  if (object.is(Kind::kMap) && one_of(name, kMapMethods)) return call_map_method(name, object, arguments);
  const bool list = object.is_sequence(Sequence::list), tuple = object.is_sequence(Sequence::tuple);
  if ((list || (tuple && name != "copy")) && one_of(name, kListMethods)) {
    return call_list_method(name, object, arguments);
  }
  fail("{} has no method \"{}\"", kind_name(object.kind()), name);
}

bool names_method(const Value& value, std::string_view name) {
  switch (value.kind()) {
    case Kind::kMap: return one_of(name, kMapMethods) || one_of(name, kRefusedMapMethods);
    case Kind::kString: return one_of(name, kStringMethods) || one_of(name, kRefusedStringMethods);
    case Kind::kList: return one_of(name, kListMethods) || one_of(name, kRefusedListMethods);
    default: return false;
  }
}

}  // namespace cepe::jinja
