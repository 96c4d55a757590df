// Pieces of HTML. Texts come from plan files, so anything may be in them: what is no markup of ours is escaped.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace distc::report {

/// Safe between tags and in quoted attributes; bytes that are no characters are shown as \xNN.
std::string escaped(std::string_view text);

/// A table whose columns are l (text), n (numbers, to the right), w (text that may be broken); cells are HTML.
std::string tableHtml(std::string_view caption, std::string_view columns, const std::vector<std::string> &heads,
                      const std::vector<std::vector<std::string>> &rows);

/// `text` with each {{name}} replaced by its value, once: what is put in is not looked through again.
std::string filled(std::string_view text, const std::vector<std::pair<std::string_view, std::string>> &values);

} // namespace distc::report
