// The page as a browser would read it. The independent readers here: a small scanner of HTML's tokens, and JSON's
// parser.
#include <gmock/gmock.h>

#include <regex>

#include "base/error.h"
#include "report/html.h"
#include "report/page.h"
#include "report/run_files.h"

namespace cepe {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

size_t count_of(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

// Names of the elements that the page opens, and of their attributes, by HTML's rules for well-formed tags: every "<"
// of the text begins a tag, and every attribute's value is quoted. The bodies of style and script are passed over as a
// browser does: to the first end tag.
struct Markup {
  std::map<std::string, size_t> elements;
  std::set<std::string> attributes;
};

Markup markup_of(const std::string& html) {
  static const std::regex tag(R"rx(^<(/?[A-Za-z!][A-Za-z0-9]*)((\s+[A-Za-z][A-Za-z0-9:-]*(="[^"<]*")?)*)\s*/?>)rx");
  static const std::regex attribute(R"rx(([A-Za-z][A-Za-z0-9:-]*)(="[^"]*")?)rx");
  Markup markup;
  for (size_t at = html.find('<'); at != std::string::npos; at = html.find('<', at)) {
    const std::string head = html.substr(at, std::min(html.find('>', at) - at + 1, html.size() - at));
    std::smatch match;
    if (!std::regex_search(head, match, tag)) {
      ADD_FAILURE() << "not a well-formed tag: " << head.substr(0, 200);
      return markup;
    }
    const std::string name = match[1], attributes = match[2];
    ++markup.elements[name];
    for (std::sregex_iterator i(attributes.begin(), attributes.end(), attribute), end; i != end; ++i) {
      markup.attributes.insert((*i)[1]);
    }
    at += head.size();
    if (name == "script" || name == "style") at = html.find("</" + name, at);
  }
  return markup;
}

class ReportPageTest : public testing::Test {
 protected:
  std::filesystem::path evaluation(const std::string& name, const json& values, const std::vector<json>& samples) {
    write_evaluation(directory_ / name, values, samples);
    return directory_ / name;
  }
  std::filesystem::path training(const std::string& name, const std::string& log, const std::string& configuration) {
    write_text(directory_ / name / "log.jsonl", log);
    write_text(directory_ / name / "config.toml", configuration);
    return directory_ / name;
  }
  TemporaryDirectory directory_;
};

