#include "runtime/text/ChatTemplate.h"

#include "runtime/text/Utf8.h"
#include "runtime/text/jinja/Interpreter.h"

#include <algorithm>

namespace distc {

namespace {

using namespace jinja;

constexpr size_t kMaxSource = size_t(1) << 20;
// The templates of all supported families take less than 1,000 units and 2 for each byte of the chat. The template
// itself buys none.
constexpr size_t kWork = 100'000, kWorkForByte = 64;

Entries variablesOf(const std::vector<ChatMessage> &messages, const ChatOptions &options) {
  Sequence list;
  for (const ChatMessage &message : messages)
    list.push_back(Value::dict({{"role", Value(message.role)}, {"content", Value(message.content)}}));
  return {{"messages", Value::list(std::move(list))},
          {"tools", Value()},
          {"documents", Value()},
          {"add_generation_prompt", Value(options.addGenerationPrompt)},
          {"bos_token", Value(options.bosToken)},
          {"eos_token", Value(options.eosToken)}};
}

/// Everything in a template's world is valid UTF-8.
bool isText(const Value &value) {
  if (const std::string *text = value.string())
    return text::findInvalidUtf8(*text) == std::string_view::npos;
  if (const Sequence *items = value.sequence())
    return std::all_of(items->begin(), items->end(), isText);
  if (const Entries *entries = value.entries())
    return std::all_of(entries->begin(), entries->end(), [](const auto &entry) {
      return text::findInvalidUtf8(entry.first) == std::string_view::npos && isText(entry.second);
    });
  return true;
}

/// Bytes of text, and some for each value.
size_t sizeOf(const Value &value) {
  size_t size = 16;
  if (const std::string *text = value.string())
    size += text->size();
  if (const Sequence *items = value.sequence())
    for (const Value &item : *items)
      size += sizeOf(item);
  if (const Entries *entries = value.entries())
    for (const auto &[name, item] : *entries)
      size += name.size() + sizeOf(item);
  return size;
}

} // namespace

Result<std::string> renderTemplate(std::string_view source, Entries variables) {
  if (source.size() > kMaxSource)
    return invalidArgument("chat template: " + std::to_string(source.size()) + " bytes, expected at most " +
                           std::to_string(kMaxSource));
  if (text::findInvalidUtf8(source) != std::string_view::npos)
    return invalidArgument("chat template: not valid UTF-8");
  size_t given = 0;
  for (const auto &[name, value] : variables) {
    if (!isText(value))
      return invalidArgument("chat template: " + name + " is not valid UTF-8");
    given += sizeOf(value);
  }
  try {
    Block block = parseTemplate(source);
    return Interpreter(std::move(variables), Budget(kWork + kWorkForByte * given)).run(block);
  } catch (const TemplateError &error) {
    return Status(error.code, "chat template, " + error.message);
  }
}

Result<std::string> renderChat(std::string_view source, const std::vector<ChatMessage> &messages,
                               const ChatOptions &options) {
  return renderTemplate(source, variablesOf(messages, options));
}

} // namespace distc
