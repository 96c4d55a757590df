// The Megatron pattern: after the embedding two all-reduces a layer, one gather of candidates, and nothing else.
// RUN: split-file %s %t
// RUN: distc-opt %t/layer.mlir -partition-tensor-parallel | FileCheck %s --implicit-check-not=shard.all --implicit-check-not=shard.reduce
// RUN: distc-opt %t/rules.mlir -partition-tensor-parallel | FileCheck %s --check-prefix=RULES --implicit-check-not=shard.all
// RUN: distc-opt %t/experts.mlir -partition-tensor-parallel | FileCheck %s --check-prefix=EXPERTS --implicit-check-not=shard.all
// RUN: sed 's/1x2/1x1/' %t/layer.mlir > %t/one.mlir
// RUN: distc-opt %t/one.mlir -partition-tensor-parallel > %t/one.out
// RUN: distc-opt %t/one.mlir > %t/one.in
// RUN: cmp %t/one.in %t/one.out
// RUN: distc-opt %t/errors.mlir -split-input-file -verify-diagnostics -partition-tensor-parallel
// Sequence parallel: prefill alone is another program.
// RUN: distc-opt %t/rows.mlir -partition-tensor-parallel=sequence-parallel=true | FileCheck %s --check-prefix=ROWS --implicit-check-not=shard.all --implicit-check-not=shard.reduce
// RUN: distc-opt %t/rows-errors.mlir -split-input-file -verify-diagnostics -partition-tensor-parallel=sequence-parallel=true
// RUN: distc-opt %t/layer.mlir -partition-tensor-parallel > %t/whole
// RUN: distc-opt %t/layer.mlir -partition-tensor-parallel=sequence-parallel=true | cmp %t/whole -
// RUN: sed 's/1x2/1x1/' %t/rows.mlir > %t/one-rows.mlir
// RUN: distc-opt %t/one-rows.mlir > %t/one-rows.in
// RUN: distc-opt %t/one-rows.mlir -partition-tensor-parallel=sequence-parallel=true | cmp %t/one-rows.in -
// RUN: distc compile %fixtures/llama-gqa --tp 2 --emit=shard > %t/compiled
// RUN: grep -c shard.all_reduce %t/compiled | FileCheck %s --check-prefix=REDUCES
// RUN: grep -c shard.all_gather %t/compiled | FileCheck %s --check-prefix=GATHERS
// Three layers, two programs, seven reductions each:
// REDUCES: 14
// GATHERS: 2

