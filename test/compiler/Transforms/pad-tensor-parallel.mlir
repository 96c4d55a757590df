// Nine query heads over three KV heads, intermediate size 5, vocabulary 7: nothing divides, and nothing may be lost.
// RUN: split-file %s %t
// RUN: sed 's/PPxTP/1x1/' %t/uneven.mlir | distc-opt -pad-tensor-parallel | FileCheck %s --check-prefix=TP1
// RUN: sed 's/PPxTP/1x2/' %t/uneven.mlir | distc-opt -pad-tensor-parallel | FileCheck %s --check-prefix=TP2
// RUN: sed 's/PPxTP/1x4/' %t/uneven.mlir | distc-opt -pad-tensor-parallel | FileCheck %s --check-prefix=TP4
// RUN: sed 's/PPxTP/1x8/' %t/uneven.mlir | distc-opt -pad-tensor-parallel | FileCheck %s --check-prefix=TP8
// RUN: distc-opt %t/few.mlir -pad-tensor-parallel | FileCheck %s --check-prefix=FEW
// RUN: distc-opt %t/tie.mlir -pad-tensor-parallel | FileCheck %s --check-prefix=TIE
// RUN: distc-opt %t/errors.mlir -split-input-file -verify-diagnostics -pad-tensor-parallel

