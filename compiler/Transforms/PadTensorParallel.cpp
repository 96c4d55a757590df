#include "compiler/Transforms/Passes.h"

#include "runtime/schema/PlanFile.h"

namespace distc {
#define GEN_PASS_DEF_PADTENSORPARALLEL
#include "compiler/Transforms/Passes.h.inc"
} // namespace distc

using namespace mlir;
using namespace distc;

namespace {

// Pairs of begin and count, as in llm::SourceAttr.
using Segments = SmallVector<int64_t>;

void append(Segments &segments, int64_t begin, int64_t count) {
  if (count == 0)
    return;
  if (!segments.empty()) {
    int64_t lastBegin = segments[segments.size() - 2], &lastCount = segments.back();
    bool continues = begin == llm::SourceAttr::kZero
                         ? lastBegin == begin
                         : lastBegin != llm::SourceAttr::kZero && lastBegin + lastCount == begin;
    if (continues) {
      lastCount += count;
      return;
    }
  }
  segments.append({begin, count});
}

// What a named dimension becomes: segments of the dimension that it was.
struct Padding {
  Segments segments;
  int64_t size = 0;
};

Padding padToMultiple(int64_t size, int64_t degree) {
  Padding padding;
  padding.size = llvm::divideCeil(size, degree) * degree;
  append(padding.segments, 0, size);
  append(padding.segments, llm::SourceAttr::kZero, padding.size - size);
  return padding;
}

// How heads are laid out: `repeats` copies of each KV head, `perCopy` query heads for each copy, `copies` in all.
struct HeadLayout {
  int64_t repeats = 1, perCopy = 1, copies = 1;
};

HeadLayout chooseHeads(int64_t heads, int64_t kvHeads, int64_t degree) {
  int64_t group = heads / kvHeads;
  HeadLayout best;
  int64_t bestCost = INT64_MAX;
  for (int64_t repeats = 1; repeats <= group; ++repeats) {
    HeadLayout layout;
    layout.repeats = repeats;
    layout.perCopy = llvm::divideCeil(group, repeats);
    layout.copies = llvm::divideCeil(kvHeads * repeats, degree) * degree;
    // Fewest query heads per rank, then fewest KV heads.
    int64_t perRank = layout.copies / degree;
    int64_t cost = perRank * layout.perCopy * (int64_t(1) << 24) + perRank;
    if (cost < bestCost) {
      best = layout;
      bestCost = cost;
    }
  }
  return best;
}

Padding padKvHeads(int64_t kvHeads, const HeadLayout &layout) {
  Padding padding;
  padding.size = layout.copies;
  for (int64_t head = 0; head < kvHeads; ++head)
    for (int64_t copy = 0; copy < layout.repeats; ++copy)
      append(padding.segments, head, 1);
  append(padding.segments, llm::SourceAttr::kZero, layout.copies - kvHeads * layout.repeats);
  return padding;
}

Padding padHeads(int64_t heads, int64_t kvHeads, const HeadLayout &layout) {
  Padding padding;
  padding.size = layout.copies * layout.perCopy;
  int64_t group = heads / kvHeads;
  for (int64_t kvHead = 0; kvHead < kvHeads; ++kvHead)
    for (int64_t copy = 0; copy < layout.repeats; ++copy) {
      int64_t first = copy * layout.perCopy;
      int64_t count = std::clamp<int64_t>(group - first, 0, layout.perCopy);
      append(padding.segments, kvHead * group + first, count);
      append(padding.segments, llm::SourceAttr::kZero, layout.perCopy - count);
    }
  append(padding.segments, llm::SourceAttr::kZero, (layout.copies - kvHeads * layout.repeats) * layout.perCopy);
  return padding;
}

// `outer` picks segments of the dimension that `inner` describes.
Segments compose(ArrayRef<int64_t> inner, ArrayRef<int64_t> outer) {
  Segments result;
  for (size_t i = 0; i < outer.size(); i += 2) {
    int64_t begin = outer[i], count = outer[i + 1];
    if (begin == llm::SourceAttr::kZero) {
      append(result, begin, count);
      continue;
    }
    int64_t at = 0;
    for (size_t j = 0; j < inner.size() && count > 0; j += 2) {
      int64_t skip = begin - at, length = inner[j + 1];
      at += length;
      if (skip >= length)
        continue;
      int64_t taken = std::min(count, length - skip);
      append(result, inner[j] == llm::SourceAttr::kZero ? inner[j] : inner[j] + skip, taken);
      begin += taken;
      count -= taken;
    }
  }
  return result;
}

struct PadTensorParallelPass : distc::impl::PadTensorParallelBase<PadTensorParallelPass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    FailureOr<MeshShape> mesh = getMesh(module);
    if (failed(mesh))
      return signalPassFailure();
    if (mesh->tp == 1)
      return markAllAnalysesPreserved();
    paddings_.clear(); // one pass object may run more than once
    std::map<std::string, int64_t> sizes;
    if (failed(collectSizes(module, sizes)) || failed(choose(module, sizes, mesh->tp)) ||
        failed(checkBlocks(module, sizes, mesh->tp)))
      return signalPassFailure();
    if (paddings_.empty())
      return markAllAnalysesPreserved();

