// LayerNorm, learned positions, an activation alone: GPT-2 down to a plan. Rank 0 alone holds the rows of positions, which it adds to its
// share of the embedding.
// RUN: distc compile %fixtures/gpt2 --tp 2 --emit=plan | FileCheck %s
// CHECK: plan.rank @rank0
// CHECK: plan.weight @positions [48, 64] f32 map at 0 bytes 12288 stride 64 copies 1 {{.*}}[#llm.source<@transformer.wpe.weight[48, 64] [0:48] [0:64]>]
// CHECK: plan.weight @layers.0.k [4, 8, 64] f32 load {{.*}}[#llm.source<@transformer.h.0.attn.c_attn.weight[24, 8, 64] transposed 2 [8:4] [0:8] [0:64]>]
// CHECK: plan.position_embedding {{[0-9]+}} : %[[E:.*]], @positions -> %[[P:[0-9]+]]
// CHECK: plan.all_reduce {{[0-9]+}} : @tp number 0 sum %[[P]] -> %[[X:[0-9]+]]
// CHECK: plan.layer_norm {{[0-9]+}} : %[[X]], @layers.0.attention_norm bias @layers.0.attention_norm_bias eps 9.99999974E-6
// CHECK: plan.activate {{[0-9]+}} : gelu_tanh
// CHECK: plan.rank @rank1
// CHECK: plan.weight @positions [48, 64] f32 load {{.*}} copies 1 {{.*}}[#llm.source<@transformer.wpe.weight[48, 64] [zero:48] [0:64]>]
