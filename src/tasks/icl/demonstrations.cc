#include "tasks/icl/demonstrations.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "base/random.h"
#include "tasks/name_number.h"

namespace cepe {
namespace {

// Recorded runs depend on these numbers: they must never change.
enum Purpose : uint64_t { kAsked = 1, kShown = 2, kRound = 3, kLabels = 4 };

template <typename T>
void shuffle(std::vector<T>& values, KeyedRandom& random) {
  for (size_t i = values.size(); i > 1; --i) {
    std::swap(values[i - 1], values[static_cast<size_t>(random.below(static_cast<int64_t>(i)))]);
  }
}

// 0 .. n-1 in a random order, drawn one by one.
class Draws {
 public:
  Draws(KeyedRandom random, size_t n) : random_(random), n_(n) {}
  bool more() const { return drawn_ < n_; }
  size_t next() {
    const size_t place = drawn_ + static_cast<size_t>(random_.below(static_cast<int64_t>(n_ - drawn_)));
    const size_t value = at(place);
    moved_[place] = at(drawn_++);
    return value;
  }

 private:
  size_t at(size_t place) const {
    const auto found = moved_.find(place);
    return found == moved_.end() ? place : found->second;
  }
  KeyedRandom random_;
  size_t n_, drawn_ = 0;
  std::map<size_t, size_t> moved_;  // numbers that are not in their own place
};

void add_once(std::vector<IclSetting>& settings, const IclSetting& setting) {
  if (std::find(settings.begin(), settings.end(), setting) == settings.end()) settings.push_back(setting);
}

}  // namespace

std::string IclSetting::name() const {
  if (decoder + encoder == 0) return "no demonstrations";
  std::string name = decoder > 0 ? fmt::format("decoder {}", decoder) : std::string();
  if (encoder > 0) name += fmt::format("{}encoder {}", name.empty() ? "" : " + ", encoder);
  return shuffled ? name + ", shuffled labels" : name;
}

std::vector<IclSetting> icl_settings(const IclOptions& options) {
  const auto check = [](const std::vector<int64_t>& counts) {
    for (const int64_t count : counts) require(count >= 0, "expected 0 or more demonstrations, found {}", count);
  };
  check(options.decoder_shots);
  check(options.encoder_shots);
  check(options.decoder_alone);
  const std::set<uint64_t> seeds(options.seeds.begin(), options.seeds.end());
  require(!seeds.empty() && seeds.size() == options.seeds.size(), "expected seeds, each once");
  std::vector<IclSetting> settings;
  if (options.no_demonstrations) settings.push_back({});
  for (const int64_t decoder : options.decoder_shots) {
    for (const int64_t encoder : options.encoder_shots) {
      add_once(settings, {decoder, encoder});
      if (options.shuffled_labels && encoder >= 2) add_once(settings, {decoder, encoder, true});
    }
  }
  for (const int64_t decoder : options.decoder_alone) add_once(settings, {decoder, 0});
  require(!settings.empty(), "no number of demonstrations is given");
  return settings;
}

IclSource::IclSource(LabelledTextSet set, const IclOptions& options, const FitsWindow& fits)
    : set_(std::move(set)), options_(options), settings_(icl_settings(options)) {
  std::map<std::string, std::vector<size_t>> groups;
  for (size_t i = 0; i < set_.shown.size(); ++i) groups[set_.shown[i].label].push_back(i);
  std::set<std::string> labels;
  for (const LabelledText& asked : set_.asked) labels.insert(asked.label);
  for (auto& [label, members] : groups) {
    labels.insert(label);
    by_label_.push_back(std::move(members));
  }
  labels_ = set_.task.labels.empty() ? std::vector<std::string>(labels.begin(), labels.end()) : set_.task.labels;
  require(labels_.size() >= 2, "{}: expected at least two labels to choose from, found {}", set_.name, labels_.size());
  for (const IclSetting& setting : settings_) most_ = std::max(most_, setting.decoder + setting.encoder);
  choose(fits);
}

void IclSource::choose(const FitsWindow& fits) {
  const size_t count = set_.asked.size();
  const size_t wanted = options_.limit > 0 ? static_cast<size_t>(options_.limit) : count;
  Draws draws(KeyedRandom{options_.seeds.front(), number_of_name(set_.name), kAsked}, count);
  for (size_t i = 0; i < count && asked_.size() < wanted; ++i) {
    const size_t asked = options_.in_order ? i : draws.next();
    if (this->fits(asked, fits)) {
      asked_.push_back(asked);
    } else {
      ++left_out_;
    }
  }
  require(!asked_.empty(), "{}: no text fits the decoder's window with its demonstrations", set_.name);
}

bool IclSource::fits(size_t asked, const FitsWindow& fits) const {
  for (size_t seed = 0; seed < options_.seeds.size(); ++seed) {
    const IclScene scene = make(asked, seed);
    const std::string last = label_prompt(set_.task, scene.text);
    for (const IclPrompt& prompt : scene.prompts) {
      if (!fits(prompt.decoder_text + last)) return false;
    }
  }
  return true;
}

std::vector<size_t> IclSource::draw(size_t asked, uint64_t seed, int64_t count) const {
  const uint64_t name = number_of_name(set_.name);
  const std::string& text = set_.asked[asked].text;
  std::vector<std::vector<size_t>> order(by_label_.size());  // of each label, the texts drawn so far
  std::vector<Draws> draws;
  std::vector<uint64_t> times(by_label_.size());
  const auto begin = [&](size_t c) {  // anew where all were drawn
    return Draws(KeyedRandom{seed, name, asked, kShown, c, times[c]++}, by_label_[c].size());
  };
  for (size_t c = 0; c < by_label_.size(); ++c) draws.push_back(begin(c));
  std::vector<size_t> drawn;
  for (uint64_t round = 0; static_cast<int64_t>(drawn.size()) < count; ++round) {
    std::vector<size_t> members;
    for (size_t c = 0; c < by_label_.size(); ++c) {
      // Twice through all of them: the second time finds one, unless all have the asked text.
      for (size_t tries = 2 * by_label_[c].size(); tries > 0; --tries) {
        if (!draws[c].more()) draws[c] = begin(c);
        const size_t shown = by_label_[c][draws[c].next()];
        if (set_.shown[shown].text == text) continue;
        members.push_back(shown);
        break;
      }
    }
    require(!members.empty(), "{}: there are no texts to show before \"{}\"", set_.name, text);
    KeyedRandom random{seed, name, asked, kRound, round};
    shuffle(members, random);
    drawn.insert(drawn.end(), members.begin(), members.end());
  }
  drawn.resize(static_cast<size_t>(count));
  return drawn;
}

std::string IclSource::demonstration(const std::string& text, const std::string& label) const {
  return label_prompt(set_.task, text) + label_continuation(label);
}

IclPrompt IclSource::prompt(const IclSetting& setting, const std::vector<size_t>& drawn, size_t asked,
                            uint64_t seed) const {
  IclPrompt prompt{setting, {}, {}, {}};
  for (size_t i = 0; i < static_cast<size_t>(setting.decoder); ++i) {
    const LabelledText& shown = set_.shown[drawn[i]];
    prompt.decoder_text += demonstration(shown.text, shown.label) + "\n\n";
  }
  std::vector<std::string> labels;
  const auto first = static_cast<size_t>(setting.decoder), count = static_cast<size_t>(setting.encoder);
  for (size_t i = 0; i < count; ++i) labels.push_back(set_.shown[drawn[first + i]].label);
  if (setting.shuffled) {
    KeyedRandom random{seed, number_of_name(set_.name), asked, kLabels, first, count};
    shuffle(labels, random);
  }
  for (size_t i = 0; i < count; ++i) {
    prompt.encoder_texts.push_back(demonstration(set_.shown[drawn[first + i]].text, labels[i]));
    prompt.sources.push_back(std::to_string(drawn[first + i] + 1));
  }
  return prompt;
}

IclScene IclSource::make(size_t asked, size_t seed) const {
  const LabelledText& one = set_.asked[asked];
  IclScene scene{fmt::format("{}/{}/{}", set_.name, asked + 1, options_.seeds[seed]),
                 one.text,
                 one.label,
                 options_.seeds[seed],
                 {}};
  const std::vector<size_t> drawn = draw(asked, scene.seed, most_);
  for (const IclSetting& setting : settings_) {
    if (setting.decoder + setting.encoder == 0 && seed > 0) continue;
    scene.prompts.push_back(prompt(setting, drawn, asked, scene.seed));
  }
  return scene;
}

int64_t IclSource::prompts(int64_t index) const {
  const bool first = index % std::ssize(options_.seeds) == 0;
  return std::count_if(settings_.begin(), settings_.end(),
                       [&](const IclSetting& setting) { return first || setting.decoder + setting.encoder > 0; });
}

IclScene IclSource::scene(int64_t index) const {
  const auto i = static_cast<size_t>(index);
  return make(asked_.at(i / options_.seeds.size()), i % options_.seeds.size());
}

}  // namespace cepe
