#include "train/ranks/gradient_buckets.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

namespace cepe {

std::vector<int64_t> owners_of(const std::vector<at::Tensor>& parameters, int64_t ranks) {
  int64_t total = 0, before = 0;
  for (const at::Tensor& parameter : parameters) total += parameter.numel();
  std::vector<int64_t> owners;
  for (const at::Tensor& parameter : parameters) {
    owners.push_back(total == 0 ? 0 : ranks * before / total);
    before += parameter.numel();
  }
  return owners;
}

class GradientBuckets::Hook : public torch::autograd::PostAccumulateGradHook {
 public:
  Hook(GradientBuckets& buckets, size_t parameter) : buckets_(buckets), parameter_(parameter) {}
  void operator()(const torch::autograd::Variable&) override { buckets_.completed(parameter_); }

 private:
  GradientBuckets& buckets_;
  const size_t parameter_;
};

GradientBuckets::GradientBuckets(std::vector<at::Tensor> parameters, std::vector<int64_t> owners, Collectives& ranks,
                                 int64_t bucket_numbers)
    : parameters_(std::move(parameters)),
      owners_(std::move(owners)),
      ranks_(ranks),
      bucket_numbers_(bucket_numbers),
      bucket_of_(parameters_.size()) {
  std::vector<int64_t> order(parameters_.size());
  std::iota(order.rbegin(), order.rend(), 0);
  fill_buckets(order);
  for (size_t i = 0; i < parameters_.size(); ++i)
    torch::autograd::impl::set_post_acc_grad_hooks(parameters_[i], std::make_unique<Hook>(*this, i));
}

GradientBuckets::~GradientBuckets() {
  for (const at::Tensor& parameter : parameters_) torch::autograd::impl::set_post_acc_grad_hooks(parameter, nullptr);
}

// Each rank has a bucket that is being filled. They leave in the order in which the last of each is completed.
void GradientBuckets::fill_buckets(const std::vector<int64_t>& order) {
  buckets_.clear();
  std::map<int64_t, size_t> filling;  // by owner
  for (size_t place = 0; place < order.size(); ++place) {
    const auto i = static_cast<size_t>(order[place]);
    const auto found = filling.find(owners_[i]);
    if (found == filling.end() || buckets_[found->second].numbers >= bucket_numbers_) {
      filling[owners_[i]] = buckets_.size();
      buckets_.push_back({.owner = owners_[i]});
    }
    Bucket& bucket = buckets_[filling[owners_[i]]];
    bucket.parameters.push_back(i);
    bucket.last = place;
    bucket.numbers += parameters_[i].numel();
    ++bucket.missing;
  }
  std::sort(buckets_.begin(), buckets_.end(), [](const Bucket& a, const Bucket& b) { return a.last < b.last; });
  for (size_t b = 0; b < buckets_.size(); ++b) {
    for (const size_t i : buckets_[b].parameters) bucket_of_[i] = b;
  }
}

// The list's order says little: of encoder and cross-attention the latter comes first in it, and is completed first. A
// step in which the first rank has no gradient teaches nothing; what has none in a step comes last.
void GradientBuckets::learn_order() {
  const auto count = static_cast<int64_t>(parameters_.size());
  std::vector<int64_t> order(parameters_.size(), -1);
  if (ranks_.first() && !completed_.empty()) {
    const std::set<int64_t> seen(completed_.begin(), completed_.end());
    order = completed_;
    for (int64_t i = count; i-- > 0;) {
      if (!seen.contains(i)) order.push_back(i);
    }
  }
  at::Tensor all = at::tensor(order, at::kLong).to(ranks_.device());
  ranks_.broadcast(all, 0)->wait();
  all = all.cpu();
  completed_.clear();
  order.assign(all.const_data_ptr<int64_t>(), all.const_data_ptr<int64_t>() + count);
  order_is_known_ = count == 0 || order[0] >= 0;
  if (order_is_known_ && count > 0) fill_buckets(order);
}

// Called within backward(), by the thread that computed the gradient.
void GradientBuckets::completed(size_t parameter) {
  if (!last_) return;
  if (!order_is_known_) completed_.push_back(static_cast<int64_t>(parameter));
  --buckets_[bucket_of_[parameter]].missing;
  while (next_ < buckets_.size() && buckets_[next_].missing == 0) send_next();
}

void GradientBuckets::send_next() {
  const at::NoGradGuard no_grad;
  Bucket& bucket = buckets_[next_++];
  bucket.flat = packed(bucket, true);
  bucket.work = ranks_.sum_to(bucket.flat, bucket.owner);
  for (const size_t i : bucket.parameters) parameters_[i].mutable_grad() = at::Tensor();  // its memory is free again
}

at::Tensor GradientBuckets::packed(const Bucket& bucket, bool gradients) const {
  std::vector<at::Tensor> parts;
  for (const size_t i : bucket.parameters) {
    const at::Tensor& p = parameters_[i];
    if (!gradients) {
      parts.push_back(p.detach().reshape(-1));
    } else {
      parts.push_back(p.grad().defined() ? p.grad().reshape(-1) : at::zeros({p.numel()}, p.options()));
    }
  }
  return at::cat(parts);
}

// Views of a bucket's flat tensor, one a parameter.
std::vector<at::Tensor> GradientBuckets::pieces(const Bucket& bucket) const {
  std::vector<at::Tensor> views;
  int64_t at = 0;
  for (const size_t i : bucket.parameters) {
    views.push_back(bucket.flat.narrow(0, at, parameters_[i].numel()).view(parameters_[i].sizes()));
    at += parameters_[i].numel();
  }
  return views;
}

void GradientBuckets::send_rest() {
  last_ = false;
  while (next_ < buckets_.size()) send_next();
}

std::vector<at::Tensor> GradientBuckets::take_sums() {
  const at::NoGradGuard no_grad;
  send_rest();
  next_ = 0;
  std::vector<at::Tensor> sums(parameters_.size());
  for (Bucket& bucket : buckets_) {
    bucket.work->wait();
    const std::vector<at::Tensor> views = pieces(bucket);
    for (size_t k = 0; k < views.size() && bucket.owner == ranks_.rank(); ++k) sums[bucket.parameters[k]] = views[k];
    bucket.missing = bucket.parameters.size();
    bucket.flat.reset();
    bucket.work.reset();
  }
  if (!order_is_known_) learn_order();
  std::erase_if(sums, [](const at::Tensor& sum) { return !sum.defined(); });
  return sums;
}

// One bucket travels while the next is packed: of all weights there is no second copy.
void GradientBuckets::share_parameters() {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i <= buckets_.size(); ++i) {
    if (i < buckets_.size()) {
      buckets_[i].flat = packed(buckets_[i], false);
      buckets_[i].work = ranks_.broadcast(buckets_[i].flat, buckets_[i].owner);
    }
    if (i > 0) take_parameters(buckets_[i - 1]);
  }
}

void GradientBuckets::take_parameters(Bucket& bucket) {
  bucket.work->wait();
  const std::vector<at::Tensor> views = pieces(bucket);
  for (size_t k = 0; k < views.size() && bucket.owner != ranks_.rank(); ++k)
    parameters_[bucket.parameters[k]].copy_(views[k]);
  bucket.flat.reset();
  bucket.work.reset();
}

}  // namespace cepe
