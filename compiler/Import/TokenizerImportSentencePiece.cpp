// tokenizer.model: a ModelProto of SentencePiece
// (https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto) in the wire format of protocol
// buffers (https://protobuf.dev/programming-guides/encoding).
#include "compiler/Import/TokenizerImportHf.h"

#include <cstring>
#include <functional>

namespace distc::import {

namespace {

struct Field {
  uint32_t number = 0;
  uint64_t value = 0;     // of a varint or a fixed number
  std::string_view bytes; // of a length-delimited field
};

Status damaged() { return dataLoss("not a SentencePiece model: its fields do not hold together"); }

bool takeVarint(std::string_view &rest, uint64_t &value) {
  value = 0;
  for (int shift = 0; shift < 64 && !rest.empty(); shift += 7) {
    auto byte = static_cast<uint8_t>(rest[0]);
    rest.remove_prefix(1);
    value |= uint64_t(byte & 0x7F) << shift;
    if (byte < 0x80)
      return true;
  }
  return false;
}

/// Calls `each` for every field of a message.
Status readMessage(std::string_view rest, const std::function<Status(const Field &)> &each) {
  while (!rest.empty()) {
    uint64_t tag = 0, length = 0;
    Field field;
    if (!takeVarint(rest, tag) || tag >> 3 == 0 || tag >> 3 > 0x1FFFFFFF)
      return damaged();
    field.number = static_cast<uint32_t>(tag >> 3);
    switch (tag & 7) {
    case 0:
      if (!takeVarint(rest, field.value))
        return damaged();
      break;
    case 1:
    case 5:
      length = (tag & 7) == 1 ? 8 : 4;
      if (length > rest.size())
        return damaged();
      std::memcpy(&field.value, rest.data(), length);
      break;
    case 2:
      if (!takeVarint(rest, length) || length > rest.size())
        return damaged();
      field.bytes = rest.substr(0, length);
      break;
    default:
      return damaged();
    }
    rest.remove_prefix(length);
    DISTC_TRY(each(field));
  }
  return {};
}

Status readPiece(std::string_view message, tok::TokenizerT &table) {
  std::string piece;
  float score = 0;
  uint64_t type = 1;
  DISTC_TRY(readMessage(message, [&](const Field &field) -> Status {
    if (field.number == 1) {
      piece = field.bytes;
    } else if (field.number == 2) {
      auto bits = static_cast<uint32_t>(field.value);
      std::memcpy(&score, &bits, sizeof score);
    } else if (field.number == 3) {
      type = field.value;
    }
    return {};
  }));
  // NORMAL 1, UNKNOWN 2, CONTROL 3, USER_DEFINED 4, UNUSED 5, BYTE 6: one above ours.
  if (type < 1 || type > 6)
    return dataLoss("piece " + std::to_string(table.pieces.size()) + " is of type " + std::to_string(type) +
                    ", expected 1 to 6");
  table.pieces.push_back(std::move(piece));
  table.scores.push_back(score);
  table.kinds.push_back(static_cast<tok::PieceKind>(type - 1));
  return {};
}

Status readTrainer(std::string_view message, tok::TokenizerT &table) {
  constexpr const char *kTypes[] = {"", "UNIGRAM", "BPE", "WORD", "CHAR"};
  uint64_t type = 1;
  bool spaceIsSuffix = false;
  int32_t unknown = 0, bos = 1, eos = 2;
  DISTC_TRY(readMessage(message, [&](const Field &field) -> Status {
    auto id = static_cast<int32_t>(field.value);
    if (field.number == 3)
      type = field.value;
    else if (field.number == 24)
      spaceIsSuffix = field.value != 0;
    else if (field.number == 40)
      unknown = id;
    else if (field.number == 41)
      bos = id;
    else if (field.number == 42)
      eos = id;
    return {};
  }));
  if (type != 2)
    return invalidArgument(std::string("a SentencePiece model of type ") + (type < 5 ? kTypes[type] : "unknown") +
                           " is not supported; supported is BPE");
  if (spaceIsSuffix)
    return invalidArgument("a SentencePiece model that puts spaces after words is not supported");
  table.unknown = unknown;
  table.bos = bos;
  table.eos = eos;
  return {};
}

Status readNormalizer(std::string_view message, tok::TokenizerT &table) {
  std::string name;
  bool hasRules = false, escapesSpaces = true;
  DISTC_TRY(readMessage(message, [&](const Field &field) -> Status {
    if (field.number == 1)
      name = field.bytes;
    else if (field.number == 2)
      hasRules = !field.bytes.empty();
    else if (field.number == 3)
      table.add_space_prefix = field.value != 0;
    else if (field.number == 4)
      table.remove_extra_spaces = field.value != 0;
    else if (field.number == 5)
      escapesSpaces = field.value != 0;
    return {};
  }));
  if (hasRules || !escapesSpaces)
    return invalidArgument("the normalization '" + name +
                           "' of a SentencePiece model is not supported; supported is "
                           "identity, with spaces escaped");
  return {};
}

} // namespace

Status readSentencePiece(std::string_view bytes, TokenizerDraft &draft) {
  tok::TokenizerT &table = draft.table;
  table.model = tok::Model::Spm;
  table.add_space_prefix = true;
  table.remove_extra_spaces = true;
  std::string_view trainer;
  DISTC_TRY(readMessage(bytes, [&](const Field &field) -> Status {
    if (field.number == 1)
      return readPiece(field.bytes, table);
    if (field.number == 2)
      trainer = field.bytes;
    if (field.number == 3)
      return readNormalizer(field.bytes, table);
    return {};
  }));
  DISTC_TRY(readTrainer(trainer, table));
  for (uint32_t id = 0; id < table.pieces.size(); ++id)
    if (table.kinds[id] == tok::PieceKind::UserDefined) {
      table.normal_pieces.push_back(id);
      table.normal_spellings.push_back(table.pieces[id]);
    }
  table.fuse_unknown = true;
  draft.indexPieces();
  for (int32_t *id : {&table.unknown, &table.bos, &table.eos})
    if (*id < 0 || static_cast<size_t>(*id) >= table.pieces.size())
      *id = -1;
  return {};
}

} // namespace distc::import
