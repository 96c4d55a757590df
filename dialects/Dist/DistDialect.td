// The dist dialect: communication that runs beside computation. Its types and enums.
#ifndef DISTC_DIST_DIALECT_TD
#define DISTC_DIST_DIALECT_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"

def Dist_Dialect : Dialect {
  let name = "dist";
  let cppNamespace = "::distc::dist";
  let summary = "Asynchronous collectives and point-to-point messages";
  let description = [{
    A collective is a pair: an op that starts it and gives a token, and a `dist.wait` that takes the token and gives the
    result. What stands between the two runs beside the communication. A token is waited for exactly once: it can be neither
    dropped nor used twice, and the ops that make it are never erased as dead.

    Ranks are named by groups: `tp` are the ranks of one pipeline stage, `pp` the ranks of one tensor-parallel index over the
    stages.
  }];
  let useDefaultTypePrinterParser = 1;
  let useDefaultAttributePrinterParser = 1;
}

def Dist_TokenType : TypeDef<Dist_Dialect, "Token"> {
  let mnemonic = "token";
  let summary = "communication under way";
  let description = [{
    `!dist.token<tensor<?x576xf32>>` gives a value when waited for; `!dist.token` (of a send) only says that it is done.
  }];
  let parameters = (ins OptionalParameter<"::mlir::Type">:$value);
  let assemblyFormat = "(`<` $value^ `>`)?";
}

def Dist_Group : I32EnumAttr<"Group", "a group of ranks", [
  I32EnumAttrCase<"TP", 0, "tp">, I32EnumAttrCase<"PP", 1, "pp">
]> {
  let cppNamespace = "::distc::dist";
  let genSpecializedAttr = 0;
}
def Dist_GroupAttr : EnumAttr<Dist_Dialect, Dist_Group, "group">;

def Dist_Reduction : I32EnumAttr<"Reduction", "how elements are combined", [
  I32EnumAttrCase<"Sum", 0, "sum">, I32EnumAttrCase<"Max", 1, "max">
]> {
  let cppNamespace = "::distc::dist";
  let genSpecializedAttr = 0;
}
def Dist_ReductionAttr : EnumAttr<Dist_Dialect, Dist_Reduction, "reduction">;

#endif
