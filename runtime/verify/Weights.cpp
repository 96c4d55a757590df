// Between ranks: the weights. Every element of every tensor that any rank uses is held exactly as often as declared:
// `copies` times over the tensor-parallel ranks of a stage. Counted per dimension, in the cells between the boundaries
// of all slices, never per element.
#include "runtime/schema/PlanFile.h"
#include "runtime/verify/Report.h"

#include <algorithm>
#include <map>
#include <unordered_map>

namespace distc::verify {

namespace {

// Real slices have a few thousand cells; a plan with more than this is refused as one that cannot be proven.
constexpr uint64_t kMaxCells = uint64_t(1) << 22;

struct Part {
  uint32_t rank;
  const plan::WeightSource *source;
};

struct Interval {
  uint64_t begin, end;
};

/// What one weight, on all ranks of one stage, takes from one tensor.
struct Use {
  std::string_view weight, tensor;
  uint32_t stage;
  uint32_t copies;
  std::vector<Part> parts;

  std::string text() const { return cat("weight '", weight, "' of stage ", stage, ", from tensor '", tensor, "'"); }
};

class UseCheck {
public:
  UseCheck(const Use &use, Reporter &reporter) : use_(use), view_(*use.parts[0].source->view()), reporter_(reporter) {}

  /// Counts; false if something is held another number of times than declared, 0 excepted.
  bool run() {
    for (const Part &part : use_.parts)
      if (part.source->transposed() != transposed() ||
          !std::equal(view_.begin(), view_.end(), part.source->view()->begin(), part.source->view()->end())) {
        fail(cat("rank ", part.rank, " reads it as ", listText(*part.source->view()), ", ", part.source->transposed(),
                 " dimensions last in the tensor, rank ", use_.parts[0].rank, " as ", listText(view_), ", ",
                 transposed()));
        return false;
      }
    cells_ = 1;
    for (flatbuffers::uoffset_t d = 0; d < view_.size(); ++d) {
      bounds_.push_back(boundaries(d));
      cells_ = saturatingMul(cells_, bounds_[d].size() - 1);
    }
    if (cells_ > kMaxCells) {
      fail(cat("its slices cut the tensor into ", cells_, " pieces, expected at most ", kMaxCells));
      return false;
    }
    counts_.assign(cells_, 0);
    uint64_t work = 0;
    for (const Part &part : use_.parts)
      if (!countPart(part, work))
        return false;
    for (uint64_t cell = 0; cell < cells_; ++cell)
      if (counts_[cell] != 0 && counts_[cell] != use_.copies) {
        report(cell);
        return false;
      }
    return isOneBox();
  }

  bool whole() const { return std::find(counts_.begin(), counts_.end(), 0u) == counts_.end(); }
  void reportMissing() {
    report(static_cast<uint64_t>(std::find(counts_.begin(), counts_.end(), 0u) - counts_.begin()));
  }

  /// Rows of the matrix that the tensor holds transposed; 0 if it does not.
  uint64_t transposedRows() const {
    uint64_t rows = transposed() == 0 ? 0 : 1;
    for (uint32_t d = 0; d < transposed(); ++d)
      rows = saturatingMul(rows, view_.Get(d));
    return rows;
  }

