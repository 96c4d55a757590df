// The timeline's part of the page: the figures of each step for its script, and the same by layer as a table.
#pragma once

#include "compiler/Explain/Named.h"
#include "compiler/Report/Timeline.h"

namespace distc::report {

/// What page.js reads. Of very many events those of a layer that follow each other are one.
explain::Json timelineJson(const std::vector<Step> &steps);

/// For each layer of each stage: when, how long its rank computes and communicates, the ids of its instructions.
std::string layersHtml(const Step &step);

/// "Decode" with its length.
std::string stepName(const Step &step);

} // namespace distc::report
