// How values are written: str(), repr() and json.dumps() of Python.
#include "runtime/text/jinja/Value.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace distc::jinja {

std::string floatText(double value) {
  if (!std::isfinite(value))
    return std::isnan(value) ? "nan" : value < 0 ? "-inf" : "inf";
  char text[64];
  auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::scientific).ptr;
  std::string_view shortest(text, static_cast<size_t>(end - text));
  int exponent = std::atoi(std::string(shortest.substr(shortest.find('e') + 1)).c_str());
  if (exponent < -4 || exponent >= 16)
    return std::string(shortest);
  end = std::to_chars(text, text + sizeof text, value, std::chars_format::fixed).ptr;
  std::string fixed(text, end);
  return fixed.find('.') == std::string::npos ? fixed + ".0" : fixed;
}

namespace {

std::string reprOfString(std::string_view text) {
  char quote = text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  for (char c : text) {
    auto byte = static_cast<unsigned char>(c);
    if (c == quote || c == '\\')
      (out += '\\') += c;
    else if (c == '\n' || c == '\r' || c == '\t')
      (out += '\\') += c == '\n' ? 'n' : c == '\r' ? 'r' : 't';
    else if (byte < 0x20 || byte == 0x7F) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\x%02x", byte);
      out += escaped;
    } else
      out += c;
  }
  return out + quote;
}

std::string jsonOfString(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    constexpr std::string_view named = "\"\\\n\r\t\b\f", names = "\"\\nrtbf";
    if (size_t i = named.find(c); i != std::string_view::npos)
      (out += '\\') += names[i];
    else if (static_cast<unsigned char>(c) < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(c));
      out += escaped;
    } else
      out += c;
  }
  return out + '"';
}

struct JsonWriter {
  int indent;
  bool sortKeys;
  Budget &budget;
  std::string out;

  void newLine(int level) {
    out += '\n';
    out.append(static_cast<size_t>(indent) * level, ' ');
    budget.chargeBytes(static_cast<size_t>(indent) * level);
  }

  template <typename Items, typename Write>
  void group(char open, char close, const Items &items, int level, Write write) {
    out += open;
    bool isFirst = true;
    for (const auto &item : items) {
      if (!isFirst)
        out += indent < 0 ? ", " : ",";
      isFirst = false;
      if (indent >= 0)
        newLine(level + 1);
      write(item);
    }
    if (indent >= 0 && !isFirst)
      newLine(level);
    out += close;
  }

  void write(const Value &value, int level) {
    budget.charge();
    if (value.is<None>())
      out += "null";
    else if (const bool *flag = value.as<bool>())
      out += *flag ? "true" : "false";
    else if (const int64_t *number = value.as<int64_t>())
      out += std::to_string(*number);
    else if (const double *real = value.as<double>())
      out += std::isnan(*real) ? "NaN" : std::isinf(*real) ? (*real < 0 ? "-Infinity" : "Infinity") : floatText(*real);
    else if (const std::string *text = value.string()) {
      budget.chargeBytes(text->size());
      out += jsonOfString(*text);
    } else if (const Sequence *items = value.sequence())
      group('[', ']', *items, level, [&](const Value &item) { write(item, level + 1); });
    else if (const Entries *entries = value.entries()) {
      Entries ordered(*entries);
      budget.charge(ordered.size());
      if (sortKeys)
        std::sort(ordered.begin(), ordered.end(), [](const auto &a, const auto &b) { return a.first < b.first; });
      group('{', '}', ordered, level, [&](const auto &entry) {
        budget.chargeBytes(entry.first.size());
        out += jsonOfString(entry.first) + ": ";
        write(entry.second, level + 1);
      });
    } else
      throw TemplateError{Code::InvalidArgument, value.typeName() + " cannot be written as JSON"};
  }
};

} // namespace

std::string toRepr(const Value &value, Budget &budget) {
  budget.charge();
  if (const std::string *text = value.string()) {
    budget.chargeBytes(text->size());
    return reprOfString(*text);
  }
  std::string out;
  if (const List *list = value.as<List>()) {
    for (const Value &item : *list->items)
      out += (out.empty() ? "" : ", ") + toRepr(item, budget);
    budget.chargeBytes(out.size());
    if (list->isTuple)
      return "(" + out + (list->items->size() == 1 ? ",)" : ")");
    return "[" + out + "]";
  }
  if (const Entries *entries = value.entries()) {
    for (const auto &[key, item] : *entries)
      out += (out.empty() ? "" : ", ") + reprOfString(key) + ": " + toRepr(item, budget);
    budget.chargeBytes(out.size());
    return "{" + out + "}";
  }
  if (value.is<Undefined>())
    return "Undefined";
  return toText(value, budget);
}

std::string toText(const Value &value, Budget &budget) {
  budget.charge();
  if (const std::string *text = value.string()) {
    budget.chargeBytes(text->size());
    return *text;
  }
  if (value.is<Undefined>())
    return "";
  if (value.is<None>())
    return "None";
  if (const bool *flag = value.as<bool>())
    return *flag ? "True" : "False";
  if (const int64_t *number = value.as<int64_t>())
    return std::to_string(*number);
  if (const double *real = value.as<double>())
    return floatText(*real);
  if (value.is<List>() || value.is<Dict>())
    return toRepr(value, budget);
  throw TemplateError{Code::InvalidArgument, value.typeName() + " cannot be written as text"};
}

std::string toJson(const Value &value, int indent, bool sortKeys, Budget &budget) {
  JsonWriter writer{indent, sortKeys, budget, {}};
  writer.write(value, 0);
  return std::move(writer.out);
}

} // namespace distc::jinja
