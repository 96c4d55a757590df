#include "compiler/Report/Html.h"

#include <gtest/gtest.h>

namespace distc::report {
namespace {

TEST(Html, TextIsEscaped) {
  EXPECT_EQ(escaped("<b a='1' c=\"2\">&\x01"), "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;\\x01");
}

TEST(Html, WhatIsFilledInIsNotLookedThroughAgain) {
  EXPECT_EQ(filled("{{a}}-{{b}}-{{a}}", {{"a", "{{b}}"}, {"b", "2"}}), "{{b}}-2-{{b}}");
  EXPECT_EQ(filled("{{none}}x{{", {}), "x{{");
}

} // namespace
} // namespace distc::report
