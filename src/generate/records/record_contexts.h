// The contexts of many prompts: each document is encoded once, when it is first needed, and let go after its last use.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "context/context.h"
#include "generate/records/prompt_records.h"
#include "model/checkpoint/checkpoint.h"

namespace cepe {

// Not thread-safe.
class RecordContexts {
 public:
  // Model and records must outlive it.
  RecordContexts(const OpenedModel& opened, const std::vector<PromptRecord>& records, ContextStates states);

  // The context of a record: its files, then its texts. Null where it has none. Records that name the same documents in
  // the same order get the same object. Each record is asked for once, in any order; what no other record needs is then
  // held by the caller alone. Throws Error where a file cannot be read or encoded; the others are not touched by that.
  std::shared_ptr<const Context> take(size_t record);

  int64_t encoded_tokens() const { return encoded_tokens_; }  // so far, here
  int64_t held() const;  // documents and joined contexts that are kept for other records

 private:
  struct Document {
    const std::string* text = nullptr;  // a path, or the text itself
    bool is_file = false;
    int64_t joined = 0;  // contexts that are still to be made of it
    std::shared_ptr<const Context> context;
  };
  struct Joined {
    std::vector<size_t> documents;
    int64_t records = 0;  // that have not asked for it
    std::shared_ptr<const Context> context;
  };
  std::shared_ptr<const Context> make(const Joined& joined);
  void release(const Joined& joined);
  Context encode(const Document& document);

  const OpenedModel& opened_;
  ContextStates states_;
  std::vector<Document> documents_;
  std::vector<Joined> joined_;
  std::vector<size_t> of_record_;  // index in joined_
  int64_t encoded_tokens_ = 0;
};

}  // namespace cepe
