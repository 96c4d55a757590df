// JSON from hostile files: bounded depth, no duplicate keys, errors that name file, byte and key.
#pragma once

#include "distc/Status.h"

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace distc::import {

using Json = nlohmann::json;

/// Parses `text`; `name` (file, or part of a file) leads every error. Depth is at most 64; a repeated key is an error.
/// Never throws.
Result<Json> parseJson(std::string_view text, const std::string &name);
Result<Json> parseJsonFile(const std::string &path);

/// "a string", "a number", "null", … for errors.
const char *kindOf(const Json &value);

} // namespace distc::import