  /// What is held, as ranges of the view's elements; false if there are too many.
  bool flatten(std::vector<Interval> &out) const {
    // Cells of the last dimension are ranges; each stands for as many as there are indices in the dimensions before it.
    for (uint64_t cell = 0; cell < cells_; ++cell) {
      if (counts_[cell] == 0)
        continue;
      std::vector<Interval> box = boxOf(cell);
      // Trailing dimensions that are taken whole make longer ranges.
      size_t inner = box.size() - 1;
      uint64_t unit = 1;
      while (inner > 0 && box[inner].begin == 0 && box[inner].end == view_.Get(static_cast<uint32_t>(inner)))
        unit *= view_.Get(static_cast<uint32_t>(inner--));
      uint64_t outer = 1;
      for (size_t d = 0; d < inner; ++d)
        outer = saturatingMul(outer, box[d].end - box[d].begin);
      if (saturatingAdd(out.size(), outer) > kMaxCells)
        return false;
      for (uint64_t i = 0; i < outer; ++i) {
        uint64_t rest = i, index = 0, scale = unit * view_.Get(static_cast<uint32_t>(inner));
        for (size_t d = inner; d-- > 0;) {
          uint64_t extent = box[d].end - box[d].begin;
          index += (box[d].begin + rest % extent) * scale;
          rest /= extent;
          scale *= view_.Get(static_cast<uint32_t>(d));
        }
        out.push_back({index + box[inner].begin * unit, index + box[inner].end * unit});
      }
    }
    return true;
  }

private:
  /// A weight is one stretch of its tensor in each dimension. Where several lie in one tensor, as q, k and v may, a
  /// rank with another one's share of it leaves a gap.
  bool isOneBox() {
    std::vector<Interval> box(bounds_.size(), {~uint64_t(0), 0});
    uint64_t held = 0, all = 1;
    for (uint64_t cell = 0; cell < cells_; ++cell) {
      if (counts_[cell] == 0)
        continue;
      ++held;
      for (size_t d = bounds_.size(), rest = cell; d-- > 0;) {
        const uint64_t size = bounds_[d].size() - 1, at = rest % size;
        box[d] = {std::min(box[d].begin, at), std::max(box[d].end, at + 1)};
        rest /= size;
      }
    }
    for (const Interval &range : box)
      all = saturatingMul(all, range.end - std::min(range.begin, range.end));
    if (held == 0 || held == all)
      return true;
    fail("what its ranks take of the tensor is not one stretch of each dimension");
    return false;
  }

  void fail(std::string message) {
    std::vector<uint32_t> ranks;
    for (const Part &part : use_.parts)
      if (ranks.empty() || ranks.back() != part.rank)
        ranks.push_back(part.rank);
    reporter_.add("weight-coverage", cat(use_.text(), ": ", message), std::move(ranks));
  }

  std::vector<uint64_t> boundaries(uint32_t d) const {
    std::vector<uint64_t> result = {0, view_.Get(d)};
    for (const Part &part : use_.parts)
      for (const plan::Segment *segment : *part.source->dims()->Get(d)->segments())
        if (segment->begin() != kZeroFill) {
          result.push_back(segment->begin());
          result.push_back(segment->begin() + segment->count());
        }
    std::sort(result.begin(), result.end());
    result.erase(std::unique(result.begin(), result.end()), result.end());
    return result;
  }

  bool countPart(const Part &part, uint64_t &work) {
    // Per dimension, the cells that the segments take, with repetition.
    std::vector<std::vector<uint32_t>> taken(view_.size());
    uint64_t total = 1;
    for (flatbuffers::uoffset_t d = 0; d < view_.size(); ++d) {
      for (const plan::Segment *segment : *part.source->dims()->Get(d)->segments()) {
        if (segment->begin() == kZeroFill)
          continue;
        auto first = std::lower_bound(bounds_[d].begin(), bounds_[d].end(), segment->begin());
        for (; *first < segment->begin() + segment->count(); ++first)
          taken[d].push_back(static_cast<uint32_t>(first - bounds_[d].begin()));
        if ((work += bounds_[d].size()) > 16 * kMaxCells)
          break;
      }
      total = saturatingMul(total, taken[d].size());
    }
    if ((work = saturatingAdd(work, total)) > 16 * kMaxCells) {
      fail("its slices overlap in too many pieces");
      return false;
    }
    for (uint64_t i = 0; i < total; ++i) {
      uint64_t rest = i, cell = 0, scale = 1;
      for (size_t d = taken.size(); d-- > 0;) {
        cell += taken[d][rest % taken[d].size()] * scale;
        rest /= taken[d].size();
        scale *= bounds_[d].size() - 1;
      }
      ++counts_[cell];
    }
    return true;
  }