//--- uneven.mlir
shard.grid @mesh(shape = PPxTP)
llm.tensor @tq [18, 4] f32 at 0 bytes 288
llm.tensor @tk [6, 4] f32 at 0 bytes 96
llm.tensor @tb [18] f32 at 0 bytes 72
llm.tensor @to [4, 18] f32 at 0 bytes 288
llm.tensor @tg [5, 4] f32 at 0 bytes 80
llm.tensor @te [7, 4] f32 at 0 bytes 112
llm.tensor @tn [4] f32 at 0 bytes 16
llm.param @q : tensor<9x2x4xf32> dims ["heads", "head_dim", "hidden"] from [#llm.source<@tq[9, 2, 4] [0:9] [0:2] [0:4]>]
// Not the tensor's order: what is padded is a slice already.
llm.param @bias : tensor<9x2xf32> dims ["heads", "head_dim"] from [#llm.source<@tb[9, 2] [6:3, 0:6] [0:2]>]
llm.param @k : tensor<3x2x4xf32> dims ["kv_heads", "head_dim", "hidden"] from [#llm.source<@tk[3, 2, 4] [0:3] [0:2] [0:4]>]
llm.param @o : tensor<4x9x2xf32> dims ["hidden", "heads", "head_dim"] from [#llm.source<@to[4, 9, 2] [0:4] [0:9] [0:2]>]
llm.param @gate : tensor<5x4xf32> dims ["intermediate", "hidden"] from [#llm.source<@tg[5, 4] [0:5] [0:4]>]
// Experts are padded one by one.
llm.param @experts : tensor<2x5x4xf32> dims ["experts", "intermediate", "hidden"] from [#llm.source<@tg[1, 5, 4] [0:1] [0:5] [0:4]>, #llm.source<@tg[1, 5, 4] [0:1] [0:5] [0:4]>]
llm.param @table : tensor<7x4xf32> dims ["vocabulary", "hidden"] from [#llm.source<@te[7, 4] [0:7] [0:4]>]
llm.param @norm : tensor<4xf32> dims ["hidden"] from [#llm.source<@tn[4] [0:4]>]
llm.kv_cache @kv layer 0 : !llm.kv_cache<heads 3, dim 2, f32>
func.func @forward(%batch: !llm.batch) -> (tensor<?xi32>, tensor<?x7xf32>) {
  %x = llm.embedding %batch, @table : tensor<?x4xf32>
  %n = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<?x4xf32>
  %k = llm.linear %n, @k : tensor<?x4xf32> -> tensor<?x3x2xf32>
  llm.kv_append %k, %k, %batch, @kv : tensor<?x3x2xf32>
  %q = llm.linear %n, @q bias @bias : tensor<?x4xf32> -> tensor<?x9x2xf32>
  %a = llm.attention %q, %batch, @kv scale 0.5 : tensor<?x9x2xf32>
  %o = llm.linear %a, @o : tensor<?x9x2xf32> -> tensor<?x4xf32>
  %g = llm.linear %o, @gate : tensor<?x4xf32> -> tensor<?x5xf32>
  %z = llm.linear %o, @table : tensor<?x4xf32> -> tensor<?x7xf32>
  %c = llm.top_candidates %z, %batch count 2 vocabulary 7 : tensor<?x7xf32> -> tensor<?x4x2xf32>
  %ids = llm.sample %c, %batch : tensor<?x4x2xf32> -> tensor<?xi32>
  return %ids, %z : tensor<?xi32>, tensor<?x7xf32>
}
func.func @half(%batch: !llm.batch) -> (tensor<?x5xbf16>, tensor<?x7xf32>) {
  %x = llm.embedding %batch, @table : tensor<?x4xbf16>
  %g = llm.linear %x, @gate : tensor<?x4xbf16> -> tensor<?x5xbf16>
  %z = llm.linear %x, @table : tensor<?x4xbf16> -> tensor<?x7xf32>
  return %g, %z : tensor<?x5xbf16>, tensor<?x7xf32>
}

// TP1: llm.param @q : tensor<9x2x4xf32>
// TP1: llm.kv_cache @kv layer 0 : !llm.kv_cache<heads 3
// TP1-NOT: zero

// Ten copies of KV heads, one query head each.
// TP2: llm.param @q : tensor<10x2x4xf32> {{.*}}@tq[9, 2, 4] [0:9, zero:1] [0:2] [0:4]>]
// TP2: llm.param @bias : tensor<10x2xf32> {{.*}}@tb[9, 2] [6:3, 0:6, zero:1] [0:2]>]
// TP2: llm.param @k : tensor<10x2x4xf32> {{.*}}@tk[3, 2, 4] [0:1, 0:1, 0:2, 1:1, 1:2, 2:1, 2:1, zero:1] [0:2] [0:4]>]
// TP2: llm.param @o : tensor<4x10x2xf32> {{.*}}@to[4, 9, 2] [0:4] [0:9, zero:1] [0:2]>]
// TP2: llm.param @gate : tensor<6x4xf32> {{.*}}@tg[5, 4] [0:5, zero:1] [0:4]>]
// TP2: llm.param @experts : tensor<2x6x4xf32> {{.*}}@tg[1, 5, 4] [0:1] [0:5, zero:1] [0:4]>, {{.*}}@tg[1, 5, 4] [0:1] [0:5, zero:1] [0:4]>]
// TP2: llm.param @table : tensor<8x4xf32> {{.*}}@te[7, 4] [0:7, zero:1] [0:4]>]
// TP2: llm.param @norm : tensor<4xf32> {{.*}}@tn[4] [0:4]>]
// TP2: llm.kv_cache @kv layer 0 : !llm.kv_cache<heads 10, dim 2, f32>
// TP2: func.func @forward(%{{.*}}: !llm.batch) -> (tensor<?xi32>, tensor<?x8xf32>)
// TP2: llm.kv_append {{.*}} : tensor<?x10x2xf32>
// TP2: llm.attention {{.*}} : tensor<?x10x2xf32>
// TP2: llm.linear {{.*}}, @o : tensor<?x10x2xf32> -> tensor<?x4xf32>
// TP2: llm.linear {{.*}}, @gate : tensor<?x4xf32> -> tensor<?x6xf32>
// The ids of padding are never sampled: what is valid stays.
// TP2: llm.top_candidates {{.*}} vocabulary 7 : tensor<?x8xf32>
// Sizes change, element types do not.
// TP2: func.func @half(%{{.*}}: !llm.batch) -> (tensor<?x6xbf16>, tensor<?x8xf32>)
// TP2: llm.linear {{.*}}, @gate : tensor<?x4xbf16> -> tensor<?x6xbf16>
// TP2: llm.linear {{.*}}, @table : tensor<?x4xbf16> -> tensor<?x8xf32>

// A fourth KV head of zeros, with its three query heads.
// TP4: llm.param @q : tensor<12x2x4xf32> {{.*}} [0:9, zero:3] [0:2] [0:4]>]
// TP4: llm.param @bias : tensor<12x2xf32> {{.*}} [6:3, 0:6, zero:3] [0:2]>]
// TP4: llm.param @k : tensor<4x2x4xf32> {{.*}} [0:3, zero:1] [0:2] [0:4]>]
// TP4: llm.param @o : tensor<4x12x2xf32> {{.*}} [0:4] [0:9, zero:3] [0:2]>]
// TP4: llm.param @gate : tensor<8x4xf32> {{.*}} [0:5, zero:3] [0:4]>]
// TP4: llm.kv_cache @kv layer 0 : !llm.kv_cache<heads 4, dim 2, f32>

// Each KV head twice, the second copy with one query head and one of zeros: padding inside the groups.
// TP8: llm.param @q : tensor<16x2x4xf32> {{.*}} [0:3, zero:1, 3:3, zero:1, 6:3, zero:5] [0:2] [0:4]>]
// TP8: llm.param @bias : tensor<16x2xf32> {{.*}} [6:3, zero:1, 0:3, zero:1, 3:3, zero:5] [0:2]>]
// TP8: llm.param @k : tensor<8x2x4xf32> {{.*}} [0:1, 0:2, 1:2, 2:1, zero:2] [0:2] [0:4]>]
// TP8: llm.param @o : tensor<4x16x2xf32> {{.*}} [0:4] [0:3, zero:1, 3:3, zero:1, 6:3, zero:5] [0:2]>]
// TP8: llm.param @gate : tensor<8x4xf32> {{.*}} [0:5, zero:3] [0:4]>]
// TP8: llm.kv_cache @kv layer 0 : !llm.kv_cache<heads 8, dim 2, f32>

// Two KV heads over four ranks: each is repeated, no query head is padded.
//--- few.mlir
shard.grid @mesh(shape = 1x4)
llm.tensor @tq [8, 4] f32 at 0 bytes 128
llm.tensor @tk [2, 4] f32 at 0 bytes 32
llm.param @q : tensor<8x4xf32> dims ["heads", "hidden"] from [#llm.source<@tq[8, 4] [0:8] [0:4]>]
llm.param @k : tensor<2x4xf32> dims ["kv_heads", "hidden"] from [#llm.source<@tk[2, 4] [0:2] [0:4]>]

// FEW: llm.param @q : tensor<8x4xf32> {{.*}} [0:8] [0:4]>]
// FEW: llm.param @k : tensor<4x4xf32> {{.*}} [0:1, 0:2, 1:1] [0:4]>]

// Three copies of the one KV head are as good as four: the fourth rank holds zeros and reads nothing.
//--- tie.mlir
shard.grid @mesh(shape = 1x4)
llm.tensor @tq [5, 4] f32 at 0 bytes 80
llm.tensor @tk [1, 4] f32 at 0 bytes 16
llm.param @q : tensor<5x4xf32> dims ["heads", "hidden"] from [#llm.source<@tq[5, 4] [0:5] [0:4]>]
llm.param @k : tensor<1x4xf32> dims ["kv_heads", "hidden"] from [#llm.source<@tk[1, 4] [0:1] [0:4]>]

// TIE: llm.param @q : tensor<8x4xf32> {{.*}} [0:5, zero:3] [0:4]>]
// TIE: llm.param @k : tensor<4x4xf32> {{.*}} [0:1, 0:1, 0:1, zero:1] [0:4]>]

//--- errors.mlir
// expected-error @+1 {{expected 'shard.grid @mesh(shape = PPxTP)' in the module}}
module {
}

// -----

// expected-error @+1 {{expected 'shard.grid @mesh(shape = PPxTP)' in the module}}
module {
  shard.grid @mesh(shape = 4)
}

// -----

// expected-error @+1 {{tensor parallel degree 4 is more than the model's 3 query heads; the largest that works is --tp 3}}
module {
  shard.grid @mesh(shape = 1x4)
  llm.tensor @t [3, 4] f32 at 0 bytes 48
  llm.param @q : tensor<3x4xf32> dims ["heads", "hidden"] from [#llm.source<@t[3, 4] [0:3] [0:4]>]
  llm.param @k : tensor<3x4xf32> dims ["kv_heads", "hidden"] from [#llm.source<@t[3, 4] [0:3] [0:4]>]
}

// -----

// expected-error @+1 {{5 query heads are no multiple of 2 KV heads}}
module {
  shard.grid @mesh(shape = 1x2)
  llm.tensor @t [5, 4] f32 at 0 bytes 80
  llm.param @q : tensor<5x4xf32> dims ["heads", "hidden"] from [#llm.source<@t[5, 4] [0:5] [0:4]>]
  llm.param @k : tensor<2x4xf32> dims ["kv_heads", "hidden"] from [#llm.source<@t[5, 4] [0:2] [0:4]>]
}

// -----

// Ranks would take 48 of 192 columns each. Rows, and heads of whole blocks, may be taken.
// expected-error @+1 {{tensor 'blk.0.ffn_down.weight' is Q4_0, and --tp 4 would cut its blocks of 32 elements; the degrees that work are --tp 1, 2, 3, 6}}
module {
  shard.grid @mesh(shape = 1x4)
  llm.tensor @tq [192, 32] q8_0 at 0 bytes 6528
  llm.tensor @to [32, 192] q8_0 at 0 bytes 6528
  llm.tensor @"blk.0.ffn_down.weight" [32, 192] q4_0 at 0 bytes 3456
  llm.param @q : tensor<6x32x32x!llm.quantized<q8_0>> dims ["heads", "head_dim", "hidden"] from [#llm.source<@tq[6, 32, 32] [0:6] [0:32] [0:32]>]
  llm.param @k : tensor<6x32x32x!llm.quantized<q8_0>> dims ["kv_heads", "head_dim", "hidden"] from [#llm.source<@tq[6, 32, 32] [0:6] [0:32] [0:32]>]
  llm.param @o : tensor<32x6x32x!llm.quantized<q8_0>> dims ["hidden", "heads", "head_dim"] from [#llm.source<@to[32, 6, 32] [0:32] [0:6] [0:32]>]
  llm.param @down : tensor<32x192x!llm.quantized<q4_0>> dims ["hidden", "intermediate"] from [#llm.source<@"blk.0.ffn_down.weight"[32, 192] [0:32] [0:192]>]
}

// -----

shard.grid @mesh(shape = 1x2)
llm.tensor @t [5, 4] f32 at 0 bytes 80
llm.param @gate : tensor<5x4xf32> dims ["intermediate", "hidden"] from [#llm.source<@t[5, 4] [0:5] [0:4]>]
// expected-error @+1 {{has dimension 'intermediate' of size 4, other params have 5}}
llm.param @up : tensor<4x4xf32> dims ["intermediate", "hidden"] from [#llm.source<@t[5, 4] [0:4] [0:4]>]

// -----

shard.grid @mesh(shape = 1x2)
llm.tensor @t [5, 4] f32 at 0 bytes 80
// expected-error @+1 {{cannot be padded along dimension 0: it has 2 sources}}
llm.param @gate : tensor<5x4xf32> dims ["intermediate", "hidden"] from [#llm.source<@t[5, 4] [0:2] [0:4]>, #llm.source<@t[5, 4] [2:3] [0:4]>]

// -----

// Sizes that were equal by chance are not after padding: ten KV heads, an intermediate size of four.
shard.grid @mesh(shape = 1x2)
llm.tensor @t [9, 4] f32 at 0 bytes 144
llm.param @q : tensor<9x4xf32> dims ["heads", "hidden"] from [#llm.source<@t[9, 4] [0:9] [0:4]>]
llm.param @k : tensor<3x4xf32> dims ["kv_heads", "hidden"] from [#llm.source<@t[9, 4] [0:3] [0:4]>]
llm.param @gate : tensor<3x4xf32> dims ["intermediate", "hidden"] from [#llm.source<@t[9, 4] [0:3] [0:4]>]
func.func @forward(%x: tensor<?x4xf32>) -> tensor<?x3xf32> {
  %k = llm.linear %x, @k : tensor<?x4xf32> -> tensor<?x3xf32>
  %g = llm.linear %x, @gate : tensor<?x4xf32> -> tensor<?x3xf32>
  // expected-error @+1 {{adds 'tensor<?x10xf32>' and 'tensor<?x4xf32>'}}
  %s = llm.add %k, %g : tensor<?x3xf32>
  return %s : tensor<?x3xf32>
}

// -----

shard.grid @mesh(shape = 1x2)
llm.tensor @t [9, 4] f32 at 0 bytes 144
llm.param @q : tensor<9x4xf32> dims ["heads", "hidden"] from [#llm.source<@t[9, 4] [0:9] [0:4]>]
llm.param @k : tensor<3x4xf32> dims ["kv_heads", "hidden"] from [#llm.source<@t[9, 4] [0:3] [0:4]>]
llm.param @gate : tensor<3x4xf32> dims ["intermediate", "hidden"] from [#llm.source<@t[9, 4] [0:3] [0:4]>]
func.func @forward(%x: tensor<?x4xf32>) -> tensor<?x3xf32> {
  %k = llm.linear %x, @k : tensor<?x4xf32> -> tensor<?x3xf32>
  %g = llm.linear %x, @gate : tensor<?x4xf32> -> tensor<?x3xf32>
  // expected-error @+1 {{multiplies 'tensor<?x10xf32>' and 'tensor<?x4xf32>'}}
  %s = llm.glu silu %k, %g : tensor<?x3xf32>
  return %s : tensor<?x3xf32>
}
