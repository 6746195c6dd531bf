#include "generate/stop_filter.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "text/utf8.h"

namespace cepe {
namespace {

constexpr std::string_view kSpace = " \t\r\n\v\f";

}  // namespace

StopFilter::StopFilter(std::vector<std::string> stops, LeadingSpace leading)
    : stops_(std::move(stops)), leading_(leading == LeadingSpace::dropped) {
  for (const std::string& stop : stops_) {
    require(!stop.empty(), "stop string: an empty one would end every text before it begins");
    require(find_invalid_utf8(stop) == std::string_view::npos, "stop string: not valid UTF-8");
  }
}

std::string StopFilter::push(std::string_view text) {
  if (stopped_) return "";
  pending_ += text;
  const size_t text_begin = leading_ ? pending_.find_first_not_of(kSpace) : 0;
  size_t begin = std::string::npos, end = std::string::npos;
  for (const std::string& stop : stops_) {
    const bool space = stop.find_first_not_of(kSpace) == std::string::npos;
    const size_t found =
        space && text_begin == std::string::npos ? text_begin : pending_.find(stop, space ? text_begin : 0);
    if (found == std::string::npos) continue;
    if (const size_t stop_end = found + stop.size(); stop_end < end || (stop_end == end && found < begin)) {
      begin = found;
      end = stop_end;
    }
  }
  stopped_ = end != std::string::npos;
  const size_t ready = stopped_ ? begin : pending_.size() - held_back();
  std::string out = shown(pending_.substr(0, ready));
  if (stopped_) {
    pending_.clear();
  } else {
    pending_.erase(0, ready);
  }
  return out;
}

std::string StopFilter::finish() { return shown(std::exchange(pending_, "")); }

std::string StopFilter::shown(std::string text) {
  if (!leading_) return text;
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string::npos) return "";
  leading_ = false;
  return text.substr(first);
}

size_t StopFilter::held_back() const {
  size_t held = 0;
  for (const std::string& stop : stops_) {
    for (size_t size = std::min(stop.size() - 1, pending_.size()); size > held; --size) {
      if (std::string_view(pending_).ends_with(std::string_view(stop).substr(0, size))) held = size;
    }
  }
  return held;
}

}  // namespace cepe