  std::vector<Interval> boxOf(uint64_t cell) const {
    std::vector<Interval> box(bounds_.size());
    for (size_t d = bounds_.size(); d-- > 0;) {
      uint64_t size = bounds_[d].size() - 1;
      box[d] = {bounds_[d][cell % size], bounds_[d][cell % size + 1]};
      cell /= size;
    }
    return box;
  }

  void report(uint64_t cell) {
    std::vector<Interval> box = boxOf(cell);
    std::string where;
    for (const Interval &range : box)
      where += cat(where.empty() ? "" : ", ", range.begin, ":", range.end);
    std::string holders;
    for (const Part &part : use_.parts) {
      bool holds = true;
      for (flatbuffers::uoffset_t d = 0; d < view_.size() && holds; ++d) {
        const auto &segments = *part.source->dims()->Get(d)->segments();
        holds = std::any_of(segments.begin(), segments.end(), [&](const plan::Segment *s) {
          return s->begin() != kZeroFill && s->begin() <= box[d].begin && box[d].end <= s->begin() + s->count();
        });
      }
      if (holds)
        holders += cat(holders.empty() ? "" : ", ", part.rank);
    }
    fail(cat("elements [", where, "] of ", listText(view_), " are held ", counts_[cell], " times (",
             holders.empty() ? "by no rank" : "by ranks " + holders, "), expected ", use_.copies));
  }

  uint32_t transposed() const { return use_.parts[0].source->transposed(); }

  const Use &use_;
  const flatbuffers::Vector<uint64_t> &view_;
  Reporter &reporter_;
  std::vector<std::vector<uint64_t>> bounds_; // by dimension
  uint64_t cells_ = 0;
  std::vector<uint32_t> counts_; // by cell
};

class CoverageCheck {
public:
  CoverageCheck(std::span<const plan::Plan *const> plans, Reporter &reporter) : plans_(plans), reporter_(reporter) {}

  void run() {
    uint32_t tp = plans_[0]->mesh()->tp();
    for (size_t first = 0; first < plans_.size() && !reporter_.full(); first += tp)
      stage(plans_.subspan(first, tp));
    for (std::string_view tensor : order_)
      if (!reporter_.full())
        checkTensor(byTensor_[tensor]);
    checkFiles();
  }

private:
  /// The ranks of a stage have the same weights, told alike.
  void stage(std::span<const plan::Plan *const> ranks) {
    std::unordered_map<std::string_view, std::vector<const plan::Weight *>> byName;
    for (size_t i = 0; i < ranks.size(); ++i)
      for (const plan::Weight *weight : *ranks[i]->weights()) {
        auto &list = byName[weight->name()->string_view()];
        list.resize(ranks.size());
        list[i] = weight;
      }
    for (const plan::Plan *rank : ranks)
      for (const plan::Weight *weight : *rank->weights()) {
        auto &list = byName[weight->name()->string_view()];
        if (list.empty())
          continue;
        if (sameOnAll(ranks, list))
          collect(ranks, list);
        list.clear();
      }
  }

  bool sameOnAll(std::span<const plan::Plan *const> ranks, const std::vector<const plan::Weight *> &list) {
    const plan::Weight *first = *std::find_if(list.begin(), list.end(), [](const plan::Weight *w) { return w; });
    for (size_t i = 0; i < list.size(); ++i) {
      const plan::Weight *w = list[i];
      std::string what = cat("weight '", first->name()->string_view(), "' ");
      if (!w)
        what += cat("is not on rank ", ranks[i]->mesh()->rank());
      else if (w->dtype() != first->dtype() || w->copies() != first->copies() || w->init() != first->init() ||
               !std::equal(w->shape()->begin(), w->shape()->end(), first->shape()->begin(), first->shape()->end()))
        what += cat("is ", plan::EnumNameDType(w->dtype()), " ", listText(*w->shape()), " with ", w->copies(),
                    " copies on rank ", ranks[i]->mesh()->rank(), ", but elsewhere ",
                    plan::EnumNameDType(first->dtype()), " ", listText(*first->shape()), " with ", first->copies());
      else if (tensorsOf(*ranks[i], *w) != tensorsOf(*ranks[0], *first))
        what +=
            cat("is taken from the tensors ", listText(tensorsOf(*ranks[i], *w)), " on rank ", ranks[i]->mesh()->rank(),
                ", but from ", listText(tensorsOf(*ranks[0], *first)), " on rank ", ranks[0]->mesh()->rank());
      else
        continue;
      reporter_.add("weight-declaration", what + ": expected the same on all ranks of a stage",
                    {ranks[i]->mesh()->rank()});
      return false;
    }
    return true;
  }

