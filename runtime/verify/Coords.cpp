#include "runtime/verify/Coords.h"

#include "runtime/schema/PlanFile.h"
#include "runtime/verify/Report.h"

#include <algorithm>

namespace distc::verify {

namespace {

constexpr size_t kMaxSpans = size_t(1) << 20;

uint64_t localCount(const plan::WeightSource &source, uint32_t d) {
  uint64_t count = 0;
  for (const plan::Segment *segment : *source.dims()->Get(d)->segments())
    count += segment->count();
  return count;
}

/// The local indices of dimensions [from, to) of the part, as indices into those dimensions of the view taken as one.
std::optional<Coords> flatten(const plan::WeightSource &source, uint32_t from, uint32_t to) {
  Coords inner = Coords::all(1);
  uint64_t innerCount = 1, work = 0;
  for (uint32_t d = to; d-- > from;) {
    Coords next;
    next.extent = inner.extent * source.view()->Get(d);
    for (const plan::Segment *segment : *source.dims()->Get(d)->segments()) {
      if (segment->begin() == kZeroFill)
        next.push({0, segment->count() * innerCount, true});
      else if (inner.whole())
        next.push({segment->begin() * inner.extent, segment->count() * inner.extent, false});
      else
        for (uint64_t i = segment->begin(); i < segment->begin() + segment->count(); ++i) {
          if ((work += inner.spans.size()) > kMaxSpans)
            return std::nullopt;
          for (const Span &span : inner.spans)
            next.push(span.zero ? span : Span{i * inner.extent + span.begin, span.count, false});
        }
    }
    innerCount *= localCount(source, d);
    inner = std::move(next);
  }
  return inner;
}

} // namespace

uint64_t Coords::held() const {
  uint64_t n = 0;
  for (const Span &span : spans)
    n += span.zero ? 0 : span.count;
  return n;
}

std::string Coords::text() const {
  std::string out;
  for (size_t i = 0; i < spans.size() && i < 6; ++i)
    out += cat(i == 0 ? "" : ", ", spans[i].zero ? cat(spans[i].count, " x padding")
                                                 : cat(spans[i].begin, ":", spans[i].begin + spans[i].count));
  return cat("[", out, spans.size() > 6 ? ", …" : "", "] of ", extent);
}

void Coords::push(Span span) {
  if (!spans.empty() && spans.back().zero == span.zero &&
      (span.zero || spans.back().begin + spans.back().count == span.begin))
    spans.back().count += span.count;
  else
    spans.push_back(span);
}

struct StageWeights::Union {
  std::vector<Span> spans;       // ascending
  std::vector<uint64_t> offsets; // where each begins in logical indices
  uint64_t extent = 0;

  explicit Union(std::vector<Span> all) {
    std::sort(all.begin(), all.end(), [](const Span &a, const Span &b) { return a.begin < b.begin; });
    for (const Span &span : all) {
      if (!spans.empty() && span.begin <= spans.back().begin + spans.back().count)
        spans.back().count = std::max(spans.back().count, span.begin + span.count - spans.back().begin);
      else
        spans.push_back(span);
    }
    for (const Span &span : spans) {
      offsets.push_back(extent);
      extent += span.count;
    }
  }
  uint64_t logical(uint64_t index) const {
    auto it = std::upper_bound(spans.begin(), spans.end(), index,
                               [](uint64_t value, const Span &span) { return value < span.begin; });
    size_t i = static_cast<size_t>(it - spans.begin()) - 1;
    return offsets[i] + index - spans[i].begin;
  }
};

StageWeights::StageWeights(std::span<const plan::Plan *const> ranks) : ranks_(ranks) {
  for (const plan::Plan *rank : ranks)
    for (const plan::Weight *weight : *rank->weights())
      byName_[weight->name()->string_view()].push_back(weight);
}

const StageWeights::Union *StageWeights::unionOf(std::string_view name, uint32_t source, uint32_t from, uint32_t to) {
  std::shared_ptr<Union> &entry = unions_[{name, source, from, to}];
  if (!entry) {
    std::vector<Span> all;
    for (const plan::Weight *weight : byName_[name]) {
      if (weight->sources()->size() <= source || weight->sources()->Get(source)->view()->size() < to)
        continue;
      std::optional<Coords> coords = flatten(*weight->sources()->Get(source), from, to);
      if (!coords)
        return nullptr;
      for (const Span &span : coords->spans)
        if (!span.zero)
          all.push_back(span);
    }
    entry = std::make_shared<Union>(std::move(all));
  }
  return entry.get();
}

std::vector<std::shared_ptr<const MatrixCoords>> StageWeights::matrices(uint32_t tpIndex, uint32_t weightIndex,
                                                                        uint64_t columns) {
  auto [cached, fresh] = cache_.try_emplace({tpIndex, weightIndex, columns});
  if (!fresh)
    return cached->second;
  const plan::Weight &weight = *ranks_[tpIndex]->weights()->Get(weightIndex);
  const plan::WeightSource &first = *weight.sources()->Get(0);
  std::vector<uint32_t> trailing; // how many trailing dimensions may be the columns
  uint64_t count = 1;
  for (uint32_t n = 0; n <= first.dims()->size() && count <= columns; ++n) {
    if (n > 0)
      count *= localCount(first, first.dims()->size() - n);
    if (count == columns)
      trailing.push_back(n);
  }
  for (uint32_t n : trailing) {
    auto matrix = std::make_shared<MatrixCoords>();
    bool good = true;
    for (uint32_t s = 0; s < weight.sources()->size() && good; ++s) {
      const plan::WeightSource &source = *weight.sources()->Get(s);
      uint32_t dims = source.dims()->size();
      good = dims >= n;
      for (bool columnPart : {false, true}) {
        if (!good)
          break;
        uint32_t from = columnPart ? dims - n : 0, to = columnPart ? dims : dims - n;
        std::optional<Coords> local = flatten(source, from, to);
        const Union *all = local ? unionOf(weight.name()->string_view(), s, from, to) : nullptr;
        if (!(good = all))
          break;
        Coords logical;
        Coords &target = columnPart ? logical : matrix->rows;
        uint64_t base = columnPart ? 0 : matrix->rows.extent;
        for (const Span &span : local->spans)
          target.push(span.zero ? span : Span{base + all->logical(span.begin), span.count, false});
        target.extent = base + all->extent;
        if (columnPart && s == 0)
          matrix->columns = std::move(logical);
        else if (columnPart)
          good = logical == matrix->columns;
      }
    }
    if (good)
      cached->second.push_back(std::move(matrix));
  }
  return cached->second;
}

} // namespace distc::verify
