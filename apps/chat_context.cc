#include "apps/chat_context.h"

#include <ATen/ATen.h>

#include <numeric>
#include <utility>

#include "apps/encode_files.h"
#include "base/error.h"
#include "base/report.h"
#include "context/read_context.h"

namespace cepe {

void ChatContext::add(const std::vector<std::string>& files, const std::function<void()>& check) {
  std::vector<Document> documents;
  std::vector<Context> contexts;
  if (context_) contexts.push_back(*context_);
  for (const std::string& file : files) {
    contexts.push_back(states_ == ContextStates::none
                           ? unencoded(read_context(opened_, {file}))
                           : encode_files(opened_, {file}, states_ == ContextStates::int8, check).context);
    documents.push_back({file, encoder_tokens(contexts.back()), std::ssize(contexts.back().chunks)});
  }
  context_ = std::make_shared<const Context>(join(contexts));
  documents_.insert(documents_.end(), documents.begin(), documents.end());
}

void ChatContext::drop(int64_t number) {
  const int64_t count = static_cast<int64_t>(documents_.size());
  require(count > 0, "there are no documents");
  require(number >= 1 && number <= count, "there is no document {}: they are numbered from 1 to {}", number, count);
  if (count == 1) return drop_all();
  std::vector<int64_t> kept;
  int64_t chunk = 0;
  for (int64_t i = 0; i < count; chunk += documents_[static_cast<size_t>(i++)].chunks) {
    if (i + 1 == number) continue;
    const size_t before = kept.size();
    kept.resize(before + static_cast<size_t>(documents_[static_cast<size_t>(i)].chunks));
    std::iota(kept.begin() + static_cast<std::ptrdiff_t>(before), kept.end(), chunk);
  }
  Context left = select(*context_, kept);  // may be a view, which would keep the memory of what is dropped
  if (left.encoded()) left.latents.states_BSE = left.latents.states_BSE.clone();
  if (left.latents.scales_BS.defined()) left.latents.scales_BS = left.latents.scales_BS.clone();
  context_ = std::make_shared<const Context>(std::move(left));
  documents_.erase(documents_.begin() + number - 1);
}

void ChatContext::drop_all() {
  documents_.clear();
  context_.reset();
}

std::string ChatContext::table() const {
  if (documents_.empty()) return "(the context is empty: /context add FILE... lets the model read files)\n";
  Table table({"N", "document", "tokens", "chunks"});
  for (size_t i = 0; i < documents_.size(); ++i) {
    table.add_row({std::to_string(i + 1), documents_[i].name, format_count(static_cast<uint64_t>(documents_[i].tokens)),
                   format_count(static_cast<uint64_t>(documents_[i].chunks))});
  }
  return table.str();
}

std::vector<std::string> ChatContext::names() const {
  std::vector<std::string> names;
  for (const Document& document : documents_) names.push_back(document.name);
  return names;
}

}  // namespace cepe