  static std::vector<std::string_view> tensorsOf(const plan::Plan &plan, const plan::Weight &weight) {
    std::vector<std::string_view> names;
    for (const plan::WeightSource *source : *weight.sources())
      names.push_back(plan.tensors()->Get(source->tensor())->name()->string_view());
    return names;
  }

  void collect(std::span<const plan::Plan *const> ranks, const std::vector<const plan::Weight *> &list) {
    std::vector<Use> uses;
    for (size_t i = 0; i < list.size(); ++i)
      for (const plan::WeightSource *source : *list[i]->sources()) {
        const plan::SourceTensor &tensor = *ranks[i]->tensors()->Get(source->tensor());
        std::string_view name = tensor.name()->string_view();
        if (!sameTensor(*ranks[i], tensor))
          return;
        auto use = std::find_if(uses.begin(), uses.end(), [&](const Use &u) { return u.tensor == name; });
        if (use == uses.end())
          use = uses.insert(
              uses.end(), Use{list[0]->name()->string_view(), name, ranks[0]->mesh()->stage(), list[0]->copies(), {}});
        use->parts.push_back({ranks[i]->mesh()->rank(), source});
      }
    for (Use &use : uses) {
      auto [it, fresh] = byTensor_.try_emplace(use.tensor);
      if (fresh)
        order_.push_back(use.tensor);
      it->second.push_back(std::move(use));
    }
  }

  /// All ranks find the same tensor in the same place.
  bool sameTensor(const plan::Plan &plan, const plan::SourceTensor &tensor) {
    auto [it, fresh] = tensors_.try_emplace(tensor.name()->string_view(), &plan, &tensor);
    if (fresh)
      return true;
    const plan::SourceTensor &first = *it->second.second;
    auto file = [](const plan::Plan &p, const plan::SourceTensor &t) {
      return t.file() < 0 ? nullptr : p.files()->Get(static_cast<uint32_t>(t.file()));
    };
    const plan::SourceFile *a = file(*it->second.first, first), *b = file(plan, tensor);
    bool sameFile = (!a && !b) || (a && b && a->path()->string_view() == b->path()->string_view() &&
                                   a->size() == b->size() && a->header_hash() == b->header_hash());
    if (sameFile && tensor.dtype() == first.dtype() && tensor.offset() == first.offset() &&
        std::equal(tensor.shape()->begin(), tensor.shape()->end(), first.shape()->begin(), first.shape()->end()))
      return true;
    uint32_t ranks[] = {it->second.first->mesh()->rank(), plan.mesh()->rank()};
    auto text = [](const plan::SourceFile *f, const plan::SourceTensor &t) {
      return cat(plan::EnumNameDType(t.dtype()), " ", listText(*t.shape()), " at byte ", t.offset(), " of '",
                 f ? f->path()->string_view() : "no file", "'");
    };
    reporter_.add("weight-declaration",
                  cat("tensor '", tensor.name()->string_view(), "' is ", text(a, first), " on rank ", ranks[0],
                      ", but ", text(b, tensor), " on rank ", ranks[1]),
                  {ranks[0], ranks[1]});
    return false;
  }

