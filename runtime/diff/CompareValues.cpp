#include "runtime/diff/CompareValues.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

namespace distc {

namespace {

using ColumnPairs = std::vector<std::pair<uint64_t, uint64_t>>;

constexpr uint64_t kPadding = ~uint64_t(0);

// The head of the checkpoint that a padded head is a copy of.
uint64_t headOf(const HeadLayout &layout, HeadKind kind, uint64_t head) {
  const uint64_t copies = layout.kvHeads * layout.repeats;
  if (kind == HeadKind::KeyValue)
    return head < copies ? head / layout.repeats : kPadding;
  const uint64_t group = layout.heads / layout.kvHeads, copy = head / layout.perCopy;
  const uint64_t inGroup = copy % layout.repeats * layout.perCopy + head % layout.perCopy;
  return copy < copies && inGroup < group ? copy / layout.repeats * group + inGroup : kPadding;
}

// Every copy of a head with the other side's first.
ColumnPairs alignHeads(const HeadLayout &a, const HeadLayout &b, HeadKind kind, const WholeValue &x,
                       const WholeValue &y) {
  std::map<uint64_t, std::pair<std::vector<uint64_t>, std::vector<uint64_t>>> places; // by head
  for (uint64_t i = 0; i < x.dims[0]; ++i)
    places[headOf(a, kind, i)].first.push_back(i);
  for (uint64_t i = 0; i < y.dims[0]; ++i)
    places[headOf(b, kind, i)].second.push_back(i);
  places.erase(kPadding);
  ColumnPairs columns;
  const uint64_t size = x.dims[1];
  auto pair = [&](uint64_t i, uint64_t j) {
    for (uint64_t d = 0; d < size; ++d)
      columns.emplace_back(i * size + d, j * size + d);
  };
  for (const auto &[head, place] : places) {
    const auto &[inA, inB] = place;
    for (size_t i = 0; i < inA.size() && !inB.empty(); ++i)
      pair(inA[i], inB[0]);
    for (size_t j = 1; j < inB.size() && !inA.empty(); ++j)
      pair(inA[0], inB[j]);
  }
  return columns;
}

// What both have of each dimension: padding stands at the end.
ColumnPairs alignCommon(const WholeValue &x, const WholeValue &y) {
  ColumnPairs columns{{0, 0}};
  for (size_t d = 0; d < x.dims.size(); ++d) {
    ColumnPairs finer;
    for (const auto &[i, j] : columns)
      for (uint64_t k = 0; k < std::min(x.dims[d], y.dims[d]); ++k)
        finer.emplace_back(i * x.dims[d] + k, j * y.dims[d] + k);
    columns = std::move(finer);
  }
  return columns;
}

// Which columns are the same; none: it cannot be said.
ColumnPairs align(const StepValues &a, const StepValues &b, HeadKind kind, const WholeValue &x, const WholeValue &y) {
  const HeadLayout &la = a.logical().headLayout(), &lb = b.logical().headLayout();
  if (kind != HeadKind::None && x.dims.size() == 2 && y.dims.size() == 2) {
    if (la.known() && lb.known() && la.heads == lb.heads && la.kvHeads == lb.kvHeads && x.dims[1] == y.dims[1])
      return alignHeads(la, lb, kind, x, y);
  }
  if (x.dims != y.dims && (kind != HeadKind::None || x.dims.size() != y.dims.size()))
    return {};
  return alignCommon(x, y);
}

std::vector<uint64_t> indexOf(uint64_t row, uint64_t column, const std::vector<uint64_t> &dims) {
  std::vector<uint64_t> index(dims.size() + 1, row);
  for (size_t d = dims.size(); d > 0; --d) {
    index[d] = column % dims[d - 1];
    column /= dims[d - 1];
  }
  return index;
}

// Fills in the difference of one pair of copies.
void compareCopies(const WholeValue &x, const WholeValue::Copy &cx, const WholeValue &y, const WholeValue::Copy &cy,
                   const ColumnPairs &columns, ComparedValue &out) {
  double difference = 0, norm = 0, worst = -1;
  for (uint64_t row = 0; row < x.rows; ++row)
    for (const auto &[i, j] : columns) {
      const float a = cx.data[row * x.columns + i], b = cy.data[row * y.columns + j];
      const bool same = a == b || (std::isnan(a) && std::isnan(b)); // infinities too
      double distance = same ? 0 : std::abs(double(a) - double(b));
      if (std::isnan(distance))
        distance = std::numeric_limits<double>::infinity();
      difference += distance * distance;
      norm += std::isfinite(b) ? double(b) * double(b) : 0;
      if (distance > worst) {
        worst = distance;
        out.a.index = indexOf(row, i, x.dims);
        out.b.index = indexOf(row, j, y.dims);
        out.a.element = a;
        out.b.element = b;
      }
    }
  out.relative = difference == 0 ? 0 : std::sqrt(difference / norm);
  out.a.ranks = cx.ranks;
  out.b.ranks = cy.ranks;
}

// "layers.3.x", and "layers.3.x #2" where that is computed again.
std::string nameOf(const LogicalValue &value) {
  return value.name + (value.occurrence > 0 ? " #" + std::to_string(value.occurrence + 1) : "");
}

// A failure says why they cannot be compared.
Result<ComparedValue> compareForms(const StepValues &a, size_t va, size_t fa, const StepValues &b, size_t vb,
                                   size_t fb) {
  const LogicalValue &value = a.logical().values()[va];
  const ValueForm &formA = value.forms[fa], &formB = b.logical().values()[vb].forms[fb];
  auto side = [](const char *name, Result<WholeValue> whole) -> Result<WholeValue> {
    return whole.ok() ? std::move(whole) : whole.status().context(name);
  };
  DISTC_ASSIGN(const WholeValue x, side("A", a.gather(va, fa)));
  DISTC_ASSIGN(const WholeValue y, side("B", b.gather(vb, fb)));
  if (x.rows != y.rows)
    return failedPrecondition("it has " + std::to_string(x.rows) + " rows in A, " + std::to_string(y.rows) + " in B");
  const ColumnPairs columns = align(a, b, value.heads, x, y);
  if (columns.empty())
    return failedPrecondition("its dimensions in A and B cannot be brought together");
  ComparedValue worst;
  worst.relative = -1;
  for (const WholeValue::Copy &cx : x.copies)
    for (const WholeValue::Copy &cy : y.copies) {
      ComparedValue one;
      compareCopies(x, cx, y, cy, columns, one);
      if (one.relative > worst.relative)
        worst = std::move(one);
    }
  worst.name = nameOf(value);
  worst.padded = x.dims != y.dims;
  worst.a.op = formA.op;
  worst.b.op = formB.op;
  worst.a.ids = formA.ids;
  worst.b.ids = formB.ids;
  return worst;
}

} // namespace

Comparison compareValues(const StepValues &a, const StepValues &b, double tolerance) {
  Comparison out;
  std::map<std::pair<std::string, uint32_t>, size_t> inB;
  const std::vector<LogicalValue> &valuesA = a.logical().values(), &valuesB = b.logical().values();
  for (size_t v = 0; v < valuesB.size(); ++v)
    inB.emplace(std::pair(valuesB[v].name, valuesB[v].occurrence), v);
  for (size_t v = 0; v < valuesA.size(); ++v) {
    const LogicalValue &value = valuesA[v];
    const auto found = inB.find({value.name, value.occurrence});
    if (found == inB.end()) {
      out.skipped.emplace_back(nameOf(value), "A alone computes it");
      out.alone = out.skipped.back().first;
      continue;
    }
    const size_t other = found->second;
    inB.erase(found);
    if (value.forms[0].op == plan::Op::TopCandidates) {
      out.skipped.emplace_back(nameOf(value), "what ranks propose depends on the mesh");
      continue;
    }
    const size_t formsA = value.forms.size(), formsB = valuesB[other].forms.size();
    std::optional<ComparedValue> told;
    Status why;
    for (size_t f = 0; f < std::max(formsA, formsB); ++f) {
      Result<ComparedValue> pair = compareForms(a, v, std::min(f, formsA - 1), b, other, std::min(f, formsB - 1));
      if (!pair.ok())
        why = pair.status();
      else if (!told || (told->relative <= tolerance && pair->relative > told->relative))
        told = pair.take();
    }
    if (!why.ok())
      out.skipped.emplace_back(nameOf(value), why.message());
    if (told)
      out.values.push_back(std::move(*told));
  }
  for (const auto &[name, v] : inB) {
    out.skipped.emplace_back(nameOf(valuesB[v]), "B alone computes it");
    out.alone = out.skipped.back().first;
  }
  return out;
}

} // namespace distc
