#include "runtime/text/Tokenizer.h"

#include "runtime/base/File.h"
#include "runtime/text/TokenizerState.h"
#include "runtime/text/Utf8.h"

#include <cstring>
#include <span>

namespace distc {

namespace {

constexpr size_t kMaxTextBytes = size_t(1) << 28;

} // namespace

Tokenizer::Tokenizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Tokenizer::~Tokenizer() = default;

Result<std::unique_ptr<Tokenizer>> Tokenizer::open(const std::string &path) {
  DISTC_ASSIGN(std::string bytes, readFile(path));
  uint64_t expected = 0;
  if (bytes.size() < sizeof expected)
    return dataLoss(path + ": not a tokenizer file (" + std::to_string(bytes.size()) + " bytes)");
  std::memcpy(&expected, bytes.data() + bytes.size() - sizeof expected, sizeof expected);
  bytes.resize(bytes.size() - sizeof expected);
  if (hashBytes(bytes) != expected)
    return dataLoss(path + ": damaged: its checksum does not hold; compile the model again");
  return fromBytes(std::move(bytes), path);
}

std::vector<uint8_t> Tokenizer::fileOf(std::vector<uint8_t> bytes) {
  const uint64_t checksum = hashBytes(std::as_bytes(std::span(bytes)));
  bytes.resize(bytes.size() + sizeof checksum);
  std::memcpy(bytes.data() + bytes.size() - sizeof checksum, &checksum, sizeof checksum);
  return bytes;
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::fromBytes(std::string bytes, const std::string &name) {
  Result<std::unique_ptr<State>> state = State::load(std::move(bytes));
  if (!state.ok())
    return state.status().context(name);
  return std::unique_ptr<Tokenizer>(new Tokenizer(state.take()));
}

uint32_t Tokenizer::vocabulary() const { return static_cast<uint32_t>(state_->pieces.size()); }

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text, bool addSpecial, bool parseSpecial) const {
  if (text.size() > kMaxTextBytes)
    return invalidArgument("a text of " + std::to_string(text.size()) + " bytes, expected at most " +
                           std::to_string(kMaxTextBytes));
  if (size_t at = text::findInvalidUtf8(text); at != std::string_view::npos)
    return invalidArgument("the text is not valid UTF-8 at byte " + std::to_string(at));
  std::vector<int32_t> ids;
  if (addSpecial && state_->file->add_bos())
    ids.push_back(bos());
  DISTC_TRY(state_->encodeText(text, parseSpecial, ids));
  if (addSpecial && state_->file->add_eos())
    ids.push_back(eos());
  return ids;
}

Result<std::string> Tokenizer::decodeOne(int32_t id, bool special, bool &isFirst) const {
  if (id < 0)
    return invalidArgument("token id " + std::to_string(id) + " is negative");
  if (static_cast<uint32_t>(id) >= vocabulary()) // a model may have more ids than its tokenizer, for the sake of sizes
    return std::string();
  if (!special && state_->isHidden(id))
    return std::string();
  std::string_view text = state_->textOf(id);
  // Encoding put that space there.
  if (isFirst && state_->isSpm && state_->file->add_space_prefix() && text.starts_with(' '))
    text.remove_prefix(1);
  isFirst = false;
  return std::string(text);
}

Result<std::string> Tokenizer::decode(const std::vector<int32_t> &ids, bool special) const {
  std::string text;
  bool isFirst = true;
  for (int32_t id : ids) {
    DISTC_ASSIGN(std::string part, decodeOne(id, special, isFirst));
    text += part;
  }
  return text;
}

bool Tokenizer::isEndOfGeneration(int32_t id) const { return state_->endOfGeneration.contains(id); }
int32_t Tokenizer::bos() const { return state_->file->bos(); }
int32_t Tokenizer::eos() const { return state_->file->eos(); }

std::string_view Tokenizer::piece(int32_t id) const {
  return id < 0 || static_cast<uint32_t>(id) >= vocabulary() ? std::string_view() : state_->pieces[id];
}

std::string_view Tokenizer::chatTemplate() const {
  const flatbuffers::String *source = state_->file->chat_template();
  return source ? std::string_view(source->c_str(), source->size()) : std::string_view();
}

Result<std::string> Tokenizer::Stream::push(int32_t id) {
  DISTC_ASSIGN(std::string part, tokenizer_.decodeOne(id, false, first_));
  pending_ += part;
  return text::takeWholeCharacters(pending_);
}

std::string Tokenizer::Stream::finish() {
  std::string rest = text::takeWholeCharacters(pending_);
  if (!pending_.empty())
    rest += "\uFFFD"; // an incomplete character is one maximal part
  pending_.clear();
  return rest;
}

} // namespace distc
