#include "runtime/backends/cpu/Handlers.h"

namespace distc::cpuHandlers {

Status route(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::Route>();
  const BufferView logits = run.buffer(o.logits()), out = run.buffer(o.out());
  run.pool.parallelFor(out.rows, rowGrain(logits.width * o.count()), [&](int64_t begin, int64_t end) {
    cpu::route(logits.f32(), logits.width, o.count(), o.normalize(), out.f32(), begin, end);
  });
  return {};
}

Status expertLinear(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::ExpertLinear>();
  const BufferView in = run.buffer(o.input()), routes = run.buffer(o.routes()), out = run.buffer(o.out());
  const int64_t count = routes.width / 2, places = routes.rows * count, rows = out.width / count;
  const LoadedWeight &weight = run.weights[o.weight()];
  const auto experts = static_cast<int64_t>(weight.rows);
  const int64_t columns = static_cast<int64_t>(weight.elements) / (experts * rows);
  const int64_t repeat = in.width == columns ? count : 1; // one row of x for all its experts, or one for each
  std::vector<int32_t> order(static_cast<size_t>(places)), starts(static_cast<size_t>(experts) + 1);
  cpu::groupByExpert(routes.f32(), places, experts, order.data(), starts.data());
  // Each thread takes its rows of every expert, so experts of many tokens keep no thread waiting. As in Linear.cpp,
  // whole cache lines of the output.
  constexpr int64_t kRows = 16;
  const int64_t units = (rows + kRows - 1) / kRows, parts = run.pool.size();
  run.pool.forEachThread([&](uint32_t part) {
    const int64_t begin = units * part / parts * kRows, end = std::min(rows, units * (part + 1) / parts * kRows);
    for (size_t e = 0; e < static_cast<size_t>(experts); ++e)
      cpu::linearOf(order.data() + starts[e], starts[e + 1] - starts[e], in.f32(), repeat,
                    run.expert(o.weight(), static_cast<int64_t>(e), columns), out.f32(), rows, begin, end);
  });
  return {};
}

Status combine(CpuRun &run, const Instruction &instruction) {
  const auto &o = instruction.as<plan::Combine>();
  const BufferView in = run.buffer(o.input()), routes = run.buffer(o.routes()), out = run.buffer(o.out());
  run.pool.parallelFor(out.rows, rowGrain(in.width), [&](int64_t begin, int64_t end) {
    cpu::combine(in.f32(), routes.f32(), routes.width / 2, out.width, out.f32(), begin, end);
  });
  return {};
}

} // namespace distc::cpuHandlers
