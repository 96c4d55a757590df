// Laps: where the time of something that happens once goes, for a line of the log.
#pragma once

#include <chrono>
#include <cstdio>
#include <string>

namespace distc {

class Laps {
public:
  /// What has happened since the last lap, or since this was made; returns the seconds.
  double lap(const std::string &what) {
    const auto now = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(now - last_).count();
    last_ = now;
    char text[32];
    std::snprintf(text, sizeof text, " %.3f s", seconds);
    text_ += (text_.empty() ? "" : ", ") + what + text;
    return seconds;
  }

  /// "device 0.210 s, weights 1.300 s".
  const std::string &text() const { return text_; }

private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
  std::string text_;
};

} // namespace distc
