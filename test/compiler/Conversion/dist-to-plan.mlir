// RUN: distc-opt %s -split-input-file -verify-diagnostics -dist-to-plan | FileCheck %s

// Two stages of two ranks; vocabulary 7, padded to 8.
module attributes {llm.model = {context = 64 : i64, family = "llama", hidden = 4 : i64, layers = 2 : i64, name = "tiny", parameters = 99 : i64, tokenizer = "tokenizer.dtok", vocabulary = 7 : i64},
                   llm.limits = {kv_block = 16 : i64, max_batch = 3 : i64, max_sequence = 40 : i64, max_tokens = 2 : i64}, llm.target = "cpu"} {
  shard.grid @mesh(shape = 2x2)
  llm.file @file0 "m.safetensors" size 4096 header 256 hash 5
  llm.file @unused "n.safetensors" size 4096 header 256 hash 6
  llm.tensor @tt [7, 4] f32 in @file0 at 256 bytes 112
  llm.tensor @tn [4] f32 in @file0 at 368 bytes 16
  llm.tensor @tq [8, 4] bf16 in @file0 at 384 bytes 64
  llm.tensor @to [4, 8] f32 in @file0 at 450 bytes 128
  llm.param @table : tensor<4x4xf32> dims ["vocabulary", "hidden"] from [#llm.source<@tt[7, 4] [0:7, zero:1] [0:4]>] sharded [[1], []] {init_scale = 0.5 : f32}
  llm.param @norm : tensor<4xf32> dims ["hidden"] from [#llm.source<@tn[4] [0:4]>] {init = #llm<init ones>}
  llm.param @q : tensor<2x2x4xf32> dims ["heads", "head_dim", "hidden"] from [#llm.source<@tq[4, 2, 4] [0:4] [0:2] [0:4]>] sharded [[1], [], []]
  llm.param @k : tensor<2x2x4xbf16> dims ["kv_heads", "head_dim", "hidden"] from [#llm.source<@tq[4, 2, 4] [0:1, 0:2, 1:1] [0:2] [0:4]>] sharded [[1], [], []]
  llm.param @o : tensor<4x2x2xf32> dims ["hidden", "heads", "head_dim"] from [#llm.source<@to[4, 4, 2] [0:4] [0:4] [0:2]>] sharded [[], [1], []]
  llm.param @ob : tensor<4xf32> dims ["hidden"] from [#llm.source<@tn[4] [0:4]>] first_only
  llm.rope_table @rope [1.0] magnitude 1.25
  llm.kv_cache @layers.0.kv layer 0 sharded : !llm.kv_cache<heads 2, dim 2, f32>
  llm.kv_cache @layers.1.kv layer 1 sharded : !llm.kv_cache<heads 1, dim 2, f32>

  func.func @stage0_decode(%batch: !llm.batch) -> tensor<?xi32> attributes {dist.stage = 0 : i64, llm.regime = "decode"} {
    %e = llm.embedding %batch, @table : tensor<?x4xf32> loc("x")
    %t = dist.all_reduce_start %e over tp sum : tensor<?x4xf32> -> !dist.token<tensor<?x4xf32>> loc("x")
    %x = dist.wait %t : !dist.token<tensor<?x4xf32>> -> tensor<?x4xf32> loc("x")
    %n = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<?x4xf32> loc("n")
    %q = llm.linear %n, @q : tensor<?x4xf32> -> tensor<?x2x2xf32> loc("q")
    %r = llm.rope %q, %batch, @rope half : tensor<?x2x2xf32> loc("r")
    %k = llm.linear %n, @k : tensor<?x4xf32> -> tensor<?x2x2xf32> loc("k")
    llm.kv_append %k, %k, %batch, @layers.0.kv : tensor<?x2x2xf32> loc("kv")
    %a = llm.attention %r, %batch, @layers.0.kv scale 0.5 {window = 8 : i64} : tensor<?x2x2xf32> loc("a")
    %o = llm.linear %a, @o bias @ob : tensor<?x2x2xf32> -> tensor<?x4xf32> loc("o")
    %u = dist.all_reduce_start %o over tp max : tensor<?x4xf32> -> !dist.token<tensor<?x4xf32>> loc("o")
    %os = dist.wait %u : !dist.token<tensor<?x4xf32>> -> tensor<?x4xf32> loc("o")
    %y = llm.add %x, %os : tensor<?x4xf32> loc("y")
    %s0 = dist.send_start %x to 1 over pp : tensor<?x4xf32> -> !dist.token loc("x")
    dist.wait %s0 : !dist.token
    %s1 = dist.send_start %y to 1 over pp : tensor<?x4xf32> -> !dist.token loc("y")
    dist.wait %s1 : !dist.token
    %i = dist.recv_start from 1 over pp : !dist.token<tensor<?xi32>> loc("ids")
    %ids = dist.wait %i : !dist.token<tensor<?xi32>> -> tensor<?xi32> loc("ids")
    return %ids : tensor<?xi32>
  }
  // The first rank of each stage; what a stage does not use it does not declare.
  // CHECK: plan.rank @rank0 producer "distc {{.*}}" target "cpu" passes [] {
  // CHECK-NEXT: plan.model "tiny" family "llama" {context = 64 : i64, hidden = 4 : i64, layers = 2 : i64, parameters = 99 : i64, tokenizer = "tokenizer.dtok", vocabulary = 7 : i64}
  // CHECK-NEXT: plan.mesh {first_layer = 0 : i64, layers = 1 : i64, pp = 2 : i64, rank = 0 : i64, stage = 0 : i64, tp = 2 : i64, tp_index = 0 : i64}
  // CHECK-NEXT: plan.limits {kv_block = 16 : i64, max_batch = 3 : i64, max_sequence = 40 : i64, max_tokens = 2 : i64}
  // Three sequences of three blocks of 16 tokens, keys and values of two heads of two f32: 9 * 2 * 16 * 2 * 2 * 4. Tables: 40 positions,
  // cosine and sine. Mapped: table, norm and bias. Loaded: q (bf16 in the file, f32 here), k (heads repeated) and o (not aligned
  // in the file), at multiples of 256.
  // CHECK-NEXT: plan.ledger {arena = 0 : i64, kv = 4608 : i64, tables = 320 : i64, weights_loaded = 768 : i64, weights_mapped = 96 : i64}
  // CHECK-NEXT: plan.group @tp [0, 1]
  // CHECK-NEXT: plan.group @pp [0, 2]
  // CHECK-NEXT: plan.file @file0 "m.safetensors" size 4096 header 256 hash 5
  // CHECK-NEXT: plan.tensor @tt [7, 4] f32 in @file0 at 256 bytes 112
  // CHECK-NOT: plan.file
  // CHECK: plan.weight @table [4, 4] f32 map at 0 bytes 64 stride 4 copies 1 uniform 5.000000e-01 from [#llm.source<@tt[7, 4] [0:4] [0:4]>]
  // CHECK: plan.weight @norm [4] f32 map at 0 bytes 16 stride 1 copies 2 ones 1.000000e+00 from [#llm.source<@tn[4] [0:4]>]
  // CHECK: plan.weight @q [2, 2, 4] f32 load at 0 bytes 64 stride 8 copies 1 uniform 1.000000e+00 from [#llm.source<@tq[4, 2, 4] [0:2] [0:2] [0:4]>]
  // CHECK: plan.weight @k [2, 2, 4] bf16 load at 256 bytes 32 stride 8 copies 2 uniform 1.000000e+00 from [#llm.source<@tq[4, 2, 4] [0:1, 0:1] [0:2] [0:4]>]
  // CHECK: plan.weight @ob [4] f32 map at 0 bytes 16 stride 1 copies 1 uniform 1.000000e+00 from [#llm.source<@tn[4] [0:4]>]
  // CHECK: plan.weight @o [4, 2, 2] f32 load at 512 bytes 64 stride 4 copies 1 uniform 1.000000e+00 from [#llm.source<@to[4, 4, 2] [0:4] [0:2] [0:2]>]
  // CHECK-NEXT: plan.kv_pool block 16 blocks 9 per_sequence 3
  // CHECK-NEXT: plan.rope_table @rope [1.000000e+00] magnitude 1.250000e+00
  // CHECK-NEXT: plan.kv_cache @layers.0.kv layer 0 heads 2 dim 2 f32 at 0 bytes 4608
  // CHECK-NEXT: plan.program decode attributes {arena_bytes = 0 : i64, events = 6 : i64, max_outputs = 3 : i64, max_sequences = 3 : i64, max_tokens = 3 : i64, micro_batches = 1 : i64, queues = 2 : i64} {
  // Dimensions are those over all ranks, elements and bytes are the rank's, for the largest batch.
  // CHECK-NEXT: %[[E:.*]] = plan.buffer "x" tokens [4] partial : f32, 4 elements, 48 bytes{{$}}
  // CHECK-NEXT: %[[X:.*]] = plan.buffer "x" tokens [4] replicated : f32, 4 elements, 48 bytes{{$}}
  // CHECK-NEXT: %[[N:.*]] = plan.buffer "n" tokens [4] replicated
  // CHECK-NEXT: %[[Q:.*]] = plan.buffer "q" tokens [4, 2] split 1 : f32, 4 elements, 48 bytes{{$}}
  // CHECK-NEXT: %[[R:.*]] = plan.buffer "r" tokens [4, 2] split 1
  // CHECK-NEXT: %[[K:.*]] = plan.buffer "k" tokens [4, 2] split 1
  // CHECK-NEXT: %[[A:.*]] = plan.buffer "a" tokens [4, 2] split 1
  // CHECK-NEXT: %[[O:.*]] = plan.buffer "o" tokens [4] partial
  // CHECK-NEXT: %[[OS:.*]] = plan.buffer "o" tokens [4] replicated
  // CHECK-NEXT: %[[Y:.*]] = plan.buffer "y" tokens [4] replicated
  // CHECK-NEXT: %[[I:.*]] = plan.buffer "ids" tokens [] replicated : i32, 1 elements, 12 bytes{{$}}
  // Each change of queue has one event, waited for once by each queue.
  // CHECK-NEXT: plan.embedding 0 : @table from 0 -> %[[E]] signals 0 "x"
  // CHECK-NEXT: plan.all_reduce 1 : @tp number 0 sum %[[E]] -> %[[X]] queue 1 waits [0] signals 1 "x"
  // CHECK-NEXT: plan.rms_norm 2 : %[[X]], @norm eps 9.99999974E-6 -> %[[N]] waits [1] "n"
  // CHECK-NEXT: plan.linear 3 : %[[N]], @q -> %[[Q]] "q"
  // CHECK-NEXT: plan.rope 4 : %[[Q]], @rope half heads 2 dim 2 -> %[[R]] "r"
  // CHECK-NEXT: plan.linear 5 : %[[N]], @k -> %[[K]] "k"
  // CHECK-NEXT: plan.kv_append 6 : %[[K]], %[[K]] -> @layers.0.kv "kv"
  // CHECK-NEXT: plan.attention 7 : %[[R]], @layers.0.kv heads 2 scale 5.000000e-01 window 8 -> %[[A]] "a"
  // CHECK-NEXT: plan.linear 8 : %[[A]], @o bias @ob -> %[[O]] signals 2 "o"
  // CHECK-NEXT: plan.all_reduce 9 : @tp number 1 max %[[O]] -> %[[OS]] queue 1 waits [2] signals 3 "o"
  // CHECK-NEXT: plan.add 10 : %[[X]], %[[OS]] -> %[[Y]] waits [3] signals 4 "y"
  // Sends are numbered by peer, and receives by peer.
  // CHECK-NEXT: plan.send 11 : @pp number 0 %[[X]] to 1 queue 1 "x"
  // CHECK-NEXT: plan.send 12 : @pp number 1 %[[Y]] to 1 queue 1 waits [4] "y"
  // CHECK-NEXT: plan.recv 13 : @pp number 0 from 1 -> %[[I]] queue 1 signals 5 "ids"
  // CHECK-NEXT: plan.emit_ids 14 : %[[I]] waits [5] "ids"
  // CHECK-NEXT: }

  func.func @stage1_decode(%batch: !llm.batch) -> tensor<?x4xf32> attributes {dist.stage = 1 : i64, llm.regime = "decode"} {
    %r = dist.recv_start from 0 over pp : !dist.token<tensor<?x4xf32>> loc("x")
    %x = dist.wait %r : !dist.token<tensor<?x4xf32>> -> tensor<?x4xf32> loc("x")
    %k = llm.linear %x, @q : tensor<?x4xf32> -> tensor<?x2x2xf32> loc("k")
    %g = llm.glu relu %k, %k : tensor<?x2x2xf32> loc("g")
    %a = llm.attention %g, %batch, @layers.1.kv scale 0.5 : tensor<?x2x2xf32> loc("a")
    %l = llm.linear %x, @table : tensor<?x4xf32> -> tensor<?x4xf32> loc("logits")
    %c = llm.top_candidates %l, %batch count 2 vocabulary 7 : tensor<?x4xf32> -> tensor<?x4x2xf32> loc("c")
    %t = dist.all_gather_start %c over tp : tensor<?x4x2xf32> -> !dist.token<tensor<?x4x2xf32>> loc("c")
    %w = dist.wait %t : !dist.token<tensor<?x4x2xf32>> -> tensor<?x4x2xf32> loc("c")
    %i = llm.sample %w, %batch : tensor<?x4x2xf32> -> tensor<?xi32> loc("ids")
    %s = dist.send_start %i to 0 over pp : tensor<?xi32> -> !dist.token loc("ids")
    dist.wait %s : !dist.token
    return %l : tensor<?x4xf32>
  }
  // A batch of decode holds max_batch tokens, one of prefill max_tokens, with outputs among them.
  func.func @stage1_prefill(%batch: !llm.batch) -> tensor<?x4xf32> attributes {dist.stage = 1 : i64, llm.regime = "prefill"} {
    %r = dist.recv_start from 0 over pp : !dist.token<tensor<?x4xf32>> loc("x")
    %x = dist.wait %r : !dist.token<tensor<?x4xf32>> -> tensor<?x4xf32> loc("x")
    %o = llm.select_outputs %x, %batch : tensor<?x4xf32> loc("out")
    %l = llm.linear %o, @table : tensor<?x4xf32> -> tensor<?x4xf32>
    %c = llm.top_candidates %l, %batch count 2 vocabulary 7 : tensor<?x4xf32> -> tensor<?x4x2xf32> loc("c")
    return %l : tensor<?x4xf32>
  }
  // CHECK: plan.rank @rank2
  // CHECK: plan.mesh {first_layer = 1 : i64, layers = 1 : i64, pp = 2 : i64, rank = 2 : i64, stage = 1 : i64, tp = 2 : i64, tp_index = 0 : i64}
  // CHECK: plan.ledger {arena = 0 : i64, kv = 2304 : i64, tables = 0 : i64
  // CHECK: plan.group @tp [2, 3]
  // CHECK-NEXT: plan.group @pp [0, 2]
  // CHECK-NOT: @norm
  // CHECK: plan.kv_cache @layers.1.kv layer 1 heads 1 dim 2 f32 at 0 bytes 2304
  // CHECK-NOT: plan.rope_table
  // CHECK: plan.program decode attributes {{{.*}}max_tokens = 3 : i64
  // CHECK: plan.buffer "logits" tokens [8] split 1 : f32, 4 elements
  // CHECK: %[[C:.*]] = plan.buffer "c" tokens [4, 2] split 0 : f32, 8 elements, 96 bytes{{$}}
  // CHECK: %[[G:.*]] = plan.buffer "c" tokens [4, 2] replicated : f32, 8 elements, 192 bytes {times = 2 : i64}
  // CHECK: plan.recv 0 : @pp number 0 from 0 ->
  // CHECK: plan.glu 2 : relu
  // CHECK: plan.top_candidates 5 : %{{.*}} ids 0 valid 4 count 2 -> %[[C]]
  // CHECK: plan.all_gather 6 : @tp number 0 %[[C]] -> %[[G]] queue 1
  // CHECK: plan.sample 7 : %[[G]] shards 2 count 2 ->
  // CHECK: plan.send 8 : @pp number 0 %{{.*}} to 0 queue 1
  // CHECK: plan.emit_logits 9 : %{{.*}} columns 0 valid 4 "logits"
  // Ids of instructions go on, numbers of messages begin again.
  // CHECK: plan.program prefill attributes {{{.*}}max_outputs = 2 : i64, max_sequences = 2 : i64, max_tokens = 2 : i64
  // CHECK: plan.buffer "x" tokens [4] replicated : f32, 4 elements, 32 bytes
  // CHECK: plan.buffer "out" outputs [4] replicated : f32, 4 elements, 32 bytes
  // CHECK: plan.buffer "value" outputs [8] split 1
  // CHECK: plan.buffer "c" outputs [4, 2] split 0 : f32, 8 elements, 64 bytes
  // CHECK: plan.recv 10 : @pp number 0 from 0 ->
  // CHECK: plan.select_rows 11 :
  // CHECK: plan.linear 12 : {{.*}} "linear"
}

// -----

// Scattered rows: a buffer is ceil(rows / 3) of them, one received as well, and gathered they are the whole again.
module attributes {llm.model = {context = 64 : i64, family = "llama", hidden = 4 : i64, layers = 2 : i64, name = "tiny", parameters = 99 : i64, vocabulary = 6 : i64},
                   llm.limits = {kv_block = 16 : i64, max_batch = 3 : i64, max_sequence = 40 : i64, max_tokens = 7 : i64}, llm.target = "cpu"} {
  shard.grid @mesh(shape = 2x3)
  llm.tensor @tt [6, 4] f32 at 0 bytes 96
  llm.tensor @tn [4] f32 at 0 bytes 16
  llm.param @table : tensor<2x4xf32> dims ["vocabulary", "hidden"] from [#llm.source<@tt[6, 4] [0:6] [0:4]>] sharded [[1], []]
  llm.param @norm : tensor<4xf32> dims ["hidden"] from [#llm.source<@tn[4] [0:4]>]
  llm.kv_cache @layers.0.kv layer 0 sharded : !llm.kv_cache<heads 1, dim 2, f32>

  // CHECK: plan.rank @rank0
  // CHECK: %[[E:.*]] = plan.buffer "e" tokens [4] partial : f32, 4 elements, 112 bytes{{$}}
  // CHECK-NEXT: %[[X:.*]] = plan.buffer "x" tokens [4] split 0 : f32, 4 elements, 48 bytes {shards = 3 : i64}
  // CHECK-NEXT: %[[N:.*]] = plan.buffer "n" tokens [4] split 0 : f32, 4 elements, 48 bytes {shards = 3 : i64}
  // CHECK-NEXT: %[[Y:.*]] = plan.buffer "y" tokens [4] split 0 : f32, 4 elements, 48 bytes {shards = 3 : i64}
  // CHECK: plan.embedding 0 : @table from 0 -> %[[E]] signals 0 "e"
  // CHECK-NEXT: plan.reduce_scatter 1 : @tp number 0 sum %[[E]] -> %[[X]] queue 1 waits [0] signals 1 "x"
  // CHECK-NEXT: plan.rms_norm 2 : %[[X]], @norm {{.*}} -> %[[N]] waits [1]
  // CHECK-NEXT: plan.add 3 : %[[X]], %[[N]] -> %[[Y]] signals 2 "y"
  // CHECK-NEXT: plan.send 4 : @pp number 0 %[[Y]] to 1 queue 1 waits [2]
  func.func @stage0_prefill(%batch: !llm.batch) attributes {dist.stage = 0 : i64, llm.regime = "prefill"} {
    %e = llm.embedding %batch, @table : tensor<?x4xf32> loc("e")
    %t = dist.reduce_scatter_start %e over tp sum : tensor<?x4xf32> -> !dist.token<tensor<?x4xf32, #shard<axisarray[[1]]>>> loc("x")
    %x = dist.wait %t : !dist.token<tensor<?x4xf32, #shard<axisarray[[1]]>>> -> tensor<?x4xf32, #shard<axisarray[[1]]>> loc("x")
    %n = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<?x4xf32, #shard<axisarray[[1]]>> loc("n")
    %y = llm.add %x, %n : tensor<?x4xf32, #shard<axisarray[[1]]>> loc("y")
    %s = dist.send_start %y to 1 over pp : tensor<?x4xf32, #shard<axisarray[[1]]>> -> !dist.token loc("y")
    dist.wait %s : !dist.token
    return
  }
  // CHECK: plan.rank @rank3
  // CHECK: %[[Y:.*]] = plan.buffer "y" tokens [4] split 0 : f32, 4 elements, 48 bytes {shards = 3 : i64}
  // CHECK-NEXT: %[[A:.*]] = plan.buffer "y" tokens [4] replicated : f32, 4 elements, 112 bytes{{$}}
  // CHECK-NEXT: %[[O:.*]] = plan.buffer "o" outputs [4] replicated : f32, 4 elements, 48 bytes{{$}}
  // CHECK: plan.recv 0 : @pp number 0 from 0 -> %[[Y]] queue 1 "y"
  // CHECK-NEXT: plan.all_gather 1 : @tp number 0 %[[Y]] -> %[[A]] queue 1 signals 0 "y"
  // CHECK-NEXT: plan.select_rows 2 : %[[A]] -> %[[O]] waits [0] "o"
  func.func @stage1_prefill(%batch: !llm.batch) attributes {dist.stage = 1 : i64, llm.regime = "prefill"} {
    %r = dist.recv_start from 0 over pp : !dist.token<tensor<?x4xf32, #shard<axisarray[[1]]>>> loc("y")
    %y = dist.wait %r : !dist.token<tensor<?x4xf32, #shard<axisarray[[1]]>>> -> tensor<?x4xf32, #shard<axisarray[[1]]>> loc("y")
    %t = dist.all_gather_start %y over tp : tensor<?x4xf32, #shard<axisarray[[1]]>> -> !dist.token<tensor<?x4xf32>> loc("y")
    %a = dist.wait %t : !dist.token<tensor<?x4xf32>> -> tensor<?x4xf32> loc("y")
    %o = llm.select_outputs %a, %batch : tensor<?x4xf32> loc("o")
    return
  }
}

// -----

// A GPU: types and bytes are those of the values, nothing is mapped, and caches smaller than 16 bytes lie apart.
module attributes {llm.model = {context = 64 : i64, family = "llama", hidden = 4 : i64, layers = 2 : i64, name = "tiny", parameters = 99 : i64, vocabulary = 8 : i64},
                   llm.limits = {kv_block = 1 : i64, max_batch = 1 : i64, max_sequence = 1 : i64, max_tokens = 3 : i64}, llm.target = "sm_90"} {
  shard.grid @mesh(shape = 1x1)
  llm.file @file0 "m.safetensors" size 4096 header 256 hash 5
  llm.tensor @tt [8, 4] bf16 in @file0 at 256 bytes 64
  llm.tensor @tn [4] f32 in @file0 at 320 bytes 16
  llm.param @table : tensor<8x4xbf16> dims ["vocabulary", "hidden"] from [#llm.source<@tt[8, 4] [0:8] [0:4]>]
  llm.param @norm : tensor<4xf32> dims ["hidden"] from [#llm.source<@tn[4] [0:4]>]
  llm.param @k : tensor<1x2x4xbf16> dims ["kv_heads", "head_dim", "hidden"] from [#llm.source<@tt[4, 2, 4] [0:1] [0:2] [0:4]>]
  llm.kv_cache @layers.0.kv layer 0 : !llm.kv_cache<heads 1, dim 2, bf16>
  llm.kv_cache @layers.1.kv layer 1 : !llm.kv_cache<heads 1, dim 2, f16>

  // CHECK: plan.rank @rank0 producer "distc {{.*}}" target "sm_90"
  // CHECK: plan.ledger {arena = 0 : i64, kv = 24 : i64, tables = 0 : i64, weights_loaded = 768 : i64, weights_mapped = 0 : i64}
  // CHECK: plan.weight @table [8, 4] bf16 load at 0 bytes 64
  // CHECK: plan.weight @norm [4] f32 load at 256 bytes 16
  // CHECK: plan.weight @k [1, 2, 4] bf16 load at 512 bytes 16
  // CHECK: plan.kv_cache @layers.0.kv layer 0 heads 1 dim 2 bf16 at 0 bytes 8
  // CHECK: plan.kv_cache @layers.1.kv layer 1 heads 1 dim 2 f16 at 16 bytes 8
  // CHECK: plan.buffer "x" tokens [4] replicated : bf16, 4 elements, 24 bytes{{$}}
  // CHECK: plan.buffer "n" tokens [4] replicated : bf16, 4 elements, 24 bytes{{$}}
  // CHECK: plan.buffer "k" tokens [1, 2] replicated : bf16, 2 elements, 12 bytes{{$}}
  // CHECK: plan.buffer "h" outputs [4] replicated : bf16, 4 elements, 8 bytes{{$}}
  // CHECK: plan.buffer "logits" outputs [8] replicated : f32, 8 elements, 32 bytes{{$}}
  // CHECK: plan.buffer "c" outputs [4, 2] replicated : f32, 8 elements, 32 bytes{{$}}
  // CHECK: plan.buffer "ids" outputs [] replicated : i32, 1 elements, 4 bytes{{$}}
  func.func @stage0_prefill(%batch: !llm.batch) -> (tensor<?xi32>, tensor<?x8xf32>) attributes {dist.stage = 0 : i64, llm.regime = "prefill"} {
    %x = llm.embedding %batch, @table : tensor<?x4xbf16> loc("x")
    %n = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<?x4xbf16> loc("n")
    %k = llm.linear %n, @k : tensor<?x4xbf16> -> tensor<?x1x2xbf16> loc("k")
    llm.kv_append %k, %k, %batch, @layers.0.kv : tensor<?x1x2xbf16>
    llm.kv_append %k, %k, %batch, @layers.1.kv : tensor<?x1x2xbf16>
    %h = llm.select_outputs %n, %batch : tensor<?x4xbf16> loc("h")
    %l = llm.linear %h, @table : tensor<?x4xbf16> -> tensor<?x8xf32> loc("logits")
    %c = llm.top_candidates %l, %batch count 2 vocabulary 8 : tensor<?x8xf32> -> tensor<?x4x2xf32> loc("c")
    %i = llm.sample %c, %batch : tensor<?x4x2xf32> -> tensor<?xi32> loc("ids")
    return %i, %l : tensor<?xi32>, tensor<?x8xf32>
  }
}

// -----

// Sums of squares are f32, and a share of them until they are reduced; scaled and bent rows lie as they did.
module attributes {llm.model = {context = 64 : i64, family = "llama", hidden = 4 : i64, layers = 1 : i64, name = "tiny", parameters = 99 : i64, vocabulary = 8 : i64},
                   llm.limits = {kv_block = 1 : i64, max_batch = 1 : i64, max_sequence = 1 : i64, max_tokens = 3 : i64}, llm.target = "sm_90"} {
  shard.grid @mesh(shape = 1x2)
  llm.tensor @tt [8, 4] bf16 at 0 bytes 64
  llm.tensor @tn [8] f32 at 0 bytes 32
  llm.param @table : tensor<8x4xbf16> dims ["vocabulary", "hidden"] from [#llm.source<@tt[8, 4] [0:8] [0:4]>]
  llm.param @q : tensor<2x2x4xbf16> dims ["heads", "head_dim", "hidden"] from [#llm.source<@tt[4, 2, 4] [0:4] [0:2] [0:4]>] sharded [[1], [], []]
  llm.param @norm : tensor<2x2xf32> dims ["heads", "head_dim"] from [#llm.source<@tn[4, 2] [0:4] [0:2]>] sharded [[1], []]
  // CHECK: plan.rank @rank0
  // CHECK: %[[X:.*]] = plan.buffer "x" tokens [4] replicated : bf16
  // CHECK-NEXT: %[[Y:.*]] = plan.buffer "y" tokens [4] replicated : bf16
  // CHECK-NEXT: %[[Q:.*]] = plan.buffer "q" tokens [4, 2] split 1 : bf16
  // CHECK-NEXT: %[[P:.*]] = plan.buffer "p" tokens [1] partial : f32, 1 elements, 12 bytes
  // CHECK-NEXT: %[[S:.*]] = plan.buffer "s" tokens [1] replicated : f32, 1 elements, 12 bytes
  // CHECK-NEXT: %[[N:.*]] = plan.buffer "n" tokens [4, 2] split 1 : bf16
  // CHECK-NEXT: %[[C:.*]] = plan.buffer "c" tokens [4, 2] split 1 : bf16
  // CHECK: plan.scale 1 : %[[X]] by 2.000000e+00 -> %[[Y]] "y"
  // CHECK-NEXT: plan.linear 2 : %[[Y]], @q -> %[[Q]] "q"
  // CHECK-NEXT: plan.square_sum 3 : %[[Q]] -> %[[P]] signals 0 "p"
  // CHECK-NEXT: plan.all_reduce 4 : @tp number 0 sum %[[P]] -> %[[S]] queue 1 waits [0] signals 1 "s"
  // CHECK-NEXT: plan.rms_norm 5 : %[[Q]], @norm eps 9.99999974E-6 offset 1.000000e+00 squares %[[S]] column 0 of 8 -> %[[N]] waits [1] "n"
  // CHECK-NEXT: plan.soft_cap 6 : %[[N]] at 3.000000e+00 -> %[[C]] "c"
  func.func @stage0_prefill(%batch: !llm.batch) attributes {dist.stage = 0 : i64, llm.regime = "prefill"} {
    %x = llm.embedding %batch, @table : tensor<?x4xbf16> loc("x")
    %y = llm.scale %x by 2.0 : tensor<?x4xbf16> loc("y")
    %q = llm.linear %y, @q : tensor<?x4xbf16> -> tensor<?x2x2xbf16> loc("q")
    %p = llm.square_sum %q : tensor<?x2x2xbf16> -> tensor<?x1xf32> loc("p")
    %t = dist.all_reduce_start %p over tp sum : tensor<?x1xf32> -> !dist.token<tensor<?x1xf32>> loc("s")
    %s = dist.wait %t : !dist.token<tensor<?x1xf32>> -> tensor<?x1xf32> loc("s")
    %n = llm.rms_norm %q, @norm eps 1.0e-5 squares %s : tensor<?x1xf32> {elements = 8 : i64, offset = 1.0 : f32} : tensor<?x2x2xbf16> loc("n")
    %c = llm.soft_cap %n at 3.0 : tensor<?x2x2xbf16> loc("c")
    return
  }
}

// -----

// expected-error @+1 {{expected 'shard.grid @mesh(shape = PPxTP)' in the module}}
module {
}

// -----

// expected-error @+1 {{expected attributes llm.model and llm.limits}}
module {
  shard.grid @mesh(shape = 1x1)
}

// -----

module attributes {llm.model = {context = 64 : i64, family = "llama", hidden = 4 : i64, layers = 2 : i64, name = "tiny", parameters = 99 : i64, vocabulary = 7 : i64},
                   llm.limits = {kv_block = 16 : i64, max_batch = 3 : i64, max_sequence = 40 : i64, max_tokens = 2 : i64}} {
  shard.grid @mesh(shape = 1x1)
  // expected-error @+1 {{expected an attribute llm.regime and one argument of type !llm.batch}}
  func.func @stage0(%batch: !llm.batch) attributes {dist.stage = 0 : i64} {
    return
  }
}

// -----

module attributes {llm.model = {context = 64 : i64, family = "llama", hidden = 4 : i64, layers = 2 : i64, name = "tiny", parameters = 99 : i64, vocabulary = 7 : i64},
                   llm.limits = {kv_block = 16 : i64, max_batch = 3 : i64, max_sequence = 40 : i64, max_tokens = 2 : i64}} {
  shard.grid @mesh(shape = 1x1)
  // expected-error @+1 {{expected an attribute llm.regime and one argument of type !llm.batch}}
  func.func @stage0(%batch: !llm.batch, %x: tensor<?x4xf32>) attributes {dist.stage = 0 : i64, llm.regime = "decode"} {
    return
  }
}

// -----

module attributes {llm.model = {context = 64 : i64, family = "llama", hidden = 4 : i64, layers = 2 : i64, name = "tiny", parameters = 99 : i64, vocabulary = 7 : i64},
                   llm.limits = {kv_block = 16 : i64, max_batch = 3 : i64, max_sequence = 40 : i64, max_tokens = 2 : i64}} {
  shard.grid @mesh(shape = 1x1)
  func.func @stage0(%batch: !llm.batch) attributes {dist.stage = 0 : i64, llm.regime = "decode"} {
    %r = dist.recv_start from 0 over pp : !dist.token<tensor<?x4xf32>>
    %x = dist.wait %r : !dist.token<tensor<?x4xf32>> -> tensor<?x4xf32>
    // expected-error @+1 {{'llm.layer' op has no plan instruction}}
    %y = llm.layer 0 %x : tensor<?x4xf32>
    return
  }
}

// -----

// A mixture of two experts on two ranks: routes are whole, what experts return is split or partial as in an MLP.
module attributes {llm.model = {context = 64 : i64, family = "mixtral", hidden = 4 : i64, layers = 1 : i64, name = "tiny", parameters = 99 : i64, vocabulary = 6 : i64},
                   llm.limits = {kv_block = 16 : i64, max_batch = 3 : i64, max_sequence = 40 : i64, max_tokens = 7 : i64}, llm.target = "cpu"} {
  shard.grid @mesh(shape = 1x2)
  llm.tensor @t0 [6, 4] bf16 at 0 bytes 48
  llm.tensor @t1 [6, 4] bf16 at 0 bytes 48
  llm.tensor @te [6, 4] f32 at 0 bytes 96
  llm.tensor @tr [2, 4] f32 at 0 bytes 32
  llm.param @table : tensor<3x4xf32> dims ["vocabulary", "hidden"] from [#llm.source<@te[6, 4] [0:6] [0:4]>] sharded [[1], []]
  llm.param @router : tensor<2x4xf32> dims ["experts", "hidden"] from [#llm.source<@tr[2, 4] [0:2] [0:4]>]
  llm.param @gate : tensor<2x3x4xbf16> dims ["experts", "intermediate", "hidden"] from [#llm.source<@t0[1, 6, 4] [0:1] [0:6] [0:4]>, #llm.source<@t1[1, 6, 4] [0:1] [0:6] [0:4]>] sharded [[], [1], []]
  llm.param @down : tensor<2x4x3xbf16> dims ["experts", "hidden", "intermediate"] from [#llm.source<@t0[1, 4, 6] [0:1] [0:4] [0:6]>, #llm.source<@t1[1, 4, 6] [0:1] [0:4] [0:6]>] sharded [[], [], [1]]

  // CHECK: plan.weight @router [2, 4] f32 map at 0 bytes 32 stride 4 copies 2
  // CHECK: plan.weight @gate [2, 3, 4] bf16 load at 0 bytes 48 stride 12 copies 1 uniform 1.000000e+00 from [#llm.source<@t0[1, 6, 4] [0:1] [0:3] [0:4]>, #llm.source<@t1[1, 6, 4] [0:1] [0:3] [0:4]>]
  // CHECK: %[[X:.*]] = plan.buffer "x" tokens [4] partial
  // CHECK: %[[Z:.*]] = plan.buffer "z" tokens [2] replicated : f32, 2 elements
  // CHECK-NEXT: %[[R:.*]] = plan.buffer "r" tokens [2, 2] replicated : f32, 4 elements
  // CHECK-NEXT: %[[G:.*]] = plan.buffer "g" tokens [2, 6] split 2 : f32, 6 elements
  // CHECK-NEXT: %[[D:.*]] = plan.buffer "d" tokens [2, 4] partial : f32, 8 elements
  // CHECK-NEXT: %[[Y:.*]] = plan.buffer "y" tokens [4] partial : f32, 4 elements
  // CHECK: plan.linear 1 : %[[X]], @router -> %[[Z]] "z"
  // CHECK-NEXT: plan.route 2 : %[[Z]] count 2 normalize -> %[[R]] "r"
  // CHECK-NEXT: plan.expert_linear 3 : %[[X]], %[[R]], @gate -> %[[G]] "g"
  // CHECK-NEXT: plan.expert_linear 4 : %[[G]], %[[R]], @down -> %[[D]] "d"
  // CHECK-NEXT: plan.combine 5 : %[[D]], %[[R]] -> %[[Y]] "y"
  func.func @decode(%batch: !llm.batch) attributes {dist.stage = 0 : i64, llm.regime = "decode"} {
    %x = llm.embedding %batch, @table : tensor<?x4xf32> loc("x")
    %z = llm.linear %x, @router : tensor<?x4xf32> -> tensor<?x2xf32> loc("z")
    %r = llm.route %z count 2 normalize : tensor<?x2xf32> -> tensor<?x2x2xf32> loc("r")
    %g = llm.expert_linear %x, %r, @gate : tensor<?x4xf32>, tensor<?x2x2xf32> -> tensor<?x2x3xf32> loc("g")
    %d = llm.expert_linear %g, %r, @down : tensor<?x2x3xf32>, tensor<?x2x2xf32> -> tensor<?x2x4xf32> loc("d")
    %y = llm.combine %d, %r : tensor<?x2x4xf32>, tensor<?x2x2xf32> -> tensor<?x4xf32> loc("y")
    return
  }
}
