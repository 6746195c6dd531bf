#include "generate/generator.h"

#include <exception>
#include <utility>

#include "base/error.h"
#include "generate/engine.h"

namespace cepe {

Generation generate(const GenerateInput& input, const GenerateOptions& options) {
  const int64_t prompt = static_cast<int64_t>(input.prompt.size());
  const int64_t capacity =
      room_for(input.model, prompt, options.max_tokens, decoder_window(input.model.config.decoder));
  Generation made;
  std::exception_ptr thrown;
  Request request{.prompt = {input.prompt.begin(), input.prompt.end()},
                  .max_tokens = options.max_tokens,
                  .sampling = options.sampling,
                  .end_tokens = options.end_tokens,
                  .stop = options.stop,
                  .leading = options.leading,
                  .continues_prompt = options.continues_prompt,
                  .log_probabilities = options.log_probabilities,
                  .on_end = [&](const Generation& complete) { made = complete; }};
  if (input.context) request.context = std::make_shared<const Context>(Context{*input.context, {}});
  if (options.on_text) {
    request.on_text = [&](std::string_view text) {
      try {
        options.on_text(text);
      } catch (...) {
        thrown = std::current_exception();
        throw;
      }
    };
  }
  Engine engine(input.model, input.tokenizer,
                {.sequences = 1, .capacity = capacity, .prompt_tokens_a_step = prompt, .reading = options.context});
  engine.submit(std::move(request));
  while (engine.step()) {
  }
  if (thrown) std::rethrow_exception(thrown);
  require(made.reason != StopReason::failed, "{}", made.error);
  return made;
}

}  // namespace cepe
