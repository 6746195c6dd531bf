#include "apps/encode_files.h"

#include <optional>

#include "base/report.h"
#include "context/encode_context.h"
#include "context/read_context.h"

namespace cepe {

EncodedFiles encode_files(const OpenedModel& opened, const std::vector<std::string>& files, bool int8,
                          const std::function<void()>& check) {
  constexpr size_t kQuick = 64;  // chunks
  const std::vector<TextChunk> chunks = read_context(opened, {files.begin(), files.end()});
  if (chunks.empty()) return {};
  std::optional<Progress> bar;
  if (chunks.size() > kQuick) bar.emplace("encoding the context", static_cast<int64_t>(chunks.size()));
  const double started = seconds_now();
  Context context = encode_context(opened.model, chunks, {.int8 = int8, .progress = [&](int64_t count) {
                                                            if (bar) bar->advance(count);
                                                            if (check) check();
                                                          }});
  return {std::move(context), seconds_now() - started};
}

}  // namespace cepe
