#include "compiler/Import/TokenizerImportCommon.h"

#include "runtime/text/Tokenizer.h"

#include <algorithm>
#include <unordered_set>

namespace distc::import {

namespace {
// Ends of a turn or a text in LLaMA, Qwen, SmolLM, Gemma, Phi, GPT: a chat model must stop at them whether or not its
// configuration lists them.
constexpr std::string_view kWellKnownEnds[] = {"<|im_end|>",      "<|eot_id|>",    "<|eom_id|>", "<|endoftext|>",
                                               "<|end_of_text|>", "<end_of_turn>", "<|end|>"};
} // namespace

void TokenizerDraft::indexPieces() {
  for (uint32_t id = 0; id < table.pieces.size(); ++id)
    idOfPiece.try_emplace(table.pieces[id], id);
}

int32_t TokenizerDraft::find(const std::string &piece) const {
  auto found = idOfPiece.find(piece);
  return found == idOfPiece.end() ? -1 : static_cast<int32_t>(found->second);
}

Status TokenizerDraft::addMerge(const std::string &left, const std::string &right) {
  int32_t leftId = find(left), rightId = find(right), id = find(left + right);
  if (leftId < 0 || rightId < 0 || id < 0)
    return dataLoss("merge " + std::to_string(table.merges.size()) + " '" + left + "' + '" + right + "': '" +
                    (leftId < 0    ? left
                     : rightId < 0 ? right
                                   : left + right) +
                    "' is not in the vocabulary");
  table.merges.emplace_back(leftId, rightId, id);
  return {};
}

void dropDuplicateMerges(std::vector<tok::Merge> &merges, DuplicateMerges which) {
  bool keepLast = which == DuplicateMerges::KeepLast;
  if (keepLast)
    std::reverse(merges.begin(), merges.end());
  std::unordered_set<uint64_t> seen;
  std::erase_if(merges, [&](const tok::Merge &merge) {
    return !seen.insert(uint64_t(merge.left()) << 32 | merge.right()).second;
  });
  if (keepLast)
    std::reverse(merges.begin(), merges.end());
}

void addWellKnownEnds(TokenizerDraft &draft) {
  auto &ends = draft.table.end_of_generation;
  if (draft.table.eos >= 0)
    ends.push_back(static_cast<uint32_t>(draft.table.eos));
  for (std::string_view name : kWellKnownEnds)
    if (int32_t id = draft.find(std::string(name)); id >= 0 && draft.table.kinds[id] == tok::PieceKind::Control)
      ends.push_back(static_cast<uint32_t>(id));
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
}

Result<TokenizerBytes> finishTokenizer(TokenizerDraft &draft, const std::string &name) {
  flatbuffers::FlatBufferBuilder builder(1 << 20);
  tok::FinishTokenizerBuffer(builder, tok::Tokenizer::Pack(builder, &draft.table));
  std::vector<uint8_t> bytes(builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize());
  // A tokenizer that the runtime would refuse is refused now, while the checkpoint can be named.
  auto opened = distc::Tokenizer::fromBytes(std::string(bytes.begin(), bytes.end()), name + ": tokenizer");
  if (!opened.ok())
    return opened.status();
  return TokenizerBytes(std::move(bytes));
}

} // namespace distc::import
