#include "report/evaluation_page.h"

#include <algorithm>

#include "base/error.h"
#include "base/json_text.h"
#include "base/report.h"
#include "report/html.h"
#include "report/tag_columns.h"

namespace cepe {
namespace {

HtmlCell error_cell(const std::optional<double>& error) { return error ? percent_cell(*error) : HtmlCell{""}; }

std::string results_table(const std::vector<RunResult>& results) {
  if (results.empty()) return "";
  std::vector<RunTags> tags;
  for (const RunResult& result : results) tags.push_back(result.tags);
  const TagColumns columns = tag_columns(tags);
  const bool units =
      std::any_of(results.begin(), results.end(), [](const RunResult& result) { return !result.unit.empty(); });
  std::vector<std::string> header = columns.names;
  header.insert(header.end(), {"score", units ? "value" : "value (%)", "standard error", "± (95 %)", "n"});
  HtmlTable table(header);
  for (const RunResult& result : results) {
    std::vector<HtmlCell> row;
    for (const std::string& name : columns.names) row.push_back(tag_cell(result.tags, name));
    row.push_back({result.score});
    row.push_back(value_cell(result, units));
    row.push_back(error_cell(result.standard_error));
    row.push_back(error_cell(result.half_width));
    row.push_back({fmt::format("{}", result.examples), static_cast<double>(result.examples)});
    table.add_row(std::move(row));
  }
  const std::string same = columns.same.empty() ? "" : "<p>In every row: " + html_text(columns.same) + ".</p>\n";
  return same + table.str();
}

std::string configuration_table(const nlohmann::json& configuration) {
  HtmlTable table({"setting", "value"});
  for (const auto& [name, value] : configuration.items()) {
    table.add_row({{name}, {value.is_string() ? value.get<std::string>() : json_text(value)}});
  }
  return html_folded("Configuration", table.str());
}

// Right: every score is 1; wrong: every score is 0.
const char* verdict(const RunExample& example) {
  const auto all = [&](auto holds) {
    return std::all_of(example.scores.begin(), example.scores.end(), [&](const auto& s) { return holds(s.second); });
  };
  if (example.scores.empty()) return "partly";
  return all([](double value) { return value >= 1; }) ? "right"
         : all([](double v) { return v <= 0; })       ? "wrong"
                                                      : "partly";
}

std::string example_article(const RunExample& example) {
  std::string tags, scores, references;
  for (const auto& [name, value] : example.tags) tags += (tags.empty() ? "" : ", ") + name + " " + value;
  for (const auto& [name, value] : example.scores) scores += fmt::format("{} {:.1f} %; ", name, 100 * value);
  for (const std::string& reference : example.references) references += "<pre>" + html_text(reference) + "</pre>";
  const char* kind = verdict(example);
  return fmt::format(
      "<article class=\"example {0}\"><h4>{1} <em>{0}</em></h4>\n<p>{2}</p>\n"
      "<div class=\"pair\"><div><h5>prediction</h5><pre>{3}</pre></div>"
      "<div><h5>references</h5>{4}</div></div>\n"
      "<p>{5}{6} context tokens, {7} of the prompt, {8} of the answer, ended by: {9}</p></article>\n",
      kind, html_text(example.id), html_text(tags), html_text(example.prediction), references, html_text(scores),
      example.context_tokens, example.prompt_tokens, example.answer_tokens, html_text(example.stop_reason));
}

// Windows of eval lm, which have losses and no answers.
std::string windows_part(const EvaluationRun& run) {
  HtmlTable table({"window", "domain", "read by", "context", "context tokens", "loss (nats a token)"});
  for (const RunExample& example : run.samples) {
    const double loss = example.scores.at("loss");
    table.add_row({{example.id},
                   tag_cell(example.tags, "domain"),
                   tag_cell(example.tags, "reader"),
                   tag_cell(example.tags, "context"),
                   tag_cell(example.tags, "tokens"),
                   {fmt::format("{:.4f}", loss), loss}});
  }
  return html_folded(fmt::format("Windows: {} of {}", run.samples.size(), run.examples), table.str());
}

std::string examples_part(const EvaluationRun& run) {
  if (run.samples.empty()) return "";
  if (!run.samples.front().answered) return windows_part(run);
  std::string html = "<div class=\"examples\" data-show=\"all\">\n<p class=\"filter\">";
  for (const char* kind : {"all", "right", "partly", "wrong"}) {
    html += fmt::format("<button type=\"button\" data-show=\"{0}\">{0}</button> ", kind);
  }
  html +=
      "<input type=\"search\" placeholder=\"with these words\" aria-label=\"with these words\"></p>\n"
      "<p>Right: every score is 1. Wrong: every score is 0.</p>\n";
  for (const RunExample& example : run.samples) html += example_article(example);
  return html_folded(fmt::format("Examples: {} of {}", run.samples.size(), run.examples), html + "</div>\n");
}

// A sentence on what was run; the configuration holds the rest.
std::string what_was_run(const EvaluationRun& run) {
  const auto text = [&](const char* name) {
    const auto value = run.configuration.find(name);
    return value != run.configuration.end() && value->is_string() ? value->get<std::string>() : std::string("?");
  };
  std::string line =
      fmt::format("cepe {} of {}, {}, {}: {} examples", text("command"), text("model"), text("device"), text("dtype"),
                  format_count(static_cast<uint64_t>(std::max<int64_t>(run.examples, 0))));
  if (!run.finished) return line + " so far. The run has not ended: there is no results.json.";
  line += fmt::format(" in {}, {} at the peak", format_seconds(run.seconds), format_bytes(run.peak_memory_bytes));
  if (run.resumed > 0)
    line += fmt::format("; {} of the examples are from earlier runs, which the time leaves out", run.resumed);
  return line + ".";
}

}  // namespace

std::string evaluation_section(const EvaluationRun& run) {
  std::string html = fmt::format("<section id=\"{}\"><h2>{}</h2>\n<p>{}</p>\n<p class=\"path\">{}</p>\n", run.anchor,
                                 html_text(run.name), html_text(what_was_run(run)), html_text(run.directory.string()));
  html += results_table(run.results);
  std::string details_name = run.details_name;
  std::replace(details_name.begin(), details_name.end(), '_', ' ');
  if (!run.details.empty()) html += html_folded("Results " + details_name, results_table(run.details));
  for (const RunPlot& plot : run.plots) html += html_image(plot.svg, run.name + ": " + plot.file);
  return html + configuration_table(run.configuration) + examples_part(run) + "</section>\n";
}

}  // namespace cepe
