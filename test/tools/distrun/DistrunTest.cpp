#include <algorithm>
#include <array>
#include <cstdio>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <string>
#include <sys/wait.h>

namespace {

struct Outcome {
  int code;
  std::string output;
};

Outcome run(const std::string &arguments, const std::string &redirect = "2>&1") {
  FILE *pipe = popen((std::string(DISTRUN) + " " + arguments + " " + redirect).c_str(), "r");
  std::string output;
  std::array<char, 4096> buffer;
  while (const size_t n = std::fread(buffer.data(), 1, buffer.size(), pipe))
    output.append(buffer.data(), n);
  return {WEXITSTATUS(pclose(pipe)), output};
}

TEST(Distrun, UsageErrorsAreOneLineAndExitWith2) {
  const std::pair<const char *, const char *> cases[] = {
      {"", "no command"},
      {"frob", "unknown command 'frob'"},
      {"generate D --frob", "unknown option '--frob'"},
      {"generate D", "exactly one of --prompt"},
      {"generate --prompt x", "no folder"},
      {"generate D --prompt x --temperature -1", "--temperature is '-1', expected"},
      {"generate D --prompt x --temperature nan", "--temperature is 'nan', expected"},
      {"generate D --prompt x --top-p 0", "--top-p is '0', expected"},
      {"generate D --prompt x --max-new-tokens 0", "--max-new-tokens is '0', expected"},
      {"generate D --tokens 1,,2", "--tokens is '1,,2', expected"},
      {"generate D --prompt", "--prompt needs a value"},
      {"generate D --prompt x --ranks frob", "--ranks is 'frob', expected threads, device, gpus, mpi or env"},
      {"logits D --tokens 1", "-o is missing"},
      {"diff A", "no second folder"},
      {"diff A B", "exactly one of --prompt and --tokens"},
      {"diff A B C --tokens 1", "unexpected argument 'C', expected two folders"},
      {"diff A B --tokens 1 --tolerance -1", "--tolerance is '-1', expected a number of at least 0"},
      {"diff A B --tokens 1 --tolerance nan", "--tolerance is 'nan', expected"},
      {"diff A B --tokens 1 --ranks mpi", "--ranks: diff runs all ranks in one process"},
      {"diff A B --tokens 1 --trace f", "--trace: diff writes no trace"},
      {"bench D --prompt-tokens 1 --batch 1", "--new-tokens is missing"},
  };
  for (const auto &[arguments, expected] : cases) {
    const Outcome o = run(arguments);
    EXPECT_EQ(o.code, 2) << arguments;
    EXPECT_TRUE(o.output.starts_with("distrun: error: ")) << o.output;
    EXPECT_THAT(o.output, testing::HasSubstr(expected));
    EXPECT_THAT(o.output, testing::HasSubstr("--help"));
    EXPECT_EQ(std::count(o.output.begin(), o.output.end(), '\n'), 1) << o.output;
  }
}

TEST(Distrun, HelpAndVersion) {
  EXPECT_EQ(run("--version").output.rfind("distrun ", 0), 0u);
  for (const char *command : {"", "generate", "logits", "bench", "diff"}) {
    const Outcome o = run(std::string(command) + " --help", "2>/dev/null");
    EXPECT_EQ(o.code, 0);
    EXPECT_THAT(o.output, testing::HasSubstr("usage: distrun"));
  }
}

TEST(Distrun, OtherFailuresExitWith1) {
  const Outcome o = run("generate /nonexistent --tokens 1 --print-ids");
  EXPECT_EQ(o.code, 1);
  EXPECT_TRUE(o.output.starts_with("distrun: error: ")) << o.output;
  EXPECT_EQ(run("--help", ">/dev/full 2>&1").code, 1);
}

} // namespace