TEST_F(ReportPageTest, HostileTextStaysText) {
  const std::string hostile = "</script><script>alert(1)</script><img src=x onerror=\"a\"> ' \" & <!-- \x1b[2J \x07";
  const std::string damaged = "cut \xe2\x82 \xff end";
  json values = results(hostile, {result({{"task", hostile}, {"other" + hostile, "1"}}, hostile, 0.5),
                                  result({{"task", "x"}, {"other" + hostile, "2"}}, "em", 0.5)});
  values["by_answerable"] = values["results"];
  values["configuration"][hostile] = hostile;
  json bad = sample(hostile, {{hostile, hostile}}, hostile, 0);
  bad["references"] = {hostile};
  bad["stop_reason"] = hostile;
  bad["scores"][hostile] = 0.5;
  const auto first = evaluation("a<b>&\"'", values, {bad});
  write_text(first / "plot.svg", "<svg onload=\"alert(1)\"><script>alert(2)</script></svg>" + damaged);
  // What json_text() would have mended: the bytes as another program may have left them.
  std::string line = sample("damaged", {{"task", "x"}}, "PLACE", 0).dump();
  line.replace(line.find("PLACE"), 5, damaged);
  write_text(first / "samples.jsonl", read_file(first / "samples.jsonl") + line + "\n");
  const auto second = evaluation("b", values, {});
  json asked = {{"domain", hostile}, {"samples", 4}, {"loss", 0.3}, {"exact", 0.8}};
  json read = {{"domain", hostile}, {"samples", 4}, {"loss_context", 1}, {"loss_no_context", 2}, {"reading_gain", 0.1}};
  json masked = {{"domain", hostile}, {"samples", 4}, {"loss", 0.3}, {"accuracy", 0.8}};
  const json validations = {
      {"step", 1}, {"seconds", 1}, {"validation", {read}}, {"ask_validation", {asked}}, {"text_validation", {masked}}};
  const auto third =
      training("c", step(1, 2.0).dump() + "\n" + validations.dump() + "\n", "[train]\n# " + hostile + damaged + "\n");

  const ReportPage page = make_report({{first, second, third}, 50});
  EXPECT_EQ(json::parse(json(page.html).dump()).get<std::string>(), page.html) << "not UTF-8";  // dump() throws
  for (const char c : page.html) ASSERT_TRUE(static_cast<unsigned char>(c) >= 0x20 || c == '\n') << int(c);
  const Markup markup = markup_of(page.html);
  EXPECT_EQ(markup.elements.at("script"), 1u);  // the page's own
  EXPECT_EQ(markup.elements.at("/script"), 1u);
  EXPECT_EQ(markup.elements.at("img"), 1u);  // plot.svg
  EXPECT_FALSE(markup.elements.contains("b"));
  EXPECT_FALSE(markup.elements.contains("!"));  // a comment
  for (const std::string& name : markup.attributes) EXPECT_FALSE(name.starts_with("on")) << name;
  for (const char* both : {"section", "table", "details", "article", "svg", "pre", "div", "p", "h4", "g", "text"}) {
    EXPECT_EQ(markup.elements.at(both), markup.elements.at(std::string("/") + both)) << both;
  }
  EXPECT_THAT(page.html, HasSubstr("<pre>&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x "
                                   "onerror=&quot;a&quot;&gt; &#39; &quot; &amp; &lt;!-- \\x1b[2J \\x07</pre>"));
  EXPECT_THAT(page.html, HasSubstr("<pre>cut \xef\xbf\xbd \xef\xbf\xbd end</pre>"));
  EXPECT_THAT(page.html, HasSubstr("cut \\xe2\\x82 \\xff end"));  // of config.toml
}

TEST_F(ReportPageTest, LoadsNothingFromOutside) {
  const auto run = evaluation("a", results("tiny", {result({{"task", "squad"}}, "em", 0.5)}), {});
  write_text(run / "plot.svg", "<svg/>");
  const std::string html = make_report({{run}, 50}).html;
  EXPECT_THAT(html, HasSubstr("src=\"data:image/svg+xml;base64,PHN2Zy8+\""));
  EXPECT_FALSE(std::regex_search(html, std::regex("(src|href)=\"(?!data:|#)")));
  EXPECT_FALSE(std::regex_search(html, std::regex("@import|url\\(|<link|fetch\\(|XMLHttp|https?://")));
  // The policy admits the script that is there, by the hash that a browser computes of it.
  const size_t begin = html.find("<script>") + 8;
  const std::string script = html.substr(begin, html.find("</script>") - begin);
  const Sha256Digest digest = sha256_digest(script);
  EXPECT_THAT(html, HasSubstr("default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-" +
                              base64({reinterpret_cast<const char*>(digest.data()), digest.size()}) + "'\""));
}

TEST(HtmlText, ShowsWhatTurnsTheDirectionOfWriting) {
  EXPECT_EQ(html_text("a\u202ab\u202ec\u2066d\u2069"), "a\\u202ab\\u202ec\\u2066d\\u2069");
  for (const char* text : {"\u2029\u202f\u2065\u206a\u200f", "\u05d0\u0627 caf\u00e9", "", "\u20ac"}) {
    EXPECT_EQ(html_text(text), text);
  }
  EXPECT_EQ(html_text("1\n2\t\x7f<'"), "1\n2\\t\\x7f&lt;&#39;");
}

TEST(Base64, AgreesWithTheStandardsExamples) {  // RFC 4648, section 10
  const std::pair<const char*, const char*> cases[] = {{"", ""},
                                                       {"f", "Zg=="},
                                                       {"fo", "Zm8="},
                                                       {"foo", "Zm9v"},
                                                       {"foob", "Zm9vYg=="},
                                                       {"fooba", "Zm9vYmE="},
                                                       {"foobar", "Zm9vYmFy"},
                                                       {"\xff\xfe\xfd", "//79"}};
  for (const auto& [bytes, text] : cases) EXPECT_EQ(base64(bytes), text);
}

