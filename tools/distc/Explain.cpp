#include "tools/distc/Explain.h"

#include "compiler/Explain/Explain.h"
#include "compiler/Explain/Memory.h"

#include <cstdio>

namespace distc {

Status checkOptions(const ExplainCommand &command) {
  if (command.batch < 0 || command.batch > 65536)
    return invalidArgument("--batch is " + std::to_string(command.batch) + ", expected 1 to 65536");
  if (command.batch != 0 && command.memory.empty())
    return invalidArgument("--batch is for the longest context that fits, and needs --memory");
  if (!command.memory.empty() && !command.name.empty())
    return invalidArgument("--memory is of the whole plan set; leave out '" + command.name + "'");
  if (!command.memory.empty())
    return explain::parseMemory(command.memory, "--memory").status();
  return {};
}

Status explainCommand(const ExplainCommand &command) {
  DISTC_ASSIGN(const explain::PlanSet set, explain::openFolder(command.directory));
  explain::ExplainOptions options{command.name, {}, set.first().limits()->max_batch()};
  if (!command.memory.empty()) {
    DISTC_ASSIGN(options.memory, explain::parseMemory(command.memory, "--memory"));
  }
  if (command.batch != 0)
    options.batch = static_cast<uint64_t>(command.batch);
  DISTC_ASSIGN(const std::string text,
               command.json ? explain::explainJson(set, options) : explain::explainText(set, options));
  std::fwrite(text.data(), 1, text.size(), stdout); // the caller looks whether it arrived
  return {};
}

} // namespace distc
