// RUN: distc-opt %s -split-input-file -verify-diagnostics

llm.tensor @w [12, 8] bf16 at 0 bytes 192
// expected-error @+1 {{dimension 0: the sources have 3, the type 4}}
llm.param @q : tensor<4x4x8xbf16> dims ["heads", "head_dim", "hidden"] from [#llm.source<@w[3, 4, 8] [0:3] [0:4] [0:8]>]

// -----

// expected-error @+1 {{segment 2:2 is outside the dimension of size 3}}
llm.param @q : tensor<2x8xbf16> dims ["heads", "hidden"] from [#llm.source<@w[3, 8] [2:2] [0:8]>]

// -----

// expected-error @+1 {{refers to tensor @absent, which does not exist}}
llm.param @q : tensor<8xf32> dims ["hidden"] from [#llm.source<@absent[8] [0:8]>]

// -----

llm.tensor @w [12, 8] bf16 at 0 bytes 192
llm.param @m : tensor<12x8xbf16> dims ["intermediate", "hidden"] from [#llm.source<@w[12, 8] [0:12] [0:8]>]
func.func @wrong_width(%x: tensor<?x7xf32>) -> tensor<?x12xf32> {
  // expected-error @+1 {{contracts the last 1 dimensions of @m}}
  %y = llm.linear %x, @m : tensor<?x7xf32> -> tensor<?x12xf32>
  return %y : tensor<?x12xf32>
}

// -----

func.func @no_table(%batch: !llm.batch, %x: tensor<?x2x4xf32>) -> tensor<?x2x4xf32> {
  // expected-error @+1 {{refers to @rope, which does not exist}}
  %y = llm.rope %x, %batch, @rope half : tensor<?x2x4xf32>
  return %y : tensor<?x2x4xf32>
}