TEST_F(ReportPageTest, ShowsWhatWasRunItsResultsAndExamples) {
  const Tags one = {{"task", "squad"}, {"encoder", "1"}}, five = {{"task", "squad"}, {"encoder", "5"}};
  json values = results("tiny", {result(one, "em", 0.3), result(five, "em", 0.2766)});
  values["results"][1]["standard_error"] = nullptr;
  const auto run = evaluation(
      "a", values,
      {sample("s/1", one, "right one", 1), sample("s/2", one, "wrong one", 0), sample("s/3", five, "half", 0.5)});
  const ReportPage page = make_report({{run}, 50});
  EXPECT_EQ(page.evaluations, 1u);
  EXPECT_EQ(page.examples, 3u);
  EXPECT_THAT(page.html, HasSubstr("cepe eval qa of tiny, cpu, float32: 900 examples in 76 s, 907 MB at the peak."));
  EXPECT_THAT(page.html, HasSubstr("<p>In every row: task squad.</p>"));
  EXPECT_THAT(page.html, HasSubstr("<tr><td class=\"number\" data-value=\"1\">1</td><td>em</td><td class=\"number\" "
                                   "data-value=\"0.3\">30.0</td><td class=\"number\" data-value=\"0.023\">2.3</td>"));
  EXPECT_THAT(page.html, HasSubstr("data-value=\"0.2766\">27.7</td><td></td>"));
  EXPECT_THAT(page.html, HasSubstr("Examples: 3 of 900"));
  EXPECT_THAT(page.html, HasSubstr("<article class=\"example right\"><h4>s/1"));
  EXPECT_THAT(page.html, HasSubstr("<article class=\"example wrong\"><h4>s/2"));
  EXPECT_THAT(page.html, HasSubstr("<article class=\"example partly\"><h4>s/3"));
  EXPECT_THAT(page.html, Not(HasSubstr("Side by side")));
  EXPECT_EQ(make_report({{run}, 2}).examples, 2u);
  EXPECT_EQ(make_report({{run}, 50}).html, page.html);
}

// Results of eval lm: perplexities are no shares, costs have units, and windows have losses instead of answers.
TEST_F(ReportPageTest, WindowsHaveLossesAndResultsUnits) {
  const Tags tags = {{"domain", "books"}, {"reader", "yarn"}, {"context", "own"}, {"tokens", "6144"}};
  json perplexity = result(tags, "perplexity", 27.071), rate = result(tags, "tokens_per_second", 8192.4);
  json memory = result(tags, "peak_memory", 1.5e9);
  json odd = result(tags, "working_memory", -1e300);  // what a file says need not be a size
  perplexity["unit"] = "perplexity", rate["unit"] = "tokens/s", memory["unit"] = odd["unit"] = "bytes";
  json values = results("tiny", {perplexity, result(tags, "change", -0.14)});
  values.erase("by_answerable");
  values["costs"] = json::array({rate, memory, odd});
  json window = sample("book@100, yarn, own, 6144", tags, "", 0);
  window["scores"] = {{"loss", 3.31254}};
  for (const char* answer : {"prediction", "references", "stop_reason", "answer_tokens"}) window.erase(answer);
  const auto run = evaluation("lm", values, {window});
  const std::string html = make_report({{run}, 50}).html;
  EXPECT_THAT(html, HasSubstr("<td>perplexity</td><td class=\"number\" data-value=\"27.071\">27.07</td>"));
  EXPECT_THAT(html, HasSubstr("data-value=\"-0.14\">-14.0 %</td>"));
  EXPECT_THAT(html, HasSubstr(">8192 tokens/s</td>"));
  EXPECT_THAT(html, HasSubstr(">1.50 GB</td>"));
  EXPECT_THAT(html, HasSubstr("Windows: 1 of 900"));
  EXPECT_THAT(html, HasSubstr("data-value=\"3.31254\">3.3125</td>"));
  EXPECT_THAT(html, Not(HasSubstr("value (%)")));
}