//--- layer.mlir
shard.grid @mesh(shape = 1x2)
llm.tensor @t [8, 8] f32 at 0 bytes 256
llm.tensor @b [8] f32 at 0 bytes 32
// CHECK: llm.param @table : tensor<4x8xf32> {{.*}} [0:8] [0:8]>] sharded {{\[}}[1], []]
llm.param @table : tensor<8x8xf32> dims ["vocabulary", "hidden"] from [#llm.source<@t[8, 8] [0:8] [0:8]>]
// CHECK: llm.param @norm : tensor<8xf32> dims ["hidden"] from [#llm.source<@b[8] [0:8]>]{{$}}
llm.param @norm : tensor<8xf32> dims ["hidden"] from [#llm.source<@b[8] [0:8]>]
// CHECK: llm.param @q : tensor<2x2x8xf32> {{.*}} [0:4] [0:2] [0:8]>] sharded {{\[}}[1], [], []]
llm.param @q : tensor<4x2x8xf32> dims ["heads", "head_dim", "hidden"] from [#llm.source<@t[4, 2, 8] [0:4] [0:2] [0:8]>]
// CHECK: llm.param @qb : tensor<2x2xf32> {{.*}} sharded {{\[}}[1], []]{{$}}
llm.param @qb : tensor<4x2xf32> dims ["heads", "head_dim"] from [#llm.source<@b[4, 2] [0:4] [0:2]>]
// CHECK: llm.param @k : tensor<1x2x8xf32> {{.*}} sharded {{\[}}[1], [], []]
llm.param @k : tensor<2x2x8xf32> dims ["kv_heads", "head_dim", "hidden"] from [#llm.source<@t[4, 2, 8] [0:2] [0:2] [0:8]>]
// CHECK: llm.param @o : tensor<8x2x2xf32> {{.*}} sharded {{\[}}[], [1], []]
llm.param @o : tensor<8x4x2xf32> dims ["hidden", "heads", "head_dim"] from [#llm.source<@t[8, 4, 2] [0:8] [0:4] [0:2]>]
// The bias of a row-parallel projection comes in once, not once for each rank.
// CHECK: llm.param @ob : tensor<8xf32> {{.*}} first_only{{$}}
llm.param @ob : tensor<8xf32> dims ["hidden"] from [#llm.source<@b[8] [0:8]>]
// CHECK: llm.param @gate : tensor<4x8xf32> {{.*}} sharded {{\[}}[1], []]
llm.param @gate : tensor<8x8xf32> dims ["intermediate", "hidden"] from [#llm.source<@t[8, 8] [0:8] [0:8]>]
// CHECK: llm.param @down : tensor<8x4xf32> {{.*}} sharded {{\[}}[], [1]]
llm.param @down : tensor<8x8xf32> dims ["hidden", "intermediate"] from [#llm.source<@t[8, 8] [0:8] [0:8]>]
llm.rope_table @rope [1.0] magnitude 1.0
// CHECK: llm.kv_cache @kv layer 0 sharded : !llm.kv_cache<heads 1, dim 2, f32>
llm.kv_cache @kv layer 0 : !llm.kv_cache<heads 2, dim 2, f32>

// CHECK-LABEL: func.func @decode
// CHECK-SAME: (%[[B:.*]]: !llm.batch) -> (tensor<?xi32>, tensor<?x4xf32>)
func.func @decode(%batch: !llm.batch) -> (tensor<?xi32>, tensor<?x8xf32>) {
  // One sum of the embedding serves the norm and the residual.
  // CHECK-NEXT: %[[E:.*]] = llm.embedding %[[B]], @table : tensor<?x8xf32>
  // CHECK-NEXT: %[[X:.*]] = shard.all_reduce %[[E]] on @mesh grid_axes = [1] : tensor<?x8xf32>
  // CHECK-NEXT: %[[L:.*]] = llm.layer 0 %[[X]]
  // CHECK-NEXT: %[[N:.*]] = llm.rms_norm %[[L]], @norm
  %e = llm.embedding %batch, @table : tensor<?x8xf32>
  %x = llm.layer 0 %e : tensor<?x8xf32>
  %n = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<?x8xf32>
  // CHECK-NEXT: %[[Q:.*]] = llm.linear %[[N]], @q bias @qb : tensor<?x8xf32> -> tensor<?x2x2xf32>
  // CHECK-NEXT: %[[R:.*]] = llm.rope %[[Q]], %[[B]], @rope half : tensor<?x2x2xf32>
  // CHECK-NEXT: %[[K:.*]] = llm.linear %[[N]], @k : tensor<?x8xf32> -> tensor<?x1x2xf32>
  // CHECK-NEXT: llm.kv_append %[[K]], %[[K]], %[[B]], @kv : tensor<?x1x2xf32>
  // CHECK-NEXT: %[[A:.*]] = llm.attention %[[R]], %[[B]], @kv scale 5.000000e-01 : tensor<?x2x2xf32>
  // CHECK-NEXT: %[[O:.*]] = llm.linear %[[A]], @o bias @ob : tensor<?x2x2xf32> -> tensor<?x8xf32>
  // CHECK-NEXT: %[[OS:.*]] = shard.all_reduce %[[O]] on @mesh grid_axes = [1]
  // CHECK-NEXT: %[[Y:.*]] = llm.add %[[L]], %[[OS]]
  %q = llm.linear %n, @q bias @qb : tensor<?x8xf32> -> tensor<?x4x2xf32>
  %r = llm.rope %q, %batch, @rope half : tensor<?x4x2xf32>
  %k = llm.linear %n, @k : tensor<?x8xf32> -> tensor<?x2x2xf32>
  llm.kv_append %k, %k, %batch, @kv : tensor<?x2x2xf32>
  %a = llm.attention %r, %batch, @kv scale 0.5 : tensor<?x4x2xf32>
  %o = llm.linear %a, @o bias @ob : tensor<?x4x2xf32> -> tensor<?x8xf32>
  %y = llm.add %x, %o : tensor<?x8xf32>
  // CHECK-NEXT: %[[M:.*]] = llm.rms_norm %[[Y]], @norm
  // CHECK-NEXT: %[[G:.*]] = llm.linear %[[M]], @gate : tensor<?x8xf32> -> tensor<?x4xf32>
  // CHECK-NEXT: %[[H:.*]] = llm.glu silu %[[G]], %[[G]] : tensor<?x4xf32>
  // CHECK-NEXT: %[[D:.*]] = llm.linear %[[H]], @down : tensor<?x4xf32> -> tensor<?x8xf32>
  // CHECK-NEXT: %[[DS:.*]] = shard.all_reduce %[[D]] on @mesh grid_axes = [1]
  // CHECK-NEXT: %[[Z:.*]] = llm.add %[[Y]], %[[DS]]
  %m = llm.rms_norm %y, @norm eps 1.0e-5 : tensor<?x8xf32>
  %g = llm.linear %m, @gate : tensor<?x8xf32> -> tensor<?x8xf32>
  %h = llm.glu silu %g, %g : tensor<?x8xf32>
  %d = llm.linear %h, @down : tensor<?x8xf32> -> tensor<?x8xf32>
  %z = llm.add %y, %d : tensor<?x8xf32>
  // Candidates are gathered, logits never are.
  // CHECK-NEXT: %[[S:.*]] = llm.select_outputs %[[Z]]
  // CHECK-NEXT: %[[LG:.*]] = llm.linear %[[S]], @table : tensor<?x8xf32> -> tensor<?x4xf32>
  // CHECK-NEXT: %[[C:.*]] = llm.top_candidates %[[LG]], %[[B]] count 2 vocabulary 8 : tensor<?x4xf32> -> tensor<?x4x2xf32>
  // CHECK-NEXT: %[[CG:.*]] = shard.all_gather %[[C]] on @mesh grid_axes = [1] gather_axis = 0 : tensor<?x4x2xf32> -> tensor<?x4x2xf32>
  // CHECK-NEXT: %[[I:.*]] = llm.sample %[[CG]]
  // CHECK-NEXT: return %[[I]], %[[LG]] : tensor<?xi32>, tensor<?x4xf32>
  %s = llm.select_outputs %z, %batch : tensor<?x8xf32>
  %l = llm.linear %s, @table : tensor<?x8xf32> -> tensor<?x8xf32>
  %c = llm.top_candidates %l, %batch count 2 vocabulary 8 : tensor<?x8xf32> -> tensor<?x4x2xf32>
  %ids = llm.sample %c, %batch : tensor<?x4x2xf32> -> tensor<?xi32>
  return %ids, %l : tensor<?xi32>, tensor<?x8xf32>
}

//--- rules.mlir
shard.grid @mesh(shape = 1x2)
llm.tensor @t [8, 8] f32 at 0 bytes 256
llm.param @down : tensor<8x8xf32> dims ["hidden", "intermediate"] from [#llm.source<@t[8, 8] [0:8] [0:8]>]
llm.param @up : tensor<8x8xf32> dims ["intermediate", "hidden"] from [#llm.source<@t[8, 8] [0:8] [0:8]>]
llm.param @head : tensor<8x8xf32> dims ["columns", "hidden"] from [#llm.source<@t[8, 8] [0:8] [0:8]>]
llm.param @vocabulary : tensor<8x8xf32> dims ["vocabulary", "hidden"] from [#llm.source<@t[8, 8] [0:8] [0:8]>]

// Parts and sums have the element type of the whole; what is made wider is so on each rank.
// RULES-LABEL: func.func @half
// RULES-SAME: -> (tensor<?x8xbf16>, tensor<?x4xf32>)
// RULES: %[[U:.*]] = llm.linear {{.*}}, @up : tensor<?x8xbf16> -> tensor<?x4xbf16>
// RULES-NEXT: %[[D:.*]] = llm.linear %[[U]], @down : tensor<?x4xbf16> -> tensor<?x8xbf16>
// RULES-NEXT: %[[S:.*]] = shard.all_reduce %[[D]] {{.*}} : tensor<?x8xbf16> -> tensor<?x8xbf16>
// RULES-NEXT: llm.linear %[[S]], @vocabulary : tensor<?x8xbf16> -> tensor<?x4xf32>
func.func @half(%x: tensor<?x8xbf16>) -> (tensor<?x8xbf16>, tensor<?x8xf32>) {
  %u = llm.linear %x, @up : tensor<?x8xbf16> -> tensor<?x8xbf16>
  %d = llm.linear %u, @down : tensor<?x8xbf16> -> tensor<?x8xbf16>
  %z = llm.linear %d, @vocabulary : tensor<?x8xbf16> -> tensor<?x8xf32>
  return %d, %z : tensor<?x8xbf16>, tensor<?x8xf32>
}

// A sum is made where it is first used, and once; a partial result is completed before it leaves.
// RULES-LABEL: func.func @sums
// RULES: %[[D:.*]] = llm.linear {{.*}}, @down
// RULES-NEXT: %[[S:.*]] = shard.all_reduce %[[D]]
// RULES-NEXT: %[[A:.*]] = llm.add %[[S]], %{{.*}}
// RULES-NEXT: %[[B:.*]] = llm.add %[[S]], %[[A]]
// RULES-NEXT: %[[E:.*]] = llm.linear {{.*}}, @down
// RULES-NEXT: %[[T:.*]] = shard.all_reduce %[[E]]
// RULES-NEXT: return %[[B]], %[[T]]
func.func @sums(%x: tensor<?x8xf32>) -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  %u = llm.linear %x, @up : tensor<?x8xf32> -> tensor<?x8xf32>
  %d = llm.linear %u, @down : tensor<?x8xf32> -> tensor<?x8xf32>
  %a = llm.add %d, %x : tensor<?x8xf32>
  %b = llm.add %d, %a : tensor<?x8xf32>
  %e = llm.linear %u, @down : tensor<?x8xf32> -> tensor<?x8xf32>
  return %b, %e : tensor<?x8xf32>, tensor<?x8xf32>
}

// Logits that every rank has whole need no exchange.
// RULES-LABEL: func.func @whole_head
// RULES: llm.linear {{.*}}, @head : tensor<?x8xf32> -> tensor<?x8xf32>
// RULES-NEXT: llm.top_candidates
// RULES-NEXT: llm.sample
// RULES-NEXT: return
func.func @whole_head(%batch: !llm.batch, %x: tensor<?x8xf32>) -> tensor<?xi32> {
  %l = llm.linear %x, @head : tensor<?x8xf32> -> tensor<?x8xf32>
  %c = llm.top_candidates %l, %batch count 2 vocabulary 8 : tensor<?x8xf32> -> tensor<?x4x2xf32>
  %ids = llm.sample %c, %batch : tensor<?x4x2xf32> -> tensor<?xi32>
  return %ids : tensor<?xi32>
}

// Heads with a norm each are split as they are.
// RULES-LABEL: func.func @norm_of_heads
// RULES: %[[Q:.*]] = llm.linear {{.*}}, @q : tensor<?x8xf32> -> tensor<?x2x2xf32>
// RULES-NEXT: llm.rms_norm %[[Q]], @head_norm {{.*}} : tensor<?x2x2xf32>
// RULES-NEXT: %[[O:.*]] = llm.linear {{.*}}, @o : tensor<?x2x2xf32> -> tensor<?x8xf32>
// RULES-NEXT: shard.all_reduce %[[O]]
llm.tensor @h [2] f32 at 0 bytes 8
llm.param @q : tensor<4x2x8xf32> dims ["heads", "head_dim", "hidden"] from [#llm.source<@t[4, 2, 8] [0:4] [0:2] [0:8]>]
llm.param @o : tensor<8x4x2xf32> dims ["hidden", "heads", "head_dim"] from [#llm.source<@t[8, 4, 2] [0:8] [0:4] [0:2]>]
llm.param @head_norm : tensor<2xf32> dims ["head_dim"] from [#llm.source<@h[2] [0:2]>]
func.func @norm_of_heads(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %q = llm.linear %x, @q : tensor<?x8xf32> -> tensor<?x4x2xf32>
  %n = llm.rms_norm %q, @head_norm eps 1.0e-5 : tensor<?x4x2xf32>
  %o = llm.linear %n, @o : tensor<?x4x2xf32> -> tensor<?x8xf32>
  return %o : tensor<?x8xf32>
}

// Heads of queries, and of keys, that are one norm: the ranks exchange their sums of squares, of both at once. Padding is no part of
// them, copies are.
// RULES-LABEL: func.func @norm_of_all_heads
// RULES: %[[Q:.*]] = llm.linear {{.*}}, @q : tensor<?x8xf32> -> tensor<?x2x2xf32>
// RULES-NEXT: %[[K:.*]] = llm.linear {{.*}}, @k : tensor<?x8xf32> -> tensor<?x2x2xf32>
// RULES-NEXT: %[[P:.*]] = llm.square_sum %[[Q]], %[[K]] : tensor<?x2x2xf32>, tensor<?x2x2xf32> -> tensor<?x2xf32>
// RULES-NEXT: %[[S:.*]] = shard.all_reduce %[[P]] on @mesh grid_axes = [1] : tensor<?x2xf32> -> tensor<?x2xf32>
// RULES-NEXT: %[[QN:.*]] = llm.rms_norm %[[Q]], @q_norm {{.*}} squares %[[S]] : tensor<?x2xf32> {elements = 6 : i64} : tensor<?x2x2xf32>
// RULES-NEXT: llm.rope %[[QN]]
// RULES-NEXT: llm.rms_norm %[[K]], @k_norm {{.*}} squares %[[S]] : tensor<?x2xf32> {column = 1 : i64, elements = 8 : i64} : tensor<?x2x2xf32>
// One alone.
// RULES-NEXT: %[[Q2:.*]] = llm.linear {{.*}}, @q
// RULES-NEXT: %[[P2:.*]] = llm.square_sum %[[Q2]] : tensor<?x2x2xf32> -> tensor<?x1xf32>
// RULES-NEXT: %[[S2:.*]] = shard.all_reduce %[[P2]]
// RULES-NEXT: llm.rms_norm %[[Q2]], @q_norm {{.*}} squares %[[S2]] : tensor<?x1xf32> {elements = 6 : i64}
llm.tensor @hq [6] f32 at 0 bytes 24
llm.tensor @hk [4] f32 at 0 bytes 16
llm.param @k : tensor<4x2x8xf32> dims ["kv_heads", "head_dim", "hidden"] from [#llm.source<@t[4, 2, 8] [0:1, 0:1, 1:1, 1:1] [0:2] [0:8]>]
llm.param @q_norm : tensor<4x2xf32> dims ["heads", "head_dim"] from [#llm.source<@hq[3, 2] [0:3, zero:1] [0:2]>]
llm.param @k_norm : tensor<4x2xf32> dims ["kv_heads", "head_dim"] from [#llm.source<@hk[2, 2] [0:1, 0:1, 1:1, 1:1] [0:2]>]
llm.rope_table @rope [1.0] magnitude 1.0
func.func @norm_of_all_heads(%batch: !llm.batch, %x: tensor<?x8xf32>) {
  %q = llm.linear %x, @q : tensor<?x8xf32> -> tensor<?x4x2xf32>
  %k = llm.linear %x, @k : tensor<?x8xf32> -> tensor<?x4x2xf32>
  %qn = llm.rms_norm %q, @q_norm eps 1.0e-5 : tensor<?x4x2xf32>
  %r = llm.rope %qn, %batch, @rope half : tensor<?x4x2xf32>
  %kn = llm.rms_norm %k, @k_norm eps 1.0e-5 : tensor<?x4x2xf32>
  %q2 = llm.linear %x, @q : tensor<?x8xf32> -> tensor<?x4x2xf32>
  %q2n = llm.rms_norm %q2, @q_norm eps 1.0e-5 : tensor<?x4x2xf32>
  return
}

// A share of a sum is scaled before the sum is made, and bent after it; a part of the columns takes both.
// RULES-LABEL: func.func @scaled
// RULES: %[[D:.*]] = llm.linear {{.*}}, @down
// RULES-NEXT: %[[E:.*]] = llm.scale %[[D]] by
// RULES-NEXT: %[[S:.*]] = shard.all_reduce %[[E]]
// RULES-NEXT: llm.soft_cap %[[S]] at {{.*}} : tensor<?x8xf32>
// RULES-NEXT: %[[Z:.*]] = llm.linear {{.*}}, @vocabulary
// RULES-NEXT: %[[Y:.*]] = llm.scale %[[Z]] by {{.*}} : tensor<?x4xf32>
// RULES-NEXT: llm.soft_cap %[[Y]] at {{.*}} : tensor<?x4xf32>
func.func @scaled(%x: tensor<?x8xf32>) {
  %u = llm.linear %x, @up : tensor<?x8xf32> -> tensor<?x8xf32>
  %d = llm.linear %u, @down : tensor<?x8xf32> -> tensor<?x8xf32>
  %e = llm.scale %d by 0.5 : tensor<?x8xf32>
  %c = llm.soft_cap %e at 2.0 : tensor<?x8xf32>
  %z = llm.linear %x, @vocabulary : tensor<?x8xf32> -> tensor<?x8xf32>
  %s = llm.scale %z by 0.5 : tensor<?x8xf32>
  %t = llm.soft_cap %s at 2.0 : tensor<?x8xf32>
  return
}

//--- rows.mlir
shard.grid @mesh(shape = 1x2)
llm.tensor @t [8, 8] f32 at 0 bytes 256
llm.tensor @b [8] f32 at 0 bytes 32
llm.param @table : tensor<8x8xf32> dims ["vocabulary", "hidden"] from [#llm.source<@t[8, 8] [0:8] [0:8]>]
llm.param @norm : tensor<8xf32> dims ["hidden"] from [#llm.source<@b[8] [0:8]>]
llm.param @up : tensor<8x8xf32> dims ["intermediate", "hidden"] from [#llm.source<@t[8, 8] [0:8] [0:8]>]
llm.param @down : tensor<8x8xf32> dims ["hidden", "intermediate"] from [#llm.source<@t[8, 8] [0:8] [0:8]>]

// ROWS-LABEL: func.func @prefill
// ROWS-SAME: (%[[B:.*]]: !llm.batch) -> (tensor<?xi32>, tensor<?x4xf32>)
func.func @prefill(%batch: !llm.batch) -> (tensor<?xi32>, tensor<?x8xf32>) attributes {llm.regime = "prefill"} {
  // The residual stream is scattered from the embedding on.
  // ROWS-NEXT: %[[E:.*]] = llm.embedding %[[B]], @table : tensor<?x8xf32>
  // ROWS-NEXT: %[[X:.*]] = shard.reduce_scatter %[[E]] on @mesh grid_axes = [1] scatter_axis = 0 : tensor<?x8xf32> -> tensor<?x8xf32, #shard<axisarray{{\[}}[1]]>>
  // ROWS-NEXT: %[[L:.*]] = llm.layer 0 %[[X]] : tensor<?x8xf32, #shard<axisarray{{\[}}[1]]>>
  // ROWS-NEXT: %[[M:.*]] = llm.rms_norm %[[L]], @norm {{.*}} : tensor<?x8xf32, #shard<axisarray{{\[}}[1]]>>
  %e = llm.embedding %batch, @table : tensor<?x8xf32>
  %x = llm.layer 0 %e : tensor<?x8xf32>
  %m = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<?x8xf32>
  // One gather serves both projections, whose products are split by columns as ever.
  // ROWS-NEXT: %[[A:.*]] = shard.all_gather %[[M]] on @mesh grid_axes = [1] gather_axis = 0 : tensor<?x8xf32, #shard<axisarray{{\[}}[1]]>> -> tensor<?x8xf32>
  // ROWS-NEXT: %[[G:.*]] = llm.linear %[[A]], @up : tensor<?x8xf32> -> tensor<?x4xf32>
  // ROWS-NEXT: %[[U:.*]] = llm.linear %[[A]], @up : tensor<?x8xf32> -> tensor<?x4xf32>
  // ROWS-NEXT: %[[H:.*]] = llm.glu silu %[[G]], %[[U]] : tensor<?x4xf32>
  // ROWS-NEXT: %[[D:.*]] = llm.linear %[[H]], @down : tensor<?x4xf32> -> tensor<?x8xf32>
  // ROWS-NEXT: %[[S:.*]] = shard.reduce_scatter %[[D]]
  // ROWS-NEXT: %[[Y:.*]] = llm.add %[[L]], %[[S]] : tensor<?x8xf32, #shard<axisarray{{\[}}[1]]>>
  %g = llm.linear %m, @up : tensor<?x8xf32> -> tensor<?x8xf32>
  %u = llm.linear %m, @up : tensor<?x8xf32> -> tensor<?x8xf32>
  %h = llm.glu silu %g, %u : tensor<?x8xf32>
  %d = llm.linear %h, @down : tensor<?x8xf32> -> tensor<?x8xf32>
  %y = llm.add %x, %d : tensor<?x8xf32>
  // Outputs are chosen among all rows.
  // ROWS-NEXT: %[[W:.*]] = shard.all_gather %[[Y]]
  // ROWS-NEXT: %[[O:.*]] = llm.select_outputs %[[W]], %[[B]] : tensor<?x8xf32>
  // ROWS-NEXT: llm.linear %[[O]], @table
  // ROWS-NEXT: llm.top_candidates
  // ROWS-NEXT: shard.all_gather {{.*}} : tensor<?x4x2xf32> -> tensor<?x4x2xf32>
  // ROWS-NEXT: llm.sample
  // ROWS-NEXT: return
  %o = llm.select_outputs %y, %batch : tensor<?x8xf32>
  %l = llm.linear %o, @table : tensor<?x8xf32> -> tensor<?x8xf32>
  %c = llm.top_candidates %l, %batch count 2 vocabulary 8 : tensor<?x8xf32> -> tensor<?x4x2xf32>
  %ids = llm.sample %c, %batch : tensor<?x4x2xf32> -> tensor<?xi32>
  return %ids, %l : tensor<?xi32>, tensor<?x8xf32>
}

// A sum follows what it is added to; two sums have a choice, and share it with later users. What leaves is whole.
// ROWS-LABEL: func.func @sums
// ROWS-SAME: -> (tensor<?x8xf32>, tensor<?x8xf32>, tensor<?x8xf32>)
// ROWS: %[[D:.*]] = llm.linear {{.*}}, @down
// ROWS-NEXT: %[[R:.*]] = shard.all_reduce %[[D]]
// ROWS-NEXT: %[[A:.*]] = llm.add %[[R]], %{{.*}} : tensor<?x8xf32>
// ROWS-NEXT: %[[S:.*]] = shard.reduce_scatter %[[D]]
// ROWS-NEXT: %[[B:.*]] = llm.add %[[S]], %[[S]] : tensor<?x8xf32, #shard
// ROWS-NEXT: %[[C:.*]] = shard.all_gather %[[B]]
// ROWS-NEXT: %[[E:.*]] = llm.add %[[C]], %[[A]] : tensor<?x8xf32>
// ROWS-NEXT: return %[[E]], %[[C]], %[[R]]
func.func @sums(%x: tensor<?x8xf32>) -> (tensor<?x8xf32>, tensor<?x8xf32>, tensor<?x8xf32>) attributes {llm.regime = "prefill"} {
  %u = llm.linear %x, @up : tensor<?x8xf32> -> tensor<?x8xf32>
  %d = llm.linear %u, @down : tensor<?x8xf32> -> tensor<?x8xf32>
  %a = llm.add %d, %x : tensor<?x8xf32>
  %b = llm.add %d, %d : tensor<?x8xf32>
  %e = llm.add %b, %a : tensor<?x8xf32>
  return %e, %b, %d : tensor<?x8xf32>, tensor<?x8xf32>, tensor<?x8xf32>
}

// Positions are those of all rows.
// ROWS-LABEL: func.func @rotated
// ROWS: %[[D:.*]] = llm.linear {{.*}}, @heads
// ROWS-NEXT: %[[R:.*]] = shard.all_reduce %[[D]]
// ROWS-NEXT: llm.rope %[[R]]
llm.param @heads : tensor<4x2x8xf32> dims ["other", "head_dim", "intermediate"] from [#llm.source<@t[4, 2, 8] [0:4] [0:2] [0:8]>]
llm.rope_table @rope [1.0] magnitude 1.0
func.func @rotated(%batch: !llm.batch, %x: tensor<?x8xf32>) -> tensor<?x4x2xf32> attributes {llm.regime = "prefill"} {
  %u = llm.linear %x, @up : tensor<?x8xf32> -> tensor<?x8xf32>
  %d = llm.linear %u, @heads : tensor<?x8xf32> -> tensor<?x4x2xf32>
  %r = llm.rope %d, %batch, @rope half : tensor<?x4x2xf32>
  return %r : tensor<?x4x2xf32>
}

// Decode has too few rows to deal out, and what has no regime stays too.
// ROWS-LABEL: func.func @decode
// ROWS: shard.all_reduce
// ROWS: llm.rms_norm {{.*}} : tensor<?x8xf32>
func.func @decode(%batch: !llm.batch) -> tensor<?x8xf32> attributes {llm.regime = "decode"} {
  %e = llm.embedding %batch, @table : tensor<?x8xf32>
  %m = llm.rms_norm %e, @norm eps 1.0e-5 : tensor<?x8xf32>
  return %m : tensor<?x8xf32>
}

//--- rows-errors.mlir
shard.grid @mesh(shape = 1x2)
llm.tensor @t [8, 8] f32 at 0 bytes 256
llm.param @up : tensor<8x8xf32> dims ["intermediate", "hidden"] from [#llm.source<@t[8, 8] [0:8] [0:8]>]
llm.param @table : tensor<8x4xf32> dims ["vocabulary", "hidden"] from [#llm.source<@t[8, 8] [0:8] [0:4]>]
func.func @mixed(%batch: !llm.batch, %x: tensor<?x8xf32>) -> tensor<?x4xf32> attributes {llm.regime = "prefill"} {
  %e = llm.embedding %batch, @table : tensor<?x4xf32>
  %y = llm.layer 0 %e : tensor<?x4xf32>
  %u = llm.linear %x, @up : tensor<?x8xf32> -> tensor<?x8xf32>
  %v = llm.linear %y, @table : tensor<?x4xf32> -> tensor<?x8xf32>
  %w = llm.glu silu %u, %v : tensor<?x8xf32>
  %d = llm.linear %w, @down : tensor<?x8xf32> -> tensor<?x8xf32>
  // expected-error @+1 {{'llm.add' op has no sharding rule for 'tensor<?x4xf32>' split along dimension 1 and 'tensor<?x8xf32, #shard<axisarray[[1]]>>' scattered by rows}}
  %z = llm.add %u, %d : tensor<?x8xf32>
  return %y : tensor<?x4xf32>
}
llm.param @down : tensor<8x8xf32> dims ["hidden", "intermediate"] from [#llm.source<@t[8, 8] [0:8] [0:8]>]

//--- experts.mlir
// Experts are split as an MLP is, each of them; every rank routes all rows; one sum for all experts of a row.
shard.grid @mesh(shape = 1x2)
llm.tensor @t0 [6, 8] f32 at 0 bytes 192
llm.tensor @t1 [6, 8] f32 at 0 bytes 192
llm.tensor @tr [2, 8] f32 at 0 bytes 64
// EXPERTS-LABEL: llm.param @router : tensor<2x8xf32> dims ["experts", "hidden"]
// EXPERTS: llm.param @gate : tensor<2x3x8xf32> {{.*}} sharded {{\[}}[], [1], []]
// EXPERTS: llm.param @down : tensor<2x8x3xf32> {{.*}} sharded {{\[}}[], [], [1]]
llm.param @router : tensor<2x8xf32> dims ["experts", "hidden"] from [#llm.source<@tr[2, 8] [0:2] [0:8]>]
llm.param @gate : tensor<2x6x8xf32> dims ["experts", "intermediate", "hidden"] from [#llm.source<@t0[1, 6, 8] [0:1] [0:6] [0:8]>, #llm.source<@t1[1, 6, 8] [0:1] [0:6] [0:8]>]
llm.param @down : tensor<2x8x6xf32> dims ["experts", "hidden", "intermediate"] from [#llm.source<@t0[1, 8, 6] [0:1] [0:8] [0:6]>, #llm.source<@t1[1, 8, 6] [0:1] [0:8] [0:6]>]
// EXPERTS-LABEL: func.func @mixture
func.func @mixture(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // EXPERTS: %[[Z:.*]] = llm.linear %{{.*}}, @router : tensor<?x8xf32> -> tensor<?x2xf32>
  %z = llm.linear %x, @router : tensor<?x8xf32> -> tensor<?x2xf32>
  // EXPERTS-NEXT: %[[R:.*]] = llm.route %[[Z]] count 1
  %r = llm.route %z count 1 : tensor<?x2xf32> -> tensor<?x1x2xf32>
  // EXPERTS-NEXT: %[[G:.*]] = llm.expert_linear %{{.*}}, %[[R]], @gate : tensor<?x8xf32>, tensor<?x1x2xf32> -> tensor<?x1x3xf32>
  %g = llm.expert_linear %x, %r, @gate : tensor<?x8xf32>, tensor<?x1x2xf32> -> tensor<?x1x6xf32>
  // EXPERTS-NEXT: %[[D:.*]] = llm.expert_linear %[[G]], %[[R]], @down : tensor<?x1x3xf32>, tensor<?x1x2xf32> -> tensor<?x1x8xf32>
  %d = llm.expert_linear %g, %r, @down : tensor<?x1x6xf32>, tensor<?x1x2xf32> -> tensor<?x1x8xf32>
  // EXPERTS-NEXT: %[[Y:.*]] = llm.combine %[[D]], %[[R]]
  %y = llm.combine %d, %r : tensor<?x1x8xf32>, tensor<?x1x2xf32> -> tensor<?x8xf32>
  // EXPERTS-NEXT: %[[S:.*]] = shard.all_reduce %[[Y]]
  // EXPERTS-NEXT: llm.add %[[S]], %{{.*}}
  %s = llm.add %y, %x : tensor<?x8xf32>
  return %s : tensor<?x8xf32>
}

//--- errors.mlir
// expected-error @+1 {{expected 'shard.grid @mesh(shape = PPxTP)' in the module}}
module {
}

// -----

shard.grid @mesh(shape = 1x2)
llm.tensor @t [8, 8] f32 at 0 bytes 256
// expected-error @+1 {{has two dimensions to split; the second is 'intermediate'}}
llm.param @w : tensor<8x8xf32> dims ["heads", "intermediate"] from [#llm.source<@t[8, 8] [0:8] [0:8]>]

// -----

shard.grid @mesh(shape = 1x3)
llm.tensor @t [8, 8] f32 at 0 bytes 256
// expected-error @+1 {{has dimension 'heads' of size 8, which tensor parallel degree 3 does not divide; run pad-tensor-parallel first}}
llm.param @w : tensor<8x8xf32> dims ["heads", "hidden"] from [#llm.source<@t[8, 8] [0:8] [0:8]>]

// -----

shard.grid @mesh(shape = 1x2)
// expected-error @+1 {{has 3 heads, which tensor parallel degree 2 does not divide; run pad-tensor-parallel first}}
llm.kv_cache @kv layer 0 : !llm.kv_cache<heads 3, dim 2, f32>

// -----

shard.grid @mesh(shape = 1x2)
// expected-error @+1 {{has no body}}
func.func private @other(tensor<?x8xf32>) -> tensor<?x8xf32>

// -----

shard.grid @mesh(shape = 1x2)
func.func @other(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // expected-error @+1 {{'dist.all_reduce_start' op has no sharding rule}}
  %t = dist.all_reduce_start %x over tp sum : tensor<?x8xf32> -> !dist.token<tensor<?x8xf32>>
  %y = dist.wait %t : !dist.token<tensor<?x8xf32>> -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

// Row parallel, but the input is whole.
shard.grid @mesh(shape = 1x2)
llm.tensor @t [8, 8] f32 at 0 bytes 256
llm.param @down : tensor<8x8xf32> dims ["hidden", "intermediate"] from [#llm.source<@t[8, 8] [0:8] [0:8]>]
func.func @row(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // expected-error @+1 {{'llm.linear' op has no sharding rule for 'tensor<?x8xf32>' replicated}}
  %y = llm.linear %x, @down : tensor<?x8xf32> -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

// A norm needs whole rows.
shard.grid @mesh(shape = 1x2)
llm.tensor @t [8, 8] f32 at 0 bytes 256
llm.tensor @b [8] f32 at 0 bytes 32
llm.param @up : tensor<8x8xf32> dims ["intermediate", "hidden"] from [#llm.source<@t[8, 8] [0:8] [0:8]>]
llm.param @norm : tensor<8xf32> dims ["hidden"] from [#llm.source<@b[8] [0:8]>]
func.func @norm_of_part(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %u = llm.linear %x, @up : tensor<?x8xf32> -> tensor<?x8xf32>
  // expected-error @+1 {{'llm.rms_norm' op has no sharding rule for 'tensor<?x4xf32>' split along dimension 1}}
  %y = llm.rms_norm %u, @norm eps 1.0e-5 : tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

shard.grid @mesh(shape = 1x2)
llm.tensor @t [8, 8] f32 at 0 bytes 256
llm.param @up : tensor<8x8xf32> dims ["intermediate", "hidden"] from [#llm.source<@t[8, 8] [0:8] [0:8]>]
func.func @mixed(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %u = llm.linear %x, @up : tensor<?x8xf32> -> tensor<?x8xf32>
  // expected-error @+1 {{'llm.add' op has no sharding rule for 'tensor<?x4xf32>' split along dimension 1 and 'tensor<?x8xf32>' replicated}}
  %y = llm.add %u, %x : tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

shard.grid @mesh(shape = 1x2)
llm.kv_cache @kv layer 0 : !llm.kv_cache<heads 2, dim 2, f32>
func.func @whole_keys(%batch: !llm.batch, %k: tensor<?x2x2xf32>) {
  // expected-error @+1 {{'llm.kv_append' op has no sharding rule for 'tensor<?x2x2xf32>' replicated and 'tensor<?x2x2xf32>' replicated}}
  llm.kv_append %k, %k, %batch, @kv : tensor<?x2x2xf32>
  return
}

// -----

shard.grid @mesh(shape = 1x2)
llm.kv_cache @kv layer 0 : !llm.kv_cache<heads 2, dim 2, f32>
func.func @whole_queries(%batch: !llm.batch, %q: tensor<?x2x2xf32>) -> tensor<?x2x2xf32> {
  // expected-error @+1 {{'llm.attention' op has no sharding rule for 'tensor<?x2x2xf32>' replicated}}
  %a = llm.attention %q, %batch, @kv scale 0.5 : tensor<?x2x2xf32>
  return %a : tensor<?x2x2xf32>
}

// -----

// A down projection whose input is whole.
shard.grid @mesh(shape = 1x2)
llm.tensor @t [2, 8, 6] f32 at 0 bytes 384
llm.param @down : tensor<2x8x6xf32> dims ["experts", "hidden", "intermediate"] from [#llm.source<@t[2, 8, 6] [0:2] [0:8] [0:6]>]
func.func @row_of_experts(%x: tensor<?x1x6xf32>, %r: tensor<?x1x2xf32>) -> tensor<?x1x8xf32> {
  // expected-error @+1 {{'llm.expert_linear' op has no sharding rule for 'tensor<?x1x6xf32>' replicated and 'tensor<?x1x2xf32>' replicated}}
  %d = llm.expert_linear %x, %r, @down : tensor<?x1x6xf32>, tensor<?x1x2xf32> -> tensor<?x1x8xf32>
  return %d : tensor<?x1x8xf32>
}
