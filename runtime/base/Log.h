// Diagnostics on stderr, by level: DISTC_LOG=error|warn|info|debug (warn by default).
#pragma once

#include <string_view>

namespace distc {

enum class LogLevel { Error, Warn, Info, Debug };

bool logEnabled(LogLevel level);

/// One line, "distc: warn: …"; a line is written whole even when several threads log.
void log(LogLevel level, std::string_view message);

} // namespace distc
