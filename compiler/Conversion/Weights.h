// From params over all ranks to the weights of one rank.
#pragma once

#include "compiler/Transforms/Passes.h"

namespace distc {

/// Declares in `rank` (replacing what is there) the files, tensors and weights that `params` come to on the rank with
/// index `tpIndex` of `tp`, and sets the ledger's weight bytes. `symbols` is the table of the module that holds
/// `params`.
void declareWeights(planir::RankOp rank, llvm::ArrayRef<llm::ParamOp> params, mlir::SymbolTable &symbols, int64_t tp,
                    int64_t tpIndex);

} // namespace distc
