// Outputs of images, and the images' gradient of the outputs': each target pixel gathers what the
// kernel's taps take from source pixels.
#ifndef JAXCNN_CONVOLUTION_H_
#define JAXCNN_CONVOLUTION_H_

#include "dense.h"
#include "depthwise.h"
#include "grouped.h"
#include "product.h"

namespace jaxcnn {

// The kernel's array is (kh, kw, channels a group, features), the bias one number a target channel
// or null.
template <typename T>
void convolve(ThreadPool& pool, const Array<const T>& source, const Array<const T>& kernel,
              const T* bias, const Array<T>& target, const Axis axes[2], int64_t groups,
              bool backward) {
  const bool product = is_product(source, kernel, target, axes, groups);
  if (product && !backward)
    multiply(pool, pixels_of(source), numbers_of(kernel), bias, pixels_of(target));
  else if (product)
    // Transposed, for the pixels to be what is copied.
    multiply<T>(pool, numbers_of(kernel), pixels_of(source).transposed(), nullptr,
                pixels_of(target).transposed());
  else if (groups == 1)
    convolve_dense(pool, source, kernel, bias, target, axes, backward);
  else if (kernel.w == 1 && kernel.c == groups)
    convolve_depthwise(pool, source, kernel, bias, target, axes, backward);
  else
    convolve_grouped(pool, source, kernel, bias, target, axes, groups, backward);
}

}  // namespace jaxcnn

#endif
