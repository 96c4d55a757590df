#include "dialects/LLM/LLMDialect.h"

#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace distc::llm;

#include "dialects/LLM/LLMDialect.cpp.inc"
#include "dialects/LLM/LLMEnums.cpp.inc"

// A slice is one bracket for each dimension: `[0:9, zero:1] [0:64]`.
static ParseResult parseSlices(AsmParser &parser, SmallVector<DenseI64ArrayAttr> &slices) {
  while (succeeded(parser.parseOptionalLSquare())) {
    SmallVector<int64_t> segments;
    auto parseSegment = [&]() -> ParseResult {
      int64_t begin = SourceAttr::kZero, count;
      if (failed(parser.parseOptionalKeyword("zero")) && parser.parseInteger(begin))
        return failure();
      if (parser.parseColon() || parser.parseInteger(count))
        return failure();
      segments.append({begin, count});
      return success();
    };
    if (parser.parseCommaSeparatedList(parseSegment) || parser.parseRSquare())
      return failure();
    slices.push_back(DenseI64ArrayAttr::get(parser.getContext(), segments));
  }
  return success();
}

static void printSlices(AsmPrinter &printer, ArrayRef<DenseI64ArrayAttr> slices) {
  for (DenseI64ArrayAttr slice : slices) {
    printer << " [";
    for (int64_t i = 0; i < slice.size(); i += 2) {
      if (i != 0)
        printer << ", ";
      if (slice[i] == SourceAttr::kZero)
        printer << "zero";
      else
        printer << slice[i];
      printer << ':' << slice[i + 1];
    }
    printer << ']';
  }
}

#define GET_TYPEDEF_CLASSES
#include "dialects/LLM/LLMTypes.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "dialects/LLM/LLMAttributes.cpp.inc"

void LLMDialect::initialize() {
  addTypes<
#define GET_TYPEDEF_LIST
#include "dialects/LLM/LLMTypes.cpp.inc"
      >();
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/LLM/LLMAttributes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialects/LLM/LLMOps.cpp.inc"
      >();
}

LogicalResult KvCacheType::verify(function_ref<InFlightDiagnostic()> emitError, int64_t heads, int64_t headDim,
                                  Type elementType) {
  if (heads < 1 || headDim < 1)
    return emitError() << "expected at least one head and one element, got " << heads << " and " << headDim;
  if (!elementType.isF32() && !elementType.isF16() && !elementType.isBF16())
    return emitError() << "expected elements of f32, f16 or bf16, got " << elementType;
  return success();
}

LogicalResult QuantizedType::verify(function_ref<InFlightDiagnostic()> emitError, DType dtype) {
  if (dtype <= DType::I32)
    return emitError() << "expected a quantized type, got " << stringifyDType(dtype);
  return success();
}

LogicalResult SourceAttr::verify(function_ref<InFlightDiagnostic()> emitError, FlatSymbolRefAttr tensor,
                                 ArrayRef<int64_t> view, ArrayRef<DenseI64ArrayAttr> slices, int64_t transposed) {
  if (view.size() != slices.size())
    return emitError() << "slices of " << tensor << ": expected one for each of " << view.size()
                       << " dimensions of the view, got " << slices.size();
  if (transposed < 0 || (transposed > 0 && static_cast<size_t>(transposed) >= view.size()))
    return emitError() << "slices of " << tensor << ": " << transposed << " dimensions of the view come last, expected "
                       << "fewer than its " << view.size();
  for (auto [dim, slice] : llvm::enumerate(slices)) {
    if (slice.empty() || slice.size() % 2 != 0)
      return emitError() << "slice " << dim << " of " << tensor << ": expected pairs of begin and count";
    for (int64_t i = 0; i < slice.size(); i += 2) {
      int64_t begin = slice[i], count = slice[i + 1];
      if (count < 1 || (begin != kZero && (begin < 0 || begin > view[dim] || count > view[dim] - begin)))
        return emitError() << "slice " << dim << " of " << tensor << ": segment " << begin << ":" << count
                           << " is outside the dimension of size " << view[dim];
    }
  }
  return success();
}

int64_t SourceAttr::getCount(unsigned dim) const {
  int64_t count = 0;
  DenseI64ArrayAttr slice = getSlices()[dim];
  for (int64_t i = 1; i < slice.size(); i += 2)
    count += slice[i];
  return count;
}

SmallVector<int64_t> SourceAttr::getShape() const {
  SmallVector<int64_t> shape;
  for (unsigned dim = 0; dim < getSlices().size(); ++dim)
    shape.push_back(getCount(dim));
  return shape;
}

DType distc::llm::dtypeOf(Type element) {
  if (auto quantized = dyn_cast<QuantizedType>(element))
    return quantized.getDtype();
  if (element.isInteger(32))
    return DType::I32;
  if (element.isBF16())
    return DType::BF16;
  return element.isF16() ? DType::F16 : DType::F32;
}

bool distc::llm::isSplitDimName(StringRef name) {
  return llvm::StringSwitch<bool>(name).Cases({"heads", "kv_heads", "intermediate", "vocabulary"}, true).Default(false);
}
