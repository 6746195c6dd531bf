// Event files against those that TensorBoard's own classes write (tests/golden/tensorboard/record.py), and what a
// restart leaves for a reader. The reader of messages here is protozero's, the frames are read by hand.
#include "train/run/event_file.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <protozero/pbf_reader.hpp>
#include <sstream>

#include "base/error.h"
#include "base/file.h"
#include "base/temporary_directory.h"
#include "train/step_log.h"

namespace cepe {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;

const fs::path kGolden = CEPE_TEST_DATA "/tensorboard";

std::vector<nlohmann::json> records_of(const fs::path& log) {
  std::istringstream lines(read_file(log));
  std::vector<nlohmann::json> records;
  for (std::string line; std::getline(lines, line);) records.push_back(nlohmann::json::parse(line));
  return records;
}

struct ReadEvent {
  int64_t step = 0;
  bool start = false;
  std::vector<Scalar> scalars;
  float value(const std::string& tag) const {
    for (const Scalar& scalar : scalars) {
      if (scalar.tag == tag) return scalar.value;
    }
    ADD_FAILURE() << "no " << tag;
    return 0;
  }
};

Scalar read_scalar(protozero::pbf_reader value) {
  Scalar scalar;
  while (value.next()) {
    if (value.tag() == 1) {
      scalar.tag = value.get_string();
    } else {
      EXPECT_EQ(value.tag(), 2u);
      scalar.value = value.get_float();
    }
  }
  return scalar;
}

// Without checksums, which the golden compares. A record that was cut off ends the file, as in TensorBoard's reader.
std::vector<ReadEvent> events_of(const fs::path& file) {
  const std::string bytes = read_file(file);
  std::vector<ReadEvent> events;
  for (size_t at = 0; at + 12 <= bytes.size();) {
    uint64_t length = 0;
    std::memcpy(&length, bytes.data() + at, sizeof(length));
    if (at + 16 + length > bytes.size()) break;
    protozero::pbf_reader message(bytes.data() + at + 12, length);
    at += 16 + length;
    ReadEvent event;
    while (message.next()) {
      if (message.tag() == 2) {
        event.step = message.get_int64();
      } else if (message.tag() == 5) {
        protozero::pbf_reader summary = message.get_message();
        while (summary.next(1)) event.scalars.push_back(read_scalar(summary.get_message()));
      } else if (message.tag() == 7) {
        protozero::pbf_reader session = message.get_message();
        event.start = session.next(1) && session.get_enum() == 1;
      } else {
        message.skip();
      }
    }
    events.push_back(event);
  }
  return events;
}

std::vector<fs::path> event_files(const fs::path& directory) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.path().filename().string().find("tfevents") != std::string::npos) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

// What TensorBoard shows of the directory: a start forgets what was there of its step and of those after it.
std::vector<int64_t> steps_shown(const fs::path& directory, const std::string& tag) {
  std::vector<int64_t> steps;
  for (const fs::path& file : event_files(directory)) {
    for (const ReadEvent& event : events_of(file)) {
      if (event.start) std::erase_if(steps, [&](int64_t step) { return step >= event.step; });
      for (const Scalar& scalar : event.scalars) {
        if (scalar.tag == tag) steps.push_back(event.step);
      }
    }
  }
  return steps;
}

void take_steps(StepLog& log, int64_t first, int64_t last) {
  for (int64_t step = first; step <= last; ++step) {
    log.submit({step, 1e-3, 1000, 1e9}, {.all = at::full({}, 1.0 / static_cast<double>(step))}, at::ones({}));
  }
  log.flush();
}

TEST(Crc32c, AgreesWithTensorBoardAndTheStandard) {
  for (const nlohmann::json& pair : nlohmann::json::parse(read_file(kGolden / "crc32c.json"))) {
    EXPECT_EQ(crc32c(pair[0].get<std::string>()), pair[1].get<uint32_t>()) << pair[0];
  }
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62A8AB43u);  // RFC 3720, B.4
}

