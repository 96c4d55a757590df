#include "Sequences.h"

#include <gmock/gmock.h>

#include <fstream>
#include <sstream>

namespace distc::test {
namespace {

using ::testing::HasSubstr;

std::string contents(const std::string &path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

size_t count(const std::string &text, const std::string &what) {
  size_t n = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1))
    ++n;
  return n;
}

TEST(Trace, EveryInstructionOfEveryRankOnItsQueue) {
  TemporaryFolder folder;
  TinyModel model(freshSeed(), {.tp = 2});
  model.plans()[0]->programs[2]->labels[0] = "a \"quoted\\ label\n\xc3\xa9";
  model.write(folder.path());
  RunnerOptions options;
  options.traceFile = folder / "trace.json";
  {
    auto runner = Runner::open(folder.path(), options);
    ASSERT_TRUE(runner.ok()) << runner.status().message();
    std::mt19937 random(1);
    std::vector<Sequence> s = randomSequences(random, 1, 4);
    for (int step = 0; step < 3; ++step)
      ASSERT_TRUE((*runner)->step(makeBatch({&s[0]}, {1}, true)).ok());
    EXPECT_EQ(count(contents(options.traceFile), "\"ph\":\"X\""), 0u) << "written when the runner ends";
  }
  const std::string json = contents(options.traceFile);
  size_t communication = 0;
  const auto &instructions = model.plans()[0]->programs[2]->instructions;
  for (const auto &instruction : instructions)
    communication += instruction->queue;
  EXPECT_EQ(count(json, "\"ph\":\"X\""), instructions.size() * 3 * 2);
  EXPECT_EQ(count(json, "\"pid\":1,\"tid\":1,\"ts\""), communication * 3);
  EXPECT_EQ(count(json, "\"name\":\"AllReduce\",\"pid\":0,\"tid\":1"), 5u * 3);
  EXPECT_EQ(count(json, "\"args\":{\"step\":2,\"id\":"), instructions.size() * 2);
  EXPECT_THAT(json, HasSubstr("\"label\":\"layers.1.attention\",\"bytes\":"));
  EXPECT_THAT(json, HasSubstr("a \\\"quoted\\\\ label\\u000a\\u00c3\\u00a9"));
  EXPECT_THAT(json, HasSubstr("{\"name\":\"rank 1\"}"));
  // The matrix of the last linear (21 x 32 f32), its input and its output.
  EXPECT_THAT(json, HasSubstr("\"label\":\"head\",\"bytes\":" + std::to_string((21 * 32 + 32 + 21) * 4)));
}

} // namespace
} // namespace distc::test
