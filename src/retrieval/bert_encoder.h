// Texts as vectors: an encoder of the BERT family from a Hugging Face directory, such as all-MiniLM-L6-v2.
//
// The formula is that of the package sentence-transformers (Reimers & Gurevych 2019, arXiv 1908.10084): [CLS], the
// text's WordPiece ids, [SEP]; the layers of BERT (Devlin et al. 2019, arXiv 1810.04805: post-norm, learned positions);
// the mean of the last states over the real tokens, or the state of [CLS]; divided by its Euclidean length.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace cepe {

class BertEncoder {
 public:
  // Reads config.json, vocab.txt, the weights (safetensors or pickles; names with or without "bert." before them) and,
  // where they are there, tokenizer_config.json (do_lower_case, strip_accents, tokenize_chinese_chars),
  // sentence_bert_config.json (max_seq_length), 1_Pooling/config.json and modules.json. Computes in float32 on the
  // device. Error on another model type, activation, kind of positions or pooling, on modules other than Transformer,
  // Pooling and Normalize, and on a missing or misshapen tensor.
  BertEncoder(const std::filesystem::path& directory, const at::Device& device);
  ~BertEncoder();
  BertEncoder(const BertEncoder&) = delete;
  BertEncoder& operator=(const BertEncoder&) = delete;

  // Texts of any length; what lies beyond max_tokens() is not read. They are sorted by length and computed in batches.
  // -> (texts, width()) float32 on the CPU, rows of length 1, in the texts' order. Thread-safe.
  at::Tensor embed(const std::vector<std::string>& texts) const;

  const at::Device& device() const;
  int64_t width() const;
  int64_t max_tokens() const;  // [CLS] and [SEP] included

 private:
  struct Model;
  std::unique_ptr<const Model> model_;
};

}  // namespace cepe
