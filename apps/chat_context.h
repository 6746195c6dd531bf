// The documents that a conversation is about: each is encoded once, and together they are one context.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "context/context.h"
#include "model/checkpoint/checkpoint.h"

namespace cepe {

class ChatContext {
 public:
  // The model must outlive it. states: none where they are made for each
  // question, of the chunks that it is about (ExpandOptions::encodes_late).
  ChatContext(const OpenedModel& opened, ContextStates states) : opened_(opened), states_(states) {}

  // Encodes files and puts them after the documents that are there; nothing of those is computed again. `check` is
  // called now and then. Where it throws, and on every Error of reading and encoding, all is as it was before.
  void add(const std::vector<std::string>& files, const std::function<void()>& check);
  // Removes the document of a number, from 1. Encodes nothing. Throws Error where there is none of that number.
  void drop(int64_t number);
  void drop_all();

  // A line for each document: its number, name, tokens and chunks.
  std::string table() const;
  std::vector<std::string> names() const;
  // Null where there are no documents.
  const std::shared_ptr<const Context>& context() const { return context_; }

 private:
  struct Document {
    std::string name;
    int64_t tokens = 0, chunks = 0;
  };
  const OpenedModel& opened_;
  ContextStates states_;
  std::vector<Document> documents_;  // in the order of the context's chunks
  std::shared_ptr<const Context> context_;
};

}  // namespace cepe
