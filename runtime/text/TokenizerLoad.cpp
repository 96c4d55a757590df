#include "runtime/text/ByteTable.h"
#include "runtime/text/TokenizerState.h"
#include "runtime/text/Utf8.h"

#include <algorithm>
#include <cmath>

namespace distc {

namespace {

using tok::PieceKind;

// The schema nests nothing: a table of vectors.
constexpr flatbuffers::uoffset_t kMaxDepth = 4;
constexpr flatbuffers::uoffset_t kMaxTables = 1024;
// Matching takes text × spelling in the worst case.
constexpr size_t kMaxSpecialBytes = 4096;

constexpr std::string_view kSpace = "\u2581";

/// What a SentencePiece-style piece stands for: U+2581 is a space.
std::string unescapeSpaces(std::string_view piece) {
  std::string text;
  for (size_t i = 0; i < piece.size();) {
    bool isSpace = piece.substr(i, kSpace.size()) == kSpace;
    text += isSpace ? ' ' : piece[i];
    i += isSpace ? kSpace.size() : 1;
  }
  return text;
}

/// The byte of "<0x41>"; -1: not spelled so.
int byteOfPiece(std::string_view piece) {
  auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
  };
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>' || digit(piece[3]) < 0 || digit(piece[4]) < 0)
    return -1;
  return digit(piece[3]) * 16 + digit(piece[4]);
}

std::string pieceName(size_t id, std::string_view piece) {
  return "piece " + std::to_string(id) + " '" + std::string(piece.substr(0, 64)) + "'";
}

} // namespace

Result<std::unique_ptr<Tokenizer::State>> Tokenizer::State::load(std::string bytes) {
  auto state = std::make_unique<State>();
  state->bytes = std::move(bytes);
  auto *data = reinterpret_cast<const uint8_t *>(state->bytes.data());
  size_t size = state->bytes.size();
  if (size < 16 || !tok::TokenizerBufferHasIdentifier(data))
    return dataLoss("not a tokenizer file (" + std::to_string(size) + " bytes, no DTOK identifier)");
  flatbuffers::Verifier verifier(data, size, kMaxDepth, kMaxTables);
  if (size >= FLATBUFFERS_MAX_BUFFER_SIZE || !tok::VerifyTokenizerBuffer(verifier))
    return dataLoss("damaged: the tokenizer does not hold together");
  state->file = tok::GetTokenizer(data);
  if (state->file->model() > tok::Model::MAX)
    return dataLoss("tokenizer model " + std::to_string(int(state->file->model())) + ", expected 0 (Bpe) or 1 (Spm)");
  state->isSpm = state->file->model() == tok::Model::Spm;
  DISTC_TRY(state->loadPieces());
  DISTC_TRY(state->loadText());
  DISTC_TRY(state->loadMerges());
  DISTC_TRY(state->loadIds());
  DISTC_TRY(state->loadSpecial());
  std::vector<std::string> patterns;
  if (auto *sources = state->file->pre_tokenizer())
    for (const flatbuffers::String *source : *sources)
      patterns.push_back(source->str());
  DISTC_ASSIGN(state->splitter, text::RegexSplitter::compile(patterns));
  return state;
}

Status Tokenizer::State::loadPieces() {
  auto &spellings = *file->pieces();
  auto &fileKinds = *file->kinds();
  if (spellings.size() != fileKinds.size())
    return dataLoss(std::to_string(fileKinds.size()) + " kinds for " + std::to_string(spellings.size()) + " pieces");
  if (spellings.size() == 0 || spellings.size() > INT32_MAX)
    return dataLoss(std::to_string(spellings.size()) + " pieces, expected 1 to 2147483647");
  for (flatbuffers::uoffset_t id = 0; id < spellings.size(); ++id) {
    std::string_view piece(spellings[id]->c_str(), spellings[id]->size());
    if (text::findInvalidUtf8(piece) != std::string_view::npos)
      return dataLoss("piece " + std::to_string(id) + " is not valid UTF-8");
    auto kind = static_cast<PieceKind>(fileKinds[id]);
    if (kind > PieceKind::MAX)
      return dataLoss(pieceName(id, piece) + " is of kind " + std::to_string(int(kind)) + ", expected 0 to 5");
    pieces.push_back(piece);
    kinds.push_back(kind);
  }
  return {};
}

