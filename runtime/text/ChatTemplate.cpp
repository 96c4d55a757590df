#include "runtime/text/ChatTemplate.h"

#include "runtime/text/Utf8.h"
#include "runtime/text/jinja/Interpreter.h"

namespace distc {

namespace {

using namespace jinja;

constexpr size_t kMaxSource = size_t(1) << 20;

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

} // namespace

Result<std::string> renderChat(std::string_view source, const std::vector<ChatMessage> &messages,
                               const ChatOptions &options) {
  if (source.size() > kMaxSource)
    return invalidArgument("chat template: " + std::to_string(source.size()) + " bytes, expected at most " +
                           std::to_string(kMaxSource));
  if (text::findInvalidUtf8(source) != std::string_view::npos)
    return invalidArgument("chat template: not valid UTF-8");
  for (std::string_view part : {std::string_view(options.bosToken), std::string_view(options.eosToken)})
    if (text::findInvalidUtf8(part) != std::string_view::npos)
      return invalidArgument("chat template: bos or eos is not valid UTF-8");
  for (const ChatMessage &message : messages)
    if (text::findInvalidUtf8(message.role) != std::string_view::npos ||
        text::findInvalidUtf8(message.content) != std::string_view::npos)
      return invalidArgument("chat template: a message is not valid UTF-8");
  try {
    Block block = parseTemplate(source);
    return Interpreter(variablesOf(messages, options)).run(block);
  } catch (const TemplateError &error) {
    return Status(error.code, "chat template, " + error.message);
  }
}

} // namespace distc
