// One plan: files, tensors and weights: every slice lies within its view, tensor and file; what is mapped is
// contiguous.
#include "runtime/schema/PlanFile.h"
#include "runtime/verify/Report.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

namespace distc::verify {

namespace {

constexpr unsigned kMaxDims = 8;

template <typename Vector> uint64_t product(const Vector &values) {
  uint64_t result = 1;
  for (uint64_t value : values)
    result = saturatingMul(result, value);
  return result;
}

/// A shape that can be worked with: 1 to 8 dimensions, none of them 0.
template <typename Vector> bool saneShape(const Vector &shape) {
  return shape.size() >= 1 && shape.size() <= kMaxDims && product(shape) != 0 && product(shape) < (uint64_t(1) << 60);
}

uint64_t partCount(const plan::DimSlice &dim) {
  uint64_t count = 0;
  for (const plan::Segment *segment : *dim.segments())
    count = saturatingAdd(count, segment->count());
  return count;
}

/// Is the number one of those in the text, "model.layers.12.mlp"?
bool hasNumber(std::string_view text, int64_t number) {
  int64_t current = -1;
  for (char c : text) {
    if (c >= '0' && c <= '9' && current <= INT32_MAX) {
      current = 10 * std::max<int64_t>(current, 0) + (c - '0');
      continue;
    }
    if (current == number)
      return true;
    current = -1;
  }
  return current == number;
}

class WeightTableCheck {
public:
  WeightTableCheck(const plan::Plan &plan, Reporter &reporter) : plan_(plan), reporter_(reporter) {}

  void run() {
    for (const plan::SourceFile *file : *plan_.files())
      if (file->header_bytes() > file->size())
        fail("weight-file", cat("file '", file->path()->string_view(), "' of ", file->size(), " bytes has a header of ",
                                file->header_bytes()));
    size_t before = reporter_.count();
    for (const plan::SourceTensor *tensor : *plan_.tensors())
      checkTensor(*tensor);
    if (reporter_.count() != before)
      return;
    uint64_t mapped = 0;
    std::unordered_set<std::string_view> names;
    for (const plan::Weight *weight : *plan_.weights()) {
      if (!names.insert(weight->name()->string_view()).second)
        fail("weight-shape", cat("two weights have the name '", weight->name()->string_view(), "'"));
      if (checkShape(*weight) && checkSources(*weight) && weight->placement() == plan::Placement::Map) {
        checkMapped(*weight);
        mapped = saturatingAdd(mapped, weight->bytes());
      }
    }
    if (reporter_.count() != before)
      return;
    if (plan_.ledger()->weights_mapped() != mapped)
      fail("ledger", cat("ledger.weights_mapped is ", plan_.ledger()->weights_mapped(), ", expected ", mapped,
                         " (the sum over the mapped weights)"));
    checkWeightMemory();
  }

private:
  void fail(const char *kind, std::string message) {
    reporter_.add(kind, cat("rank ", plan_.mesh()->rank(), ": ", message), {plan_.mesh()->rank()});
  }

  void checkTensor(const plan::SourceTensor &tensor) {
    std::string name = cat("tensor '", tensor.name()->string_view(), "' ", listText(*tensor.shape()));
    if (tensor.dtype() > plan::DType::MAX)
      return fail("weight-shape", cat(name, ": unknown dtype ", unsigned(tensor.dtype())));
    uint64_t block = dtypeBlock(tensor.dtype());
    if (!saneShape(*tensor.shape()) || tensor.shape()->Get(tensor.shape()->size() - 1) % block != 0)
      return fail("weight-shape",
                  cat(name, ": expected 1 to 8 dimensions of at least 1, the last a multiple of ", block));
    uint64_t bytes = bytesOf(tensor.dtype(), product(*tensor.shape()));
    if (tensor.bytes() != bytes)
      fail("weight-shape", cat(name, ": ", tensor.bytes(), " bytes, expected ", bytes));
    if (tensor.file() == -1)
      return;
    if (tensor.file() < -1 || uint64_t(tensor.file()) >= plan_.files()->size())
      return fail("index-range", cat(name, ": file ", tensor.file(), " of ", plan_.files()->size()));
    const plan::SourceFile &file = *plan_.files()->Get(tensor.file());
    if (tensor.offset() < file.header_bytes() || saturatingAdd(tensor.offset(), tensor.bytes()) > file.size())
      fail("weight-file", cat(name, ": bytes ", tensor.offset(), " to ", saturatingAdd(tensor.offset(), tensor.bytes()),
                              " are outside the data of '", file.path()->string_view(), "', bytes ",
                              file.header_bytes(), " to ", file.size()));
  }