// Runs a and b share squad, b and c share hotpot, d is of another command: one table of a, b, c.
TEST_F(ReportPageTest, RunsThatShareResultsStandSideBySide) {
  const Tags squad = {{"task", "squad"}}, hotpot = {{"task", "hotpot"}}, own = {{"task", "own"}};
  const auto a = evaluation("x/a", results("one", {result(squad, "em", 0.111), result(own, "em", 0.999)}), {});
  const auto b = evaluation("y/b", results("two", {result(hotpot, "em", 0.222), result(squad, "em", 0.333)}), {});
  const auto c = evaluation("x/c", results("one", {result(hotpot, "em", 0.444), result(squad, "f1", 0.555)}), {});
  json other = results("one", {result(squad, "em", 0.666)});
  other["configuration"]["command"] = "eval recall";
  const auto d = evaluation("d", other, {});
  const std::string html = make_report({{a, b, c, d}, 50}).html;
  const size_t begin = html.find("<section id=\"side-by-side\">");
  ASSERT_NE(begin, std::string::npos);
  const std::string part = html.substr(begin, html.find("</section>", begin) - begin);
  EXPECT_EQ(count_of(part, "<table>"), 2u);  // the results, and the settings that differ
  EXPECT_THAT(std::regex_replace(part, std::regex("<[^>]*>"), " "),
              testing::ContainsRegex("score \\(%\\) +x/a +y/b +x/c +\n"));
  EXPECT_THAT(part, HasSubstr("<tr><td>squad</td><td>em</td><td class=\"number\" data-value=\"0.111\">11.1 ± 2.3</td>"
                              "<td class=\"number\" data-value=\"0.333\">33.3 ± 2.3</td><td></td></tr>"));
  EXPECT_THAT(part, HasSubstr("<tr><td>hotpot</td><td>em</td><td></td><td class=\"number\" data-value=\"0.222\">"));
  EXPECT_THAT(part, HasSubstr("<tr><td>model</td><td>&quot;one&quot;</td><td>&quot;two&quot;</td>"));
  for (const char* absent : {"99.9", "55.5", "66.6", "<td>seed</td>"}) EXPECT_THAT(part, Not(HasSubstr(absent)));
}

// Losses of one text say nothing beside another's; a task that is named is the same in whatever company it was asked.
TEST_F(ReportPageTest, RunsOnDifferentTextsDoNotStandSideBySide) {
  const auto run = [&](const std::string& name, const Tags& tags, const std::string& hash) {
    json values = results(name, {result(tags, "perplexity", 20)});
    values["configuration"]["data"] = json::array({{{"path", "text.jsonl"}, {"sha256", hash}}, "no object"});
    return evaluation(name, values, {});
  };
  const auto shared = [&](const Tags& tags, const std::string& hash) {
    const auto runs = {run("one", tags, "aa"), run("two", tags, hash)};
    return count_of(make_report({runs, 50}).html, "<section id=\"side-by-side\">");
  };
  const Tags window = {{"reader", "cepe"}, {"tokens", "2048"}}, task = {{"task", "squad"}};
  EXPECT_EQ(shared(window, "aa"), 1u);
  EXPECT_EQ(shared(window, "bb"), 0u);
  EXPECT_EQ(shared(task, "bb"), 1u);
}

