// Text to token ids and back, from the normalized tokenizer of a plan set (runtime/schema/tokenizer.fbs).
//
// The behaviour is that of the program for which the checkpoint was made, and the file says which choices that needs:
// Hugging Face tokenizers (https://huggingface.co/docs/tokenizers) for tokenizer.json, llama.cpp for GGUF,
// SentencePiece for tokenizer.model. Where they differ and the file cannot say: special pieces are found leftmost first
// and then longest (Hugging Face); ordinary text never becomes a control piece by merging (SentencePiece).
#pragma once

#include "distc/Status.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace distc {

class Tokenizer {
public:
  /// `path`: a tokenizer.dtok: the bytes of a tokenizer and their XXH3-64. The file is hostile until verified.
  static Result<std::unique_ptr<Tokenizer>> open(const std::string &path);
  /// The same from bytes; `name` leads every error.
  static Result<std::unique_ptr<Tokenizer>> fromBytes(std::string bytes, const std::string &name);
  /// What open reads.
  static std::vector<uint8_t> fileOf(std::vector<uint8_t> bytes);
  ~Tokenizer();

  uint32_t vocabulary() const;

  /// `addSpecial`: add bos/eos as the tokenizer is told to. `parseSpecial`: the spelling of a control piece in the text
  /// ("<|im_start|>") is that piece; otherwise only user-defined pieces are. Invalid UTF-8 is an error.
  Result<std::vector<int32_t>> encode(std::string_view text, bool addSpecial, bool parseSpecial) const;

  /// The exact bytes of the ids, which need not be valid UTF-8; control and unknown pieces are left out unless
  /// `special`. Where encoding puts a space before the text, one is taken away from the first piece that is not left
  /// out. An id beyond the vocabulary (padding of the model's) has no text.
  Result<std::string> decode(const std::vector<int32_t> &ids, bool special = false) const;

  /// Generation ends at these.
  bool isEndOfGeneration(int32_t id) const;
  /// -1: none.
  int32_t bos() const;
  int32_t eos() const;
  /// As the vocabulary spells it; empty if out of range.
  std::string_view piece(int32_t id) const;
  /// Jinja source; empty: none.
  std::string_view chatTemplate() const;

  /// Decodes a stream of ids, holding back incomplete UTF-8: what push returns is always whole characters.
  class Stream {
  public:
    explicit Stream(const Tokenizer &tokenizer) : tokenizer_(tokenizer) {}
    Result<std::string> push(int32_t id);
    /// What is still held back, as it is (invalid bytes become U+FFFD).
    std::string finish();

  private:
    const Tokenizer &tokenizer_;
    std::string pending_;
    bool first_ = true;
  };

private:
  struct State;
  Result<std::string> decodeOne(int32_t id, bool special, bool &isFirst) const;
  explicit Tokenizer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

} // namespace distc
