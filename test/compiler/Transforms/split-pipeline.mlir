// RUN: split-file %s %t
// RUN: distc-opt %t/tied.mlir --pass-pipeline='builtin.module(split-pipeline{layers=1,2})' | FileCheck %s --implicit-check-not=llm.layer --implicit-check-not='dist.{{.*}}_start'
// RUN: sed 's/2x1/1x1/' %t/tied.mlir | distc-opt -split-pipeline | FileCheck %s --check-prefix=ONE --implicit-check-not=llm.layer --implicit-check-not=dist.recv --implicit-check-not=dist.send
// RUN: sed 's/2x1/3x1/' %t/tied.mlir | distc-opt -split-pipeline | FileCheck %s --check-prefix=THREE --implicit-check-not='dist.{{.*}}_start'
// RUN: distc-opt %t/head.mlir -split-pipeline | FileCheck %s --check-prefix=HEAD
// RUN: distc-opt %t/table.mlir -split-pipeline | FileCheck %s --check-prefix=TABLE
// RUN: distc-opt %t/room.mlir -split-pipeline | FileCheck %s --check-prefix=ROOM
// RUN: distc-opt %t/errors.mlir -split-input-file -verify-diagnostics -split-pipeline
// RUN: %exits 1 distc-opt %t/tied.mlir --pass-pipeline='builtin.module(split-pipeline{layers=1,1})' 2>&1 | FileCheck %s --check-prefix=SUM
// RUN: %exits 1 distc-opt %t/tied.mlir --pass-pipeline='builtin.module(split-pipeline{layers=3})' 2>&1 | FileCheck %s --check-prefix=COUNT
// RUN: %exits 1 distc-opt %t/tied.mlir --pass-pipeline='builtin.module(split-pipeline{layers=3,0})' 2>&1 | FileCheck %s --check-prefix=EMPTY
// SUM: --pp-split gives 2 stages with 2 layers; expected 2 stages of at least 1 layer, 3 layers together
// COUNT: --pp-split gives 1 stages with 3 layers; expected 2 stages
// EMPTY: --pp-split gives 2 stages with 3 layers; expected 2 stages of at least 1 layer
// RUN: %exits 1 distc compile %fixtures/llama-gqa --pp 2 --pp-split 1,1 -o %t/plans 2>&1 | FileCheck %s --check-prefix=SUM
// RUN: %exits 1 distc compile %fixtures/llama-gqa --pp 4 -o %t/plans 2>&1 | FileCheck %s --check-prefix=DEEP
// DEEP: pipeline parallel degree 4 is more than the model's 3 layers; the largest that works is --pp 3

