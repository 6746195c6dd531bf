// The one list of training's settings: each with its key, its field and what it means. Reading, refusing, printing, the
// identity of a run and the table of docs/training.md all visit it.
#pragma once

namespace cepe {

struct Setting {
  // What a resumed run may do with it: change it; not; or not, and before it existed a run had its default.
  enum class Resume { any, same, same_added };
  const char* key;  // section.name
  Resume resume;
  const char* meaning;
};

// Calls visit(setting, field) for every setting. Config: TrainConfig (train_config.h), const or not.
template <typename Config, typename Visit>
void visit_model_settings(Config& c, Visit&& visit) {
  using enum Setting::Resume;
  visit(Setting{"model.base", any, "the decoder: a path, or a name in `$CEPE_MODELS` or `~/.cache/cepe/models`"},
        c.base);
  visit(Setting{"model.base_name", any, "what the result calls its base; empty: the base's file name"}, c.base_name);
  // That there are parts belongs to the identity; which ones, their hash says.
  visit(Setting{"model.parts", any,
                "trained parts to go on from, for example the result of the warm-up; empty: the base's own, or fresh "
                "ones"},
        c.parts);
  visit(
      Setting{"model.encoder", any,
              "an encoder with its masked-LM head (LlamaForMLM), as stage `mlm` leaves in run/final: to go on from in "
              "stage `mlm`, to begin with in the others; empty: none"},
      c.encoder);
  visit(
      Setting{"model.encoder_layers", same,
              "of a fresh encoder: the decoder's first layers, made bidirectional; with `mlm.hidden_size` random ones"},
      c.encoder_layers);
  visit(Setting{"model.cross_attention_layers", same,
                "fresh cross-attention stands in the decoder's last so many layers, copied from self-attention"},
        c.cross_attention_layers);
  visit(
      Setting{"model.zero_output", same, "fresh cross-attention starts at zero: the model starts as the plain decoder"},
      c.zero_output);
  visit(Setting{"model.cross_attention_at", same_added,
                "fresh cross-attention stands in these layers of the decoder, from 0; empty: in the last ones"},
        c.cross_attention_at);
  visit(
      Setting{"model.query_log_scale", same_added,
              "queries on a context of n states are multiplied by 1 + this * ln(n / model.query_log_tokens) where n is "
              "larger; 0: as the parts have it, fresh ones not"},
      c.query_log_scale);
  visit(Setting{"model.query_log_tokens", same_added, "see model.query_log_scale"}, c.query_log_tokens);
  visit(Setting{"model.null_key", same_added,
                "a learnt key a head, whose value is zero; false: as the parts have it, fresh ones none"},
        c.null_key);
  visit(Setting{"model.position_buckets", same_added,
                "so many learnt biases of keys, by how many chunks follow; 0: as the parts have it, fresh ones none"},
        c.position_buckets);
  visit(Setting{"model.pooling", same_added,
                "so many neighbouring states of a chunk become their mean; 0: as the parts have it, fresh ones none"},
        c.pooling);
}

template <typename Config, typename Visit>
void visit_data_settings(Config& c, Visit&& visit) {
  using enum Setting::Resume;
  visit(Setting{"data.train", any, "token shards of documents, or directories of them"}, c.train);
  visit(Setting{"data.validation", any, "the same, held out; empty: no validation on documents"}, c.validation);
  visit(Setting{"data.domain_weights", same, "how often a token of a domain is drawn, `papers=2`; see above"},
        c.domain_weights);
  visit(Setting{"data.filtered", same, "share of samples from one document that holds them whole"}, c.filtered);
  visit(Setting{"data.concatenated", same, "share of samples from documents joined end to end"}, c.concatenated);
  visit(Setting{"data.ask", any, "token shards of samples, or directories of them; stage `ask`"}, c.ask);
  visit(Setting{"data.ask_validation", any, "the same, held out; empty: no validation on samples"}, c.ask_validation);
  visit(Setting{"data.ask_share", same_added,
                "of the samples of a step in stage `ask`, so many are of `data.ask`, the others of `data.train`; above "
                "0, at most 1"},
        c.ask_share);
  visit(Setting{"data.ask_weights", same_added,
                "how often a sample of a kind is drawn, `recall=2`; a kind that is not named once, 0 leaves it out"},
        c.ask_weights);
}

template <typename Config, typename Visit>
void visit_train_settings(Config& c, Visit&& visit) {
  using enum Setting::Resume;
  visit(Setting{"train.stage", same, "`mlm`, `warmup`, `standard`, `distill`, `ask` or `window`; see above"}, c.stage);
  visit(Setting{"train.chunk_length", same, "tokens of a chunk, the longest of a sample's; of a piece in stage `mlm`"},
        c.chunk_length);
  visit(Setting{"train.context_chunks", same, "numbers of chunks, of which one is drawn for each plain sample"},
        c.context_chunks);
  visit(Setting{"train.decoder_tokens", same,
                "of a plain sample; at most the decoder's window: its positions, in stage `window` as `window.rope` "
                "stretches them, or its sliding window where that is narrower"},
        c.decoder_tokens);
  visit(
      Setting{"train.mask_chunks", same,
              "share of the chunks of plain samples that are masked: one in ten of them wholly, else a random suffix"},
      c.mask_chunks);
  visit(Setting{"train.batch", same, "samples a step"}, c.batch);
  visit(Setting{"train.micro_batch", any,
                "plain samples at once, whose padded size bounds every micro-batch; divides `train.batch`"},
        c.micro_batch);
  visit(Setting{"train.steps", same, "steps in all"}, c.steps);
  visit(Setting{"train.learning_rate", same, "the peak: after the warm-up, before the cosine"}, c.learning_rate);
  visit(Setting{"train.warmup_steps", same, "steps of linear warm-up"}, c.warmup_steps);
  visit(Setting{"train.hold_steps", same_added, "steps at the peak before the cosine begins"}, c.hold_steps);
  visit(Setting{"train.final_fraction", same, "of the learning rate, at the end of the cosine"}, c.final_fraction);
  visit(Setting{"train.beta1", same, "of AdamW"}, c.beta1);
  visit(Setting{"train.beta2", same, "of AdamW"}, c.beta2);
  visit(Setting{"train.epsilon", same, "of AdamW"}, c.epsilon);
  visit(Setting{"train.weight_decay", same, "of matrices; norms are never decayed"}, c.weight_decay);
  visit(Setting{"train.clip", same, "largest norm of the whole gradient; 0: no clipping"}, c.clip);
  visit(Setting{"train.ask_weight", same_added, "factor on the weights of the samples of `data.ask`"}, c.ask_weight);
  visit(Setting{"train.evidence_weight", same_added,
                "a label of a plain sample weighs 1 + this * the nats (0 to 4) by which the context raises its "
                "log-probability, scaled to a mean of 1 in each batch of a step; 0: all weigh the same; not in stage "
                "`distill`"},
        c.evidence_weight);
  visit(Setting{"train.lm_coefficient", same_added, "of the next-token loss, stage `distill`; 0 leaves it out"},
        c.lm_coefficient);
  visit(Setting{"train.kl_coefficient", same_added, "of the divergence from the teacher, stage `distill`"},
        c.kl_coefficient);
  visit(Setting{"train.kl", same_added,
                "the divergence: `full`, over the vocabulary; `top`, over the teacher's most likely tokens"},
        c.kl);
  visit(Setting{"train.kl_top", same_added, "how many tokens `top` takes"}, c.kl_top);
  visit(
      Setting{"train.kl_mode", same_added,
              "the rest of the vocabulary in `top`: `drop` leaves it out; `smooth_D` keeps it as one class, adds D to "
              "every class and renormalises"},
      c.kl_mode);
  visit(Setting{"train.seed", same, "of every draw"}, c.seed);
}

// The arithmetic of a step.
template <typename Config, typename Visit>
void visit_arithmetic_settings(Config& c, Visit&& visit) {
  using enum Setting::Resume;
  visit(Setting{"train.precision", same,
                "of the arithmetic: `auto` (bfloat16 on CUDA, float32 on CPU), `float32`, `bfloat16`; trained weights "
                "and optimiser are float32, and the frozen weights of a published base leave as they came"},
        c.precision);
  visit(
      Setting{"train.fp8_frozen", same_added,
              "products of the frozen decoder's layers through which gradients flow are in fp8, forward and backward; "
              "needs a Hopper GPU"},
      c.fp8_frozen);
  visit(Setting{"train.recompute", any,
                "what of a layer is computed again in the backward pass instead of kept: `none`, `feed_forward`, "
                "`layers`; losses and gradients stay the same"},
        c.recompute);
}

// Stages mlm and window.
template <typename Config, typename Visit>
void visit_stage_settings(Config& c, Visit&& visit) {
  using enum Setting::Resume;
  visit(Setting{"mlm.hidden_size", same_added,
                "width of an encoder of random weights; 0: the encoder begins as the decoder's first layers, in its "
                "width and on a copy of its embedding"},
        c.mlm_hidden_size);
  visit(Setting{"mlm.heads", same_added, "of a random encoder"}, c.mlm_heads);
  visit(Setting{"mlm.intermediate_size", same_added, "feed-forward width of a random encoder"},
        c.mlm_intermediate_size);
  visit(Setting{"mlm.positions", same_added, "window of a fresh encoder, in tokens"}, c.mlm_positions);
  visit(Setting{"mlm.mask_share", same_added, "of a piece's positions so many are masked, always by the mask token"},
        c.mlm_mask_share);
  visit(
      Setting{
          "mlm.mask_token", same_added,
          "id of the mask token; -1: a new one behind the vocabulary, for which a fresh encoder's embedding has one "
          "row more than the vocabulary has tokens"},
      c.mlm_mask_token);
  visit(
      Setting{
          "window.rope", same_added,
          "how rotary positions are scaled in stage `window`: `linear` (position interpolation), `yarn`, or `none`"},
      c.window_rope);
  visit(Setting{"window.factor", same_added, "by which the scaling stretches the decoder's window"}, c.window_factor);
}

template <typename Config, typename Visit>
void visit_run_settings(Config& c, Visit&& visit) {
  using enum Setting::Resume;
  visit(Setting{"run.max_minutes", any, "stop with a checkpoint after so long; 0: no limit"}, c.max_minutes);
  visit(Setting{"run.checkpoint_every", any, "steps between checkpoints; 0: none but at the end or when stopped"},
        c.checkpoint_every);
  visit(Setting{"run.checkpoint_minutes", any, "the same in minutes; 0: none; both may be given"},
        c.checkpoint_minutes);
  visit(Setting{"run.keep_checkpoints", any, "the newest so many are kept"}, c.keep_checkpoints);
  visit(Setting{"run.stop_after_not_finite", any,
                "the run ends with an error after so many steps in a row whose loss or gradient is not finite"},
        c.stop_after_not_finite);
  visit(Setting{"run.rank_minutes", any, "of several ranks: how long one waits for the others before it gives up"},
        c.rank_minutes);
  visit(Setting{"run.validate_every", any, "steps between validations; 0: only at the end"}, c.validate_every);
  visit(Setting{"run.validation_samples", any, "samples of a validation on documents, and of one on samples"},
        c.validation_samples);
  visit(Setting{"run.peak_tflops", any,
                "for MFU; 0: 790 on CUDA (bfloat16 matrix product measured on an H200), none on CPU"},
        c.peak_tflops);
  visit(Setting{"run.profile_steps", any,
                "so many steps are recorded as a Chrome trace of operations and kernels, in the run's directory; 0: "
                "none"},
        c.profile_steps);
  visit(Setting{"run.profile_after", any, "steps of a sitting before the first that is recorded"}, c.profile_after);
  visit(Setting{"run.weights", any,
                "of the trained matrices in run/final: `f32`, `bf16` or `int8` (trained parts alone)"},
        c.weights);
}

template <typename Config, typename Visit>
void visit_settings(Config& config, Visit&& visit) {
  visit_model_settings(config, visit);
  visit_data_settings(config, visit);
  visit_train_settings(config, visit);
  visit_arithmetic_settings(config, visit);
  visit_stage_settings(config, visit);
  visit_run_settings(config, visit);
}

}  // namespace cepe