  /// Tensors lie apart in their files, and are as many elements as the model has parameters: none was left out, none
  /// taken for another.
  void checkFiles() {
    std::vector<std::pair<const plan::Plan *, const plan::SourceTensor *>> all;
    uint64_t elements = 0;
    for (const auto &[name, entry] : tensors_) {
      uint64_t of = 1;
      for (uint64_t extent : *entry.second->shape())
        of *= extent;
      elements = saturatingAdd(elements, of);
      if (entry.second->file() >= 0)
        all.push_back(entry);
    }
    const plan::Plan &first = *plans_[0];
    if (elements != first.model()->parameters())
      reporter_.add("weight-coverage", cat("the tensors that the ranks use have ", elements,
                                           " elements, expected the model's ", first.model()->parameters()));
    const auto place = [](const auto &entry) {
      const auto &[plan, tensor] = entry;
      return std::pair(plan->files()->Get(static_cast<uint32_t>(tensor->file()))->path()->string_view(),
                       tensor->offset());
    };
    std::sort(all.begin(), all.end(), [&](const auto &a, const auto &b) { return place(a) < place(b); });
    for (size_t i = 1; i < all.size(); ++i) {
      const plan::SourceTensor &a = *all[i - 1].second, &b = *all[i].second;
      if (place(all[i - 1]).first == place(all[i]).first && a.offset() + a.bytes() > b.offset())
        reporter_.add("weight-file",
                      cat("tensors '", a.name()->string_view(), "' and '", b.name()->string_view(), "' overlap in '",
                          place(all[i]).first, "': the first ends at byte ", a.offset() + a.bytes(),
                          ", the second starts at ", b.offset()),
                      {all[i - 1].first->mesh()->rank(), all[i].first->mesh()->rank()});
    }
  }

  /// One weight takes all of a tensor, and so may others (tied); or several divide it among them (fused).
  void checkTensor(const std::vector<Use> &uses) {
    for (const Use &use : uses)
      if (layerOf(use.weight) != layerOf(uses[0].weight))
        return reporter_.add("layer-order", cat("tensor '", use.tensor, "' is taken by the weights '", uses[0].weight,
                                                "' and '", use.weight, "', expected weights of one layer"));
    std::vector<UseCheck> checks;
    for (const Use &use : uses) {
      checks.emplace_back(use, reporter_);
      if (!checks.back().run())
        return;
    }
    size_t wholes = static_cast<size_t>(std::count_if(checks.begin(), checks.end(), [](auto &c) { return c.whole(); }));
    if (wholes == checks.size())
      return;
    if (checks.size() == 1 || wholes > 0) {
      for (UseCheck &check : checks)
        if (!check.whole())
          return check.reportMissing();
    }
    std::vector<Interval> ranges;
    for (const UseCheck &check : checks)
      if (check.transposedRows() != checks[0].transposedRows())
        return reporter_.add("weight-coverage", cat(uses[0].text(), ": divided among several weights, of which one "
                                                                    "reads it transposed in another way"));
      else if (!check.flatten(ranges))
        return reporter_.add("weight-coverage", cat(uses[0].text(), ": divided among several weights in more than ",
                                                    kMaxCells, " pieces"));
    std::sort(ranges.begin(), ranges.end(), [](const Interval &a, const Interval &b) { return a.begin < b.begin; });
    uint64_t elements = 1, at = 0;
    for (uint64_t extent : *uses[0].parts[0].source->view())
      elements *= extent;
    ranges.push_back({elements, elements});
    std::string weights;
    for (const Use &use : uses)
      weights += cat(weights.empty() ? "'" : ", '", use.weight, "'");
    for (const Interval &range : ranges) {
      if (range.begin != at)
        return reporter_.add("weight-coverage",
                             cat("tensor '", uses[0].tensor, "', divided among the weights ", weights, ": elements ",
                                 std::min(at, range.begin), " to ", std::max(at, range.begin),
                                 range.begin > at ? " are held by no weight" : " are held by two weights",
                                 ", expected one"));
      at = std::max(at, range.end);
    }
  }

  std::span<const plan::Plan *const> plans_;
  Reporter &reporter_;
  std::unordered_map<std::string_view, std::pair<const plan::Plan *, const plan::SourceTensor *>> tensors_;
  std::unordered_map<std::string_view, std::vector<Use>> byTensor_;
  std::vector<std::string_view> order_; // of first use
};

} // namespace

void checkCoverage(std::span<const plan::Plan *const> plans, Reporter &reporter) {
  CoverageCheck(plans, reporter).run();
}

} // namespace distc::verify
