// What tch 0.24 leaves out of libtorch: fused AdamW, the CUDA allocator's statistics, and the
// order in which attention's kernels are tried. Each function returns null, or an error's text
// that `pgclip_free` takes back. No CUDA header is needed: the allocator is found by its device.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <vector>

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw.h>
#include <c10/core/CachingDeviceAllocator.h>

namespace {

std::vector<at::Tensor> list(void *const *tensors, size_t count) {
  std::vector<at::Tensor> all;
  all.reserve(count);
  for (size_t i = 0; i < count; i++) all.push_back(*static_cast<at::Tensor *>(tensors[i]));
  return all;
}

template <typename F> char *guarded(F f) {
  try {
    f();
    return nullptr;
  } catch (const std::exception &error) {
    return strdup(error.what());
  }
}

} // namespace

extern "C" {

void pgclip_free(char *text) { free(text); }

// `step` is the number of this update, from 1, a float tensor on the parameters' device.
char *pgclip_fused_adamw(void *const *parameters, void *const *gradients, void *const *means,
                         void *const *squares, void *step, size_t count, double rate, double beta1,
                         double beta2, double weight_decay, double eps) {
  return guarded([&] {
    at::NoGradGuard no_grad;
    auto p = list(parameters, count), g = list(gradients, count);
    auto m = list(means, count), s = list(squares, count);
    std::vector<at::Tensor> steps(count, *static_cast<at::Tensor *>(step));
    at::_fused_adamw_(p, g, m, s, {}, steps, rate, beta1, beta2, weight_decay, eps, false, false);
  });
}

// Bytes that tensors take on a CUDA device, now and at most so far.
char *pgclip_cuda_memory(int device, int64_t *current, int64_t *peak) {
  return guarded([&] {
    auto stats = c10::getDeviceAllocator(c10::DeviceType::CUDA)->getDeviceStats(device);
    *current = stats.allocated_bytes[0].current;
    *peak = stats.allocated_bytes[0].peak;
  });
}

char *pgclip_reset_cuda_peak(int device) {
  return guarded([&] {
    c10::getDeviceAllocator(c10::DeviceType::CUDA)->resetPeakStats(device);
  });
}

// Numbers of at::SDPBackend, first choice first.
char *pgclip_attention_order(const int64_t *order, size_t count) {
  return guarded([&] {
    at::globalContext().setSDPPriorityOrder(std::vector<int64_t>(order, order + count));
  });
}

} // extern "C"
