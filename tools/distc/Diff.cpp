#include "tools/distc/Diff.h"

#include "compiler/Explain/Compare.h"

#include <cstdio>

namespace distc {

static Result<bool> differ(const DiffCommand &command) {
  DISTC_ASSIGN(const explain::PlanSet a, explain::openPlans(command.a));
  DISTC_ASSIGN(const explain::PlanSet b, explain::openPlans(command.b));
  if (a.whole() != b.whole())
    return invalidArgument(command.a + " is " + (a.whole() ? "a whole plan set" : "one plan of several") + " and " +
                           command.b + (b.whole() ? " a whole one" : " is one plan of several") +
                           "; compare two folders, or two plans");
  const explain::Comparison comparison = explain::compare(a, b);
  const std::string text =
      command.json ? explain::compareJson(a, b, comparison) : explain::compareText(a, b, comparison);
  std::fwrite(text.data(), 1, text.size(), stdout); // the caller looks whether it arrived
  return comparison.differ();
}

int diffCommand(const DiffCommand &command) {
  const Result<bool> result = differ(command);
  if (result.ok())
    return *result ? 1 : 0;
  std::fprintf(stderr, "distc: error: %s\n", result.status().message().c_str());
  return 2;
}

} // namespace distc
