// RUN: distc-opt %s -split-input-file -verify-diagnostics

// Params --------------------------------------------------------------------------------------------------------------

llm.tensor @w [12, 8] bf16 at 0 bytes 192
// expected-error @+1 {{dimension 0: the sources have 3, the type 4}}
llm.param @q : tensor<4x4x8xbf16> dims ["heads", "head_dim", "hidden"] from [#llm.source<@w[3, 4, 8] [0:3] [0:4] [0:8]>]

// -----

llm.tensor @w [12, 8] bf16 at 0 bytes 192
// expected-error @+1 {{expected a quantized type, got bf16}}
llm.param @q : tensor<12x8x!llm.quantized<bf16>> dims ["heads", "hidden"] from [#llm.source<@w[12, 8] [0:12] [0:8]>]

// -----

// A split dimension must be a part of the whole.
llm.tensor @w [12, 8] bf16 at 0 bytes 192
// expected-error @+1 {{dimension 0: the sources have 12, the type 5}}
llm.param @q : tensor<5x8xbf16> dims ["intermediate", "hidden"] from [#llm.source<@w[12, 8] [0:12] [0:8]>] sharded [[1], []]

// -----

llm.tensor @w [12, 8] bf16 at 0 bytes 192
// expected-error @+1 {{dimension 0: the sources have 12, the type 0}}
llm.param @q : tensor<0x8xbf16> dims ["intermediate", "hidden"] from [#llm.source<@w[12, 8] [0:12] [0:8]>] sharded [[1], []]

// -----

llm.tensor @w [12, 8] bf16 at 0 bytes 192
// expected-error @+1 {{is sharded along 3 dimensions, expected at most 2}}
llm.param @q : tensor<12x8xbf16> dims ["intermediate", "hidden"] from [#llm.source<@w[12, 8] [0:12] [0:8]>] sharded [[], [], [1]]

// -----

llm.tensor @w [12, 8] bf16 at 0 bytes 192
// expected-error @+1 {{expected a static shape, got 'tensor<?x8xbf16>'}}
llm.param @q : tensor<?x8xbf16> dims ["intermediate", "hidden"] from [#llm.source<@w[12, 8] [0:12] [0:8]>]

// -----

llm.tensor @w [12, 8] bf16 at 0 bytes 192
// expected-error @+1 {{expected a name for each of 2 dimensions, got 1}}
llm.param @q : tensor<12x8xbf16> dims ["intermediate"] from [#llm.source<@w[12, 8] [0:12] [0:8]>]

// -----

// expected-error @+1 {{expected at least one source}}
llm.param @q : tensor<12x8xbf16> dims ["intermediate", "hidden"] from []

// -----

llm.tensor @w [12, 8] bf16 at 0 bytes 192
// expected-error @+1 {{source @w has 3 dimensions, expected 2}}
llm.param @q : tensor<12x8xbf16> dims ["intermediate", "hidden"] from [#llm.source<@w[3, 4, 8] [0:3] [0:4] [0:8]>]

// -----

llm.tensor @w [12, 8] bf16 at 0 bytes 192
llm.tensor @v [12, 7] bf16 at 0 bytes 168
// expected-error @+1 {{source @v differs from the first in a dimension after 0}}
llm.param @q : tensor<24x8xbf16> dims ["intermediate", "hidden"] from [#llm.source<@w[12, 8] [0:12] [0:8]>, #llm.source<@v[12, 7] [0:12] [0:7]>]

// -----

// expected-error @+1 {{refers to tensor @absent, which does not exist}}
llm.param @q : tensor<8xf32> dims ["hidden"] from [#llm.source<@absent[8] [0:8]>]

// -----

llm.tensor @w [12, 8] bf16 at 0 bytes 192
// expected-error @+1 {{reads tensor @w of 96 elements as a view of 104}}
llm.param @q : tensor<13x8xbf16> dims ["intermediate", "hidden"] from [#llm.source<@w[13, 8] [0:13] [0:8]>]

// -----

// expected-error @+1 {{slice 0 of @w: segment 2:2 is outside the dimension of size 3}}
llm.param @q : tensor<2x8xbf16> dims ["heads", "hidden"] from [#llm.source<@w[3, 8] [2:2] [0:8]>]

// -----

// expected-error @+1 {{slice 1 of @w: segment 0:0 is outside the dimension of size 8}}
llm.param @q : tensor<3x8xbf16> dims ["heads", "hidden"] from [#llm.source<@w[3, 8] [0:3] [0:0]>]

// -----

// expected-error @+1 {{slices of @w: expected one for each of 2 dimensions of the view, got 1}}
llm.param @q : tensor<3x8xbf16> dims ["heads", "hidden"] from [#llm.source<@w[3, 8] [0:3]>]

// -----

// expected-error @+1 {{slices of @w: 2 dimensions of the view come last, expected fewer than its 2}}
llm.param @q : tensor<3x8xbf16> dims ["heads", "hidden"] from [#llm.source<@w[3, 8] transposed 2 [0:3] [0:8]>]

// -----

// expected-error @+1 {{expected at least one head and one element, got 0 and 4}}
llm.kv_cache @kv layer 0 : !llm.kv_cache<heads 0, dim 4, f32>

// -----

// A plan holds floats of f32, f16 and bf16.
// expected-error @+1 {{expected elements of f32, f16 or bf16, got 'i8'}}
llm.kv_cache @kv layer 0 : !llm.kv_cache<heads 2, dim 4, i8>

// -----

llm.tensor @w [8] f32 at 0 bytes 32
// expected-error @+1 {{'type' failed to satisfy constraint}}
llm.param @norm : tensor<8xf64> dims ["hidden"] from [#llm.source<@w[8] [0:8]>]

// -----

// Programs ------------------------------------------------------------------------------------------------------------

func.func @no_table(%batch: !llm.batch, %x: tensor<?x2x4xf32>) -> tensor<?x2x4xf32> {
  // expected-error @+1 {{refers to @rope, which does not exist}}
  %y = llm.rope %x, %batch, @rope half : tensor<?x2x4xf32>
  return %y : tensor<?x2x4xf32>
}

// -----

llm.rope_table @rope [1.0, 0.1] magnitude 1.0
func.func @wrong_kind(%batch: !llm.batch, %x: tensor<?x2x4xf32>) {
  // expected-error @+1 {{refers to @rope, expected a 'llm.kv_cache', got a 'llm.rope_table'}}
  llm.kv_append %x, %x, %batch, @rope : tensor<?x2x4xf32>
  return
}

// -----

llm.rope_table @rope [1.0, 0.1] magnitude 1.0
func.func @heads(%batch: !llm.batch, %x: tensor<?x8x2xf32>) -> tensor<?x8x2xf32> {
  // expected-error @+1 {{expected heads of at least 4 elements, got 'tensor<?x8x2xf32>'}}
  %y = llm.rope %x, %batch, @rope half : tensor<?x8x2xf32>
  return %y : tensor<?x8x2xf32>
}

// -----

llm.tensor @n [8] f32 at 0 bytes 32
llm.param @norm : tensor<8xf32> dims ["hidden"] from [#llm.source<@n[8] [0:8]>]
llm.param @half : tensor<4xf32> dims ["hidden"] from [#llm.source<@n[8] [0:4]>]
func.func @layer_norm_bias(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // expected-error @+1 {{expected @half of 8 elements, got 'tensor<4xf32>'}}
  %y = llm.layer_norm %x, @norm bias @half eps 1.0e-5 : tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

llm.tensor @n [8] f32 at 0 bytes 32
llm.param @norm : tensor<8xf32> dims ["hidden"] from [#llm.source<@n[8] [0:8]>]
func.func @positions(%batch: !llm.batch, %x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // expected-error @+1 {{expected a table of rows like 'tensor<?x8xf32>', got 'tensor<8xf32>'}}
  %y = llm.position_embedding %x, %batch, @norm : tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

func.func @activate(%x: tensor<?x3xf32>) {
  // expected-error @+1 {{all of {input, result} have same type}}
  %z = "llm.activate"(%x) {activation = #llm<activation silu>} : (tensor<?x3xf32>) -> tensor<?x4xf32>
  return
}

// -----

llm.tensor @w [12, 8] bf16 at 0 bytes 192
llm.param @m : tensor<12x8xbf16> dims ["intermediate", "hidden"] from [#llm.source<@w[12, 8] [0:12] [0:8]>]
func.func @wrong_width(%x: tensor<?x7xf32>) -> tensor<?x12xf32> {
  // expected-error @+1 {{contracts the last 1 dimensions of @m ('tensor<12x8xbf16>') with an input of type 'tensor<?x7xf32>'}}
  %y = llm.linear %x, @m : tensor<?x7xf32> -> tensor<?x12xf32>
  return %y : tensor<?x12xf32>
}

// -----

llm.tensor @w [12, 8] bf16 at 0 bytes 192
llm.param @m : tensor<12x8xbf16> dims ["intermediate", "hidden"] from [#llm.source<@w[12, 8] [0:12] [0:8]>]
func.func @wrong_result(%x: tensor<?x8xf32>) -> tensor<?x11xf32> {
  // expected-error @+1 {{expected result type 'tensor<?x12xf32>', got 'tensor<?x11xf32>'}}
  %y = llm.linear %x, @m : tensor<?x8xf32> -> tensor<?x11xf32>
  return %y : tensor<?x11xf32>
}

// -----

// f32 or the input's type.
llm.tensor @w [12, 8] bf16 at 0 bytes 192
llm.param @m : tensor<12x8xbf16> dims ["intermediate", "hidden"] from [#llm.source<@w[12, 8] [0:12] [0:8]>]
func.func @other_float(%x: tensor<?x8xbf16>) -> tensor<?x12xf16> {
  // expected-error @+1 {{expected result type 'tensor<?x12xbf16>', got 'tensor<?x12xf16>'}}
  %y = llm.linear %x, @m : tensor<?x8xbf16> -> tensor<?x12xf16>
  return %y : tensor<?x12xf16>
}

// -----

llm.tensor @w [12, 8] bf16 at 0 bytes 192
llm.tensor @b [8] bf16 at 0 bytes 16
llm.param @m : tensor<12x8xbf16> dims ["intermediate", "hidden"] from [#llm.source<@w[12, 8] [0:12] [0:8]>]
llm.param @bias : tensor<8xbf16> dims ["hidden"] from [#llm.source<@b[8] [0:8]>]
func.func @wrong_bias(%x: tensor<?x8xf32>) -> tensor<?x12xf32> {
  // expected-error @+1 {{bias @bias is 'tensor<8xbf16>', expected the shape of the rows 'tensor<?x12xf32>'}}
  %y = llm.linear %x, @m bias @bias : tensor<?x8xf32> -> tensor<?x12xf32>
  return %y : tensor<?x12xf32>
}

// -----

llm.tensor @n [8] f32 at 0 bytes 32
llm.param @norm : tensor<8xf32> dims ["hidden"] from [#llm.source<@n[8] [0:8]>]
func.func @norm_width(%x: tensor<?x7xf32>) -> tensor<?x7xf32> {
  // expected-error @+1 {{expected a weight of 7 elements, got 'tensor<8xf32>'}}
  %y = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<?x7xf32>
  return %y : tensor<?x7xf32>
}

// -----

llm.tensor @n [8] f32 at 0 bytes 32
llm.param @norm : tensor<8xf32> dims ["hidden"] from [#llm.source<@n[8] [0:8]>]
func.func @no_rows(%x: tensor<8xf32>) -> tensor<8xf32> {
  // expected-error @+1 {{operand #0 must be rows of one or two dimensions}}
  %y = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<8xf32>
  return %y : tensor<8xf32>
}

// -----

llm.tensor @n [8] f32 at 0 bytes 32
llm.param @norm : tensor<8xf32> dims ["hidden"] from [#llm.source<@n[8] [0:8]>]
func.func @table_rank(%batch: !llm.batch) -> tensor<?x8xf32> {
  // expected-error @+1 {{expected a table of rank 2, got 'tensor<8xf32>'}}
  %y = llm.embedding %batch, @norm : tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

llm.kv_cache @kv layer 0 : !llm.kv_cache<heads 2, dim 4, f32>
func.func @keys(%batch: !llm.batch, %x: tensor<?x4x4xf32>) {
  // expected-error @+1 {{keys of type 'tensor<?x4x4xf32>' does not fit cache @kv of type '!llm.kv_cache<heads 2, dim 4, f32>'}}
  llm.kv_append %x, %x, %batch, @kv : tensor<?x4x4xf32>
  return
}

// -----

// Several query heads read one KV head, never a part of one.
llm.kv_cache @kv layer 0 : !llm.kv_cache<heads 2, dim 4, f32>
func.func @queries(%batch: !llm.batch, %x: tensor<?x3x4xf32>) -> tensor<?x3x4xf32> {
  // expected-error @+1 {{queries of type 'tensor<?x3x4xf32>' does not fit cache @kv}}
  %y = llm.attention %x, %batch, @kv scale 0.5 : tensor<?x3x4xf32>
  return %y : tensor<?x3x4xf32>
}

// -----

func.func @sum(%x: tensor<?x3xf32>, %y: tensor<?x4xf32>) {
  // expected-error @+1 {{all of {lhs, rhs, result} have same type}}
  %z = "llm.add"(%x, %y) : (tensor<?x3xf32>, tensor<?x4xf32>) -> tensor<?x3xf32>
  return
}

// -----

func.func @product(%x: tensor<?x3xf32>, %y: tensor<?x4xf32>) {
  // expected-error @+1 {{all of {gate, up, result} have same type}}
  %z = "llm.glu"(%x, %y) {activation = #llm<activation silu>} : (tensor<?x3xf32>, tensor<?x4xf32>) -> tensor<?x3xf32>
  return
}

// -----

func.func @logits(%batch: !llm.batch, %x: tensor<?x3x4xf32>) {
  // expected-error @+1 {{expected logits of rank 2, got 'tensor<?x3x4xf32>'}}
  %c = llm.top_candidates %x, %batch count 2 vocabulary 4 : tensor<?x3x4xf32> -> tensor<?x4x2xf32>
  return
}

// -----

func.func @half_logits(%batch: !llm.batch, %x: tensor<?x4xbf16>) {
  // expected-error @+1 {{operand #0 must be rows of f32, of one or two dimensions of 32-bit float values, but got 'tensor<?x4xbf16>'}}
  %c = llm.top_candidates %x, %batch count 2 vocabulary 4 : tensor<?x4xbf16> -> tensor<?x4x2xf32>
  return
}

// -----

func.func @count(%batch: !llm.batch, %x: tensor<?x4xf32>) {
  // expected-error @+1 {{expected a count of at least 1, got 0}}
  %c = llm.top_candidates %x, %batch count 0 vocabulary 4 : tensor<?x4xf32> -> tensor<?x2x2xf32>
  return
}

// -----

func.func @candidates(%batch: !llm.batch, %x: tensor<?x4xf32>) {
  // expected-error @+1 {{expected result type 'tensor<?x4x2xf32>', got 'tensor<?x2x2xf32>'}}
  %c = llm.top_candidates %x, %batch count 2 vocabulary 4 : tensor<?x4xf32> -> tensor<?x2x2xf32>
  return
}

// -----

func.func @sample(%batch: !llm.batch, %x: tensor<?x2x2xf32>) {
  // expected-error @+1 {{expected candidates [?, count + 2, 2], got 'tensor<?x2x2xf32>'}}
  %ids = llm.sample %x, %batch : tensor<?x2x2xf32> -> tensor<?xi32>
  return
}

// -----

// Rows that are scattered over the ranks: not with whole ones, and not where all are needed.
func.func @whole_and_scattered(%x: tensor<?x4xf32>, %y: tensor<?x4xf32, #shard<axisarray[[1]]>>) {
  // expected-error @+1 {{failed to verify that all of {lhs, rhs, result} have same type}}
  %z = "llm.add"(%x, %y) : (tensor<?x4xf32>, tensor<?x4xf32, #shard<axisarray[[1]]>>) -> tensor<?x4xf32>
  return
}

// -----

func.func @outputs_of_scattered(%batch: !llm.batch, %x: tensor<?x4xf32, #shard<axisarray[[1]]>>) {
  // expected-error @+1 {{expected whole rows, got 'tensor<?x4xf32, #shard<axisarray[[1]]>>'}}
  %y = llm.select_outputs %x, %batch : tensor<?x4xf32, #shard<axisarray[[1]]>>
  return
}

// -----

llm.tensor @t [4, 4] f32 at 0 bytes 64
llm.param @w : tensor<4x4xf32> dims ["intermediate", "hidden"] from [#llm.source<@t[4, 4] [0:4] [0:4]>]
func.func @product_of_scattered(%x: tensor<?x4xf32, #shard<axisarray[[1]]>>) {
  // expected-error @+1 {{expected whole rows, got 'tensor<?x4xf32, #shard<axisarray[[1]]>>'}}
  %y = llm.linear %x, @w : tensor<?x4xf32, #shard<axisarray[[1]]>> -> tensor<?x4xf32>
  return
}

// -----

func.func @no_cap(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // expected-error @+1 {{expected a cap above 0, got}}
  %y = llm.soft_cap %x at 0.0 : tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

func.func @three_squares(%x: tensor<?x8xf32>) -> tensor<?x3xf32> {
  // expected-error @+1 {{expected one input or two, got 3}}
  %y = llm.square_sum %x, %x, %x : tensor<?x8xf32>, tensor<?x8xf32>, tensor<?x8xf32> -> tensor<?x3xf32>
  return %y : tensor<?x3xf32>
}

// -----

func.func @squares_width(%x: tensor<?x8xf32>) -> tensor<?x2xf32> {
  // expected-error @+1 {{expected result type 'tensor<?x1xf32>', got 'tensor<?x2xf32>'}}
  %y = llm.square_sum %x : tensor<?x8xf32> -> tensor<?x2xf32>
  return %y : tensor<?x2xf32>
}

// -----

llm.tensor @n [8] f32 at 0 bytes 32
llm.param @norm : tensor<8xf32> dims ["hidden"] from [#llm.source<@n[8] [0:8]>]
func.func @no_such_column(%x: tensor<?x8xf32>, %s: tensor<?x2xf32>) -> tensor<?x8xf32> {
  // expected-error @+1 {{expected a weight for each element of a row, a column of the squares and their elements, got 'tensor<8xf32>', column 2 of 'tensor<?x2xf32>' and 8}}
  %y = llm.rms_norm %x, @norm eps 1.0e-5 squares %s : tensor<?x2xf32> {column = 2 : i64, elements = 8 : i64} : tensor<?x8xf32>
  return %y : tensor<?x8xf32>
}

// -----

func.func @too_many_experts(%z: tensor<?x3xf32>) {
  // expected-error @+1 {{chooses 4 of 'tensor<?x3xf32>'}}
  %r = llm.route %z count 4 : tensor<?x3xf32> -> tensor<?x4x2xf32>
  return
}

// -----

llm.tensor @t [3, 6, 8] f32 at 0 bytes 576
llm.param @w : tensor<3x6x8xf32> dims ["experts", "intermediate", "hidden"] from [#llm.source<@t[3, 6, 8] [0:3] [0:6] [0:8]>]
func.func @routes(%x: tensor<?x8xf32>, %r: tensor<?x3xf32>) {
  // expected-error @+1 {{expected routes [?, count, 2], got 'tensor<?x3xf32>'}}
  %y = llm.expert_linear %x, %r, @w : tensor<?x8xf32>, tensor<?x3xf32> -> tensor<?x3x6xf32>
  return
}

// -----

llm.tensor @t [3, 6, 8] f32 at 0 bytes 576
llm.param @w : tensor<3x6x8xf32> dims ["experts", "intermediate", "hidden"] from [#llm.source<@t[3, 6, 8] [0:3] [0:6] [0:8]>]
func.func @another_count(%x: tensor<?x3x8xf32>, %r: tensor<?x2x2xf32>) {
  // expected-error @+1 {{multiplies an input of type 'tensor<?x3x8xf32>' for 2 experts with @w ('tensor<3x6x8xf32>')}}
  %y = llm.expert_linear %x, %r, @w : tensor<?x3x8xf32>, tensor<?x2x2xf32> -> tensor<?x2x6xf32>
  return
}

// -----

llm.tensor @t [6, 8] f32 at 0 bytes 192
llm.param @w : tensor<6x8xf32> dims ["intermediate", "hidden"] from [#llm.source<@t[6, 8] [0:6] [0:8]>]
func.func @one_matrix(%x: tensor<?x8xf32>, %r: tensor<?x2x2xf32>) {
  // expected-error @+1 {{multiplies an input of type 'tensor<?x8xf32>' for 2 experts with @w ('tensor<6x8xf32>')}}
  %y = llm.expert_linear %x, %r, @w : tensor<?x8xf32>, tensor<?x2x2xf32> -> tensor<?x2x6xf32>
  return
}

// -----

func.func @sum_of_another_count(%x: tensor<?x3x8xf32>, %r: tensor<?x2x2xf32>) {
  // expected-error @+1 {{adds up 2 experts of 'tensor<?x3x8xf32>'}}
  %y = llm.combine %x, %r : tensor<?x3x8xf32>, tensor<?x2x2xf32> -> tensor<?x8xf32>
  return
}
