// A run's curves for TensorBoard: what log.jsonl says, as scalars in an event file of the run's directory.
//
// The format is TensorFlow's (tensorflow/core/lib/io/record_writer.h, core/util/event.proto, framework/summary.proto):
// a record is the length (u64) and its checksum (u32), then a message Event in protobuf's encoding and its checksum,
// all little-endian. A checksum is a CRC32C, masked. No C++ library writes these files without TensorFlow; protozero,
// which is headers alone, writes the messages.
#pragma once

#include <cstdio>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace cepe {

// CRC-32C (Castagnoli, RFC 3720), of "123456789" 0xE3069283.
uint32_t crc32c(std::string_view bytes);

struct Scalar {
  std::string tag;
  float value = 0;  // NaN where the log holds null
};
// The scalars of a record of log.jsonl, each named after its key there:
//   of a step        train/loss, train/gradient_norm, ...; speed/tokens_per_second, speed/mfu, ...
//   of a validation  validation/reading_gain/books, ask_validation/exact/needle, with the sizes of contexts
//                    ask_validation_by_chunks/exact/needle/16; speed/validation_seconds
std::vector<Scalar> scalars_of(const nlohmann::json& record);

double unix_seconds();

class EventFile {
 public:
  // Makes a new file in the directory, events.out.tfevents.SECONDS.cepe, whose name comes after those of the event
  // files that are there: TensorBoard reads them in this order. It begins with the sign that the run (re)starts, at
  // which readers forget what earlier files hold of `first_step` and the steps after it. What a crash cut off at the
  // end of an earlier file is passed over by readers. Error: the file cannot be made or written.
  EventFile(const std::filesystem::path& directory, int64_t first_step, std::function<double()> clock = unix_seconds);
  ~EventFile();
  EventFile(const EventFile&) = delete;
  EventFile& operator=(const EventFile&) = delete;

  // Writes the scalars of a record of log.jsonl, as one event; they are in the file (not yet on the disk) when it
  // returns. Error: the file cannot be written.
  void write(const nlohmann::json& record);
  const std::filesystem::path& path() const { return path_; }

 private:
  void append(const std::string& event);
  std::filesystem::path path_;
  std::function<double()> clock_;
  std::FILE* file_ = nullptr;
};

// True where the directory holds an event file.
bool has_event_file(const std::filesystem::path& directory);

}  // namespace cepe
