#include "compiler/Explain/Compare.h"

#include "compiler/Explain/CompareFacts.h"
#include "compiler/Explain/Instructions.h"
#include "compiler/Explain/Named.h"
#include "compiler/Explain/Names.h"

#include <algorithm>
#include <map>
#include <set>

namespace distc::explain {

namespace {

// What differs, alike changes of numbered names as one.
std::vector<Change> changesOf(const Facts &a, const Facts &b) {
  const std::map<std::string, std::string> left(a.begin(), a.end()), right(b.begin(), b.end());
  std::vector<std::string> order;
  for (const Facts *facts : {&a, &b})
    for (const auto &[name, text] : *facts)
      if (facts == &a || !left.contains(name))
        order.push_back(name);
  struct Alike {
    Change change;
    std::string pattern;
    std::vector<std::vector<uint32_t>> numbers;
  };
  std::vector<Alike> all;
  std::map<std::string, size_t> at;
  for (const std::string &name : order) {
    const auto l = left.find(name), r = right.find(name);
    Change change{name, l == left.end() ? "" : l->second, r == right.end() ? "" : r->second};
    if (l != left.end() && r != right.end() && change.a == change.b)
      continue;
    NumberedName parts = numbered(name);
    const auto [place, added] = at.emplace(parts.pattern + "\n" + change.a + "\n" + change.b, all.size());
    if (added)
      all.push_back({std::move(change), parts.pattern, {}});
    all[place->second].numbers.push_back(std::move(parts.numbers));
  }
  std::vector<Change> changes;
  for (Alike &alike : all) {
    alike.change.name = joinedName(alike.pattern, alike.numbers);
    changes.push_back(std::move(alike.change));
  }
  return changes;
}

// Of the instructions that both have: the first that stands in another place.
std::vector<Change> orderChanges(const std::string &regime, const Listing &a, const Listing &b) {
  const std::set<std::string> left(a.order.begin(), a.order.end()), right(b.order.begin(), b.order.end());
  std::vector<std::string> x, y;
  for (const std::string &name : a.order)
    if (right.contains(name))
      x.push_back(name);
  for (const std::string &name : b.order)
    if (left.contains(name))
      y.push_back(name);
  const size_t n = std::min(x.size(), y.size()); // equal: names are unique
  size_t first = 0, moved = 0;
  while (first < n && x[first] == y[first])
    ++first;
  for (size_t i = first; i < n; ++i)
    moved += x[i] != y[i];
  if (moved == 0)
    return {};
  return {{regime + " order, from the " + std::to_string(first + 1) + ". instruction that both have",
           printable(x[first]), printable(y[first])}};
}

std::vector<uint32_t> programsOf(const PlanSet &set, plan::Regime regime) {
  std::vector<uint32_t> programs;
  for (uint32_t p = 0; p < set.first().programs()->size(); ++p)
    if (set.first().programs()->Get(p)->regime() == regime)
      programs.push_back(p);
  return programs;
}

// The bytes of a plan, without the paths of the checkpoint, which depend on where the plans lie.
std::vector<uint8_t> packed(const plan::Plan &plan) {
  plan::PlanT copy;
  plan.UnPackTo(&copy);
  for (const auto &file : copy.files)
    file->path.clear();
  return packPayload(copy);
}

} // namespace

Comparison compare(const PlanSet &a, const PlanSet &b) {
  Comparison comparison;
  const auto add = [&](const std::string &title, std::vector<Change> changes) {
    if (changes.empty())
      comparison.same.push_back(title);
    else
      comparison.sections.push_back({title, std::move(changes)});
  };
  add("model", changesOf(modelFacts(a), modelFacts(b)));
  add("checkpoint", changesOf(checkpointFacts(a), checkpointFacts(b)));
  add("mesh", changesOf(meshFacts(a), meshFacts(b)));
  add("limits", changesOf(limitFacts(a), limitFacts(b)));
  add("memory", changesOf(ledgerFacts(a), ledgerFacts(b)));
  add("weights", changesOf(weightTexts(a), weightTexts(b)));
  add("exchanges", changesOf(exchangeTexts(a), exchangeTexts(b)));
  const bool logical = a.tp() != b.tp();
  Facts left, right;
  std::vector<Change> orders;
  for (plan::Regime regime : {plan::Regime::Decode, plan::Regime::Prefill}) {
    // Plans have one program of each regime; were there more, they would be compared in their order.
    const std::vector<uint32_t> x = programsOf(a, regime), y = programsOf(b, regime);
    std::vector<Change> changes;
    for (size_t p = 0; p < std::max(x.size(), y.size()); ++p) {
      const Listing l = p < x.size() ? listingOf(a, x[p], logical) : Listing(),
                    r = p < y.size() ? listingOf(b, y[p], logical) : Listing();
      for (Change &change : changesOf(l.facts, r.facts))
        changes.push_back(std::move(change));
      for (Change &change : orderChanges(regimeName(regime), l, r))
        orders.push_back(std::move(change));
    }
    add(std::string(regimeName(regime)) + " instructions", std::move(changes));
    for (auto &fact : scheduleFacts(a, x))
      left.push_back(std::move(fact));
    for (auto &fact : scheduleFacts(b, y))
      right.push_back(std::move(fact));
  }
  std::vector<Change> schedules = changesOf(left, right);
  std::move(orders.begin(), orders.end(), std::back_inserter(schedules));
  add("schedules", std::move(schedules));
  // What none of this tells, such as offsets: the bytes of the plans do.
  bool equal = a.files.size() == b.files.size();
  for (size_t i = 0; equal && i < a.files.size(); ++i)
    equal = packed(a.files[i].plan()) == packed(b.files[i].plan());
  if (!equal && comparison.sections.empty())
    comparison.sections.push_back({"places", {{"offsets, ids or events of the plans", "those of A", "those of B"}}});
  return comparison;
}

std::string compareText(const PlanSet &a, const PlanSet &b, const Comparison &comparison) {
  if (!comparison.differ())
    return "";
  std::string text = "--- " + printable(a.path) + "\n+++ " + printable(b.path) + "\n";
  for (const Section &section : comparison.sections) {
    text += section.title + "\n";
    for (const Change &change : section.changes) {
      text += "  " + printable(change.name) + "\n";
      if (!change.a.empty())
        text += "    - " + printable(change.a) + "\n";
      if (!change.b.empty())
        text += "    + " + printable(change.b) + "\n";
    }
  }
  std::string same;
  for (const std::string &title : comparison.same)
    same += (same.empty() ? "" : ", ") + title;
  return text + (same.empty() ? "" : "the same: " + same + "\n");
}

std::string compareJson(const PlanSet &a, const PlanSet &b, const Comparison &comparison) {
  Json json = {{"a", a.path}, {"b", b.path}, {"differ", comparison.differ()}, {"same", comparison.same}};
  json["sections"] = Json::array();
  for (const Section &section : comparison.sections) {
    Json changes = Json::array();
    for (const Change &change : section.changes)
      changes.push_back({{"name", change.name},
                         {"a", change.a.empty() ? Json() : Json(change.a)},
                         {"b", change.b.empty() ? Json() : Json(change.b)}});
    json["sections"].push_back({{"title", section.title}, {"changes", changes}});
  }
  return jsonText(json);
}

} // namespace distc::explain
