// All about the weights and instructions of one name.
#pragma once

#include "compiler/Explain/PlanSet.h"

#include <nlohmann/json.hpp>

#include <string>

namespace distc::explain {

using Json = nlohmann::ordered_json;

/// Indented, in ASCII: names may hold any bytes.
std::string jsonText(const Json &json);

/// `name`: a weight, a tensor of the checkpoint, a label or id of instructions, or a glob over names and labels.
/// InvalidArgument, with near matches, where nothing has it.
Result<std::string> namedText(const PlanSet &set, const std::string &name);
Result<std::string> namedJson(const PlanSet &set, const std::string &name);

} // namespace distc::explain
