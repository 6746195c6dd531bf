// Normalization of a text before it is cut into words.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cepe {

// A list of steps, applied in order; immutable after set-up, thread-safe.
class Normalizer {
 public:
  enum class Form { nfc, nfd, nfkc, nfkd };
  void add_unicode_form(Form form);
  void add_prepend(std::string prefix);  // before a text that is not empty
  void add_replace(std::string from, std::string to);

  bool empty() const { return steps_.empty(); }
  // The normalized text: either `text` itself or a view into `storage`.
  std::string_view apply(std::string_view text, std::string& storage) const;

 private:
  struct Step {
    enum class Kind { unicode_form, prepend, replace } kind;
    Form form = Form::nfc;
    std::string from, to;
  };
  std::vector<Step> steps_;
};

}  // namespace cepe
