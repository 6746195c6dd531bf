#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/tokenizer/regex.h"

#include <pcre2.h>

#include "base/error.h"

namespace cepe {

struct Regex::Code {
  pcre2_code* code = nullptr;
  std::string where;
  ~Code() { pcre2_code_free(code); }
};

struct RegexScratch::Impl {
  pcre2_match_data* match_data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  // Patterns that repeat groups use this stack once a repetition; the default of 32 kB ends at long words.
  pcre2_jit_stack* jit_stack = pcre2_jit_stack_create(32 * 1024, 8 * 1024 * 1024, nullptr);

  Impl() {
    require(match_data != nullptr && context != nullptr, "out of memory for a regular expression's state");
    if (jit_stack != nullptr) pcre2_jit_stack_assign(context, nullptr, jit_stack);
  }
  ~Impl() {
    pcre2_jit_stack_free(jit_stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(match_data);
  }
};

RegexScratch::RegexScratch() : impl_(std::make_unique<Impl>()) {}
RegexScratch::~RegexScratch() = default;

namespace {

std::string error_text(int code) {
  PCRE2_UCHAR buffer[160];
  pcre2_get_error_message(code, buffer, sizeof buffer);
  return reinterpret_cast<const char*>(buffer);
}

}  // namespace

Regex::Regex(const std::string& pcre2, const std::string& where) {
  auto code = std::make_shared<Code>();
  code->where = where;
  int error = 0;
  PCRE2_SIZE offset = 0;
  std::unique_ptr<pcre2_compile_context, void (*)(pcre2_compile_context*)> context(
      pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
  // Oniguruma's '.' stops at a line feed only, whatever PCRE2 was built to take as the end of a line.
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  code->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pcre2.data()), pcre2.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset, context.get());
  if (code->code == nullptr) {
    fail("{}: the regular expression {} does not compile: {} at byte {}", where, pcre2, error_text(error), offset);
  }
  // Where the system forbids executable memory, matching falls back to PCRE2's interpreter: slower, the same.
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);
  code_ = std::move(code);
}

Regex Regex::from_oniguruma(std::string_view pattern, const std::string& where) {
  return Regex(pcre2_pattern(pattern, where), where);
}

Regex Regex::literal(std::string_view text) {
  std::string quoted;
  for (const char c : text) {
    const bool alphanumeric = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    if (!alphanumeric && static_cast<unsigned char>(c) < 0x80) quoted.push_back('\\');
    quoted.push_back(c);
  }
  return Regex(quoted, fmt::format("the literal pattern \"{}\"", text));
}

bool Regex::search(std::string_view text, size_t from, RegexScratch& scratch, Match& match) const {
  auto& state = *scratch.impl_;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  int found = pcre2_match(code_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK, state.match_data, state.context);
  if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
    found = pcre2_match(code_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, state.match_data,
                        state.context);
  }
  if (found == PCRE2_ERROR_NOMATCH) return false;
  if (found < 0) fail("{}: matching the regular expression failed: {}", code_->where, error_text(found));
  const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(state.match_data);
  match = {offsets[0], offsets[1]};
  return true;
}

}  // namespace cepe
