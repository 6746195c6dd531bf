// Lesson 3: how much does a context help a model to predict a text?
//
// Perplexity is exp(mean of -log p) over the scored tokens. The same tokens are scored with no context, with the text
// that precedes them in the book, and with as much text of another book: the *control*. What the right context gains
// over the control is reading, not adaptation to the style of books. `cepe perplexity` does this for many windows.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <cmath>

#include "base/error.h"
#include "base/file.h"
#include "model/checkpoint/checkpoint.h"
#include "model/loss.h"

using namespace cepe;

constexpr int64_t kContext = 2048, kText = 512, kScored = 128;  // tokens
constexpr int64_t kStart = 20000;                               // of the text, in the book

// Tokens kStart - kContext .. kStart + kText of a book, (1, n).
at::Tensor read_tokens(const OpenedModel& opened, const char* file) {
  const std::vector<TokenId> tokens = opened.tokenizer->encode(read_file(file));
  require(tokens.size() > kStart + kText, "{}: the text is too short", file);
  const std::vector<int64_t> part(tokens.begin() + kStart - kContext, tokens.begin() + kStart + kText);
  return at::tensor(part, at::kLong).unsqueeze(0);
}

double perplexity(const Cepe& model, const at::Tensor& text, const at::Tensor& context) {
  Latents latents;  // empty: a plain decoder
  if (context.defined()) latents = encode(model, {context.view({1, -1, model.config.chunk_length}), {}});
  const at::Tensor hidden = decode(model, {.ids_BT = text, .context = &latents});
  at::Tensor labels = text.clone();
  labels.narrow(1, 0, kText - kScored).fill_(-1);  // not scored
  return std::exp(next_token_loss(model, hidden, labels).item<double>());
}

int main(int argc, char** argv) try {
  require(argc == 4, "usage: 3-score MODEL BOOK OTHER_BOOK");
  const at::NoGradGuard no_gradients;
  const OpenedModel opened = open_model(find_model(argv[1]));
  const at::Tensor book = read_tokens(opened, argv[2]), other = read_tokens(opened, argv[3]);
  const at::Tensor text = book.narrow(1, kContext, kText);

  const double none = perplexity(opened.model, text, {});
  const double own = perplexity(opened.model, text, book.narrow(1, 0, kContext));
  const double control = perplexity(opened.model, text, other.narrow(1, 0, kContext));
  fmt::print(
      "perplexity of {} tokens: {:.2f} without a context, {:.2f} with {} tokens of the book before them, "
      "{:.2f} with as many of another book\n",
      kScored, none, own, kContext, control);
  fmt::print("reading gain: {:.1f} %\n", 100 * (1 - own / control));
} catch (const Error& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 1;
}
