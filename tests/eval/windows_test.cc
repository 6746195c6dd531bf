#include "eval/windows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "base/error.h"

namespace cepe {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TokenDocument document(const std::string& domain, size_t length, const std::string& source = "") {
  return {domain + "-" + std::to_string(length), domain, std::vector<TokenId>(length), source};
}

int64_t room(const TokenDocument& document, const WindowOptions& options) {
  const int64_t spare =
      static_cast<int64_t>(document.tokens.size()) - options.longest_context - options.decoder_tokens - 1;
  return spare < 0 ? 0 : spare / options.stride + 1;
}

// A control's context lies whole in another document of the domain.
void check_place(const ContextPlace& place, const Window& window, const std::vector<TokenDocument>& documents,
                 const WindowOptions& options) {
  const TokenDocument& other = documents[place.document];
  EXPECT_NE(place.document, window.document);
  EXPECT_EQ(other.domain, documents[window.document].domain);
  EXPECT_GE(place.end, options.longest_context);
  EXPECT_LE(place.end, static_cast<int64_t>(other.tokens.size()));
}

// A second document that could be the control of the same source.
bool has_sibling(size_t own, const std::vector<TokenDocument>& documents, const WindowOptions& options) {
  for (size_t i = 0; i < documents.size(); ++i) {
    const TokenDocument& other = documents[i];
    const bool long_enough = static_cast<int64_t>(other.tokens.size()) >= std::max<int64_t>(1, options.longest_context);
    if (i != own && long_enough && other.domain == documents[own].domain && !other.source.empty() &&
        other.source == documents[own].source) {
      return true;
    }
  }
  return false;
}

// What must hold of any plan.
void check_domain(const DomainWindows& domain, const std::vector<TokenDocument>& documents,
                  const WindowOptions& options) {
  std::map<size_t, std::vector<int64_t>> starts;
  for (const Window& window : domain.windows) {
    const TokenDocument& own = documents[window.document];
    EXPECT_EQ(own.domain, domain.domain);
    EXPECT_GE(window.start, options.longest_context);
    EXPECT_LE(window.start + options.decoder_tokens + 1, static_cast<int64_t>(own.tokens.size()));
    starts[window.document].push_back(window.start);
    EXPECT_EQ(window.other.has_value(), domain.has_other());
    if (window.other) check_place(*window.other, window, documents, options);
    EXPECT_EQ(window.same_source.has_value(), has_sibling(window.document, documents, options));
    if (!window.same_source) continue;
    check_place(*window.same_source, window, documents, options);
    EXPECT_EQ(documents[window.same_source->document].source, own.source);
  }
  EXPECT_EQ(static_cast<size_t>(domain.documents), starts.size());
  int64_t all_room = 0, most = 0, least_with_room = 1 << 30;
  for (size_t i = 0; i < documents.size(); ++i) {
    if (documents[i].domain != domain.domain) continue;
    const int64_t used = static_cast<int64_t>(starts[i].size()), free = room(documents[i], options);
    for (size_t w = 1; w < starts[i].size(); ++w) EXPECT_GE(starts[i][w] - starts[i][w - 1], options.stride);
    all_room += free;
    most = std::max(most, used);
    if (used < free) least_with_room = std::min(least_with_room, used);
  }
  const auto used = static_cast<int64_t>(domain.windows.size());
  EXPECT_EQ(used, options.windows == 0 ? all_room : std::min(all_room, options.windows));
  EXPECT_LE(most, least_with_room + 1) << "windows are not dealt out evenly";
}

TEST(Windows, FitAreDisjointAndEvenlySpread) {
  std::mt19937 random(1);
  for (int trial = 0; trial < 300; ++trial) {
    WindowOptions options;
    options.decoder_tokens = 1 + static_cast<int64_t>(random() % 40);
    options.longest_context = 8 * static_cast<int64_t>(random() % 10);
    options.stride = 1 + static_cast<int64_t>(random() % 50);
    options.windows = static_cast<int64_t>(random() % 30);
    std::vector<TokenDocument> documents{document("a", 1000)};
    for (int i = static_cast<int>(random() % 12); i > 0; --i)
      documents.push_back(
          document(random() % 2 ? "a" : "b", random() % 600, std::vector<const char*>{"", "x", "y"}[random() % 3]));
    const WindowPlan plan = place_windows(documents, options);
    ASSERT_FALSE(plan.domains.empty());
    for (const DomainWindows& domain : plan.domains) check_domain(domain, documents, options);
    const WindowPlan again = place_windows(documents, options);
    for (size_t d = 0; d < plan.domains.size(); ++d) {
      for (size_t i = 0; i < plan.domains[d].windows.size(); ++i) {
        const Window &a = plan.domains[d].windows[i], &b = again.domains[d].windows[i];
        EXPECT_TRUE(a.document == b.document && a.start == b.start && a.other == b.other &&
                    a.same_source == b.same_source);
      }
    }
  }
}

TEST(Windows, ReachBothEndsOfADocument) {
  const auto plan =
      place_windows({document("a", 1000)}, {.decoder_tokens = 100, .longest_context = 200, .stride = 50, .windows = 3});
  const auto& windows = plan.domains.at(0).windows;
  ASSERT_EQ(windows.size(), 3u);
  EXPECT_EQ(windows[0].start, 200);
  EXPECT_EQ(windows[1].start, 549);
  EXPECT_EQ(windows[2].start, 899);  // + 100 decoder tokens + 1 label = 1000
}

TEST(Windows, ExactlyOneFits) {
  const WindowOptions options{.decoder_tokens = 100, .longest_context = 200, .stride = 50, .windows = 0};
  EXPECT_EQ(place_windows({document("a", 301)}, options).domains.at(0).windows.size(), 1u);
  EXPECT_THROW(place_windows({document("a", 300)}, options), Error);
}

TEST(Windows, ControlMayComeFromADocumentTooShortForAWindow) {
  const WindowOptions options{.decoder_tokens = 100, .longest_context = 200, .stride = 50, .windows = 4};
  const auto with = place_windows({document("a", 400), document("a", 200)}, options).domains.at(0);
  EXPECT_TRUE(with.has_other());
  EXPECT_EQ(with.documents, 1);
  EXPECT_EQ(with.windows.at(0).other, (ContextPlace{1, 200}));
  EXPECT_FALSE(place_windows({document("a", 400), document("a", 199)}, options).domains.at(0).has_other());
  EXPECT_FALSE(place_windows({document("a", 400), document("b", 400)}, options).domains.at(0).has_other());
}

TEST(Windows, TheControlOfTheSameSourceIsDrawnAmongTheSourcesDocuments) {
  const WindowOptions options{.decoder_tokens = 100, .longest_context = 200, .stride = 50, .windows = 0};
  const auto plan = place_windows({document("a", 500, "x"), document("a", 501, "y"), document("a", 502),
                                   document("a", 503, "x"), document("b", 504, "y"), document("a", 250, "x")},
                                  options);
  std::set<size_t> of_first;
  for (const Window& window : plan.domains.at(0).windows) {
    if (window.document == 0) of_first.insert(window.same_source->document);
    const bool alone = window.document == 1;     // the other document of source y has another domain
    const bool nameless = window.document == 2;  // names no source
    EXPECT_EQ(window.same_source.has_value(), !alone && !nameless) << window.document;
    EXPECT_TRUE(window.other);
  }
  EXPECT_THAT(of_first, testing::IsSubsetOf({size_t{3}, size_t{5}}));
}

TEST(Windows, TheControlVaries) {
  const auto plan = place_windows({document("a", 9000), document("a", 9001), document("a", 9002)},
                                  {.decoder_tokens = 10, .longest_context = 20, .stride = 50, .windows = 60});
  std::set<size_t> documents;
  std::set<int64_t> ends;
  for (const Window& window : plan.domains.at(0).windows) {
    documents.insert(window.other->document);
    ends.insert(window.other->end);
  }
  EXPECT_EQ(documents.size(), 3u);
  EXPECT_GT(ends.size(), 50u);
}

TEST(Windows, TooShortTextSaysWhatIsNeeded) {
  const WindowOptions options{.decoder_tokens = 2048, .longest_context = 30720, .stride = 2048, .windows = 0};
  try {
    place_windows({document("a", 5), document("b", 12345)}, options);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("shorter than a window"), HasSubstr("b-12345"), HasSubstr("12,345 tokens"),
                      HasSubstr("needs 32,769: 30,720 of context, 2,048 of the decoder and 1")));
  }
  const auto plan = place_windows({document("a", 5), document("b", 40000)}, options);
  ASSERT_EQ(plan.domains.size(), 1u);
  ASSERT_EQ(plan.notes.size(), 1u);
  EXPECT_THAT(plan.notes[0], AllOf(HasSubstr("a is left out"), HasSubstr("has 5 tokens")));
  EXPECT_THROW(place_windows({}, options), Error);
}

}  // namespace
}  // namespace cepe
