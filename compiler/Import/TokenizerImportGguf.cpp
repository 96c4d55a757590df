// Keys: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; where a key is absent, what llama.cpp takes.
#include "compiler/Import/TokenizerImportCommon.h"

namespace distc::import {

namespace {

/// A value of the metadata as a T; absent: nothing; of another type: an error.
template <typename T>
Result<const T *> get(const GgufMetadata &metadata, const std::string &key, const char *expected) {
  auto found = metadata.find(key);
  if (found == metadata.end())
    return static_cast<const T *>(nullptr);
  if (const T *value = std::get_if<T>(&found->second))
    return value;
  return dataLoss("metadata " + key + " is not " + expected);
}

template <typename T>
Result<const std::vector<T> *> getArray(const GgufMetadata &metadata, const std::string &key, const char *expected) {
  DISTC_ASSIGN(const GgufArray *array, get<GgufArray>(metadata, key, expected));
  if (!array)
    return static_cast<const std::vector<T> *>(nullptr);
  if (const auto *values = std::get_if<std::vector<T>>(array))
    return values;
  return dataLoss("metadata " + key + " is not " + expected);
}

Result<bool> getBool(const GgufMetadata &metadata, const std::string &key, bool absent) {
  DISTC_ASSIGN(const bool *value, get<bool>(metadata, key, "true or false"));
  return value ? *value : absent;
}

/// The id of a special piece; -1 if it is out of range, as in files that say 4294967295 for none. Absent: `absent`, if
/// that piece is one of the specials.
Result<int32_t> getId(const GgufMetadata &metadata, const std::string &key, const tok::TokenizerT &table,
                      int32_t absent) {
  DISTC_ASSIGN(const int64_t *value, get<int64_t>(metadata, key, "an integer"));
  auto count = static_cast<int64_t>(table.pieces.size());
  if (value)
    return *value >= 0 && *value < count ? static_cast<int32_t>(*value) : -1;
  bool isSpecial = absent >= 0 && absent < count &&
                   (table.kinds[absent] == tok::PieceKind::Control || table.kinds[absent] == tok::PieceKind::Unknown);
  return isSpecial ? absent : -1;
}

Status readKinds(const GgufMetadata &metadata, tok::TokenizerT &table) {
  size_t count = table.pieces.size();
  table.kinds.assign(count, tok::PieceKind::Normal);
  DISTC_ASSIGN(const std::vector<int64_t> *types,
               getArray<int64_t>(metadata, "tokenizer.ggml.token_type", "an array of integers"));
  if (!types)
    return {};
  if (types->size() != count)
    return dataLoss("metadata tokenizer.ggml.token_type has " + std::to_string(types->size()) + " entries for " +
                    std::to_string(count) + " tokens");
  for (size_t id = 0; id < count; ++id) {
    if ((*types)[id] < 1 || (*types)[id] > 6)
      return dataLoss("metadata tokenizer.ggml.token_type of token " + std::to_string(id) + " is " +
                      std::to_string((*types)[id]) + ", expected 1 to 6");
    table.kinds[id] = static_cast<tok::PieceKind>((*types)[id] - 1);
  }
  return {};
}

Status readScores(const GgufMetadata &metadata, tok::TokenizerT &table) {
  DISTC_ASSIGN(const std::vector<double> *scores,
               getArray<double>(metadata, "tokenizer.ggml.scores", "an array of floats"));
  if (!scores || scores->size() != table.pieces.size())
    return dataLoss("metadata tokenizer.ggml.scores has " + std::to_string(scores ? scores->size() : 0) +
                    " entries for " + std::to_string(table.pieces.size()) + " tokens");
  table.scores.assign(scores->begin(), scores->end());
  return {};
}

Status readMerges(const GgufMetadata &metadata, TokenizerDraft &draft) {
  DISTC_ASSIGN(const std::vector<std::string> *merges,
               getArray<std::string>(metadata, "tokenizer.ggml.merges", "an array of strings"));
  if (!merges)
    return dataLoss("metadata tokenizer.ggml.merges is missing; a byte pair tokenizer needs it");
  for (const std::string &merge : *merges) {
    size_t space = merge.find(' ', 1);
    if (space == std::string::npos)
      return dataLoss("metadata tokenizer.ggml.merges: '" + merge + "' is not two pieces with a space between");
    DISTC_TRY(
        draft.addMerge(merge.substr(0, space), merge.substr(space + 1)).context("metadata tokenizer.ggml.merges"));
  }
  dropDuplicateMerges(draft.table.merges, DuplicateMerges::KeepFirst);
  return {};
}

/// What only a byte-level tokenizer has. Returns whether it adds bos if the file does not say.
Result<bool> readBpe(const GgufMetadata &metadata, TokenizerDraft &draft) {
  draft.table.model = tok::Model::Bpe;
  DISTC_ASSIGN(const std::string *pre, get<std::string>(metadata, "tokenizer.ggml.pre", "a string"));
  if (!pre)
    return invalidArgument("metadata tokenizer.ggml.pre is missing, so how text is to be split is not known; convert "
                           "the model again with a newer converter");
  Result<NamedSplit> split = namedSplit(*pre);
  if (!split.ok())
    return split.status().context("metadata tokenizer.ggml.pre");
  draft.table.pre_tokenizer = split->patterns;
  draft.table.ignore_merges = split->ignoreMerges;
  DISTC_TRY(readMerges(metadata, draft));
  return split->addBos;
}

Status readDraft(const GgufMetadata &metadata, const std::string &model, TokenizerDraft &draft) {
  tok::TokenizerT &table = draft.table;
  bool isSpm = model == "llama";
  if (!isSpm && model != "gpt2")
    return invalidArgument("tokenizer model '" + model +
                           "' is not supported; supported are gpt2 (byte pair encoding) and "
                           "llama (SentencePiece)");
  DISTC_ASSIGN(const std::vector<std::string> *pieces,
               getArray<std::string>(metadata, "tokenizer.ggml.tokens", "an array of strings"));
  if (!pieces)
    return dataLoss("metadata tokenizer.ggml.tokens is missing");
  table.pieces = *pieces;
  draft.indexPieces();
  DISTC_TRY(readKinds(metadata, table));
  bool addBos = isSpm;
  if (isSpm) {
    table.model = tok::Model::Spm;
    DISTC_TRY(readScores(metadata, table));
    DISTC_ASSIGN(table.add_space_prefix, getBool(metadata, "tokenizer.ggml.add_space_prefix", true));
  } else {
    DISTC_ASSIGN(addBos, readBpe(metadata, draft));
  }
  DISTC_ASSIGN(table.bos, getId(metadata, "tokenizer.ggml.bos_token_id", table, isSpm ? 1 : -1));
  DISTC_ASSIGN(table.eos, getId(metadata, "tokenizer.ggml.eos_token_id", table, isSpm ? 2 : -1));
  DISTC_ASSIGN(table.unknown, getId(metadata, "tokenizer.ggml.unknown_token_id", table, isSpm ? 0 : -1));
  DISTC_ASSIGN(table.add_bos, getBool(metadata, "tokenizer.ggml.add_bos_token", addBos && table.bos >= 0));
  DISTC_ASSIGN(table.add_eos, getBool(metadata, "tokenizer.ggml.add_eos_token", false));
  for (const char *key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    DISTC_ASSIGN(int32_t id, getId(metadata, key, table, -1));
    if (id >= 0)
      table.end_of_generation.push_back(static_cast<uint32_t>(id));
  }
  addWellKnownEnds(draft);
  DISTC_ASSIGN(const std::string *chat, get<std::string>(metadata, "tokenizer.chat_template", "a string"));
  if (chat)
    table.chat_template = *chat;
  return {};
}

} // namespace

Result<TokenizerBytes> importGgufTokenizer(const GgufMetadata &metadata, const std::string &path) {
  Result<const std::string *> model = get<std::string>(metadata, "tokenizer.ggml.model", "a string");
  if (!model.ok())
    return model.status().context(path);
  // "none" is how a file says that its model works on something other than text.
  if (!*model || **model == "none" || **model == "no_vocab")
    return TokenizerBytes();
  TokenizerDraft draft;
  if (Status status = readDraft(metadata, **model, draft); !status.ok())
    return status.context(path);
  return finishTokenizer(draft, path);
}

} // namespace distc::import
