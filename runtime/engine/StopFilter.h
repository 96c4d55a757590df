// Finds stop strings in text that arrives in pieces. Of several the one that is complete first ends the text, of two
// that end together the longer.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace distc {

class StopFilter {
public:
  explicit StopFilter(const std::vector<std::string> &stops) : stops_(stops) {}
  /// The text that surely stands before every stop string.
  std::string push(const std::string &text);
  /// What was held back, when no more text comes.
  std::string finish() { return std::exchange(pending_, {}); }
  bool stopped() const { return stopped_; }

private:
  const std::vector<std::string> &stops_;
  std::string pending_;
  bool stopped_ = false;
};

} // namespace distc
