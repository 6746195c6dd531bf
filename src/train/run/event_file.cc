#include "train/run/event_file.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <limits>
#include <optional>
#include <protozero/pbf_writer.hpp>
#include <set>

#include "base/error.h"
#include "base/report.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "events.out.tfevents.";

// Numbers of fields, as event.proto and summary.proto give them.
enum class EventField : protozero::pbf_tag_type {
  wall_time = 1,
  step = 2,
  file_version = 3,
  summary = 5,
  session_log = 7
};
enum class SessionField : protozero::pbf_tag_type { status = 1 };
enum class SummaryField : protozero::pbf_tag_type { value = 1 };
enum class ValueField : protozero::pbf_tag_type { tag = 1, simple_value = 2 };
constexpr int32_t kSessionStart = 1;

template <typename Field>
constexpr protozero::pbf_tag_type number(Field field) {
  return static_cast<protozero::pbf_tag_type>(field);
}

constexpr std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ (value & 1 ? 0x82F63B78u : 0);
    table[byte] = value;
  }
  return table;
}

// A checksum of bytes that hold checksums themselves says little, so that the format rotates and shifts it.
uint32_t masked_crc(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8u;
}

template <typename Number>
std::string little_endian(Number value) {
  std::string bytes;
  for (size_t i = 0; i < sizeof(value); ++i) bytes += static_cast<char>(value >> (8 * i) & 0xFF);
  return bytes;
}

// In the file's name; nothing where it is no event file.
std::optional<int64_t> seconds_in_name(const std::string& name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  int64_t seconds = 0;
  const char* end = name.data() + name.size();
  std::from_chars(name.data() + kPrefix.size(), end, seconds);
  return seconds;
}

std::optional<int64_t> newest_event_file(const fs::path& directory) {
  std::optional<int64_t> newest;
  std::error_code unreadable;  // making the file says why
  for (const auto& entry : fs::directory_iterator(directory, unreadable)) {
    if (const auto seconds = seconds_in_name(entry.path().filename().string())) {
      newest = std::max(newest.value_or(0), *seconds);
    }
  }
  return newest;
}

bool is_scalar(const nlohmann::json& value) { return value.is_number() || value.is_null(); }

float number_of(const nlohmann::json& value) {
  return value.is_null() ? std::numeric_limits<float>::quiet_NaN() : value.get<float>();
}

// Loss, gradient and learning rate say how the run learns; the rest of a step's record how fast it is.
std::string tag_of_step(const std::string& key) {
  const bool learns = key.starts_with("loss") || key == "gradient_norm" || key == "learning_rate";
  return (learns ? "train/" : "speed/") + key;
}

void add_row(std::vector<Scalar>& scalars, const std::string& kind, const nlohmann::json& row) {
  static const std::set<std::string> names = {"domain", "samples", "chunks"};
  if (!row.is_object() || !row.value("domain", nlohmann::json()).is_string()) return;
  const std::string domain = printable(row["domain"].get<std::string>());  // a tag must be UTF-8
  const std::string size = row.contains("chunks") ? fmt::format("/{}", row["chunks"].dump()) : "";
  for (const auto& [key, value] : row.items()) {
    if (!names.contains(key) && is_scalar(value))
      scalars.push_back({fmt::format("{}/{}/{}{}", kind, key, domain, size), number_of(value)});
  }
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> table = crc_table();
  uint32_t crc = 0xFFFFFFFFu;
  for (const char byte : bytes) crc = table[(crc ^ static_cast<uint8_t>(byte)) & 0xFF] ^ (crc >> 8);
  return ~crc;
}

std::vector<Scalar> scalars_of(const nlohmann::json& record) {
  std::vector<Scalar> scalars;
  const bool is_step = record.contains("loss");
  for (const auto& [key, value] : record.items()) {
    if (value.is_array()) {
      for (const nlohmann::json& row : value) add_row(scalars, key, row);
    } else if (key != "step" && is_scalar(value)) {
      scalars.push_back({is_step ? tag_of_step(key) : "speed/validation_" + key, number_of(value)});
    }
  }
  return scalars;
}

double unix_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

bool has_event_file(const fs::path& directory) { return newest_event_file(directory).has_value(); }

EventFile::EventFile(const fs::path& directory, int64_t first_step, std::function<double()> clock)
    : clock_(std::move(clock)) {
  // A clock that was set back must not put the new file before the old ones.
  const auto newest = newest_event_file(directory);
  const int64_t seconds = std::max(static_cast<int64_t>(clock_()), newest ? *newest + 1 : 0);
  path_ = directory / fmt::format("{}{}.cepe", kPrefix, seconds);
  file_ = std::fopen(path_.c_str(), "wxe");
  require(file_ != nullptr, "{}: cannot make the event file: {}", path_.string(), std::strerror(errno));
  std::string version, start, session;
  protozero::pbf_writer version_writer(version), start_writer(start), session_writer(session);
  version_writer.add_double(number(EventField::wall_time), clock_());
  version_writer.add_string(number(EventField::file_version), "brain.Event:2");
  session_writer.add_enum(number(SessionField::status), kSessionStart);
  start_writer.add_double(number(EventField::wall_time), clock_());
  start_writer.add_int64(number(EventField::step), first_step);
  start_writer.add_message(number(EventField::session_log), session);
  append(version);
  append(start);
}

EventFile::~EventFile() {
  if (file_) std::fclose(file_);
}

void EventFile::write(const nlohmann::json& record) {
  std::string event, summary;
  protozero::pbf_writer summary_writer(summary), event_writer(event);
  for (const Scalar& scalar : scalars_of(record)) {
    protozero::pbf_writer value(summary_writer, number(SummaryField::value));
    value.add_string(number(ValueField::tag), scalar.tag);
    value.add_float(number(ValueField::simple_value), scalar.value);
  }
  if (summary.empty()) return;
  event_writer.add_double(number(EventField::wall_time), clock_());
  event_writer.add_int64(number(EventField::step), record.at("step").get<int64_t>());
  event_writer.add_message(number(EventField::summary), summary);
  append(event);
}

void EventFile::append(const std::string& event) {
  const std::string length = little_endian(static_cast<uint64_t>(event.size()));
  const std::string bytes = length + little_endian(masked_crc(length)) + event + little_endian(masked_crc(event));
  const bool written = std::fwrite(bytes.data(), 1, bytes.size(), file_) == bytes.size() && std::fflush(file_) == 0;
  require(written, "{}: cannot write the event file: {}", path_.string(), std::strerror(errno));
}

}  // namespace cepe
