// Which rows of a stage's weights a multiprocessor multiplies at once: up to 16, in two groups of up to 8 that meet in
// one result where the form says so.
#include "distc/kernels/CudaStage.h"

#include <algorithm>

namespace distc::cuda {
namespace {

constexpr int groupRows = tileRows / 2;

/// The tile that begins with `unit`; moves `unit` behind it, `end` at most.
StageTile tileAt(const MatrixStage &stage, int &unit, int end) {
  const int rows = unitRows(stage.form);
  const auto unitsOf = [&](int weight) { return (stage.weights[weight].rows + rows - 1) / rows; };
  int w = 0, first = 0, units = unitsOf(0);
  if (stage.form != StageForm::Glu)
    while (unit >= first + units) {
      first += units;
      units = unitsOf(++w);
    }
  const int at = unit - first, left = std::min(end, first + units) - unit;
  auto tile = [](int w0, int r0, int n0, int w1, int r1, int n1) {
    return StageTile{r0, r1, uint8_t(w0), uint8_t(n0), uint8_t(w1), uint8_t(n1)};
  };
  if (stage.form == StageForm::Rows || stage.form == StageForm::Activated || stage.form == StageForm::ExpertSum) {
    const int n = std::min(2 * left, tileRows), n0 = std::min(n, groupRows);
    unit += n / 2;
    StageTile result = tile(w, 2 * at, n0, w, 2 * at + n0, n - n0);
    result.results = uint8_t(std::min(n, stage.weights[w].rows - 2 * at));
    return result;
  }
  if (stage.form == StageForm::Glu) {
    const int n = std::min(2 * left, groupRows);
    unit += n / 2;
    return tile(0, 2 * at, n, 1, 2 * at, n);
  }
  if (stage.style == RopeStyle::Half) { // elements i and i + headDim / 2 of one head
    const int half = stage.headDim / 2, pair = 2 * at, head = pair / half, i = pair % half;
    const int n = std::min({2 * left, groupRows, half - i}), row = head * stage.headDim + i;
    unit += n / 2;
    return tile(w, row, n, w, row + half, n);
  }
  // neighbours
  const int row = 4 * at, n = std::min({4 * left, tileRows, stage.headDim - row % stage.headDim});
  const int n0 = std::min(n, groupRows);
  unit += n / 4;
  return tile(w, row, n0, w, row + n0, n - n0);
}

} // namespace

std::vector<StageTile> listTiles(MatrixStage &stage, std::span<const uint32_t> bounds) {
  std::vector<std::vector<StageTile>> lists(bounds.size() - 1);
  size_t most = 0;
  for (size_t s = 0; s < lists.size(); ++s) {
    for (int unit = int(bounds[s]); unit < int(bounds[s + 1]);)
      lists[s].push_back(tileAt(stage, unit, int(bounds[s + 1])));
    most = std::max(most, lists[s].size());
  }
  std::vector<StageTile> tiles;
  for (std::vector<StageTile> &list : lists) {
    list.resize(most);
    tiles.insert(tiles.end(), list.begin(), list.end());
  }
  stage.maxTiles = int(most);
  return tiles;
}

} // namespace distc::cuda
