#include "generate/records/record_contexts.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "context/encode_context.h"
#include "context/read_context.h"

namespace cepe {

RecordContexts::RecordContexts(const OpenedModel& opened, const std::vector<PromptRecord>& records,
                               ContextStates states)
    : opened_(opened), states_(states) {
  std::map<std::pair<bool, std::string_view>, size_t> known;
  std::map<std::vector<size_t>, size_t> known_joined;
  const auto number_of = [&](const std::string& text, bool is_file) {
    const auto [found, is_new] = known.try_emplace({is_file, text}, documents_.size());
    if (is_new) documents_.push_back({.text = &text, .is_file = is_file});
    return found->second;
  };
  for (const PromptRecord& record : records) {
    std::vector<size_t> documents;
    for (const std::string& file : record.context) documents.push_back(number_of(file, true));
    for (const std::string& text : record.context_text) documents.push_back(number_of(text, false));
    const auto [found, is_new] = known_joined.try_emplace(documents, joined_.size());
    if (is_new) {
      for (const size_t document : documents) ++documents_[document].joined;
      joined_.push_back({.documents = std::move(documents)});
    }
    ++joined_[found->second].records;
    of_record_.push_back(found->second);
  }
}

std::shared_ptr<const Context> RecordContexts::take(size_t record) {
  Joined& joined = joined_.at(of_record_.at(record));
  if (joined.documents.empty()) return nullptr;
  --joined.records;
  if (!joined.context) {
    try {
      joined.context = make(joined);
    } catch (...) {
      if (joined.records == 0) release(joined);
      throw;
    }
    release(joined);
  }
  return joined.records > 0 ? joined.context : std::move(joined.context);
}

std::shared_ptr<const Context> RecordContexts::make(const Joined& joined) {
  std::shared_ptr<const Context> made;
  std::vector<Context> parts;
  for (const size_t number : joined.documents) {
    Document& document = documents_[number];
    if (!document.context) document.context = std::make_shared<const Context>(encode(document));
    made = document.context;
    parts.push_back(*made);
  }
  if (parts.size() > 1) made = std::make_shared<const Context>(join(parts));
  return made;
}

// The context needs its documents no longer.
void RecordContexts::release(const Joined& joined) {
  for (const size_t number : joined.documents) {
    Document& document = documents_[number];
    if (--document.joined == 0) document.context.reset();
  }
}

Context RecordContexts::encode(const Document& document) {
  std::vector<TextChunk> chunks;
  if (document.is_file) {
    chunks = read_context(opened_, {*document.text});
  } else {
    append_chunks(opened_.tokenizer->encode(*document.text, {.parse_special_tokens = false}), "context_text",
                  context_chunk_length(opened_.model.config), chunks);
  }
  if (states_ == ContextStates::none) return unencoded(std::move(chunks));
  encoded_tokens_ += count_tokens(chunks);
  return encode_context(opened_.model, chunks, {.int8 = states_ == ContextStates::int8});
}

int64_t RecordContexts::held() const {
  const auto kept = [](const auto& item) { return item.context != nullptr; };
  return std::count_if(documents_.begin(), documents_.end(), kept) +
         std::count_if(joined_.begin(), joined_.end(), kept);
}

}  // namespace cepe
