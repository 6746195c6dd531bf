// How a benchmark is named, shown and kept.
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/report.h"
#include "speed/bench.h"

namespace cepe {
namespace {

using nlohmann::json;
using Kind = BenchTest::Kind;

// Three digits that count: "0.0123", "4.56", "78.9", "1,234".
std::string three_digits(double value) {
  if (value <= 0) return "0";
  if (value >= 999.5) return format_count(static_cast<uint64_t>(std::llround(value)));
  const int whole = static_cast<int>(std::floor(std::log10(value) + 1e-4));
  return fmt::format("{:.{}f}", value, std::clamp(2 - whole, 0, 9));
}

std::string contexts_name(const BenchCase& what) {
  if (what.test.context == 0 || what.batch == 1) return "-";
  return what.shared ? "shared" : "separate";
}

std::string escaped(const std::string& cell) {
  if (cell.find_first_of(",\"\n") == std::string::npos) return cell;
  std::string quoted = "\"";
  for (const char c : cell) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

json record_json(const BenchRecord& record, const Ceilings& ceilings) {
  const BenchCase& what = record.what;
  json out = {{"test", what.test.name()},
              {"batch", what.batch},
              {"context_tokens", what.test.context},
              {"contexts", what.contexts()},
              {"form", record.form.empty() ? json() : json(record.form)}};
  if (!record.failure.empty()) {
    out["failure"] = record.failure;
    return out;
  }
  const PeakShare peak = peak_share(record, ceilings);
  out["ms"] = 1e3 * record.median_seconds;
  out["ms_repetitions"] = json::array();
  for (const double seconds : record.seconds) out["ms_repetitions"].push_back(1e3 * seconds);
  out["tokens_per_second"] = record.tokens_per_second;
  out["operations_per_second"] = record.operations_per_second;
  out["bytes_per_second"] = record.bytes_per_second;
  out["share_of_peak"] = peak.share;
  out["nearest_peak"] = peak.by_bytes ? "bytes" : "operations";
  out["peak_memory_bytes"] = record.peak_bytes;
  out["context_token_bytes"] = record.context_token_bytes > 0 ? json(record.context_token_bytes) : json();
  return out;
}

std::vector<std::string> table_row(const BenchRecord& record, const Ceilings& ceilings) {
  const std::string form = record.form.empty() ? "-" : record.form;
  const std::string token = record.context_token_bytes > 0 ? format_count(record.context_token_bytes) : "-";
  std::vector<std::string> row = {record.what.test.name(), std::to_string(record.what.batch),
                                  contexts_name(record.what), form};
  if (!record.failure.empty()) {
    row.insert(row.end(), {record.failure, "-", "-", "-", "-", "-", token});
    return row;
  }
  const PeakShare peak = peak_share(record, ceilings);
  row.insert(row.end(),
             {three_digits(1e3 * record.median_seconds), three_digits(record.tokens_per_second),
              three_digits(1e-12 * record.operations_per_second), three_digits(1e-9 * record.bytes_per_second),
              fmt::format("{:.0f} % {}", 100 * peak.share, peak.by_bytes ? "bytes" : "operations"),
              format_bytes(record.peak_bytes), token});
  return row;
}

}  // namespace

std::string BenchTest::name() const {
  switch (kind) {
    case Kind::encode: return fmt::format("enc{}", context);
    case Kind::prefill: return fmt::format("pp{}@c{}", tokens, context);
    case Kind::score: return fmt::format("score{}@c{}", tokens, context);
    case Kind::generate: return fmt::format("tg{}@c{}", tokens, context);
  }
  return {};
}

std::string bench_heading(const BenchReport& report) {
  const auto line = [](const char* name, const std::string& value) { return fmt::format("{:<9} {}\n", name, value); };
  const Ceilings& peak = report.ceilings;
  std::string chunks;
  if (report.chunk_length > 0) chunks = fmt::format(", chunks of {} tokens", report.chunk_length);
  return line("model", fmt::format("{}: {} parameters, {}{}", report.model, format_count(report.parameters),
                                   format_bytes(report.weight_bytes), chunks)) +
         line("device", fmt::format("{}, {}", report.device, report.dtype)) +
         line("peak", fmt::format("{} TFLOP/s (one large matrix product), {} GB/s (one large copy, read and written)",
                                  three_digits(1e-12 * peak.operations_per_second),
                                  three_digits(1e-9 * peak.bytes_per_second)));
}

std::string bench_table(const BenchReport& report) {
  Table table({"test", "batch", "contexts", "form", "ms", "tokens/s", "TFLOP/s", "GB/s", "of peak", "peak memory",
               "bytes/context token"});
  bool writes = false;
  for (const BenchRecord& record : report.records) {
    table.add_row(table_row(record, report.ceilings));
    writes |= record.what.test.kind == Kind::generate;
  }
  const BenchOptions& options = report.options;
  std::string note = fmt::format("ms: median of {} after {} for warm-up", options.repetitions, options.warmup);
  if (writes) {
    note += fmt::format("; of tg, for one token of each sequence, after a window of {}", options.window_tokens);
  }
  return table.str() + note + "\n";
}

std::string bench_csv(const BenchReport& report) {
  std::string out =
      "model,device,dtype,test,batch,contexts,form,ms,ms_min,ms_max,tokens_per_second,tflops,gbytes_per_second,"
      "share_of_peak,nearest_peak,peak_tflops,peak_gbytes_per_second,peak_memory_bytes,context_token_bytes,failure\n";
  const Ceilings& ceilings = report.ceilings;
  for (const BenchRecord& record : report.records) {
    const BenchCase& what = record.what;
    out += fmt::format("{},{},{},{},{},{},{},", escaped(report.model), escaped(report.device), report.dtype,
                       what.test.name(), what.batch, what.contexts(), record.form);
    if (record.failure.empty()) {
      const auto [least, most] = std::minmax_element(record.seconds.begin(), record.seconds.end());
      const PeakShare peak = peak_share(record, ceilings);
      out += fmt::format("{:.6g},{:.6g},{:.6g},{:.6g},{:.6g},{:.6g},{:.4g},{},", 1e3 * record.median_seconds,
                         1e3 * *least, 1e3 * *most, record.tokens_per_second, 1e-12 * record.operations_per_second,
                         1e-9 * record.bytes_per_second, peak.share, peak.by_bytes ? "bytes" : "operations");
    } else {
      out += ",,,,,,,,";
    }
    out +=
        fmt::format("{:.6g},{:.6g},{},{},{}\n", 1e-12 * ceilings.operations_per_second,
                    1e-9 * ceilings.bytes_per_second, record.failure.empty() ? std::to_string(record.peak_bytes) : "",
                    record.context_token_bytes > 0 ? std::to_string(record.context_token_bytes) : "", record.failure);
  }
  return out;
}

std::string bench_json(const BenchReport& report) {
  json out = {{"version", report.version},
              {"model", report.model},
              {"parameters", report.parameters},
              {"weight_bytes", report.weight_bytes},
              {"chunk_length", report.chunk_length > 0 ? json(report.chunk_length) : json()},
              {"device", report.device},
              {"dtype", report.dtype},
              {"peak",
               {{"operations_per_second", report.ceilings.operations_per_second},
                {"bytes_per_second", report.ceilings.bytes_per_second}}},
              {"window_tokens", report.options.window_tokens},
              {"repetitions", report.options.repetitions},
              {"warmup", report.options.warmup},
              {"records", json::array()}};
  for (const BenchRecord& record : report.records) out["records"].push_back(record_json(record, report.ceilings));
  return out.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace cepe
