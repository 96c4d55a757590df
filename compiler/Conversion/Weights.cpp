#include "compiler/Conversion/Weights.h"

#include "runtime/schema/PlanFile.h"

using namespace mlir;

namespace distc {

namespace {

constexpr int64_t kWeightAlignment = 256;

// Elements [first, first + count) of a dimension made of `segments`.
SmallVector<int64_t> cut(ArrayRef<int64_t> segments, int64_t first, int64_t count) {
  SmallVector<int64_t> result;
  for (size_t i = 0; i < segments.size() && count > 0; i += 2) {
    int64_t length = segments[i + 1];
    if (first >= length) {
      first -= length;
      continue;
    }
    int64_t taken = std::min(length - first, count);
    int64_t begin = segments[i] == llm::SourceAttr::kZero ? segments[i] : segments[i] + first;
    result.append({begin, taken});
    first = 0;
    count -= taken;
  }
  return result;
}

// How often all ranks together hold an element that they hold at all.
int64_t copiesOf(llm::ParamOp param, int64_t tp) {
  std::optional<unsigned> split = param.getSplitDim();
  if (!split)
    return param.getFirstOnly() ? 1 : tp;
  // Several sources are stacked along dimension 0, which is not split then: they are all cut the same way.
  ArrayRef<int64_t> segments = cast<llm::SourceAttr>(param.getSources()[0]).getSlices()[*split].asArrayRef();
  int64_t held = 0, distinct = 0, covered = 0; // segments come in the order of the source
  for (size_t i = 0; i < segments.size(); i += 2) {
    if (segments[i] == llm::SourceAttr::kZero)
      continue;
    const int64_t end = segments[i] + segments[i + 1];
    held += segments[i + 1];
    distinct += std::max<int64_t>(0, end - std::max(covered, segments[i]));
    covered = std::max(covered, end);
  }
  return distinct == 0 ? 1 : held / distinct;
}

class WeightDeclarer {
public:
  WeightDeclarer(planir::RankOp rank, SymbolTable &symbols, int64_t tp, int64_t tpIndex)
      : builder_(rank.getContext()), rank_(rank), symbols_(symbols), tp_(tp), tpIndex_(tpIndex) {
    builder_.setInsertionPoint(rank.get<planir::KvPoolOp>());
  }

  void declare(llm::ParamOp param) {
    SmallVector<Attribute> sources;
    for (auto source : param.getSources().getAsRange<llm::SourceAttr>()) {
      declareTensor(source.getTensor());
      sources.push_back(localSource(param, source));
    }
    ArrayRef<int64_t> shape = param.getTensorType().getShape();
    llm::DType dtype = llm::dtypeOf(param.getTensorType().getElementType());
    int64_t bytes = bytesOf(static_cast<plan::DType>(dtype), param.getTensorType().getNumElements());
    bool mapped = sources.size() == 1 && canMap(cast<llm::SourceAttr>(sources[0]), dtype);
    int64_t stride = 1;
    ArrayRef<int64_t> strideShape = mapped ? cast<llm::SourceAttr>(sources[0]).getView() : shape;
    for (int64_t size : strideShape.drop_front())
      stride *= size;
    planir::WeightOp::create(builder_, param.getLoc(), param.getSymName(), shape, dtype,
                             mapped ? planir::Placement::Map : planir::Placement::Load, mapped ? 0 : loaded_, bytes,
                             stride, copiesOf(param, tp_), param.getInit(), param.getInitScale(),
                             builder_.getArrayAttr(sources));
    if (mapped)
      mapped_ += bytes;
    else
      loaded_ = llvm::alignTo(loaded_ + bytes, kWeightAlignment);
  }

  void finish() {
    auto ledger = rank_.get<planir::LedgerOp>();
    ledger.setWeightsLoaded(loaded_);
    ledger.setWeightsMapped(mapped_);
  }

private:
  llm::SourceAttr localSource(llm::ParamOp param, llm::SourceAttr source) {
    SmallVector<DenseI64ArrayAttr> slices(source.getSlices());
    if (std::optional<unsigned> split = param.getSplitDim()) {
      int64_t local = param.getTensorType().getShape()[*split];
      slices[*split] = builder_.getDenseI64ArrayAttr(cut(slices[*split].asArrayRef(), tpIndex_ * local, local));
    }
    if (param.getFirstOnly() && tpIndex_ != 0)
      slices[0] = builder_.getDenseI64ArrayAttr({llm::SourceAttr::kZero, source.getCount(0)});
    return llm::SourceAttr::get(builder_.getContext(), source.getTensor(), source.getView(), slices,
                                source.getTransposed());
  }

  // The kernels of the CPU read the file itself if it has the type and, for each index of dimension 0, one contiguous
  // range. A GPU has memory of its own.
  bool canMap(llm::SourceAttr source, llm::DType dtype) {
    if (rank_.getTarget() != "cpu" || source.getTransposed() != 0)
      return false;
    auto tensor = tensors_.at(source.getTensor().getValue().str());
    if (tensor.getDtype() != dtype)
      return false;
    // Blocks are read wherever they lie.
    plan::DType type = static_cast<plan::DType>(dtype);
    if (!isQuantized(type) && tensor.getOffset() % dtypeBytes(type) != 0)
      return false;
    bool whole = true; // all dimensions after this one are taken whole
    for (size_t dim = source.getView().size(); dim-- > 0;) {
      ArrayRef<int64_t> segments = source.getSlices()[dim].asArrayRef();
      if (segments.size() != 2 || segments[0] == llm::SourceAttr::kZero)
        return false;
      if (dim > 0 && !whole && segments[1] != 1)
        return false;
      whole &= segments[1] == source.getView()[dim];
    }
    return true;
  }

  void declareTensor(FlatSymbolRefAttr name) {
    if (tensors_.count(name.getValue().str()))
      return;
    auto tensor = symbols_.lookup<llm::TensorOp>(name.getAttr());
    if (FlatSymbolRefAttr fileName = tensor.getFileAttr();
        fileName && files_.insert(fileName.getValue().str()).second) {
      auto file = symbols_.lookup<llm::FileOp>(fileName.getAttr());
      planir::FileOp::create(builder_, file.getLoc(), file.getSymName(), file.getPath(), file.getSize(),
                             file.getHeaderBytes(), file.getHeaderHash());
    }
    planir::TensorOp::create(builder_, tensor.getLoc(), tensor.getSymNameAttr(), tensor.getShapeAttr(),
                             tensor.getDtypeAttr(), tensor.getFileAttr(), tensor.getOffsetAttr(),
                             tensor.getBytesAttr());
    tensors_.emplace(name.getValue().str(), tensor);
  }

  OpBuilder builder_;
  planir::RankOp rank_;
  SymbolTable &symbols_;
  int64_t tp_, tpIndex_, loaded_ = 0, mapped_ = 0;
  std::map<std::string, llm::TensorOp> tensors_;
  std::set<std::string> files_;
};

} // namespace

void declareWeights(planir::RankOp rank, ArrayRef<llm::ParamOp> params, SymbolTable &symbols, int64_t tp,
                    int64_t tpIndex) {
  for (Operation &op : llvm::make_early_inc_range(rank.getBody().front()))
    if (isa<planir::FileOp, planir::TensorOp, planir::WeightOp>(op))
      op.erase();
  WeightDeclarer declarer(rank, symbols, tp, tpIndex);
  for (llm::ParamOp param : params)
    declarer.declare(param);
  declarer.finish();
}

} // namespace distc