  bool checkShape(const plan::Weight &weight) {
    std::string name = cat("weight '", weight.name()->string_view(), "' ", listText(*weight.shape()));
    size_t before = reporter_.count();
    if (weight.dtype() > plan::DType::MAX || weight.dtype() == plan::DType::I32)
      fail("weight-shape", cat(name, ": dtype ", unsigned(weight.dtype()), ", expected f32, f16, bf16 or quantized"));
    else if (isQuantized(weight.dtype()) && plan_.target()->string_view() != "cpu")
      fail("weight-shape", cat(name, ": ", plan::EnumNameDType(weight.dtype()), ", which target ",
                               plan_.target()->string_view(), " does not read"));
    else if (!saneShape(*weight.shape()))
      fail("weight-shape", cat(name, ": expected 1 to 8 dimensions of at least 1"));
    else if (product(*weight.shape()) / (weight.shape()->size() > 1 ? weight.shape()->Get(0) : 1) %
                 dtypeBlock(weight.dtype()) !=
             0)
      fail("weight-shape", cat(name, ": rows of no whole blocks of ", dtypeBlock(weight.dtype())));
    else if (weight.bytes() != bytesOf(weight.dtype(), product(*weight.shape())))
      fail("weight-shape",
           cat(name, ": ", weight.bytes(), " bytes, expected ", bytesOf(weight.dtype(), product(*weight.shape()))));
    if (weight.placement() > plan::Placement::MAX || weight.init() > plan::Init::MAX ||
        !std::isfinite(weight.init_scale()) || weight.copies() == 0)
      fail("weight-shape", cat(name, ": a placement, init, init_scale or copies that does not exist"));
    return reporter_.count() == before;
  }

