#include "runtime/text/ChatTemplate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace distc {
namespace {

using testing::HasSubstr;

const std::vector<ChatMessage> kTalk = {
    {"system", "Be brief."}, {"user", " Hi! "}, {"assistant", "Hello."}, {"user", "Größe?\n"}};

std::string render(std::string_view source, const std::vector<ChatMessage> &messages = kTalk, bool prompt = true) {
  auto text = renderChat(source, messages, {"<s>", "</s>", prompt});
  return text.ok() ? *text : "error: " + text.status().message();
}

TEST(ChatTemplate, SmolLM2) {
  const char *source = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
                       "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
                       "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
                       "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
                       "{{ '<|im_start|>assistant\n' }}{% endif %}";
  EXPECT_EQ(render(source), "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi! <|im_end|>\n"
                            "<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nGröße?\n<|im_end|>\n"
                            "<|im_start|>assistant\n");
  EXPECT_EQ(render(source, {{"user", "x"}}, false),
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
            "<|im_start|>user\nx<|im_end|>\n");
}

// No template takes all of the memory: texts that grow in one expression, and those that come apart into one for each
// character, of which each takes many times its length.
TEST(ChatTemplate, RefusesWhatTakesTooMuch) {
  for (const char *source : {"{{ ('x' * 4000000) | list | length }}", "{{ ('x ' * 4000000).split() | length }}",
                             "{{ [1, 2, 3] | join('x' * 400000000) }}"})
    EXPECT_THAT(render(source), HasSubstr("the template does too much work")) << source;
  EXPECT_EQ(render("{{ ('x' * 10000) | list | length }}"), "10000");
}

} // namespace
} // namespace distc
