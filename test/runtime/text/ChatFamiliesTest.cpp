// Templates of every family and of every construct, with what the Python package jinja2 makes of them:
// test/data/chat-templates.json.xz, written by compare_templates.py --write.
#include "JinjaJson.h"

#include "test/import/TokenizerTestData.h"

#include <gtest/gtest.h>

namespace distc::test {
namespace {

TEST(ChatTemplate, RendersWhatJinja2Renders) {
  const auto cases = nlohmann::ordered_json::parse(readXz("../chat-templates.json.xz"));
  ASSERT_GT(cases.size(), 1000u);
  size_t refused = 0;
  for (const auto &one : cases) {
    jinja::Entries variables;
    for (const auto &[name, value] : one["variables"].items())
      variables.emplace_back(name, jinjaValue(value));
    auto source = one["template"].get<std::string>();
    auto text = renderTemplate(source, std::move(variables));
    ASSERT_EQ(text.ok(), one["text"].is_string()) << source << (text.ok() ? *text : text.status().message());
    if (text.ok())
      EXPECT_EQ(*text, one["text"].get<std::string>()) << source << "\n" << one["variables"];
    else
      EXPECT_EQ(text.status().message().find("chat template, "), 0u) << text.status().message();
    refused += !text.ok();
  }
  EXPECT_GT(refused, 100u);
}

} // namespace
} // namespace distc::test