  /// The parts lie within their views and have, together, as many elements as the weight.
  bool checkSources(const plan::Weight &weight) {
    std::string name = cat("weight '", weight.name()->string_view(), "'");
    size_t before = reporter_.count();
    uint64_t elements = 0, rowElements = product(*weight.shape()) / weight.shape()->Get(0);
    for (const plan::WeightSource *source : *weight.sources()) {
      if (source->tensor() >= plan_.tensors()->size()) {
        fail("index-range", cat(name, ": tensor ", source->tensor(), " of ", plan_.tensors()->size()));
        return false;
      }
      const plan::SourceTensor &tensor = *plan_.tensors()->Get(source->tensor());
      if (const int64_t layer = layerOf(weight.name()->string_view());
          layer >= 0 && !hasNumber(tensor.name()->string_view(), layer))
        fail("layer-order", cat(name, " is of layer ", layer, ", but its tensor '", tensor.name()->string_view(),
                                "' has no such number in its name"));
      std::string from = cat(name, " from tensor '", tensor.name()->string_view(), "'");
      if (!saneShape(*source->view()) || product(*source->view()) != product(*tensor.shape()) ||
          source->dims()->size() != source->view()->size()) {
        fail("weight-slice", cat(from, ": ", source->dims()->size(), " slices of the view ", listText(*source->view()),
                                 " of shape ", listText(*tensor.shape()), ", expected as many elements and slices"));
        return false;
      }
      if (source->transposed() >= source->view()->size())
        fail("weight-slice", cat(from, ": ", source->transposed(), " dimensions of the view ",
                                 listText(*source->view()), " come last in the tensor, expected fewer"));
      uint64_t part = 1;
      for (flatbuffers::uoffset_t d = 0; d < source->dims()->size(); ++d) {
        const plan::DimSlice &dim = *source->dims()->Get(d);
        for (const plan::Segment *segment : *dim.segments())
          if (segment->count() == 0 || (segment->begin() != kZeroFill &&
                                        saturatingAdd(segment->begin(), segment->count()) > source->view()->Get(d)))
            fail("weight-slice",
                 cat(from, ": dimension ", d, " takes [", segment->begin(), ", ",
                     saturatingAdd(segment->begin(), segment->count()), ") of ", source->view()->Get(d)));
        part = saturatingMul(part, partCount(dim));
      }
      if (isQuantized(weight.dtype()))
        checkBlocks(weight.dtype(), tensor, *source, from);
      if (part % rowElements != 0)
        fail("weight-slice", cat(from, ": a part of ", part, " elements is not a number of rows of ", rowElements));
      elements = saturatingAdd(elements, part);
    }
    if (elements != product(*weight.shape()))
      fail("weight-slice", cat(name, ": its sources hold ", elements, " elements, its shape ",
                               listText(*weight.shape()), " needs ", product(*weight.shape())));
    if (weight.placement() == plan::Placement::Load && weight.row_stride() != rowElements)
      fail("weight-shape",
           cat(name, ": row_stride ", weight.row_stride(), ", expected ", rowElements, " as it is loaded densely"));
    return reporter_.count() == before;
  }

  /// What stays quantized is of the tensor's own type, and no slice of it cuts a block.
  void checkBlocks(plan::DType dtype, const plan::SourceTensor &tensor, const plan::WeightSource &source,
                   const std::string &from) {
    if (tensor.dtype() != dtype)
      return fail("weight-slice", cat(from, " of ", plan::EnumNameDType(tensor.dtype()), ": it is to stay ",
                                      plan::EnumNameDType(dtype), ", expected the same type"));
    if (source.transposed() != 0)
      return fail("weight-slice", cat(from, ": it is to stay ", plan::EnumNameDType(dtype), ", but is transposed"));
    uint64_t stride = 1, block = dtypeBlock(dtype);
    for (flatbuffers::uoffset_t d = source.dims()->size(); d-- > 0; stride *= source.view()->Get(d)) {
      const auto &segments = *source.dims()->Get(d)->segments();
      // A dimension that is taken whole makes one with that around it.
      if (segments.size() == 1 && segments.Get(0)->begin() == 0 && segments.Get(0)->count() == source.view()->Get(d))
        continue;
      for (const plan::Segment *segment : segments)
        if (saturatingMul(segment->count(), stride) % block != 0 ||
            (segment->begin() != kZeroFill && saturatingMul(segment->begin(), stride) % block != 0))
          return fail("slice-alignment", cat(from, ": the slice of ", segment->count(), " of dimension ", d,
                                             " cuts a block of ", block, " elements"));
    }
  }