    for (auto param : module.getOps<llm::ParamOp>())
      if (failed(apply(param)))
        return signalPassFailure();
    if (auto it = paddings_.find("kv_heads"); it != paddings_.end())
      for (auto cache : module.getOps<llm::KvCacheOp>()) {
        llm::KvCacheType type = cache.getCacheType();
        cache.setType(llm::KvCacheType::get(&getContext(), it->second.size, type.getHeadDim(), type.getElementType()));
      }
    SymbolTableCollection tables;
    llm::ParamScope scope(tables);
    for (auto function : module.getOps<func::FuncOp>())
      if (failed(refreshTypes(function, scope)))
        return signalPassFailure();
  }

  // The size of each named dimension, the same in all params.
  LogicalResult collectSizes(ModuleOp module, std::map<std::string, int64_t> &sizes) {
    for (auto param : module.getOps<llm::ParamOp>())
      for (auto [name, size] :
           llvm::zip(param.getDims().getAsValueRange<StringAttr>(), param.getTensorType().getShape())) {
        auto [it, isNew] = sizes.emplace(name.str(), size);
        if (!isNew && it->second != size && llm::isSplitDimName(name))
          return param.emitOpError() << "has dimension '" << name << "' of size " << size << ", other params have "
                                     << it->second;
      }
    return success();
  }

  LogicalResult choose(ModuleOp module, const std::map<std::string, int64_t> &sizes, int64_t degree) {
    auto heads = sizes.find("heads"), kvHeads = sizes.find("kv_heads");
    bool hasHeads = heads != sizes.end() && kvHeads != sizes.end();
    if (hasHeads && degree > heads->second)
      return module.emitError() << "tensor parallel degree " << degree << " is more than the model's " << heads->second
                                << " query heads; the largest that works is --tp " << heads->second;
    if (hasHeads && heads->second % kvHeads->second != 0)
      return module.emitError() << heads->second << " query heads are no multiple of " << kvHeads->second
                                << " KV heads";
    for (auto &[name, padding] : paddingsOf(sizes, degree))
      if (padding.segments != Segments({0, sizes.at(name)}))
        paddings_[name] = padding;
    return success();
  }

  // What the named dimensions become at a degree that divides into heads.
  static std::map<std::string, Padding> paddingsOf(const std::map<std::string, int64_t> &sizes, int64_t degree) {
    std::map<std::string, Padding> paddings;
    for (const char *name : {"intermediate", "vocabulary"})
      if (auto it = sizes.find(name); it != sizes.end())
        paddings[name] = padToMultiple(it->second, degree);
    auto heads = sizes.find("heads"), kvHeads = sizes.find("kv_heads");
    if (heads == sizes.end() || kvHeads == sizes.end() || heads->second % kvHeads->second != 0)
      return paddings;
    HeadLayout layout = chooseHeads(heads->second, kvHeads->second, degree);
    paddings["heads"] = padHeads(heads->second, kvHeads->second, layout);
    paddings["kv_heads"] = padKvHeads(kvHeads->second, layout);
    return paddings;
  }

  // Whether each rank takes whole blocks of a quantized param.
  static bool takesBlocks(llm::ParamOp param, const std::map<std::string, Padding> &paddings, int64_t degree) {
    RankedTensorType type = param.getTensorType();
    int64_t block = dtypeBlock(static_cast<plan::DType>(llm::dtypeOf(type.getElementType())));
    int64_t stride = 1;
    for (int64_t dim = type.getRank(); dim-- > 0; stride *= type.getShape()[dim]) {
      auto it = paddings.find(cast<StringAttr>(param.getDims()[dim]).getValue().str());
      if (it == paddings.end() || stride % block == 0)
        continue;
      int64_t share = it->second.size / degree, at = 0;
      ArrayRef<int64_t> segments = it->second.segments;
      for (size_t i = 0; i < segments.size(); at += segments[i + 1], i += 2)
        if (share * stride % block != 0 || at * stride % block != 0 ||
            (segments[i] != llm::SourceAttr::kZero && segments[i] * stride % block != 0))
          return false;
    }
    return true;
  }

  // Blocks of quantized elements lie along the rows: a rank that takes columns must take whole blocks.
  LogicalResult checkBlocks(ModuleOp module, const std::map<std::string, int64_t> &sizes, int64_t degree) {
    SmallVector<llm::ParamOp> quantized;
    for (auto param : module.getOps<llm::ParamOp>())
      if (isa<llm::QuantizedType>(param.getTensorType().getElementType()))
        quantized.push_back(param);
    auto fits = [&](int64_t tp) {
      return [tp, paddings = paddingsOf(sizes, tp)](llm::ParamOp param) { return takesBlocks(param, paddings, tp); };
    };
    auto cut = llvm::find_if_not(quantized, fits(degree));
    if (cut == quantized.end())
      return success();
    std::string degrees = "1";
    auto heads = sizes.find("heads");
    for (int64_t tp = 2; heads != sizes.end() && tp <= heads->second; ++tp)
      if (llvm::all_of(quantized, fits(tp)))
        degrees += ", " + std::to_string(tp);
    auto dtype = static_cast<plan::DType>(llm::dtypeOf(cut->getTensorType().getElementType()));
    return module.emitError() << "tensor '" << cast<llm::SourceAttr>(cut->getSources()[0]).getTensor().getValue()
                              << "' is " << plan::EnumNameDType(dtype) << ", and --tp " << degree
                              << " would cut its blocks of " << dtypeBlock(dtype)
                              << " elements; the degrees that work are --tp " << degrees;
  }

  LogicalResult apply(llm::ParamOp param) {
    SmallVector<int64_t> shape(param.getTensorType().getShape());
    SmallVector<Attribute> sources(param.getSources().begin(), param.getSources().end());
    for (auto [dim, name] : llvm::enumerate(param.getDims().getAsValueRange<StringAttr>())) {
      auto it = paddings_.find(name.str());
      if (it == paddings_.end())
        continue;
      if (dim == 0 && sources.size() != 1)
        return param.emitOpError() << "cannot be padded along dimension 0: it has " << sources.size() << " sources";
      shape[dim] = it->second.size;
      for (Attribute &attribute : sources) {
        auto source = cast<llm::SourceAttr>(attribute);
        SmallVector<DenseI64ArrayAttr> slices(source.getSlices());
        slices[dim] = DenseI64ArrayAttr::get(&getContext(), compose(slices[dim].asArrayRef(), it->second.segments));
        attribute =
            llm::SourceAttr::get(&getContext(), source.getTensor(), source.getView(), slices, source.getTransposed());
      }
    }
    param.setType(RankedTensorType::get(shape, param.getTensorType().getElementType()));
    param.setSourcesAttr(ArrayAttr::get(&getContext(), sources));
    return success();
  }

  std::map<std::string, Padding> paddings_;
};

} // namespace
