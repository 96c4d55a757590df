#include "runtime/base/Log.h"

#include <cstdio>
#include <cstdlib>
#include <string>

namespace distc {

namespace {

const char *const names[] = {"error", "warn", "info", "debug"};

LogLevel threshold() {
  static const LogLevel level = [] {
    const char *wanted = std::getenv("DISTC_LOG");
    for (int i = 0; wanted && i < 4; ++i)
      if (std::string_view(wanted) == names[i])
        return static_cast<LogLevel>(i);
    return LogLevel::Warn;
  }();
  return level;
}

} // namespace

bool logEnabled(LogLevel level) { return level <= threshold(); }

void log(LogLevel level, std::string_view message) {
  if (!logEnabled(level))
    return;
  std::string line = "distc: ";
  line += names[static_cast<int>(level)];
  line += ": ";
  line += message;
  line += '\n';
  std::fwrite(line.data(), 1, line.size(), stderr);
}

} // namespace distc
