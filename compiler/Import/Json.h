// JSON from hostile files: bounded depth and size, no duplicate keys, errors that name file, place and key.
#pragma once

#include "distc/Status.h"

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace distc::import {

using Json = nlohmann::json;

/// Parses `text`; `name` (file, or part of a file) leads every error. Depth is at most 64, values at most 8 million; a
/// repeated key is an error. Never throws.
Result<Json> parseJson(std::string_view text, const std::string &name);
Result<Json> parseJsonFile(const std::string &path);

/// "a string", "a number", "null", … for errors.
const char *kindOf(const Json &value);

/// A value for errors: scalars as JSON, cut short; "an object" and "an array" otherwise.
std::string show(const Json &value);

/// Text of a hostile file for errors: in single quotes, control characters and broken UTF-8 as \xNN, cut after 128
/// bytes.
std::string inQuotes(std::string_view text);

} // namespace distc::import
