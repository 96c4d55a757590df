// Renders a checkpoint's chat template: the part of Jinja that real templates use. What it cannot render is an error
// that says so, never a silent default. Reference: https://jinja.palletsprojects.com/en/stable/templates/
#pragma once

#include "distc/Status.h"
#include "runtime/text/jinja/Value.h"

#include <string>
#include <string_view>
#include <vector>

namespace distc {

struct ChatMessage {
  std::string role;
  std::string content;
};

struct ChatOptions {
  std::string bosToken;
  std::string eosToken;
  bool addGenerationPrompt = true;
};

/// The template sees messages, add_generation_prompt, bos_token, eos_token, and tools and documents as none.
/// Renders with trim_blocks and lstrip_blocks on, as transformers' apply_chat_template does. Bounded in depth, output
/// size and steps: a hostile template ends with an error.
Result<std::string> renderChat(std::string_view source, const std::vector<ChatMessage> &messages,
                               const ChatOptions &options);

/// The same with other variables: messages with tool calls, tools, enable_thinking, and what else a template asks for.
Result<std::string> renderTemplate(std::string_view source, jinja::Entries variables);

} // namespace distc
