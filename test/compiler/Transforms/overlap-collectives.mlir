// RUN: distc-opt %s -split-input-file --pass-pipeline='builtin.module(func.func(overlap-collectives{chunks=2}))' | FileCheck %s
// RUN: distc-opt %s -split-input-file --pass-pipeline='builtin.module(func.func(overlap-collectives))' | FileCheck %s --check-prefix=WHOLE --implicit-check-not=dist.chunk

// Segments between waits, each for both chunks: the reduction of a chunk is under way while the next is computed.
module {
  llm.tensor @t [8, 8] f32 at 0 bytes 256
  llm.param @w : tensor<8x8xf32> dims ["hidden", "hidden"] from [#llm.source<@t[8, 8] [0:8] [0:8]>]
  llm.param @v : tensor<8x2x4xf32> dims ["hidden", "heads", "head_dim"] from [#llm.source<@t[8, 2, 4] [0:8] [0:2] [0:4]>]
  llm.param @q : tensor<2x4x8xf32> dims ["heads", "head_dim", "hidden"] from [#llm.source<@t[2, 4, 8] [0:2] [0:4] [0:8]>]
  llm.kv_cache @kv layer 0 : !llm.kv_cache<heads 2, dim 4, f32>

  // CHECK-LABEL: func.func @prefill
  // CHECK-NEXT: %[[E:.*]] = llm.embedding
  // CHECK-NEXT: %[[E0:.*]] = dist.chunk %[[E]] 0 of 2
  // CHECK-NEXT: %[[S0:.*]] = dist.all_reduce_start %[[E0]]
  // CHECK-NEXT: %[[E1:.*]] = dist.chunk %[[E]] 1 of 2
  // CHECK-NEXT: %[[S1:.*]] = dist.all_reduce_start %[[E1]]
  // CHECK-NEXT: %[[X0:.*]] = dist.wait %[[S0]]
  // CHECK-NEXT: %[[Q0:.*]] = llm.linear %[[X0]], @q
  // CHECK-NEXT: llm.kv_append %[[Q0]], %[[Q0]]
  // CHECK-NEXT: %[[A0:.*]] = llm.attention %[[Q0]]
  // CHECK-NEXT: %[[O0:.*]] = llm.linear %[[A0]], @v
  // CHECK-NEXT: %[[T0:.*]] = dist.all_reduce_start %[[O0]]
  // CHECK-NEXT: %[[X1:.*]] = dist.wait %[[S1]]
  // CHECK-NEXT: %[[Q1:.*]] = llm.linear %[[X1]], @q
  // CHECK-NEXT: llm.kv_append %[[Q1]], %[[Q1]]
  // CHECK-NEXT: %[[A1:.*]] = llm.attention %[[Q1]]
  // CHECK-NEXT: %[[O1:.*]] = llm.linear %[[A1]], @v
  // CHECK-NEXT: %[[T1:.*]] = dist.all_reduce_start %[[O1]]
  // CHECK-NEXT: %[[W0:.*]] = dist.wait %[[T0]]
  // CHECK-NEXT: %[[Y0:.*]] = llm.add %[[X0]], %[[W0]]
  // CHECK-NEXT: %[[W1:.*]] = dist.wait %[[T1]]
  // CHECK-NEXT: %[[Y1:.*]] = llm.add %[[X1]], %[[W1]]
  // What outputs are selected from is whole, and they are not cut.
  // CHECK-NEXT: %[[Y:.*]] = dist.concat %[[Y0]], %[[Y1]]
  // CHECK-NEXT: %[[R:.*]] = llm.select_outputs %[[Y]]
  // CHECK-NEXT: %[[L:.*]] = llm.linear %[[R]], @w
  // CHECK-NEXT: return %[[L]]
  func.func @prefill(%batch: !llm.batch) -> tensor<?x8xf32> attributes {llm.regime = "prefill"} {
    %e = llm.embedding %batch, @w : tensor<?x8xf32>
    %s = dist.all_reduce_start %e over tp sum : tensor<?x8xf32> -> !dist.token<tensor<?x8xf32>>
    %x = dist.wait %s : !dist.token<tensor<?x8xf32>> -> tensor<?x8xf32>
    %q = llm.linear %x, @q : tensor<?x8xf32> -> tensor<?x2x4xf32>
    llm.kv_append %q, %q, %batch, @kv : tensor<?x2x4xf32>
    %a = llm.attention %q, %batch, @kv scale 0.5 : tensor<?x2x4xf32>
    %o = llm.linear %a, @v : tensor<?x2x4xf32> -> tensor<?x8xf32>
    %t = dist.all_reduce_start %o over tp sum : tensor<?x8xf32> -> !dist.token<tensor<?x8xf32>>
    %w = dist.wait %t : !dist.token<tensor<?x8xf32>> -> tensor<?x8xf32>
    %y = llm.add %x, %w : tensor<?x8xf32>
    %r = llm.select_outputs %y, %batch : tensor<?x8xf32>
    %l = llm.linear %r, @w : tensor<?x8xf32> -> tensor<?x8xf32>
    return %l : tensor<?x8xf32>
  }

  // A mixture of experts is cut between its products as everything else.
  // CHECK-LABEL: func.func @mixture
  // CHECK: %[[R0:.*]] = llm.route
  // CHECK-NEXT: %[[G0:.*]] = llm.expert_linear %{{.*}}, %[[R0]], @experts
  // CHECK-NEXT: %[[Y0:.*]] = llm.combine %[[G0]], %[[R0]]
  // CHECK-NEXT: dist.all_reduce_start %[[Y0]]
  // CHECK: %[[R1:.*]] = llm.route
  // CHECK-NEXT: %[[G1:.*]] = llm.expert_linear %{{.*}}, %[[R1]], @experts
  // CHECK-NEXT: %[[Y1:.*]] = llm.combine %[[G1]], %[[R1]]
  // CHECK-NEXT: dist.all_reduce_start %[[Y1]]
  llm.tensor @te [8, 8, 8] f32 at 0 bytes 2048
  llm.param @experts : tensor<8x8x8xf32> dims ["experts", "hidden", "intermediate"] from [#llm.source<@te[8, 8, 8] [0:8] [0:8] [0:8]>]
  func.func @mixture(%batch: !llm.batch) -> tensor<?x8xf32> attributes {llm.regime = "prefill"} {
    %x = llm.embedding %batch, @w : tensor<?x8xf32>
    %r = llm.route %x count 2 normalize : tensor<?x8xf32> -> tensor<?x2x2xf32>
    %g = llm.expert_linear %x, %r, @experts : tensor<?x8xf32>, tensor<?x2x2xf32> -> tensor<?x2x8xf32>
    %y = llm.combine %g, %r : tensor<?x2x8xf32>, tensor<?x2x2xf32> -> tensor<?x8xf32>
    %t = dist.all_reduce_start %y over tp sum : tensor<?x8xf32> -> !dist.token<tensor<?x8xf32>>
    %s = dist.wait %t : !dist.token<tensor<?x8xf32>> -> tensor<?x8xf32>
    %o = llm.select_outputs %s, %batch : tensor<?x8xf32>
    return %o : tensor<?x8xf32>
  }

  // A stage in the middle: what comes is cut, what goes on is whole. Ids are not rows of tokens.
  // CHECK-LABEL: func.func @stage
  // CHECK: %[[X:.*]] = dist.wait
  // CHECK-NEXT: %[[C0:.*]] = dist.chunk %[[X]] 0 of 2
  // CHECK-NEXT: %[[O0:.*]] = llm.linear %[[C0]], @w
  // CHECK-NEXT: %[[T0:.*]] = dist.all_reduce_start %[[O0]]
  // CHECK-NEXT: %[[C1:.*]] = dist.chunk %[[X]] 1 of 2
  // CHECK: %[[Y0:.*]] = dist.wait %[[T0]]
  // CHECK-NEXT: llm.add %[[C0]], %[[Y0]]
  // CHECK: %[[Y:.*]] = dist.concat
  // CHECK-NEXT: %[[S:.*]] = dist.send_start %[[Y]]
  // CHECK-NEXT: %[[I:.*]] = dist.recv_start
  // CHECK-NEXT: dist.wait %[[S]]
  // CHECK-NEXT: dist.wait %[[I]]
  func.func @stage(%batch: !llm.batch) -> tensor<?xi32> attributes {llm.regime = "prefill"} {
    %r = dist.recv_start from 0 over pp : !dist.token<tensor<?x8xf32>>
    %x = dist.wait %r : !dist.token<tensor<?x8xf32>> -> tensor<?x8xf32>
    %o = llm.linear %x, @w : tensor<?x8xf32> -> tensor<?x8xf32>
    %t = dist.all_reduce_start %o over tp sum : tensor<?x8xf32> -> !dist.token<tensor<?x8xf32>>
    %w = dist.wait %t : !dist.token<tensor<?x8xf32>> -> tensor<?x8xf32>
    %y = llm.add %x, %w : tensor<?x8xf32>
    %s = dist.send_start %y to 2 over pp : tensor<?x8xf32> -> !dist.token
    dist.wait %s : !dist.token
    %i = dist.recv_start from 2 over pp : !dist.token<tensor<?xi32>>
    %ids = dist.wait %i : !dist.token<tensor<?xi32>> -> tensor<?xi32>
    return %ids : tensor<?xi32>
  }

  // Nothing to reduce, or one token of each sequence: no chunks.
  // CHECK-LABEL: func.func @alone
  // CHECK-NOT: dist.chunk
  func.func @alone(%batch: !llm.batch) -> tensor<?x8xf32> attributes {llm.regime = "prefill"} {
    %e = llm.embedding %batch, @w : tensor<?x8xf32>
    %l = llm.linear %e, @w : tensor<?x8xf32> -> tensor<?x8xf32>
    return %l : tensor<?x8xf32>
  }
  // CHECK-LABEL: func.func @decode
  // CHECK-NOT: dist.chunk
  func.func @decode(%batch: !llm.batch) -> tensor<?x8xf32> attributes {llm.regime = "decode"} {
    %e = llm.embedding %batch, @w : tensor<?x8xf32>
    %s = dist.all_reduce_start %e over tp sum : tensor<?x8xf32> -> !dist.token<tensor<?x8xf32>>
    %x = dist.wait %s : !dist.token<tensor<?x8xf32>> -> tensor<?x8xf32>
    %l = llm.linear %x, @w : tensor<?x8xf32> -> tensor<?x8xf32>
    return %l : tensor<?x8xf32>
  }

  // A wait moves to the first use, however many chunks; several of one user keep their order.
  // CHECK-LABEL: func.func @apart
  // WHOLE-LABEL: func.func @apart
  // WHOLE: %[[S:.*]] = dist.all_reduce_start
  // WHOLE-NEXT: %[[T:.*]] = dist.all_reduce_start
  // WHOLE-NEXT: %[[L:.*]] = llm.linear
  // WHOLE-NEXT: %[[Y:.*]] = dist.wait %[[S]]
  // WHOLE-NEXT: %[[Z:.*]] = dist.wait %[[T]]
  // WHOLE-NEXT: llm.add %[[Y]], %[[Z]]
  func.func @apart(%x: tensor<?x8xf32>) -> tensor<?x8xf32> attributes {llm.regime = "decode"} {
    %s = dist.all_reduce_start %x over tp sum : tensor<?x8xf32> -> !dist.token<tensor<?x8xf32>>
    %y = dist.wait %s : !dist.token<tensor<?x8xf32>> -> tensor<?x8xf32>
    %t = dist.all_reduce_start %x over tp sum : tensor<?x8xf32> -> !dist.token<tensor<?x8xf32>>
    %z = dist.wait %t : !dist.token<tensor<?x8xf32>> -> tensor<?x8xf32>
    %l = llm.linear %x, @w : tensor<?x8xf32> -> tensor<?x8xf32>
    %a = llm.add %y, %z : tensor<?x8xf32>
    %b = llm.add %a, %l : tensor<?x8xf32>
    return %b : tensor<?x8xf32>
  }
}
