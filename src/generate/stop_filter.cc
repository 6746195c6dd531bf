#include "generate/stop_filter.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "text/utf8.h"

namespace cepe {

StopFilter::StopFilter(std::vector<std::string> stops) : stops_(std::move(stops)) {
  for (const std::string& stop : stops_) {
    require(!stop.empty(), "stop string: an empty one would end every text before it begins");
    require(find_invalid_utf8(stop) == std::string_view::npos, "stop string: not valid UTF-8");
  }
}

std::string StopFilter::push(std::string_view text) {
  if (stopped_) return "";
  pending_ += text;
  size_t begin = std::string::npos, end = std::string::npos;
  for (const std::string& stop : stops_) {
    const size_t found = pending_.find(stop);
    if (found == std::string::npos) continue;
    if (const size_t stop_end = found + stop.size(); stop_end < end || (stop_end == end && found < begin)) {
      begin = found;
      end = stop_end;
    }
  }
  stopped_ = end != std::string::npos;
  const size_t shown = stopped_ ? begin : pending_.size() - held_back();
  std::string out = pending_.substr(0, shown);
  if (stopped_) {
    pending_.clear();
  } else {
    pending_.erase(0, shown);
  }
  return out;
}

std::string StopFilter::finish() { return std::exchange(pending_, ""); }

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