TEST_F(ReportPageTest, ATrainingRunHasItsCurves) {
  std::string log;
  for (int i = 1; i <= 200; ++i) {
    json record = step(i, i == 7 ? json() : json(11.0 / i));
    record["loss_text"] = 3.0;
    record["loss_answers"] = 0.5;
    log += record.dump() + "\n";
  }
  const json books = {
      {"domain", "books"}, {"samples", 64}, {"loss_context", 2.5}, {"loss_no_context", 2.75}, {"reading_gain", 0.125}};
  const json needle = {{"domain", "needle"}, {"samples", 40}, {"loss", 0.3}, {"exact", 0.825}};
  const json cloze = {{"domain", "cloze"}, {"samples", 20}, {"loss", 0.3}, {"exact", 0.5}};
  const json all = {{"domain", "all"}, {"samples", 60}, {"loss", 0.3}, {"exact", 0.7}};
  const auto of_size = [](json row, int chunks, int samples, double exact) {
    row.update({{"chunks", chunks}, {"samples", samples}, {"exact", exact}});
    return row;
  };
  const json sizes = {of_size(needle, 1, 30, 0.9), of_size(needle, 16, 10, 0.6), of_size(cloze, 16, 15, 0.4),
                      of_size(all, 1, 35, 0.8), of_size(all, 16, 25, 0.48)};
  for (const int at : {100, 200}) {
    log += json({{"step", at},
                 {"seconds", 1},
                 {"validation", {books}},
                 {"ask_validation", {needle, cloze, all}},
                 {"ask_validation_by_chunks", sizes}})
               .dump() +
           "\n";
  }
  const ReportPage page = make_report({{training("run", log, "[train]\nsteps = 250\n")}, 50});
  EXPECT_EQ(page.trainings, 1u);
  EXPECT_THAT(page.html, HasSubstr("cepe train: 200 of 250 steps, 819,200 tokens, 100 s of steps; last loss 0.0550. "
                                   "Steps left out, whose loss or gradient was not finite: 1."));
  for (const char* title :
       {"Training loss", "Training loss of text and of answers", "Learning rate", "Gradient norm, before clipping",
        "Speed", "Validation loss with context", "Reading gain over another document's context",
        "Samples answered exactly, by kind", "Samples answered exactly, by chunks of context"}) {
    EXPECT_THAT(page.html, HasSubstr(std::string("text-anchor=\"middle\">") + title + "</text>"));
  }
  EXPECT_THAT(page.html, HasSubstr(">mean of 4 steps</text>"));
  EXPECT_THAT(page.html, HasSubstr(">answers, mean of 4 steps</text>"));
  EXPECT_THAT(page.html, HasSubstr("<td>books</td><td class=\"number\" data-value=\"64\">64</td>"));
  EXPECT_THAT(page.html, HasSubstr("data-value=\"12.5\">12.50</td>"));
  EXPECT_THAT(page.html, HasSubstr("data-value=\"82.5\">82.5</td>"));
  EXPECT_THAT(page.html, HasSubstr("<p>After step 200, the last of 2.</p>"));
  EXPECT_THAT(page.html, HasSubstr("data-value=\"60\">60.0 (10)</td>"));
  EXPECT_THAT(page.html, HasSubstr(">5 to 16 chunks</text>"));
  EXPECT_LT(page.html.find("<td>needle</td>"), page.html.find("<td>all</td>"));  // after all kinds
  EXPECT_THAT(page.html, HasSubstr("<pre>[train]\nsteps = 250\n</pre>"));
  EXPECT_THAT(page.html, Not(HasSubstr("Training runs together")));
  // Shares that are all zero stand on an axis that has no negative ones.
  json never = needle;
  never["exact"] = 0.0;
  std::string zeros = step(1, 1.0).dump() + "\n";
  for (const int at : {1, 2}) zeros += json({{"step", at}, {"seconds", 1}, {"ask_validation", {never}}}).dump() + "\n";
  const std::string flat = make_report({{training("flat", zeros, "")}, 50}).html;
  const size_t plot = flat.find(">Samples answered exactly, by kind</text>");
  ASSERT_NE(plot, std::string::npos);
  EXPECT_THAT(flat.substr(plot, flat.find("</svg>", plot) - plot), Not(HasSubstr(">-")));
  // Neither a run without a step nor one of nothing but NaN has a plot to draw.
  const std::string none = make_report({{training("none", "", "")}, 50}).html;
  EXPECT_THAT(none, HasSubstr("cepe train: no step yet."));
  EXPECT_THAT(none, HasSubstr("The log holds no validation."));
  const std::string lost = make_report({{training("lost", step(1, nullptr).dump() + "\n", "")}, 50}).html;
  EXPECT_THAT(lost, Not(HasSubstr(">Training loss</text>")));
  EXPECT_THAT(lost, HasSubstr(">Speed</text>"));
}

