// Values of JSON as values of a chat template.
#pragma once

#include "runtime/text/ChatTemplate.h"

#include <nlohmann/json.hpp>

namespace distc::test {

/// The order of members is kept, as in Python.
inline jinja::Value jinjaValue(const nlohmann::ordered_json &json) {
  if (json.is_boolean())
    return json.get<bool>();
  if (json.is_number_integer())
    return json.get<int64_t>();
  if (json.is_number())
    return json.get<double>();
  if (json.is_string())
    return json.get<std::string>();
  if (json.is_array()) {
    jinja::Sequence items;
    for (const auto &item : json)
      items.push_back(jinjaValue(item));
    return jinja::Value::list(std::move(items));
  }
  if (!json.is_object())
    return {};
  jinja::Entries entries;
  for (const auto &[key, value] : json.items())
    entries.emplace_back(key, jinjaValue(value));
  return jinja::Value::dict(std::move(entries));
}

} // namespace distc::test
