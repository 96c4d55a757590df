// The CUDA kernels beside the card's limit measured in the same run: microseconds, GB/s of what must be moved (weights,
// cache, rows), and the share of the bandwidth of plain reads. Each kernel runs many times in a graph, over operands
// that do not fit the cache; the figure is the median of many replays. An argument is a part of the names that are
// wanted; with `exchange`: all-reduces on several devices alone.
#include "bench/kernels_cuda/Bench.h"

#include <string_view>

using namespace distc::bench;

int main(int argc, char **argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  allReduces();
  if (argc > 1 && std::string_view(argv[1]) == "exchange")
    return 0;
  Bench bench(argc > 1 ? argv[1] : "");
  products(bench);
  stages(bench);
  attention(bench);
  rowOps(bench);
  return 0;
}