TEST(EventFile, HasTheBytesThatTensorBoardWrites) {
  const TemporaryDirectory directory;
  EventFile file(directory.path(), 1, [] { return 1764530000.25; });
  for (const nlohmann::json& record : records_of(kGolden / "log.jsonl")) file.write(record);
  EXPECT_EQ(file.path().filename(), "events.out.tfevents.1764530000.cepe");
  EXPECT_EQ(read_file(file.path()), read_file(kGolden / "events.tfevents"));
}

TEST(EventFile, LaterFilesComeLaterWhateverTheClockSays) {
  const TemporaryDirectory directory;
  EXPECT_FALSE(has_event_file(directory.path()));
  double now = 2000000000;
  std::vector<std::string> names;
  for (const double clock : {2000000000.0, 2000000000.5, 1900000000.0, 2000000100.0}) {
    now = clock;
    names.push_back(EventFile(directory.path(), 1, [&] { return now; }).path().filename().string());
  }
  EXPECT_TRUE(has_event_file(directory.path()));
  EXPECT_TRUE(std::is_sorted(names.begin(), names.end())) << testing::PrintToString(names);
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
  const std::string message = error_of<Error>([&] { EventFile(directory / "absent", 1); });
  EXPECT_THAT(message, testing::HasSubstr("absent/events.out.tfevents."));
}

TEST(ScalarsOf, WhatIsNotOfCepeIsLeftOut) {
  const nlohmann::json record = {{"step", 1}, {"loss", nullptr}, {"note", "text"}, {"validation", {1, {{"loss", 2}}}}};
  const std::vector<Scalar> scalars = scalars_of(record);
  ASSERT_EQ(scalars.size(), 1u);
  EXPECT_EQ(scalars[0].tag, "train/loss");
  EXPECT_TRUE(std::isnan(scalars[0].value));
  const nlohmann::json damaged = {
      {"step", 1}, {"ask_validation", {{{"domain", std::string("a\xff")}, {"samples", 1}, {"exact", 0.5}}}}};
  EXPECT_EQ(scalars_of(damaged).at(0).tag, "ask_validation/exact/a\\xff");
}

// The second sitting goes on after step 3 of 5; the first was cut off within a record.
TEST(StepLogEvents, AResumedRunHasEachStepOnce) {
  const TemporaryDirectory directory;
  const StepLogOptions options{directory / "log.jsonl", at::kCPU, 6};
  ValidationResult result;
  result.samples = {{"needle", 8, 0.5, 0.625, {}}};
  {
    StepLog log(options, 0);
    take_steps(log, 1, 5);
    log.validation(5, result, 1.0);
  }
  const std::string cut = read_file(event_files(directory.path()).front());
  write_file(event_files(directory.path()).front(), cut.substr(0, cut.size() - 7));
  {
    StepLog log(options, 3);
    take_steps(log, 4, 6);
    log.validation(6, result, 1.0);
  }
  const std::vector<fs::path> files = event_files(directory.path());
  ASSERT_EQ(files.size(), 2u);
  EXPECT_EQ(events_of(files[1]).at(1).step, 4);
  EXPECT_THAT(steps_shown(directory.path(), "train/loss"), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_THAT(steps_shown(directory.path(), "ask_validation/exact/needle"), ElementsAre(6));
  EXPECT_FLOAT_EQ(events_of(files[1]).back().value("ask_validation/exact/needle"), 0.625);
  // A run from before there were event files, or one whose were removed: its steps are written from the log.
  for (const fs::path& file : files) fs::remove(file);
  {
    StepLog log(options, 4);
  }
  EXPECT_THAT(steps_shown(directory.path(), "train/loss"), ElementsAre(1, 2, 3, 4));
  {
    StepLog log(options, 4);
  }  // a sitting without a step leaves none
  EXPECT_EQ(event_files(directory.path()).size(), 1u);
}

}  // namespace
}  // namespace cepe
