// The configuration files beside a tokenizer, as transformers reads them.
#include "compiler/Import/TokenizerImportHf.h"

#include "runtime/base/File.h"

#include <charconv>
#include <filesystem>

namespace distc::import {

namespace {

Result<Json> readIfThere(const std::string &directory, const char *name) {
  std::string path = (std::filesystem::path(directory) / name).string();
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored))
    return Json::object();
  DISTC_ASSIGN(Json file, parseJsonFile(path));
  if (!file.is_object())
    return dataLoss(path + ": is " + kindOf(file) + ", expected an object");
  return file;
}

/// "chat_template": a string, or a list of named ones, of which the default is taken.
Result<std::string> chatTemplateOf(const Json &config) {
  const Json *source = memberOf(config, "chat_template");
  if (!source)
    return std::string();
  if (source->is_string())
    return source->get<std::string>();
  if (!source->is_array())
    return dataLoss(std::string("tokenizer_config.json: chat_template is ") + kindOf(*source) +
                    ", expected a string or a list");
  std::string names;
  for (const Json &entry : *source) {
    DISTC_ASSIGN(std::string name, stringOf(entry, "name", ""));
    if (name == "default")
      return stringOf(entry, "template", "");
    names += (names.empty() ? "" : ", ") + name;
  }
  return dataLoss("tokenizer_config.json: chat_template has no template 'default', only " + names);
}

/// A special token of a configuration: a string, or an object with its content.
Result<std::string> tokenOf(const HfConfigs &configs, const char *key) {
  for (const Json *config : {&configs.tokenizer, &configs.specialTokens}) {
    const Json *token = memberOf(*config, key);
    if (token && token->is_object())
      token = memberOf(*token, "content");
    if (token && !token->is_string())
      return dataLoss(std::string(key) + " is " + kindOf(*token) + ", expected a string");
    if (token)
      return token->get<std::string>();
  }
  return std::string();
}

/// The ids under `key`, one or a list of them: of generation_config.json, else of config.json.
Result<std::vector<uint32_t>> idsOf(const HfConfigs &configs, const char *key, size_t count) {
  const Json *value = memberOf(configs.generation, key);
  const char *name = value ? "generation_config.json" : "config.json";
  if (!value)
    value = memberOf(configs.model, key);
  std::vector<uint32_t> ids;
  if (!value)
    return ids;
  for (const Json &id : value->is_array() ? *value : Json::array({*value})) {
    if (!id.is_number_integer())
      return dataLoss(std::string(name) + ": " + key + " is " + kindOf(id) + ", expected an integer");
    if (id >= 0 && id < count) // some files have -1, or the id of a model with more pieces
      ids.push_back(id.get<uint32_t>());
  }
  return ids;
}

/// Of bos or eos: its id, and whether it is added to a text. What tokenizer.json adds stands in `id` and `isAdded`.
Status applySpecial(const HfConfigs &configs, const std::string &name, TokenizerDraft &draft, int32_t &id,
                    bool &isAdded) {
  DISTC_ASSIGN(std::string token, tokenOf(configs, (name + "_token").c_str()));
  DISTC_ASSIGN(std::vector<uint32_t> ids, idsOf(configs, (name + "_token_id").c_str(), draft.table.pieces.size()));
  int32_t configured = draft.find(token);
  if (!token.empty() && configured < 0)
    return dataLoss(name + "_token '" + token + "' is not in the vocabulary");
  if (isAdded && id >= 0 && configured >= 0 && id != configured)
    return invalidArgument("tokenizer.json adds '" + draft.table.pieces[id] + "' to a text, but " + name +
                           "_token is '" + token + "'");
  if (configured >= 0)
    id = configured;
  else if (id < 0 && !ids.empty())
    id = static_cast<int32_t>(ids[0]);
  DISTC_ASSIGN(isAdded, boolOf(configs.tokenizer, ("add_" + name + "_token").c_str(), isAdded));
  if (isAdded && id < 0)
    return dataLoss("add_" + name + "_token is true, but there is no " + name + "_token");
  return {};
}

} // namespace

Result<HfConfigs> readHfConfigs(const std::string &directory) {
  HfConfigs configs;
  DISTC_ASSIGN(configs.tokenizer, readIfThere(directory, "tokenizer_config.json"));
  DISTC_ASSIGN(configs.specialTokens, readIfThere(directory, "special_tokens_map.json"));
  DISTC_ASSIGN(configs.generation, readIfThere(directory, "generation_config.json"));
  DISTC_ASSIGN(configs.model, readIfThere(directory, "config.json"));
  std::string jinja = (std::filesystem::path(directory) / "chat_template.jinja").string();
  std::error_code ignored;
  if (std::filesystem::exists(jinja, ignored)) {
    DISTC_ASSIGN(configs.chatTemplate, readFile(jinja));
    return configs;
  }
  Result<std::string> chat = chatTemplateOf(configs.tokenizer);
  if (!chat.ok())
    return chat.status().context(directory);
  configs.chatTemplate = chat.take();
  return configs;
}

Status applyHfConfigs(const HfConfigs &configs, TokenizerDraft &draft) {
  tok::TokenizerT &table = draft.table;
  DISTC_TRY(applySpecial(configs, "bos", draft, table.bos, table.add_bos));
  DISTC_TRY(applySpecial(configs, "eos", draft, table.eos, table.add_eos));
  DISTC_ASSIGN(table.end_of_generation, idsOf(configs, "eos_token_id", table.pieces.size()));
  table.chat_template = configs.chatTemplate;
  return {};
}

Status applyAddedTokensDecoder(const HfConfigs &configs, TokenizerDraft &draft) {
  const Json *tokens = memberOf(configs.tokenizer, "added_tokens_decoder");
  if (!tokens || !tokens->is_object())
    return {};
  for (const auto &[key, token] : tokens->items()) {
    int64_t id = -1;
    if (std::from_chars(key.data(), key.data() + key.size(), id).ptr != key.data() + key.size())
      return dataLoss("tokenizer_config.json: added_tokens_decoder: '" + key + "' is not an id");
    // Those of tokenizer.model keep the kind that it gives them: its unknown piece is one of these.
    if (id >= 0 && static_cast<size_t>(id) < draft.table.pieces.size() &&
        draft.table.kinds[static_cast<size_t>(id)] != tok::PieceKind::Normal)
      continue;
    DISTC_TRY(putAddedToken(token, id, draft).context("tokenizer_config.json: added_tokens_decoder"));
  }
  // Every piece needs a score; these are found before any merging.
  draft.table.scores.resize(draft.table.pieces.size(), 0.0F);
  return {};
}

} // namespace distc::import
