// What every instruction states about itself.
#ifndef DISTC_PLAN_INTERFACES_TD
#define DISTC_PLAN_INTERFACES_TD

include "mlir/IR/OpBase.td"

def Plan_InstructionOpInterface : OpInterface<"InstructionOpInterface"> {
  let cppNamespace = "::distc::planir";
  let description = [{
    An instruction of a plan: an id, a queue, the events that it waits for and signals, a label for people, and the buffers
    that it reads and writes.
  }];
  let methods = [
    InterfaceMethod<"Unique in the plan.", "uint64_t", "getId">,
    InterfaceMethod<"0 compute, 1 communication.", "uint64_t", "getQueue">,
    InterfaceMethod<"Events that must have been signalled before it starts.", "::llvm::ArrayRef<int64_t>", "getWaits">,
    InterfaceMethod<"The event that it signals at its end.", "std::optional<uint64_t>", "getSignal">,
    InterfaceMethod<"Where it comes from.", "::llvm::StringRef", "getLabel">,
    InterfaceMethod<"Buffers that it reads.", "::llvm::SmallVector<::mlir::Value>", "getReads", (ins), [{
      ::llvm::SmallVector<::mlir::Value> reads($_op->getOperands());
      if constexpr (requires { $_op.getOut(); })
        reads.pop_back(); // the output is the last operand
      return reads;
    }]>,
    InterfaceMethod<"The buffer that it writes, if any.", "::mlir::Value", "getWritten", (ins), [{
      if constexpr (requires { $_op.getOut(); })
        return $_op.getOut();
      return {};
    }]>,
    InterfaceMethod<"Whether the output may lie where an input of the same size lies.", "bool", "mayRunInPlace", (ins),
                    "", "return false;">,
  ];
}

#endif
