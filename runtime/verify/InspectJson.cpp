#include "runtime/verify/Inspect.h"

#include <flatbuffers/minireflect.h>

#include <charconv>

namespace distc {

namespace {

/// FlatBuffers' own walk over the names of the schema; numbers as the shortest text that reads back as the same.
struct JsonVisitor : flatbuffers::ToStringVisitor {
  JsonVisitor() : ToStringVisitor("\n", /*quotes=*/true, "  ", /*vdelimited=*/false) {}
  void Float(float x) override { number(x); }
  void Double(double x) override { number(x); }

private:
  template <typename T> void number(T x) {
    char text[40];
    s.append(text, std::to_chars(text, text + sizeof text, x).ptr);
  }
};

} // namespace

std::string inspectJson(const plan::Plan &plan, const InspectOptions &options) {
  plan::PlanT copy;
  plan.UnPackTo(&copy);
  if (options.weights)
    copy.programs.clear();
  if (options.program) {
    copy.weights.clear();
    std::erase_if(copy.programs, [&](const auto &program) { return program->regime != *options.program; });
  }
  // Fields at their defaults are left out of a plan, but not of what people and scripts read.
  flatbuffers::FlatBufferBuilder builder(1 << 16);
  builder.ForceDefaults(true);
  builder.Finish(plan::Plan::Pack(builder, &copy));
  JsonVisitor visitor;
  flatbuffers::IterateFlatBuffer(builder.GetBufferPointer(), plan::PlanTypeTable(), &visitor);
  return std::move(visitor.s) + "\n";
}

} // namespace distc
