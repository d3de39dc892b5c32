// What a batch norm computes of every channel, for its images and for their gradient.
#ifndef JAXCNN_NORM_H_
#define JAXCNN_NORM_H_

#include <cmath>

#include "parallel.h"
#include "sums.h"

namespace jaxcnn {

// Of each channel: the mean, the mean of the squared distances from it, 1 / sqrt(that + eps), and
// this times the scale.
template <typename T>
struct Normal {
  T *mean, *variance, *inverse, *factor;
};

template <typename T>
void find_normal(ThreadPool& pool, const Array<const T>& x, const T* scale, double eps,
                 const Normal<T>& to) {
  const int64_t pixels = x.n * x.h * x.w;
  const Summed<T> of{nullptr, x.data, to.mean, pixels, x.c};
  Sum<Term::kNumbers, T> numbers(pool, of, pixels, to.mean);
  Sum<Term::kSquares, T> squares(pool, of, pixels, to.variance);
  const auto follow = [&] {
    for (int64_t c = 0; scale && c < x.c; ++c) {
      to.inverse[c] = 1 / std::sqrt(to.variance[c] + eps);
      to.factor[c] = scale[c] * to.inverse[c];
    }
  };
  parallel(pool, {numbers.shares(), numbers.total(), squares.shares(), squares.total(follow)});
}

// The gradient of (x - mean) inverse scale + bias by the bias and by the scale; its gradient by x
// is factor a + slope (x - mean) + offset, if a is the gradient of what follows.
template <typename T>
struct NormGradient {
  T *bias, *scale, *slope, *offset;
};

template <typename T>
void find_gradient(ThreadPool& pool, const T* a, const Array<const T>& x, const T* mean,
                   const T* inverse, const T* factor, const NormGradient<T>& to) {
  const int64_t pixels = x.n * x.h * x.w;
  Sum<Term::kProducts, T> both(pool, {a, x.data, mean, pixels, x.c}, 1, to.bias, to.scale);
  const auto follow = [&] {
    for (int64_t c = 0; c < x.c; ++c) {
      const double inverse_c = inverse[c], factor_c = factor[c], product = to.scale[c];
      to.scale[c] = product * inverse_c;
      to.slope[c] = -factor_c * inverse_c * inverse_c * product / pixels;
      to.offset[c] = -factor_c * to.bias[c] / pixels;
    }
  };
  parallel(pool, {both.shares(), both.total(follow)});
}

// The running mean and variance, a share of the way to the batch's.
template <typename T>
void move(const T* running, const T* found, double weight, double ratio, int64_t channels, T* to) {
  for (int64_t c = 0; c < channels; ++c)
    to[c] = (1 - weight) * running[c] + weight * (ratio * found[c]);
}

}  // namespace jaxcnn

#endif
