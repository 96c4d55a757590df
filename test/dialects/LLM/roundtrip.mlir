// RUN: distc-opt %s | distc-opt | FileCheck %s
// RUN: distc-opt %s --mlir-print-op-generic | distc-opt | FileCheck %s

shard.grid @mesh(shape = 1x2)
// CHECK: llm.file @file0 "model.safetensors" size 4096 header 256 hash -7
llm.file @file0 "model.safetensors" size 4096 header 256 hash -7
// CHECK: llm.tensor @w [12, 8] bf16 in @file0 at 256 bytes 192
llm.tensor @w [12, 8] bf16 in @file0 at 256 bytes 192
// CHECK: llm.tensor @n [8] f32 at 0 bytes 32
llm.tensor @n [8] f32 at 0 bytes 32
// CHECK: llm.tensor @"blk 0" [256] q4_1 at 0 bytes 160
llm.tensor @"blk 0" [256] q4_1 at 0 bytes 160
llm.tensor @table [6, 8] f16 at 0 bytes 96
// CHECK: llm.rope_table @long [1.000000e+00, 5.000000e-01] magnitude 1.000000e+00 over [4096]
llm.rope_table @long [1.0, 0.5] magnitude 1.0 over [4096]
// CHECK: llm.tensor @blocks [2, 256] q6_k at 0 bytes 420
llm.tensor @blocks [2, 256] q6_k at 0 bytes 420
// CHECK: llm.param @stays : tensor<2x256x!llm.quantized<q6_k>> dims ["rows", "hidden"]
llm.param @stays : tensor<2x256x!llm.quantized<q6_k>> dims ["rows", "hidden"] from [#llm.source<@blocks[2, 256] [0:2] [0:256]>]
// CHECK: llm.rope_table @rope [1.000000e+00, 1.000000e-01] magnitude 1.500000e+00
llm.rope_table @rope [1.0, 0.1] magnitude 1.5
// CHECK: llm.param @q : tensor<4x4x8xbf16> dims ["heads", "head_dim", "hidden"]
// CHECK-SAME: from [#llm.source<@w[3, 4, 8] [0:3, zero:1] [0:4] [0:8]>]
// CHECK-NOT: init
llm.param @q : tensor<4x4x8xbf16> dims ["heads", "head_dim", "hidden"] from [#llm.source<@w[3, 4, 8] [0:3, zero:1] [0:4] [0:8]>]
// CHECK: llm.param @down : tensor<8x12xbf16> dims ["hidden", "intermediate"] from [#llm.source<@w[8, 12] transposed 1 [0:8] [0:12]>]
llm.param @down : tensor<8x12xbf16> dims ["hidden", "intermediate"] from [#llm.source<@w[8, 12] transposed 1 [0:8] [0:12]>]
// CHECK: llm.param @norm : tensor<8xf32> dims ["hidden"] from [#llm.source<@n[8] [0:8]>] {init = #llm<init ones>}
llm.param @norm : tensor<8xf32> dims ["hidden"] from [#llm.source<@n[8] [0:8]>] {init = #llm<init ones>}
// The sources are those of all ranks together, the type is one rank's; two are stacked.
// CHECK: llm.param @up : tensor<10x8xbf16> dims ["intermediate", "hidden"]
// CHECK-SAME: from [#llm.source<@w[12, 8] [0:12] [0:8]>, #llm.source<@w[12, 8] [4:4, 4:4] [0:8]>]
// CHECK-SAME: sharded {{\[}}[1], []] {init_scale = 2.500000e-01 : f32}
llm.param @up : tensor<10x8xbf16> dims ["intermediate", "hidden"]
  from [#llm.source<@w[12, 8] [0:12] [0:8]>, #llm.source<@w[12, 8] [4:4, 4:4] [0:8]>] sharded [[1], []] {init_scale = 0.25 : f32}
// CHECK: llm.param @bias : tensor<4x4xf32> dims ["heads", "head_dim"] from [#llm.source<@n[2, 4] [0:2, zero:2] [0:4]>] first_only {init = #llm<init zeros>}
llm.param @bias : tensor<4x4xf32> dims ["heads", "head_dim"] from [#llm.source<@n[2, 4] [0:2, zero:2] [0:4]>] first_only {init = #llm<init zeros>}
llm.param @vocabulary : tensor<6x8xf16> dims ["vocabulary", "hidden"] from [#llm.source<@table[6, 8] [0:6] [0:8]>]
llm.tensor @h [4] f32 at 0 bytes 16
llm.tensor @hs [16] f32 at 0 bytes 64
llm.param @heads_norm : tensor<4x4xf32> dims ["heads", "head_dim"] from [#llm.source<@hs[4, 4] [0:4] [0:4]>]
llm.param @head_norm : tensor<4xf32> dims ["head_dim"] from [#llm.source<@h[4] [0:4]>]
// CHECK: llm.kv_cache @kv layer 0 : !llm.kv_cache<heads 2, dim 4, f32>
llm.kv_cache @kv layer 0 : !llm.kv_cache<heads 2, dim 4, f32>
// CHECK: llm.kv_cache @kv1 layer 1 sharded : !llm.kv_cache<heads 1, dim 4, bf16>
llm.kv_cache @kv1 layer 1 sharded : !llm.kv_cache<heads 1, dim 4, bf16>

// CHECK-LABEL: func.func @ops
// CHECK-SAME: !llm.batch
func.func @ops(%batch: !llm.batch, %k: tensor<?x2x4xf32>) -> (tensor<?x4x4xf32>, tensor<?xi32>) {
  // CHECK: %[[X:.*]] = llm.embedding %[[B:.*]], @vocabulary : tensor<?x8xf32>
  %e = llm.embedding %batch, @vocabulary : tensor<?x8xf32>
  // CHECK: %[[L:.*]] = llm.layer 3 %[[X]] : tensor<?x8xf32>
  %x = llm.layer 3 %e : tensor<?x8xf32>
  // CHECK: %[[N:.*]] = llm.rms_norm %[[L]], @norm eps 9.99999974E-6 : tensor<?x8xf32>
  %n = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<?x8xf32>
  // CHECK: %[[Q:.*]] = llm.linear %[[N]], @q : tensor<?x8xf32> -> tensor<?x4x4xf32>
  %q = llm.linear %n, @q : tensor<?x8xf32> -> tensor<?x4x4xf32>
  // CHECK: llm.linear %[[N]], @q bias @bias : tensor<?x8xf32> -> tensor<?x4x4xf32>
  %p = llm.linear %n, @q bias @bias : tensor<?x8xf32> -> tensor<?x4x4xf32>
  // CHECK: llm.rms_norm %[[Q]], @head_norm eps 9.99999974E-6 : tensor<?x4x4xf32>
  %h = llm.rms_norm %q, @head_norm eps 1.0e-5 : tensor<?x4x4xf32>
  // CHECK: %[[SQ:.*]] = llm.square_sum %[[Q]], %{{.*}} : tensor<?x4x4xf32>, tensor<?x2x4xf32> -> tensor<?x2xf32>
  %sq = llm.square_sum %q, %k : tensor<?x4x4xf32>, tensor<?x2x4xf32> -> tensor<?x2xf32>
  // CHECK: llm.rms_norm %[[Q]], @heads_norm eps 9.99999974E-6 squares %[[SQ]] : tensor<?x2xf32> {column = 1 : i64, elements = 16 : i64, offset = 1.000000e+00 : f32} : tensor<?x4x4xf32>
  %hs = llm.rms_norm %q, @heads_norm eps 1.0e-5 squares %sq : tensor<?x2xf32> {column = 1 : i64, elements = 16 : i64, offset = 1.0 : f32} : tensor<?x4x4xf32>
  // CHECK: %[[SC:.*]] = llm.scale %[[Q]] by 2.500000e-01 : tensor<?x4x4xf32>
  %sc = llm.scale %q by 0.25 : tensor<?x4x4xf32>
  // CHECK: llm.soft_cap %[[SC]] at 3.000000e+01 : tensor<?x4x4xf32>
  %cap = llm.soft_cap %sc at 30.0 : tensor<?x4x4xf32>
  // CHECK: %[[R:.*]] = llm.rope %[[Q]], %[[B]], @rope half : tensor<?x4x4xf32>
  %r = llm.rope %q, %batch, @rope half : tensor<?x4x4xf32>
  // CHECK: llm.rope %{{.*}}, %[[B]], @rope interleaved : tensor<?x2x4xf32>
  %i = llm.rope %k, %batch, @rope interleaved : tensor<?x2x4xf32>
  // CHECK: llm.kv_append %{{.*}}, %{{.*}}, %[[B]], @kv : tensor<?x2x4xf32>
  llm.kv_append %i, %k, %batch, @kv : tensor<?x2x4xf32>
  // CHECK: %[[A:.*]] = llm.attention %[[R]], %[[B]], @kv scale 5.000000e-01 : tensor<?x4x4xf32>
  %a = llm.attention %r, %batch, @kv scale 0.5 : tensor<?x4x4xf32>
  // CHECK: llm.attention %[[A]], %[[B]], @kv scale 5.000000e-01 {soft_cap = 3.000000e+01 : f32, window = 16 : i64} : tensor<?x4x4xf32>
  %w = llm.attention %a, %batch, @kv scale 0.5 {soft_cap = 30.0 : f32, window = 16 : i64} : tensor<?x4x4xf32>
  // CHECK: llm.add %[[A]], %{{.*}} : tensor<?x4x4xf32>
  %s = llm.add %a, %w : tensor<?x4x4xf32>
  // CHECK: llm.glu silu %{{.*}}, %{{.*}} : tensor<?x4x4xf32>
  %g0 = llm.glu silu %s, %p : tensor<?x4x4xf32>
  // CHECK: llm.activate gelu_tanh %{{.*}} : tensor<?x4x4xf32>
  %act = llm.activate gelu_tanh %s : tensor<?x4x4xf32>
  // CHECK: %[[E:.*]] = llm.position_embedding %[[X]], %[[B]], @vocabulary : tensor<?x8xf32>
  %pe = llm.position_embedding %e, %batch, @vocabulary : tensor<?x8xf32>
  // CHECK: llm.layer_norm %[[E]], @norm eps 9.99999974E-6 : tensor<?x8xf32>
  %ln = llm.layer_norm %pe, @norm eps 1.0e-5 : tensor<?x8xf32>
  // CHECK: llm.layer_norm %[[E]], @norm bias @norm eps 9.99999974E-6 : tensor<?x8xf32>
  %lb = llm.layer_norm %pe, @norm bias @norm eps 1.0e-5 : tensor<?x8xf32>
  // CHECK: llm.glu gelu_tanh
  %g1 = llm.glu gelu_tanh %g0, %p : tensor<?x4x4xf32>
  // CHECK: %[[O:.*]] = llm.select_outputs %[[N]], %[[B]] : tensor<?x8xf32>
  %o = llm.select_outputs %n, %batch : tensor<?x8xf32>
  // CHECK: %[[Z:.*]] = llm.linear %[[O]], @vocabulary : tensor<?x8xf32> -> tensor<?x6xf32>
  %z = llm.linear %o, @vocabulary : tensor<?x8xf32> -> tensor<?x6xf32>
  // CHECK: %[[C:.*]] = llm.top_candidates %[[Z]], %[[B]] count 3 vocabulary 5 : tensor<?x6xf32> -> tensor<?x5x2xf32>
  %c = llm.top_candidates %z, %batch count 3 vocabulary 5 : tensor<?x6xf32> -> tensor<?x5x2xf32>
  // CHECK: llm.sample %[[C]], %[[B]] : tensor<?x5x2xf32> -> tensor<?xi32>
  %ids = llm.sample %c, %batch : tensor<?x5x2xf32> -> tensor<?xi32>
  return %g1, %ids : tensor<?x4x4xf32>, tensor<?xi32>
}

// Three experts of six rows each, of which a row goes to two.
llm.tensor @te [3, 6, 8] f32 at 0 bytes 576
llm.param @experts : tensor<3x6x8xf32> dims ["experts", "intermediate", "hidden"] from [#llm.source<@te[3, 6, 8] [0:3] [0:6] [0:8]>]
llm.param @expert_down : tensor<3x8x6xf32> dims ["experts", "hidden", "intermediate"] from [#llm.source<@te[3, 8, 6] [0:3] [0:8] [0:6]>]
// CHECK-LABEL: func.func @mixture
func.func @mixture(%x: tensor<?x8xf32>, %z: tensor<?x3xf32>) -> tensor<?x8xf32> {
  // CHECK: llm.route %{{.*}} count 3 : tensor<?x3xf32> -> tensor<?x3x2xf32>
  %all = llm.route %z count 3 : tensor<?x3xf32> -> tensor<?x3x2xf32>
  // CHECK: %[[R:.*]] = llm.route %{{.*}} count 2 normalize : tensor<?x3xf32> -> tensor<?x2x2xf32>
  %r = llm.route %z count 2 normalize : tensor<?x3xf32> -> tensor<?x2x2xf32>
  // CHECK: %[[G:.*]] = llm.expert_linear %{{.*}}, %[[R]], @experts : tensor<?x8xf32>, tensor<?x2x2xf32> -> tensor<?x2x6xf32>
  %g = llm.expert_linear %x, %r, @experts : tensor<?x8xf32>, tensor<?x2x2xf32> -> tensor<?x2x6xf32>
  // CHECK: %[[D:.*]] = llm.expert_linear %[[G]], %[[R]], @expert_down : tensor<?x2x6xf32>, tensor<?x2x2xf32> -> tensor<?x2x8xf32>
  %d = llm.expert_linear %g, %r, @expert_down : tensor<?x2x6xf32>, tensor<?x2x2xf32> -> tensor<?x2x8xf32>
  // CHECK: llm.combine %[[D]], %[[R]] : tensor<?x2x8xf32>, tensor<?x2x2xf32> -> tensor<?x8xf32>
  %y = llm.combine %d, %r : tensor<?x2x8xf32>, tensor<?x2x2xf32> -> tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// Activations of 16 bits; the result of a linear may be wider.
// CHECK-LABEL: func.func @half
func.func @half(%batch: !llm.batch) -> (tensor<?x4x4xbf16>, tensor<?x6xf32>) {
  // CHECK: %[[X:.*]] = llm.embedding %{{.*}}, @vocabulary : tensor<?x8xbf16>
  %x = llm.embedding %batch, @vocabulary : tensor<?x8xbf16>
  // CHECK: llm.linear %[[X]], @q bias @bias : tensor<?x8xbf16> -> tensor<?x4x4xbf16>
  %q = llm.linear %x, @q bias @bias : tensor<?x8xbf16> -> tensor<?x4x4xbf16>
  // CHECK: llm.linear %[[X]], @vocabulary : tensor<?x8xbf16> -> tensor<?x6xf32>
  %z = llm.linear %x, @vocabulary : tensor<?x8xbf16> -> tensor<?x6xf32>
  return %q, %z : tensor<?x4x4xbf16>, tensor<?x6xf32>
}
