// The parts of the import from a Hugging Face folder.
#pragma once

#include "compiler/Import/Json.h"
#include "compiler/Import/TokenizerImportCommon.h"

#include <string>

namespace distc::import {

/// The member `key` of an object; null if it is absent or null.
const Json *memberOf(const Json &object, const char *key);
/// The same with its type checked; absent or null: `absent`.
Result<bool> boolOf(const Json &object, const char *key, bool absent);
Result<std::string> stringOf(const Json &object, const char *key, const std::string &absent);
/// The "type" of a component of tokenizer.json.
Result<std::string> typeOf(const Json &component);
/// A component, or what a Sequence of them holds under `key`, in order; nothing if it is absent or null.
Result<std::vector<const Json *>> componentsOf(const Json &file, const char *name, const char *key);

/// normalizer, pre_tokenizer and decoder of tokenizer.json: model kind, prefix, patterns.
Status readHfText(const Json &file, TokenizerDraft &draft);

/// tokenizer.model: pieces, kinds, scores, special ids. `bytes`: a ModelProto of SentencePiece.
Status readSentencePiece(std::string_view bytes, TokenizerDraft &draft);

/// The files beside the tokenizer, absent ones as empty objects.
struct HfConfigs {
  Json tokenizer;     // tokenizer_config.json
  Json specialTokens; // special_tokens_map.json
  Json generation;    // generation_config.json
  Json model;         // config.json
  std::string chatTemplate;
};
Result<HfConfigs> readHfConfigs(const std::string &directory);
/// bos, eos, whether they are added, the ends of generation, the chat template.
Status applyHfConfigs(const HfConfigs &configs, TokenizerDraft &draft);
/// The pieces that tokenizer_config.json adds to those of tokenizer.model.
Status applyAddedTokensDecoder(const HfConfigs &configs, TokenizerDraft &draft);

/// Sets piece `id` to an added token. Errors do not name the file.
Status putAddedToken(const Json &token, int64_t id, TokenizerDraft &draft);
/// Makes room for piece `id`; an id far above the number of pieces is an error.
Status growTo(int64_t id, TokenizerDraft &draft);

} // namespace distc::import