Status Tokenizer::State::loadText() {
  byteIds.fill(-1);
  DISTC_TRY(loadNormal());
  textOffsets.push_back(0);
  for (size_t id = 0; id < pieces.size(); ++id) {
    PieceKind kind = kinds[id];
    bool isOrdinary = kind == PieceKind::Normal || kind == PieceKind::Unused;
    if (auto found = normalSpellings.find(static_cast<int32_t>(id)); found != normalSpellings.end()) {
      textBlob += isSpm ? unescapeSpaces(found->second) : std::string(found->second);
    } else if (kind == PieceKind::Byte) {
      int byte = byteOfPiece(pieces[id]);
      if (byte < 0 || !isSpm)
        return dataLoss(pieceName(id, pieces[id]) + " is of kind Byte, expected <0x00> to <0xFF> of an Spm model");
      textBlob.push_back(static_cast<char>(byte));
      if (byteIds[byte] < 0)
        byteIds[byte] = static_cast<int32_t>(id);
    } else if (isSpm && (isOrdinary || kind == PieceKind::UserDefined)) {
      textBlob += unescapeSpaces(pieces[id]);
    } else if (!isSpm && isOrdinary) {
      std::string bytesOfPiece = text::bytesOfSpelling(pieces[id]);
      if (bytesOfPiece.size() == 1 && byteIds[static_cast<uint8_t>(bytesOfPiece[0])] < 0)
        byteIds[static_cast<uint8_t>(bytesOfPiece[0])] = static_cast<int32_t>(id);
      textBlob += bytesOfPiece;
    } else {
      textBlob += pieces[id];
    }
    textOffsets.push_back(static_cast<uint32_t>(textBlob.size())); // never longer than the file, which is below 2 GiB
  }
  // Only now: textBlob moves while it grows. Control pieces are not here, so that no text can spell one by chance.
  for (size_t id = 0; id < pieces.size(); ++id) {
    if (kinds[id] != PieceKind::Normal && kinds[id] != PieceKind::Unused && kinds[id] != PieceKind::UserDefined)
      continue;
    std::string_view spelling = isSpm ? pieces[id] : textOf(static_cast<int32_t>(id));
    idOfSpelling.emplace(spelling, static_cast<int32_t>(id));
    longestSpelling = std::max(longestSpelling, spelling.size());
  }
  return {};
}

Status Tokenizer::State::loadMerges() {
  uint32_t count = file->merges() ? file->merges()->size() : 0;
  usesScores = isSpm && count == 0;
  merges.reserve(count);
  for (uint32_t rank = 0; rank < count; ++rank) {
    const tok::Merge &merge = *file->merges()->Get(rank);
    std::string name = "merge " + std::to_string(rank);
    if (std::max({merge.left(), merge.right(), merge.result()}) >= pieces.size())
      return dataLoss(name + " names a piece out of range, there are " + std::to_string(pieces.size()));
    std::string_view left = pieces[merge.left()], right = pieces[merge.right()], result = pieces[merge.result()];
    // This also rules out cycles: every merge makes a longer piece.
    if (left.empty() || right.empty() || result.size() != left.size() + right.size() || !result.starts_with(left) ||
        !result.ends_with(right))
      return dataLoss(name + ": " + pieceName(merge.result(), result) + " is not '" + std::string(left.substr(0, 64)) +
                      "' and '" + std::string(right.substr(0, 64)) + "' joined");
    if (isHidden(static_cast<int32_t>(merge.result())))
      continue;
    uint64_t key = uint64_t(merge.left()) << 32 | merge.right();
    if (!merges.emplace(key, text::MergeResult{rank, static_cast<int32_t>(merge.result())}).second)
      return dataLoss(name + " of pieces " + std::to_string(merge.left()) + " and " + std::to_string(merge.right()) +
                      " is there twice");
  }
  if (!usesScores)
    return {};
  if (!file->scores() || file->scores()->size() != pieces.size())
    return dataLoss(std::to_string(file->scores() ? file->scores()->size() : 0) + " scores for " +
                    std::to_string(pieces.size()) + " pieces");
  std::vector<float> order(file->scores()->begin(), file->scores()->end());
  if (std::any_of(order.begin(), order.end(), [](float score) { return std::isnan(score); }))
    return dataLoss("a score is not a number");
  std::sort(order.begin(), order.end(), std::greater<>());
  for (float score : *file->scores())
    scoreRanks.push_back(
        static_cast<uint32_t>(std::lower_bound(order.begin(), order.end(), score, std::greater<>()) - order.begin()));
  return {};
}

