#include "compiler/Report/Html.h"

#include "compiler/Explain/Names.h"

namespace distc::report {

std::string escaped(std::string_view text) {
  std::string result;
  for (char c : explain::printable(text))
    switch (c) {
    case '&':
      result += "&amp;";
      break;
    case '<':
      result += "&lt;";
      break;
    case '>':
      result += "&gt;";
      break;
    case '"':
      result += "&quot;";
      break;
    case '\'':
      result += "&#39;";
      break;
    default:
      result += c;
    }
  return result;
}

// A name that is too long for its column is broken behind a dot, if it can be.
static std::string breakable(const std::string &html) {
  std::string result;
  bool tag = false;
  for (char c : html) {
    tag = c == '<' || (tag && c != '>');
    result += c;
    if (c == '.' && !tag)
      result += "<wbr>";
  }
  return result;
}

std::string tableHtml(std::string_view caption, std::string_view columns, const std::vector<std::string> &heads,
                      const std::vector<std::vector<std::string>> &rows) {
  const auto cell = [&](const char *tag, size_t c, const std::string &text) {
    const std::string kind = columns[c] == 'n' ? "n" : columns[c] == 'w' ? "w" : "t";
    const std::string scope = *tag == 'h' ? " scope=\"col\"" : "";
    return std::string("<t") + tag + scope + " class=\"" + kind + "\">" +
           (kind == "w" && *tag == 'd' ? breakable(text) : text) + "</t" + tag + ">";
  };
  std::string html = "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"" + std::string(caption) +
                     "\">\n<table>\n<thead><tr>";
  for (size_t c = 0; c < heads.size(); ++c)
    html += cell("h", c, heads[c]);
  html += "</tr></thead>\n<tbody>\n";
  for (const std::vector<std::string> &row : rows) {
    html += "<tr>";
    for (size_t c = 0; c < row.size(); ++c)
      html += cell("d", c, row[c]);
    html += "</tr>\n";
  }
  return html + "</tbody>\n</table>\n</div>\n";
}

std::string filled(std::string_view text, const std::vector<std::pair<std::string_view, std::string>> &values) {
  std::string result;
  for (size_t at = 0; at < text.size();) {
    const size_t open = std::min(text.find("{{", at), text.size()), close = text.find("}}", open);
    result += text.substr(at, open - at);
    if (close == text.npos)
      return result + std::string(text.substr(open));
    for (const auto &[name, value] : values)
      if (name == text.substr(open + 2, close - open - 2))
        result += value;
    at = close + 2;
  }
  return result;
}

} // namespace distc::report