  /// The one source is a box whose rows are contiguous and `row_stride` apart.
  void checkMapped(const plan::Weight &weight) {
    std::string name = cat("mapped weight '", weight.name()->string_view(), "'");
    if (plan_.target()->string_view() != "cpu")
      return fail("weight-map", cat(name, ": target ", plan_.target()->string_view(),
                                    " reads no weight in its file, expected that it is loaded"));
    if (weight.sources()->size() != 1)
      return fail("weight-map", cat(name, ": ", weight.sources()->size(), " sources, expected 1"));
    const plan::WeightSource &source = *weight.sources()->Get(0);
    const plan::SourceTensor &tensor = *plan_.tensors()->Get(source.tensor());
    if (tensor.dtype() != weight.dtype())
      return fail("weight-map", cat(name, ": dtype ", plan::EnumNameDType(weight.dtype()), ", but its tensor '",
                                    tensor.name()->string_view(), "' is ", plan::EnumNameDType(tensor.dtype())));
    if (source.transposed() != 0)
      return fail("weight-map", cat(name, ": its tensor '", tensor.name()->string_view(),
                                    "' is transposed, expected that it is loaded"));
    if (!isQuantized(tensor.dtype()) && tensor.offset() % dtypeBytes(tensor.dtype()) != 0)
      return fail("weight-map", cat(name, ": its tensor starts at byte ", tensor.offset(), ", not at a multiple of ",
                                    dtypeBytes(tensor.dtype())));
    // From the innermost dimension out: `run` contiguous elements, `rows` of them, `stride` apart.
    uint64_t run = 1, rows = 1, stride = 0, step = 1, span = 0;
    bool contiguous = true, uniform = true;
    for (flatbuffers::uoffset_t d = source.dims()->size(); d-- > 0;) {
      const auto &segments = *source.dims()->Get(d)->segments();
      uint64_t extent = source.view()->Get(d);
      if (segments.size() != 1 || segments.Get(0)->begin() == kZeroFill)
        return fail("weight-map", cat(name, ": dimension ", d, " is not one range of its tensor '",
                                      tensor.name()->string_view(), "'"));
      uint64_t count = segments.Get(0)->count();
      if (contiguous) {
        run *= count;
        contiguous = count == extent;
      } else if (count > 1) {
        uniform = uniform && (rows == 1 || span == step);
        stride = rows == 1 ? step : stride;
        rows *= count;
        span = step * count;
      }
      step *= extent;
    }
    uint64_t rowElements = product(*weight.shape()) / weight.shape()->Get(0);
    bool dense = rows == 1 && (weight.row_stride() == rowElements || weight.shape()->Get(0) == 1);
    bool strided = uniform && run == rowElements && rows == weight.shape()->Get(0) && weight.row_stride() == stride;
    if (!dense && !strided)
      fail("weight-map",
           cat(name, ": rows of ", rowElements, " elements ", weight.row_stride(), " apart, but its slices are ", rows,
               uniform ? "" : " unevenly spaced", " runs of ", run, " elements ", stride, " apart"));
  }

  void checkWeightMemory() {
    std::vector<const plan::Weight *> loaded;
    for (const plan::Weight *weight : *plan_.weights())
      if (weight->placement() == plan::Placement::Load)
        loaded.push_back(weight);
    std::sort(loaded.begin(), loaded.end(),
              [](const plan::Weight *a, const plan::Weight *b) { return a->offset() < b->offset(); });
    uint64_t end = 0;
    const plan::Weight *last = nullptr;
    for (const plan::Weight *weight : loaded) {
      if (weight->offset() % 256 != 0)
        fail("weight-memory", cat("weight '", weight->name()->string_view(), "': offset ", weight->offset(),
                                  ", expected a multiple of 256"));
      if (last && weight->offset() < end)
        fail("weight-memory",
             cat("weights '", last->name()->string_view(), "' and '", weight->name()->string_view(),
                 "' overlap: the first ends at byte ", end, ", the second starts at ", weight->offset()));
      end = saturatingAdd(weight->offset(), weight->bytes());
      last = weight;
    }
    uint64_t ledger = plan_.ledger()->weights_loaded();
    if (ledger != end && ledger != saturatingAdd(end, 255) / 256 * 256)
      fail("ledger",
           cat("ledger.weights_loaded is ", ledger, ", expected ", end, " (the end of the last loaded weight)"));
  }

  const plan::Plan &plan_;
  Reporter &reporter_;
};

} // namespace

void checkWeightTables(const plan::Plan &plan, Reporter &reporter) { WeightTableCheck(plan, reporter).run(); }

} // namespace distc::verify
