#include "text/tokenizer/normalizer.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>

#include "base/error.h"
#include "text/tokenizer/unicode_additions.h"
#include "text/utf8.h"

namespace cepe {
namespace {

int utf8proc_options(Normalizer::Form form) {
  switch (form) {
    case Normalizer::Form::nfc: return UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    case Normalizer::Form::nfd: return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    case Normalizer::Form::nfkc: return UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT;
    case Normalizer::Form::nfkd: return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT;
  }
  return 0;
}

void append_form(std::string_view text, Normalizer::Form form, std::string& out) {
  if (text.empty()) return;
  utf8proc_uint8_t* result = nullptr;
  const auto size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &result, static_cast<utf8proc_option_t>(utf8proc_options(form)));
  const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(result, std::free);
  if (size < 0) fail("normalizing the text failed: {}", utf8proc_errmsg(size));
  out.append(reinterpret_cast<const char*>(result), static_cast<size_t>(size));
}

// The same, but characters that the reference does not know yet are kept as they are, and part what is around them.
void append_known_form(std::string_view text, Normalizer::Form form, std::string& out) {
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    if (is_inert_in_normal_forms(c.value)) {
      append_form(text.substr(begin, at - begin), form, out);
      out.append(text.substr(at, c.size));
      begin = at + c.size;
    }
    at += c.size;
  }
  append_form(text.substr(begin), form, out);
}

bool is_ascii(char c) { return static_cast<unsigned char>(c) < 0x80; }

// Below this lead byte lie the code points under U+0300; NFC leaves each of them as it is.
bool may_change(char c, Normalizer::Form form) {
  return static_cast<unsigned char>(c) >= (form == Normalizer::Form::nfc ? 0xCC : 0x80);
}

// No ASCII character ever joins what stands before it, so a text may be cut in front of each. Only the sections
// that hold a character which may change are handed on: one ASCII character and what follows it up to the next.
void apply_form(std::string_view text, Normalizer::Form form, std::string& out) {
  out.reserve(out.size() + text.size());
  size_t copied = 0;
  for (size_t at = 0; at < text.size();) {
    if (!may_change(text[at], form) || (text[at] & 0xC0) == 0x80) {
      ++at;
      continue;
    }
    size_t begin = at, end = at;
    while (begin > copied && !is_ascii(text[begin - 1])) --begin;
    if (begin > copied) --begin;
    while (end < text.size() && !is_ascii(text[end])) ++end;
    out.append(text.substr(copied, begin - copied));
    append_known_form(text.substr(begin, end - begin), form, out);
    copied = at = end;
  }
  out.append(text.substr(copied));
}

void replace_all(std::string_view text, std::string_view from, std::string_view to, std::string& out) {
  out.reserve(out.size() + text.size());
  size_t copied = 0;
  for (size_t at = text.find(from); at != std::string_view::npos; at = text.find(from, copied)) {
    out.append(text.substr(copied, at - copied));
    out.append(to);
    copied = at + from.size();
  }
  out.append(text.substr(copied));
}

}  // namespace

void Normalizer::add_unicode_form(Form form) { steps_.push_back({Step::Kind::unicode_form, form, {}, {}}); }

void Normalizer::add_prepend(std::string prefix) {
  steps_.push_back({Step::Kind::prepend, Form::nfc, {}, std::move(prefix)});
}

void Normalizer::add_replace(std::string from, std::string to) {
  require(!from.empty(), "a Replace normalizer has an empty pattern");
  steps_.push_back({Step::Kind::replace, Form::nfc, std::move(from), std::move(to)});
}

std::string_view Normalizer::apply(std::string_view text, std::string& storage) const {
  if (text.empty()) return text;
  for (const Step& step : steps_) {
    std::string changed;
    switch (step.kind) {
      case Step::Kind::unicode_form: {
        bool needed = false;
        for (const char c : text) needed |= may_change(c, step.form);
        if (!needed) continue;
        apply_form(text, step.form, changed);
        break;
      }
      case Step::Kind::prepend:
        changed.reserve(step.to.size() + text.size());
        changed.append(step.to).append(text);
        break;
      case Step::Kind::replace: replace_all(text, step.from, step.to, changed); break;
    }
    storage = std::move(changed);
    text = storage;
  }
  return text;
}

}  // namespace cepe
