// The plan dialect: a plan file as IR, field by field. Its types and enums.
#ifndef DISTC_PLAN_DIALECT_TD
#define DISTC_PLAN_DIALECT_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"

def Plan_Dialect : Dialect {
  let name = "plan";
  let cppNamespace = "::distc::planir";
  let summary = "Execution plans: a flat instruction list over buffers";
  let description = [{
    One `plan.rank` is one plan file: every op and attribute here has its field in `runtime/schema/plan.fbs`, which says
    what it means, and the translation in both directions loses nothing. Instructions name the buffers that they read and,
    after the arrow, write.
  }];
  let useDefaultTypePrinterParser = 1;
  let useDefaultAttributePrinterParser = 1;
  let dependentDialects = ["::distc::llm::LLMDialect"];
}

def Plan_BufferType : TypeDef<Plan_Dialect, "Buffer"> {
  let mnemonic = "buffer";
  let summary = "rows of an activation";
  let description = "What a `plan.buffer` declares and instructions read and write.";
}

class Plan_Enum<string name, string summary, list<I32EnumAttrCase> cases> : I32EnumAttr<name, summary, cases> {
  let cppNamespace = "::distc::planir";
  let genSpecializedAttr = 0;
}

def Plan_RowUnit : Plan_Enum<"RowUnit", "what the rows of a buffer are", [
  I32EnumAttrCase<"Tokens", 0, "tokens">, I32EnumAttrCase<"Outputs", 1, "outputs">, I32EnumAttrCase<"One", 2, "one">
]>;
def Plan_RowUnitAttr : EnumAttr<Plan_Dialect, Plan_RowUnit, "row_unit">;

def Plan_Layout : Plan_Enum<"LayoutKind", "how a value lies over the ranks", [
  I32EnumAttrCase<"Replicated", 0, "replicated">, I32EnumAttrCase<"Split", 1, "split">,
  I32EnumAttrCase<"Partial", 2, "partial">
]>;
def Plan_LayoutAttr : EnumAttr<Plan_Dialect, Plan_Layout, "layout">;

def Plan_Regime : Plan_Enum<"Regime", "what kind of batch a program takes", [
  I32EnumAttrCase<"Decode", 0, "decode">, I32EnumAttrCase<"Prefill", 1, "prefill">
]>;
def Plan_RegimeAttr : EnumAttr<Plan_Dialect, Plan_Regime, "regime">;

def Plan_Placement : Plan_Enum<"Placement", "where a weight's elements are", [
  I32EnumAttrCase<"Load", 0, "load">, I32EnumAttrCase<"Map", 1, "map">
]>;
def Plan_PlacementAttr : EnumAttr<Plan_Dialect, Plan_Placement, "placement">;

def Plan_ReduceOp : Plan_Enum<"ReduceKind", "how elements are combined", [
  I32EnumAttrCase<"Sum", 0, "sum">, I32EnumAttrCase<"Max", 1, "max">
]>;
def Plan_ReduceOpAttr : EnumAttr<Plan_Dialect, Plan_ReduceOp, "reduce">;

def Plan_StageKind : Plan_Enum<"StageKind", "what a stage of a decode step does", [
  I32EnumAttrCase<"Rows", 0, "rows">, I32EnumAttrCase<"Glu", 1, "glu">, I32EnumAttrCase<"Qkv", 2, "qkv">,
  I32EnumAttrCase<"Attention", 3, "attention">, I32EnumAttrCase<"ExpertGlu", 4, "expert_glu">,
  I32EnumAttrCase<"ExpertSum", 5, "expert_sum">, I32EnumAttrCase<"Router", 6, "router">,
  I32EnumAttrCase<"Append", 7, "append">, I32EnumAttrCase<"PostNorm", 8, "post_norm">
]>;
def Plan_StageKindAttr : EnumAttr<Plan_Dialect, Plan_StageKind, "stage_kind">;

#endif
