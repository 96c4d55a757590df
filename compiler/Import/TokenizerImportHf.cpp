// tokenizer.json: https://huggingface.co/docs/tokenizers (the serialized form of Tokenizer).
#include "compiler/Import/TokenizerImportHf.h"

#include "runtime/base/File.h"
#include "runtime/text/Normalize.h"

#include <algorithm>
#include <filesystem>

namespace distc::import {

namespace {

// More empty ids than this between the pieces are a damaged file, not a vocabulary.
constexpr int64_t kMaxGap = 1 << 20;

Status readVocabulary(const Json &model, TokenizerDraft &draft) {
  const Json *vocabulary = memberOf(model, "vocab");
  if (!vocabulary || !vocabulary->is_object())
    return dataLoss(std::string("model.vocab is ") + (vocabulary ? kindOf(*vocabulary) : "missing") +
                    ", expected an object");
  int64_t limit = static_cast<int64_t>(vocabulary->size()) + kMaxGap;
  for (const auto &[piece, id] : vocabulary->items()) {
    if (!id.is_number_integer() || id < 0 || id >= limit)
      return dataLoss("model.vocab: the id of '" + piece + "' is not an integer of 0 to " + std::to_string(limit - 1));
    DISTC_TRY(growTo(id.get<int64_t>(), draft));
    auto index = id.get<size_t>();
    if (draft.table.kinds[index] != tok::PieceKind::Unused)
      return dataLoss("model.vocab: id " + std::to_string(index) + " is of '" + draft.table.pieces[index] + "' and '" +
                      piece + "'");
    draft.table.pieces[index] = piece;
    draft.table.kinds[index] = tok::PieceKind::Normal;
  }
  return {};
}

Status readMerges(const Json &model, TokenizerDraft &draft) {
  const Json *merges = memberOf(model, "merges");
  if (!merges || !merges->is_array())
    return dataLoss("model.merges is not an array");
  for (const Json &merge : *merges) {
    std::string left, right;
    if (merge.is_string()) {
      const auto &text = merge.get_ref<const std::string &>();
      size_t space = text.find(' ');
      if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos)
        return dataLoss("model.merges: '" + text + "' is not two pieces with a space between");
      left = text.substr(0, space);
      right = text.substr(space + 1);
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      left = merge[0].get<std::string>();
      right = merge[1].get<std::string>();
    } else {
      return dataLoss(std::string("model.merges: an entry is ") + kindOf(merge) + ", expected a string or two of them");
    }
    DISTC_TRY(draft.addMerge(left, right));
  }
  dropDuplicateMerges(draft.table.merges, DuplicateMerges::KeepLast);
  return {};
}

Status readModel(const Json &file, TokenizerDraft &draft) {
  const Json *model = memberOf(file, "model");
  if (!model || !model->is_object())
    return dataLoss("model is missing");
  DISTC_ASSIGN(std::string type, stringOf(*model, "type", memberOf(*model, "merges") ? "BPE" : "unknown"));
  if (type != "BPE")
    return invalidArgument("model '" + type + "' is not supported; supported is BPE");
  for (const char *affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    DISTC_ASSIGN(std::string text, stringOf(*model, affix, ""));
    if (!text.empty())
      return invalidArgument(std::string("model.") + affix + " '" + text + "' is not supported, expected none");
  }
  if (const Json *dropout = memberOf(*model, "dropout"); dropout && *dropout != 0)
    return invalidArgument("model.dropout is not supported: the same text would become other ids each time");
  DISTC_ASSIGN(draft.table.ignore_merges, boolOf(*model, "ignore_merges", false));
  DISTC_ASSIGN(draft.table.fuse_unknown, boolOf(*model, "fuse_unk", false));
  DISTC_TRY(readVocabulary(*model, draft));
  draft.indexPieces();
  DISTC_TRY(readMerges(*model, draft));

  bool isSpm = draft.table.model == tok::Model::Spm;
  DISTC_ASSIGN(bool byteFallback, boolOf(*model, "byte_fallback", false));
  for (int byte = 0; byte < 256 && isSpm && byteFallback; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    if (int32_t id = draft.find(name); id >= 0)
      draft.table.kinds[id] = tok::PieceKind::Byte;
  }
  DISTC_ASSIGN(std::string unknown, stringOf(*model, "unk_token", ""));
  draft.table.unknown = unknown.empty() ? -1 : draft.find(unknown);
  return {};
}

/// What normalization makes of a text that is nothing but `content`: a piece of normalized text is found as that.
Result<std::string> normalSpelling(const std::string &content, const tok::TokenizerT &table) {
  std::string plain = content;
  if (table.nfc) {
    DISTC_ASSIGN(plain, text::normalizeNfc(content));
  }
  // Metaspace is no normalizer: it comes after pieces are found.
  if (table.model != tok::Model::Spm || table.space_prefix_once)
    return plain;
  std::string marked = table.add_space_prefix ? "\u2581" : "";
  for (char c : plain)
    marked += c == ' ' ? "\u2581" : std::string(1, c);
  return marked;
}

Status readAddedTokens(const Json &file, TokenizerDraft &draft) {
  const Json *tokens = memberOf(file, "added_tokens");
  if (!tokens)
    return {};
  if (!tokens->is_array())
    return dataLoss(std::string("added_tokens is ") + kindOf(*tokens) + ", expected an array");
  for (const Json &token : *tokens) {
    const Json *id = memberOf(token, "id");
    if (!id || !id->is_number_integer())
      return dataLoss("added_tokens: an entry has no integer id");
    DISTC_TRY(putAddedToken(token, id->get<int64_t>(), draft).context("added_tokens"));
    DISTC_ASSIGN(bool isNormalized, boolOf(token, "normalized", false));
    if (isNormalized) {
      auto index = id->get<uint32_t>();
      DISTC_ASSIGN(std::string spelling, normalSpelling(draft.table.pieces[index], draft.table));
      draft.table.normal_pieces.push_back(index);
      draft.table.normal_spellings.push_back(std::move(spelling));
    }
  }
  return {};
}

/// TemplateProcessing: what is put before and after a single text.
Status readTemplate(const Json &component, TokenizerDraft &draft) {
  const Json *single = memberOf(component, "single");
  if (!single || !single->is_array())
    return dataLoss("post_processor: TemplateProcessing without a template for a single text");
  bool seenText = false;
  for (const Json &part : *single) {
    if (memberOf(part, "Sequence")) {
      seenText = true;
      continue;
    }
    const Json *special = memberOf(part, "SpecialToken");
    DISTC_ASSIGN(std::string name, special ? stringOf(*special, "id", "") : Result<std::string>(std::string()));
    int32_t id = draft.find(name);
    if (id < 0)
      return dataLoss("post_processor: the template names '" + name + "', which is not in the vocabulary");
    bool &isAdded = seenText ? draft.table.add_eos : draft.table.add_bos;
    if (isAdded)
      return invalidArgument("post_processor: a template with several special tokens on one side of the text is not "
                             "supported, expected at most one on each");
    isAdded = true;
    (seenText ? draft.table.eos : draft.table.bos) = id;
  }
  return {};
}

Status readPostProcessor(const Json &file, TokenizerDraft &draft) {
  DISTC_ASSIGN(std::vector<const Json *> components, componentsOf(file, "post_processor", "processors"));
  for (const Json *component : components) {
    DISTC_ASSIGN(std::string type, typeOf(*component));
    if (type == "TemplateProcessing") {
      DISTC_TRY(readTemplate(*component, draft));
    } else if (type != "ByteLevel") { // that one moves offsets, not ids
      return invalidArgument("post_processor '" + type +
                             "' is not supported; supported are TemplateProcessing and "
                             "ByteLevel");
    }
  }
  return {};
}

Status readTokenizerJson(const std::string &path, TokenizerDraft &draft) {
  DISTC_ASSIGN(Json file, parseJsonFile(path));
  auto read = [&]() -> Status {
    DISTC_TRY(readHfText(file, draft));
    DISTC_TRY(readModel(file, draft));
    DISTC_TRY(readAddedTokens(file, draft));
    return readPostProcessor(file, draft);
  };
  return read().context(path);
}

Status readTokenizerModel(const std::string &path, const HfConfigs &configs, TokenizerDraft &draft) {
  DISTC_ASSIGN(std::string bytes, readFile(path));
  DISTC_TRY(readSentencePiece(bytes, draft).context(path));
  // What Hugging Face's tokenizer of LLaMA does around SentencePiece.
  DISTC_ASSIGN(bool legacy, boolOf(configs.tokenizer, "legacy", true));
  draft.table.space_prefix_first = !legacy;
  draft.table.add_bos = draft.table.bos >= 0;
  return applyAddedTokensDecoder(configs, draft);
}

} // namespace

