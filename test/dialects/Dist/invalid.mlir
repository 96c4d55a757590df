// RUN: distc-opt %s -split-input-file -verify-diagnostics

func.func @dropped(%x: tensor<?x8xf32>) {
  // expected-error @+1 {{starts a communication that nothing waits for}}
  %t = dist.all_reduce_start %x over tp sum : tensor<?x8xf32> -> !dist.token<tensor<?x8xf32>>
  return
}

// -----

func.func @dropped_send(%x: tensor<?x8xf32>) {
  // expected-error @+1 {{starts a communication that nothing waits for}}
  %t = dist.send_start %x to 1 over pp : tensor<?x8xf32> -> !dist.token
  return
}

// -----

func.func @dropped_receive() {
  // expected-error @+1 {{starts a communication that nothing waits for}}
  %t = dist.recv_start from 0 over pp : !dist.token<tensor<?x8xf32>>
  return
}

// -----

func.func @twice(%x: tensor<?x8xf32>) {
  // expected-error @+1 {{is waited for 2 times, expected once}}
  %t = dist.all_gather_start %x over tp : tensor<?x8xf32> -> !dist.token<tensor<?x8xf32>>
  %a = dist.wait %t : !dist.token<tensor<?x8xf32>> -> tensor<?x8xf32>
  %b = dist.wait %t : !dist.token<tensor<?x8xf32>> -> tensor<?x8xf32>
  return
}

// -----

func.func @escapes(%x: tensor<?x8xf32>) -> !dist.token<tensor<?x8xf32>> {
  // expected-error @+1 {{gives its token to a 'func.return', expected a 'dist.wait'}}
  %t = dist.all_gather_start %x over tp : tensor<?x8xf32> -> !dist.token<tensor<?x8xf32>>
  return %t : !dist.token<tensor<?x8xf32>>
}

// -----

// Who hands in a token cannot know how often it is waited for.
func.func @from_outside(%t: !dist.token) {
  // expected-error @+1 {{waits for a token that comes from outside, expected one that its function starts}}
  dist.wait %t : !dist.token
  return
}

// -----

func.func @reduced_type(%x: tensor<?x8xf32>) {
  // expected-error @+1 {{expected a token of 'tensor<?x8xf32>', got '!dist.token<tensor<?x4xf32>>'}}
  %t = dist.all_reduce_start %x over tp sum : tensor<?x8xf32> -> !dist.token<tensor<?x4xf32>>
  %a = dist.wait %t : !dist.token<tensor<?x4xf32>> -> tensor<?x4xf32>
  return
}

// -----

func.func @gathered_type(%x: tensor<?x8xf32>) {
  // expected-error @+1 {{expected a token of 'tensor<?x8xf32>', got '!dist.token'}}
  %t = dist.all_gather_start %x over tp : tensor<?x8xf32> -> !dist.token
  dist.wait %t : !dist.token
  return
}

// -----

// What is scattered says so.
func.func @scattered_type(%x: tensor<?x8xf32>) {
  // expected-error @+1 {{expected a token of 'tensor<?x8xf32>' with an encoding, got '!dist.token<tensor<?x8xf32>>'}}
  %t = dist.reduce_scatter_start %x over tp sum : tensor<?x8xf32> -> !dist.token<tensor<?x8xf32>>
  %a = dist.wait %t : !dist.token<tensor<?x8xf32>> -> tensor<?x8xf32>
  return
}

// -----

func.func @scattered_size(%x: tensor<?x8xf32>) {
  // expected-error @+1 {{expected a token of 'tensor<?x8xf32>' with an encoding, got}}
  %t = dist.reduce_scatter_start %x over tp sum : tensor<?x8xf32> -> !dist.token<tensor<?x4xf32, #shard<axisarray[[1]]>>>
  %a = dist.wait %t : !dist.token<tensor<?x4xf32, #shard<axisarray[[1]]>>> -> tensor<?x4xf32, #shard<axisarray[[1]]>>
  return
}

// -----

func.func @dropped_scatter(%x: tensor<?x8xf32>) {
  // expected-error @+1 {{starts a communication that nothing waits for}}
  %t = dist.reduce_scatter_start %x over tp sum : tensor<?x8xf32> -> !dist.token<tensor<?x8xf32, #shard<axisarray[[1]]>>>
  return
}

// -----

// What is gathered is whole.
func.func @gathered_rows(%x: tensor<?x8xf32, #shard<axisarray[[1]]>>) {
  // expected-error @+1 {{expected a token of 'tensor<?x8xf32>', got}}
  %t = dist.all_gather_start %x over tp : tensor<?x8xf32, #shard<axisarray[[1]]>> -> !dist.token<tensor<?x8xf32, #shard<axisarray[[1]]>>>
  %a = dist.wait %t : !dist.token<tensor<?x8xf32, #shard<axisarray[[1]]>>> -> tensor<?x8xf32, #shard<axisarray[[1]]>>
  return
}

// -----

func.func @sent_type(%x: tensor<?x8xf32>) {
  // expected-error @+1 {{expected a token without a value, got '!dist.token<tensor<?x8xf32>>'}}
  %t = dist.send_start %x to 1 over pp : tensor<?x8xf32> -> !dist.token<tensor<?x8xf32>>
  %a = dist.wait %t : !dist.token<tensor<?x8xf32>> -> tensor<?x8xf32>
  return
}

// -----

func.func @received_type() {
  // expected-error @+1 {{expected a token of the received type}}
  %t = dist.recv_start from 0 over pp : !dist.token
  dist.wait %t : !dist.token
  return
}

// -----

func.func @value_of_send(%x: tensor<?x8xf32>) {
  %t = dist.send_start %x to 1 over pp : tensor<?x8xf32> -> !dist.token
  // expected-error @+1 {{waits for '!dist.token', which gives no value}}
  %a = dist.wait %t : !dist.token -> tensor<?x8xf32>
  return
}

// -----

func.func @value_dropped() {
  %t = dist.recv_start from 0 over pp : !dist.token<tensor<?x8xf32>>
  // expected-error @+1 {{expected a result of type 'tensor<?x8xf32>'}}
  dist.wait %t : !dist.token<tensor<?x8xf32>>
  return
}

// -----

// What a plan's buffers hold: floats of f32, f16 and bf16, ids.
func.func @element_type(%x: tensor<?x8xf64>) {
  // expected-error @+1 {{operand #0 must be ranked tensor of 32-bit float or 16-bit float or bfloat16 type or 32-bit signless integer values}}
  %t = dist.all_reduce_start %x over tp sum : tensor<?x8xf64> -> !dist.token<tensor<?x8xf64>>
  %y = dist.wait %t : !dist.token<tensor<?x8xf64>> -> tensor<?x8xf64>
  return
}

// -----

func.func @no_such_chunk(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // expected-error @+1 {{is chunk 2 of 2, expected one of them}}
  %c = dist.chunk %x 2 of 2 : tensor<?x8xf32>
  return %c : tensor<?x8xf32>
}

// -----

func.func @no_chunks(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  // expected-error @+1 {{is chunk 0 of 0, expected one of them}}
  %c = dist.chunk %x 0 of 0 : tensor<?x8xf32>
  return %c : tensor<?x8xf32>
}

// -----

func.func @nothing() -> tensor<?x8xf32> {
  // expected-error @+1 {{expected 1 or more operands, but found 0}}
  %c = "dist.concat"() : () -> tensor<?x8xf32>
  return %c : tensor<?x8xf32>
}