TEST_F(ReportPageTest, SeveralTrainingRunsStandInOnePicture) {
  const auto log = [](double gain) {
    std::string lines;
    for (int i = 1; i <= 20; ++i) {
      json record = step(i, 5.0 / i);
      record["seconds_left"] = 30.0 * (20 - i);
      lines += record.dump() + "\n";
    }
    json all = {{"domain", "all"}, {"samples", 8}, {"loss_context", 2}, {"loss_no_context", 3}, {"reading_gain", gain}};
    return lines + json({{"step", 20}, {"seconds", 1}, {"validation", {all}}}).dump() + "\n";
  };
  const auto a = training("x/a", log(0.111), ""),
             b = training("x/b", log(0.222), "[run]\nsteps = 9\n[train]\nsteps = 20\n"),
             c = training("x/c", step(5, 1.0).dump() + "\n", "[train]\nsteps = 20\n");
  const std::string html = make_report({{a, b, c}, 50}).html;
  const size_t begin = html.find("<section id=\"trainings-together\">");
  ASSERT_NE(begin, std::string::npos);
  const std::string part = html.substr(begin, html.find("</section>", begin) - begin);
  EXPECT_EQ(count_of(part, "<svg"), 2u);  // loss and reading gain
  EXPECT_EQ(count_of(part, ">a</text>"), 2u);
  EXPECT_EQ(count_of(part, ">c</text>"), 1u);
  EXPECT_THAT(html, HasSubstr("data-value=\"11.1\">11.10</td>"));
  EXPECT_THAT(html, HasSubstr("data-value=\"22.2\">22.20</td>"));
  EXPECT_EQ(count_of(html, "<td class=\"number\" data-value=\"20\">20</td><td class=\"number\" data-value=\"20\">"),
            1u);
  EXPECT_EQ(count_of(html, ">Reading gain over"), 0u);  // of one validation the table is enough
  EXPECT_THAT(html, HasSubstr("5 of 20 steps"));
}

TEST_F(ReportPageTest, RefusesOtherDirectories) {
  const auto error = [](const std::vector<std::filesystem::path>& directories) {
    return error_of<Error>([&] { make_report({directories, 50}); });
  };
  const auto run = evaluation("a", results("tiny", {}), {});
  std::filesystem::create_directory(directory_ / "empty");
  EXPECT_EQ(error({run, directory_ / "empty"}),
            (directory_ / "empty").string() +
                ": expected the directory of an evaluation (results.json, or run.json and samples.jsonl) or of a "
                "training run (log.jsonl and config.toml), found neither");
  EXPECT_EQ(error({directory_ / "nowhere"}),
            (directory_ / "nowhere").string() + ": expected a directory, found nothing");
  EXPECT_EQ(error({run / "run.json"}), (run / "run.json").string() + ": expected a directory, found a file");
  EXPECT_EQ(error({run, directory_ / "a/../a/"}), (directory_ / "a/../a/").string() + ": the directory is given twice");
}

TEST(RunNames, LeaveOutWhatAllHaveInCommon) {
  EXPECT_THAT(run_names({"/r/v1/squad", "/r/v2/squad/"}), ElementsAre("v1/squad", "v2/squad"));
  EXPECT_THAT(run_names({"/r/v1/squad"}), ElementsAre("squad"));
  EXPECT_THAT(run_names({"/r/a", "/r/a/b"}), ElementsAre("a", "a/b"));
  EXPECT_THAT(run_names({"/r/./x/../a", "/r/b"}), ElementsAre("a", "b"));
  EXPECT_THAT(run_names({}), ElementsAre());
}

}  // namespace
}  // namespace cepe