const Json *memberOf(const Json &object, const char *key) {
  if (!object.is_object())
    return nullptr;
  auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

Result<bool> boolOf(const Json &object, const char *key, bool absent) {
  const Json *value = memberOf(object, key);
  if (value && !value->is_boolean())
    return dataLoss(std::string(key) + " is " + kindOf(*value) + ", expected true or false");
  return value ? value->get<bool>() : absent;
}

Result<std::string> stringOf(const Json &object, const char *key, const std::string &absent) {
  const Json *value = memberOf(object, key);
  if (value && !value->is_string())
    return dataLoss(std::string(key) + " is " + kindOf(*value) + ", expected a string");
  return value ? value->get<std::string>() : absent;
}

Result<std::string> typeOf(const Json &component) { return stringOf(component, "type", "unknown"); }

Result<std::vector<const Json *>> componentsOf(const Json &file, const char *name, const char *key) {
  std::vector<const Json *> components;
  const Json *root = memberOf(file, name);
  std::vector<const Json *> pending;
  if (root)
    pending.push_back(root);
  while (!pending.empty()) {
    const Json *component = pending.back();
    pending.pop_back();
    DISTC_ASSIGN(std::string type, typeOf(*component));
    if (type != "Sequence") {
      components.push_back(component);
      continue;
    }
    const Json *parts = memberOf(*component, key);
    if (!parts || !parts->is_array())
      return dataLoss(std::string(name) + ": a Sequence without " + key);
    for (auto part = parts->rbegin(); part != parts->rend(); ++part)
      pending.push_back(&*part);
  }
  return components;
}

Status growTo(int64_t id, TokenizerDraft &draft) {
  auto count = static_cast<int64_t>(draft.table.pieces.size());
  if (id < 0 || id > INT32_MAX)
    return dataLoss("piece " + std::to_string(id) + " is out of range");
  if (id >= count) {
    draft.table.pieces.resize(static_cast<size_t>(id) + 1);
    draft.table.kinds.resize(static_cast<size_t>(id) + 1, tok::PieceKind::Unused);
  }
  return {};
}

Status putAddedToken(const Json &token, int64_t id, TokenizerDraft &draft) {
  DISTC_ASSIGN(std::string content, stringOf(token, "content", ""));
  DISTC_ASSIGN(bool isSpecial, boolOf(token, "special", false));
  DISTC_ASSIGN(bool isWord, boolOf(token, "single_word", false));
  DISTC_ASSIGN(bool stripsLeft, boolOf(token, "lstrip", false));
  DISTC_ASSIGN(bool stripsRight, boolOf(token, "rstrip", false));
  if (content.empty())
    return dataLoss("token " + std::to_string(id) + " has no content");
  if (isWord)
    return invalidArgument("token '" + content + "' is to be found as a single word only, which is not supported");
  if (id > static_cast<int64_t>(draft.table.pieces.size()) + kMaxGap)
    return dataLoss("token '" + content + "' has the id " + std::to_string(id) + ", there are " +
                    std::to_string(draft.table.pieces.size()) + " pieces");
  DISTC_TRY(growTo(id, draft));
  auto index = static_cast<uint32_t>(id);
  draft.table.pieces[index] = content;
  draft.table.kinds[index] = isSpecial ? tok::PieceKind::Control : tok::PieceKind::UserDefined;
  draft.idOfPiece[content] = index;
  if (stripsLeft)
    draft.table.strip_left.push_back(index);
  if (stripsRight)
    draft.table.strip_right.push_back(index);
  return {};
}

Result<TokenizerBytes> importHfTokenizer(const std::string &directory) {
  auto pathOf = [&](const char *name) { return (std::filesystem::path(directory) / name).string(); };
  std::error_code ignored;
  bool hasJson = std::filesystem::exists(pathOf("tokenizer.json"), ignored);
  if (!hasJson && !std::filesystem::exists(pathOf("tokenizer.model"), ignored))
    return TokenizerBytes();
  DISTC_ASSIGN(HfConfigs configs, readHfConfigs(directory));
  TokenizerDraft draft;
  if (hasJson)
    DISTC_TRY(readTokenizerJson(pathOf("tokenizer.json"), draft));
  else
    DISTC_TRY(readTokenizerModel(pathOf("tokenizer.model"), configs, draft));
  DISTC_TRY(applyHfConfigs(configs, draft).context(directory));
  addWellKnownEnds(draft);
  return finishTokenizer(draft, directory);
}

} // namespace distc::import
