// What every op of the dialect states about itself.
#ifndef DISTC_LLM_INTERFACES_TD
#define DISTC_LLM_INTERFACES_TD

include "mlir/IR/OpBase.td"

def LLM_TensorParallelOpInterface : OpInterface<"TensorParallelOpInterface"> {
  let cppNamespace = "::distc::llm";
  let description = [{
    The op's shape rule and its sharding rule. Passes that change params (padding, partition) change the params' types
    and then walk the program once: operands first, each op derives its results again.
  }];
  let methods = [
    InterfaceMethod<[{
      The types of the results, from the operands' types and the params' types of now; fails with a diagnostic where they
      do not fit.
    }], "::llvm::FailureOr<::mlir::Type>", "inferType", (ins "::distc::llm::ParamScope &":$scope)>,
    InterfaceMethod<[{
      The sharding rule: given the layouts of the operands and params, the layout of the result. A rule that needs an
      operand in another layout asks the context for it, which inserts the collective; a rule that has no answer returns
      the context's error naming op and layouts.
    }], "::llvm::FailureOr<::distc::llm::Layout>", "partition", (ins "::distc::llm::PartitionContext &":$context)>,
  ];
}

#endif
