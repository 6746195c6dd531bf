#include "tasks/long/long_texts.h"

#include "base/error.h"

namespace cepe {
namespace {

struct FormName {
  LongForm form;
  const char* name;
};
constexpr FormName kForms[] = {{LongForm::automatic, "auto"},          {LongForm::leval, "leval"},
                               {LongForm::longbench, "longbench"},     {LongForm::longbench_v2, "longbench-v2"},
                               {LongForm::zeroscrolls, "zeroscrolls"}, {LongForm::qasper, "qasper"},
                               {LongForm::narrativeqa, "narrativeqa"}, {LongForm::quality, "quality"},
                               {LongForm::govreport, "govreport"},     {LongForm::plain, "plain"}};

}  // namespace

const char* long_form_name(LongForm form) { return kForms[static_cast<size_t>(form)].name; }

LongForm long_form_from_name(std::string_view name, std::string_view option) {
  std::string names;
  for (const FormName& known : kForms) {
    if (name == known.name) return known.form;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", known.name);
  }
  fail("{}: expected one of {}, found \"{}\"", option, names, name);
}

}  // namespace cepe
