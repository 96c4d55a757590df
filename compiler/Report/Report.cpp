#include "compiler/Report/Report.h"

#include "compiler/Explain/Exchanges.h"
#include "compiler/Explain/Instructions.h"
#include "compiler/Explain/Memory.h"
#include "compiler/Explain/Names.h"
#include "compiler/Explain/Weights.h"
#include "compiler/Report/EmbeddedPage.h"
#include "compiler/Report/Html.h"
#include "compiler/Report/TimelineData.h"
#include "runtime/schema/PlanFile.h"

#include <algorithm>
#include <cstdio>

namespace distc::report {

using explain::rangesText;

namespace {

std::string format(const char *pattern, double value) {
  char text[64];
  std::snprintf(text, sizeof text, pattern, value);
  return text;
}

std::string sizeText(uint64_t bytes) { return formatBytes(bytes); }

bool sharesHost(const explain::PlanSet &set) { return set.first().target()->string_view() == "cpu"; }

// What is held against the memory: the fullest rank, on a CPU all together.
uint64_t need(const explain::PlanSet &set) {
  uint64_t most = 0, sum = 0;
  for (const plan::Plan *plan : set.plans) {
    sum += explain::ledgerTotal(*plan->ledger());
    most = std::max(most, explain::ledgerTotal(*plan->ledger()));
  }
  return sharesHost(set) ? sum : most;
}

std::string card(const std::string &name, const std::string &value, const std::string &small) {
  return "<div><dt>" + name + "</dt><dd>" + value + (small.empty() ? "" : "<small>" + small + "</small>") +
         "</dd></div>\n";
}

std::string cardsHtml(const explain::PlanSet &set, const ReportInput &input) {
  const plan::ModelInfo &model = *set.first().model();
  const plan::Limits &limits = *set.first().limits();
  std::string html = card("Model", format("%.2f B", double(model.parameters()) / 1e9),
                          std::to_string(model.layers()) + " layers, hidden " + std::to_string(model.hidden()));
  html += card("Mesh", "tp " + std::to_string(set.tp()) + " × pp " + std::to_string(set.pp()),
               std::to_string(set.plans.size()) + (set.plans.size() == 1 ? " rank, target " : " ranks, target ") +
                   escaped(set.first().target()->string_view()));
  html += card("Limits", "batch " + std::to_string(limits.max_batch()),
               "sequences of " + std::to_string(limits.max_sequence()) + " tokens, " +
                   std::to_string(limits.max_tokens()) + " a step");
  const uint64_t bytes = need(set);
  html +=
      card(sharesHost(set) ? "Memory of all ranks" : "Fullest rank", sizeText(bytes),
           input.memory ? format("%.0f %% of ", 100 * double(bytes) / double(*input.memory)) + sizeText(*input.memory)
                        : std::string());
  if (input.simulation) {
    const Phase &decode = input.simulation->decode, &prefill = input.simulation->prefill;
    const std::string on = "predicted, " + escaped(input.machine->name);
    if (decode.steps > 0)
      html += card("Decode step", format("%.3f ms", 1e3 * decode.seconds / decode.steps),
                   format("%.1f tok/s ", decode.tokens / decode.seconds) + on);
    if (prefill.seconds > 0)
      html += card("Prefill", format("%.0f tok/s", prefill.tokens / prefill.seconds),
                   std::to_string(input.promptTokens) + " tokens, " + on);
  }
  if (input.memory) {
    const explain::ContextFit fit = explain::longestContext(set, *input.memory, limits.max_batch());
    html += card("Longest context", fit.tokens > 0 ? std::to_string(fit.tokens) : "none fits",
                 "of " + std::to_string(limits.max_batch()) + " sequences, in that memory");
  }
  return html;
}

std::string meshHtml(const explain::PlanSet &set, const ReportInput &input) {
  std::string html = "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Ranks by stage and "
                     "tensor-parallel index\">\n<table class=\"mesh\">\n<thead><tr><td></td>";
  for (uint32_t i = 0; i < set.tp(); ++i)
    html += "<th scope=\"col\">tp " + std::to_string(i) + "</th>";
  html += "</tr></thead>\n<tbody>\n";
  double scale = input.memory && !sharesHost(set) ? double(*input.memory) : 0;
  for (const plan::Plan *plan : set.plans)
    scale = std::max(scale, double(explain::ledgerTotal(*plan->ledger())));
  for (const plan::Plan *plan : set.plans) {
    const plan::Mesh &mesh = *plan->mesh();
    const uint64_t total = explain::ledgerTotal(*plan->ledger());
    if (mesh.tp_index() == 0) {
      std::vector<uint32_t> layers;
      for (uint32_t l = 0; l < mesh.layers(); ++l)
        layers.push_back(mesh.first_layer() + l);
      html += "<tr><th scope=\"row\">stage " + std::to_string(mesh.stage()) + "<small>layers " + rangesText(layers) +
              "</small></th>";
    }
    html += "<td id=\"rank-" + std::to_string(mesh.rank()) +
            "\" style=\"--full:" + format("%.1f%%", 100 * double(total) / std::max(1.0, scale)) + "\"><b>rank " +
            std::to_string(mesh.rank()) + "</b><small>" + sizeText(total) + "</small></td>";
    if (mesh.tp_index() + 1 == set.tp())
      html += "</tr>\n";
  }
  return html + "</tbody>\n</table>\n</div>\n";
}

std::string barHtml(const plan::Ledger &l, double scale, double limit) {
  std::string html = "<div class=\"bar\" role=\"img\" aria-label=\"" + sizeText(explain::ledgerTotal(l)) + "\">";
  const std::pair<const char *, uint64_t> parts[] = {{"weights", l.weights_loaded() + l.weights_mapped()},
                                                     {"kv", l.kv()},
                                                     {"arena", l.arena()},
                                                     {"tables", l.tables()}};
  for (auto [name, bytes] : parts)
    html += std::string("<i class=\"") + name +
            "\" style=\"width:" + format("%.2f%%", 100 * double(bytes) / std::max(1.0, scale)) + "\" title=\"" + name +
            " " + sizeText(bytes) + "\"></i>";
  if (limit > 0 && limit < scale)
    html += "<i class=\"limit\" style=\"height:100%;left:" + format("%.2f%%", 100 * limit / scale) + "\"></i>";
  return html + "</div>";
}

std::string memoryHtml(const explain::PlanSet &set, const ReportInput &input) {
  const double limit = input.memory && !sharesHost(set) ? double(*input.memory) : 0;
  double scale = limit;
  for (const plan::Plan *plan : set.plans)
    scale = std::max(scale, double(explain::ledgerTotal(*plan->ledger())));
  std::vector<std::vector<std::string>> rows;
  for (const explain::LedgerGroup &group : explain::ledgerGroups(set)) {
    const plan::Ledger &l = *group.plan->ledger();
    rows.push_back({rangesText(group.ranks), barHtml(l, scale, limit), sizeText(explain::ledgerTotal(l)),
                    sizeText(l.weights_loaded() + l.weights_mapped()), sizeText(l.kv()), sizeText(l.arena()),
                    sizeText(l.tables()), rangesText(group.stages)});
  }
  return tableHtml("Memory of the ranks", "ttnnnnnt",
                   {"ranks", "of its memory", "total", "weights", "KV cache", "activations", "tables", "stages"}, rows);
}

std::string memoryNote(const explain::PlanSet &set, const ReportInput &input) {
  std::string text = "Ranks that need the same are one line. ";
  if (!input.memory)
    return text + "The bars are of the fullest rank's need.";
  const bool fits = need(set) <= *input.memory;
  text += (sharesHost(set) ? "All ranks share the " : "Each device has the ") + sizeText(*input.memory) + " of " +
          escaped(input.memoryOf) + ": ";
  return text +
         (fits ? "<span class=\"good\">the plans fit</span>." : "<span class=\"bad\">the plans do not fit</span>.");
}

std::string timelineHtml(const ReportInput &input) {
  if (input.steps.empty())
    return "<p>None: give <code>--machine</code> for a simulated step, or <code>--trace</code> for one that has "
           "run.</p>\n";
  std::string html =
      "<p>One rank of each stage, the busiest: what it computes above, what it communicates below. Numbers are ids of "
      "instructions, as in <code>distc explain</code> and <code>distc inspect</code>. Drag to move, Ctrl and the wheel "
      "or + and − to zoom.</p>\n"
      "<p class=\"legend\"><span class=\"key product\">products</span> <span class=\"key attention\">attention</span> "
      "<span class=\"key other\">other computation</span> <span class=\"key collective\">collectives</span> <span "
      "class=\"key message\">sends to a stage</span> <span class=\"key wait\">receives, with the wait for "
      "them</span></p>\n"
      "<div class=\"tools\"><label>Step <select id=\"step\">";
  for (const Step &step : input.steps)
    html += "<option>" + escaped(stepName(step)) + "</option>";
  html += "</select></label> <button type=\"button\" data-do=\"out\" aria-label=\"Zoom out\">−</button> <button "
          "type=\"button\" data-do=\"in\" aria-label=\"Zoom in\">+</button> <button type=\"button\" "
          "data-do=\"left\" aria-label=\"Earlier\">◀</button> <button type=\"button\" data-do=\"right\" "
          "aria-label=\"Later\">▶</button> <button type=\"button\" data-do=\"all\">All</button>\n<form id=\"search\" "
          "class=\"tools\" style=\"margin:0\"><label>Find <input id=\"find\" placeholder=\"id or label\"></label> "
          "<button type=\"submit\">Go</button></form></div>\n"
          "<canvas id=\"canvas\" role=\"img\" tabindex=\"0\" aria-label=\"Timeline\"></canvas>\n"
          "<p id=\"readout\" role=\"status\"></p>\n"
          "<noscript><p>The picture needs JavaScript; the tables below do not.</p></noscript>\n";
  for (const Step &step : input.steps)
    html +=
        "<details><summary>" + escaped(stepName(step)) + ", by layer</summary>\n" + layersHtml(step) + "</details>\n";
  return html;
}

std::string exchangesHtml(const explain::PlanSet &set) {
  const std::vector<explain::ExchangeFact> facts = explain::exchangeFacts(set);
  if (facts.empty())
    return "<p>None: one rank.</p>\n";
  std::vector<std::vector<std::string>> rows;
  for (const explain::ExchangeFact &fact : facts)
    rows.push_back({explain::regimeName(fact.regime), escaped(fact.op), escaped(fact.name), escaped(fact.from),
                    escaped(fact.group), std::to_string(fact.queue), std::to_string(fact.count),
                    sizeText(static_cast<uint64_t>(fact.bytes)) + " " + explain::each(fact.unit)});
  std::string html = tableHtml("Exchanges", "ttwwtnnt",
                               {"program", "op", "label", "of what", "group", "queue", "times", "a message"}, rows);
  for (uint32_t p = 0; p < set.first().programs()->size(); ++p)
    html += "<p>" + std::string(explain::regimeName(set.first().programs()->Get(p)->regime())) +
            ", of all stages: " + escaped(explain::totalsText(facts, p)) + "</p>\n";
  return html;
}

std::string weightsHtml(const explain::PlanSet &set) {
  const std::vector<explain::WeightFact> facts = explain::weightFacts(set);
  std::vector<std::vector<std::string>> rows;
  for (const explain::WeightGroup &group : explain::groupWeights(facts)) {
    const explain::WeightFact &fact = *group.members[0];
    rows.push_back(
        {"<b>" + escaped(group.name) + "</b>",
         "<span title=\"" + escaped(explain::ruleReason(fact.rule)) + "\">" + escaped(fact.ruleText()) + "</span>",
         escaped(fact.shapeText()), escaped(fact.sharesText()), std::to_string(fact.copies), rangesText(group.stages),
         escaped(group.tensors)});
  }
  std::string html =
      tableHtml("Weights", "wttwntw", {"weight", "rule", "whole", "a rank has", "copies", "stages", "from"}, rows);
  std::vector<explain::SplitRule> told;
  html += "<dl>\n";
  for (const explain::WeightFact &fact : facts)
    if (std::find(told.begin(), told.end(), fact.rule) == told.end()) {
      told.push_back(fact.rule);
      html += std::string("<dt><b>") + explain::ruleName(fact.rule) + "</b></dt><dd>" +
              escaped(explain::ruleReason(fact.rule)) + "</dd>\n";
    }
  return html + "</dl>\n";
}

} // namespace

std::string reportPage(const explain::PlanSet &set, const ReportInput &input) {
  const plan::ModelInfo &model = *set.first().model();
  // Within a script element "<" could end it.
  std::string data;
  for (char c : timelineJson(input.steps).dump(-1, ' ', true, explain::Json::error_handler_t::replace))
    data += c == '<' ? std::string("\\u003c") : std::string(1, c);
  const std::string mesh = "tp " + std::to_string(set.tp()) + " × pp " + std::to_string(set.pp());
  return filled(kPageHtml,
                {{"title", escaped(model.name()->string_view()) + ", " + mesh + ": plan set"},
                 {"css", std::string(kPageCss)},
                 {"js", std::string(kPageJs)},
                 {"model", escaped(model.name()->string_view())},
                 {"lead", "Plan set " + escaped(set.path) + ": family " + escaped(model.family()->string_view()) +
                              ", " + mesh + ", target " + escaped(set.first().target()->string_view())},
                 {"cards", cardsHtml(set, input)},
                 {"meshNote", input.memory && !sharesHost(set) ? "The shade is how full its device's memory is."
                                                               : "The shade is its memory beside the fullest rank's."},
                 {"mesh", meshHtml(set, input)},
                 {"memoryNote", memoryNote(set, input)},
                 {"memory", memoryHtml(set, input)},
                 {"timeline", timelineHtml(input)},
                 {"exchanges", exchangesHtml(set)},
                 {"weights", weightsHtml(set)},
                 {"footer", "Written by " + escaped(set.first().producer()->string_view()) +
                                " from the plans alone. This page needs no network."},
                 {"data", data}});
}

} // namespace distc::report
