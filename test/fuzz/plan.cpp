// A plan's payload: structure, verifier, inspect. Half of the mutations are of bytes, half of one scalar of the plan,
// found by reflection, which gets further into the verifier.
#include "runtime/verify/Inspect.h"
#include "runtime/verify/Verify.h"
#include "test/mutate/Plans.h"

#include <cstdlib>

using namespace distc;

extern "C" size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t maxSize);

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t maxSize, unsigned seed) {
  std::vector<uint8_t> payload(data, data + size);
  if (seed % 2 == 0 || !mutate::isSound(payload))
    return LLVMFuzzerMutate(data, size, maxSize);
  mutate::Random random(seed);
  auto fields = mutate::fieldsOfPlan(payload);
  for (uint64_t changes = fields.empty() ? 0 : 1 + random.below(3); changes > 0; --changes)
    mutate::change(random.pick(fields), random);
  std::copy(payload.begin(), payload.end(), data);
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const std::vector<uint8_t> payload(data, data + size); // aligned, as in a file
  if (!mutate::isSound(payload))
    return 0;
  const plan::Plan &plan = mutate::planOf(payload);
  const plan::Plan *const set[] = {&plan};
  if (!verifyPlan(plan).empty())
    return 0;
  for (const Violation &violation : verifyPlanSet(set))
    if (violation.message.empty())
      std::abort();
  InspectOptions options;
  options.weights = size % 2 == 0;
  if (inspectText(plan, options).empty() || inspectJson(plan).empty())
    std::abort();
  return 0;
}
