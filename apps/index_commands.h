// What the commands of cepe index share.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "retrieval/bert_encoder.h"
#include "retrieval/index_description.h"

namespace cepe {

struct IndexOptions {
  std::string index, encoder, device = "auto";
};

// The index as the first argument.
void add_index_argument(CLI::App& command, IndexOptions& options);
// --encoder and --device.
void add_encoder_options(CLI::App& command, IndexOptions& options, const std::string& encoder_help);
// The index's encoder; null where it has none.
std::unique_ptr<BertEncoder> open_encoder(const IndexOptions& options, const IndexDescription& description);

void add_index_search_command(CLI::App& index);

}  // namespace cepe
