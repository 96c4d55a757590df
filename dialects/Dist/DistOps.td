// The ops of the dist dialect: a start for each kind of communication, and one wait for all.
#ifndef DISTC_DIST_OPS_TD
#define DISTC_DIST_OPS_TD

include "dialects/Dist/DistDialect.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

def Dist_Value : RankedTensorOf<[F32, F16, BF16, I32]>;

// Communication is an effect on the world: never dead, never reordered with its like.
class Dist_StartOp<string mnemonic> : Op<Dist_Dialect, mnemonic, [MemoryEffects<[MemRead, MemWrite]>]> {
  let hasVerifier = 1;
}

def Dist_AllReduceStartOp : Dist_StartOp<"all_reduce_start"> {
  let summary = "starts the reduction of a value over a group";
  let description = [{
    ```mlir
    %t = dist.all_reduce_start %x over tp sum : tensor<?x576xf32> -> !dist.token<tensor<?x576xf32>>
    ```
  }];
  let arguments = (ins Dist_Value:$input, Dist_GroupAttr:$group, Dist_ReductionAttr:$reduction);
  let results = (outs Dist_TokenType:$token);
  let assemblyFormat = "$input `over` $group $reduction attr-dict `:` type($input) `->` type($token)";
}

def Dist_ReduceScatterStartOp : Dist_StartOp<"reduce_scatter_start"> {
  let summary = "starts the reduction of a value, of which each member of a group gets its share of the rows";
  let description = [{
    Member i gets the i-th ceil(rows / members) rows, zeros where there are no more. The encoding of the result's type says
    that its rows are scattered.

    ```mlir
    %t = dist.reduce_scatter_start %x over tp sum : tensor<?x576xf32>
      -> !dist.token<tensor<?x576xf32, #shard<axisarray[[1]]>>>
    ```
  }];
  let arguments = (ins Dist_Value:$input, Dist_GroupAttr:$group, Dist_ReductionAttr:$reduction);
  let results = (outs Dist_TokenType:$token);
  let assemblyFormat = "$input `over` $group $reduction attr-dict `:` type($input) `->` type($token)";
}

def Dist_AllGatherStartOp : Dist_StartOp<"all_gather_start"> {
  let summary = "starts stacking the rows of all members of a group";
  let description = [{
    Of scattered rows, which are said by an encoding, it makes the whole again.

    ```mlir
    %t = dist.all_gather_start %x over tp : tensor<?x258x2xf32> -> !dist.token<tensor<?x258x2xf32>>
    ```
  }];
  let arguments = (ins Dist_Value:$input, Dist_GroupAttr:$group);
  let results = (outs Dist_TokenType:$token);
  let assemblyFormat = "$input `over` $group attr-dict `:` type($input) `->` type($token)";
}

def Dist_SendStartOp : Dist_StartOp<"send_start"> {
  let summary = "starts sending a value to another stage";
  let description = [{
    `peer` is an index in the group: for `pp`, a stage.

    ```mlir
    %t = dist.send_start %x to 1 over pp : tensor<?x576xf32> -> !dist.token
    ```
  }];
  let arguments = (ins Dist_Value:$input, I64Attr:$peer, Dist_GroupAttr:$group);
  let results = (outs Dist_TokenType:$token);
  let assemblyFormat = "$input `to` $peer `over` $group attr-dict `:` type($input) `->` type($token)";
}

def Dist_RecvStartOp : Dist_StartOp<"recv_start"> {
  let summary = "starts receiving a value from another stage";
  let description = [{
    ```mlir
    %t = dist.recv_start from 0 over pp : !dist.token<tensor<?x576xf32>>
    ```
  }];
  let arguments = (ins I64Attr:$peer, Dist_GroupAttr:$group);
  let results = (outs Dist_TokenType:$token);
  let assemblyFormat = "`from` $peer `over` $group attr-dict `:` type($token)";
}

def Dist_ChunkOp : Op<Dist_Dialect, "chunk", [Pure, SameOperandsAndResultType]> {
  let summary = "some of the rows of a value";
  let description = [{
    Of n rows, chunk c of C has rows [min(n, c·q), min(n, (c+1)·q)) with q = ceil(n / C).

    ```mlir
    %x1 = dist.chunk %x 1 of 4 : tensor<?x576xf32>
    ```
  }];
  let arguments = (ins Dist_Value:$input, I64Attr:$chunk, I64Attr:$chunks);
  let results = (outs Dist_Value:$result);
  let assemblyFormat = "$input $chunk `of` $chunks attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def Dist_ConcatOp : Op<Dist_Dialect, "concat", [Pure, SameOperandsAndResultType]> {
  let summary = "the rows of all chunks of a value";
  let description = [{
    The operands are chunks 0 to C-1 of C, in order.

    ```mlir
    %y = dist.concat %y0, %y1 : tensor<?x576xf32>
    ```
  }];
  let arguments = (ins Variadic<Dist_Value>:$parts);
  let results = (outs Dist_Value:$result);
  let assemblyFormat = "$parts attr-dict `:` type($result)";
}

def Dist_WaitOp : Op<Dist_Dialect, "wait", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "waits for a communication, and gives its value";
  let description = [{
    ```mlir
    %y = dist.wait %t : !dist.token<tensor<?x576xf32>> -> tensor<?x576xf32>
    dist.wait %s : !dist.token
    ```
  }];
  let arguments = (ins Dist_TokenType:$token);
  let results = (outs Optional<Dist_Value>:$result);
  let assemblyFormat = "$token attr-dict `:` type($token) (`->` type($result)^)?";
  let hasVerifier = 1;
}

#endif