// Tied embeddings: the first and the last stage use one table. Layers 0 and 1 share a value with the head (%n), so that more than the
// residual stream crosses.
//--- tied.mlir
shard.grid @mesh(shape = 2x1)
llm.tensor @t [8, 8] f32 at 0 bytes 256
llm.param @table : tensor<8x8xf32> dims ["vocabulary", "hidden"] from [#llm.source<@t[8, 8] [0:8] [0:8]>]
llm.param @w0 : tensor<8x8xf32> dims ["a", "b"] from [#llm.source<@t[8, 8] [0:8] [0:8]>]
llm.param @w1 : tensor<8x8xf32> dims ["a", "b"] from [#llm.source<@t[8, 8] [0:8] [0:8]>]
llm.param @w2 : tensor<8x8xf32> dims ["a", "b"] from [#llm.source<@t[8, 8] [0:8] [0:8]>]
func.func @decode(%batch: !llm.batch) -> (tensor<?xi32>, tensor<?x8xf32>) attributes {llm.regime = "decode"} {
  %e = llm.embedding %batch, @table : tensor<?x8xf32>
  %x0 = llm.layer 0 %e : tensor<?x8xf32>
  %n = llm.linear %x0, @w0 : tensor<?x8xf32> -> tensor<?x8xf32>
  %y0 = llm.add %x0, %n : tensor<?x8xf32>
  %x1 = llm.layer 1 %y0 : tensor<?x8xf32>
  %y1 = llm.linear %x1, @w1 : tensor<?x8xf32> -> tensor<?x8xf32>
  %x2 = llm.layer 2 %y1 : tensor<?x8xf32>
  %y2 = llm.linear %x2, @w2 : tensor<?x8xf32> -> tensor<?x8xf32>
  %s = llm.add %y2, %n : tensor<?x8xf32>
  %l = llm.linear %s, @table : tensor<?x8xf32> -> tensor<?x8xf32>
  %c = llm.top_candidates %l, %batch count 2 vocabulary 8 : tensor<?x8xf32> -> tensor<?x4x2xf32>
  %ids = llm.sample %c, %batch : tensor<?x4x2xf32> -> tensor<?xi32>
  return %ids, %l : tensor<?xi32>, tensor<?x8xf32>
}

// CHECK-NOT: @decode
// CHECK-LABEL: func.func @stage0_decode
// CHECK-SAME: (%[[B:.*]]: !llm.batch) -> tensor<?xi32> attributes {dist.stage = 0 : i64, llm.regime = "decode"}
// CHECK-NEXT: %[[E:.*]] = llm.embedding %[[B]], @table
// CHECK-NEXT: %[[N:.*]] = llm.linear %[[E]], @w0
// CHECK-NEXT: %[[Y:.*]] = llm.add %[[E]], %[[N]]
// CHECK-NEXT: %[[S0:.*]] = dist.send_start %[[N]] to 1 over pp : tensor<?x8xf32> -> !dist.token
// CHECK-NEXT: dist.wait %[[S0]]
// CHECK-NEXT: %[[S1:.*]] = dist.send_start %[[Y]] to 1 over pp
// CHECK-NEXT: dist.wait %[[S1]]
// CHECK-NEXT: %[[R:.*]] = dist.recv_start from 1 over pp : <tensor<?xi32>>
// CHECK-NEXT: %[[I:.*]] = dist.wait %[[R]]
// CHECK-NEXT: return %[[I]] : tensor<?xi32>
// The other end receives in the same order.
// CHECK-LABEL: func.func @stage1_decode
// CHECK-SAME: (%[[B:.*]]: !llm.batch) -> tensor<?x8xf32> attributes {dist.stage = 1 : i64, llm.regime = "decode"}
// CHECK-NEXT: %[[R0:.*]] = dist.recv_start from 0 over pp : <tensor<?x8xf32>>
// CHECK-NEXT: %[[N:.*]] = dist.wait %[[R0]]
// CHECK-NEXT: %[[R1:.*]] = dist.recv_start from 0 over pp
// CHECK-NEXT: %[[Y:.*]] = dist.wait %[[R1]]
// CHECK-NEXT: %[[Y1:.*]] = llm.linear %[[Y]], @w1
// CHECK-NEXT: %[[Y2:.*]] = llm.linear %[[Y1]], @w2
// CHECK-NEXT: %[[S:.*]] = llm.add %[[Y2]], %[[N]]
// CHECK-NEXT: %[[L:.*]] = llm.linear %[[S]], @table
// CHECK-NEXT: llm.top_candidates
// CHECK-NEXT: %[[I:.*]] = llm.sample
// CHECK-NEXT: %[[T:.*]] = dist.send_start %[[I]] to 0 over pp
// CHECK-NEXT: dist.wait %[[T]]
// CHECK-NEXT: return %[[L]] : tensor<?x8xf32>
// CHECK-NOT: func.func

// ONE: func.func @stage0_decode({{.*}}) -> (tensor<?xi32>, tensor<?x8xf32>)
// ONE: %[[L:.*]] = llm.linear {{.*}}, @table
// ONE: %[[I:.*]] = llm.sample
// ONE: return %[[I]], %[[L]]

// What the last stage needs of the first passes through the one between; ids go back directly.
// THREE-LABEL: func.func @stage0_decode
// THREE: dist.send_start %{{.*}} to 1 over pp
// THREE: dist.send_start %{{.*}} to 1 over pp
// THREE: dist.recv_start from 2 over pp
// THREE-LABEL: func.func @stage1_decode
// THREE-SAME: (%{{.*}}: !llm.batch) attributes
// THREE-NEXT: dist.recv_start from 0 over pp
// THREE-NEXT: %[[N:.*]] = dist.wait
// THREE-NEXT: dist.recv_start from 0 over pp
// THREE-NEXT: dist.wait
// THREE-NEXT: %[[Y:.*]] = llm.linear {{.*}}, @w1
// THREE-NEXT: dist.send_start %[[N]] to 2 over pp
// THREE-NEXT: dist.wait
// THREE-NEXT: dist.send_start %[[Y]] to 2 over pp
// THREE-NEXT: dist.wait
// THREE-NEXT: return{{$}}
// THREE-LABEL: func.func @stage2_decode
// THREE: dist.recv_start from 1 over pp
// THREE: dist.recv_start from 1 over pp
// THREE: llm.linear {{.*}}, @w2
// THREE: dist.send_start %{{.*}} to 0 over pp

// The head streams as much as two layers: three of four layers come first.
//--- head.mlir
shard.grid @mesh(shape = 2x1)
llm.tensor @t [16, 8] f32 at 0 bytes 512
llm.param @head : tensor<16x8xf32> dims ["vocabulary", "hidden"] from [#llm.source<@t[16, 8] [0:16] [0:8]>]
llm.param @w : tensor<8x8xf32> dims ["a", "b"] from [#llm.source<@t[16, 8] [0:8] [0:8]>]
llm.param @v : tensor<8x8xf32> dims ["a", "b"] from [#llm.source<@t[16, 8] [0:8] [0:8]>]
func.func @decode(%batch: !llm.batch) -> (tensor<?xi32>, tensor<?x16xf32>) attributes {llm.regime = "decode"} {
  %e = llm.embedding %batch, @v : tensor<?x8xf32>
  %x0 = llm.layer 0 %e : tensor<?x8xf32>
  %y0 = llm.linear %x0, @w : tensor<?x8xf32> -> tensor<?x8xf32>
  %x1 = llm.layer 1 %y0 : tensor<?x8xf32>
  %y1 = llm.linear %x1, @w : tensor<?x8xf32> -> tensor<?x8xf32>
  %x2 = llm.layer 2 %y1 : tensor<?x8xf32>
  %y2 = llm.linear %x2, @w : tensor<?x8xf32> -> tensor<?x8xf32>
  %x3 = llm.layer 3 %y2 : tensor<?x8xf32>
  %y3 = llm.linear %x3, @w : tensor<?x8xf32> -> tensor<?x8xf32>
  %l = llm.linear %y3, @head : tensor<?x8xf32> -> tensor<?x16xf32>
  %c = llm.top_candidates %l, %batch count 2 vocabulary 8 : tensor<?x16xf32> -> tensor<?x4x2xf32>
  %ids = llm.sample %c, %batch : tensor<?x4x2xf32> -> tensor<?xi32>
  return %ids, %l : tensor<?xi32>, tensor<?x16xf32>
}

// HEAD-LABEL: func.func @stage0_decode
// HEAD-COUNT-3: llm.linear
// HEAD-NOT: llm.linear
// HEAD-LABEL: func.func @stage1_decode
// HEAD-COUNT-2: llm.linear
// HEAD-NOT: llm.linear

// Both cuts are as fast, but the table makes the first stage the fuller one.
//--- table.mlir
shard.grid @mesh(shape = 2x1)
llm.tensor @t [16, 8] f32 at 0 bytes 512
llm.param @table : tensor<16x8xf32> dims ["vocabulary", "hidden"] from [#llm.source<@t[16, 8] [0:16] [0:8]>]
llm.param @w : tensor<8x8xf32> dims ["a", "b"] from [#llm.source<@t[16, 8] [0:8] [0:8]>]
func.func @decode(%batch: !llm.batch) -> (tensor<?xi32>, tensor<?x8xf32>) attributes {llm.regime = "decode"} {
  %e = llm.embedding %batch, @table : tensor<?x8xf32>
  %x0 = llm.layer 0 %e : tensor<?x8xf32>
  %y0 = llm.linear %x0, @w : tensor<?x8xf32> -> tensor<?x8xf32>
  %x1 = llm.layer 1 %y0 : tensor<?x8xf32>
  %y1 = llm.linear %x1, @w : tensor<?x8xf32> -> tensor<?x8xf32>
  %x2 = llm.layer 2 %y1 : tensor<?x8xf32>
  %y2 = llm.linear %x2, @w : tensor<?x8xf32> -> tensor<?x8xf32>
  %c = llm.top_candidates %y2, %batch count 2 vocabulary 8 : tensor<?x8xf32> -> tensor<?x4x2xf32>
  %ids = llm.sample %c, %batch : tensor<?x4x2xf32> -> tensor<?xi32>
  return %ids, %y2 : tensor<?xi32>, tensor<?x8xf32>
}

// TABLE-LABEL: func.func @stage0_decode
// TABLE-COUNT-1: llm.linear
// TABLE-NOT: llm.linear
// TABLE-LABEL: func.func @stage1_decode
// TABLE-COUNT-2: llm.linear
// TABLE-NOT: llm.linear

// Seven layers over three stages: the slowest has three. With a table as large as two layers, the fullest stage is the emptiest where
// the first has one layer, though [2, 2] would be faster for the first four.
//--- room.mlir
shard.grid @mesh(shape = 3x1)
llm.tensor @t [16, 8] f32 at 0 bytes 512
llm.param @table : tensor<16x8xf32> dims ["vocabulary", "hidden"] from [#llm.source<@t[16, 8] [0:16] [0:8]>]
llm.param @w : tensor<8x8xf32> dims ["a", "b"] from [#llm.source<@t[16, 8] [0:8] [0:8]>]
func.func @decode(%batch: !llm.batch) -> (tensor<?xi32>, tensor<?x8xf32>) attributes {llm.regime = "decode"} {
  %y = llm.embedding %batch, @table : tensor<?x8xf32>
  %x0 = llm.layer 0 %y : tensor<?x8xf32>
  %y0 = llm.linear %x0, @w : tensor<?x8xf32> -> tensor<?x8xf32>
  %x1 = llm.layer 1 %y0 : tensor<?x8xf32>
  %y1 = llm.linear %x1, @w : tensor<?x8xf32> -> tensor<?x8xf32>
  %x2 = llm.layer 2 %y1 : tensor<?x8xf32>
  %y2 = llm.linear %x2, @w : tensor<?x8xf32> -> tensor<?x8xf32>
  %x3 = llm.layer 3 %y2 : tensor<?x8xf32>
  %y3 = llm.linear %x3, @w : tensor<?x8xf32> -> tensor<?x8xf32>
  %x4 = llm.layer 4 %y3 : tensor<?x8xf32>
  %y4 = llm.linear %x4, @w : tensor<?x8xf32> -> tensor<?x8xf32>
  %x5 = llm.layer 5 %y4 : tensor<?x8xf32>
  %y5 = llm.linear %x5, @w : tensor<?x8xf32> -> tensor<?x8xf32>
  %x6 = llm.layer 6 %y5 : tensor<?x8xf32>
  %y6 = llm.linear %x6, @w : tensor<?x8xf32> -> tensor<?x8xf32>
  %c = llm.top_candidates %y6, %batch count 2 vocabulary 8 : tensor<?x8xf32> -> tensor<?x4x2xf32>
  %ids = llm.sample %c, %batch : tensor<?x4x2xf32> -> tensor<?xi32>
  return %ids, %y6 : tensor<?xi32>, tensor<?x8xf32>
}

// ROOM-LABEL: func.func @stage0_decode
// ROOM-COUNT-1: llm.linear
// ROOM-NOT: llm.linear
// ROOM-LABEL: func.func @stage1_decode
// ROOM-COUNT-3: llm.linear
// ROOM-NOT: llm.linear
// ROOM-LABEL: func.func @stage2_decode
// ROOM-COUNT-3: llm.linear
// ROOM-NOT: llm.linear

//--- errors.mlir
// expected-error @+1 {{expected 'shard.grid @mesh(shape = PPxTP)' in the module}}
module {
  func.func @decode(%batch: !llm.batch) {
    return
  }
}

// -----

// expected-error @+1 {{expected a function @decode}}
module {
  shard.grid @mesh(shape = 1x1)
  func.func @forward(%batch: !llm.batch) {
    return
  }
}

// -----

shard.grid @mesh(shape = 2x1)
// expected-error @+1 {{pipeline parallel degree 2 is more than the model's 1 layers; the largest that works is --pp 1}}
func.func @decode(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %y = llm.layer 0 %x : tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

shard.grid @mesh(shape = 1x1)
// expected-error @+1 {{expected a batch as the only argument, ids and logits as the results}}
func.func @decode(%batch: !llm.batch, %x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %y = llm.layer 0 %x : tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}
