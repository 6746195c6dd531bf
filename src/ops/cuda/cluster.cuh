// A cluster of CTAs that read each other's shared memory. In code for GPUs before 9.0 it is one CTA.
#pragma once

#include <cooperative_groups.h>
#include <cuda_runtime.h>

namespace cepe::cuda {

class Cluster {
 public:
#if __CUDA_ARCH__ >= 900
  __device__ __forceinline__ int blocks() const { return static_cast<int>(group().num_blocks()); }
  __device__ __forceinline__ int rank() const { return static_cast<int>(group().block_rank()); }
  // The address of what lies at p in this CTA's shared memory, in that of CTA `block`.
  template <class T>
  __device__ __forceinline__ T* in_block(T* p, int block) const {
    return group().map_shared_rank(p, block);
  }
  __device__ __forceinline__ void synchronise() const { group().sync(); }

 private:
  __device__ __forceinline__ static cooperative_groups::cluster_group group() {
    return cooperative_groups::this_cluster();
  }
#else
  __device__ __forceinline__ int blocks() const { return 1; }
  __device__ __forceinline__ int rank() const { return 0; }
  template <class T>
  __device__ __forceinline__ T* in_block(T* p, int) const {
    return p;
  }
  __device__ __forceinline__ void synchronise() const { __syncthreads(); }
#endif
};

}  // namespace cepe::cuda
