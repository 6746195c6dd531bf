// config.json of LlamaForMLM.
#pragma once

#include "model/config.h"

namespace cepe {

// The published layout's config.json of an encoder with its masked-language-model head. Error when the encoder cannot
// be expressed in it.
nlohmann::json masked_lm_config_to_published_json(const StackConfig& config);

}  // namespace cepe
