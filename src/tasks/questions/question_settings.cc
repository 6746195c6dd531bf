#include "tasks/questions/question_settings.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/error.h"

namespace cepe {
namespace {

std::optional<int64_t> as_number(std::string_view text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 0) return std::nullopt;
  return number;
}

// The settings of one pair of counts, without controls.
std::vector<QuestionSetting> settings_of_pair(int64_t decoder, int64_t encoder, const QuestionTaskOptions& options) {
  std::vector<QuestionSetting> settings;
  for (const GoldPassage gold : options.gold) {
    if (gold != GoldPassage::always) {
      settings.push_back({decoder, encoder, gold, PassageReader::encoder, "first", false});
      continue;
    }
    for (PassageReader reader : options.gold_readers) {
      if (decoder == 0) reader = PassageReader::encoder;
      if (encoder == 0) reader = PassageReader::decoder;
      for (const std::string& position : options.gold_positions) {
        const int64_t count = reader == PassageReader::encoder ? encoder : decoder;
        require(as_number(position).value_or(0) < count,
                "gold passage: expected a place below the {} passages of the {}, found {}", count,
                passage_reader_name(reader), position);
        settings.push_back({decoder, encoder, gold, reader, position, false});
      }
    }
  }
  return settings;
}

}  // namespace

const char* gold_passage_name(GoldPassage gold) {
  switch (gold) {
    case GoldPassage::always: return "always";
    case GoldPassage::never: return "never";
    case GoldPassage::retrieved: return "retrieved";
  }
  return "";
}

GoldPassage gold_passage_from_name(std::string_view name, std::string_view option) {
  for (const GoldPassage gold : {GoldPassage::always, GoldPassage::never, GoldPassage::retrieved}) {
    if (name == gold_passage_name(gold)) return gold;
  }
  fail("{}: expected always, never or retrieved, found \"{}\"", option, name);
}

const char* passage_reader_name(PassageReader reader) {
  return reader == PassageReader::encoder ? "encoder" : "decoder";
}

PassageReader passage_reader_from_name(std::string_view name, std::string_view option) {
  for (const PassageReader reader : {PassageReader::encoder, PassageReader::decoder}) {
    if (name == passage_reader_name(reader)) return reader;
  }
  fail("{}: expected encoder or decoder, found \"{}\"", option, name);
}

void check_gold_position(std::string_view position, std::string_view option) {
  const bool known = position == "first" || position == "middle" || position == "last" || position == "random";
  require(known || as_number(position), "{}: expected first, middle, last, random or a number from 0, found \"{}\"",
          option, position);
}

std::string setting_name(const QuestionSetting& setting) {
  if (setting.passages() == 0) return "no passages";
  std::string name;
  if (setting.decoder > 0) name = fmt::format("decoder {}", setting.decoder);
  if (setting.encoder > 0) name += fmt::format("{}encoder {}", name.empty() ? "" : " + ", setting.encoder);
  if (setting.other) return name + ", another question's";
  if (setting.gold == GoldPassage::never) return name + ", no gold";
  if (setting.gold == GoldPassage::retrieved) return name + ", as retrieved";
  name += ", gold";
  const bool both = setting.decoder > 0 && setting.encoder > 0;
  if (both) name += fmt::format(" in the {}", passage_reader_name(setting.reader));
  if (setting.of(setting.reader) == 1) return name;  // there is one place
  return name + (both ? ", " : " ") + setting.position;
}

int64_t gold_place(const QuestionSetting& setting, int64_t golds, KeyedRandom random) {
  const int64_t count = setting.of(setting.reader), last = std::max<int64_t>(0, count - golds);
  if (setting.position == "first") return 0;
  if (setting.position == "middle") return last / 2;
  if (setting.position == "last") return last;
  if (setting.position == "random") return random.below(last + 1);
  return std::min(last, as_number(setting.position).value_or(0));
}

std::vector<QuestionSetting> question_settings(const QuestionTaskOptions& options) {
  std::vector<QuestionSetting> settings;
  const auto add = [&](const QuestionSetting& setting) {
    const std::string name = setting_name(setting);
    const auto same = [&](const QuestionSetting& known) { return setting_name(known) == name; };
    if (std::none_of(settings.begin(), settings.end(), same)) settings.push_back(setting);
  };
  const auto asked_for_none = [](const std::vector<int64_t>& counts) {
    return std::find(counts.begin(), counts.end(), 0) != counts.end();
  };
  if (options.no_passages || (asked_for_none(options.decoder_passages) && asked_for_none(options.encoder_passages))) {
    add({});
  }
  for (const int64_t decoder : options.decoder_passages) {
    for (const int64_t encoder : options.encoder_passages) {
      if (decoder + encoder == 0) continue;
      const std::vector<QuestionSetting> pair = settings_of_pair(decoder, encoder, options);
      for (const QuestionSetting& setting : pair) add(setting);
      // Passages without the answer are a control of their own.
      const auto control =
          std::find_if(pair.begin(), pair.end(), [](const auto& s) { return s.gold != GoldPassage::never; });
      if (!options.other_passages || control == pair.end()) continue;
      QuestionSetting other = *control;
      other.other = true;
      add(other);
    }
  }
  return settings;
}

}  // namespace cepe
