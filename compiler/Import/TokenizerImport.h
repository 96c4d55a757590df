// Brings a checkpoint's tokenizer into the one normalized form that the runtime reads (runtime/schema/tokenizer.fbs).
#pragma once

#include "compiler/Import/CheckpointIndex.h"

#include <optional>
#include <string>
#include <vector>

namespace distc::import {

/// The bytes of a Tokenizer FlatBuffer with identifier DTOK, or nothing if the checkpoint has no tokenizer.
using TokenizerBytes = std::optional<std::vector<uint8_t>>;

/// From GGUF metadata (tokenizer.ggml.*, tokenizer.chat_template); `path` leads every error.
Result<TokenizerBytes> importGgufTokenizer(const GgufMetadata &metadata, const std::string &path);

/// From a Hugging Face folder: tokenizer.json, or tokenizer.model if there is none, with tokenizer_config.json,
/// special_tokens_map.json, generation_config.json, config.json and chat_template.jinja as far as they are there. A
/// tokenizer that would not give the same ids is an error that names what is supported.
Result<TokenizerBytes> importHfTokenizer(const std::string &directory);

} // namespace distc::import
