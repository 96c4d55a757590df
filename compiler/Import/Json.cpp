#include "compiler/Import/Json.h"

#include "runtime/base/File.h"

#include <cstdio>

namespace distc::import {

namespace {

constexpr size_t kMaxDepth = 64;
// A value takes up to about 100 bytes of memory but as little as 2 bytes of text. The largest tokenizers have 2
// million.
constexpr size_t kMaxValues = 8'000'000;
constexpr size_t kShownBytes = 128;

/// Length of the UTF-8 sequence at the start of `text`; 0 if it is none. (RFC 3629, section 4; only the range of the
/// second byte is not told apart, since this is for display.)
size_t sequenceLength(std::string_view text) {
  auto byte = static_cast<unsigned char>(text[0]);
  size_t length = byte < 0x80 ? 1 : byte < 0xc2 ? 0 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : byte < 0xf5 ? 4 : 0;
  if (length > text.size())
    return 0;
  for (size_t i = 1; i < length; ++i)
    if ((static_cast<unsigned char>(text[i]) & 0xc0) != 0x80)
      return 0;
  return length;
}

std::string printable(std::string_view text, std::string_view around = "") {
  std::string out(around);
  while (!text.empty()) {
    if (out.size() >= kShownBytes) {
      out += "…";
      break;
    }
    size_t length = sequenceLength(text);
    auto byte = static_cast<unsigned char>(text[0]);
    if (length == 0 || byte < 0x20 || byte == 0x7f) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\x%02x", byte);
      out += escaped;
      length = 1;
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  out += around;
  return out;
}

/// Builds the document from the parser's events, so that depth and keys are checked before anything is stored.
class Builder final : public nlohmann::json_sax<Json> {
public:
  explicit Builder(const std::string &name) : name_(name) {}

  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(number_integer_t value) override { return put(value); }
  bool number_unsigned(number_unsigned_t value) override { return put(value); }
  bool number_float(number_float_t value, const string_t &) override { return put(value); }
  bool string(string_t &value) override { return put(std::move(value)); }
  bool binary(binary_t &) override { return false; } // JSON text has none
  bool start_object(size_t) override { return push(Json::object()); }
  bool start_array(size_t) override { return push(Json::array()); }
  bool end_object() override { return pop(); }
  bool end_array() override { return pop(); }

  bool key(string_t &key) override {
    auto [slot, inserted] = open_.back()->get_ref<Json::object_t &>().emplace(key, nullptr);
    if (!inserted)
      return fail("key " + inQuotes(path() + key) + " occurs twice");
    slot_ = &slot->second;
    return true;
  }

  bool parse_error(size_t, const std::string &, const nlohmann::detail::exception &error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error while …": from "line" on.
    std::string_view what = error.what();
    if (size_t at = what.find("line "); at != what.npos)
      what.remove_prefix(at);
    else if (size_t end = what.find("] "); end != what.npos)
      what.remove_prefix(end + 2);
    return fail("not valid JSON: " + printable(what));
  }

  Result<Json> take(bool parsed) {
    if (!parsed)
      return status_.ok() ? dataLoss(name_ + ": not valid JSON") : status_;
    return std::move(root_);
  }

private:
  bool fail(const std::string &message) {
    status_ = dataLoss(name_ + ": " + message);
    return false;
  }

  /// Stores a value where the document continues; `slot_` is then that place.
  bool put(Json value) {
    if (++values_ > kMaxValues)
      return fail("more than " + std::to_string(kMaxValues) + " values");
    if (open_.empty())
      slot_ = &root_;
    else if (open_.back()->is_array())
      slot_ = &open_.back()->get_ref<Json::array_t &>().emplace_back();
    *slot_ = std::move(value);
    return true;
  }

  bool push(Json value) {
    if (open_.size() == kMaxDepth)
      return fail("nested deeper than " + std::to_string(kMaxDepth) + " levels");
    if (!put(std::move(value)))
      return false;
    // The address stays good: nothing is added to a container while one inside it is open.
    open_.push_back(slot_);
    return true;
  }

  bool pop() {
    open_.pop_back();
    return true;
  }

  /// "a.b." for the open containers, for an error alone: keys are not tracked while parsing.
  std::string path() const {
    std::string path;
    for (size_t i = 0; i + 1 < open_.size(); ++i)
      for (const auto &item : open_[i]->items())
        if (&item.value() == open_[i + 1])
          path += item.key() + ".";
    return path;
  }

  const std::string &name_;
  Json root_;
  Json *slot_ = nullptr;
  std::vector<Json *> open_;
  size_t values_ = 0;
  Status status_;
};

} // namespace

Result<Json> parseJson(std::string_view text, const std::string &name) {
  // The parser takes a zero byte for the end of the text and would accept anything after it.
  if (size_t zero = text.find('\0'); zero != text.npos)
    return dataLoss(name + ": not valid JSON: byte " + std::to_string(zero) + " is zero");
  Builder builder(name);
  bool parsed = Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take(parsed);
}

Result<Json> parseJsonFile(const std::string &path) {
  DISTC_ASSIGN(std::string text, readFile(path));
  return parseJson(text, path);
}

const char *kindOf(const Json &value) {
  switch (value.type()) {
  case Json::value_t::null:
    return "null";
  case Json::value_t::object:
    return "an object";
  case Json::value_t::array:
    return "an array";
  case Json::value_t::string:
    return "a string";
  case Json::value_t::boolean:
    return "a boolean";
  case Json::value_t::number_integer:
  case Json::value_t::number_unsigned:
  case Json::value_t::number_float:
    return "a number";
  default:
    return "nothing";
  }
}

std::string show(const Json &value) {
  if (value.is_structured())
    return kindOf(value);
  if (value.is_string())
    return printable(value.get_ref<const std::string &>(), "\"");
  return value.dump();
}

std::string inQuotes(std::string_view text) { return printable(text, "'"); }

} // namespace distc::import
