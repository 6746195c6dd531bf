// The cost model against counts by hand, and the choices that follow from them.
#include "model/cost_model.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "model/cross_attention.h"

namespace cepe {
namespace {

using Form = CrossAttentionForm;

CrossAttentionWork llama(int64_t rows) {
  CrossAttentionWork work;
  work.latent_width = 1024;
  work.heads = work.kv_heads = 32;
  work.head_dim = 128;
  work.layers = 32;
  work.context_tokens = 126976;
  work.query_rows = rows;
  return work;
}

CrossAttentionWork smollm(int64_t rows) {
  CrossAttentionWork work;
  work.latent_width = 576;
  work.heads = 9;
  work.kv_heads = 3;
  work.head_dim = 64;
  work.layers = 15;
  work.context_tokens = 32768;
  work.query_rows = rows;
  return work;
}

StackConfig sizes(const CrossAttentionWork& work) {
  StackConfig config;
  config.num_heads = work.heads;
  config.num_kv_heads = work.kv_heads;
  config.head_dim = work.head_dim;
  return config;
}

TEST(CostModel, BreakEvensFollowFromOperationCounts) {
  // e kv_heads d / (heads (e - d)) = 146.3 and 24, a little less as queries are moved too.
  EXPECT_EQ(choose_cross_attention(llama(146), equal_rates()).form, Form::absorbed);
  EXPECT_EQ(choose_cross_attention(llama(147), equal_rates()).form, Form::materialised);
  EXPECT_EQ(choose_cross_attention(smollm(23), equal_rates()).form, Form::absorbed);
  EXPECT_EQ(choose_cross_attention(smollm(24), equal_rates()).form, Form::materialised);
  EXPECT_EQ(choose_cross_attention_form(sizes(llama(1)), 1024, 146), Form::absorbed);
  EXPECT_EQ(choose_cross_attention_form(sizes(llama(1)), 1024, 147), Form::materialised);
  EXPECT_EQ(choose_cross_attention_form(sizes(smollm(1)), 576, 23), Form::absorbed);
  EXPECT_EQ(choose_cross_attention_form(sizes(smollm(1)), 576, 24), Form::materialised);
}

TEST(CostModel, OperationsAreThoseOfTheFormulas) {
  // Re-projecting 127k tokens in 32 layers for each written token: the 68 TFLOP of the published code.
  const CrossAttentionCost published = cross_attention_cost(llama(1), equal_rates(), Form::materialised);
  EXPECT_NEAR(published.operations, 32 * (4.0 * 126976 * 1024 * 4096 + 4.0 * 126976 * 4096), 1e6);
  EXPECT_NEAR(published.operations, 68e12, 1e12);
  const CrossAttentionCost absorbed = cross_attention_cost(llama(1), equal_rates(), Form::absorbed);
  EXPECT_NEAR(absorbed.operations, 32 * (4.0 * 126976 * 32 * 1024 + 4.0 * 32 * 128 * 1024), 1e6);
  CrossAttentionWork later = smollm(30);
  later.steps = 100;
  const CrossAttentionCost cached = cross_attention_cost(later, equal_rates(), Form::cached);
  EXPECT_NEAR(cached.operations, 15 * (4.0 * 32768 * 576 * 192 + 130 * 4.0 * 32768 * 576), 1e6);
  EXPECT_EQ(cached.bytes, 32768 * 15 * 2 * 192 * 2) << "11.5 KB a token";
  later.kept = true;
  EXPECT_NEAR(cross_attention_cost(later, equal_rates(), Form::cached).operations, 15 * 130 * 4.0 * 32768 * 576, 1e6);
  later.contexts = 3;
  EXPECT_EQ(cross_attention_cost(later, equal_rates(), Form::cached).bytes, 3 * cached.bytes);
}

TEST(CostModel, LaterStepsAndTheBudgetDecideWhatIsKept) {
  CrossAttentionWork work = smollm(1);
  work.memory_budget = 1'000'000'000;
  EXPECT_EQ(choose_cross_attention(work, equal_rates()).form, Form::absorbed)
      << "one call does not pay for a projection";
  work.steps = 1000;
  const CrossAttentionChoice kept = choose_cross_attention(work, equal_rates());
  EXPECT_EQ(kept.form, Form::cached);
  EXPECT_EQ(kept.bytes_over_budget, 0);
  EXPECT_LT(kept.cost.seconds, cross_attention_cost(work, equal_rates(), Form::absorbed).seconds / 4);
  EXPECT_EQ(cross_attention_cost(work, equal_rates(), Form::automatic).seconds, kept.cost.seconds);
  work.memory_budget = kept.cost.bytes - 1;
  const CrossAttentionChoice over = choose_cross_attention(work, equal_rates());
  EXPECT_EQ(over.form, Form::absorbed);
  EXPECT_EQ(over.cost.bytes, 0);
  EXPECT_EQ(over.bytes_over_budget, kept.cost.bytes);
  work.memory_budget = 0;
  EXPECT_EQ(choose_cross_attention(work, equal_rates()).bytes_over_budget, 0)
      << "nothing to report where none are wanted";
  work.kept = true;
  EXPECT_EQ(choose_cross_attention(work, equal_rates()).form, Form::cached) << "at hand already";
}

TEST(CostModel, MemoryBoundsFewRows) {
  // One H200, one token: a layer's latents take 77 us with our kernel, and reading full keys and values, where memory
  // binds, more than four times that.
  const DeviceRates rates = device_rates(at::kCUDA, at::kBFloat16);
  CrossAttentionWork work = llama(1);
  EXPECT_NEAR(cross_attention_cost(work, rates, Form::absorbed).seconds / 32, 77e-6, 3e-6);
  work.kept = true;
  EXPECT_NEAR(cross_attention_cost(work, rates, Form::cached).seconds / 32, 490e-6, 10e-6);
  EXPECT_EQ(choose_cross_attention(work, rates).form, Form::absorbed) << "even where keys and values are at hand";
  EXPECT_EQ(choose_cross_attention(llama(4096), rates).form, Form::materialised);
  EXPECT_EQ(choose_cross_attention(llama(32), rates).form, Form::absorbed);
}

TEST(CostModel, ACpuKeepsKeysAndValuesOfSmolLm) {
  for (const auto type : {at::kFloat, at::kBFloat16}) {
    const DeviceRates rates = device_rates(at::kCPU, type);
    CrossAttentionWork work = smollm(30);
    work.element_bytes = type == at::kFloat ? 4 : 2;
    work.steps = 100;
    work.memory_budget = 4'000'000'000;
    EXPECT_EQ(choose_cross_attention(work, rates).form, Form::cached);
    work.steps = work.memory_budget = 0;
    EXPECT_EQ(choose_cross_attention(work, rates).form, Form::materialised);
    work.query_rows = 1;
    EXPECT_EQ(choose_cross_attention(work, rates).form, Form::absorbed);
  }
}

TEST(CostModel, FormsHaveNames) {
  for (const Form form : {Form::automatic, Form::materialised, Form::absorbed, Form::cached}) {
    EXPECT_EQ(cross_attention_form_from_name(cross_attention_form_name(form), "--form"), form);
  }
  EXPECT_THROW(cross_attention_form_from_name("fast", "--form"), Error);
}

}  // namespace
}  // namespace cepe