Status Tokenizer::State::loadIds() {
  auto check = [&](const char *name, int32_t id) -> Status {
    if (id < -1 || (id >= 0 && static_cast<size_t>(id) >= pieces.size()))
      return dataLoss(std::string(name) + " is piece " + std::to_string(id) + ", there are " +
                      std::to_string(pieces.size()));
    return {};
  };
  DISTC_TRY(check("bos", file->bos()));
  DISTC_TRY(check("eos", file->eos()));
  DISTC_TRY(check("unknown", file->unknown()));
  if ((file->add_bos() && file->bos() < 0) || (file->add_eos() && file->eos() < 0))
    return dataLoss(std::string("the tokenizer is to add ") + (file->add_bos() && file->bos() < 0 ? "bos" : "eos") +
                    " but has none");
  auto collect = [&](const char *name, const flatbuffers::Vector<uint32_t> *ids,
                     std::unordered_set<int32_t> &out) -> Status {
    if (!ids)
      return {};
    for (uint32_t id : *ids) {
      DISTC_TRY(check(name, static_cast<int32_t>(std::min<uint32_t>(id, INT32_MAX))));
      out.insert(static_cast<int32_t>(id));
    }
    return {};
  };
  DISTC_TRY(collect("an end of generation", file->end_of_generation(), endOfGeneration));
  DISTC_TRY(collect("a piece that strips to its left", file->strip_left(), stripLeft));
  return collect("a piece that strips to its right", file->strip_right(), stripRight);
}

Status Tokenizer::State::addSpecial(Finder &finder, std::string_view spelling, int32_t id) {
  if (spelling.size() > kMaxSpecialBytes)
    return dataLoss("special piece " + std::to_string(id) + " has " + std::to_string(spelling.size()) +
                    " bytes, expected at most " + std::to_string(kMaxSpecialBytes));
  if (spelling.empty())
    return {};
  finder.special.add(spelling, id);
  if (!isHidden(id))
    finder.userDefined.add(spelling, id);
  return {};
}

Status Tokenizer::State::loadNormal() {
  auto *ids = file->normal_pieces();
  auto *spellings = file->normal_spellings();
  uint32_t count = ids ? ids->size() : 0;
  if (count != (spellings ? spellings->size() : 0))
    return dataLoss(std::to_string(spellings ? spellings->size() : 0) + " spellings in normalized text for " +
                    std::to_string(count) + " pieces");
  for (uint32_t i = 0; i < count; ++i) {
    uint32_t id = ids->Get(i);
    if (id >= pieces.size())
      return dataLoss("a piece of normalized text is piece " + std::to_string(id) + ", there are " +
                      std::to_string(pieces.size()));
    std::string_view spelling(spellings->Get(i)->c_str(), spellings->Get(i)->size());
    if (text::findInvalidUtf8(spelling) != std::string_view::npos)
      return dataLoss("piece " + std::to_string(id) + " is not valid UTF-8 in normalized text");
    normalSpellings.emplace(static_cast<int32_t>(id), spelling);
  }
  return {};
}

Status Tokenizer::State::loadSpecial() {
  for (size_t i = 0; i < pieces.size(); ++i) {
    auto id = static_cast<int32_t>(i);
    if (auto found = normalSpellings.find(id); found != normalSpellings.end())
      DISTC_TRY(addSpecial(inNormal, found->second, id));
    else if (kinds[i] == PieceKind::UserDefined || isHidden(id))
      DISTC_TRY(addSpecial(inText, pieces[i], id));
  }
  return {};
}

} // namespace distc
